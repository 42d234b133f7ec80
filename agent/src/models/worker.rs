//! Does what the machine of one model says, one thing after the other, and tells it what came of it.
//!
//! Invariant: a worker begins only after the one before it for the same model has ended, and stops only where nothing is half
//! done, so what is known to be in memory always is.

use super::Inner;
use super::fetch::{FetchError, blocking, fetch};
use crate::infer::Place;
use crate::link::LinkError;
use crate::state::ChunkError;
use crate::trust::Unvouched;
use crate::update::{Effect, Event, Kept, Measured, Slot, Trouble, WaitKind};
use aidos_protocol::ModelName;
use aidos_protocol::artifact::{Digest, MAX_CHUNK_BYTES};
use aidos_protocol::golden::{Golden, MAX_GOLDEN_BYTES};
use aidos_protocol::manifest::Manifest;
use aidos_protocol::trust::Wanted;
use aidos_protocol::twin::DesiredModel;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Bytes that an attempt which broke must have brought to be gone on from at once: more than a chunk, so that each such attempt
/// ends with more than the one before, and all of them together end.
const WORTH: u64 = MAX_CHUNK_BYTES as u64 + 1;

impl From<FetchError> for Event {
    fn from(error: FetchError) -> Self {
        let text = error.to_string();
        let trouble = match error {
            FetchError::Link(LinkError::Offline) => Trouble::Link,
            FetchError::Refused { .. } | FetchError::Length { .. } => Trouble::Final,
            FetchError::Store(ChunkError::Size { .. } | ChunkError::Mismatch { .. } | ChunkError::TooLong { .. }) => {
                Trouble::Final
            }
            FetchError::Store(error) if error.is_for_want_of_room() => Trouble::Room,
            _ => Trouble::Passing,
        };
        Self::Failed(trouble, text)
    }
}

/// Doublings of the pause before a signature is looked for again: a person who has just signed waits for about a minute.
const LONGEST_UNSIGNED: u32 = 6;

impl From<Unvouched> for Event {
    fn from(error: Unvouched) -> Self {
        let trouble = match &error {
            Unvouched::Store(_) => Trouble::Passing,
            error if error.is_final() => Trouble::Forged,
            _ => Trouble::Unsigned,
        };
        Self::Failed(trouble, error.to_string())
    }
}

/// Starts the worker; it waits for `before` first. `again`: what was given up is to be tried again.
pub(super) fn start(
    inner: Arc<Inner>,
    name: ModelName,
    desired: Option<DesiredModel>,
    again: bool,
    before: Option<JoinHandle<()>>,
    stop: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let called_off = before.is_some();
        if let Some(before) = before {
            // Its panic, if it had one, was its own.
            let _ = before.await;
        }
        follow(&inner, &name, desired, (again, called_off), &stop).await;
    })
}

async fn follow(
    inner: &Inner,
    name: &ModelName,
    desired: Option<DesiredModel>,
    (again, called_off): (bool, bool),
    stop: &CancellationToken,
) {
    let gone = desired.is_none();
    let Some(mut effect) = inner.tell(name, Event::Desire(desired.map(Box::new)), stop).await else { return };
    if called_off {
        // What had come of it takes room until then.
        clear(inner).await;
    }
    if again {
        let Some(next) = inner.tell(name, Event::Retry, stop).await else { return };
        effect = next;
    }
    let mut watch = Watch::default();
    while let Some(next) = effect {
        if stop.is_cancelled() {
            return;
        }
        let event = tokio::select! {
            // What has begun to change the memory is not left half done.
            event = inner.place(name, &next), if changes_memory(&next) => Some(event),
            () = stop.cancelled(), if !changes_memory(&next) => None,
            event = inner.act(name, &next, &mut watch), if !changes_memory(&next) => event,
        };
        let Some(event) = event else { return };
        let Some(then) = inner.tell(name, event, stop).await else { return };
        effect = then;
    }
    if gone {
        inner.forgotten(name);
    }
    clear(inner).await;
}

async fn clear(inner: &Inner) {
    if let Err(error) = inner.collect().await {
        tracing::warn!(%error, "files that nothing needs could not be removed");
    }
}

fn changes_memory(effect: &Effect) -> bool {
    matches!(effect, Effect::Load(_) | Effect::Unload(_) | Effect::Activate(_))
}

/// Counts the seconds of a watch by a clock that does not jump.
#[derive(Debug, Default)]
struct Watch {
    of: Option<(Slot, Instant)>,
    counted: u32,
}

