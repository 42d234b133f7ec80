//! The ways by which a file comes, against a server that serves them all and can be told to misbehave at each.

use crate::bandwidth::Throttle;
use crate::link::{Held, LinkError};
use crate::models::{FetchError, Source, fetch};
use crate::neighbours::Neighbours;
use crate::state::{ChunkError, Chunks, Ledger};
use aidos_protocol::artifact::{Digest, Recipe, pack};
use aidos_protocol::delta::{HEADER_BYTES, Header, MAX_WINDOW_LOG, patch_from};
use aidos_protocol::frame::{ArtifactChunks, ArtifactDelta, ArtifactGrant};
use aidos_protocol::twin::Way;
use async_trait::async_trait;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How a server misbehaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Status(u16),
    /// Takes the question and never answers.
    Hang,
    /// Sends so many bytes and then nothing more, with the connection open.
    Stall(usize),
    /// Breaks the connection after so many bytes.
    Cut(usize),
    /// Every byte from this place of the file on is another.
    Lie(usize),
    /// Has a file of another length.
    Longer,
    /// Knows nothing of ranges.
    Whole,
}

/// A server and the plane that names its addresses. Objects are called `whole`, `recipe`, `packed` and `patch`.
#[derive(Clone)]
struct Depot {
    url: String,
    target: (Digest, u64),
    base: Digest,
    objects: Arc<Mutex<BTreeMap<&'static str, Vec<u8>>>>,
    faults: Arc<Mutex<BTreeMap<&'static str, Fault>>>,
    /// Object, first byte asked for, bytes sent.
    sent: Arc<Mutex<Vec<(String, usize, usize)>>>,
    asked: Arc<Mutex<Vec<Held>>>,
    bandwidth: Option<Arc<Throttle>>,
}

async fn serve(State(depot): State<Depot>, UrlPath(name): UrlPath<String>, headers: HeaderMap) -> Response {
    let Some(mut bytes) = depot.objects.lock().unwrap().get(&*name).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let fault = depot.faults.lock().unwrap().get(&*name).copied();
    let text = headers[header::RANGE].to_str().unwrap().strip_prefix("bytes=").unwrap().to_owned();
    let (start, last) = text.split_once('-').unwrap();
    let start: usize = start.parse().unwrap();
    let end = last.parse::<usize>().map_or(bytes.len(), |last| last + 1);
    match fault {
        Some(Fault::Status(status)) => return StatusCode::from_u16(status).unwrap().into_response(),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Lie(from)) => bytes.iter_mut().skip(from).for_each(|byte| *byte = !*byte),
        Some(Fault::Longer) => bytes.push(0),
        _ => {}
    }
    let total = bytes.len();
    let mut part = if fault == Some(Fault::Whole) { bytes } else { bytes[start..end].to_vec() };
    let length = part.len();
    if let Some(Fault::Cut(most) | Fault::Stall(most)) = fault {
        part.truncate(most);
    }
    depot.sent.lock().unwrap().push((name, start, part.len()));
    let pieces: Vec<_> = part.chunks(20_000).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece))).collect();
    let end_of = futures::stream::iter(matches!(fault, Some(Fault::Cut(_))).then_some(())).then(|()| async {
        // The pause lets what was sent arrive before the connection breaks.
        tokio::time::sleep(Duration::from_millis(100)).await;
        Err(std::io::Error::other("cut"))
    });
    let stall = futures::stream::iter(matches!(fault, Some(Fault::Stall(_))).then_some(())).then(|()| std::future::pending());
    let body = Body::from_stream(futures::stream::iter(pieces).chain(end_of).chain(stall));
    if fault == Some(Fault::Whole) {
        return (StatusCode::OK, [(header::CONTENT_LENGTH, total.to_string())], body).into_response();
    }
    let about =
        [(header::CONTENT_RANGE, format!("bytes {start}-{}/{total}", end - 1)), (header::CONTENT_LENGTH, length.to_string())];
    (StatusCode::PARTIAL_CONTENT, about, body).into_response()
}

