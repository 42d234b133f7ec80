//! The settings that the control plane sends (`agent.config`), laid over the device's own configuration.
//!
//! Invariant: what holds was checked whole. Settings that are not valid change nothing: those before go on, also over a restart,
//! and the status says why.

use crate::config::Config;
use aidos_protocol::settings::{Settings, SettingsDocument};
use aidos_protocol::twin::{SettingsState, SettingsStatus};
use serde_json::Value;

/// The key of the ledger under which the settings that hold are kept.
const KEY: &str = "agent.settings";

/// What holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Held {
    /// As it was sent; `None`: the device's own file holds alone.
    pub document: Option<SettingsDocument>,
    /// What it says.
    pub settings: Settings,
}

impl Held {
    /// What an earlier life of the agent kept.
    pub fn read(ledger: &crate::state::Ledger) -> Result<Self, crate::state::LedgerError> {
        let Some(bytes) = ledger.get(KEY)? else { return Ok(Self::default()) };
        let read = serde_json::from_slice::<SettingsDocument>(&bytes).ok();
        let read = read.and_then(|document| Some((Settings::lenient(&document.settings).ok()?.0, document)));
        // Kept by a version that knew other ranges: intent has it still, and is asked next.
        Ok(read.map_or_else(Self::default, |(settings, document)| Self { document: Some(document), settings }))
    }

    /// Keeps it. Durable on return.
    pub fn keep(&self, ledger: &crate::state::Ledger) -> Result<(), crate::state::LedgerError> {
        match &self.document {
            Some(document) => ledger.put(KEY, &serde_json::to_vec(document).expect("settings have only text keys")),
            None => ledger.remove(KEY),
        }
    }
}

/// What holds once `desired` is known, and the status that goes with it. `held` holds until then.
pub fn adopt(held: &Held, desired: Option<&Value>) -> (Held, SettingsStatus) {
    let version = |held: &Held| held.document.as_ref().map(|document| document.version);
    let Some(value) = desired else { return (Held::default(), SettingsStatus::default()) };
    let rejected = |of: Option<&SettingsDocument>, error: String| {
        let status = SettingsStatus {
            desired_version: of.map(|document| document.version),
            deployment: of.and_then(|document| document.deployment),
            version: version(held),
            state: SettingsState::Rejected,
            error,
            ..Default::default()
        };
        (held.clone(), status)
    };
    let document: SettingsDocument = match serde_json::from_value(value.clone()) {
        Ok(document) => document,
        Err(error) => return rejected(None, format!("agent.config cannot be read: {error}")),
    };
    let (settings, ignored) = match Settings::lenient(&document.settings) {
        Ok(taken) => taken,
        Err(error) => return rejected(Some(&document), error.to_string()),
    };
    if let Some(level) = &settings.log.level
        && let Err(error) = tracing_subscriber::EnvFilter::try_new(level)
    {
        return rejected(Some(&document), format!("log.level: `{level}`: {error}"));
    }
    let status = SettingsStatus {
        desired_version: Some(document.version),
        version: Some(document.version),
        deployment: document.deployment,
        state: SettingsState::Applied,
        ignored,
        ..Default::default()
    };
    (Held { document: Some(document), settings }, status)
}

/// The device's configuration with `settings` over it.
pub fn laid_over(config: &Config, settings: &Settings) -> Config {
    let mut config = config.clone();
    let set = |value: &mut u64, wanted: Option<u64>| *value = wanted.unwrap_or(*value);
    set(&mut config.telemetry.interval_s, settings.telemetry.interval_s);
    set(&mut config.telemetry.spool_bytes, settings.telemetry.spool_bytes);
    set(&mut config.telemetry.spool_days, settings.telemetry.spool_days);
    set(&mut config.storage.max_bytes, settings.storage.max_bytes);
    set(&mut config.storage.download_bytes_per_s, settings.storage.download_bytes_per_s);
    set(&mut config.update.healthy_after_s, settings.update.healthy_after_s);
    set(&mut config.update.min_battery_percent, settings.update.min_battery_percent);
    set(&mut config.update.max_temperature_c, settings.update.max_temperature_c);
    config.link.constrained = settings.link.constrained.unwrap_or(config.link.constrained);
    if let Some(level) = &settings.log.level {
        config.log.level.clone_from(level);
    }
    config
}

/// Settings of `wanted` that a process that was started with `started` takes up only at its next start.
pub fn at_restart(started: &Config, wanted: &Config) -> Vec<String> {
    let differ = [
        ("telemetry.spool_bytes", started.telemetry.spool_bytes != wanted.telemetry.spool_bytes),
        ("telemetry.spool_days", started.telemetry.spool_days != wanted.telemetry.spool_days),
        ("storage.max_bytes", started.storage.max_bytes != wanted.storage.max_bytes),
        ("link.constrained", started.link.constrained != wanted.link.constrained),
    ];
    differ.into_iter().filter(|(_, differ)| *differ).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Ledger;
    use serde_json::json;

    fn document(version: u64, settings: Value) -> Value {
        json!({ "version": version, "settings": settings })
    }

    #[test]
    fn invalid_settings_change_nothing_and_the_status_says_why() {
        let first = document(1, json!({ "telemetry": { "interval_s": 30 } }));
        let (held, status) = adopt(&Held::default(), Some(&first));
        assert_eq!((status.version, status.state), (Some(1), SettingsState::Applied));
        for (bad, words) in [
            (document(2, json!({ "telemetry": { "interval_s": 0 } })), "telemetry.interval_s"),
            (document(2, json!({ "log": { "level": "a=b=c" } })), "log.level"),
            (json!({ "settings": {} }), "agent.config cannot be read"),
            (json!(5), "agent.config cannot be read"),
        ] {
            let (after, status) = adopt(&held, Some(&bad));
            assert_eq!(after, held, "{bad}");
            assert!(status.error.contains(words), "{bad}: {}", status.error);
            assert_eq!((status.version, status.state), (Some(1), SettingsState::Rejected), "{bad}");
        }
    }

    #[test]
    fn a_setting_of_the_future_is_passed_over_and_named() {
        let newer = document(4, json!({ "training": { "on": true }, "log": { "level": "debug" } }));
        let (held, status) = adopt(&Held::default(), Some(&newer));
        assert_eq!((held.settings.log.level.as_deref(), status.ignored), (Some("debug"), vec!["training".to_owned()]));
    }

    #[test]
    fn taking_the_settings_away_leaves_the_devices_own_file() {
        let (held, _) = adopt(&Held::default(), Some(&document(1, json!({ "storage": { "max_bytes": 2 << 20 } }))));
        let config = Config::default();
        let over = laid_over(&config, &held.settings);
        assert_eq!((over.storage.max_bytes, at_restart(&config, &over)), (2 << 20, vec!["storage.max_bytes".to_owned()]));
        let (none, status) = adopt(&held, None);
        assert_eq!((laid_over(&config, &none.settings), status), (config, SettingsStatus::default()));
    }

    #[test]
    fn what_holds_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        assert_eq!(Held::read(&ledger).unwrap(), Held::default());
        let (held, _) = adopt(&Held::default(), Some(&document(1, json!({ "link": { "constrained": true } }))));
        held.keep(&ledger).unwrap();
        assert_eq!(Held::read(&ledger).unwrap(), held);
        Held::default().keep(&ledger).unwrap();
        assert_eq!(Held::read(&ledger).unwrap(), Held::default());
    }
}
