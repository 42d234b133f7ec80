//! What a gate said over time: which judgements are kept, and which of those a chart is given. Pure; it must never know a database.
//!
//! The newest judgement is always kept as it is, and so is each change of the verdict or of the wave. Of others those are that held for
//! the pace; it grows with the length of the history, so that a rollout of weeks takes no more room than one of an hour.

use super::course::Reading;
use aidos_protocol::rollout::Verdict;
use aidos_protocol::time::Micros;

/// Judgements of one gate that are kept: twice what a chart has columns.
pub(super) const KEPT: usize = 2_000;
/// The least pace: a soak of minutes still has a line.
const PACE_US: i64 = 10_000_000;

/// What a gate said at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) at: Micros,
    /// From 0.
    pub(super) wave: usize,
    pub(super) candidate: Option<f64>,
    pub(super) baseline: Option<f64>,
    pub(super) devices: u64,
    pub(super) verdict: Verdict,
}

/// The newest of what is kept of a gate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Newest {
    pub(super) last: Point,
    /// The one before.
    pub(super) before: Option<Point>,
    /// When the oldest was made.
    pub(super) since: Micros,
}

/// What becomes of a judgement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Keep {
    /// It says what the last one said.
    Nothing,
    /// It stands behind the last one.
    Behind(Point),
    /// It takes the place of the last one, which came soon after the one before and held for a moment only.
    Instead(Point),
}

impl Point {
    pub(super) fn new(at: Micros, wave: usize, reading: &Reading) -> Self {
        let Reading { gate: _, candidate, baseline, devices, verdict } = *reading;
        Self { at, wave, candidate, baseline, devices, verdict }
    }

    fn says_the_same(&self, other: &Self) -> bool {
        *self == Self { at: self.at, ..*other }
    }

    /// Whether it differs from `other` by more than what was measured.
    fn turns(&self, other: &Self) -> bool {
        (self.verdict, self.wave) != (other.verdict, other.wave)
    }
}

/// What becomes of the judgement `next`.
pub(super) fn keep(newest: Option<&Newest>, next: Point) -> Keep {
    let Some(Newest { last, before, since }) = newest else { return Keep::Behind(next) };
    if next.says_the_same(last) {
        return Keep::Nothing;
    }
    // A clock that went back must not put it before the last one.
    let next = Point { at: next.at.max(Micros(last.at.0.saturating_add(1))), ..next };
    let pace = PACE_US.max(last.at.0.saturating_sub(since.0) / (KEPT as i64 / 2));
    let soon = |earlier: &Point, later: &Point| !later.turns(earlier) && later.at.0.saturating_sub(earlier.at.0) < pace;
    let passing = soon(last, &next) && before.as_ref().is_some_and(|before| soon(before, last));
    if passing { Keep::Instead(next) } else { Keep::Behind(next) }
}