impl Watch {
    /// Whole seconds since the last call for the same version.
    fn seconds(&mut self, slot: Slot) -> u32 {
        match self.of {
            Some((is, since)) if is == slot => {
                let all = u32::try_from(since.elapsed().as_secs()).unwrap_or(u32::MAX);
                all - std::mem::replace(&mut self.counted, all)
            }
            _ => {
                *self = Self { of: Some((slot, Instant::now())), counted: 0 };
                0
            }
        }
    }
}

impl Inner {
    fn desired(&self, name: &ModelName) -> Option<DesiredModel> {
        self.known().models.get(name).and_then(|state| Some(state.update.as_ref()?.desired.clone()))
    }

    /// Changes what is in memory. Ends by itself in bounded time.
    pub(super) async fn place(&self, name: &ModelName, effect: &Effect) -> Event {
        match effect {
            Effect::Load(kept) => self.load(name, kept).await,
            Effect::Unload(slot) => {
                self.runner.unload(name, slot.version).await;
                Event::Unloaded(*slot)
            }
            Effect::Activate(slot) => {
                let baseline = self.runner.measures(name, Place::Active).filter(|measures| measures.requests > 0);
                match self.runner.activate(name, slot.version).await {
                    Ok(()) => {
                        self.runner.mark(name, Place::Active);
                        tracing::info!(model = %name, version = slot.version, "the model answers");
                        Event::Activated(*slot, baseline)
                    }
                    Err(reason) => Event::ActivateFailed(*slot, reason),
                }
            }
            _ => Event::Tick,
        }
    }

    /// Does what may be broken off at any time; `None`: there is nothing to do it for.
    async fn act(&self, name: &ModelName, effect: &Effect, watch: &mut Watch) -> Option<Event> {
        let pace = &self.setup.pace;
        let desired = self.desired(name);
        Some(match effect {
            Effect::Look => {
                let surroundings = Arc::clone(&self.setup.surroundings);
                let looked = tokio::task::spawn_blocking(move || surroundings.now()).await;
                looked.map_or_else(|_| Event::Failed(Trouble::Passing, "the sensors could not be read".into()), Event::Looked)
            }
            Effect::Pause(WaitKind::Vouched, tries) => {
                tokio::time::sleep(pace.pause(tries.saturating_sub(1).min(LONGEST_UNSIGNED), rand::random())).await;
                Event::Tick
            }
            Effect::Pause(WaitKind::Need, _) => {
                tokio::time::sleep(pace.look).await;
                Event::Tick
            }
            Effect::Pause(kind, tries) => {
                tokio::select! {
                    () = tokio::time::sleep(pace.pause(tries.saturating_sub(1), rand::random())) => {}
                    () = self.source.reachable(), if *kind == WaitKind::Link => {}
                }
                Event::Tick
            }
            Effect::Fetch => self.fetch_all(name, &desired?).await,
            Effect::Verify => self.verify(&desired?).await,
            Effect::Test(slot) => self.test(name, *slot, &desired?).await,
            Effect::Measure(slot) => {
                let before = watch.seconds(*slot);
                tokio::time::sleep(pace.watch).await;
                let candidate = self.runner.measures(name, Place::Active).unwrap_or_default();
                let elapsed_s = before.saturating_add(watch.seconds(*slot));
                Event::Measured(Box::new(Measured { candidate, elapsed_s }))
            }
            Effect::Settle => {
                tokio::time::sleep(pace.settle).await;
                Event::Settled
            }
            Effect::Load(_) | Effect::Unload(_) | Effect::Activate(_) => return None,
        })
    }

    async fn fetch_all(&self, name: &ModelName, desired: &DesiredModel) -> Event {
        // Before a byte of it is asked for.
        if let Err(error) = self.setup.guard.vouch(&Wanted::model(name, desired)).await {
            return error.into();
        }
        let Ok(_seat) = self.downloads.acquire().await else {
            return Event::Failed(Trouble::Passing, "the agent is stopping".into());
        };
        let files = [(Some(desired.digest), Some(desired.size)), (desired.manifest_digest, None), (desired.golden_digest, None)];
        // What runs now is what the new version is most like.
        let kin: Vec<Digest> = {
            let known = self.known();
            let loaded = known.models.get(name).map(|state| (state.memory.active, state.memory.loaded.clone()));
            loaded.into_iter().flat_map(|(active, loaded)| active.into_iter().chain(loaded)).map(|slot| slot.digest).collect()
        };
        for (digest, size) in files {
            if let Some(digest) = digest
                && let Err(error) = self.obtain(digest, size, &kin).await
            {
                return error.into();
            }
        }
        self.tell_transfer(name, desired.version, desired.digest).await;
        Event::Fetched
    }

