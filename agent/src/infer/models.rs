//! The models of this device: loading beside, swapping, unloading, and answering.

use super::{
    Compared, Engine, InferError, LoadError, NotLoaded, Place, Program, Settings, Signature, TractEngine,
    compute::{Compute, Overruns, Stopped},
    experiment::Trial,
    slots::Slots,
    stats::Stats,
};
use aidos_protocol::{
    ModelName,
    manifest::Manifest,
    oip::{InferRequest, InferResponse, Tensor, views::ModelStatistics},
    rollout::Experiment,
    twin::Measures,
    twin::health::MAX_CUSTOM,
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// How long a caller is asked to wait at least, and at most, when a queue is full.
const RETRY_AFTER: std::ops::RangeInclusive<u64> = 1..=30;

/// A cheap handle on all models of this device.
#[derive(Clone)]
pub struct Models(Arc<Inner>);

struct Inner {
    engine: Arc<dyn Engine>,
    settings: Settings,
    compute: Compute,
    /// Loads take their own single seat, so that a slow one never delays answers and two never need memory at a time.
    loading: Compute,
    loads_over_time: Overruns,
    shelf: RwLock<BTreeMap<ModelName, Slots<Arc<Version>>>>,
    trials: RwLock<BTreeMap<ModelName, Arc<Trial>>>,
}

/// Room that the counts of an experiment take among the custom measurements.
const TRIAL_MEASURES: usize = 3;

/// One loaded version. Requests in flight hold it, so that its memory goes when the last is answered.
struct Version {
    program: Arc<dyn Program>,
    manifest: Arc<Manifest>,
    queue: Arc<Semaphore>,
    overruns: Overruns,
    stats: Mutex<Stats>,
}

/// What is known about one loaded version.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// The model's name.
    pub name: ModelName,
    /// The version.
    pub version: u64,
    /// Whether it answers.
    pub place: Place,
    /// What it takes and gives.
    pub signature: Signature,
    /// What its publisher declared.
    pub manifest: Arc<Manifest>,
    /// The engine that runs it.
    pub engine: &'static str,
    /// Engine and file format, as the protocol names them.
    pub platform: &'static str,
    /// Bytes of the file.
    pub file_bytes: u64,
}

impl Models {
    /// No models yet; tract runs what will come.
    pub fn new(settings: Settings) -> Self {
        Self::with_engine(Arc::new(TractEngine::default()), settings)
    }

    /// No models yet, and another engine.
    pub fn with_engine(engine: Arc<dyn Engine>, settings: Settings) -> Self {
        let (compute, loading) = (Compute::new(settings.parallel), Compute::new(1));
        Self(Arc::new(Inner {
            engine,
            settings,
            compute,
            loading,
            loads_over_time: Overruns::default(),
            shelf: RwLock::default(),
            trials: RwLock::default(),
        }))
    }

    /// Loads a file beside the version that answers, also where that one has the same number.
    ///
    /// The version that stood beside leaves once the new one is ready; if loading fails, nothing changes.
    pub async fn load(&self, name: &ModelName, version: u64, file: &Path, manifest: Manifest) -> Result<ModelInfo, LoadError> {
        let inner = &self.0;
        if inner.loads_over_time.load(Ordering::Acquire) > 0 {
            return Err(LoadError::Blocked);
        }
        let (engine, limits, manifest) = (Arc::clone(&inner.engine), inner.settings.limits, Arc::new(manifest));
        let (file, declared) = (file.to_owned(), Arc::clone(&manifest));
        let limit = inner.settings.load_limit;
        let work = move || engine.load(&file, &declared, &limits);
        let program = match inner.loading.run(limit, &inner.loads_over_time, (), work).await {
            Ok((_, program)) => Arc::<dyn Program>::from(program?),
            Err(Stopped::NoSeat | Stopped::TimedOut) => return Err(LoadError::TimedOut(limit)),
            Err(Stopped::Panicked(reason)) => return Err(LoadError::Panicked { engine: inner.engine.name(), reason }),
        };
        let loaded = Arc::new(Version {
            program,
            manifest,
            queue: Arc::new(Semaphore::new(inner.settings.queue)),
            overruns: Overruns::default(),
            stats: Mutex::default(),
        });
        let mut shelf = self.shelf_mut();
        let slots = shelf.entry(name.clone()).or_default();
        slots.put(version, Arc::clone(&loaded));
        Ok(self.info(name, version, Place::Beside, &loaded))
    }

