//! Agents with real identities and real sockets, in one process.

use super::*;
use crate::identity::testing::{TestCa, TestHttp};
use crate::link::{Held, LinkError};
use crate::models::{Source, fetch};
use crate::state::{Chunks, Ledger};
use aidos_protocol::enrol::EndpointsView;
use aidos_protocol::frame::ArtifactGrant;
use aidos_protocol::{DeviceId, TenantId};
use async_trait::async_trait;
use reqwest::StatusCode;
use std::collections::BTreeSet;
use std::ops::Range;
use tempfile::TempDir;
use tokio_util::sync::DropGuard;

const DAY: Duration = Duration::from_secs(86_400);
const TENANT: [u8; 16] = [1; 16];

struct Agent {
    neighbours: Neighbours,
    identity: Identity,
    store: Chunks,
    stop: Option<DropGuard>,
    _dir: TempDir,
}

/// What is particular about one agent; the default is at the site `lab` of the first tenant, with a certificate in force.
struct Options {
    tenant: [u8; 16],
    site: Option<&'static str>,
    age: Duration,
    upload: u64,
    lies: bool,
    mdns: bool,
    refused: BTreeSet<DeviceId>,
}

impl Default for Options {
    fn default() -> Self {
        Self { tenant: TENANT, site: Some("lab"), age: DAY, upload: 1 << 30, lies: false, mdns: false, refused: BTreeSet::new() }
    }
}

/// Has everything that the store has, and gives something else.
struct Liar(Chunks);

impl Pieces for Liar {
    fn has(&self, digest: &Digest) -> Option<u64> {
        self.0.has(digest)
    }
    fn read(&self, digest: &Digest, range: Range<u64>) -> std::io::Result<Bytes> {
        self.0.read(digest, range).map(|bytes| bytes.iter().map(|byte| !byte).collect())
    }
}

fn device(n: usize) -> DeviceId {
    DeviceId::from_bytes([n as u8 + 10; 16])
}

