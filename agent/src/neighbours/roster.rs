//! The neighbours that this agent knows: where they are, who they proved to be, and who is shunned for a while. Pure.
//!
//! An address is a hint from a file or from the network; only a certificate makes a neighbour of it. Nothing here is believed
//! for longer than [`FRESH`].

use aidos_protocol::DeviceId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// The most addresses that are kept. A site of more agents than this is served by any of them.
pub const MOST: usize = 64;
/// How long a neighbour that answered counts as there, and one that did not as away: the span within which a site's agents
/// learn of the same deployment.
const FRESH: Duration = Duration::from_secs(60);
/// The first time that a neighbour which sent wrong bytes is not asked; it doubles with each time.
const SHUNNED: Duration = Duration::from_secs(600);
/// The longest: a disk that rots is replaced, and then the neighbour is as good as any.
const LONGEST: Duration = Duration::from_secs(86_400);

/// One address.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// Who answered there, and when.
    met: Option<(DeviceId, Duration)>,
    /// When nobody of ours answered there.
    missed: Option<Duration>,
    /// When discovery named it last; configured addresses are named at each look.
    named: Duration,
}

/// What is held against a device.
#[derive(Debug, Clone, Copy, Default)]
struct Strikes {
    count: u32,
    until: Duration,
}

/// The roster.
#[derive(Debug, Default)]
pub(super) struct Roster {
    entries: BTreeMap<SocketAddr, Entry>,
    strikes: BTreeMap<DeviceId, Strikes>,
}

impl Roster {
    /// An address was named. When the roster is full, the one that was named longest ago gives way.
    pub(super) fn name(&mut self, address: SocketAddr, now: Duration) {
        self.entries.entry(address).or_default().named = now;
        while self.entries.len() > MOST {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.named).map(|(address, _)| *address);
            self.entries.remove(&oldest.expect("a roster that is too full is not empty"));
        }
    }

    /// The addresses of which nothing is known any more: they are to be asked who they are.
    pub(super) fn stale(&self, now: Duration) -> Vec<SocketAddr> {
        let fresh = |at: Duration| now.saturating_sub(at) < FRESH;
        let known = |entry: &Entry| entry.met.is_some_and(|(_, at)| fresh(at)) || entry.missed.is_some_and(fresh);
        self.entries.iter().filter(|(_, entry)| !known(entry)).map(|(address, _)| *address).collect()
    }

    /// `device` answered at `address`.
    pub(super) fn met(&mut self, address: SocketAddr, device: DeviceId, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&address) {
            (entry.met, entry.missed) = (Some((device, now)), None);
        }
    }

    /// Nobody of this tenant and site answered at `address`.
    pub(super) fn missed(&mut self, address: SocketAddr, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&address) {
            (entry.met, entry.missed) = (None, Some(now));
        }
    }

    /// `device` sent wrong bytes, or may have.
    pub(super) fn shun(&mut self, device: DeviceId, now: Duration) {
        let strikes = self.strikes.entry(device).or_default();
        strikes.until = now + SHUNNED.saturating_mul(1 << strikes.count.min(16)).min(LONGEST);
        strikes.count += 1;
        while self.strikes.len() > MOST {
            let soonest = self.strikes.iter().min_by_key(|(_, strikes)| strikes.until).map(|(device, _)| *device);
            self.strikes.remove(&soonest.expect("a list that is too long is not empty"));
        }
    }

    /// Who can be asked now, and where: each device once.
    pub(super) fn present(&self, now: Duration) -> BTreeMap<DeviceId, SocketAddr> {
        let met = self.entries.iter().filter_map(|(address, entry)| Some((entry.met?, *address)));
        let fresh = met.filter(|((_, at), _)| now.saturating_sub(*at) < FRESH * 2);
        fresh.map(|((device, _), address)| (device, address)).filter(|(device, _)| !self.is_shunned(*device, now)).collect()
    }

    fn is_shunned(&self, device: DeviceId, now: Duration) -> bool {
        self.strikes.get(&device).is_some_and(|strikes| strikes.until > now)
    }

    /// How many addresses are known, how many of them answered lately, and how many devices are shunned.
    pub(super) fn counts(&self, now: Duration) -> (usize, usize, usize) {
        let met = self.entries.values().filter(|entry| entry.met.is_some()).count();
        (self.entries.len(), met, self.strikes.values().filter(|strikes| strikes.until > now).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 7081))
    }
    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_neighbour_that_lied_is_not_asked_for_longer_each_time() {
        let (mut roster, liar) = (Roster::default(), DeviceId::from_bytes([1; 16]));
        roster.name(address(1), s(0));
        assert_eq!(roster.stale(s(0)), [address(1)]);
        let met = |roster: &mut Roster, at| {
            roster.met(address(1), liar, at);
            roster.present(at).len()
        };
        assert_eq!(met(&mut roster, s(1)), 1);
        roster.shun(liar, s(1));
        assert_eq!((met(&mut roster, s(600)), met(&mut roster, s(602))), (0, 1));
        roster.shun(liar, s(602));
        assert_eq!((met(&mut roster, s(1_700)), met(&mut roster, s(1_900))), (0, 1));
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_memory_and_never_displaces_the_newest() {
        let mut roster = Roster::default();
        for n in 0..1_000 {
            roster.name(address(n), s(u64::from(n)));
        }
        assert_eq!(roster.stale(s(1_000)).len(), MOST);
        assert!(roster.stale(s(1_000)).contains(&address(999)));
    }

    #[test]
    fn one_that_did_not_answer_is_left_alone_for_a_while() {
        let mut roster = Roster::default();
        roster.name(address(1), s(0));
        roster.missed(address(1), s(5));
        assert!(roster.stale(s(30)).is_empty());
        assert_eq!(roster.stale(s(70)), [address(1)]);
    }
}
