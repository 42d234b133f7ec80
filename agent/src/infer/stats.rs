//! What one version has done: counts, where the time went, and the spread of the latency, in 2 KiB whatever the load.

use super::Run;
use super::drift::Outputs;
use aidos_protocol::oip::views::{self, InferenceStatistics, LatencyQuantiles};
use aidos_protocol::twin::Measures;
use std::collections::BTreeMap;
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
    /// Requests that failed by the model's fault.
    faults: u64,
    /// What was counted when its measures began.
    mark: Mark,
    /// What was answered since then.
    outputs: Outputs,
    /// The application's own measurements, the last of each.
    custom: BTreeMap<String, f64>,
}

#[derive(Debug, Default)]
struct Mark {
    answered: u64,
    faults: u64,
    buckets: Option<Box<[u32]>>,
}

impl Default for Stats {
    fn default() -> Self {
        let buckets = vec![0; BUCKETS].into();
        Self {
            phases: InferenceStatistics::default(),
            last_ms: 0,
            buckets,
            max_us: 0,
            mean: Duration::ZERO,
            faults: 0,
            mark: Mark::default(),
            outputs: Outputs::default(),
            custom: BTreeMap::new(),
        }
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
        self.outputs.add(&run.outputs);
        self.touch();
    }

    /// Adds a request that was not answered, and whether by the model's fault.
    pub(super) fn failure(&mut self, total: Duration, fault: bool) {
        add(&mut self.phases.fail, total);
        self.faults += u64::from(fault);
        self.touch();
    }

    /// Begins its measures anew: from here on it answers.
    pub(super) fn mark(&mut self) {
        let buckets = Some(self.buckets.clone());
        self.mark = Mark { answered: self.phases.success.count, faults: self.faults, buckets };
        self.outputs = Outputs::default();
    }

    /// What it did since [`Stats::mark`], or since it was loaded. Wrong requests are none of it.
    pub(super) fn measures(&self) -> Measures {
        let (errors, answered) = (self.faults - self.mark.faults, self.phases.success.count - self.mark.answered);
        let before = |index: usize| self.mark.buckets.as_ref().map_or(0, |buckets| buckets[index]);
        let since: Vec<u32> = self.buckets.iter().enumerate().map(|(index, count)| count - before(index)).collect();
        let quantile = |percent| (answered > 0).then(|| quantile(&since, percent, self.max_us));
        Measures {
            requests: answered + errors,
            errors,
            p50_us: quantile(50),
            p95_us: quantile(95),
            p99_us: quantile(99),
            custom: self.custom.clone(),
            ..Measures::default()
        }
    }

    /// What it has answered since [`Stats::mark`].
    pub(super) fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Keeps the application's own measurements, unless there would be more than `most`.
    pub(super) fn custom(&mut self, values: BTreeMap<String, f64>, most: usize) -> bool {
        let new = values.keys().filter(|name| !self.custom.contains_key(*name)).count();
        let fits = self.custom.len() + new <= most;
        if fits {
            self.custom.extend(values);
        }
        fits
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
        quantile(&self.buckets, percent, self.max_us)
    }

    fn touch(&mut self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    }
}

fn quantile(buckets: &[u32], percent: u64, max_us: u64) -> u64 {
    let all: u64 = buckets.iter().map(|count| u64::from(*count)).sum();
    let rank = (all * percent).div_ceil(100);
    let mut seen = 0;
    for (index, count) in buckets.iter().enumerate() {
        seen += u64::from(*count);
        if rank > 0 && seen >= rank {
            return upper(index).min(max_us);
        }
    }
    0
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
    fn measures_begin_at_the_mark_and_leave_out_wrong_requests() {
        let mut stats = Stats::default();
        let answer = |stats: &mut Stats, us: u64| {
            let zero = Duration::ZERO;
            let run = Run { outputs: Vec::new(), input: zero, compute: zero, output: zero };
            stats.success(zero, &run, Duration::from_micros(us));
        };
        (0..100).for_each(|_| answer(&mut stats, 90_000));
        stats.failure(Duration::ZERO, true);
        stats.mark();
        assert_eq!(stats.measures(), Measures::default());
        (0..10).for_each(|_| answer(&mut stats, 100));
        stats.failure(Duration::ZERO, true);
        stats.failure(Duration::ZERO, false);
        let measures = stats.measures();
        assert_eq!((measures.requests, measures.errors), (11, 1));
        assert!(measures.p95_us.unwrap() < 110, "what was before the mark does not count: {measures:?}");
    }

    #[test]
    fn custom_measurements_are_bounded_by_name_and_the_last_one_counts() {
        let mut stats = Stats::default();
        let value = |name: &str, value| BTreeMap::from([(name.to_owned(), value)]);
        assert!(stats.custom(value("a", 1.0), 2) && stats.custom(value("b", 1.0), 2));
        assert!(!stats.custom(value("c", 1.0), 2));
        assert!(stats.custom(value("a", 2.0), 2));
        assert_eq!(stats.measures().custom, BTreeMap::from([("a".to_owned(), 2.0), ("b".to_owned(), 1.0)]));
    }

    #[test]
    fn nothing_done_is_all_zeros() {
        assert_eq!(Stats::default().view("m", 1).latency, LatencyQuantiles::default());
    }
}
