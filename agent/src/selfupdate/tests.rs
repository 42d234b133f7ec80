//! What is planned, what is staged, and what counts as healthy.

use super::staging;
use super::*;
use crate::models::{FetchError, Source};
use crate::neighbours::Neighbours;
use crate::state::{Chunks, Ledger, Pins};
use crate::update::{Conditions, HouseRules};
use aidos_launcher::{Held, Outcome, Release, State, Verdict};
use aidos_protocol::artifact::Digest;
use aidos_protocol::frame::ArtifactGrant;
use aidos_protocol::rollout::UpdatePolicy;
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{DesiredRelease, ReleaseBinary, ReleaseState, ReleaseStatus};
use async_trait::async_trait;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

fn binary(arch: &str, bytes: &[u8]) -> ReleaseBinary {
    ReleaseBinary { arch: arch.into(), digest: Digest::of(bytes), size: bytes.len() as u64 }
}

fn desired(bytes: &[u8]) -> DesiredRelease {
    DesiredRelease {
        version: "2.0.0".into(),
        binaries: vec![binary("riscv64", b"other"), binary("x86_64", bytes)],
        counter: 5,
        floor: 0,
        deployment: None,
        update: UpdatePolicy::default(),
    }
}

fn installed() -> State {
    State::installed(Release::default())
}

fn planned(desired: Option<DesiredRelease>, state: Result<&State, String>, on_trial: bool) -> (Step, ReleaseStatus) {
    planned_under(desired, state, on_trial, Conditions::default())
}

fn planned_under(
    desired: Option<DesiredRelease>,
    state: Result<&State, String>,
    on_trial: bool,
    conditions: Conditions,
) -> (Step, ReleaseStatus) {
    let standing = Standing { launcher: state, on_trial, own_version: "1.0.0", arch: "x86_64", conditions, now: Micros(100) };
    plan(desired.map(Ok).as_ref(), &standing)
}

fn ended(desired: &DesiredRelease, verdict: Verdict) -> State {
    State { last: Some(Outcome { id: desired.attempt(), release: Release::default(), verdict }), ..installed() }
}

#[test]
fn a_release_is_begun_only_where_a_launcher_can_go_back() {
    assert_eq!(planned(Some(desired(b"x")), Ok(&installed()), false).0, Step::Update(binary("x86_64", b"x")));
    let (step, status) = planned(Some(desired(b"x")), Err("no launcher".into()), false);
    assert_eq!((step, status.state, status.error.as_str()), (Step::Rest, ReleaseState::Failed, "no launcher"));
    // Without a wish there is nothing to complain of.
    assert_eq!(planned(None, Err("no launcher".into()), false).1.state, ReleaseState::Current);
    assert_eq!(planned(None, Ok(&installed()), false).1.active, "1.0.0");
}

#[test]
fn an_attempt_that_has_ended_is_not_begun_again_until_something_else_is_wanted() {
    let wish = desired(b"x");
    let failed = ended(&wish, Verdict::Failed { why: "it hung".into() });
    let (step, status) = planned(Some(wish.clone()), Ok(&failed), false);
    assert_eq!((step, status.state, status.error.as_str()), (Step::Rest, ReleaseState::RolledBack, "it hung"));
    let refused = ended(&wish, Verdict::Refused { why: "floor".into() });
    assert_eq!(planned(Some(wish.clone()), Ok(&refused), false).1.state, ReleaseState::Failed);
    let again = DesiredRelease { deployment: Some(aidos_protocol::DeploymentId::new(1)), ..wish };
    assert!(matches!(planned(Some(again), Ok(&failed), false).0, Step::Update(_)));
}

