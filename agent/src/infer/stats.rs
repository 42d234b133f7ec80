//! What one version has done: counts, where the time went, and the spread of the latency, in 2 KiB whatever the load.

use super::Run;
use aidos_protocol::oip::views::{self, InferenceStatistics, LatencyQuantiles};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Buckets per doubling: a quantile is at most 1/16 (7 % with rounding) too large.
const PER_OCTAVE: u64 = 16;
/// 2^28 µs is 4.5 minutes, beyond every time limit here.
const OCTAVES: u64 = 28;
const BUCKETS: usize = (PER_OCTAVE * (OCTAVES - 3)) as usize;

/// Counts since the version was loaded.
#[derive(Debug)]
pub(super) struct Stats {
    phases: InferenceStatistics,
    last_ms: u64,
    buckets: Box<[u32]>,
    max_us: u64,
    /// A moving mean of compute times, for the estimate of when a full queue has room.
    mean: Duration,
}

impl Default for Stats {
    fn default() -> Self {
        let buckets = vec![0; BUCKETS].into();
        Self { phases: InferenceStatistics::default(), last_ms: 0, buckets, max_us: 0, mean: Duration::ZERO }
    }
}

impl Stats {
    /// Adds an answered request.
    pub(super) fn success(&mut self, queue: Duration, run: &Run, total: Duration) {
        add(&mut self.phases.success, total);
        add(&mut self.phases.queue, queue);
        add(&mut self.phases.compute_input, run.input);
        add(&mut self.phases.compute_infer, run.compute);
        add(&mut self.phases.compute_output, run.output);
        self.mean = if self.mean.is_zero() { run.compute } else { (self.mean * 7 + run.compute) / 8 };
        let us = u64::try_from(total.as_micros()).unwrap_or(u64::MAX);
        self.max_us = self.max_us.max(us);
        let count = &mut self.buckets[bucket(us)];
        *count = count.saturating_add(1);
        self.touch();
    }

    /// Adds a request that was not answered.
    pub(super) fn failure(&mut self, total: Duration) {
        add(&mut self.phases.fail, total);
        self.touch();
    }

    /// The moving mean of compute times.
    pub(super) fn mean_compute(&self) -> Duration {
        self.mean
    }

    /// The protocol's view.
    pub(super) fn view(&self, name: &str, version: u64) -> views::ModelStatistics {
        views::ModelStatistics {
            name: name.to_owned(),
            version: version.to_string(),
            last_inference: self.last_ms,
            inference_count: self.phases.success.count,
            execution_count: self.phases.success.count,
            inference_stats: self.phases,
            batch_stats: Vec::new(),
            latency: LatencyQuantiles {
                p50_us: self.quantile(50),
                p90_us: self.quantile(90),
                p99_us: self.quantile(99),
                max_us: self.max_us,
            },
        }
    }

    fn quantile(&self, percent: u64) -> u64 {
        let all: u64 = self.buckets.iter().map(|count| u64::from(*count)).sum();
        let rank = (all * percent).div_ceil(100);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += u64::from(*count);
            if rank > 0 && seen >= rank {
                return upper(index).min(self.max_us);
            }
        }
        0
    }

    fn touch(&mut self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    }
}

fn add(phase: &mut views::Duration, time: Duration) {
    phase.count += 1;
    phase.ns = phase.ns.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

/// Below 16 µs each value has its own bucket, then 16 per doubling.
fn bucket(us: u64) -> usize {
    let octave = u64::from((us | 1).ilog2());
    let index = if octave < 4 { us } else { (octave - 3) * PER_OCTAVE + ((us >> (octave - 4)) & (PER_OCTAVE - 1)) };
    (index as usize).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let (octave, step) = (index as u64 / PER_OCTAVE, index as u64 % PER_OCTAVE);
    if octave == 0 { step } else { ((PER_OCTAVE + step + 1) << (octave - 1)) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_holds_its_upper_end_and_the_next_value_is_in_the_next() {
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket(upper(index)), index);
            assert_eq!(bucket(upper(index) + 1), index + 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_within_seven_percent() {
        let mut stats = Stats::default();
        let zero = Duration::ZERO;
        for us in 1..=10_000 {
            let run = Run { outputs: Vec::new(), input: zero, compute: Duration::from_micros(us), output: zero };
            stats.success(zero, &run, Duration::from_micros(us));
        }
        let view = stats.view("m", 1);
        for (found, exact) in [(view.latency.p50_us, 5_000.0), (view.latency.p90_us, 9_000.0), (view.latency.p99_us, 9_900.0)] {
            assert!((found as f64 / exact - 1.0).abs() < 0.07, "{found} against {exact}");
        }
        assert_eq!((view.inference_count, view.latency.max_us), (10_000, 10_000));
    }

    #[test]
    fn nothing_done_is_all_zeros() {
        assert_eq!(Stats::default().view("m", 1).latency, LatencyQuantiles::default());
    }
}
