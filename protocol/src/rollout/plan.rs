//! The plan of a rollout: everything a person decides about it beforehand. It never changes once the rollout is made.

use super::{Breach, Comparison, Constraints, Experiment, Gate, Limit, MAX_GATES, MAX_WATCH_S, Metric, Share, Threshold};
use super::{UpdatePolicy, Waves, Window};
use crate::time::Micros;
use serde::{Deserialize, Serialize};

/// The longest soak or experiment of one wave, in seconds: thirty days.
pub const MAX_SOAK_S: u32 = 30 * 24 * 3_600;
/// The longest that a device may be silent, in seconds: ninety days.
pub const MAX_DEADLINE_S: u32 = 90 * 24 * 3_600;
/// How long a device may be silent where the plan does not say: an hour …
const DEADLINE_S: u32 = 3_600;
/// … and with a maintenance window, which may come once a week, eight days.
const DEADLINE_WITH_WINDOW_S: u32 = 8 * 24 * 3_600;
/// Requests of all devices of a wave before their errors and latencies are judged, where the plan does not say.
const MIN_REQUESTS: u32 = 20;

/// How a version goes out. Every field has a default; the empty plan is everyone at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// How many have it, step by step: `1%,10%,50%,100%`.
    #[schema(value_type = String)]
    pub waves: Waves,
    /// Seconds that a wave is looked at after its last device runs the version.
    pub soak_s: u32,
    /// What the devices' measurements must be: `error_rate<1%`, `p95<1.2x`, `self_test=pass`, …
    #[schema(value_type = Vec<String>)]
    pub gates: Vec<Gate>,
    /// Requests of a wave's devices together before errors and latencies are judged; 0 means 20.
    pub min_requests: u32,
    /// The most devices that are on their way at once, of all devices of the rollout, at least one; absent: as many as a wave has.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Limit>,
    /// The most devices of a wave that may report a failure; silent ones do not count.
    #[schema(value_type = String)]
    pub max_failed: Limit,
    /// What more failures do.
    pub on_failure: Breach,
    /// When a device may change versions, in its own time zone.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Percent of its battery below which a device waits, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_battery_percent: Option<u8>,
    /// Degrees Celsius of its hottest sensor above which a device waits, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_temperature_c: Option<f64>,
    /// A device that has not begun by then does not any more: it fails as too late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after_us: Option<Micros>,
    /// Seconds after which a device that says nothing counts as silent; 0 means an hour, with a window eight days.
    pub deadline_s: u32,
    /// Bring the devices back when the rollout is aborted.
    pub auto_revert: bool,
    /// Wait for a person before each wave but the first.
    pub approve: bool,
    /// Where several rollouts of a model meet on a device, the highest wins, and among equals the newest.
    pub priority: i32,
    /// What the version does beside the running one before it takes over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<Experiment>,
    /// Seconds of it.
    pub experiment_s: u32,
    /// Seconds that each device itself watches the version, ready to go back at once; absent: as long as the soak, at most a week.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch_s: Option<u32>,
    /// What a device must have.
    pub constraints: Constraints,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            waves: Waves::all_at_once(),
            soak_s: 0,
            gates: Vec::new(),
            min_requests: 0,
            max_unavailable: None,
            max_failed: Limit::Percent(500),
            on_failure: Breach::Abort,
            window: None,
            min_battery_percent: None,
            max_temperature_c: None,
            not_after_us: None,
            deadline_s: 0,
            auto_revert: false,
            approve: false,
            priority: 0,
            experiment: None,
            experiment_s: 0,
            watch_s: None,
            constraints: Constraints::default(),
        }
    }
}

/// A plan that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    /// The field.
    pub field: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

impl Plan {
    /// Checks what the fields' own syntax does not.
    pub fn check(&self) -> Result<(), PlanError> {
        let fail = |field, message: String| Err(PlanError { field, message });
        if self.gates.len() > MAX_GATES {
            return fail("gates", format!("a rollout has at most {MAX_GATES} gates, these are {}", self.gates.len()));
        }
        if self.soak_s > MAX_SOAK_S {
            return fail("soak_s", format!("{} s of soak are more than thirty days ({MAX_SOAK_S} s)", self.soak_s));
        }
        if self.deadline_s > MAX_DEADLINE_S {
            return fail("deadline_s", format!("{} s are more than ninety days ({MAX_DEADLINE_S} s)", self.deadline_s));
        }
        if self.watch_s.is_some_and(|watch| watch > MAX_WATCH_S) {
            return fail("watch_s", format!("a device watches at most a week ({MAX_WATCH_S} s)"));
        }
        if self.min_battery_percent.is_some_and(|percent| percent > 100) {
            return fail("min_battery_percent", "a battery has at most 100 percent".into());
        }
        if self.max_temperature_c.is_some_and(|degrees| !degrees.is_finite()) {
            return fail("max_temperature_c", "give a number of degrees Celsius".into());
        }
        match (&self.experiment, self.experiment_s) {
            (None, 0) | (Some(_), 1..=MAX_SOAK_S) => {}
            (None, _) => {
                return fail("experiment_s", "there is no experiment: give `shadow` or `split`, or leave this out".into());
            }
            (Some(_), 0) => return fail("experiment_s", "an experiment takes some time: say how many seconds".into()),
            (Some(_), _) => return fail("experiment_s", format!("an experiment lasts at most thirty days ({MAX_SOAK_S} s)")),
        }
        self.policy(true).check().map_err(|error| PlanError { field: "experiment", message: error.to_string() })
    }

