//! What the tests of the reconciler stand on: a real HTTP server, a real store, and a runner that only remembers.

use super::super::*;
use crate::infer::Place;
use crate::link::{Held, LinkError};
use crate::state::Ledger;
use crate::trust::Unvouched;
use crate::twin::Voucher;
use crate::update::Conditions;
use aidos_protocol::artifact::pack;
use aidos_protocol::delta::{MAX_WINDOW_LOG, patch_from};
use aidos_protocol::frame::{ArtifactChunks, ArtifactDelta, ArtifactGrant};
use aidos_protocol::golden::Golden;
use aidos_protocol::manifest::Manifest;
use aidos_protocol::rollout::Experiment;
use aidos_protocol::trust::Wanted;
use aidos_protocol::twin::{Health, HealthReport, Measures, SelfTestReport};
use aidos_protocol::{DeviceId, TenantId};
use async_trait::async_trait;
use axum::extract::{Path as UrlPath, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt as _;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

/// A delta that the plane has.
#[derive(Clone, Copy)]
struct Patch {
    base: Digest,
    digest: Digest,
    size: u64,
}

/// A file in chunks.
#[derive(Clone, Copy)]
struct CutUp {
    recipe: Digest,
    recipe_size: u64,
    packed: Digest,
}

/// Serves blobs by range; the first answers are cut short as often as asked.
#[derive(Clone, Default)]
pub(super) struct Plane {
    pub(super) blobs: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    /// By the target.
    patches: Arc<Mutex<BTreeMap<Digest, Patch>>>,
    /// By the target.
    chunks: Arc<Mutex<BTreeMap<Digest, CutUp>>>,
    pub(super) cuts: Arc<AtomicUsize>,
    pub(super) sent: Arc<AtomicUsize>,
    pub(super) online: Arc<AtomicBool>,
    /// Whether people have yet to sign what is published.
    pub(super) unsigned: Arc<AtomicBool>,
    /// Takes questions and sends the first half of the answer, then nothing.
    pub(super) stalls: Arc<AtomicBool>,
    url: Arc<Mutex<String>>,
}

async fn blob(Shared(plane): Shared<Plane>, UrlPath(hex): UrlPath<String>, headers: HeaderMap) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    let Some(bytes) = plane.blobs.lock().unwrap().get(&hex).cloned() else { return StatusCode::NOT_FOUND.into_response() };
    let range = headers[header::RANGE].to_str().unwrap();
    let (from, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let from: usize = from.parse().unwrap();
    let all = bytes.len();
    let bytes = &bytes[..last.parse::<usize>().map_or(all, |last| last + 1)];
    let cut = plane.cuts.load(Ordering::SeqCst) > 0;
    let until = if cut || plane.stalls.load(Ordering::SeqCst) { from + (bytes.len() - from) / 2 } else { bytes.len() };
    plane.sent.fetch_add(until - from, Ordering::SeqCst);
    let piece = bytes::Bytes::copy_from_slice(&bytes[from..until]);
    if cut {
        plane.cuts.fetch_sub(1, Ordering::SeqCst);
    }
    let whole = futures::stream::once(async move { Ok(piece) });
    // The pause lets what was sent arrive before the connection breaks.
    let rest = futures::stream::iter(cut.then_some(())).then(|()| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Err(std::io::Error::other("cut"))
    });
    let stall = plane.stalls.load(Ordering::SeqCst);
    let stall = futures::stream::iter(stall.then_some(())).then(|()| std::future::pending::<Result<bytes::Bytes, _>>());
    let body = axum::body::Body::from_stream(whole.chain(stall).chain(rest));
    let of = format!("bytes {from}-{}/{all}", bytes.len() - 1);
    (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, of)], body).into_response()
}

