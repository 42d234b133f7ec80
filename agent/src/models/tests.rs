//! The reconciler against a real HTTP server, a real store and a runner that only remembers.

use super::*;
use crate::link::LinkError;
use crate::state::Ledger;
use aidos_protocol::frame::ArtifactGrant;
use aidos_protocol::manifest::Manifest;
use async_trait::async_trait;
use axum::extract::{Path as UrlPath, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Serves blobs by range; the first answers are cut short as often as asked.
#[derive(Clone, Default)]
struct Plane {
    blobs: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    cuts: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
    online: Arc<AtomicBool>,
    url: Arc<Mutex<String>>,
}

async fn blob(Shared(plane): Shared<Plane>, UrlPath(hex): UrlPath<String>, headers: HeaderMap) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    let Some(bytes) = plane.blobs.lock().unwrap().get(&hex).cloned() else { return StatusCode::NOT_FOUND.into_response() };
    let range = headers[header::RANGE].to_str().unwrap();
    let from: usize = range.strip_prefix("bytes=").unwrap().trim_end_matches('-').parse().unwrap();
    let cut = plane.cuts.load(Ordering::SeqCst) > 0;
    let until = if cut { from + (bytes.len() - from) / 2 } else { bytes.len() };
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
    let body = axum::body::Body::from_stream(whole.chain(rest));
    let of = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
    (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, of)], body).into_response()
}

impl Plane {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plane = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        *plane.url.lock().unwrap() = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/{hex}", axum::routing::get(blob)).with_state(plane.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        plane.online.store(true, Ordering::SeqCst);
        plane
    }

    fn publish(&self, version: u64, bytes: &[u8]) -> DesiredModel {
        let digest = Digest::of(bytes);
        self.blobs.lock().unwrap().insert(digest.hex(), bytes.to_vec());
        DesiredModel::new(version, digest, bytes.len() as u64)
    }
}

