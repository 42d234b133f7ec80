//! The agent's settings as the control plane sends them: one schema, checked on both sides.
//!
//! The plane refuses a field that it does not know, since a person has misspelt it. An agent passes over one, since a newer
//! plane may know more than it does, and says so in its status. What stands here is laid over the device's own file; what is
//! absent leaves the file's value.

use crate::DeploymentId;
use crate::artifact::Digest;
use crate::twin::edit::MAX_CONFIG_BYTES;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ops::RangeInclusive;

/// Seconds between two samples: more than once a second wears the battery, less than hourly tells nothing.
pub const INTERVAL_S: RangeInclusive<u64> = 1..=3_600;
/// Bytes of samples that may wait for a link: 64 KiB to 16 GiB.
pub const SPOOL_BYTES: RangeInclusive<u64> = 64 << 10..=16 << 30;
/// Days after which waiting samples are dropped.
pub const SPOOL_DAYS: RangeInclusive<u64> = 1..=3_650;
/// Bytes of models on disk; the upper end is an exabyte, which is no limit.
pub const STORAGE_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 60;
/// Bytes per second that artifacts may take of a device's line: 4 KiB, below which nothing larger ever arrives, to 10 GiB.
pub const DOWNLOAD_BYTES_PER_S: RangeInclusive<u64> = 4 << 10..=10 << 30;
/// Seconds that a new version of the agent must be in touch before it counts as healthy.
pub const HEALTHY_AFTER_S: RangeInclusive<u64> = 1..=7 * 24 * 3_600;
/// Percent of the battery below which no update goes on; 0 is no bound.
pub const MIN_BATTERY_PERCENT: RangeInclusive<u64> = 0..=100;
/// Degrees Celsius of the hottest sensor above which no update goes on; 0 is no bound.
pub const MAX_TEMPERATURE_C: RangeInclusive<u64> = 0..=150;
/// Bytes of a log filter.
pub const MAX_LOG_LEVEL_BYTES: usize = 256;

/// `agent.config` in a device's intent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SettingsDocument {
    /// Which version of the tenant's settings this is.
    pub version: u64,
    /// What asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// The settings, as JSON: an older agent takes what it knows of them.
    #[schema(value_type = Settings)]
    pub settings: Value,
}

impl SettingsDocument {
    /// Names what it says: the same for the same settings, whoever asked for them.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(&self.settings).expect("JSON has only text keys"))
    }
}

/// What can be set from afar.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Settings {
    /// Telemetry.
    #[serde(skip_serializing_if = "TelemetrySettings::is_empty")]
    pub telemetry: TelemetrySettings,
    /// Artifacts.
    #[serde(skip_serializing_if = "StorageSettings::is_empty")]
    pub storage: StorageSettings,
    /// The link.
    #[serde(skip_serializing_if = "LinkSettings::is_empty")]
    pub link: LinkSettings,
    /// The log.
    #[serde(skip_serializing_if = "LogSettings::is_empty")]
    pub log: LogSettings,
    /// Updates.
    #[serde(skip_serializing_if = "UpdateSettings::is_empty")]
    pub update: UpdateSettings,
}

/// Telemetry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct TelemetrySettings {
    /// Seconds between samples, [`INTERVAL_S`]. Takes effect at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_s: Option<u64>,
    /// Bytes of samples that may wait for a link, [`SPOOL_BYTES`]. Takes effect at the next start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool_bytes: Option<u64>,
    /// Days after which waiting samples are dropped, [`SPOOL_DAYS`]. Takes effect at the next start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool_days: Option<u64>,
}

/// Artifacts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct StorageSettings {
    /// Bytes of models on disk, [`STORAGE_BYTES`]. Takes effect at the next start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Bytes per second of the line that artifacts may take, [`DOWNLOAD_BYTES_PER_S`]. Takes effect at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_bytes_per_s: Option<u64>,
}

/// The link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct LinkSettings {
    /// Saves data and battery at the price of slower news. Takes effect at the next start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constrained: Option<bool>,
}

/// The log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct LogSettings {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter. Takes effect at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
}

