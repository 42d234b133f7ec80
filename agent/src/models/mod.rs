//! Reconciles the models that intent asks for with those that run.
//!
//! [`Reconciler::restore`] brings back what was committed last, from disk alone; [`Reconciler::run`] then follows intent, one
//! worker per model, so that a model that fails never holds up another. Nothing here decides: what is next for a model says
//! `update::step`; a worker writes that down, does it, and tells what came of it. What answers is never taken away because
//! something new failed.

mod fetch;
mod health;
mod own;
mod pace;
mod receive;
mod runner;
#[cfg(test)]
mod tests;
mod ways;
mod worker;

pub(crate) use fetch::fetch;
pub use fetch::{FetchError, Source};
pub use pace::Pace;
pub use runner::Runner;

use crate::clock;
use crate::infer::Place;
use crate::neighbours::Neighbours;
use crate::state::{Chunks, LedgerError, Pins, Tally};
use crate::trust::{PlanesWord, Vouch};
use crate::twin::Voucher;
use crate::update::{Effect, Event, Here, Journal, State, Surroundings, step};
use aidos_protocol::ModelName;
use aidos_protocol::artifact::Digest;
use aidos_protocol::twin::{DesiredModel, ModelState, ModelStatus, SignedHealth, Transfer};
use health::Told;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Downloads at a time: more would share the same link and each finish later.
const DOWNLOADS: usize = 2;
/// How long a download that was called off may take to let go of its file before it is left for the next collection: a flush of a
/// slow disk. Between two looks, a hundredth of it.
const LET_GO: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);
/// How long a shutdown waits for a model that is being loaded.
const GRACE: Duration = Duration::from_secs(5);

/// What intent asks for: models by name.
pub type Desired = Arc<BTreeMap<ModelName, DesiredModel>>;

/// Where the status of models goes.
pub trait Report: Send + Sync + 'static {
    /// The status of a model has changed; `None`: there is no such model any more.
    fn model(&self, name: &ModelName, status: Option<&ModelStatus>);
    /// The health report of a model is another one; `None`: there is no such model any more.
    fn health(&self, name: &ModelName, health: Option<&SignedHealth>);
    /// How the file of a model came is known; `None`: there is no such model any more.
    fn transfer(&self, name: &ModelName, transfer: Option<&Transfer>);
}

/// What the reconciler needs to know of its device.
#[derive(Clone)]
pub struct Setup {
    /// How the device fares.
    pub surroundings: Arc<dyn Surroundings>,
    /// How long it waits for what.
    pub pace: Pace,
    /// Who signs health reports; `None`: nobody is told any.
    pub voucher: Option<Voucher>,
    /// Whether what is decided is written down; not where an agent that does not run is only looked into.
    pub durable: bool,
    /// Who is asked for a file before the control plane.
    pub neighbours: Neighbours,
    /// Who is asked before anything is fetched.
    pub guard: Arc<dyn Vouch>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            surroundings: Arc::new(Here::default()),
            pace: Pace::default(),
            voucher: None,
            durable: true,
            neighbours: Neighbours::off(),
            guard: Arc::new(PlanesWord),
        }
    }
}

/// Follows intent. Cheap to clone.
#[derive(Clone)]
pub struct Reconciler {
    inner: Arc<Inner>,
}

struct Inner {
    runner: Arc<dyn Runner>,
    source: Arc<dyn Source>,
    report: Arc<dyn Report>,
    store: Chunks,
    journal: Journal,
    pins: Pins,
    setup: Setup,
    downloads: Semaphore,
    retry: Notify,
    known: Mutex<Known>,
    /// Held while a health report is made, so that an older one never follows a newer one.
    vouching: Mutex<()>,
    collecting: tokio::sync::Mutex<()>,
    /// Whether models were followed before in this process: then beginning again means trying again.
    began: AtomicBool,
}