#[async_trait]
impl Source for Depot {
    async fn grant(&self, _: Digest, held: Held) -> Result<ArtifactGrant, LinkError> {
        self.asked.lock().unwrap().push(held);
        let (url, objects) = (|name: &str| format!("{}/{name}?signature=secret", self.url), self.objects.lock().unwrap());
        let about =
            |name: &str| objects.get(name).map(|bytes| (Digest::of(bytes).as_bytes().to_vec().into(), bytes.len() as u64));
        Ok(ArtifactGrant {
            digest: self.target.0.as_bytes().to_vec().into(),
            url: url("whole"),
            size: self.target.1,
            chunks: about("recipe").map(|(recipe, recipe_size)| {
                let (recipe_url, packed_url) = (url("recipe"), url("packed"));
                Box::new(ArtifactChunks { recipe, recipe_size, recipe_url, packed_url })
            }),
            delta: about("patch").map(|(digest, size)| {
                let base = self.base.as_bytes().to_vec().into();
                Box::new(ArtifactDelta { base, digest, size, url: url("patch") })
            }),
            ..ArtifactGrant::default()
        })
    }
    fn client(&self, _: &str) -> Result<reqwest::Client, String> {
        reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())
    }
    async fn reachable(&self) {}
    fn patience(&self) -> Duration {
        Duration::from_millis(700)
    }
    fn bandwidth(&self) -> Option<Arc<Throttle>> {
        self.bandwidth.clone()
    }
}