    /// Makes a loaded version answer from the next request on; the one before stays beside it.
    pub fn activate(&self, name: &ModelName, version: u64) -> Result<ModelInfo, NotLoaded> {
        let mut shelf = self.shelf_mut();
        let known = known_models(&shelf);
        let slots = shelf.get_mut(name).ok_or_else(|| NotLoaded::Model { model: name.to_string(), known })?;
        if !slots.activate(version) {
            return Err(no_version(name, &version.to_string(), slots));
        }
        let active = slots.active().map(Arc::clone);
        active.map(|active| self.info(name, version, Place::Active, &active)).ok_or(NotLoaded::Inactive { model: name.clone() })
    }

    /// Takes one version, or all of a model, out of service; `false` if there was none. Requests in flight are still answered.
    pub fn unload(&self, name: &ModelName, version: Option<u64>) -> bool {
        let mut shelf = self.shelf_mut();
        let Some(slots) = shelf.get_mut(name) else { return false };
        let gone = slots.remove(version);
        if slots.is_empty() {
            shelf.remove(name);
        }
        drop(shelf);
        !gone.is_empty()
    }

    /// Answers a request; `version` `None` asks the active one, or the one beside where an experiment says so.
    pub async fn infer(
        &self,
        name: &ModelName,
        version: Option<u64>,
        request: InferRequest,
    ) -> Result<InferResponse, InferError> {
        let trial = if version.is_none() { self.trial(name) } else { None };
        if let Some(trial) = trial.as_ref().filter(|trial| trial.diverts(name, &request))
            && let Ok(beside) = self.find_beside(name, trial.version)
        {
            return self.ask(name, trial.version, beside, request).await;
        }
        let (number, found) = self.find(name, version)?;
        let copy = trial.as_ref().and_then(|trial| trial.copy(&request));
        let answer = self.ask(name, number, found, request).await?;
        if let (Some(trial), Some(copy)) = (trial, copy) {
            trial.show(copy, &answer);
        }
        Ok(answer)
    }

    /// Asks the version beside the one that answers, also where both have the same number; without one beside, the active one.
    pub async fn infer_beside(&self, name: &ModelName, version: u64, request: InferRequest) -> Result<InferResponse, InferError> {
        let found = self.find_beside(name, version)?;
        self.ask(name, version, found, request).await
    }

    async fn ask(
        &self,
        name: &ModelName,
        number: u64,
        version: Arc<Version>,
        request: InferRequest,
    ) -> Result<InferResponse, InferError> {
        let began = Instant::now();
        // On its own task: when the caller goes away, the run is still watched and counted.
        let (models, asked) = (self.clone(), name.clone());
        let task = tokio::spawn(async move {
            let answer = models.answer(&asked, number, &version, request, began).await;
            if let Err(error) = &answer {
                locked(&version.stats).failure(began.elapsed(), error.is_models_fault());
            }
            answer
        });
        task.await.unwrap_or_else(|gone| Err(InferError::Panicked(gone.to_string())))
    }

    /// Begins, changes or ends (`None`) a model's experiment with the version beside the one that answers.
    pub fn experiment(&self, name: &ModelName, experiment: Option<(u64, Experiment)>) {
        let present = self.trial(name);
        match (experiment, &present) {
            (None, None) => {}
            (Some((version, new)), Some(trial)) if trial.version == version && trial.experiment == new => {}
            (None, Some(_)) => drop(self.trials_mut().remove(name)),
            (Some((version, new)), _) => {
                let trial = Trial::begin(self, name, version, new);
                self.trials_mut().insert(name.clone(), trial);
            }
        }
    }

    /// What a model's experiment has counted: the version beside, and its counts.
    pub fn compared(&self, name: &ModelName) -> Option<(u64, Compared)> {
        self.trial(name).map(|trial| (trial.version, trial.counts()))
    }

    /// From here on a version's measures count.
    pub fn mark(&self, name: &ModelName, place: Place) {
        if let Some((_, _, version)) = self.shelf().get(name).and_then(|slots| slots.iter().find(|(_, is, _)| *is == place)) {
            locked(&version.stats).mark();
        }
    }

