//! A whole agent in one process, on real files and sockets, without a control plane.

use super::*;
use crate::admin::{Finding, Request, StatusView, call};
use crate::identity::testing::TestCa;
use crate::link::IntentPort as _;
use crate::update::{Kept, Slot, State};
use aidos_protocol::artifact::Digest;
use aidos_protocol::enrol::EndpointsView;
use aidos_protocol::frame::IntentDocument;
use aidos_protocol::manifest::Manifest;
use aidos_protocol::twin::{Author, DesiredModel, Edit, FIRST_EPOCH, Intent, IntentView, ModelState};
use std::collections::BTreeMap;
use std::path::Path;

const DIGITS: &[u8] = include_bytes!("../../../models/digits/digits.onnx");

fn joined(dir: &Path) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let endpoints = EndpointsView {
        api_url: "https://127.0.0.1:1".into(),
        quic: "127.0.0.1:1".into(),
        mqtt: "127.0.0.1:1".into(),
        ..Default::default()
    };
    TestCa::new().joined(&identity_dir(dir), endpoints);
}

/// What an earlier life of the agent left: an intent with a model, and that model active.
async fn with_digits(dir: &Path) {
    let ledger = Ledger::open(dir).unwrap();
    let identity = Identity::load(&identity_dir(dir)).unwrap().unwrap();
    let status = StatusMap::new(1);
    let replica = Replica::open(ledger.clone(), identity.tenant_id(), identity.device_id(), signer(&identity), status).unwrap();
    let mut intent = Intent::genesis(FIRST_EPOCH);
    let (size, digest) = (DIGITS.len() as u64, Digest::of(DIGITS));
    let desired = DesiredModel::new(3, digest, size);
    let edit = Edit::SetModel { name: "digits".parse().unwrap(), model: desired };
    intent.edit(&Author::System, &[edit], clock::now()).unwrap();
    replica.apply_document(IntentDocument { epoch: FIRST_EPOCH, document: intent.save().into() }).await.unwrap();
    Chunks::open(dir, ledger.clone(), 1 << 30).unwrap().import(digest, DIGITS).unwrap();
    let kept = Kept {
        slot: Slot { version: 3, digest },
        manifest: Manifest::default(),
        self_test: None,
        measures: None,
        since: clock::now(),
    };
    let state = State { answers: Some(kept), ..State::default() };
    Journal::open(ledger).unwrap().write("digits".parse().unwrap(), &state).await.unwrap();
}

fn config(dir: &Path) -> Config {
    let mut config = Config { data_dir: dir.to_owned(), ..Config::default() };
    config.serve.address = "127.0.0.1:0".parse().unwrap();
    config.check().unwrap()
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("http://{address}{path}")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_device_that_is_cut_off_answers_takes_edits_and_has_them_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    joined(dir.path());
    with_digits(dir.path()).await;
    let stop = CancellationToken::new();
    let running = run(config(dir.path()), stop.clone()).await.unwrap();
    assert_eq!(get(running.serve_addr, "/v2/health/ready").await.0, 200);
    assert_eq!(get(running.serve_addr, "/v2/models/digits/versions/3/ready").await.0, 200);
    let metrics = get(running.serve_addr, "/metrics").await.1;
    assert!(metrics.contains("aidos_link_up 0") && metrics.contains("aidos_model_active"), "{metrics}");
    let announced = std::fs::read_to_string(dir.path().join("run.json")).unwrap();
    assert!(announced.contains(&running.serve_addr.to_string()));

    let set = BTreeMap::from([("site".to_owned(), "lab".to_owned())]);
    let view: IntentView = call(dir.path(), &Request::Labels { set, remove: Vec::new() }).await.unwrap();
    assert_eq!(view.labels["site"], "lab");
    let status: StatusView = call(dir.path(), &Request::Status).await.unwrap();
    assert_eq!((status.edits_pending, status.device_id), (1, Some(running.device_id)));

    let second = run(config(dir.path()), CancellationToken::new()).await.unwrap_err();
    assert!(matches!(second, StartError::Taken { .. }), "{second}");

    stop.cancel();
    running.join().await.unwrap();
    assert!(!dir.path().join("run.json").exists());

    let stop = CancellationToken::new();
    let again = run(config(dir.path()), stop.clone()).await.unwrap();
    let view: IntentView = call(dir.path(), &Request::Intent).await.unwrap();
    assert_eq!(view.labels["site"], "lab");
    stop.cancel();
    again.join().await.unwrap();
}