/// Updates of the agent and of its models.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct UpdateSettings {
    /// Seconds that a new version of the agent must be in touch before it counts as healthy, [`HEALTHY_AFTER_S`]. Takes effect at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_after_s: Option<u64>,
    /// Percent of the battery below which no update goes on, [`MIN_BATTERY_PERCENT`]. Takes effect at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_battery_percent: Option<u64>,
    /// Degrees Celsius above which no update goes on, [`MAX_TEMPERATURE_C`]. Takes effect at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_temperature_c: Option<u64>,
}

macro_rules! empty {
    ($($part:ty),+) => {$(
        impl $part {
            fn is_empty(&self) -> bool {
                *self == Self::default()
            }
        }
    )+};
}
empty!(TelemetrySettings, StorageSettings, LinkSettings, LogSettings, UpdateSettings);

/// Settings that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A field of the wrong kind.
    #[error("{0}")]
    Form(String),
    /// Fields that there are not.
    #[error("there is no setting {}; there are {}", .0.join(", "), KNOWN.join(", "))]
    Unknown(Vec<String>),
    /// A value out of its range.
    #[error("{field}: {why}")]
    Value {
        /// The setting.
        field: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// Too long.
    #[error("the settings have {0} bytes as JSON, the limit is {MAX_CONFIG_BYTES}")]
    Long(usize),
}

/// Every setting.
pub const KNOWN: [&str; 10] = [
    "telemetry.interval_s",
    "telemetry.spool_bytes",
    "telemetry.spool_days",
    "storage.max_bytes",
    "link.constrained",
    "log.level",
    "update.healthy_after_s",
    "storage.download_bytes_per_s",
    "update.min_battery_percent",
    "update.max_temperature_c",
];

impl Settings {
    /// Reads and checks settings as the plane does: nothing unknown is taken.
    pub fn strict(value: &Value) -> Result<Self, SettingsError> {
        let (settings, unknown) = Self::lenient(value)?;
        if unknown.is_empty() { Ok(settings) } else { Err(SettingsError::Unknown(unknown)) }
    }

    /// Reads and checks settings as an agent does: what it does not know is passed over and named.
    pub fn lenient(value: &Value) -> Result<(Self, Vec<String>), SettingsError> {
        // Room for the version around it.
        let bytes = value.to_string().len() + 64;
        if bytes > MAX_CONFIG_BYTES {
            return Err(SettingsError::Long(bytes));
        }
        // Lists would be read by position, which nobody who writes one means.
        let sections = value.as_object().ok_or_else(|| SettingsError::Form("the settings are not sections of fields".into()))?;
        if let Some((section, _)) = sections.iter().find(|(section, fields)| is_section(section) && !fields.is_object()) {
            return Err(SettingsError::Form(format!("{section}: invalid type, it is a section of fields")));
        }
        let unknown = unknown(value);
        let settings: Self = serde_json::from_value(value.clone()).map_err(|error| SettingsError::Form(form(value, &error)))?;
        settings.check()?;
        Ok((settings, unknown))
    }

    fn check(&self) -> Result<(), SettingsError> {
        let ranged = |field, value: Option<u64>, range: RangeInclusive<u64>| match value {
            Some(value) if !range.contains(&value) => {
                Err(SettingsError::Value { field, why: format!("{value}: use {} to {}", range.start(), range.end()) })
            }
            _ => Ok(()),
        };
        ranged(KNOWN[0], self.telemetry.interval_s, INTERVAL_S)?;
        ranged(KNOWN[1], self.telemetry.spool_bytes, SPOOL_BYTES)?;
        ranged(KNOWN[2], self.telemetry.spool_days, SPOOL_DAYS)?;
        ranged(KNOWN[3], self.storage.max_bytes, STORAGE_BYTES)?;
        ranged(KNOWN[7], self.storage.download_bytes_per_s, DOWNLOAD_BYTES_PER_S)?;
        ranged(KNOWN[6], self.update.healthy_after_s, HEALTHY_AFTER_S)?;
        ranged(KNOWN[8], self.update.min_battery_percent, MIN_BATTERY_PERCENT)?;
        ranged(KNOWN[9], self.update.max_temperature_c, MAX_TEMPERATURE_C)?;
        match &self.log.level {
            Some(level) if level.is_empty() || level.len() > MAX_LOG_LEVEL_BYTES => {
                let why = format!("use error, warn, info, debug, trace or a filter of at most {MAX_LOG_LEVEL_BYTES} bytes");
                Err(SettingsError::Value { field: KNOWN[5], why })
            }
            _ => Ok(()),
        }
    }
}

