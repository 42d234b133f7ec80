//! Thinning a range of telemetry to as many points as a chart shows, in memory that depends on the points alone and never
//! on how many samples there are. Pure.

use aidos_protocol::api::telemetry::TelemetryPoint;
use aidos_protocol::time::Micros;

/// Collects the readings of several series into buckets of equal length.
#[derive(Debug)]
pub(super) struct Thinner {
    from: i64,
    bucket: i64,
    /// One list of buckets per series.
    series: Vec<Vec<Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    min: f64,
    max: f64,
    mean: f64,
    count: u64,
}

impl Bucket {
    const EMPTY: Self = Self { min: f64::INFINITY, max: f64::NEG_INFINITY, mean: 0.0, count: 0 };

    fn add(&mut self, value: f64) {
        self.count += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        // Two quotients rather than one of the difference, which overflows between readings of opposite extremes. No
        // precision is lost up to 2^53 readings.
        let count = self.count as f64;
        self.mean += value / count - self.mean / count;
    }
}

impl Thinner {
    /// Buckets that cover `from..to`, at most `points` of them for each of `series`. An empty range has none.
    pub(super) fn new(from: Micros, to: Micros, points: u32, series: usize) -> Self {
        let length = to.0.saturating_sub(from.0).max(0);
        let points = i64::from(points.max(1));
        let bucket = (length.saturating_add(points - 1) / points).max(1);
        let count = usize::try_from(length.saturating_add(bucket - 1) / bucket).unwrap_or(0);
        Self { from: from.0, bucket, series: vec![vec![Bucket::EMPTY; count]; series] }
    }

    /// How long one point stands for, in microseconds.
    pub(super) fn bucket_us(&self) -> i64 {
        self.bucket
    }

    /// Adds a reading. What lies outside of the range, and what is no number, is left out.
    pub(super) fn add(&mut self, series: usize, at: Micros, value: f64) {
        let index = at.0.checked_sub(self.from).filter(|offset| *offset >= 0).map(|offset| offset / self.bucket);
        let index = index.and_then(|index| usize::try_from(index).ok());
        if let (Some(index), true) = (index, value.is_finite())
            && let Some(bucket) = self.series.get_mut(series).and_then(|buckets| buckets.get_mut(index))
        {
            bucket.add(value);
        }
    }

    /// The points of each series, in the order of time.
    pub(super) fn finish(self) -> Vec<Vec<TelemetryPoint>> {
        let (from, length) = (self.from, self.bucket);
        let point = |(index, bucket): (usize, Bucket)| TelemetryPoint {
            at: Micros(from + length * i64::try_from(index).expect("an index made from an i64")),
            min: bucket.min,
            max: bucket.max,
            avg: bucket.mean.clamp(bucket.min, bucket.max),
            count: bucket.count,
        };
        self.series
            .into_iter()
            .map(|buckets| buckets.into_iter().enumerate().filter(|(_, b)| b.count > 0).map(point).collect())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bucket_says_least_greatest_mean_and_count() {
        let mut thinner = Thinner::new(Micros(0), Micros(100), 10, 2);
        for (at, value) in [(0, 1.0), (9, 5.0), (10, 7.0), (99, 2.0), (100, 9.0), (-1, 9.0)] {
            thinner.add(0, Micros(at), value);
        }
        thinner.add(1, Micros(50), f64::NAN);
        thinner.add(2, Micros(50), 1.0);
        let series = thinner.finish();
        let point = |at, min, max, avg, count| TelemetryPoint { at: Micros(at), min, max, avg, count };
        assert_eq!(series[0], [point(0, 1.0, 5.0, 3.0, 2), point(10, 7.0, 7.0, 7.0, 1), point(90, 2.0, 2.0, 2.0, 1)]);
        assert!(series[1].is_empty());
    }

    #[test]
    fn an_empty_or_inverted_range_has_no_points() {
        for (from, to) in [(5, 5), (9, 1)] {
            let mut thinner = Thinner::new(Micros(from), Micros(to), 10, 1);
            thinner.add(0, Micros(5), 1.0);
            assert!(thinner.finish()[0].is_empty());
        }
    }

    proptest! {
        #[test]
        fn no_range_makes_more_points_than_asked_for_and_no_reading_within_is_lost(
            from in -1_000_000_i64..1_000_000, length in 1_i64..10_000_000, points in 1_u32..50,
            readings in proptest::collection::vec((0.0_f64..1.0, -1e308_f64..1e308), 0..100),
        ) {
            let to = from + length;
            let mut thinner = Thinner::new(Micros(from), Micros(to), points, 1);
            for (place, value) in &readings {
                thinner.add(0, Micros(from + (place * length as f64) as i64), *value);
            }
            let series = thinner.finish();
            prop_assert!(series[0].len() <= points as usize);
            prop_assert_eq!(series[0].iter().map(|p| p.count).sum::<u64>(), readings.len() as u64);
            for point in &series[0] {
                prop_assert!(point.min <= point.avg && point.avg <= point.max && point.avg.is_finite());
                prop_assert!((from..to).contains(&point.at.0));
            }
        }

        #[test]
        fn extreme_ranges_never_panic(from in any::<i64>(), to in any::<i64>(), at in any::<i64>(), points in 0_u32..2_000) {
            let mut thinner = Thinner::new(Micros(from), Micros(to), points, 1);
            thinner.add(0, Micros(at), 1.0);
            prop_assert!(thinner.finish()[0].len() <= 1);
        }
    }
}
