//! Trusted time: the later of the build and the newest signed time seen, and what has passed since on the monotonic clock.
//!
//! It never asks the wall clock, so that neither a dead battery (1970) nor a wrong or malicious time server (2038, jumps) can
//! let an expired file in or keep a valid one out. While a device is off it stands still; the next timestamp sets it right.

use aidos_protocol::time::Micros;
use aidos_protocol::trust::trusted_now;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// When this program was built.
pub fn built() -> Micros {
    Micros(env!("AIDOS_BUILT").parse::<i64>().map_or(0, |seconds| seconds.saturating_mul(1_000_000)))
}

/// What metadata is judged by.
pub trait Clock: Send {
    /// Now.
    fn now(&self) -> Micros;
    /// A trusted file says that it was signed then.
    fn observe(&mut self, signed_at: Micros);
    /// The key that vouched for the observed time is no longer trusted: that time is forgotten.
    fn recover(&mut self);
}

/// Trusted time.
#[derive(Debug, Clone)]
pub struct TrustedClock {
    built: Micros,
    started: Instant,
    seen: Option<Micros>,
    since: Instant,
}

impl TrustedClock {
    /// From the build's time and what an earlier start had come to.
    pub fn new(built: Micros, seen: Option<Micros>) -> Self {
        let started = Instant::now();
        Self { built, started, seen, since: started }
    }
}

impl Clock for TrustedClock {
    fn now(&self) -> Micros {
        trusted_now(self.built, self.seen, self.since.elapsed())
    }

    fn observe(&mut self, signed_at: Micros) {
        if signed_at > self.now() {
            (self.seen, self.since) = (Some(signed_at), Instant::now());
        }
    }

    fn recover(&mut self) {
        (self.seen, self.since) = (None, self.started);
    }
}

/// Trusted time that several repositories of one device go by. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SharedClock(Arc<Mutex<TrustedClock>>);

impl SharedClock {
    /// Shares `clock`.
    pub fn new(clock: TrustedClock) -> Self {
        Self(Arc::new(Mutex::new(clock)))
    }

    fn clock(&self) -> MutexGuard<'_, TrustedClock> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SharedClock {
    fn now(&self) -> Micros {
        self.clock().now()
    }

    fn observe(&mut self, signed_at: Micros) {
        self.clock().observe(signed_at);
    }

    fn recover(&mut self) {
        self.clock().recover();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_from_the_later_of_build_and_seen_and_only_forwards() {
        let built = Micros(1_000_000_000);
        assert!(TrustedClock::new(built, None).now() >= built);
        let mut clock = TrustedClock::new(built, Some(Micros(5_000_000_000)));
        let before = clock.now();
        clock.observe(Micros(3));
        assert!(clock.now() >= before);
        clock.observe(Micros(9_000_000_000));
        assert!(clock.now() >= Micros(9_000_000_000));
    }

    #[test]
    fn a_time_that_a_stolen_key_signed_is_forgotten_with_the_key() {
        let built = Micros(1_000_000_000);
        let mut clock = TrustedClock::new(built, None);
        clock.observe(Micros(i64::MAX / 2));
        clock.recover();
        assert!(clock.now() < Micros(2_000_000_000));
    }

    #[test]
    fn the_build_time_is_of_this_century() {
        assert!(built() > Micros(1_700_000_000_000_000));
    }
}