impl Plane {
    pub(super) async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plane = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        *plane.url.lock().unwrap() = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/{hex}", axum::routing::get(blob)).with_state(plane.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        plane.online.store(true, Ordering::SeqCst);
        plane
    }

    pub(super) fn publish(&self, version: u64, bytes: &[u8]) -> DesiredModel {
        let digest = Digest::of(bytes);
        self.blobs.lock().unwrap().insert(digest.hex(), bytes.to_vec());
        DesiredModel::new(version, digest, bytes.len() as u64)
    }

    /// Has it in chunks, too.
    pub(super) fn cut_up(&self, target: &[u8]) {
        let mut packed = Vec::new();
        let recipe = pack(target, &mut packed).unwrap().encode();
        let about = CutUp { recipe: Digest::of(&recipe), recipe_size: recipe.len() as u64, packed: Digest::of(&packed) };
        let mut blobs = self.blobs.lock().unwrap();
        blobs.insert(about.recipe.hex(), recipe);
        blobs.insert(about.packed.hex(), packed);
        self.chunks.lock().unwrap().insert(Digest::of(target), about);
    }

    /// Has a delta for those who have `base`.
    pub(super) fn patch(&self, base: &[u8], target: &[u8]) {
        let patch = patch_from(base, target, MAX_WINDOW_LOG).unwrap();
        let (digest, size) = (Digest::of(&patch), patch.len() as u64);
        self.blobs.lock().unwrap().insert(digest.hex(), patch);
        self.patches.lock().unwrap().insert(Digest::of(target), Patch { base: Digest::of(base), digest, size });
    }
}

