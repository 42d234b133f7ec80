//! What time it is to certificates.
//!
//! *Signed* time runs from the moment at which the device's own certificate was issued, on the monotonic clock. Others'
//! certificates are judged by it, and one that begins later proves by its signature that it is later. The wall clock has no say in
//! that: neither a dead battery (1970) nor a jump ahead (2038) may shut a device out, nor let an expired certificate in.
//!
//! *Present* time decides when the own certificate is renewed. It is the wall clock, put right by what the control plane told last, and
//! never before signed time; so it goes on over a sleep of the machine, which the monotonic clock does not count.

use aidos_protocol::time::Micros;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Both times of one device; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Time(Arc<Mutex<Known>>);

#[derive(Debug)]
struct Known {
    /// The latest signed time, and when it was learnt.
    signed: Micros,
    since: Instant,
    /// What is added to the wall clock, once the control plane has told the time.
    correction_us: Option<i64>,
}

impl Time {
    /// A certificate that was issued at `signed` is all that is known.
    pub(super) fn new(signed: Micros) -> Self {
        Self(Arc::new(Mutex::new(Known { signed, since: Instant::now(), correction_us: None })))
    }

    /// What others' certificates are judged by.
    pub(super) fn signed(&self) -> Micros {
        self.known().signed_now()
    }

    /// The present, with the wall clock at `wall`.
    pub(super) fn present(&self, wall: Micros) -> Micros {
        let known = self.known();
        Micros(wall.0.saturating_add(known.correction_us.unwrap_or(0))).max(known.signed_now())
    }

    /// Whether the wall clock is behind what was signed and nobody has put it right: then nobody knows how much has passed since.
    pub(super) fn is_lost(&self, wall: Micros) -> bool {
        let known = self.known();
        known.correction_us.is_none() && wall < known.signed_now()
    }

    /// The control plane says that it is `present` while the wall clock stands at `wall`.
    pub(super) fn told(&self, present: Micros, wall: Micros) {
        self.known().correction_us = Some(present.0.saturating_sub(wall.0));
    }

    /// The device's certificate was issued at `signed`, which was just now.
    pub(super) fn issued(&self, signed: Micros, wall: Micros) {
        let mut known = self.known();
        if signed > known.signed_now() {
            (known.signed, known.since) = (signed, Instant::now());
        }
        let present = known.signed_now();
        known.correction_us = Some(present.0.saturating_sub(wall.0));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn signed_now(&self) -> Micros {
        Micros(self.signed.0.saturating_add(i64::try_from(self.since.elapsed().as_micros()).unwrap_or(i64::MAX)))
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(self.signed()))
    }
}

/// As rustls counts.
pub(super) fn unix(time: Micros) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(time.as_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;
    const ISSUED: Micros = Micros(20_000 * DAY);

    fn near(time: Micros, expected: Micros) -> bool {
        (0..60_000_000).contains(&time.0.saturating_sub(expected.0))
    }

    #[test]
    fn the_wall_clock_has_no_say_in_what_others_are_judged_by() {
        let time = Time::new(ISSUED);
        assert!(near(time.signed(), ISSUED));
        time.told(Micros(ISSUED.0 + 5 * DAY), Micros(0));
        assert!(near(time.signed(), ISSUED));
    }

    #[test]
    fn a_clock_in_the_past_counts_as_the_time_the_certificate_was_issued_and_is_known_to_be_wrong() {
        let time = Time::new(ISSUED);
        assert!(near(time.present(Micros(0)), ISSUED) && time.is_lost(Micros(0)));
        time.told(Micros(ISSUED.0 + DAY), Micros(0));
        assert!(near(time.present(Micros(0)), Micros(ISSUED.0 + DAY)) && !time.is_lost(Micros(0)));
        // A sleep of two days, which the monotonic clock does not see.
        assert!(near(time.present(Micros(2 * DAY)), Micros(ISSUED.0 + 3 * DAY)));
    }

    #[test]
    fn a_clock_that_jumped_ahead_costs_one_renewal() {
        let (time, wall) = (Time::new(ISSUED), Micros(ISSUED.0 + 5_000 * DAY));
        assert_eq!(time.present(wall), wall);
        assert!(!time.is_lost(wall));
        let renewed = Micros(ISSUED.0 + DAY);
        time.issued(renewed, wall);
        assert!(near(time.present(wall), renewed) && near(time.signed(), renewed));
        // Put right, it would read as the past; what was signed holds.
        assert!(near(time.present(renewed), renewed));
    }
}