/// A site of agents that know each other's addresses.
async fn site(ca: &TestCa, all: Vec<Options>) -> Vec<Agent> {
    let mut listeners = Vec::new();
    for _ in &all {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let peers: Vec<String> = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
    let start = |(n, (options, listener)): (usize, (Options, TcpListener))| {
        let dir = tempfile::tempdir().unwrap();
        let tenant = TenantId::from_bytes(options.tenant);
        let endpoints = EndpointsView::default();
        let identity = ca.joined_with(&dir.path().join("identity"), endpoints, tenant, device(n), options.age, 30 * DAY);
        let store = Chunks::open(dir.path(), Ledger::open(dir.path()).unwrap(), 1 << 30).unwrap();
        let pieces: Arc<dyn Pieces> = if options.lies { Arc::new(Liar(store.clone())) } else { Arc::new(store.clone()) };
        let peers = if options.mdns { Vec::new() } else { peers.clone() };
        let settings = Settings { peers, mdns: options.mdns, upload_bytes_per_s: options.upload };
        let site: Site = Arc::new(move || options.site.map(str::to_owned));
        let refused: Refused = Arc::new(move |device| options.refused.contains(&device));
        let neighbours = Neighbours::new(settings, identity.clone(), pieces, site, refused);
        let stop = CancellationToken::new();
        let (running, token) = (neighbours.clone(), stop.clone());
        tokio::spawn(async move { running.run(listener, token).await });
        Agent { neighbours, identity, store, stop: Some(stop.drop_guard()), _dir: dir }
    };
    all.into_iter().zip(listeners).enumerate().map(start).collect()
}

fn content(megabytes: usize) -> (Digest, Vec<u8>) {
    let bytes: Vec<u8> = (0..(megabytes << 20) as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    (Digest::of(&bytes), bytes)
}

/// Takes what neighbours give; the bytes, and whether the rest has to come from afar.
async fn take(agent: &Agent, digest: Digest, size: usize) -> (Vec<u8>, bool) {
    let mut pursuit = agent.neighbours.pursue(digest, size as u64).await;
    let mut whole = Vec::new();
    while whole.len() < size {
        match pursuit.next(whole.len() as u64).await {
            Some(bytes) => whole.extend_from_slice(&bytes),
            None => return (whole, true),
        }
    }
    (whole, false)
}

#[tokio::test]
async fn a_file_comes_from_a_neighbour_without_any_control_plane() {
    let agents = site(&TestCa::new(), vec![Options::default(), Options::default()]).await;
    let (digest, bytes) = content(5);
    agents[0].store.import(digest, &bytes).unwrap();
    let (came, afar) = take(&agents[1], digest, bytes.len()).await;
    assert!(came == bytes && !afar);
    let (given, taken) = (agents[0].neighbours.totals(), agents[1].neighbours.totals());
    assert_eq!((given.given, taken.near, taken.afar), (5 << 20, 5 << 20, 0));
    assert_eq!(agents[1].neighbours.view().met, 1);
}

#[tokio::test]
async fn a_neighbour_that_lies_is_found_out_and_shunned_and_the_piece_comes_from_another() {
    // Whoever of the two is asked first, the other way round is among the cases.
    for liar in 0..2 {
        let options = (0..3).map(|n| Options { lies: n == liar, ..Options::default() }).collect();
        let agents = site(&TestCa::new(), options).await;
        let (digest, bytes) = content(1);
        agents[0].store.import(digest, &bytes).unwrap();
        agents[1].store.import(digest, &bytes).unwrap();
        assert_eq!(agents[2].neighbours.piece(digest, bytes.len() as u64).await.unwrap(), bytes);
        let (again, second) = (Digest::of(b"second"), b"second");
        agents[liar].store.import(again, second).unwrap();
        let asked_before = agents[2].neighbours.totals().wrong;
        // The liar alone has it: either it is shunned already, or it is found out now. Either way nothing wrong comes.
        assert_eq!(agents[2].neighbours.piece(again, 6).await, None);
        let view = agents[2].neighbours.view();
        assert_eq!((view.shunned, view.totals.wrong), (1, 1), "{asked_before}");
    }
}

#[tokio::test]
async fn when_a_neighbour_vanishes_midway_another_goes_on_or_the_rest_comes_from_afar() {
    let mut agents = site(&TestCa::new(), (0..3).map(|_| Options::default()).collect()).await;
    let (digest, bytes) = content(6);
    agents[0].store.import(digest, &bytes).unwrap();
    agents[1].store.import(digest, &bytes).unwrap();
    let mut pursuit = agents[2].neighbours.pursue(digest, bytes.len() as u64).await;
    let first = pursuit.next(0).await.unwrap();
    let giver = usize::from(agents[1].neighbours.totals().given > 0);
    agents[giver].stop.take();
    let second = pursuit.next(first.len() as u64).await.unwrap();
    let offset = (first.len() + second.len()) as u64;
    assert_eq!([first, second].concat(), bytes[..offset as usize]);
    assert!(agents[1 - giver].neighbours.totals().given > 0);
    agents[1 - giver].stop.take();
    assert_eq!(pursuit.next(offset).await, None);
    pursuit.came_from_afar(6 << 20, 2 << 20);
    let totals = agents[2].neighbours.totals();
    assert_eq!((totals.near, totals.afar), (4 << 20, 2 << 20));
}

#[tokio::test]
async fn of_many_that_want_a_piece_at_once_one_fetches_it_and_the_others_take_it_from_there() {
    let agents = site(&TestCa::new(), (0..4).map(|_| Options::default()).collect()).await;
    let (digest, bytes) = content(3);
    let each = agents.iter().map(async |agent| {
        let mut pursuit = agent.neighbours.pursue(digest, bytes.len() as u64).await;
        let mut whole = Vec::new();
        while whole.len() < bytes.len() {
            match pursuit.next(whole.len() as u64).await {
                Some(more) => whole.extend_from_slice(&more),
                None => {
                    whole.clone_from(&bytes);
                    pursuit.came_from_afar(bytes.len() as u64, bytes.len() as u64);
                }
            }
        }
        agent.store.import(digest, &whole).unwrap();
    });
    futures::future::join_all(each).await;
    let afar: u64 = agents.iter().map(|agent| agent.neighbours.totals().afar).sum();
    assert_eq!(afar, 3 << 20);
}

#[tokio::test]
async fn another_tenant_another_deployment_and_an_expired_or_refused_device_get_no_byte() {
    let ca = TestCa::new();
    let refuses = |n| Options { refused: BTreeSet::from([device(n)]), ..Options::default() };
    let stranger = Options { tenant: [2; 16], ..Options::default() };
    let expired = Options { age: 40 * DAY, ..Options::default() };
    let mut agents = site(&ca, vec![refuses(3), stranger, expired, Options::default(), Options::default()]).await;
    let (digest, bytes) = content(1);
    agents[0].store.import(digest, &bytes).unwrap();
    // The last one is a neighbour; the stranger, the expired and the refused one are not, on either end.
    assert_eq!(agents[4].neighbours.piece(digest, bytes.len() as u64).await.unwrap(), bytes);
    for (n, why) in [(1, "another tenant"), (2, "expired"), (3, "refused")] {
        let (came, afar) = take(&agents[n], digest, bytes.len()).await;
        assert!(came.is_empty() && afar, "{why}");
    }
    assert_eq!(agents[0].neighbours.totals().given, 1 << 20);
    assert_eq!(agents[4].neighbours.view().met, 2, "the one that has it, and the one that only the first refuses");

    // A certificate of the same names that another CA signed.
    let foreign = TestCa::new();
    let address = agents[4].neighbours.shared.as_ref().unwrap().settings.peers[0].parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let forged =
        foreign.joined_with(dir.path(), EndpointsView::default(), TenantId::from_bytes(TENANT), device(9), DAY, 30 * DAY);
    let dialler = Dialler::new(forged, Arc::new(|_| false));
    assert!(dialler.who(address, "lab").await.is_err());
    agents.clear();
}

#[tokio::test]
async fn another_site_is_turned_away_and_a_device_without_a_site_takes_no_part() {
    let elsewhere = Options { site: Some("shop"), ..Options::default() };
    let nowhere = Options { site: None, ..Options::default() };
    let agents = site(&TestCa::new(), vec![Options::default(), elsewhere, nowhere]).await;
    let (digest, bytes) = content(1);
    for agent in &agents {
        agent.store.import(digest, &bytes).unwrap();
    }
    for n in [1, 2] {
        let (came, afar) = take(&agents[n], Digest::of(b"other"), 5).await;
        assert!(came.is_empty() && afar);
        assert_eq!(agents[n].neighbours.view().met, 0);
    }
    assert!(!agents[2].neighbours.view().sited);
    // Nor is anything given to one that asks all the same, by whatever name of a site.
    let tls = agents[1].identity.member_tls(Arc::new(|_| false), client::ALPN).unwrap();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls.client).no_proxy().build().unwrap();
    let address = &agents[1].neighbours.shared.as_ref().unwrap().settings.peers[0];
    for site in [Some("shop"), Some(""), None] {
        let request = client.get(format!("https://{address}/v1/artifacts/{}", digest.hex())).header("range", "bytes=0-");
        let request = site.iter().fold(request, |request, site| request.header(SITE, *site));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{site:?}");
        let body = response.bytes().await.unwrap();
        assert!(!bytes.windows(16).any(|part| body.windows(16).any(|is| is == part)), "{site:?}");
    }
    assert!(agents.iter().all(|agent| agent.neighbours.totals().given == 0));
}

/// A control plane that knows one file, or cannot be reached.
struct Plane(Option<(String, u64)>);

#[async_trait]
impl Source for Plane {
    async fn grant(&self, digest: Digest, _: Held) -> Result<ArtifactGrant, LinkError> {
        let (url, size) = self.0.clone().ok_or(LinkError::Offline)?;
        Ok(ArtifactGrant { digest: digest.as_bytes().to_vec().into(), url, size, ..ArtifactGrant::default() })
    }
    fn client(&self, _: &str) -> Result<reqwest::Client, String> {
        reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())
    }
    async fn reachable(&self) {}
}