    /// Microseconds after which a device that says nothing counts as silent.
    pub fn deadline_us(&self) -> i64 {
        let seconds = match (self.deadline_s, &self.window) {
            (0, None) => DEADLINE_S,
            (0, Some(_)) => DEADLINE_WITH_WINDOW_S,
            (seconds, _) => seconds,
        };
        i64::from(seconds) * 1_000_000
    }

    /// Microseconds for which a device that runs or tries the version may have nothing new to say.
    pub fn watch_us(&self) -> i64 {
        i64::from(self.policy(false).watch_s.max(self.experiment_s)) * 1_000_000
    }

    /// Requests before errors and latencies are judged.
    pub fn requests(&self) -> u64 {
        u64::from(if self.min_requests == 0 { MIN_REQUESTS } else { self.min_requests })
    }

    /// What a device is told; with the experiment while the wave is on `trial`. Gates on errors and latency are the device's
    /// own limits too, so that it need not wait for the control plane to go back.
    pub fn policy(&self, trial: bool) -> UpdatePolicy {
        let mut policy = UpdatePolicy {
            window: self.window.clone(),
            watch_s: self.watch_s.unwrap_or(self.soak_s.min(MAX_WATCH_S)),
            experiment: self.experiment.clone().filter(|_| trial),
            min_battery_percent: self.min_battery_percent,
            max_temperature_c: self.max_temperature_c,
            not_after_us: self.not_after_us,
            ..UpdatePolicy::default()
        };
        for gate in self.gates.iter().filter(|gate| matches!(gate.comparison, Comparison::Less | Comparison::AtMost)) {
            match (&gate.metric, gate.threshold) {
                (Metric::ErrorRate, Threshold::Value(rate)) if rate <= 1.0 => policy.max_error_rate = Some(rate),
                (Metric::P95, Threshold::Ratio(ratio)) if ratio > 0.0 => policy.max_p95_ratio = Some(ratio),
                _ => {}
            }
        }
        policy
    }

    /// The labels that its waves speak of.
    pub fn wave_labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.waves.shares().iter().filter_map(|share| match share {
            Share::Label { key, value } => Some((key.as_str(), value.as_str())),
            Share::Percent(_) | Share::Count(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_plan_is_everyone_at_once() {
        let plan: Plan = serde_json::from_str("{}").unwrap();
        assert_eq!(plan, Plan::default());
        plan.check().unwrap();
        let plan: Plan =
            serde_json::from_str(r#"{"waves":"1%,100%","soak_s":600,"gates":["error_rate<1%","p95<1.2x"]}"#).unwrap();
        assert_eq!(plan.policy(false).max_error_rate, Some(0.01));
        assert_eq!((plan.policy(true).max_p95_ratio, plan.policy(true).watch_s), (Some(1.2), 600));
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        // What a device decides by itself is told to it.
        let careful =
            Plan { min_battery_percent: Some(30), max_temperature_c: Some(70.0), not_after_us: Some(Micros(9)), ..plan };
        let policy = careful.policy(false);
        assert_eq!(
            (policy.min_battery_percent, policy.max_temperature_c, policy.not_after_us),
            (Some(30), Some(70.0), Some(Micros(9)))
        );
    }

    #[test]
    fn what_cannot_be_followed_names_its_field() {
        let shadow = Some(Experiment::Shadow { percent: 10 });
        let bad = [
            ("soak_s", Plan { soak_s: MAX_SOAK_S + 1, ..Plan::default() }),
            ("deadline_s", Plan { deadline_s: MAX_DEADLINE_S + 1, ..Plan::default() }),
            ("watch_s", Plan { watch_s: Some(MAX_WATCH_S + 1), ..Plan::default() }),
            ("experiment_s", Plan { experiment_s: 5, ..Plan::default() }),
            ("experiment_s", Plan { experiment: shadow.clone(), ..Plan::default() }),
            ("experiment", Plan { experiment: Some(Experiment::Shadow { percent: 0 }), experiment_s: 5, ..Plan::default() }),
            ("min_battery_percent", Plan { min_battery_percent: Some(101), ..Plan::default() }),
            ("max_temperature_c", Plan { max_temperature_c: Some(f64::NAN), ..Plan::default() }),
            ("gates", Plan { gates: vec!["drift<1".parse().unwrap(); MAX_GATES + 1], ..Plan::default() }),
        ];
        for (field, plan) in bad {
            assert_eq!(plan.check().unwrap_err().field, field);
        }
        assert!(serde_json::from_str::<Plan>(r#"{"wave":"1%"}"#).is_err());
    }
}
