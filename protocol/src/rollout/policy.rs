//! How a device goes about one update. It travels in the device's intent beside the version it speaks of.

use super::Window;
use crate::time::Micros;
use serde::{Deserialize, Serialize};

/// The longest watch, in seconds: a week. A version that was not judged by then is not being used.
pub const MAX_WATCH_S: u32 = 7 * 24 * 3_600;

/// What the device keeps to. Every field has a default, so that the empty policy is the everyday one: at once, self-test,
/// no watch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UpdatePolicy {
    /// When the running version may be replaced; absent: at any time. Downloading is always allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Not begun after this: the device reports that it came too late, and waits for what comes next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after_us: Option<Micros>,
    /// Seconds that the new version is watched while it answers, before it is committed; the old one stays loaded so long.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub watch_s: u32,
    /// While it is watched, more failed requests than this of all (0 to 1) bring the old version back at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_error_rate: Option<f64>,
    /// While it is watched, a 95th percentile of more than so many times the old version's brings the old one back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_p95_ratio: Option<f64>,
    /// Requests before either of the two is judged; 0 means 20.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_requests: u32,
    /// Stay beside the running version for now, and take part in an experiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<Experiment>,
    /// Battery percent below which the device waits, where it has a battery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_battery_percent: Option<u8>,
    /// Degrees Celsius of the hottest sensor above which the device waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_temperature_c: Option<f64>,
}

/// What the version beside the running one does before it takes over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Experiment {
    /// It gets a copy of the traffic; the running version answers and the two answers are compared.
    Shadow {
        /// Percent of the requests, 1 to 100.
        percent: u8,
    },
    /// It answers a part of the traffic.
    Split {
        /// Percent of the requests, or of the keys, 1 to 100.
        percent: u8,
        /// The request parameter that decides, so that one key always meets the same version; absent: each request by chance.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
}

/// A policy with a value out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the update policy is not valid: {0}")]
pub struct PolicyError(String);

impl UpdatePolicy {
    /// Requests before error rate and latency are judged.
    pub fn requests(&self) -> u32 {
        if self.min_requests == 0 { 20 } else { self.min_requests }
    }

    /// Checks the ranges; call it on every policy that came from outside.
    pub fn check(&self) -> Result<(), PolicyError> {
        let fail = |text: String| Err(PolicyError(text));
        if self.watch_s > MAX_WATCH_S {
            return fail(format!("watch_s is {}, the limit is {MAX_WATCH_S} (a week)", self.watch_s));
        }
        if self.max_error_rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
            return fail("max_error_rate must be 0 to 1".into());
        }
        if self.max_p95_ratio.is_some_and(|ratio| !(ratio.is_finite() && ratio > 0.0)) {
            return fail("max_p95_ratio must be a number above 0".into());
        }
        if self.min_battery_percent.is_some_and(|percent| percent > 100) {
            return fail("min_battery_percent must be 0 to 100".into());
        }
        if self.max_temperature_c.is_some_and(|degrees| !degrees.is_finite()) {
            return fail("max_temperature_c must be a number".into());
        }
        match &self.experiment {
            Some(Experiment::Shadow { percent } | Experiment::Split { percent, .. }) if !(1..=100).contains(percent) => {
                fail(format!("an experiment takes 1 to 100 percent, not {percent}"))
            }
            Some(Experiment::Split { key: Some(key), .. }) if key.is_empty() || key.len() > 64 => {
                fail("the key of a split has 1 to 64 bytes".into())
            }
            _ => Ok(()),
        }
    }
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_everyday_policy_is_an_empty_object() {
        assert_eq!(serde_json::to_string(&UpdatePolicy::default()).unwrap(), "{}");
        let policy: UpdatePolicy = serde_json::from_str(r#"{"window":"22:00-04:00","from_the_future":1}"#).unwrap();
        assert!(policy.window.is_some() && policy.requests() == 20);
        policy.check().unwrap();
    }

    #[test]
    fn values_out_of_range_are_named() {
        let bad = [
            UpdatePolicy { watch_s: MAX_WATCH_S + 1, ..Default::default() },
            UpdatePolicy { max_error_rate: Some(1.5), ..Default::default() },
            UpdatePolicy { max_p95_ratio: Some(f64::NAN), ..Default::default() },
            UpdatePolicy { experiment: Some(Experiment::Shadow { percent: 0 }), ..Default::default() },
            UpdatePolicy { min_battery_percent: Some(101), ..Default::default() },
        ];
        for policy in bad {
            assert!(policy.check().is_err(), "{policy:?}");
        }
    }
}