#[tokio::test]
async fn a_download_survives_a_lying_neighbour_and_needs_no_plane_where_an_honest_one_has_the_file() {
    let liar = Options { lies: true, ..Options::default() };
    let agents = site(&TestCa::new(), vec![liar, Options::default(), Options::default()]).await;
    let text = "seven ".repeat(500_000);
    let (digest, size) = (Digest::of(text.as_bytes()), text.len() as u64);
    agents[0].store.import(digest, text.as_bytes()).unwrap();
    let http = TestHttp::start(None).await;
    let served = text.clone();
    http.answer("GET /file", move |_| (200, served.clone()));
    let plane = Plane(Some((format!("http://{}/file", http.address), size)));
    let (second, third) = (&agents[1], &agents[2]);
    let path = fetch(&plane, &second.neighbours, &second.store, digest, Some(size), &[]).await.unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), text);
    let totals = second.neighbours.totals();
    assert_eq!((totals.near, totals.afar, totals.wrong), (size, size, 1));

    // The third may meet the liar first or the second; there is no plane, and it ends with the right bytes.
    let path = fetch(&Plane(None), &third.neighbours, &third.store, digest, Some(size), &[]).await.unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), text);
    assert_eq!(third.neighbours.totals().afar, 0);
    let unknown = fetch(&Plane(None), &Neighbours::off(), &third.store, Digest::of(b"?"), Some(1), &[]).await;
    assert!(unknown.is_err(), "without neighbours and plane nothing comes");
}

