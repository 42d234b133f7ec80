//! When to try again: full jitter, so that a fleet that lost its control plane at one moment does not return at one moment.
//! Pure: time is a [`Duration`] since any fixed point, and the randomness is passed in.

use std::time::Duration;

/// Upper bound of the first pause.
const BASE: Duration = Duration::from_secs(1);
/// Upper bound of every pause: an operator who mended the network sees the device back within it.
const CAP: Duration = Duration::from_secs(300);

/// Counts failures in a row, and remembers what the server asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Backoff {
    failures: u32,
    not_before: Duration,
}

impl Backoff {
    /// The time of the next attempt after one more failure; `jitter` is uniform in 0..1.
    pub(super) fn failed(&mut self, now: Duration, jitter: f64) -> Duration {
        let bound = BASE.saturating_mul(1 << self.failures.min(16)).min(CAP);
        self.failures = self.failures.saturating_add(1);
        (now + bound.mul_f64(jitter.clamp(0.0, 1.0))).max(self.not_before)
    }

    /// The server asked for this pause. It is kept whatever happens here, and lengthened by up to a half of itself, since it
    /// says the same to everybody.
    pub(super) fn retry_after(&mut self, now: Duration, pause: Duration, jitter: f64) {
        let pause = pause.saturating_add(pause.mul_f64(jitter.clamp(0.0, 1.0) / 2.0));
        self.not_before = self.not_before.max(now.saturating_add(pause));
    }

    /// The earliest time that the server allows.
    pub(super) fn not_before(&self) -> Duration {
        self.not_before
    }

    /// All was well for a good while.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pause_never_exceeds_its_bound_and_the_bound_doubles_up_to_the_cap(failures in 0usize..40, jitter in 0.0..1.0) {
            let (mut backoff, now) = (Backoff::default(), Duration::from_secs(1000));
            for _ in 0..failures {
                backoff.failed(now, jitter);
            }
            let pause = backoff.failed(now, jitter) - now;
            let bound = BASE.as_secs_f64() * 2f64.powi(i32::try_from(failures).unwrap());
            prop_assert!(pause.as_secs_f64() <= bound.min(CAP.as_secs_f64()) * jitter + 1e-6);
        }

        #[test]
        fn what_the_server_asked_for_is_kept_after_a_reset(pause in 0u64..7200, jitter in 0.0..1.0) {
            let (mut backoff, now) = (Backoff::default(), Duration::from_secs(5));
            backoff.retry_after(now, Duration::from_secs(pause), jitter);
            backoff.reset();
            prop_assert!(backoff.failed(now, 0.0) >= now + Duration::from_secs(pause));
        }
    }
}
