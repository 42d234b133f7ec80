//! Simulated fleets: a release goes through hundreds of devices with the agent's own link and machine, and a bad one stays out.

use crate::stories::{sample_model, variant};
use aidos_protocol::twin::ModelState;
use aidos_sim::{Mix, Pace, Quality, Releases, Swarm, SwarmOptions, VirtualFleet};
use aidos_tests::{Fleet, eventually};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// Devices that take no longer than a test should.
fn brisk() -> Pace {
    let short = Duration::from_millis(200);
    Pace { pause: short, watch: short, restart: short, sample: Duration::from_secs(5), ..Pace::default() }
}

fn rack(index: usize) -> BTreeMap<String, String> {
    BTreeMap::from([("rack".to_owned(), format!("r{}", index % 10))])
}

/// A control plane with two versions of a model, and devices that run the first.
async fn swarm(devices: usize, mix: Mix, releases: Releases) -> (Fleet, Swarm) {
    let fleet = Fleet::start().await;
    let mut second = std::fs::read(sample_model()).unwrap();
    // ONNX: field 6 of the model, its documentation; the last one counts.
    second.extend([0x32, 1, b'2']);
    let file: PathBuf = fleet.folder().join("second.onnx");
    std::fs::write(&file, second).unwrap();
    fleet.push("digits", &sample_model()).await;
    fleet.push("digits", &file).await;
    let token = fleet.api.post("tokens", &json!({ "uses": devices, "labels": { "site": "lab" } })).await;
    let options = SwarmOptions {
        url: fleet.api.url().to_owned(),
        token: token["token"].as_str().unwrap().to_owned(),
        devices,
        seed: 5,
        mix,
        releases,
        pace: brisk(),
        labels: rack,
        folder: fleet.folder().join("identities"),
    };
    let mut swarm = Swarm::join(options).await.unwrap();
    swarm.start();
    deploy(&fleet, "digits@1", "site=lab", "ready", devices).await;
    assert_eq!(swarm.counts().answers, BTreeMap::from([(1, devices)]));
    (fleet, swarm)
}