#[async_trait]
impl Source for Plane {
    async fn grant(&self, digest: Digest, held: Held) -> Result<ArtifactGrant, LinkError> {
        if !self.online.load(Ordering::SeqCst) {
            return Err(LinkError::Offline);
        }
        let size = self.blobs.lock().unwrap().get(&digest.hex()).map(|bytes| bytes.len() as u64);
        let error = if size.is_none() { "no such artifact".to_owned() } else { String::new() };
        let url = |digest: &Digest| format!("{}/{}?signature=secret", self.url.lock().unwrap(), digest.hex());
        let bytes = |digest: &Digest| digest.as_bytes().to_vec().into();
        let patch = self.patches.lock().unwrap().get(&digest).copied();
        let delta = patch.filter(|patch| held.bases.contains(&patch.base)).map(|Patch { base, digest, size }| {
            Box::new(ArtifactDelta { base: bytes(&base), digest: bytes(&digest), size, url: url(&digest) })
        });
        let chunks = self.chunks.lock().unwrap().get(&digest).map(|CutUp { recipe, recipe_size, packed }| {
            let (recipe_url, packed_url) = (url(recipe), url(packed));
            Box::new(ArtifactChunks { recipe: bytes(recipe), recipe_size: *recipe_size, recipe_url, packed_url })
        });
        let size = size.unwrap_or(0);
        Ok(ArtifactGrant { digest: bytes(&digest), url: url(&digest), size, error, delta, chunks, ..Default::default() })
    }
    fn client(&self, _: &str) -> Result<reqwest::Client, String> {
        reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())
    }
    async fn reachable(&self) {
        while !self.online.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[async_trait]
impl Vouch for Plane {
    async fn vouch(&self, wanted: &Wanted) -> Result<(), Unvouched> {
        if self.unsigned.load(Ordering::SeqCst) { Err(wanted.unsigned().into()) } else { Ok(()) }
    }
}

/// The two places of one model: number and bytes.
#[derive(Default, Clone)]
pub(super) struct Places {
    pub(super) active: Option<(u64, Vec<u8>)>,
    pub(super) beside: Option<(u64, Vec<u8>)>,
}

/// Remembers what it was told; refuses files that begin with `bad` and fails the tests of those that begin with `mute`.
/// Those that begin with `errs` fail half of their requests.
#[derive(Default)]
pub(super) struct Memo {
    pub(super) places: Mutex<BTreeMap<ModelName, Places>>,
    pub(super) loads: AtomicUsize,
    pub(super) experiments: Mutex<BTreeMap<ModelName, (u64, Experiment)>>,
}

impl Memo {
    pub(super) fn of(&self, name: &str) -> Places {
        self.places.lock().unwrap().get(&name.parse::<ModelName>().unwrap()).cloned().unwrap_or_default()
    }
    fn bytes(&self, name: &ModelName, version: u64) -> Vec<u8> {
        let places = self.of(name.as_str());
        let beside = places.beside.filter(|(is, _)| *is == version);
        beside.or(places.active.filter(|(is, _)| *is == version)).expect("only what is loaded is asked").1
    }
}

#[async_trait]
impl Runner for Memo {
    async fn load(&self, name: &ModelName, version: u64, file: &Path, _: Manifest) -> Result<String, String> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let bytes = std::fs::read(file).unwrap();
        if bytes.starts_with(b"bad") {
            return Err("not a model".into());
        }
        let mut places = self.places.lock().unwrap();
        let before = places.entry(name.clone()).or_default().beside.replace((version, bytes));
        assert!(before.is_none(), "a third version in memory");
        Ok("memo".into())
    }
    async fn check(&self, name: &ModelName, version: u64) -> Result<(), String> {
        if self.bytes(name, version).starts_with(b"mute") { Err("it does not answer".into()) } else { Ok(()) }
    }
    async fn golden(&self, name: &ModelName, version: u64, golden: &Golden) -> SelfTestReport {
        let passed = !self.bytes(name, version).starts_with(b"mute");
        let failure = if passed { String::new() } else { "case 0: an output differs".into() };
        SelfTestReport { passed, failure, cases: golden.cases.len() as u32, ..SelfTestReport::default() }
    }
    async fn activate(&self, name: &ModelName, version: u64) -> Result<(), String> {
        let mut places = self.places.lock().unwrap();
        let places = places.get_mut(name).unwrap();
        assert!(places.beside.as_ref().is_some_and(|(is, _)| *is == version));
        std::mem::swap(&mut places.active, &mut places.beside);
        Ok(())
    }
    async fn unload(&self, name: &ModelName, version: u64) {
        let mut places = self.places.lock().unwrap();
        let places = places.get_mut(name).unwrap();
        if places.beside.take_if(|(is, _)| *is == version).is_none() {
            places.active.take_if(|(is, _)| *is == version);
        }
    }
    fn mark(&self, _: &ModelName, _: Place) {}
    fn measures(&self, name: &ModelName, place: Place) -> Option<Measures> {
        let places = self.of(name.as_str());
        let (_, bytes) = if place == Place::Active { places.active } else { places.beside }?;
        let errors = if bytes.starts_with(b"errs") { 50 } else { 0 };
        Some(Measures { requests: 100, errors, p95_us: Some(1_000), ..Measures::default() })
    }
    fn experiment(&self, name: &ModelName, experiment: Option<(u64, Experiment)>) {
        let mut all = self.experiments.lock().unwrap();
        match experiment {
            Some(experiment) => drop(all.insert(name.clone(), experiment)),
            None => drop(all.remove(name)),
        }
    }
}

/// What was reported. A healthy report is held against what answers.
pub(super) struct Told {
    pub(super) models: Mutex<Vec<(ModelName, Option<ModelStatus>)>>,
    pub(super) healths: Mutex<Vec<HealthReport>>,
    runner: Arc<Memo>,
}

impl Report for Told {
    fn model(&self, name: &ModelName, status: Option<&ModelStatus>) {
        self.models.lock().unwrap().push((name.clone(), status.cloned()));
    }
    fn health(&self, name: &ModelName, health: Option<&SignedHealth>) {
        let Some(signed) = health else { return };
        let report: HealthReport = serde_json::from_str(&signed.report).unwrap();
        if report.health == Health::Healthy {
            let active = self.runner.of(name.as_str()).active.expect("healthy without answering");
            assert_eq!((active.0, Digest::of(&active.1)), (report.version, report.digest));
        }
        self.healths.lock().unwrap().push(report);
    }
    fn transfer(&self, _: &ModelName, _: Option<&Transfer>) {}
}

/// Conditions that a test sets.
#[derive(Default)]
pub(super) struct Weather(pub(super) Mutex<Conditions>);
impl Surroundings for Weather {
    fn now(&self) -> Conditions {
        *self.0.lock().unwrap()
    }
}

