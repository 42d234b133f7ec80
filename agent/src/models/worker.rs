//! Brings one model to what is desired of it, and tries again with pauses when that fails.
//!
//! Invariant: a worker begins only after the one before it for the same model has ended, and stops between two steps, so
//! what is known to be in memory always is.

use super::fetch::{FetchError, fetch};
use super::{Inner, Kept, Present, Slot, Step, plan};
use crate::link::LinkError;
use crate::state::{ChunkError, LedgerError};
use aidos_protocol::ModelName;
use aidos_protocol::artifact::Digest;
use aidos_protocol::manifest::Manifest;
use aidos_protocol::twin::{DesiredModel, ModelState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The first pause after a failure; it doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: what a person who mends something waits for at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Attempts at what fails by itself (a file that does not load): more would only wear the device.
/// A new intent, a restart or `restart models` tries anew.
const FINAL_ATTEMPTS: u32 = 3;

/// Why an attempt failed, and what that means for the next one.
#[derive(Debug)]
enum Failure {
    /// There is no link; wait for it.
    Offline(String),
    /// May go better later.
    Passing(String),
    /// Will most likely fail again.
    Final(String),
    /// Another desire came, or the agent ends.
    Stopped,
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let text = error.to_string();
        match error {
            FetchError::Link(LinkError::Offline) => Self::Offline(text),
            FetchError::Refused { .. } | FetchError::Length { .. } => Self::Final(text),
            FetchError::Store(ChunkError::Size { .. } | ChunkError::Mismatch { .. } | ChunkError::TooLong { .. }) => {
                Self::Final(text)
            }
            FetchError::Stopping => Self::Stopped,
            _ => Self::Passing(text),
        }
    }
}
impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        Self::Passing(error.to_string())
    }
}

/// Starts the worker; it waits for `before` first.
pub(super) fn start(
    inner: Arc<Inner>,
    name: ModelName,
    desired: Option<DesiredModel>,
    before: Option<JoinHandle<()>>,
    stop: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Some(before) = before {
            // Its panic, if it had one, was its own.
            let _ = before.await;
        }
        follow(&inner, &name, desired.as_ref(), &stop).await;
    })
}

async fn follow(inner: &Inner, name: &ModelName, desired: Option<&DesiredModel>, stop: &CancellationToken) {
    let version = desired.map(|desired| desired.version);
    let mut failures = 0u32;
    while !stop.is_cancelled() {
        let outcome = match desired {
            Some(desired) => reach(inner, name, desired, stop).await,
            None => forget(inner, name).await,
        };
        let (state, text, reachable) = match outcome {
            Ok(()) => {
                if let Err(error) = inner.collect().await {
                    tracing::warn!(%error, "files that nothing needs could not be removed");
                }
                return;
            }
            Err(Failure::Stopped) => return,
            Err(Failure::Offline(text)) => (ModelState::Pending, text, true),
            Err(Failure::Passing(text)) => (ModelState::Failed, text, true),
            Err(Failure::Final(text)) => (ModelState::Failed, text, failures + 1 < FINAL_ATTEMPTS),
        };
        tracing::warn!(model = %name, version, attempt = failures + 1, error = %text, "the model is not as desired");
        if desired.is_some() {
            inner.report_state(name, version, state, text);
        }
        if !reachable {
            return;
        }
        let pause = pause(failures, rand::random());
        failures = failures.saturating_add(1);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = inner.source.reachable(), if state == ModelState::Pending => {}
        }
    }
}

/// Half to all of a pause that doubles: `jitter` is 0 to 1, and keeps a fleet from asking all at once.
fn pause(failures: u32, jitter: f64) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
    whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

async fn forget(inner: &Inner, name: &ModelName) -> Result<(), Failure> {
    let memory = inner.state().present.get(name).cloned().unwrap_or_default();
    // Durable first: a crash after it leaves a model in no memory and on no list.
    inner.slots.forget(name.clone()).await?;
    for slot in &memory.loaded {
        inner.runner.unload(name, slot.version).await;
    }
    let mut state = inner.state();
    state.present.remove(name);
    state.statuses.remove(name);
    drop(state);
    inner.report.model(name, None);
    Ok(())
}