/// Deploys, and waits until so many devices have come to where they are expected.
async fn deploy(fleet: &Fleet, model: &str, selector: &str, end: &str, devices: usize) -> Value {
    let deployment = fleet.api.post("deployments", &json!({ "subject": model, "selector": selector })).await;
    let path = format!("deployments/{}", deployment["id"].as_str().unwrap());
    let what = format!("{devices} devices are {end}");
    eventually(&what, async || {
        let counts = fleet.api.get(&path).await["counts"].clone();
        (counts[end] == devices).then_some(counts)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_reaches_a_fleet_with_slow_absent_and_killed_devices() {
    let mix = Mix { slow: 0.1, absent: 0.1, killed: 0.1, ..Mix::default() };
    let (fleet, swarm) = swarm(120, mix, Releases::default()).await;
    deploy(&fleet, "digits@2", "rack=r0", "ready", 12).await;
    assert_eq!(swarm.counts().asked[&2], 12, "only those that were meant were asked");
    deploy(&fleet, "digits@2", "site=lab", "ready", 120).await;
    let counts = swarm.counts();
    assert_eq!(counts.answers, BTreeMap::from([(2, 120)]));
    assert!(counts.processes > 120, "some lost their power");
    swarm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_bad_everywhere_answers_nowhere_and_is_said_to_have_failed() {
    for quality in [Quality::DoesNotLoad, Quality::FailsSelfTest, Quality::EndsTheProcess] {
        let (fleet, swarm) = swarm(20, Mix::default(), Releases::default().with(2, quality)).await;
        deploy(&fleet, "digits@2", "rack=r0", "failed", 2).await;
        eventually("all are back", async || (swarm.counts().answers == BTreeMap::from([(1, 20)])).then_some(())).await;
        assert!(!swarm.counts().answered.contains_key(&2), "{quality:?}");
        swarm.stop().await;
    }
}

/// Rollouts that go on at a time, each to a rack of its own.
const RACKS: usize = 10;
/// Seeded bad versions.
const BAD: u64 = 200;

#[allow(clippy::print_stdout)] // the figure that this test is about
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_bad_versions_each_reach_one_device_and_stop_by_themselves() {
    let devices = 200;
    let releases = (0..BAD).fold(Releases::default(), |all, seed| all.with(3 + seed, Quality::bad(seed)));
    let (fleet, swarm) = swarm(devices, Mix::default(), releases.clone()).await;
    let plan = json!({
        "waves": "1%,10%,100%", "soak_s": 2, "auto_revert": true, "gates": ["error_rate<5%", "p95<1.5x"], "min_requests": 20,
    });
    for round in 0..BAD / RACKS as u64 {
        let versions: Vec<u64> = (0..RACKS as u64).map(|rack| 3 + round * RACKS as u64 + rack).collect();
        let mut rollouts = Vec::new();
        for (rack, version) in versions.iter().enumerate() {
            fleet.push("digits", &variant(fleet.folder(), *version as u32, 0)).await;
            let (subject, selector) = (format!("digits@{version}"), format!("rack=r{rack}"));
            let made = fleet.api.post("rollouts", &json!({ "subject": subject, "selector": selector, "plan": plan })).await;
            rollouts.push(made["id"].as_str().unwrap().to_owned());
        }
        for (id, version) in rollouts.iter().zip(&versions) {
            let quality = releases.quality(*version);
            let over = eventually(&format!("version {version}, {quality:?}, is stopped"), async || {
                Some(fleet.api.get(&format!("rollouts/{id}")).await).filter(|rollout| rollout["phase"] != "running")
            })
            .await;
            assert_eq!((&over["phase"], &over["reverted"]), (&json!("aborted"), &json!(true)), "{quality:?}: {over}");
        }
        eventually("all answer with the old version", async || {
            (swarm.counts().answers == BTreeMap::from([(1, devices)])).then_some(())
        })
        .await;
    }
    let counts = swarm.counts();
    for seed in 0..BAD {
        let asked = counts.asked.get(&(3 + seed)).copied().unwrap_or(0);
        assert_eq!(asked, 1, "seed {seed}, {:?}: {asked} devices of a rack were asked for it", releases.quality(3 + seed));
    }
    println!("{BAD} bad versions were stopped by themselves, with one device each exposed, of {} in {RACKS} racks", devices);
    swarm.stop().await;
}

/// Rolls the second version out to the lab, and gives what has become of it once it is over.
async fn rolled_out(fleet: &Fleet, plan: &Value) -> Value {
    let made = fleet.api.post("rollouts", &json!({ "subject": "digits@2", "selector": "site=lab", "plan": plan })).await;
    let path = format!("rollouts/{}", made["id"].as_str().unwrap());
    let over = async || Some(fleet.api.get(&path).await).filter(|rollout| rollout["phase"] != "running");
    eventually("the rollout is over", over).await
}

fn of_all_waves(rollout: &Value, what: &str) -> u64 {
    rollout["waves"].as_array().unwrap().iter().map(|wave| wave[what].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_say_ready_without_running_it_carry_no_rollout() {
    let (fleet, swarm) = swarm(20, Mix { lying: 1.0, ..Mix::default() }, Releases::default()).await;
    let lies: BTreeSet<String> = swarm.scripts().iter().map(|script| format!("{:?}", script.temper)).collect();
    assert_eq!(lies.len(), 3, "no report, a forged one, one of another file: {lies:?}");
    let over = rolled_out(&fleet, &json!({ "waves": "50%,100%", "deadline_s": 3 })).await;
    assert!(over["phase"] != "finished" && of_all_waves(&over, "succeeded") == 0, "{over}");
    swarm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn among_liars_and_crashes_those_count_that_run_the_version() {
    let (fleet, swarm) = swarm(40, Mix { lying: 0.1, crashing: 0.1, ..Mix::default() }, Releases::default()).await;
    let of = |kind: &str| swarm.scripts().iter().filter(|script| format!("{:?}", script.temper).starts_with(kind)).count() as u64;
    let (lying, crashing, steady) = (of("Lying"), of("Crashing"), of("Steady"));
    assert!(lying > 0 && crashing > 0 && lying + crashing + steady == 40, "{lying} {crashing} {steady}");
    let over = rolled_out(&fleet, &json!({ "waves": "100%", "deadline_s": 5, "max_failed": "50%" })).await;
    assert_eq!((&over["phase"], of_all_waves(&over, "succeeded")), (&json!("finished"), steady), "{over}");
    assert_eq!(of_all_waves(&over, "failed") + of_all_waves(&over, "silent"), lying + crashing, "{over}");
    assert_eq!(swarm.counts().answers[&2] as u64, steady);
    swarm.stop().await;
}

#[test]
fn in_two_hundred_seeded_fleets_every_device_leaves_a_bad_version_by_itself() {
    let model: aidos_protocol::ModelName = "digits".parse().unwrap();
    let wish = |version: u64| {
        let digest = aidos_protocol::artifact::Digest::of(&version.to_be_bytes());
        let mut wish = aidos_protocol::twin::DesiredModel::new(version, digest, 1_000);
        wish.update.watch_s = 5;
        wish.update.max_error_rate = Some(0.05);
        wish.update.max_p95_ratio = Some(1.5);
        wish
    };
    for seed in 0..200 {
        let releases = Releases::default().with(2, Quality::bad(seed));
        let start = aidos_protocol::time::Micros(1_795_392_000_000_000);
        let mut fleet = VirtualFleet::new(model.clone(), seed, 50, &Mix::HONEST, releases.clone(), Pace::default(), start);
        let mut states = BTreeMap::new();
        for version in [1, 2] {
            (0..50).for_each(|device| fleet.want(device, Some(wish(version))));
            let end = aidos_protocol::time::Micros(fleet.now().0 + 300_000_000);
            while fleet.now() < end {
                for told in fleet.advance(end) {
                    states.insert(told.device, told.report.map(|report| report.status.state));
                }
            }
            if version == 1 {
                assert!((0..50).all(|device| fleet.answers(device) == Some(1)), "seed {seed}: {states:?}");
            }
        }
        assert!((0..50).all(|device| fleet.answers(device) == Some(1)), "seed {seed}, {releases:?}: {states:?}");
        let gave_up = |state: &Option<ModelState>| matches!(state, Some(ModelState::Failed | ModelState::RolledBack));
        assert!(states.values().all(gave_up), "seed {seed}, {releases:?}: {states:?}");
    }
}
