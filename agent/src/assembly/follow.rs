//! What components read of intent, kept up to date: models, the agent's release, and settings.
//!
//! Settings come from three places, the nearer ones over the farther: the device's file, `agent.config` for many devices, and
//! the single keys of this device (`telemetry.interval_s`, `log.level`).

use super::ports::{Statuses, interval};
use crate::bandwidth::Throttle;
use crate::config::Config;
use crate::models::Desired;
use crate::observe::Logging;
use crate::selfupdate;
use crate::settings::{self, Held};
use crate::state::{Ledger, LedgerError};
use crate::twin::{Replica, Voucher};
use crate::update::HouseRules;
use aidos_protocol::Subject;
use aidos_protocol::settings::SettingsDocument;
use aidos_protocol::twin::{AGENT_CONFIG, AGENT_RELEASE, Health, IntentView, SettingsState, SettingsStatus, path};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What is wanted of the agent.
pub(super) struct Followed {
    /// Models.
    pub(super) models: watch::Receiver<Desired>,
    /// The agent's own version.
    pub(super) release: watch::Receiver<Option<Result<aidos_protocol::twin::DesiredRelease, String>>>,
    /// Seconds between samples.
    pub(super) interval: watch::Receiver<u64>,
    /// Seconds after which a new version of the agent counts as healthy.
    pub(super) healthy_after_s: watch::Receiver<u64>,
}

/// The settings that hold, and what they are laid over.
pub(super) struct Layers {
    ledger: Ledger,
    /// The device's own file and flags.
    file: Config,
    /// What this process was started with.
    started: Config,
    held: Held,
    status: SettingsStatus,
    voucher: Voucher,
    /// The settings that were vouched for last.
    vouched: Option<SettingsDocument>,
}

impl Layers {
    /// The settings that hold at a start. Blocks for the disk.
    pub(super) fn open(ledger: Ledger, file: Config, view: &IntentView, voucher: Voucher) -> Result<Self, LedgerError> {
        let before = Held::read(&ledger)?;
        let (held, status) = settings::adopt(&before, view.config.get(AGENT_CONFIG));
        if held != before {
            held.keep(&ledger)?;
        }
        let started = settings::laid_over(&file, &held.settings);
        Ok(Self { ledger, file, started, held, status, voucher, vouched: None })
    }

    /// The configuration to start with.
    pub(super) fn config(&self) -> Config {
        self.started.clone()
    }

    /// Takes up what intent says now, and returns the configuration that holds.
    async fn follow(&mut self, view: &IntentView, statuses: &Statuses) -> Config {
        let (held, status) = settings::adopt(&self.held, view.config.get(AGENT_CONFIG));
        if held != self.held {
            let (ledger, kept) = (self.ledger.clone(), held.clone());
            // Kept before it holds. What cannot be kept holds all the same: intent has it, and is asked at the next start.
            match tokio::task::spawn_blocking(move || kept.keep(&ledger)).await {
                Ok(Ok(())) => tracing::info!(version = status.version, "the agent's settings follow intent"),
                Ok(Err(error)) => tracing::warn!(%error, "the agent's settings could not be kept"),
                Err(_) => {}
            }
            self.held = held;
        } else if !status.error.is_empty() && status != self.status {
            tracing::warn!(error = status.error, "the agent's settings in intent cannot be used; those before go on");
        }
        self.status = status.clone();
        let wanted = settings::laid_over(&self.file, &self.held.settings);
        statuses.set(path::AGENT_CONFIG, &SettingsStatus { at_restart: settings::at_restart(&self.started, &wanted), ..status });
        self.vouch(statuses);
        wanted
    }

    /// Vouches for the settings that hold, once for each that a deployment asked for.
    fn vouch(&mut self, statuses: &Statuses) {
        let applied = self.held.document.as_ref().filter(|_| self.status.state == SettingsState::Applied);
        let Some(document) = applied.filter(|document| document.deployment.is_some()) else { return };
        if self.vouched.as_ref() == Some(document) {
            return;
        }
        let about = (document.version, document.digest());
        let report = self.voucher.report(Subject::Settings, about, document.deployment, Health::Healthy);
        if let Some(signed) = self.voucher.sign(&report) {
            statuses.set(&format!("{}{}", path::HEALTH, Subject::Settings), &signed);
            self.vouched = Some(document.clone());
        }
    }
}

fn release_of(view: &IntentView) -> Option<Result<aidos_protocol::twin::DesiredRelease, String>> {
    let value = view.config.get(AGENT_RELEASE)?;
    Some(
        serde_json::from_value(value.clone())
            .map_err(|error| format!("agent.release cannot be read: {error}; update it by hand")),
    )
}

/// Follows intent until `stop`.
pub(super) fn follow_intent(
    intent: &Replica,
    mut layers: Layers,
    logging: &Logging,
    statuses: Statuses,
    (bandwidth, rules): (Arc<Throttle>, watch::Sender<HouseRules>),
    stop: CancellationToken,
) -> Followed {
    let mut views = intent.view();
    let view = views.borrow_and_update().clone();
    let config = layers.config();
    let (models, models_read) = watch::channel(Arc::new(view.models.clone()));
    let (release, release_read) = watch::channel::<selfupdate::Desired>(release_of(&view));
    let (seconds, seconds_read) = watch::channel(interval(&view, config.telemetry.interval_s));
    let (healthy, healthy_read) = watch::channel(config.update.healthy_after_s);
    let set_level = Arc::clone(&logging.set_level);
    tokio::spawn(async move {
        let mut present_level = layers.file.log.level.clone();
        loop {
            let view = views.borrow_and_update().clone();
            let config = layers.follow(&view, &statuses).await;
            models.send_if_modified(|models| {
                let news = **models != view.models;
                if news {
                    *models = Arc::new(view.models.clone());
                }
                news
            });
            let wanted = release_of(&view);
            release.send_if_modified(|release| {
                let news = *release != wanted;
                *release = wanted;
                news
            });
            let every = interval(&view, config.telemetry.interval_s);
            seconds.send_if_modified(|seconds| std::mem::replace(seconds, every) != every);
            let after = config.update.healthy_after_s;
            healthy.send_if_modified(|healthy| std::mem::replace(healthy, after) != after);
            bandwidth.limit(config.storage.download_bytes_per_s);
            rules.send_replace(config.update.house_rules());
            let level = view.config.get("log.level").and_then(|value| value.as_str()).unwrap_or(&config.log.level).to_owned();
            if level != present_level {
                match set_level(&level) {
                    Ok(()) => tracing::info!(level, "the log's level follows intent"),
                    Err(error) => tracing::warn!(%error, "the log's level in intent cannot be used"),
                }
                present_level = level;
            }
            for path in &view.unreadable {
                tracing::warn!(path, "intent holds a value that this version cannot read; update the agent");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = views.changed() => if changed.is_err() { return },
            }
        }
    });
    Followed { models: models_read, release: release_read, interval: seconds_read, healthy_after_s: healthy_read }
}
