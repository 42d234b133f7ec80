//! A bound on bytes per second: a token bucket, and the wait that keeps to it. One bounds what goes to neighbours, another what
//! artifacts take of the site's line.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The bucket holds what one second brings, so that a pause is never followed by more than a second's worth at once.
const BURST: Duration = Duration::from_secs(1);

/// Pure: tokens come with time and go with bytes. More may be taken than is there; the debt is what has to be waited for, so
/// that one large write is never starved by many small ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    rate: u64,
    tokens: f64,
    at: Duration,
}

impl Bucket {
    /// A full bucket at time 0 that fills with `rate` bytes a second, which must not be 0.
    pub(crate) fn new(rate: u64) -> Self {
        Self { rate, tokens: rate as f64 * BURST.as_secs_f64(), at: Duration::ZERO }
    }

    /// Takes `bytes` at time `now` and says how long to wait before sending them. A time before the last one counts as that one.
    pub(crate) fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        let full = self.rate as f64 * BURST.as_secs_f64();
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate as f64).min(full) - bytes as f64;
        self.at = self.at.max(now);
        if self.tokens >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.tokens / self.rate as f64) }
    }
}

/// The bucket in real time, shared by all connections; or no bound.
#[derive(Debug)]
pub struct Throttle {
    bucket: Mutex<Option<Bucket>>,
    began: Instant,
}

impl Throttle {
    /// A bound of `rate` bytes a second; 0: none.
    pub fn new(rate: u64) -> Self {
        let throttle = Self { bucket: Mutex::new(None), began: Instant::now() };
        throttle.limit(rate);
        throttle
    }

    /// Another bound from now on; the same one again changes nothing.
    pub fn limit(&self, rate: u64) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        if bucket.map_or(0, |bucket| bucket.rate) != rate {
            *bucket = (rate > 0).then(|| Bucket { at: self.began.elapsed(), ..Bucket::new(rate) });
        }
    }

    /// Returns when `bytes` may pass.
    pub async fn pass(&self, bytes: u64) {
        let now = self.began.elapsed();
        let wait = match &mut *self.bucket.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bucket) => bucket.take(bytes, now),
            None => return,
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn over_any_span_no_more_is_sent_than_the_rate_and_one_burst(
            rate in 1_000u64..100_000_000, writes in proptest::collection::vec((0u64..2_000_000, 0u64..500), 1..100)
        ) {
            let mut bucket = Bucket::new(rate);
            let (mut now, mut sent) = (Duration::ZERO, 0u64);
            for (bytes, pause_ms) in writes {
                now += Duration::from_millis(pause_ms);
                now += bucket.take(bytes, now);
                sent += bytes;
                let most = rate as f64 * (now.as_secs_f64() + 1.0);
                prop_assert!(sent as f64 <= most * 1.000_001 + 1.0, "{sent} bytes by {now:?}, at most {most}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_bound_can_be_set_and_taken_away_while_it_is_in_use() {
        let throttle = Throttle::new(0);
        let begun = Instant::now();
        throttle.pass(1 << 30).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        throttle.limit(1_000);
        throttle.limit(1_000);
        throttle.pass(3_000).await;
        assert_eq!(begun.elapsed().as_secs(), 2, "one second's worth at once, the rest at the rate");
        throttle.limit(0);
        throttle.pass(1 << 30).await;
        assert_eq!(begun.elapsed().as_secs(), 2);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_for_free() {
        let mut bucket = Bucket::new(100);
        assert_eq!(bucket.take(100, Duration::from_secs(50)), Duration::ZERO);
        assert_eq!(bucket.take(100, Duration::from_secs(10)), Duration::from_secs(1));
        assert_eq!(bucket.take(0, Duration::from_secs(50)), Duration::from_secs(1));
    }
}
