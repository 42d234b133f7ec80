//! The signed health report of each model: at turning points, and in between as long as there is something new to say.
//!
//! It says what the machine vouches for ([`State::verdict`]), never what is merely on its way.

use super::{Inner, Runner};
use crate::infer::Place;
use crate::observe;
use crate::update::{Slot, State};
use aidos_protocol::twin::health::REPORT_EVERY_S;
use aidos_protocol::twin::{Health, HealthReport, Measures};
use aidos_protocol::{DeploymentId, ModelName};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// The least time between two reports that say the same.
pub(super) const EVERY: Duration = Duration::from_secs(REPORT_EVERY_S as u64);
/// For so long after a verdict its measures are kept fresh at that rate: gates and soaks end within it.
const FRESH: Duration = Duration::from_secs(3_600);
/// Afterwards a report is due this many times more rarely.
const RARELY: u32 = 30;

/// What was told last of a model.
#[derive(Debug, Clone)]
pub(super) struct Told {
    verdict: Verdict,
    measures: (Measures, Option<Measures>),
    since: Instant,
    at: Instant,
}

type Verdict = (Slot, Option<DeploymentId>, Health, String);

fn verdict(state: &State) -> Option<Verdict> {
    let (health, reason) = state.verdict()?;
    let update = state.update.as_ref()?;
    Some((update.slot(), update.desired.deployment, health, reason))
}

/// What the version and the one before it did.
fn measures(runner: &dyn Runner, name: &ModelName, state: &State, slot: Slot) -> (Measures, Option<Measures>) {
    let place = if state.memory.active == Some(slot) { Place::Active } else { Place::Beside };
    let there = state.memory.loaded.contains(&slot);
    let mut candidate = there.then(|| runner.measures(name, place)).flatten().unwrap_or_default();
    candidate.memory_bytes = observe::resident_bytes();
    let trial = state.trial().and_then(|_| runner.measures(name, Place::Active));
    let baseline = trial.or_else(|| state.update.as_ref().and_then(|update| update.baseline.clone()));
    (candidate, baseline)
}

impl Inner {
    /// Reports the health of a model when its verdict is another one, or when it is due and there is something new.
    pub(super) fn vouch(&self, name: &ModelName) {
        let Some(voucher) = &self.setup.voucher else { return };
        let _order = self.vouching.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, told) = {
            let known = self.known();
            let Some(state) = known.models.get(name).cloned() else { return };
            (state, known.told.get(name).cloned())
        };
        let Some(verdict) = verdict(&state) else { return };
        let same = told.filter(|told| told.verdict == verdict);
        let now = Instant::now();
        if let Some(told) = &same {
            let every = if now - told.since < FRESH { self.setup.pace.report } else { self.setup.pace.report * RARELY };
            if now - told.at < every {
                return;
            }
        }
        let measures = measures(&*self.runner, name, &state, verdict.0);
        let said = |(candidate, baseline): &(Measures, Option<Measures>)| {
            // Memory alone is no news.
            (Measures { memory_bytes: None, ..candidate.clone() }, baseline.clone())
        };
        if same.as_ref().is_some_and(|told| said(&told.measures) == said(&measures)) {
            return;
        }
        let (slot, deployment, health, reason) = verdict.clone();
        let report = HealthReport {
            reason,
            self_test: state.update.as_ref().and_then(|update| update.self_test.clone()),
            candidate: measures.0.clone(),
            baseline: measures.1.clone(),
            ..voucher.report(name.clone().into(), (slot.version, slot.digest), deployment, health)
        };
        if let Some(signed) = voucher.sign(&report) {
            self.report.health(name, Some(&signed));
            let since = same.map_or(now, |told| told.since);
            self.known().told.insert(name.clone(), Told { verdict, measures, since, at: now });
        }
    }
}