#[derive(Default)]
struct Known {
    desired: Desired,
    models: BTreeMap<ModelName, State>,
    /// What the journal holds.
    written: BTreeMap<ModelName, String>,
    statuses: BTreeMap<ModelName, ModelStatus>,
    told: BTreeMap<ModelName, Told>,
}

struct Worker {
    desired: Option<DesiredModel>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Reconciler {
    /// A reconciler that has not begun.
    pub fn new(
        runner: Arc<dyn Runner>,
        source: Arc<dyn Source>,
        report: Arc<dyn Report>,
        store: Chunks,
        journal: Journal,
        pins: Pins,
        setup: Setup,
    ) -> Self {
        let inner = Inner {
            runner,
            source,
            report,
            store,
            journal,
            pins,
            setup,
            downloads: Semaphore::new(DOWNLOADS),
            retry: Notify::new(),
            known: Mutex::default(),
            vouching: Mutex::default(),
            collecting: tokio::sync::Mutex::default(),
            began: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Loads what was committed last, from disk alone. A version that does not load any more, or that keeps ending the
    /// process, gives way to the one before it.
    pub async fn restore(&self) -> Result<(), LedgerError> {
        let inner = &self.inner;
        let journal = inner.journal.clone();
        let kept = tokio::task::spawn_blocking(move || journal.all()).await.map_err(|_| LedgerError::Closed)??;
        // One, since one bad model ends the process for all of them.
        let suspects = kept.iter().filter_map(|(name, state)| Some((state.suspect()?, name.clone())));
        let charged = suspects.max().map(|((_, slot), name)| (name, slot));
        for (name, state) in kept {
            let charged = charged.as_ref().filter(|(is, _)| *is == name).map(|(_, slot)| *slot);
            if let Ok(text) = crate::update::text(&state) {
                inner.known().written.insert(name.clone(), text);
            }
            inner.known().models.insert(name.clone(), state);
            let update = inner.known().models.get(&name).and_then(|state| state.update.as_ref().map(|update| update.slot()));
            if let Some(slot) = update {
                inner.tell_transfer(&name, slot.version, slot.digest).await;
            }
            let mut effect = inner.tell_once(&name, Event::Restarted { charged }).await;
            while let Some(next) = effect.filter(|next| matches!(next, Effect::Load(_) | Effect::Unload(_) | Effect::Activate(_)))
            {
                if inner.known().models.get(&name).is_none_or(|state| state.answers.is_none() || state.memory.active.is_some()) {
                    break;
                }
                let event = inner.place(&name, &next).await;
                if let Event::LoadFailed(_, reason, _) | Event::ActivateFailed(_, reason) = &event {
                    tracing::error!(model = %name, %reason, "a model did not come back from disk");
                }
                effect = inner.tell_once(&name, event).await;
            }
        }
        Ok(())
    }

    /// Follows `desired` until `cancel`. Returns when every worker has ended, or after a few seconds.
    pub async fn run(self, mut desired: watch::Receiver<Desired>, cancel: CancellationToken) {
        let mut workers: BTreeMap<ModelName, Worker> = BTreeMap::new();
        let mut again = self.inner.began.swap(true, Ordering::AcqRel);
        let mut look = tokio::time::interval(self.inner.setup.pace.report.min(Duration::from_secs(5)));
        loop {
            let want = desired.borrow_and_update().clone();
            self.inner.known().desired = Arc::clone(&want);
            let mut names: BTreeSet<ModelName> = want.keys().chain(workers.keys()).cloned().collect();
            names.extend(self.inner.known().models.keys().cloned());
            for name in names {
                let next = want.get(&name).cloned();
                if workers.get(&name).is_some_and(|worker| worker.desired == next) {
                    continue;
                }
                let before = workers.remove(&name).map(|worker| {
                    worker.cancel.cancel();
                    worker.task
                });
                let stop = cancel.child_token();
                let task = worker::start(Arc::clone(&self.inner), name.clone(), next.clone(), again, before, stop.clone());
                workers.insert(name, Worker { desired: next, cancel: stop, task });
            }
            again = false;
            workers.retain(|_, worker| worker.desired.is_some() || !worker.task.is_finished());
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return self.end(workers).await,
                    changed = desired.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => {
                            cancel.cancelled().await;
                            return self.end(workers).await;
                        }
                    },
                    () = self.inner.retry.notified() => {
                        // Those that came to rest begin anew; those at work are left alone.
                        workers.retain(|_, worker| !worker.task.is_finished());
                        again = true;
                        break;
                    }
                    _ = look.tick() => {
                        let names: Vec<ModelName> = self.inner.known().models.keys().cloned().collect();
                        names.iter().for_each(|name| self.inner.vouch(name));
                    }
                }
            }
        }
    }

