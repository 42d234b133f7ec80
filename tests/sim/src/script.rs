//! How a device and a version behave. All of it follows from a seed, so that a run that went wrong can be run again.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a version of a model does on a device that has it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Quality {
    /// It loads, passes its self-test and answers.
    #[default]
    Good,
    /// The engine cannot build it.
    DoesNotLoad,
    /// It gives wrong outputs.
    FailsSelfTest,
    /// It passes its self-test, and this part of its answers are errors.
    Errs(f64),
    /// It passes its self-test, and takes so many times as long.
    Slow(f64),
    /// Loading it ends the process.
    EndsTheProcess,
}

impl Quality {
    /// Some way to be bad, by chance.
    pub fn bad(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        match random.random_range(0..5) {
            0 => Self::DoesNotLoad,
            1 => Self::FailsSelfTest,
            2 => Self::Errs(random.random_range(0.1..1.0)),
            3 => Self::Slow(random.random_range(2.0..10.0)),
            _ => Self::EndsTheProcess,
        }
    }

    /// Part of the answers that are errors.
    pub(crate) fn error_rate(self) -> f64 {
        if let Self::Errs(rate) = self { rate } else { 0.0 }
    }

    /// How many times as long an answer takes.
    pub(crate) fn slowness(self) -> f64 {
        if let Self::Slow(times) = self { times } else { 1.0 }
    }
}

/// The versions that are not [`Quality::Good`], the same on every device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Releases(BTreeMap<u64, Quality>);

impl Releases {
    /// Adds a version.
    #[must_use]
    pub fn with(mut self, version: u64, quality: Quality) -> Self {
        self.0.insert(version, quality);
        self
    }

    /// What `version` is like.
    pub fn quality(&self, version: u64) -> Quality {
        self.0.get(&version).copied().unwrap_or_default()
    }
}

/// A device that says what is not so, once it runs its first version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Its status says that the new version is ready; there is no health report.
    NoReport,
    /// There is one, and it was not signed by the device's key.
    ForgedReport,
    /// There is one, signed, of the file that runs: the old one.
    OtherDigest,
}

/// What a device is like, whatever the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Temper {
    /// As it should be.
    #[default]
    Steady,
    /// Each step takes so many times as long.
    Slow(u32),
    /// It has a link for the first time, and then none for the second; then it stays.
    Absent(Duration, Duration),
    /// It does nothing and says that it did.
    Lying(Lie),
    /// Whatever it loads after its first version ends its process.
    Crashing,
    /// It loses its power once, after so many steps.
    Killed(u32),
}

/// The parts of a fleet that are not steady, 0 to 1 each and in sum.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mix {
    /// Of [`Temper::Slow`].
    pub slow: f64,
    /// Of [`Temper::Absent`].
    pub absent: f64,
    /// Of [`Temper::Lying`].
    pub lying: f64,
    /// Of [`Temper::Crashing`].
    pub crashing: f64,
    /// Of [`Temper::Killed`].
    pub killed: f64,
}

impl Mix {
    /// Devices that are late, and arrive: every rollout of a good version ends with all of them on it.
    pub const HONEST: Self = Self { slow: 0.05, absent: 0.03, lying: 0.0, crashing: 0.0, killed: 0.02 };
}

/// One device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Script {
    /// What it is like.
    pub temper: Temper,
    /// For everything else that is by chance.
    pub seed: u64,
    /// Minutes by which its clock on the wall is ahead of UTC.
    pub zone_minutes: u32,
}

impl Script {
    /// The device `index` of the fleet that `seed` stands for.
    pub fn draw(seed: u64, index: usize, mix: &Mix) -> Self {
        // Any bijection would do; neighbouring seeds must not make neighbouring fleets.
        let seed = (seed ^ (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)).rotate_left(17);
        let mut random = StdRng::seed_from_u64(seed);
        let mut left: f64 = random.random();
        let mut is = |part: f64| {
            let within = (0.0..part).contains(&left);
            left -= part;
            within
        };
        let (slow, absent, lying, crashing, killed) =
            (is(mix.slow), is(mix.absent), is(mix.lying), is(mix.crashing), is(mix.killed));
        let mut milliseconds = |range| Duration::from_millis(random.random_range(range));
        let temper = match (slow, absent, lying, crashing, killed) {
            (true, ..) => Temper::Slow(random.random_range(2..6)),
            (_, true, ..) => Temper::Absent(milliseconds(500..5_000), milliseconds(1_000..8_000)),
            (_, _, true, ..) => Temper::Lying(match random.random_range(0..3) {
                0 => Lie::NoReport,
                1 => Lie::ForgedReport,
                _ => Lie::OtherDigest,
            }),
            (_, _, _, true, _) => Temper::Crashing,
            (.., true) => Temper::Killed(random.random_range(1..24)),
            _ => Temper::Steady,
        };
        Self { temper, seed, zone_minutes: random.random_range(0..24) * 60 }
    }

    /// How many times as long a step takes.
    pub(crate) fn slowness(&self) -> u32 {
        if let Temper::Slow(times) = self.temper { times } else { 1 }
    }
}

/// How long a steady device takes for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// To load, test, swap or unload a model.
    pub step: Duration,
    /// To fetch its files, where no network takes the time.
    pub fetch: Duration,
    /// The first pause after a failure; it doubles.
    pub pause: Duration,
    /// Between two looks at window and power.
    pub look: Duration,
    /// Between two looks at a version that is watched.
    pub watch: Duration,
    /// Until a start counts as outlived.
    pub settle: Duration,
    /// The least time between two health reports that say the same.
    pub report: Duration,
    /// From the end of a process to the next.
    pub restart: Duration,
    /// Between two samples of telemetry.
    pub sample: Duration,
    /// Requests that its models get each second.
    pub requests_per_s: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            step: Duration::from_millis(20),
            fetch: Duration::from_millis(500),
            pause: Duration::from_secs(1),
            look: Duration::from_secs(20),
            watch: Duration::from_secs(1),
            settle: Duration::from_secs(60),
            report: Duration::from_secs(aidos_protocol::twin::health::REPORT_EVERY_S as u64),
            restart: Duration::from_millis(500),
            sample: Duration::from_secs(60),
            requests_per_s: 50,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_makes_the_same_fleet_and_another_seed_another() {
        let mix = Mix { lying: 0.2, crashing: 0.2, ..Mix::HONEST };
        let fleet = |seed| (0..200).map(|index| Script::draw(seed, index, &mix)).collect::<Vec<_>>();
        assert_eq!(fleet(1), fleet(1));
        assert_ne!(fleet(1), fleet(2));
    }

    #[test]
    fn the_parts_of_a_mix_are_met() {
        let mix = Mix { slow: 0.1, absent: 0.1, lying: 0.1, crashing: 0.1, killed: 0.1 };
        let count = |is: fn(&Temper) -> bool| (0..5_000).filter(|index| is(&Script::draw(3, *index, &mix).temper)).count();
        for part in [
            count(|temper| matches!(temper, Temper::Slow(_))),
            count(|temper| matches!(temper, Temper::Absent(..))),
            count(|temper| matches!(temper, Temper::Lying(_))),
            count(|temper| matches!(temper, Temper::Crashing)),
            count(|temper| matches!(temper, Temper::Killed(_))),
        ] {
            assert!((400..600).contains(&part), "{part} of 5,000");
        }
        assert!(count(|temper| *temper == Temper::Steady) > 2_300);
    }
}