#[tokio::test]
async fn neighbours_find_each_other_by_mdns_and_another_tenants_device_is_not_even_dialled() {
    let find = || Options { mdns: true, ..Options::default() };
    let stranger = Options { tenant: [2; 16], ..find() };
    let agents = site(&TestCa::new(), vec![find(), find(), stranger]).await;
    let known = |agent: &Agent| agent.neighbours.view().known;
    // Nothing tells of a multicast packet but the roster.
    while known(&agents[0]) == 0 || known(&agents[1]) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (digest, bytes) = content(1);
    agents[0].store.import(digest, &bytes).unwrap();
    assert_eq!(agents[1].neighbours.piece(digest, bytes.len() as u64).await.unwrap(), bytes);
    assert_eq!((known(&agents[0]), known(&agents[2])), (1, 0));
}

#[tokio::test]
async fn what_is_sent_keeps_to_the_bound() {
    let slow = Options { upload: 1 << 20, ..Options::default() };
    let agents = site(&TestCa::new(), vec![slow, Options::default()]).await;
    let (digest, bytes) = content(2);
    agents[0].store.import(digest, &bytes).unwrap();
    let begun = Instant::now();
    let (came, _) = take(&agents[1], digest, bytes.len()).await;
    assert_eq!(came, bytes);
    // One second's worth at once, the rest at the rate.
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900), "{took:?}");
}

#[tokio::test]
async fn whatever_is_asked_no_more_than_a_range_is_given_and_nonsense_is_refused() {
    let agents = site(&TestCa::new(), vec![Options::default(), Options::default()]).await;
    let (digest, bytes) = content(5);
    agents[0].store.import(digest, &bytes).unwrap();
    let tls = agents[1].identity.member_tls(Arc::new(|_| false), client::ALPN).unwrap();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls.client).no_proxy().build().unwrap();
    let address = &agents[1].neighbours.shared.as_ref().unwrap().settings.peers[0];
    let ask = async |path: &str, range: &str| {
        let request = client.get(format!("https://{address}{path}")).header(SITE, "lab").header("range", range);
        let response = request.send().await.unwrap();
        (response.status(), response.bytes().await.unwrap().len() as u64)
    };
    let path = format!("/v1/artifacts/{}", digest.hex());
    assert_eq!(ask(&path, "bytes=0-").await, (StatusCode::PARTIAL_CONTENT, RANGE));
    assert_eq!(ask(&path.replace("artifacts", "chunks"), "bytes=5242870-").await, (StatusCode::PARTIAL_CONTENT, 10));
    assert_eq!(ask(&path, "bytes=9999999-").await.0, StatusCode::RANGE_NOT_SATISFIABLE);
    for bad in ["/v1/artifacts/..%2f..%2fidentity.json", "/v1/artifacts/xyz", "/v1/other", "/"] {
        assert_eq!(ask(bad, "bytes=0-").await.0, StatusCode::NOT_FOUND, "{bad}");
    }
    let absent = format!("/v1/artifacts/{}", Digest::of(b"absent").hex());
    assert_eq!(ask(&absent, "bytes=0-").await.0, StatusCode::NOT_FOUND);
}