#[tokio::test]
async fn a_device_that_was_drained_starts_drained_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    joined(dir.path());
    with_digits(dir.path()).await;
    let statuses = Statuses::new(StatusMap::new(1));
    let drain = ports::drain(Ledger::open(dir.path()).unwrap(), statuses.clone()).unwrap();
    let since = drain.drain(clock::now()).await.unwrap();
    assert_eq!(statuses.map().get(path::DRAIN).unwrap()["since_us"], since.0);
    drop(drain);

    let stop = CancellationToken::new();
    let running = run(config(dir.path()), stop.clone()).await.unwrap();
    let (status, why) = get(running.serve_addr, "/v2/health/ready").await;
    assert!(status == 503 && why.contains("drained"), "{status} {why}");
    assert_eq!(get(running.serve_addr, "/v2/health/live").await.0, 200);
    let status: StatusView = call(dir.path(), &Request::Status).await.unwrap();
    assert_eq!(status.drained, Some(since));
    let findings: Vec<Finding> = call(dir.path(), &Request::Doctor).await.unwrap();
    assert!(findings.iter().any(|finding| finding.what == "inference" && finding.detail.contains("drained")), "{findings:?}");
    stop.cancel();
    running.join().await.unwrap();
}

#[tokio::test]
async fn doctor_finds_the_missing_link_and_a_rotten_model_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    joined(dir.path());
    with_digits(dir.path()).await;
    let stop = CancellationToken::new();
    let running = run(config(dir.path()), stop.clone()).await.unwrap();
    let file = dir.path().join("artifacts").join(Digest::of(DIGITS).hex());
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, b"rotten").unwrap();
    let findings: Vec<Finding> = call(dir.path(), &Request::Doctor).await.unwrap();
    for what in ["link", "endpoint api", "endpoint quic", "endpoint mqtt", "model file"] {
        let found = findings.iter().find(|finding| finding.what == what).unwrap_or_else(|| panic!("{what}: {findings:?}"));
        assert!(!found.hint.is_empty(), "{found:?}");
    }
    stop.cancel();
    running.join().await.unwrap();
}

#[tokio::test]
async fn a_device_that_has_not_joined_is_told_how_and_a_busy_port_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = run(config(dir.path()), CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("aidos token create"), "{error}");
    joined(dir.path());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(dir.path());
    config.serve.address = taken.local_addr().unwrap();
    let error = run(config, CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("--serve"), "{error}");
}

#[tokio::test]
async fn a_damaged_ledger_costs_neither_the_identity_nor_the_start() {
    let dir = tempfile::tempdir().unwrap();
    joined(dir.path());
    std::fs::write(dir.path().join("ledger.db"), [7; 9_000]).unwrap();
    let stop = CancellationToken::new();
    let running = run(config(dir.path()), stop.clone()).await.unwrap();
    let findings: Vec<Finding> = call(dir.path(), &Request::Doctor).await.unwrap();
    assert!(findings.iter().any(|finding| finding.what == "ledger" && finding.detail.contains("damaged")));
    let status: StatusView = call(dir.path(), &Request::Status).await.unwrap();
    assert!(status.models.values().all(|model| model.state == ModelState::Ready));
    stop.cancel();
    running.join().await.unwrap();
}

#[tokio::test]
async fn neighbours_that_are_switched_off_open_no_socket_and_switched_on_one_that_wants_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    joined(dir.path());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let with = |enabled| {
        let mut config = config(dir.path());
        config.neighbours = crate::config::Neighbours {
            enabled,
            listen: address,
            peers: vec![address.to_string()],
            ..crate::config::Neighbours::default()
        };
        config
    };
    let stop = CancellationToken::new();
    let running = run(with(Some(false)), stop.clone()).await.unwrap();
    drop(std::net::TcpListener::bind(address).expect("nobody listens there"));
    let findings: Vec<Finding> = call(dir.path(), &Request::Doctor).await.unwrap();
    assert!(findings.iter().any(|finding| finding.what == "neighbours" && finding.detail == "not used"), "{findings:?}");
    stop.cancel();
    running.join().await.unwrap();

    let stop = CancellationToken::new();
    let running = run(with(None), stop.clone()).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(client.get(format!("http://{address}/v1/site")).send().await.is_err(), "plain HTTP");
    assert!(client.get(format!("https://{address}/v1/site")).send().await.is_err(), "TLS without a certificate");
    stop.cancel();
    running.join().await.unwrap();
}