#[test]
fn what_cannot_or_may_not_run_here_is_refused_before_a_byte_is_fetched() {
    let floor = State { floor: 6, ..installed() };
    let cases: [(DesiredRelease, &State, &str); 4] = [
        (
            DesiredRelease { binaries: vec![binary("aarch64", b"x")], ..desired(b"x") },
            &installed(),
            "no binary of 2.0.0 for x86_64",
        ),
        (desired(b"x"), &floor, "below this device's security floor 6"),
        (DesiredRelease { version: "../x".into(), ..desired(b"x") }, &installed(), "version"),
        (
            DesiredRelease { update: UpdatePolicy { not_after_us: Some(Micros(99)), ..Default::default() }, ..desired(b"x") },
            &installed(),
            "after its time",
        ),
    ];
    for (wish, state, words) in cases {
        let (step, status) = planned(Some(wish), Ok(state), false);
        assert!(step == Step::Rest && status.error.contains(words), "{words}: {status:?}");
    }
    let update = UpdatePolicy { window: Some("Mon 22:00-23:00".parse().unwrap()), ..Default::default() };
    let (step, status) = planned(Some(DesiredRelease { update, ..desired(b"x") }), Ok(&installed()), false);
    assert_eq!((step, status.state), (Step::Wait, ReleaseState::Waiting));
    // Power and heat hold it up too: by its own policy, and by the rules of the house.
    let low = Conditions { battery_percent: Some(20), ..Conditions::default() };
    let hot = Conditions {
        temperature_c: Some(90.0),
        rules: HouseRules { max_temperature_c: 80, ..HouseRules::default() },
        ..Conditions::default()
    };
    let update = UpdatePolicy { min_battery_percent: Some(50), ..Default::default() };
    for (conditions, words) in [(low, "battery has 20 %"), (hot, "90 °C")] {
        let wish = DesiredRelease { update: update.clone(), ..desired(b"x") };
        let (step, status) = planned_under(Some(wish), Ok(&installed()), false, conditions);
        assert!(step == Step::Wait && status.error.contains(words), "{status:?}");
    }
}

#[test]
fn a_version_on_trial_proves_itself_and_takes_up_nothing_else() {
    let wish = desired(b"x");
    let held = Held { release: Release { version: "2.0.0".into(), counter: 5, ..Release::default() }, proven: false };
    let trial: aidos_launcher::State = serde_json::from_value({
        let mut value = serde_json::to_value(installed()).unwrap();
        value["b"] = serde_json::to_value(&held).unwrap();
        value["trial"] = serde_json::json!({ "id": wish.attempt(), "starts": 1 });
        value
    })
    .unwrap();
    let (step, status) = planned(Some(desired(b"another")), Ok(&trial), true);
    assert_eq!((step, status.state, status.active.as_str()), (Step::Prove, ReleaseState::Trial, "2.0.0"));
    assert_eq!(status.previous.as_deref(), Some("installed"));

    // Once it is the good one, the same process says so, and takes up the next wish.
    let release = Release { digest: Digest::of(b"x").to_string(), ..held.release };
    let proven = Held { release, proven: true };
    let good = State { good: aidos_launcher::Slot::B, b: Some(proven), trial: None, ..trial };
    let (step, status) = planned(Some(wish), Ok(&good), true);
    assert_eq!((step, status.state, status.active.as_str()), (Step::Rest, ReleaseState::Ready, "2.0.0"));
    assert_eq!(planned(Some(desired(b"another")), Ok(&good), true).0, Step::Update(binary("x86_64", b"another")));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_breaks_begins_the_count_anew() {
    let (mut health, span) = (Health::default(), Duration::from_secs(60));
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert!(!health.judge(true, span, at(0)) && !health.judge(true, span, at(59)));
    assert!(!health.judge(false, span, at(60)) && !health.judge(true, span, at(61)));
    assert!(!health.judge(true, span, at(120)) && health.judge(true, span, at(121)));
}

struct Nowhere;
#[async_trait]
impl Source for Nowhere {
    async fn grant(&self, _: Digest, _: crate::link::Held) -> Result<ArtifactGrant, crate::link::LinkError> {
        Err(crate::link::LinkError::Offline)
    }
    fn client(&self, _: &str) -> Result<reqwest::Client, String> {
        Err("not here".into())
    }
    async fn reachable(&self) {}
}

/// A store that has `binary` already, and the slots.
fn device(dir: &Path, binary: &[u8]) -> (Chunks, aidos_launcher::Slots) {
    let store = Chunks::open(dir, Ledger::open(dir).unwrap(), 1 << 20).unwrap();
    store.import(Digest::of(binary), binary).unwrap();
    let slots = aidos_launcher::Slots::of(dir);
    slots.create().unwrap();
    (store, slots)
}

#[tokio::test]
async fn what_is_here_is_not_asked_for_and_the_running_binary_helps_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = device(dir.path(), b"the next one");
    let running = dir.path().join("running");
    std::fs::write(&running, b"the one that runs").unwrap();
    let supply = Supply {
        source: Arc::new(Nowhere),
        neighbours: Neighbours::off(),
        store: store.clone(),
        pins: Pins::open(Ledger::open(dir.path()).unwrap()).unwrap(),
        running,
        told: Arc::new(|transfer| panic!("nothing came over the line: {transfer:?}")),
    };
    let part = binary("x86_64", b"the next one");
    supply.bring(&part).await.unwrap();
    let lent = Digest::of(b"the one that runs");
    assert!(store.path(&lent).is_some());
    assert_eq!(supply.pins.kept(crate::clock::now()).unwrap(), HashSet::from([part.digest, lent]));
    let other = binary("x86_64", b"another");
    assert!(matches!(supply.bring(&other).await, Err(FetchError::Link(_))));
}

