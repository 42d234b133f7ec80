//! Bounds how often a stranger may fail at the open endpoints.
//!
//! Successes are free, so that a whole site can enrol from behind one address; failures drain a bucket per address. It
//! must never grow with the number of attackers: when it is full, those that have rested longest are forgotten.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row: a person's typing errors, and a batch of machines with one bad token.
const BURST: u32 = 30;
/// One more failure is forgiven each: 20 a minute make nothing of 256-bit secrets.
const FORGIVE_EVERY: Duration = Duration::from_secs(3);
/// Addresses remembered; 64 bytes each.
const ADDRESSES: usize = 10_000;

/// Failures by address.
#[derive(Clone, Default)]
pub(super) struct Attempts {
    failures: Arc<Mutex<HashMap<IpAddr, Failures>>>,
}

struct Failures {
    count: u32,
    since: Instant,
}

impl Failures {
    fn forgive(&mut self, now: Instant) {
        let forgiven = now.saturating_duration_since(self.since).as_secs() / FORGIVE_EVERY.as_secs();
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        self.count = self.count.saturating_sub(forgiven);
        self.since += FORGIVE_EVERY * forgiven.min(BURST * 2);
        if self.count == 0 {
            self.since = now;
        }
    }
}

impl Attempts {
    /// How long this address has to wait before it may try again; `None`: not at all.
    pub(super) fn wait(&self, address: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let mut all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = all.get_mut(&block(address?))?;
        failures.forgive(now);
        (failures.count >= BURST).then_some(FORGIVE_EVERY)
    }

    /// An attempt failed because of what the stranger sent.
    pub(super) fn failed(&self, address: Option<IpAddr>, now: Instant) {
        let Some(address) = address.map(block) else { return };
        let mut all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ADDRESSES && !all.contains_key(&address) {
            all.retain(|_, failures| {
                failures.forgive(now);
                failures.count > 0
            });
            if let Some(oldest) = all.iter().min_by_key(|(_, f)| (f.count, f.since)).map(|(a, _)| *a)
                && all.len() >= ADDRESSES
            {
                all.remove(&oldest);
            }
        }
        let failures = all.entry(address).or_insert(Failures { count: 0, since: now });
        failures.forgive(now);
        failures.count = failures.count.saturating_add(1);
    }
}

/// Whoever has one IPv6 address has its /64.
fn block(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::from(std::net::Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_run_out_and_are_forgiven_slowly_and_by_address() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let (one, other) = (Some([192, 0, 2, 1].into()), Some([192, 0, 2, 2].into()));
        for _ in 0..BURST {
            assert_eq!(attempts.wait(one, now), None);
            attempts.failed(one, now);
        }
        assert!(attempts.wait(one, now).is_some());
        assert_eq!(attempts.wait(other, now), None);
        assert_eq!(attempts.wait(one, now + FORGIVE_EVERY), None);
        attempts.failed(one, now + FORGIVE_EVERY);
        assert!(attempts.wait(one, now + FORGIVE_EVERY).is_some());
    }

    #[test]
    fn memory_is_bounded_and_an_ipv6_network_counts_as_one() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..ADDRESSES as u32 + 500 {
            attempts.failed(Some(IpAddr::from(n.to_be_bytes())), now);
        }
        assert!(attempts.failures.lock().unwrap().len() <= ADDRESSES);
        for n in 0..u16::try_from(BURST).unwrap() {
            attempts.failed(Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])), now);
        }
        assert!(attempts.wait(Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 9, 9, 9, 9])), now).is_some());
    }
}