impl Depot {
    /// Serves `new` whole and in chunks, and as a delta from `old`.
    async fn start(old: &[u8], new: &[u8]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut packed = Vec::new();
        let recipe = pack(new, &mut packed).unwrap();
        let patch = patch_from(old, new, MAX_WINDOW_LOG).unwrap();
        let objects = [("whole", new.to_vec()), ("recipe", recipe.encode()), ("packed", packed), ("patch", patch)];
        let depot = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            target: (Digest::of(new), new.len() as u64),
            base: Digest::of(old),
            objects: Arc::new(Mutex::new(objects.into())),
            faults: Arc::default(),
            sent: Arc::default(),
            asked: Arc::default(),
            bandwidth: None,
        };
        let router = axum::Router::new().route("/{name}", axum::routing::get(serve)).with_state(depot.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        depot
    }
    fn without(self, names: &[&str]) -> Self {
        self.objects.lock().unwrap().retain(|name, _| !names.contains(name));
        self
    }
    fn fails(&self, names: &[&'static str], fault: Fault) {
        self.faults.lock().unwrap().extend(names.iter().map(|name| (*name, fault)));
    }
    fn heals(&self) {
        self.faults.lock().unwrap().clear();
    }
    fn length(&self, name: &str) -> usize {
        self.objects.lock().unwrap()[name].len()
    }
    /// Bytes that were sent of an object, and how often it was asked for.
    fn sent(&self, name: &str) -> (usize, usize) {
        let sent = self.sent.lock().unwrap();
        let of: Vec<_> = sent.iter().filter(|(is, ..)| is == name).collect();
        (of.iter().map(|(.., bytes)| bytes).sum(), of.len())
    }
    async fn fetched(&self, store: &Chunks) -> Result<PathBuf, FetchError> {
        let (digest, size) = self.target;
        fetch(self, &Neighbours::off(), store, digest, Some(size), &[self.base]).await
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let step = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(step).take(length).collect()
}

/// Two versions that share no chunk: a byte in every 4 KiB differs.
fn retrained() -> (Vec<u8>, Vec<u8>) {
    let old = noise(5, 1_500_000);
    let mut new = old.clone();
    new.iter_mut().step_by(4 << 10).for_each(|byte| *byte ^= 1);
    (old, new)
}

/// Two versions that share most chunks: something was inserted, and something repeats.
fn edited() -> (Vec<u8>, Vec<u8>) {
    let old = noise(6, 1_500_000);
    let mut new = old.clone();
    new.splice(400_000..400_000, noise(7, 100_000));
    (old, new)
}

fn opened(dir: &tempfile::TempDir) -> Chunks {
    Chunks::open(dir.path(), Ledger::open(dir.path()).unwrap(), 1 << 30).unwrap()
}

/// A store with `old` in it.
fn store(old: &[u8]) -> (tempfile::TempDir, Chunks) {
    let dir = tempfile::tempdir().unwrap();
    let store = opened(&dir);
    store.import(Digest::of(old), old).unwrap();
    (dir, store)
}

#[tokio::test]
async fn a_delta_makes_the_file_from_what_is_here_and_nothing_stays_behind() {
    let (old, new) = retrained();
    let depot = Depot::start(&old, &new).await;
    let (_dir, store) = store(&old);
    assert!(std::fs::read(depot.fetched(&store).await.unwrap()).unwrap() == new);
    let patch = depot.length("patch");
    assert_eq!((depot.sent("patch"), depot.sent("whole").0 + depot.sent("packed").0), ((patch, 1), 0));
    assert_eq!(depot.asked.lock().unwrap()[0].bases, [depot.base], "it was asked with what is here");
    let tally = store.tally(&depot.target.0).unwrap().unwrap();
    assert_eq!((tally.way, tally.fetched, tally.size), (Some(Way::Delta), patch as u64, new.len() as u64));
    assert!(patch < new.len() / 5, "{patch}");
    assert_eq!(store.used().unwrap(), (old.len() + new.len()) as u64, "the patch is gone");
}

#[tokio::test]
async fn chunks_that_are_here_are_not_fetched_and_one_that_repeats_comes_once() {
    let (old, mut new) = edited();
    new.extend(vec![0; 700_000]);
    let depot = Depot::start(&old, &new).await.without(&["patch"]);
    let (_dir, store) = store(&old);
    assert!(std::fs::read(depot.fetched(&store).await.unwrap()).unwrap() == new);
    let (packed, whole) = (depot.sent("packed").0, depot.sent("whole").0);
    assert!(packed < 350_000 && whole == 0, "{packed} of {}", new.len());
    let tally = store.tally(&depot.target.0).unwrap().unwrap();
    assert_eq!((tally.way, tally.fetched as usize), (Some(Way::Chunks), packed + depot.length("recipe")));
}

#[tokio::test]
async fn a_delta_that_lies_or_does_not_come_gives_place_to_chunks_and_what_was_there_is_kept() {
    let (old, new) = retrained();
    let other = noise(9, new.len());
    let good = patch_from(&old, &new, MAX_WINDOW_LOG).unwrap();
    let claims = |patch: Vec<u8>| {
        let header = Header::decode(patch[..HEADER_BYTES].try_into().unwrap()).unwrap();
        let header = Header { target: Digest::of(&new), target_size: new.len() as u64, ..header };
        [&header.encode()[..], &patch[HEADER_BYTES..]].concat()
    };
    let lies = [
        ("makes other bytes", claims(patch_from(&old, &other[..300_000], MAX_WINDOW_LOG).unwrap()), None),
        ("is between other files", patch_from(&old, &other[..300_000], MAX_WINDOW_LOG).unwrap(), None),
        ("is cut short", good[..good.len() / 2].to_vec(), None),
        ("is nonsense", noise(3, 100), None),
        ("is not what its digest says", good.clone(), Some(Fault::Lie(1_000))),
        ("is not there", good.clone(), Some(Fault::Status(404))),
        ("fails", good.clone(), Some(Fault::Status(500))),
        ("has no such range", good.clone(), Some(Fault::Status(416))),
        ("never answers", good.clone(), Some(Fault::Hang)),
        ("has another length", good.clone(), Some(Fault::Longer)),
    ];
    for (what, patch, fault) in lies {
        let depot = Depot::start(&old, &new).await;
        let (_dir, store) = store(&old);
        // A first attempt without a delta brings the beginning.
        let patch = (depot.objects.lock().unwrap().remove("patch"), patch).1;
        depot.fails(&["packed", "whole"], Fault::Cut(600_000));
        depot.fetched(&store).await.unwrap_err();
        depot.heals();
        depot.objects.lock().unwrap().insert("patch", patch);
        fault.into_iter().for_each(|fault| depot.fails(&["patch"], fault));

        let path = depot.fetched(&store).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(std::fs::read(path).unwrap() == new, "{what}");
        let sent = depot.sent("packed").0;
        assert!(sent < new.len() + 70_000, "{what}: {sent} of {}", new.len());
        assert_eq!(store.used().unwrap(), (old.len() + new.len()) as u64, "{what}: something stays behind");
    }
}

#[tokio::test]
async fn a_delta_goes_on_over_a_restart_where_the_line_broke() {
    let (old, new) = retrained();
    let depot = Depot::start(&old, &new).await;
    let (dir, store) = store(&old);
    let half = depot.length("patch") / 2;
    depot.fails(&["patch"], Fault::Cut(half));
    let error = depot.fetched(&store).await.unwrap_err();
    assert!(matches!(error, FetchError::Broken { .. }), "{error}");
    assert_eq!(depot.sent("packed").1 + depot.sent("whole").1, 0, "a line that broke is no reason for another way");
    // Whatever else happens to the store meanwhile, as long as the target is wanted.
    store.collect(&[depot.base, depot.target.0].into()).unwrap();
    drop(store);
    depot.heals();
    let store = opened(&dir);
    assert!(std::fs::read(depot.fetched(&store).await.unwrap()).unwrap() == new);
    assert_eq!(depot.sent("patch"), (depot.length("patch"), 2));
    assert_eq!(store.tally(&depot.target.0).unwrap().unwrap().fetched, depot.length("patch") as u64);
}

#[tokio::test]
async fn a_chunk_that_lies_is_thrown_away_and_the_rest_comes_as_it_is() {
    let new = noise(8, 1_500_000);
    let depot = Depot::start(b"", &new).await.without(&["patch"]);
    let (_dir, store) = store(b"other");
    depot.fails(&["packed"], Fault::Lie(700_000));
    assert!(std::fs::read(depot.fetched(&store).await.unwrap()).unwrap() == new);
    let sent = depot.sent.lock().unwrap().clone();
    let whole = sent.iter().find(|(name, ..)| name == "whole").unwrap();
    assert!((630_000..=700_000).contains(&whole.1), "it goes on at the chunk that lied: {whole:?}");
}

#[tokio::test]
async fn when_everything_lies_what_was_verified_is_kept_and_gone_on_from() {
    let new = noise(8, 1_500_000);
    let depot = Depot::start(b"", &new).await.without(&["patch"]);
    let (dir, store) = store(b"other");
    depot.fails(&["packed", "whole"], Fault::Lie(700_000));
    let error = depot.fetched(&store).await.unwrap_err();
    assert!(error.to_string().contains("not chunk"), "{error}");
    depot.heals();
    depot.sent.lock().unwrap().clear();
    drop(store);
    assert!(std::fs::read(depot.fetched(&opened(&dir)).await.unwrap()).unwrap() == new);
    let sent = depot.sent("packed").0;
    assert!(sent <= new.len() - 630_000, "{sent}");
    assert_eq!(depot.sent("recipe").0, 0, "the list was here");
}

#[tokio::test]
async fn whatever_a_server_does_at_one_way_the_next_one_goes_on() {
    let (old, new) = edited();
    let recipe_of = |bytes: Vec<u8>| pack(&bytes[..], std::io::sink()).unwrap().encode();
    for fault in [
        Fault::Status(404),
        Fault::Status(416),
        Fault::Status(500),
        Fault::Hang,
        Fault::Stall(0),
        Fault::Cut(0),
        Fault::Longer,
        Fault::Lie(0),
    ] {
        for names in [&["recipe"][..], &["packed"], &["patch", "packed"], &["patch", "recipe"]] {
            let depot = Depot::start(&old, &new).await;
            let depot = if names.contains(&"patch") { depot } else { depot.without(&["patch"]) };
            let (_dir, store) = store(&old);
            depot.fails(names, fault);
            let path = depot.fetched(&store).await.unwrap_or_else(|error| panic!("{fault:?} at {names:?}: {error}"));
            assert!(std::fs::read(path).unwrap() == new, "{fault:?} at {names:?}");
        }
        // With nothing left it says so, and keeps what there is.
        let depot = Depot::start(&old, &new).await;
        let (_dir, store) = store(&old);
        depot.fails(&["patch", "recipe", "packed", "whole"], fault);
        depot.fetched(&store).await.unwrap_err();
        depot.heals();
        assert!(std::fs::read(depot.fetched(&store).await.unwrap()).unwrap() == new, "{fault:?}");
    }
    // A list of another file, and one that is nonsense.
    for list in [recipe_of(noise(1, 300_000)), noise(2, 500)] {
        let depot = Depot::start(&old, &new).await.without(&["patch"]);
        depot.objects.lock().unwrap().insert("recipe", list);
        let (_dir, store) = store(&old);
        assert!(std::fs::read(depot.fetched(&store).await.unwrap()).unwrap() == new);
        assert_eq!(store.used().unwrap(), (old.len() + new.len()) as u64);
    }
}

#[tokio::test]
async fn a_server_that_stalls_or_breaks_off_midway_costs_no_more_than_what_it_sent() {
    let new = noise(8, 1_500_000);
    for fault in [Fault::Stall(500_000), Fault::Cut(500_000)] {
        let depot = Depot::start(b"", &new).await.without(&["patch"]);
        let (_dir, store) = store(b"other");
        depot.fails(&["packed", "whole"], fault);
        let error = depot.fetched(&store).await.unwrap_err();
        assert!(matches!(error, FetchError::Broken { offset, .. } if offset > 400_000), "{fault:?}: {error}");
        depot.heals();
        depot.fetched(&store).await.unwrap();
        let sent = depot.sent("packed").0 + depot.sent("whole").0;
        assert!(sent < new.len() + 70_000, "{fault:?}: {sent}");
    }
}

#[tokio::test]
async fn a_file_that_changes_midway_is_found_out_thrown_away_and_fetched_anew() {
    let (new, other) = (noise(8, 600_000), noise(10, 600_000));
    let depot = Depot::start(b"", &new).await.without(&["patch", "recipe", "packed"]);
    let (_dir, store) = store(b"other");
    depot.fails(&["whole"], Fault::Cut(200_000));
    depot.fetched(&store).await.unwrap_err();
    depot.heals();
    // Of the same length, so that nothing but the digest tells.
    depot.objects.lock().unwrap().insert("whole", other);
    let error = depot.fetched(&store).await.unwrap_err();
    assert!(matches!(error, FetchError::Store(ChunkError::Mismatch { .. })), "{error:?}");
    assert_eq!(store.path(&depot.target.0), None, "nothing of it is used");
    depot.objects.lock().unwrap().insert("whole", new.clone());
    depot.sent.lock().unwrap().clear();
    assert!(std::fs::read(depot.fetched(&store).await.unwrap()).unwrap() == new);
    assert_eq!(depot.sent("whole").0, new.len(), "it began anew");
}

#[tokio::test]
async fn an_address_that_has_expired_is_asked_for_again_and_the_download_goes_on() {
    let (old, new) = retrained();
    for (without, name) in
        [(&["recipe", "packed"][..], "patch"), (&["patch"], "packed"), (&["patch", "recipe", "packed"], "whole")]
    {
        let depot = Depot::start(&old, &new).await.without(without);
        let (_dir, store) = store(&old);
        let names: &[&'static str] = &["patch", "packed", "whole"];
        let half = depot.length(name) / 2;
        depot.fails(names, Fault::Cut(half));
        depot.fetched(&store).await.unwrap_err();
        let begun = depot.sent(name).0;
        assert!(begun > 0, "{name}");
        // Signed for a while, and the while is over.
        depot.fails(names, Fault::Status(403));
        depot.fetched(&store).await.unwrap_err();
        depot.heals();
        let asked = depot.asked.lock().unwrap().len();
        assert!(std::fs::read(depot.fetched(&store).await.unwrap()).unwrap() == new, "{name}");
        assert_eq!(depot.asked.lock().unwrap().len(), asked + 1, "{name}: with a new address");
        let sent: usize = names.iter().filter(|is| !without.contains(is)).map(|is| depot.sent(is).0).sum();
        assert!(sent < depot.length(name) + 70_000, "{name}: {sent} of {}, it did not begin anew", depot.length(name));
    }
}

#[tokio::test]
async fn a_server_without_ranges_sends_all_of_it_and_only_what_is_lacking_is_written() {
    let new = noise(8, 600_000);
    let depot = Depot::start(b"", &new).await.without(&["patch", "recipe", "packed"]);
    let (_dir, store) = store(b"other");
    depot.fails(&["whole"], Fault::Cut(200_000));
    depot.fetched(&store).await.unwrap_err();
    depot.fails(&["whole"], Fault::Whole);
    assert!(std::fs::read(depot.fetched(&store).await.unwrap()).unwrap() == new);
    let tally = store.tally(&depot.target.0).unwrap().unwrap();
    assert_eq!((tally.way, tally.fetched), (Some(Way::Whole), 800_000), "what a line carried is told, not what was of use");
}

#[tokio::test]
async fn what_was_written_and_not_flushed_before_a_kill_is_not_fetched_again() {
    let new = noise(8, 1_500_000);
    let depot = Depot::start(b"", &new).await.without(&["patch"]);
    let (dir, store) = store(b"other");
    let mut download = store.download(depot.target.0, depot.target.1).unwrap();
    download.write(&new[..1_000_000]).unwrap();
    // Neither flushed nor known to the ledger: what a kill leaves.
    drop((download, store));
    let store = opened(&dir);
    depot.fetched(&store).await.unwrap();
    let sent = depot.sent("packed").0;
    assert!(sent <= 570_000, "{sent}");
}

#[tokio::test]
async fn artifacts_keep_to_their_share_of_the_line() {
    let new = noise(8, 600_000);
    let mut depot = Depot::start(b"", &new).await.without(&["patch"]);
    depot.bandwidth = Some(Arc::new(Throttle::new(300_000)));
    let (_dir, store) = store(b"other");
    let begun = Instant::now();
    depot.fetched(&store).await.unwrap();
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900), "one second's worth at once, the rest at the rate: {took:?}");
}

#[tokio::test]
async fn a_fetch_that_is_called_off_lets_go_at_once_and_keeps_what_came() {
    let new = noise(8, 1_500_000);
    let depot = Depot::start(b"", &new).await.without(&["patch"]);
    let (_dir, store) = store(b"other");
    depot.fails(&["packed"], Fault::Stall(800_000));
    let called_off = tokio::time::timeout(Duration::from_millis(400), depot.fetched(&store)).await;
    assert!(called_off.is_err(), "it was still waiting");
    let begun = Instant::now();
    let (digest, size) = depot.target;
    while store.download(digest, size).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5), "the file is still taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    depot.heals();
    depot.sent.lock().unwrap().clear();
    depot.fetched(&store).await.unwrap();
    let (sent, range) = (depot.sent("packed").0, 0..size as usize - 700_000);
    assert!(within(&range, sent), "{sent}");
}

fn within(range: &Range<usize>, value: usize) -> bool {
    range.contains(&value)
}

#[test]
fn the_sample_versions_are_what_the_tests_say_of_them() {
    let shared = |(old, new): (Vec<u8>, Vec<u8>)| {
        let digests = |bytes: &[u8]| {
            let recipe: Recipe = pack(bytes, std::io::sink()).unwrap();
            recipe.chunks().iter().map(|chunk| chunk.digest).collect::<std::collections::BTreeSet<_>>()
        };
        digests(&old).intersection(&digests(&new)).count()
    };
    assert_eq!(shared(retrained()), 0);
    assert!(shared(edited()) > 20);
}
