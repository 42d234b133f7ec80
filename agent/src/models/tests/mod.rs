//! The reconciler against a real HTTP server, a real store and a runner that only remembers.

mod faults;
mod ways;
mod world;

use super::*;
use aidos_protocol::rollout::{Experiment, UpdatePolicy};
use aidos_protocol::twin::Health;
use world::{Agent, Plane};

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
    assert!(agent.runner.of("digits").active.is_none() && agent.runner.of("digits").beside.is_none());
    assert_eq!(agent.told.models.lock().unwrap().last().unwrap().1, None);
    for _ in 0..400 {
        if agent.store.list().unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("files of models that nothing refers to are removed");
}

#[tokio::test]
async fn of_a_version_that_nobody_signed_no_byte_is_asked_for_until_somebody_does() {
    let (dir, plane) = (tempfile::tempdir().unwrap(), Plane::start().await);
    let agent = Agent::start(dir.path(), &plane).await;
    plane.unsigned.store(true, Ordering::SeqCst);
    agent.want(&[("digits", plane.publish(1, b"one"))]);
    let status = agent.state("digits", ModelState::Waiting).await;
    assert!(status.error.contains("aidos trust sign digits@1"), "{}", status.error);
    assert_eq!((plane.sent.load(Ordering::SeqCst), status.active_version), (0, None));
    plane.unsigned.store(false, Ordering::SeqCst);
    agent.ready("digits", 1).await;
}