pub(super) struct Agent {
    pub(super) reconciler: Reconciler,
    pub(super) runner: Arc<Memo>,
    pub(super) told: Arc<Told>,
    pub(super) weather: Arc<Weather>,
    pub(super) desired: watch::Sender<Desired>,
    pub(super) cancel: CancellationToken,
    pub(super) store: Chunks,
    watched: watch::Receiver<Desired>,
}

impl Agent {
    /// Opens and restores, and does not follow intent yet.
    pub(super) async fn restored(dir: &Path, plane: &Plane) -> Result<Self, String> {
        let ledger = Ledger::open(dir).map_err(|error| error.to_string())?;
        let store = Chunks::open(dir, ledger.clone(), 1 << 30).map_err(|error| error.to_string())?;
        let runner = Arc::new(Memo::default());
        let told = Arc::new(Told { models: Mutex::default(), healths: Mutex::default(), runner: runner.clone() });
        let pins = Pins::open(ledger.clone()).map_err(|error| error.to_string())?;
        let journal = Journal::open(ledger).map_err(|error| error.to_string())?;
        let weather = Arc::new(Weather::default());
        let quick = Duration::from_millis(20);
        let pace = Pace { first: quick, look: quick, watch: quick, settle: quick, report: quick, ..Pace::default() };
        let voucher = Voucher {
            tenant: TenantId::new(1),
            device: DeviceId::new(2),
            boot_id: 3,
            sign: Arc::new(|_| Ok((Vec::new(), vec![7]))),
        };
        let guard = Arc::new(plane.clone());
        let setup = Setup { surroundings: weather.clone(), pace, voucher: Some(voucher), guard, ..Setup::default() };
        let reconciler =
            Reconciler::new(runner.clone(), Arc::new(plane.clone()), told.clone(), store.clone(), journal, pins, setup);
        reconciler.restore().await.map_err(|error| error.to_string())?;
        let (desired, watched) = watch::channel(Desired::default());
        Ok(Self { reconciler, runner, told, weather, desired, cancel: CancellationToken::new(), store, watched })
    }
    /// Restores and follows an intent that asks for nothing yet.
    pub(super) async fn start(dir: &Path, plane: &Plane) -> Self {
        let agent = Self::restored(dir, plane).await.unwrap();
        drop(agent.follow());
        agent
    }
    pub(super) fn follow(&self) -> JoinHandle<()> {
        tokio::spawn(self.reconciler.clone().run(self.watched.clone(), self.cancel.clone()))
    }
    pub(super) fn want(&self, models: &[(&str, DesiredModel)]) {
        self.desired.send_replace(Arc::new(models.iter().map(|(name, model)| (name.parse().unwrap(), model.clone())).collect()));
    }
    pub(super) async fn until(&self, name: &str, is: impl Fn(Option<&ModelStatus>) -> bool) -> Option<ModelStatus> {
        let name: ModelName = name.parse().unwrap();
        for _ in 0..4_000 {
            let statuses = self.reconciler.statuses();
            if is(statuses.get(&name)) {
                return statuses.get(&name).cloned();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{name} stays at {:?}", self.reconciler.statuses().get(&name));
    }
    pub(super) async fn state(&self, name: &str, state: ModelState) -> ModelStatus {
        self.until(name, |status| status.is_some_and(|status| status.state == state)).await.unwrap()
    }
    pub(super) async fn ready(&self, name: &str, version: u64) -> ModelStatus {
        let there = |status: Option<&ModelStatus>| {
            status.is_some_and(|status| status.state == ModelState::Ready && status.active_version == Some(version))
        };
        self.until(name, there).await.unwrap()
    }
    pub(super) async fn failed(&self, name: &str) -> ModelStatus {
        self.state(name, ModelState::Failed).await
    }
    pub(super) fn active(&self, name: &str) -> Option<u64> {
        self.runner.of(name).active.map(|(version, _)| version)
    }
}