async fn reach(inner: &Inner, name: &ModelName, desired: &DesiredModel, stop: &CancellationToken) -> Result<(), Failure> {
    let slot = Slot { version: desired.version, digest: desired.digest };
    let memory = inner.state().present.get(name).cloned().unwrap_or_default();
    let file = inner.store.path(&slot.digest).is_some();
    let present = Present { active: memory.active, loaded: memory.loaded, file };
    let say = |state| inner.report_state(name, Some(slot.version), state, String::new());
    for step in plan(Some(slot), &present) {
        if stop.is_cancelled() {
            return Err(Failure::Stopped);
        }
        match step {
            Step::Fetch => {
                say(ModelState::Pending);
                let _seat = inner.downloads.acquire().await.map_err(|_| Failure::Stopped)?;
                say(ModelState::Downloading);
                obtain(inner, slot.digest, Some(desired.size), stop).await?;
                say(ModelState::Verifying);
            }
            Step::Load => {
                say(ModelState::Loading);
                load(inner, name, slot, desired, stop).await?;
            }
            Step::Check => {
                if let Err(reason) = inner.runner.check(name, slot.version).await {
                    drop_loaded(inner, name, slot).await;
                    return Err(Failure::Final(reason));
                }
            }
            Step::Activate => activate(inner, name, slot, desired, stop).await?,
            Step::Unload(version) => {
                inner.runner.unload(name, version).await;
                if let Some(memory) = inner.state().present.get_mut(name) {
                    memory.loaded.retain(|slot| slot.version != version);
                }
            }
            Step::Forget => {}
        }
    }
    say(ModelState::Ready);
    Ok(())
}

async fn obtain(inner: &Inner, digest: Digest, size: Option<u64>, stop: &CancellationToken) -> Result<PathBuf, Failure> {
    let attempt = async {
        match fetch(&*inner.source, &inner.neighbours, &inner.store, digest, size).await {
            Err(FetchError::Store(ChunkError::StoreFull { .. } | ChunkError::NoSpace { .. })) if inner.make_room().await? > 0 => {
                fetch(&*inner.source, &inner.neighbours, &inner.store, digest, size).await
            }
            other => other,
        }
    };
    tokio::select! {
        () = stop.cancelled() => Err(Failure::Stopped),
        fetched = attempt => Ok(fetched?),
    }
}

/// The manifest: as intent carries it, or as the artifact it names.
async fn manifest(inner: &Inner, desired: &DesiredModel, stop: &CancellationToken) -> Result<Manifest, Failure> {
    if let Some(manifest) = &desired.manifest {
        return Ok(manifest.clone());
    }
    let Some(digest) = desired.manifest_digest else { return Ok(Manifest::default()) };
    let path = obtain(inner, digest, None, stop).await?;
    let bytes = tokio::fs::read(&path).await.map_err(|error| Failure::Passing(format!("{}: {error}", path.display())))?;
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::Final(format!("the model's manifest cannot be read: {error}")))?;
    manifest.check().map_err(|error| Failure::Final(error.to_string()))?;
    Ok(manifest)
}

async fn load(
    inner: &Inner,
    name: &ModelName,
    slot: Slot,
    desired: &DesiredModel,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let manifest = manifest(inner, desired, stop).await?;
    let Some(file) = inner.store.path(&slot.digest) else {
        return Err(Failure::Passing("the model's file is gone; it is fetched again".into()));
    };
    match inner.runner.load(name, slot.version, &file, manifest).await {
        Ok(engine) => {
            let mut state = inner.state();
            let memory = state.present.entry(name.clone()).or_default();
            memory.loaded.retain(|loaded| loaded.version != slot.version);
            memory.loaded.insert(slot);
            if let Some(active) = memory.active.as_mut().filter(|active| active.version == slot.version) {
                *active = slot;
            }
            memory.engine = engine;
            Ok(())
        }
        Err(reason) => {
            // A file that has rotted on disk does not load either; then it is removed here and fetched again.
            let store = inner.store.clone();
            let whole = super::fetch::blocking(move || store.verify(&slot.digest)).await?;
            if whole {
                Err(Failure::Final(reason))
            } else {
                Err(Failure::Passing(format!("the stored file was damaged: {reason}")))
            }
        }
    }
}

async fn activate(
    inner: &Inner,
    name: &ModelName,
    slot: Slot,
    desired: &DesiredModel,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let kept = Kept { slot, manifest: manifest(inner, desired, stop).await? };
    inner.slots.activate(name.clone(), kept).await?;
    inner.runner.activate(name, slot.version).await.map_err(Failure::Passing)?;
    if let Some(memory) = inner.state().present.get_mut(name) {
        memory.active = Some(slot);
    }
    tracing::info!(model = %name, version = slot.version, "the model answers");
    Ok(())
}

async fn drop_loaded(inner: &Inner, name: &ModelName, slot: Slot) {
    // One that already answers (same number, other bytes) stays: no answer would be worse.
    if inner.state().present.get(name).is_some_and(|memory| memory.active == Some(slot)) {
        return;
    }
    inner.runner.unload(name, slot.version).await;
    if let Some(memory) = inner.state().present.get_mut(name) {
        memory.loaded.remove(&slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_never_vanish() {
        assert_eq!(pause(0, 1.0), Duration::from_secs(1));
        assert_eq!(pause(3, 0.0), Duration::from_secs(4));
        assert_eq!(pause(40, 1.0), LONGEST_PAUSE);
    }
}