    /// What the version in a place has done since [`Models::mark`], or since it was loaded; drift is against the other one.
    pub fn measures(&self, name: &ModelName, place: Place) -> Option<Measures> {
        let shelf = self.shelf();
        let slots = shelf.get(name)?;
        let at = |place| slots.iter().find(|(_, is, _)| *is == place).map(|(_, _, version)| Arc::clone(version));
        let (version, other) = (at(place)?, at(if place == Place::Active { Place::Beside } else { Place::Active }));
        drop(shelf);
        let mut measures = locked(&version.stats).measures();
        if let Some(other) = other {
            // One lock at a time.
            let before = locked(&other.stats).outputs().clone();
            measures.drift = locked(&version.stats).outputs().against(&before);
        }
        if let Some(trial) = self.trial(name).filter(|_| place == Place::Beside) {
            let Compared { compared, agreed, dropped } = trial.counts();
            if compared > 0 {
                measures.custom.insert("shadow.agreement".into(), agreed as f64 / compared as f64);
            }
            measures.custom.insert("shadow.compared".into(), compared as f64);
            measures.custom.insert("shadow.dropped".into(), dropped as f64);
        }
        Some(measures)
    }

    /// Keeps the application's own measurements of a version; `false` when it has too many already.
    pub fn measured(&self, name: &ModelName, version: Option<u64>, values: BTreeMap<String, f64>) -> Result<bool, NotLoaded> {
        let (_, version) = self.find(name, version)?;
        Ok(locked(&version.stats).custom(values, MAX_CUSTOM - TRIAL_MEASURES))
    }

    /// What hangs in the engine and cannot be ended, in words, if anything does.
    pub fn stuck(&self) -> Option<String> {
        if self.0.loads_over_time.load(Ordering::Acquire) > 0 {
            return Some("a model is still being loaded long after its time".to_owned());
        }
        let hangs = |slots: &Slots<Arc<Version>>| slots.iter().any(|(.., version)| version.overruns.load(Ordering::Acquire) > 0);
        let name = self.shelf().iter().find(|(_, slots)| hangs(slots)).map(|(name, _)| name.clone())?;
        Some(format!("a request to {name} still runs long after its time"))
    }

    /// Whether work that nobody waits for may begin.
    pub(super) fn has_spare_seat(&self) -> bool {
        self.0.compute.has_spare()
    }

