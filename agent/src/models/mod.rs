//! Reconciles the models that intent asks for with those that run: fetch, verify, load beside, check, activate.
//!
//! [`Reconciler::restore`] brings back what ran last, from disk alone; [`Reconciler::run`] then follows intent, one worker per
//! model, so that a model that fails never holds up another. Nothing here takes orders: a worker reads what is desired and
//! what is there, plans ([`plan`]), and acts. What answers is never taken away because something new failed.

mod fetch;
mod plan;
mod runner;
mod slots;
#[cfg(test)]
mod tests;
mod worker;

#[cfg(test)]
pub(crate) use fetch::fetch;
pub use fetch::{FetchError, Source};
pub use plan::{Present, Slot, Step, plan};
pub use runner::Runner;
pub use slots::{Kept, KeptModel, Slots};

use crate::clock;
use crate::neighbours::Neighbours;
use crate::state::{Chunks, LedgerError, Pins};
use aidos_protocol::ModelName;
use aidos_protocol::artifact::Digest;
use aidos_protocol::twin::{DesiredModel, ModelState, ModelStatus};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Downloads at a time: more would share the same link and each finish later.
const DOWNLOADS: usize = 2;
/// How long a shutdown waits for a model that is being loaded.
const GRACE: Duration = Duration::from_secs(5);

/// What intent asks for: models by name.
pub type Desired = Arc<BTreeMap<ModelName, DesiredModel>>;

/// Where the status of models goes: `models/<name>` of the device's twin.
pub trait Report: Send + Sync + 'static {
    /// The status of a model has changed; `None`: there is no such model any more.
    fn model(&self, name: &ModelName, status: Option<&ModelStatus>);
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
    slots: Slots,
    pins: Pins,
    neighbours: Neighbours,
    downloads: Semaphore,
    retry: Notify,
    state: Mutex<State>,
    collecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    desired: Desired,
    present: BTreeMap<ModelName, Memory>,
    statuses: BTreeMap<ModelName, ModelStatus>,
}

/// What is in memory of one model.
#[derive(Default, Clone)]
struct Memory {
    active: Option<Slot>,
    loaded: BTreeSet<Slot>,
    engine: String,
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
        slots: Slots,
        pins: Pins,
        neighbours: Neighbours,
    ) -> Self {
        let inner = Inner {
            runner,
            source,
            report,
            store,
            slots,
            pins,
            neighbours,
            downloads: Semaphore::new(DOWNLOADS),
            retry: Notify::new(),
            state: Mutex::default(),
            collecting: tokio::sync::Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Loads what ran last, from disk alone. A version that does not load any more gives way to the one before it.
    pub async fn restore(&self) -> Result<(), LedgerError> {
        let slots = self.inner.slots.clone();
        let kept = tokio::task::spawn_blocking(move || slots.all()).await.map_err(|_| LedgerError::Closed)??;
        for (name, model) in kept {
            let mut error = String::new();
            for kept in [model.active, model.previous].into_iter().flatten() {
                match self.inner.bring_back(&name, &kept).await {
                    Ok(()) => break,
                    Err(reason) => {
                        tracing::error!(model = %name, version = kept.slot.version, %reason, "a model did not come back from disk");
                        error = format!("version {} did not load after the restart: {reason}", kept.slot.version);
                    }
                }
            }
            let state = if error.is_empty() { ModelState::Ready } else { ModelState::Failed };
            self.inner.report_state(&name, None, state, error);
        }
        Ok(())
    }

    /// Follows `desired` until `cancel`. Returns when every worker has ended, or after a few seconds.
    pub async fn run(self, mut desired: watch::Receiver<Desired>, cancel: CancellationToken) {
        let mut workers: BTreeMap<ModelName, Worker> = BTreeMap::new();
        loop {
            let want = desired.borrow_and_update().clone();
            self.inner.state().desired = Arc::clone(&want);
            let mut names: BTreeSet<ModelName> = want.keys().chain(workers.keys()).cloned().collect();
            names.extend(self.inner.state().statuses.keys().cloned());
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
                let task = worker::start(Arc::clone(&self.inner), name.clone(), next.clone(), before, stop.clone());
                workers.insert(name, Worker { desired: next, cancel: stop, task });
            }
            workers.retain(|_, worker| worker.desired.is_some() || !worker.task.is_finished());
            tokio::select! {
                () = cancel.cancelled() => break,
                changed = desired.changed() => if changed.is_err() { cancel.cancelled().await; break },
                () = self.inner.retry.notified() => {
                    // Those that gave up begin anew; those at work are left alone.
                    workers.retain(|_, worker| !worker.task.is_finished());
                }
            }
        }
        let all = workers.into_values().map(|worker| worker.task);
        let _ = tokio::time::timeout(GRACE, futures::future::join_all(all)).await;
    }

    /// Tries again whatever has failed for good.
    pub fn retry(&self) {
        self.inner.retry.notify_one();
    }

    /// Where each model stands.
    pub fn statuses(&self) -> BTreeMap<ModelName, ModelStatus> {
        self.inner.state().statuses.clone()
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
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn bring_back(&self, name: &ModelName, kept: &Kept) -> Result<(), String> {
        let file = self.store.path(&kept.slot.digest).ok_or("its file is gone; it is fetched again once there is a link")?;
        let engine = self.runner.load(name, kept.slot.version, &file, kept.manifest.clone()).await?;
        self.runner.activate(name, kept.slot.version).await?;
        let memory = Memory { active: Some(kept.slot), loaded: BTreeSet::from([kept.slot]), engine };
        self.state().present.insert(name.clone(), memory);
        Ok(())
    }

    /// Sets where a model stands and tells it, when that is news.
    fn report_state(&self, name: &ModelName, desired: Option<u64>, state: ModelState, error: String) {
        let mut all = self.state();
        let memory = all.present.get(name).cloned().unwrap_or_default();
        let desired_version = desired.or_else(|| all.desired.get(name).map(|model| model.version));
        let before = all.statuses.get(name);
        let since_us = before.filter(|status| status.state == state).map_or_else(clock::now, |status| status.since_us);
        let status = ModelStatus {
            desired_version,
            active_version: memory.active.map(|slot| slot.version),
            previous_version: memory.loaded.iter().rev().find(|slot| Some(**slot) != memory.active).map(|slot| slot.version),
            state,
            error,
            deployment: all.desired.get(name).and_then(|model| model.deployment),
            digest: memory.active.map(|slot| slot.digest),
            engine: if memory.active.is_some() { memory.engine } else { String::new() },
            since_us,
        };
        if before != Some(&status) {
            all.statuses.insert(name.clone(), status.clone());
            drop(all);
            self.report.model(name, Some(&status));
        }
    }

    /// Removes from the store what neither intent nor a slot nor memory refers to, and no pin keeps.
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
            let state = self.state();
            let desired = state.desired.values().flat_map(|model| [Some(model.digest), model.manifest_digest]).flatten();
            let loaded = state.present.values().flat_map(|memory| memory.loaded.iter().map(|slot| slot.digest));
            desired.chain(loaded).collect()
        };
        let (store, slots, pins) = (self.store.clone(), self.slots.clone(), self.pins.clone());
        fetch::blocking(move || {
            needed.extend(slots.digests()?);
            if pinned {
                needed.extend(pins.kept(clock::now())?);
            } else {
                pins.clear()?;
            }
            store.collect(&needed)
        })
        .await
    }
}
