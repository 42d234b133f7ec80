//! Bytes of released versions: they are kept for ever, still decode, and what is written today is byte for byte the same.
//!
//! To add fixtures for something new: `AIDOS_WRITE_FIXTURES=1 cargo test -p aidos-protocol --test golden`, which writes the files
//! that are missing and never touches one that is there.

#![allow(clippy::unwrap_used)]

use aidos_protocol::frame::{self, Body, VERSION, command, refused};
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{Author, DesiredModel, Edit, FIRST_EPOCH, Intent};
use aidos_protocol::{ApiKeyId, DeploymentId, DeviceId, TenantId, artifact::Digest};
use std::path::PathBuf;

const NOW: Micros = Micros(1_767_225_600_000_000);

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(format!("{name}.bin"))
}

/// The kept bytes of `name`; when it is missing and fixtures are to be written, `made` becomes them.
fn kept(name: &str, made: &[u8]) -> Vec<u8> {
    let path = fixture(name);
    if !path.exists() && std::env::var_os("AIDOS_WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; see the head of this file", path.display()))
}

fn bytes(byte: u8) -> bytes::Bytes {
    vec![byte; 32].into()
}

/// One frame of each kind, with every field set.
fn frames() -> Vec<(&'static str, Body)> {
    let command = |kind| frame::Command { id: "cmd_1".into(), expires_us: 7, kind: Some(kind) };
    let entry = |path: &str| frame::StatusEntry { path: path.into(), value: br#"{"a":1}"#[..].into(), seq: 3 };
    let sample = |seq| frame::Sample { seq, time_us: -1, values: vec![1.5, f64::INFINITY] };
    let endpoints =
        frame::Endpoints { api_url: "https://a".into(), quic: "a:1".into(), mqtt: "a:2".into(), trust: String::new() };
    let repository = frame::Endpoints { trust: "/api/v1/tuf/t/x/".into(), ..endpoints.clone() };
    vec![
        (
            "hello",
            Body::Hello(frame::Hello {
                min_version: 1,
                max_version: 2,
                agent_version: "0.1.0".into(),
                boot_id: 3,
                status_seq: 4,
                intent_epoch: 5,
                intent_heads: vec![bytes(1), bytes(2)],
                transport_note: "quic: timeout".into(),
                // Later agents set this, too: `hello_revocations`.
                revocations: Default::default(),
            }),
        ),
        ("hello_revocations", Body::Hello(frame::Hello { revocations: bytes(18), ..Default::default() })),
        (
            "status_delta",
            Body::StatusDelta(frame::StatusDelta {
                boot_id: 1,
                base_seq: 2,
                seq: 3,
                full: false,
                set: vec![entry("link"), entry("models/digits")],
                removed: vec!["components/x".into()],
            }),
        ),
        (
            "status_full",
            Body::StatusDelta(frame::StatusDelta {
                boot_id: 1,
                seq: 3,
                full: true,
                set: vec![entry("link")],
                ..Default::default()
            }),
        ),
        ("intent_ack", Body::IntentAck(frame::IntentAck { epoch: 1, heads: vec![bytes(3)], resync: true, pending_epoch: 0 })),
        ("intent_ack_pending", Body::IntentAck(frame::IntentAck { epoch: 9, pending_epoch: 7, ..Default::default() })),
        (
            "site_changes",
            Body::SiteChanges(frame::SiteChanges {
                epoch: 1,
                changes: vec![frame::SiteChange {
                    change: bytes(4),
                    user: "alice".into(),
                    key_id: bytes(5),
                    signature: bytes(6),
                }],
            }),
        ),
        (
            "telemetry",
            Body::Telemetry(frame::Telemetry {
                names: vec!["cpu".into(), "mem".into()],
                samples: vec![sample(1), sample(2)],
                lost_samples: 3,
                lost_bytes: 4,
            }),
        ),
        (
            "command_result",
            Body::CommandResult(frame::CommandResult {
                id: "cmd_1".into(),
                outcome: frame::command_result::Outcome::Failed.into(),
                message: "no".into(),
                payload: bytes(7),
                content_type: "application/json".into(),
                header_length: 9,
            }),
        ),
        ("artifact_request", Body::ArtifactRequest(frame::ArtifactRequest { digest: bytes(8), ..Default::default() })),
        (
            "artifact_request_with_bases",
            Body::ArtifactRequest(frame::ArtifactRequest { digest: bytes(8), bases: vec![bytes(21), bytes(22)], window_log: 23 }),
        ),
        ("renew_request", Body::RenewRequest(frame::RenewRequest { csr_der: bytes(9) })),
        ("ping", Body::Ping(frame::Ping { nonce: u64::MAX })),
        ("goodbye", Body::Goodbye(frame::Goodbye { reason: "stopping".into(), retry_after_ms: 10 })),
        (
            "welcome",
            Body::Welcome(frame::Welcome {
                version: 1,
                server_time_us: NOW.0,
                status_boot_id: 2,
                status_seq: 3,
                intent_epoch: 4,
                intent_heads: vec![bytes(10)],
                telemetry_seq: 5,
                keepalive_s: 25,
                endpoints: Some(endpoints),
            }),
        ),
        ("welcome_repository", Body::Welcome(frame::Welcome { version: 1, endpoints: Some(repository), ..Default::default() })),
        (
            "refused",
            Body::Refused(frame::Refused { code: refused::Code::Revoked.into(), message: "revoked".into(), retry_after_ms: 11 }),
        ),
        ("status_ack", Body::StatusAck(frame::StatusAck { boot_id: 1, seq: 2, resync: true })),
        ("intent_changes", Body::IntentChanges(frame::IntentChanges { epoch: 1, changes: bytes(11) })),
        ("intent_document", Body::IntentDocument(frame::IntentDocument { epoch: 1, document: bytes(12) })),
        (
            "site_ack",
            Body::SiteAck(frame::SiteAck {
                epoch: 1,
                heads: vec![bytes(13)],
                rejected: vec![frame::site_ack::Rejected { hash: bytes(14), reason: "because".into() }],
                merged: vec![bytes(15)],
            }),
        ),
        ("telemetry_ack", Body::TelemetryAck(frame::TelemetryAck { seq: 12 })),
        ("command_self_test", Body::Command(command(command::Kind::SelfTest(frame::SelfTest { model: "digits".into() })))),
        (
            "command_restart",
            Body::Command(command(command::Kind::RestartComponent(frame::RestartComponent { component: "link".into() }))),
        ),
        (
            "command_tail_logs",
            Body::Command(command(command::Kind::TailLogs(frame::TailLogs {
                lines: 10,
                level: "warn".into(),
                ..Default::default()
            }))),
        ),
        (
            "command_tail_logs_on",
            Body::Command(command(command::Kind::TailLogs(frame::TailLogs {
                lines: 10,
                level: "warn".into(),
                after: Some(0),
                boot_id: Some(4),
                wait_s: 30,
            }))),
        ),
        ("command_probe", Body::Command(command(command::Kind::Probe(frame::Probe {})))),
        ("command_drain", Body::Command(command(command::Kind::Drain(frame::Drain { wait_s: 30 })))),
        ("command_undrain", Body::Command(command(command::Kind::Undrain(frame::Undrain {})))),
        (
            "command_infer",
            Body::Command(command(command::Kind::Infer(frame::Infer {
                model: "digits".into(),
                model_version: 2,
                body: bytes(16),
                header_length: 3,
            }))),
        ),
        (
            "artifact_grant",
            Body::ArtifactGrant(frame::ArtifactGrant {
                digest: bytes(17),
                url: "https://a/b".into(),
                size: 18,
                expires_us: 19,
                error: "none".into(),
                ..Default::default()
            }),
        ),
        (
            "artifact_grant_with_other_ways",
            Body::ArtifactGrant(frame::ArtifactGrant {
                digest: bytes(17),
                url: "https://a/b".into(),
                size: 18,
                expires_us: 19,
                error: String::new(),
                chunks: Some(Box::new(frame::ArtifactChunks {
                    recipe: bytes(23),
                    recipe_size: 24,
                    recipe_url: "https://a/c".into(),
                    packed_url: "https://a/d".into(),
                })),
                delta: Some(Box::new(frame::ArtifactDelta {
                    base: bytes(21),
                    digest: bytes(25),
                    size: 26,
                    url: "https://a/e".into(),
                })),
            }),
        ),
        ("renew_response", Body::RenewResponse(frame::RenewResponse { chain_pem: "-----BEGIN".into(), error: "no".into() })),
        ("revocations", Body::Revocations(frame::Revocations { devices: vec![vec![1; 16].into(), vec![2; 16].into()] })),
        ("pong", Body::Pong(frame::Pong { nonce: 20 })),
    ]
}

#[test]
fn every_kind_of_frame_is_written_and_read_as_ever() {
    for (name, body) in frames() {
        let made = frame::encode(VERSION, body.clone()).unwrap();
        let kept = kept(name, &made);
        assert_eq!(frame::decode(kept.clone().into()), Ok((1, body)), "{name} is read differently");
        assert_eq!(made, kept, "{name} is written differently");
    }
}

#[test]
fn no_kind_of_frame_is_without_a_fixture() {
    let proto = include_str!("../proto/link.proto");
    let body = &proto[proto.find("oneof body").unwrap()..];
    let body = &body[..body.find('}').unwrap()];
    for line in body.lines().filter(|line| line.contains('=')) {
        let name = line.split_whitespace().nth(1).unwrap();
        let has = frames().iter().any(|(fixture, _)| fixture.starts_with(name));
        assert!(has, "add a frame `{name}` to frames()");
    }
}

fn model() -> Edit {
    let manifest = toml_manifest();
    let model = DesiredModel {
        manifest: Some(manifest),
        deployment: Some(DeploymentId::from_bytes([1; 16])),
        ..DesiredModel::new(3, Digest::of(b"weights"), 7)
    };
    Edit::SetModel { name: "digits".parse().unwrap(), model }
}

fn toml_manifest() -> aidos_protocol::manifest::Manifest {
    let text = "labels = ['0', '1']\n[image]\ninput = 'x'\nwidth = 28\nheight = 28\ncolor = 'gray'\n";
    aidos_protocol::manifest::Manifest::from_toml(text).unwrap()
}

/// A document with one of everything, written by every kind of author.
fn document() -> (Intent, Intent, bytes::Bytes) {
    let mut plane = Intent::genesis(FIRST_EPOCH);
    let key = Author::Key(ApiKeyId::from_bytes([2; 16]));
    let label = |key: &str, value: &str| Edit::SetLabel { key: key.into(), value: value.into() };
    plane.edit(&Author::System, &[label("site", "lab"), model()], NOW).unwrap();
    let device = DeviceId::from_bytes([3; 16]);
    let mut replica = plane.clone();
    let site = Author::Site { device, run: 0, user: "alice".into() };
    let hash = replica.edit(&site, &[label("site", "cellar")], NOW).unwrap().unwrap();
    let change = replica.change(&hash).unwrap();
    let note = Edit::SetNote { key: "n".into(), value: "hello".into() };
    let config = Edit::SetConfig { key: "log.level".into(), value: "info".into() };
    plane.edit(&key, &[label("site", "roof"), note, config], NOW).unwrap();
    let site = plane.authorise(&change, &aidos_protocol::twin::Authority::Site(device)).unwrap();
    plane.apply_site(site).unwrap();
    let next = plane.compact(NOW).unwrap();
    (plane, next, change.into())
}

#[test]
fn genesis_is_these_bytes_for_ever() {
    for epoch in [1, 2] {
        let made = Intent::genesis(epoch).save();
        assert_eq!(made, kept(&format!("twin_genesis_{epoch}"), &made));
    }
}

#[test]
fn documents_of_earlier_versions_read_as_ever() {
    let (plane, next, change) = document();
    for (name, intent) in [("twin_document", &plane), ("twin_next_epoch", &next)] {
        let kept = kept(name, &intent.save());
        let read = Intent::load(&kept).unwrap();
        assert_eq!((read.epoch(), read.view()), (intent.epoch(), intent.view()), "{name} is read differently");
        assert_eq!(read.heads(), intent.heads(), "{name} is written differently");
    }
    assert_eq!(kept("twin_site_change", &change), change);
    // What travels: plain changes, and the same as a bundle when there are many.
    let genesis = Intent::genesis(FIRST_EPOCH);
    let kept = kept("twin_changes", &plane.changes_since(&genesis.heads()).unwrap());
    let mut caught_up = genesis;
    caught_up.apply(&kept).unwrap();
    assert_eq!(caught_up.heads(), plane.heads());
    let message = aidos_protocol::twin::sign::site_change_message(
        TenantId::from_bytes([4; 16]),
        DeviceId::from_bytes([3; 16]),
        1,
        "alice",
        &Intent::identify(&change).unwrap().0,
    );
    assert_eq!(self::kept("twin_site_message", &message), message);
}

/// What joined devices of each released version were answered; a field that is missing in one has a default for ever.
#[test]
fn an_answer_to_a_join_reads_back_with_and_without_a_root() {
    use aidos_protocol::enrol::{EndpointsView, EnrolResponse, TrustAnchor};
    let (device_id, tenant_id) = (DeviceId::new(1_767_225_600_000), TenantId::new(1_767_225_600_000));
    let endpoints = EndpointsView { api_url: "https://a".into(), quic: "a:1".into(), mqtt: "a:2".into(), trust: String::new() };
    let (chain_pem, ca_pem) = ("chain".to_owned(), "ca".to_owned());
    let before = EnrolResponse { device_id, tenant_id, chain_pem, ca_pem, endpoints: endpoints.clone(), trust: None };
    let trust = Some(TrustAnchor { root: "{\"signed\": {}}".into(), signature: "MEUC".into() });
    let now =
        EnrolResponse { endpoints: EndpointsView { trust: "/api/v1/tuf/t/x/".into(), ..endpoints }, trust, ..before.clone() };
    for (name, answer) in [("enrol_response", before), ("enrol_response_trust", now)] {
        // Ids are random in their lower half.
        let read: EnrolResponse = serde_json::from_slice(&kept(name, &serde_json::to_vec_pretty(&answer).unwrap())).unwrap();
        let (is, was) = (&read, &answer);
        assert_eq!(
            (&is.chain_pem, &is.ca_pem, &is.endpoints, &is.trust),
            (&was.chain_pem, &was.ca_pem, &was.endpoints, &was.trust)
        );
        assert_eq!(serde_json::to_vec_pretty(&read).unwrap(), kept(name, &[]));
    }
}