#[tokio::test]
async fn a_download_that_nobody_wants_any_more_ends_as_soon_as_intent_says_so() {
    let (dir, plane) = (tempfile::tempdir().unwrap(), Plane::start().await);
    let agent = Agent::start(dir.path(), &plane).await;
    plane.stalls.store(true, Ordering::SeqCst);
    let model = plane.publish(1, &vec![7; 500_000]);
    agent.want(&[("digits", model.clone())]);
    while plane.sent.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // A server that sends nothing more is waited for much longer than this.
    let begun = std::time::Instant::now();
    agent.want(&[]);
    agent.until("digits", |status| status.is_none()).await;
    let gone = async || {
        let (store, digest) = (agent.store.clone(), model.digest);
        tokio::task::spawn_blocking(move || store.part(&digest).is_none()).await.unwrap()
    };
    while !gone().await {
        assert!(begun.elapsed() < Duration::from_secs(10), "its part stays");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());

    // Another version instead of the one under way comes at once, too.
    plane.sent.store(0, Ordering::SeqCst);
    agent.want(&[("digits", model)]);
    while plane.sent.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    plane.stalls.store(false, Ordering::SeqCst);
    let two = plane.publish(2, b"two");
    agent.want(&[("digits", two.clone())]);
    agent.ready("digits", 2).await;

    // And the one that answers, while the next was coming: nothing of that stays either.
    plane.stalls.store(true, Ordering::SeqCst);
    plane.sent.store(0, Ordering::SeqCst);
    let next = plane.publish(3, &vec![9; 500_000]);
    agent.want(&[("digits", next.clone())]);
    while plane.sent.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    agent.want(&[("digits", two)]);
    let begun = std::time::Instant::now();
    while agent.store.part(&next.digest).is_some() || begun.elapsed() < Duration::from_millis(50) {
        assert!(begun.elapsed() < Duration::from_secs(10), "its part stays");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
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
    let gone = agent.runner.of("mute");
    assert!(gone.active.is_none() && gone.beside.is_none());
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
    assert!(
        !agent.told.models.lock().unwrap().iter().flat_map(|(_, status)| status).any(|status| status.error.contains("secret"))
    );
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
    let again = Agent::restored(dir.path(), &plane).await.unwrap();
    assert_eq!(again.active("digits"), Some(2));
    assert_eq!(again.ready("digits", 2).await.error, "");
    // The file of the active version is lost: the one before it answers, and the status says so.
    std::fs::remove_file(again.store.path(&Digest::of(b"two")).unwrap()).unwrap();
    let third = Agent::restored(dir.path(), &plane).await.unwrap();
    assert_eq!(third.active("digits"), Some(1));
    assert!(third.reconciler.statuses().values().next().unwrap().error.contains("version 2"));
    // With a link it comes back.
    plane.online.store(true, Ordering::SeqCst);
    drop(third.follow());
    third.want(&[("digits", plane.publish(2, b"two"))]);
    third.ready("digits", 2).await;
}

fn watched(model: DesiredModel) -> DesiredModel {
    let update = UpdatePolicy { watch_s: 2, max_error_rate: Some(0.1), ..Default::default() };
    DesiredModel { update, ..model }
}

#[tokio::test]
async fn a_version_whose_requests_fail_is_rolled_back_and_both_ends_are_vouched_for() {
    let (dir, plane) = (tempfile::tempdir().unwrap(), Plane::start().await);
    let agent = Agent::start(dir.path(), &plane).await;
    agent.want(&[("digits", plane.publish(1, b"one"))]);
    agent.ready("digits", 1).await;
    agent.want(&[("digits", watched(plane.publish(2, b"errs")))]);
    let status = agent.state("digits", ModelState::RolledBack).await;
    assert_eq!((status.active_version, status.desired_version), (Some(1), Some(2)));
    assert!(status.error.contains("50 of 100 requests failed"), "{}", status.error);
    let healths = agent.told.healths.lock().unwrap().clone();
    let last = healths.last().unwrap();
    assert_eq!((last.health, last.version, last.candidate.errors), (Health::Unhealthy, 2, 50));
    assert_eq!(last.baseline.as_ref().unwrap().requests, 100);
    assert!(healths.iter().any(|report| (report.health, report.version) == (Health::Watching, 2)));
    assert!(healths.iter().any(|report| (report.health, report.version) == (Health::Healthy, 1)));
    // After a restart it is still given up.
    let again = Agent::start(dir.path(), &plane).await;
    again.want(&[("digits", watched(plane.publish(2, b"errs")))]);
    assert_eq!(again.state("digits", ModelState::RolledBack).await.active_version, Some(1));
    // The first agent lives on in this test, so its count of loads is its own.
    assert_eq!(again.runner.loads.load(Ordering::SeqCst), 1);
}

/// One golden case.
fn golden_case() -> String {
    let exchange = |part| serde_json::json!([{ "name": part, "datatype": "FP32", "shape": [1], "data": [1.0] }]);
    let case = serde_json::json!({ "request": { "inputs": exchange("x") }, "response": { "model_name": "m", "outputs": exchange("y") } });
    serde_json::json!({ "cases": [case] }).to_string()
}

#[tokio::test]
async fn golden_cases_are_fetched_and_a_version_that_fails_them_never_answers() {
    let (dir, plane) = (tempfile::tempdir().unwrap(), Plane::start().await);
    let agent = Agent::start(dir.path(), &plane).await;
    let golden = plane.publish(1, golden_case().as_bytes()).digest;
    let with = |model| DesiredModel { golden_digest: Some(golden), ..model };
    agent.want(&[("digits", with(plane.publish(1, b"one")))]);
    agent.ready("digits", 1).await;
    agent.want(&[("digits", with(plane.publish(2, b"mute")))]);
    assert!(agent.failed("digits").await.error.contains("the self-test failed: case 0"));
    assert_eq!(agent.active("digits"), Some(1));
    let last = agent.told.healths.lock().unwrap().last().unwrap().clone();
    assert_eq!((last.health, last.self_test.map(|test| (test.passed, test.cases))), (Health::Unhealthy, Some((false, 1))));
}

#[tokio::test]
async fn a_window_is_waited_for_before_any_memory_is_taken() {
    let (dir, plane) = (tempfile::tempdir().unwrap(), Plane::start().await);
    let agent = Agent::start(dir.path(), &plane).await;
    agent.want(&[("digits", plane.publish(1, b"one"))]);
    agent.ready("digits", 1).await;
    let update = UpdatePolicy { window: Some("Mon 22:00-23:00".parse().unwrap()), ..Default::default() };
    agent.want(&[("digits", DesiredModel { update, ..plane.publish(2, b"two") })]);
    let waits = agent.state("digits", ModelState::Waiting).await;
    assert!(waits.error.contains("22:00-23:00") && agent.runner.of("digits").beside.is_none(), "{}", waits.error);
    assert!(agent.store.path(&Digest::of(b"two")).is_some(), "downloading is always allowed");
    agent.weather.0.lock().unwrap().minute_of_week = 22 * 60;
    agent.ready("digits", 2).await;
}

#[tokio::test]
async fn a_shadow_stands_beside_until_intent_ends_it() {
    let (dir, plane) = (tempfile::tempdir().unwrap(), Plane::start().await);
    let agent = Agent::start(dir.path(), &plane).await;
    agent.want(&[("digits", plane.publish(1, b"one"))]);
    agent.ready("digits", 1).await;
    let shadow = Experiment::Shadow { percent: 50 };
    let update = UpdatePolicy { experiment: Some(shadow.clone()), ..Default::default() };
    let two = plane.publish(2, b"two");
    agent.want(&[("digits", DesiredModel { update, ..two.clone() })]);
    assert_eq!(agent.state("digits", ModelState::Trial).await.active_version, Some(1));
    let running = |agent: &Agent| agent.runner.experiments.lock().unwrap().values().next().cloned();
    assert_eq!(running(&agent), Some((2, shadow)));
    agent.want(&[("digits", two)]);
    agent.ready("digits", 2).await;
    assert_eq!(running(&agent), None);
}

#[tokio::test]
async fn a_version_that_keeps_ending_the_process_is_given_up_and_an_innocent_model_is_not() {
    let (dir, plane) = (tempfile::tempdir().unwrap(), Plane::start().await);
    let agent = Agent::start(dir.path(), &plane).await;
    let (one, two, other) = (plane.publish(1, b"one"), plane.publish(2, b"two"), plane.publish(1, b"other"));
    agent.want(&[("digits", one), ("other", other.clone())]);
    agent.ready("digits", 1).await;
    agent.ready("other", 1).await;
    agent.want(&[("digits", two.clone()), ("other", other.clone())]);
    agent.ready("digits", 2).await;
    while agent.reconciler.inner.known().models.values().any(|state| !state.starts.is_empty()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Each time the process ends before it has outlived its start.
    for _ in 0..crate::update::machine::MAX_STARTS {
        let again = Agent::restored(dir.path(), &plane).await.unwrap();
        assert_eq!((again.active("digits"), again.active("other")), (Some(2), Some(1)));
    }
    let last = Agent::restored(dir.path(), &plane).await.unwrap();
    assert_eq!((last.active("digits"), last.active("other")), (Some(1), Some(1)), "what came last is blamed, and it alone");
    assert_eq!(last.state("digits", ModelState::RolledBack).await.active_version, Some(1));
    drop(last.follow());
    last.want(&[("digits", two), ("other", other)]);
    last.ready("other", 1).await;
    assert_eq!(last.state("digits", ModelState::RolledBack).await.active_version, Some(1));
}