    fn trial(&self, name: &ModelName) -> Option<Arc<Trial>> {
        self.0.trials.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    fn trials_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<ModelName, Arc<Trial>>> {
        self.0.trials.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn find_beside(&self, name: &ModelName, version: u64) -> Result<Arc<Version>, NotLoaded> {
        let found = self.shelf().get(name).and_then(|slots| slots.beside(version).map(Arc::clone));
        // The same words as for any version that is not there.
        found.map_or_else(|| self.find(name, Some(version)).map(|(_, version)| version), Ok)
    }

    async fn answer(
        &self,
        name: &ModelName,
        number: u64,
        version: &Arc<Version>,
        request: InferRequest,
        began: Instant,
    ) -> Result<InferResponse, InferError> {
        let settings = &self.0.settings;
        let signature = version.program.signature();
        let (inputs, wanted) = (signature.arrange(&request)?, signature.select(&request)?);
        if version.overruns.load(Ordering::Acquire) > 0 {
            return Err(InferError::Stuck { model: name.clone(), retry_after: settings.run_limit });
        }
        let busy = || InferError::Busy { model: name.clone(), waiting: settings.queue, retry_after: self.retry_after(version) };
        let place = Arc::clone(&version.queue).try_acquire_owned().map_err(|_| busy())?;
        let program = Arc::clone(&version.program);
        let work = move || program.run(&inputs);
        let (waited, run) = match self.0.compute.run(settings.run_limit, &version.overruns, place, work).await {
            Ok((waited, run)) => (waited, run?),
            Err(Stopped::NoSeat) => return Err(busy()),
            Err(Stopped::TimedOut) => return Err(InferError::TimedOut { model: name.clone(), limit: settings.run_limit }),
            Err(Stopped::Panicked(reason)) => return Err(InferError::Panicked(reason)),
        };
        locked(&version.stats).success(waited, &run, began.elapsed());
        let mut outputs: Vec<Option<Tensor>> = run.outputs.into_iter().map(Some).collect();
        Ok(InferResponse {
            model_name: name.to_string(),
            model_version: Some(number.to_string()),
            id: request.id,
            outputs: wanted.into_iter().filter_map(|index| outputs.get_mut(index)?.take()).collect(),
            ..InferResponse::default()
        })
    }

    /// All loaded versions, by name and then oldest first.
    pub fn list(&self) -> Vec<ModelInfo> {
        let shelf = self.shelf();
        let versions = shelf.iter().flat_map(|(name, slots)| slots.iter().map(move |entry| (name, entry)));
        versions.map(|(name, (number, place, version))| self.info(name, number, place, version)).collect()
    }

    /// One version; `None` asks for the active one.
    pub fn get(&self, name: &ModelName, version: Option<u64>) -> Result<ModelInfo, NotLoaded> {
        let (number, found) = self.find(name, version)?;
        let place = self.shelf().get(name).and_then(|slots| slots.find(number)).map_or(Place::Beside, |(place, _)| place);
        Ok(self.info(name, number, place, &found))
    }

    /// What each loaded version has done, by name and then oldest first.
    pub fn statistics(&self) -> Vec<ModelStatistics> {
        let shelf = self.shelf();
        let versions = shelf.iter().flat_map(|(name, slots)| slots.iter().map(move |entry| (name, entry)));
        versions.map(|(name, (number, _, version))| locked(&version.stats).view(name.as_str(), number)).collect()
    }

    /// What one version has done; `None` asks for the active one.
    pub fn statistics_of(&self, name: &ModelName, version: Option<u64>) -> Result<ModelStatistics, NotLoaded> {
        let (number, version) = self.find(name, version)?;
        Ok(locked(&version.stats).view(name.as_str(), number))
    }

    fn find(&self, name: &ModelName, version: Option<u64>) -> Result<(u64, Arc<Version>), NotLoaded> {
        let shelf = self.shelf();
        let slots = shelf.get(name).ok_or_else(|| NotLoaded::Model { model: name.to_string(), known: known_models(&shelf) })?;
        let found = slots.iter().find(|(number, place, _)| version.map_or(*place == Place::Active, |version| version == *number));
        let found = found.map(|(number, _, version)| (number, Arc::clone(version)));
        found.ok_or_else(|| match version {
            Some(version) => no_version(name, &version.to_string(), slots),
            None => NotLoaded::Inactive { model: name.clone() },
        })
    }

    fn info(&self, name: &ModelName, version: u64, place: Place, loaded: &Version) -> ModelInfo {
        ModelInfo {
            name: name.clone(),
            version,
            place,
            signature: loaded.program.signature().clone(),
            manifest: Arc::clone(&loaded.manifest),
            engine: self.0.engine.name(),
            platform: self.0.engine.platform(),
            file_bytes: loaded.program.file_bytes(),
        }
    }

    /// How long a full queue takes to make room, by how long the recent runs took.
    fn retry_after(&self, version: &Version) -> Duration {
        let settings = &self.0.settings;
        let all = locked(&version.stats).mean_compute() * u32::try_from(settings.queue).unwrap_or(u32::MAX);
        let seconds = all.as_secs() / settings.parallel.max(1) as u64;
        Duration::from_secs(seconds.clamp(*RETRY_AFTER.start(), *RETRY_AFTER.end()))
    }

    fn shelf(&self) -> RwLockReadGuard<'_, BTreeMap<ModelName, Slots<Arc<Version>>>> {
        self.0.shelf.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn shelf_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<ModelName, Slots<Arc<Version>>>> {
        self.0.shelf.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn locked(stats: &Mutex<Stats>) -> MutexGuard<'_, Stats> {
    stats.lock().unwrap_or_else(PoisonError::into_inner)
}

fn known_models(shelf: &BTreeMap<ModelName, Slots<Arc<Version>>>) -> String {
    if shelf.is_empty() { "none".into() } else { shelf.keys().map(ModelName::as_str).collect::<Vec<_>>().join(", ") }
}

fn no_version<T>(name: &ModelName, version: &str, slots: &Slots<T>) -> NotLoaded {
    let known = slots.iter().map(|(number, ..)| number.to_string()).collect::<Vec<_>>().join(", ");
    NotLoaded::Version { model: name.clone(), version: version.to_owned(), known }
}

#[cfg(test)]
mod tests;
