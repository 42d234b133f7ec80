//! What this device vouches for of its agent: that the wanted version runs and is on trial, that it has proved itself, or that it
//! was given up; with the memory that it takes beside what the version before took.

use crate::observe;
use crate::state::Ledger;
use crate::twin::Voucher;
use aidos_protocol::Subject;
use aidos_protocol::twin::health::REPORT_EVERY_S;
use aidos_protocol::twin::{DesiredRelease, Health, HealthReport, Measures, ReleaseState, ReleaseStatus, SignedHealth};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The key of the ledger under which the measures of the version before an attempt are kept.
const KEY: &str = "agent.release.before";
/// A trial is reported anew so often: its memory may grow.
const EVERY: Duration = Duration::from_secs(REPORT_EVERY_S as u64);

/// What the version before took when the attempt `id` began.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    id: String,
    memory_bytes: Option<u64>,
}

/// Vouches for the agent's version.
#[derive(Clone)]
pub struct Witness {
    voucher: Voucher,
    ledger: Ledger,
    report: Arc<dyn Fn(&SignedHealth) + Send + Sync>,
    told: Option<(HealthReport, Instant)>,
}

impl Witness {
    /// One that has said nothing. `report` takes what it says.
    pub fn new(voucher: Voucher, ledger: Ledger, report: Arc<dyn Fn(&SignedHealth) + Send + Sync>) -> Self {
        Self { voucher, ledger, report, told: None }
    }

    /// Keeps what this version takes, for the one that the attempt `id` starts.
    pub(super) fn before(&self, id: &str) {
        let before = Before { id: id.to_owned(), memory_bytes: observe::resident_bytes() };
        let kept = self.ledger.put(KEY, &serde_json::to_vec(&before).expect("measures have only text keys"));
        if let Err(error) = kept {
            // The new version then has nothing to be compared with, and says so.
            tracing::warn!(%error, "what this version takes could not be kept");
        }
    }

    /// Says what can be vouched for of `desired`, when that is another thing or due.
    pub(super) fn tell(&mut self, desired: &DesiredRelease, status: &ReleaseStatus) {
        let Some(binary) = desired.binary(std::env::consts::ARCH) else { return };
        let runs = status.active_counter == desired.counter;
        let health = match status.state {
            ReleaseState::Trial if runs => Health::Watching,
            ReleaseState::Ready if runs => Health::Healthy,
            ReleaseState::RolledBack => Health::Unhealthy,
            _ => return,
        };
        let about = (desired.counter, binary.digest);
        let report = self.voucher.report(Subject::Release, about, desired.deployment, health);
        let report = HealthReport { reason: status.error.clone(), ..report };
        let now = Instant::now();
        if let Some((told, at)) = &self.told {
            let same = (told.digest, told.deployment, told.health) == (report.digest, report.deployment, report.health);
            if same && (health != Health::Watching || now - *at < EVERY) {
                return;
            }
        }
        let of = |memory_bytes| Measures { memory_bytes, ..Measures::default() };
        let report = match health {
            Health::Unhealthy => report,
            Health::Watching | Health::Healthy => HealthReport {
                candidate: of(observe::resident_bytes()),
                baseline: self.baseline(&desired.attempt()).map(|bytes| of(Some(bytes))),
                ..report
            },
        };
        if let Some(signed) = self.voucher.sign(&report) {
            (self.report)(&signed);
            self.told = Some((report, now));
        }
    }

    fn baseline(&self, id: &str) -> Option<u64> {
        let before: Before = serde_json::from_slice(&self.ledger.get(KEY).ok()??).ok()?;
        before.memory_bytes.filter(|_| before.id == id)
    }
}
