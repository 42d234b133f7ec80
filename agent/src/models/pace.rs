//! How long the reconciler waits for what. In one place, so that a test need not wait as long as a device.

use super::health::EVERY;
use std::time::Duration;

/// The pauses of the reconciler.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The first pause after a failure; it doubles with each one.
    pub first: Duration,
    /// The longest pause: what a person who mends something waits for at most.
    pub longest: Duration,
    /// Between two looks at window, power, heat and room: a window opens on the minute.
    pub look: Duration,
    /// Between two looks at a version that is watched.
    pub watch: Duration,
    /// How long a version must answer before its start counts as outlived: what loads lazily has loaded by then.
    pub settle: Duration,
    /// The least time between two health reports that say the same.
    pub report: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            look: Duration::from_secs(20),
            watch: Duration::from_secs(1),
            settle: Duration::from_secs(60),
            report: EVERY,
        }
    }
}

impl Pace {
    /// Half to all of a pause that doubles: `jitter` is 0 to 1, and keeps a fleet from asking all at once.
    pub(super) fn pause(&self, failures: u32, jitter: f64) -> Duration {
        let whole = self.first.saturating_mul(1 << failures.min(16)).min(self.longest);
        whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_never_vanish() {
        let pace = Pace::default();
        assert_eq!(pace.pause(0, 1.0), Duration::from_secs(1));
        assert_eq!(pace.pause(3, 0.0), Duration::from_secs(4));
        assert_eq!(pace.pause(40, 1.0), pace.longest);
    }
}