/// At most `most` of `points`, in their order. The last one stays, and of those that stand for others, one that fails.
pub(super) fn thinned(mut points: Vec<Point>, most: usize) -> Vec<Point> {
    if points.len() <= most {
        return points;
    }
    let last = points.pop();
    let rest = most.saturating_sub(1);
    let mut kept: Vec<Point> = match points.len().checked_div(rest) {
        None => Vec::new(),
        Some(_) => {
            let shown =
                |some: &[Point]| *some.iter().rfind(|point| point.verdict == Verdict::Fails).unwrap_or(&some[some.len() - 1]);
            points.chunks(points.len().div_ceil(rest)).map(shown).collect()
        }
    };
    kept.extend(last);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point(second: i64, candidate: f64, verdict: Verdict) -> Point {
        Point { at: Micros(second * 1_000_000), wave: 0, candidate: Some(candidate), baseline: None, devices: 1, verdict }
    }

    /// A history in memory, as the store keeps it.
    #[derive(Default)]
    struct History(Vec<Point>);

    impl History {
        fn add(&mut self, next: Point) {
            let rows = &mut self.0;
            let newest = rows.last().map(|last| Newest {
                last: *last,
                before: rows.len().checked_sub(2).map(|place| rows[place]),
                since: rows[0].at,
            });
            match keep(newest.as_ref(), next) {
                Keep::Nothing => {}
                Keep::Behind(next) => rows.push(next),
                Keep::Instead(next) => *rows.last_mut().unwrap() = next,
            }
            if rows.len() > KEPT {
                let mut place = rows.len();
                rows.retain(|_| {
                    place -= 1;
                    place.is_multiple_of(2)
                });
            }
        }
        fn of(points: impl IntoIterator<Item = Point>) -> Vec<Point> {
            let mut history = Self::default();
            points.into_iter().for_each(|point| history.add(point));
            history.0
        }
        fn seconds(points: impl IntoIterator<Item = Point>) -> Vec<i64> {
            Self::of(points).iter().map(|point| point.at.0 / 1_000_000).collect()
        }
    }

    #[test]
    fn what_says_nothing_new_is_not_kept_and_the_newest_always_is() {
        let holds = |second, value| point(second, value, Verdict::Holds);
        assert_eq!(History::seconds([holds(0, 1.0), holds(5, 1.0), holds(60, 1.0)]), [0]);
        assert_eq!(History::seconds((0..=25).map(|second| holds(second, second as f64))), [0, 10, 20, 25]);
        assert_eq!(History::seconds([0, 3, 6, 30].map(|second| holds(second, second as f64))), [0, 6, 30], "6 held");
    }

    #[test]
    fn a_change_of_verdict_or_wave_is_kept_when_it_happened() {
        let said = [Verdict::Unknown, Verdict::Holds, Verdict::Holds, Verdict::Fails, Verdict::Fails];
        let points = said.into_iter().enumerate().map(|(second, verdict)| point(second as i64, second as f64, verdict));
        assert_eq!(History::seconds(points), [0, 1, 2, 3, 4]);
        let waves = (0..4).map(|second| Point { wave: usize::try_from(second).unwrap(), ..point(second, 1.0, Verdict::Holds) });
        assert_eq!(History::seconds(waves), [0, 1, 2, 3], "the next wave says the same of other devices");
    }

    #[test]
    fn a_clock_that_went_back_changes_no_order() {
        let rows = History::of([point(50, 1.0, Verdict::Holds), point(20, 2.0, Verdict::Fails)]);
        assert_eq!(rows[1], Point { at: Micros(50_000_001), ..point(0, 2.0, Verdict::Fails) });
    }

    #[test]
    fn a_year_of_a_judgement_a_second_has_room_and_no_large_hole() {
        let (year, step) = (365 * 24 * 3_600, 97);
        let rows = History::of((0..year / step).map(|n| point(n * step, n as f64, Verdict::Holds)));
        assert!((KEPT / 4..=KEPT).contains(&rows.len()), "{}", rows.len());
        let widest = rows.windows(2).map(|two| two[1].at.0 - two[0].at.0).max().unwrap();
        assert!(widest < year * 1_000_000 / 200, "{widest}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_history_is_bounded_in_order_and_ends_with_what_was_said_last(
            said in proptest::collection::vec((-2_i64..40, 0_u8..4, 0_u8..3, 0_usize..2), 1..6_000),
        ) {
            let (mut history, mut now) = (History::default(), 0);
            for (step, value, verdict, wave) in said {
                now += step;
                let verdict = [Verdict::Holds, Verdict::Fails, Verdict::Unknown][usize::from(verdict)];
                let next = Point { wave, ..point(now, f64::from(value), verdict) };
                history.add(next);
                prop_assert!(history.0.last().unwrap().says_the_same(&next));
                prop_assert!(history.0.len() <= KEPT);
            }
            prop_assert!(history.0.windows(2).all(|two| two[0].at < two[1].at));
        }

        #[test]
        fn what_a_chart_is_given_ends_with_the_last_and_says_that_it_failed(
            fails in proptest::collection::vec(any::<bool>(), 0..300), most in 1_usize..60,
        ) {
            let verdict = |fails| if fails { Verdict::Fails } else { Verdict::Holds };
            let points: Vec<_> = fails.iter().enumerate().map(|(n, fails)| point(n as i64, 1.0, verdict(*fails))).collect();
            let given = thinned(points.clone(), most);
            prop_assert!(given.len() <= most);
            prop_assert_eq!(given.last(), points.last());
            prop_assert!(given.windows(2).all(|two| two[0].at < two[1].at));
            if most > 1 {
                let failed = |points: &[Point]| points.iter().any(|point| point.verdict == Verdict::Fails);
                prop_assert_eq!(failed(&given), failed(&points));
            }
        }
    }
}