    async fn end(&self, workers: BTreeMap<ModelName, Worker>) {
        let all = workers.into_values().map(|worker| worker.task);
        if tokio::time::timeout(GRACE, futures::future::join_all(all)).await.is_err() {
            tracing::warn!("a model was still being loaded when the agent had to end");
        }
        let names: Vec<ModelName> = self.inner.known().models.keys().cloned().collect();
        for name in names {
            self.inner.tell_once(&name, Event::Stopping).await;
        }
    }

    /// Tries again whatever was given up.
    pub fn retry(&self) {
        self.inner.retry.notify_one();
    }

    /// Where each model stands.
    pub fn statuses(&self) -> BTreeMap<ModelName, ModelStatus> {
        self.inner.known().statuses.clone()
    }

    /// Reads every stored file and removes what has rotted; returns the digests of those. Takes as long as reading them does.
    pub async fn verify_files(&self) -> Result<Vec<Digest>, FetchError> {
        let store = self.inner.store.clone();
        fetch::blocking(move || {
            let mut rotten = Vec::new();
            for (digest, _) in store.list()? {
                if !store.verify(&digest)? {
                    rotten.push(digest);
                }
            }
            Ok(rotten)
        })
        .await
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the machine of `name` one step on: what it decided is on disk before this returns, and what it reports is told.
    /// `None`: `stop` came first, and nothing has changed.
    async fn tell(&self, name: &ModelName, event: Event, stop: &CancellationToken) -> Option<Option<Effect>> {
        let (state, effect) = self.judge(name, event);
        let mut failures = 0;
        while let Err(error) = self.write(name, &state).await {
            tracing::error!(model = %name, %error, "what is decided of a model cannot be written; nothing is done before it is");
            self.show(name, Some(format!("nothing goes on: {error}")));
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(self.setup.pace.pause(failures, rand::random())) => failures += 1,
            }
        }
        self.adopt(name, state);
        Some(effect)
    }

    /// The same, for times when a disk that cannot be written must not keep a model from answering, or the agent from ending.
    async fn tell_once(&self, name: &ModelName, event: Event) -> Option<Effect> {
        let (state, effect) = self.judge(name, event);
        if let Err(error) = self.write(name, &state).await {
            tracing::error!(model = %name, %error, "what is decided of a model cannot be written; it goes on all the same");
        }
        self.adopt(name, state);
        effect
    }

    fn judge(&self, name: &ModelName, event: Event) -> (State, Option<Effect>) {
        let state = self.known().models.get(name).cloned().unwrap_or_default();
        step(state, event, self.setup.surroundings.time())
    }

    async fn write(&self, name: &ModelName, state: &State) -> Result<(), LedgerError> {
        let text = crate::update::text(state)?;
        if !self.setup.durable || self.known().written.get(name) == Some(&text) {
            return Ok(());
        }
        self.journal.write(name.clone(), state).await?;
        self.known().written.insert(name.clone(), text);
        Ok(())
    }

    fn adopt(&self, name: &ModelName, state: State) {
        let trial = state.trial();
        let before = self.known().models.insert(name.clone(), state).and_then(|before| before.trial());
        if trial.is_some() && before.is_none() {
            // Both are measured over the same time.
            self.runner.mark(name, Place::Active);
            self.runner.mark(name, Place::Beside);
        }
        self.runner.experiment(name, trial.map(|(slot, experiment)| (slot.version, experiment)));
        self.show(name, None);
        self.vouch(name);
    }