    /// Brings a file. An attempt that broke after it brought something is no failure: the line is there, and the next attempt goes
    /// on at once, so that a line that is cut every few seconds is used between the cuts.
    async fn obtain(&self, digest: Digest, size: Option<u64>, kin: &[Digest]) -> Result<PathBuf, FetchError> {
        let fetched = || {
            let store = self.store.clone();
            async move { blocking(move || store.tally(&digest)).await.map(|tally| tally.map_or(0, |tally| tally.fetched)) }
        };
        let once = || fetch(&*self.source, &self.setup.neighbours, &self.store, digest, size, kin);
        let mut before = fetched().await?;
        loop {
            let broken = match once().await {
                Err(FetchError::Store(error)) if error.is_for_want_of_room() && self.make_room().await? > 0 => {
                    return once().await;
                }
                Err(error @ FetchError::Broken { .. }) => error,
                other => return other,
            };
            let now = fetched().await?;
            if now < before + WORTH {
                return Err(broken);
            }
            before = now;
            tracing::debug!(%digest, error = %broken, "the line broke; going on");
            tokio::time::sleep(self.setup.pace.pause(0, rand::random())).await;
        }
    }

    /// Reads everything that was fetched once more, whole.
    async fn verify(&self, desired: &DesiredModel) -> Event {
        for digest in [Some(desired.digest), desired.manifest_digest, desired.golden_digest].into_iter().flatten() {
            let store = self.store.clone();
            match blocking(move || store.verify(&digest)).await {
                Ok(true) => {}
                Ok(false) => return Event::Failed(Trouble::Damaged, format!("the stored file of {digest} was damaged")),
                Err(error) => return error.into(),
            }
        }
        if let Some(Err(event)) = self.cases(desired).await {
            return event;
        }
        match self.manifest(desired).await {
            Ok(manifest) => Event::Verified(Box::new(manifest)),
            Err(event) => event,
        }
    }

    /// The manifest: as intent carries it, or as the artifact it names.
    async fn manifest(&self, desired: &DesiredModel) -> Result<Manifest, Event> {
        if let Some(manifest) = &desired.manifest {
            return Ok(manifest.clone());
        }
        let Some(digest) = desired.manifest_digest else { return Ok(Manifest::default()) };
        let bytes = self.read(digest).await?;
        let wrong = |reason: String| Event::Failed(Trouble::Final, format!("the model's manifest cannot be read: {reason}"));
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        manifest.check().map_err(|error| wrong(error.to_string()))?;
        Ok(manifest)
    }

    /// The golden cases, where the model brings some.
    async fn cases(&self, desired: &DesiredModel) -> Option<Result<Golden, Event>> {
        let digest = desired.golden_digest?;
        let read = async {
            let bytes = self.read(digest).await?;
            Golden::from_json(&bytes).map_err(|error| Event::Failed(Trouble::Final, error.to_string()))
        };
        Some(read.await)
    }

    /// A small artifact that was fetched before.
    async fn read(&self, digest: Digest) -> Result<Vec<u8>, Event> {
        let gone = || Event::Failed(Trouble::Damaged, format!("the stored file of {digest} is gone"));
        let path = self.store.path(&digest).ok_or_else(gone)?;
        let unreadable = |error| Event::Failed(Trouble::Passing, format!("{}: {error}", path.display()));
        let length = tokio::fs::metadata(&path).await.map_err(unreadable)?.len();
        if length > MAX_GOLDEN_BYTES as u64 {
            return Err(Event::Failed(
                Trouble::Final,
                format!("{digest} has {length} bytes, at most {MAX_GOLDEN_BYTES} are read"),
            ));
        }
        tokio::fs::read(&path).await.map_err(unreadable)
    }

    async fn load(&self, name: &ModelName, kept: &Kept) -> Event {
        let slot = kept.slot;
        let Some(file) = self.store.path(&slot.digest) else {
            return Event::LoadFailed(slot, "its file is gone; it is fetched again once there is a link".into(), false);
        };
        match self.runner.load(name, slot.version, &file, kept.manifest.clone()).await {
            Ok(engine) => Event::Loaded(slot, engine),
            Err(reason) => {
                // A file that has rotted on disk does not load either; then it is removed here and fetched again.
                let store = self.store.clone();
                let whole = blocking(move || store.verify(&slot.digest)).await.unwrap_or(true);
                let reason = if whole { reason } else { format!("the stored file was damaged: {reason}") };
                Event::LoadFailed(slot, reason, whole)
            }
        }
    }

    async fn test(&self, name: &ModelName, slot: Slot, desired: &DesiredModel) -> Event {
        match self.cases(desired).await {
            None => Event::Tested(self.runner.check(name, slot.version).await.map(|()| None)),
            Some(Ok(golden)) => Event::Tested(Ok(Some(self.runner.golden(name, slot.version, &golden).await))),
            Some(Err(event)) => event,
        }
    }
}