#[async_trait]
impl Source for Plane {
    async fn grant(&self, digest: Digest) -> Result<ArtifactGrant, LinkError> {
        if !self.online.load(Ordering::SeqCst) {
            return Err(LinkError::Offline);
        }
        let size = self.blobs.lock().unwrap().get(&digest.hex()).map(|bytes| bytes.len() as u64);
        let error = if size.is_none() { "no such artifact".to_owned() } else { String::new() };
        let url = format!("{}/{}?signature=secret", self.url.lock().unwrap(), digest.hex());
        let size = size.unwrap_or(0);
        Ok(ArtifactGrant { digest: digest.as_bytes().to_vec().into(), url, size, error, ..Default::default() })
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

/// Remembers what it was told; refuses files that begin with `bad` and fails the check of those that begin with `mute`.
#[derive(Default)]
struct Memo {
    loaded: Mutex<BTreeMap<(ModelName, u64), Vec<u8>>>,
    active: Mutex<BTreeMap<ModelName, u64>>,
    loads: AtomicUsize,
}

#[async_trait]
impl Runner for Memo {
    async fn load(&self, name: &ModelName, version: u64, file: &Path, _: Manifest) -> Result<String, String> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let bytes = std::fs::read(file).unwrap();
        if bytes.starts_with(b"bad") {
            return Err("not a model".into());
        }
        self.loaded.lock().unwrap().insert((name.clone(), version), bytes);
        assert!(self.loaded.lock().unwrap().keys().filter(|(is, _)| is == name).count() <= 2);
        Ok("memo".into())
    }
    async fn check(&self, name: &ModelName, version: u64) -> Result<(), String> {
        let mute = self.loaded.lock().unwrap()[&(name.clone(), version)].starts_with(b"mute");
        if mute { Err("it does not answer".into()) } else { Ok(()) }
    }
    async fn activate(&self, name: &ModelName, version: u64) -> Result<(), String> {
        assert!(self.loaded.lock().unwrap().contains_key(&(name.clone(), version)));
        self.active.lock().unwrap().insert(name.clone(), version);
        Ok(())
    }
    async fn unload(&self, name: &ModelName, version: u64) {
        self.loaded.lock().unwrap().remove(&(name.clone(), version));
    }
}

#[derive(Default)]
struct Told(Mutex<Vec<(ModelName, Option<ModelStatus>)>>);
impl Report for Told {
    fn model(&self, name: &ModelName, status: Option<&ModelStatus>) {
        self.0.lock().unwrap().push((name.clone(), status.cloned()));
    }
}

struct Agent {
    reconciler: Reconciler,
    runner: Arc<Memo>,
    told: Arc<Told>,
    desired: watch::Sender<Desired>,
    cancel: CancellationToken,
    store: Chunks,
}

impl Agent {
    async fn start(dir: &Path, plane: &Plane) -> Self {
        let ledger = Ledger::open(dir).unwrap();
        let store = Chunks::open(dir, ledger.clone(), 1 << 30).unwrap();
        let (runner, told) = (Arc::new(Memo::default()), Arc::new(Told::default()));
        let slots = Slots::open(ledger.clone()).unwrap();
        let pins = Pins::open(ledger).unwrap();
        let (source, near) = (Arc::new(plane.clone()), Neighbours::off());
        let reconciler = Reconciler::new(runner.clone(), source, told.clone(), store.clone(), slots, pins, near);
        reconciler.restore().await.unwrap();
        let (desired, watched) = watch::channel(Desired::default());
        Self { reconciler, runner, told, desired, cancel: CancellationToken::new(), store }.begin(watched)
    }
    fn begin(self, watched: watch::Receiver<Desired>) -> Self {
        if self.reconciler.statuses().is_empty() {
            tokio::spawn(self.reconciler.clone().run(watched, self.cancel.clone()));
        }
        self
    }
    fn want(&self, models: &[(&str, DesiredModel)]) {
        self.desired.send_replace(Arc::new(models.iter().map(|(name, model)| (name.parse().unwrap(), model.clone())).collect()));
    }
    async fn until(&self, name: &str, is: impl Fn(Option<&ModelStatus>) -> bool) -> Option<ModelStatus> {
        let name: ModelName = name.parse().unwrap();
        for _ in 0..2_000 {
            let statuses = self.reconciler.statuses();
            if is(statuses.get(&name)) {
                return statuses.get(&name).cloned();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{name} stays at {:?}", self.reconciler.statuses().get(&name));
    }
    async fn ready(&self, name: &str, version: u64) -> ModelStatus {
        let there = |status: Option<&ModelStatus>| {
            status.is_some_and(|status| status.state == ModelState::Ready && status.active_version == Some(version))
        };
        self.until(name, there).await.unwrap()
    }
    async fn failed(&self, name: &str) -> ModelStatus {
        self.until(name, |status| status.is_some_and(|status| status.state == ModelState::Failed)).await.unwrap()
    }
    fn active(&self, name: &str) -> Option<u64> {
        self.runner.active.lock().unwrap().get(&name.parse::<ModelName>().unwrap()).copied()
    }
}

#[tokio::test]
async fn what_intent_asks_for_is_fetched_activated_and_removed_again() {
    let (dir, plane) = (tempfile::tempdir().unwrap(), Plane::start().await);
    let agent = Agent::start(dir.path(), &plane).await;
    let (one, two, three) = (plane.publish(1, b"one"), plane.publish(2, b"two"), plane.publish(3, b"three"));
    for (version, model) in [(1, &one), (2, &two), (3, &three)] {
        agent.want(&[("digits", model.clone())]);
        let status = agent.ready("digits", version).await;
        assert_eq!((status.engine.as_str(), status.digest), ("memo", Some(model.digest)));
    }
    assert_eq!(agent.reconciler.statuses().values().next().unwrap().previous_version, Some(2));
    let loads = agent.runner.loads.load(Ordering::SeqCst);
    agent.want(&[("digits", two.clone())]);
    agent.ready("digits", 2).await;
    assert_eq!(agent.runner.loads.load(Ordering::SeqCst), loads, "the way back is a swap");
    agent.want(&[]);
    agent.until("digits", |status| status.is_none()).await;
    assert!(agent.runner.loaded.lock().unwrap().is_empty());
    assert_eq!(agent.told.0.lock().unwrap().last().unwrap().1, None);
    for _ in 0..400 {
        if agent.store.list().unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("files of models that nothing refers to are removed");
}

#[tokio::test]
async fn a_download_that_breaks_goes_on_where_it_stopped() {
    let (dir, plane) = (tempfile::tempdir().unwrap(), Plane::start().await);
    let agent = Agent::start(dir.path(), &plane).await;
    let bytes: Vec<u8> = (0..400_000u32).map(|n| (n % 251) as u8).collect();
    plane.cuts.store(2, Ordering::SeqCst);
    agent.want(&[("big", plane.publish(1, &bytes))]);
    agent.ready("big", 1).await;
    assert_eq!(plane.sent.load(Ordering::SeqCst), bytes.len(), "no byte came twice");
}

#[tokio::test]
async fn a_bad_model_fails_with_its_reason_and_blocks_neither_another_nor_the_version_that_answers() {
    let (dir, plane) = (tempfile::tempdir().unwrap(), Plane::start().await);
    let agent = Agent::start(dir.path(), &plane).await;
    agent.want(&[("digits", plane.publish(1, b"one"))]);
    agent.ready("digits", 1).await;
    let (bad, mute) = (plane.publish(2, b"bad"), plane.publish(1, b"mute"));
    agent.want(&[("digits", bad), ("mute", mute), ("other", plane.publish(7, b"other"))]);
    agent.ready("other", 7).await;
    let status = agent.failed("digits").await;
    assert_eq!((status.desired_version, status.active_version), (Some(2), Some(1)));
    assert_eq!(status.error, "not a model");
    assert_eq!(agent.active("digits"), Some(1));
    assert_eq!(agent.failed("mute").await.error, "it does not answer");
    assert!(!agent.runner.loaded.lock().unwrap().keys().any(|(name, _)| name.as_str() == "mute"));
}

#[tokio::test]
async fn wrong_lengths_and_refusals_are_told_without_the_links_signature() {
    let (dir, plane) = (tempfile::tempdir().unwrap(), Plane::start().await);
    let agent = Agent::start(dir.path(), &plane).await;
    let wrong = DesiredModel { size: 99, ..plane.publish(1, b"one") };
    let unknown = DesiredModel { digest: Digest::of(b"nowhere"), ..wrong.clone() };
    agent.want(&[("wrong", wrong), ("unknown", unknown)]);
    assert!(agent.failed("wrong").await.error.contains("push the model again"));
    assert!(agent.failed("unknown").await.error.contains("no such artifact"));
    let served = plane.publish(1, b"gone");
    plane.blobs.lock().unwrap().insert(served.digest.hex(), b"g0ne".to_vec());
    agent.want(&[("tampered", served)]);
    assert!(agent.failed("tampered").await.error.contains("thrown away"));
    assert!(!agent.told.0.lock().unwrap().iter().flat_map(|(_, status)| status).any(|status| status.error.contains("secret")));
}

#[tokio::test]
async fn without_a_link_a_model_waits_and_comes_as_soon_as_there_is_one() {
    let (dir, plane) = (tempfile::tempdir().unwrap(), Plane::start().await);
    plane.online.store(false, Ordering::SeqCst);
    let agent = Agent::start(dir.path(), &plane).await;
    agent.want(&[("digits", plane.publish(1, b"one"))]);
    let waits = |status: Option<&ModelStatus>| status.is_some_and(|s| s.state == ModelState::Pending && !s.error.is_empty());
    assert!(agent.until("digits", waits).await.unwrap().error.contains("not connected"));
    plane.online.store(true, Ordering::SeqCst);
    agent.ready("digits", 1).await;
}

#[tokio::test]
async fn after_a_kill_the_active_version_answers_before_there_is_any_network() {
    let (dir, plane) = (tempfile::tempdir().unwrap(), Plane::start().await);
    let agent = Agent::start(dir.path(), &plane).await;
    for (version, bytes) in [(1, b"one"), (2, b"two")] {
        agent.want(&[("digits", plane.publish(version, bytes))]);
        agent.ready("digits", version).await;
    }
    plane.online.store(false, Ordering::SeqCst);
    let again = Agent::start(dir.path(), &plane).await;
    assert_eq!(again.active("digits"), Some(2));
    assert_eq!(again.ready("digits", 2).await.error, "");
    // The file of the active version is lost: the one before it answers, and the status says so.
    std::fs::remove_file(again.store.path(&Digest::of(b"two")).unwrap()).unwrap();
    let third = Agent::start(dir.path(), &plane).await;
    assert_eq!(third.active("digits"), Some(1));
    assert!(third.reconciler.statuses().values().next().unwrap().error.contains("version 2"));
}