    /// Tells where a model stands, when that is news. `trouble` stands in for the machine's reason.
    fn show(&self, name: &ModelName, trouble: Option<String>) {
        let mut known = self.known();
        let Some(state) = known.models.get(name) else { return };
        let (standing, reason) = state.standing();
        let memory = &state.memory;
        let desired = known.desired.get(name);
        let update = state.update.as_ref();
        let before = known.statuses.get(name);
        let since_us = before.filter(|status| status.state == standing).map_or_else(clock::now, |status| status.since_us);
        let status = ModelStatus {
            desired_version: desired.map(|model| model.version).or_else(|| update.map(|update| update.desired.version)),
            active_version: memory.active.map(|slot| slot.version),
            previous_version: memory.loaded.iter().rev().find(|slot| Some(**slot) != memory.active).map(|slot| slot.version),
            state: standing,
            error: trouble.unwrap_or(reason),
            deployment: update.and_then(|update| update.desired.deployment),
            digest: memory.active.map(|slot| slot.digest),
            engine: if memory.active.is_some() { memory.engine.clone() } else { String::new() },
            since_us,
        };
        if before != Some(&status) {
            known.statuses.insert(name.clone(), status.clone());
            drop(known);
            if matches!(status.state, ModelState::Failed | ModelState::RolledBack) {
                tracing::warn!(model = %name, version = status.desired_version, reason = %status.error, "the model is not as desired");
            }
            self.report.model(name, Some(&status));
        }
    }

    /// There is no such model any more.
    fn forgotten(&self, name: &ModelName) {
        let mut known = self.known();
        known.models.remove(name);
        known.written.remove(name);
        known.statuses.remove(name);
        known.told.remove(name);
        drop(known);
        self.report.model(name, None);
        self.report.health(name, None);
        self.report.transfer(name, None);
    }

    /// Tells how the file of a version came, where that was counted.
    async fn tell_transfer(&self, name: &ModelName, version: u64, digest: Digest) {
        let store = self.store.clone();
        match fetch::blocking(move || store.tally(&digest)).await {
            Ok(Some(Tally { size, fetched, near, way: Some(way) })) => {
                self.report.transfer(name, Some(&Transfer { version, digest, size, fetched, near, way }));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(model = %name, %error, "how a model's file came cannot be read"),
        }
    }

    /// Removes from the store what neither intent nor a machine refers to, and no pin keeps.
    async fn collect(&self) -> Result<u64, FetchError> {
        self.collect_with(true).await
    }

    /// The same when there is no room: what was only brought ahead of its deployment goes, too.
    async fn make_room(&self) -> Result<u64, FetchError> {
        self.collect_with(false).await
    }

    async fn collect_with(&self, pinned: bool) -> Result<u64, FetchError> {
        let _one = self.collecting.lock().await;
        let mut needed: HashSet<Digest> = {
            let known = self.known();
            let given_up = |name: &ModelName| {
                known.models.get(name).and_then(|state| state.update.as_ref()).is_some_and(|update| update.is_given_up())
            };
            let desired = known.desired.iter().filter(|(name, _)| !given_up(name));
            let desired =
                desired.flat_map(|(_, model)| [Some(model.digest), model.manifest_digest, model.golden_digest]).flatten();
            desired.chain(known.models.values().flat_map(State::digests)).collect()
        };
        let (store, pins) = (self.store.clone(), self.pins.clone());
        fetch::blocking(move || {
            if pinned {
                needed.extend(pins.kept(clock::now())?);
            } else {
                pins.clear()?;
            }
            // What was called off a moment ago is still being written to the disk; then it lets go.
            let begun = std::time::Instant::now();
            while store.runs_beyond(&needed)? && begun.elapsed() < LET_GO {
                std::thread::sleep(LOOK);
            }
            store.collect(&needed)
        })
        .await
    }
}