#[tokio::test]
async fn a_staged_binary_was_verified_and_says_its_version() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = b"#!/bin/sh\necho aidos-agent 2.0.0\n";
    let (store, slots) = device(dir.path(), bytes);
    let (wish, part) = (desired(bytes), binary("x86_64", bytes));
    let request = staging::stage(&store, &slots, &wish, &part).await.unwrap();
    assert_eq!((request.id.as_str(), request.release.counter), (wish.attempt().as_str(), 5));
    assert_eq!(std::fs::read(slots.staged(&request.id).unwrap()).unwrap(), bytes);
}

#[tokio::test]
async fn a_binary_that_fails_or_is_called_otherwise_is_not_staged_for_good() {
    for (text, words) in [
        ("#!/bin/sh\necho aidos-agent 1.9.0\n", "`1.9.0`"),
        ("#!/bin/sh\nexit 3\n", "fails when it is asked"),
        ("no program at all", "does not start"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (store, slots) = device(dir.path(), text.as_bytes());
        let (wish, part) = (desired(text.as_bytes()), binary("x86_64", text.as_bytes()));
        let error = staging::stage(&store, &slots, &wish, &part).await.unwrap_err();
        assert!(error.to_string().contains(words) && !error.again(), "{error}");
    }
}

#[tokio::test]
async fn where_there_is_no_room_beside_the_agent_in_use_nothing_is_written_and_it_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, slots) = device(dir.path(), b"binary");
    let wish = desired(b"binary");
    let part = ReleaseBinary { size: 1 << 60, ..binary("x86_64", b"binary") };
    let error = staging::stage(&store, &slots, &wish, &part).await.unwrap_err();
    assert!(error.again() && error.to_string().contains("free some space"), "{error}");
    assert!(!slots.staged(&wish.attempt()).unwrap().exists());
    // With room it goes on.
    let error = staging::stage(&store, &slots, &wish, &binary("x86_64", b"binary")).await.unwrap_err();
    assert!(error.to_string().contains("does not start"), "{error}");
}

#[tokio::test]
async fn a_stored_binary_that_has_rotted_is_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let (store, slots) = device(dir.path(), b"binary");
    let (wish, part) = (desired(b"binary"), binary("x86_64", b"binary"));
    let file = store.path(&part.digest).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, b"rotten").unwrap();
    let error = staging::stage(&store, &slots, &wish, &part).await.unwrap_err();
    assert!(error.again() && error.to_string().contains("fetched again"), "{error}");
    assert_eq!(store.path(&part.digest), None);
    assert!(!slots.staged(&wish.attempt()).unwrap().exists());
}