fn is_section(name: &str) -> bool {
    KNOWN.iter().any(|known| known.split_once('.').is_some_and(|(section, _)| section == name))
}

/// Fields of the two levels that the schema does not have, by path.
fn unknown(value: &Value) -> Vec<String> {
    let Some(sections) = value.as_object() else { return Vec::new() };
    let mut found = Vec::new();
    for (section, fields) in sections {
        let known_section = is_section(section);
        match fields.as_object() {
            Some(fields) if known_section => {
                let path = |field: &String| format!("{section}.{field}");
                found.extend(fields.keys().map(path).filter(|path| !KNOWN.contains(&path.as_str())));
            }
            _ if known_section => {}
            _ => found.push(section.clone()),
        }
    }
    found
}

/// What is wrong with the form, with the field's name, which the reader's own message lacks.
fn form(value: &Value, error: &serde_json::Error) -> String {
    let wrong = KNOWN.iter().find(|path| {
        let Some((section, field)) = path.split_once('.') else { return false };
        let mut alone = serde_json::Map::new();
        let Some(found) = value.get(section).and_then(|fields| fields.get(field)) else { return false };
        alone.insert(section.to_owned(), serde_json::json!({ field: found }));
        serde_json::from_value::<Settings>(Value::Object(alone)).is_err()
    });
    match wrong {
        Some(path) => format!("{path}: {error}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_known_and_in_range_is_taken_and_written_as_it_was() {
        let value =
            json!({ "telemetry": { "interval_s": 30 }, "log": { "level": "debug" }, "storage": { "max_bytes": 1 << 30 } });
        let settings = Settings::strict(&value).unwrap();
        assert_eq!(serde_json::to_value(&settings).unwrap(), value);
        assert_eq!(Settings::strict(&json!({})).unwrap(), Settings::default());
    }

    #[test]
    fn the_plane_refuses_what_it_does_not_know_and_an_agent_names_it() {
        let value = json!({ "telemetry": { "interval_s": 30, "colour": 1 }, "training": { "on": true } });
        let refused = Settings::strict(&value).unwrap_err().to_string();
        assert!(refused.contains("telemetry.colour, training") && refused.contains("update.healthy_after_s"), "{refused}");
        let (settings, ignored) = Settings::lenient(&value).unwrap();
        assert_eq!((settings.telemetry.interval_s, ignored), (Some(30), vec!["telemetry.colour".into(), "training".into()]));
    }

    #[test]
    fn an_error_names_the_field() {
        for (value, words) in [
            (json!({ "telemetry": { "interval_s": 0 } }), "telemetry.interval_s: 0: use 1 to 3600"),
            (json!({ "telemetry": { "interval_s": "x" } }), "telemetry.interval_s: invalid type"),
            (json!({ "update": { "healthy_after_s": 0 } }), "update.healthy_after_s"),
            (json!({ "update": { "min_battery_percent": 101 } }), "update.min_battery_percent"),
            (json!({ "update": { "max_temperature_c": 151 } }), "update.max_temperature_c"),
            (json!({ "log": { "level": "" } }), "log.level"),
            (json!({ "storage": 5 }), "invalid type"),
            (json!({ "storage": [5] }), "storage: invalid type"),
            (json!([]), "not sections"),
            (json!({ "more": "x".repeat(5_000) }), "the limit is 4096"),
        ] {
            let error = Settings::lenient(&value).unwrap_err().to_string();
            assert!(error.contains(words), "{value}: {error}");
        }
    }

    #[test]
    fn every_known_setting_is_a_field_and_every_field_is_known() {
        let all = json!({
            "telemetry": { "interval_s": 1, "spool_bytes": 1 << 20, "spool_days": 1 }, "storage": { "max_bytes": 1 << 20, "download_bytes_per_s": 1 << 20 },
            "link": { "constrained": true }, "log": { "level": "info" }, "update": { "healthy_after_s": 1, "min_battery_percent": 20, "max_temperature_c": 80 },
        });
        assert_eq!(serde_json::to_value(Settings::strict(&all).unwrap()).unwrap(), all);
        let fields: usize = all.as_object().unwrap().values().map(|section| section.as_object().unwrap().len()).sum();
        assert_eq!(fields, KNOWN.len());
    }
}
