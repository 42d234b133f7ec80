//! A version goes out in waves to real agents, judged by what they sign; a bad one is stopped in its first wave and goes back.

use crate::stories::{digit, golden, predicts_seven, sample_model, variant};
use aidos_tests::{Agent, Fleet, Process, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

/// A lab of agents that run digits@1, and digits@2 in the registry with golden cases that are right or wrong.
async fn lab(devices: usize, right: bool) -> (Fleet, Vec<Agent>) {
    let fleet = Fleet::start().await;
    let mut agents = Vec::new();
    for number in 0..devices {
        agents.push(fleet.agent(&format!("edge-{number}"), &json!({ "site": "lab" })).await);
    }
    fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    push(&fleet, 2, right);
    (fleet, agents)
}

/// Registers the next version.
fn push(fleet: &Fleet, number: u32, right: bool) {
    let folder = fleet.folder().to_owned();
    let (file, golden) = (variant(&folder, number, 0), golden(&folder, right));
    let out = aidos(fleet, &["model", "push", &text(&file), "--name", "digits", "--golden", &text(&golden)]);
    assert!(out.status.success(), "{}", said(&out));
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn aidos(fleet: &Fleet, arguments: &[&str]) -> Output {
    fleet.cli(arguments)
}

/// Makes a rollout of digits to the lab, and gives its id.
fn create(fleet: &Fleet, model: &str, flags: &[&str]) -> String {
    let arguments = [&["rollout", "create", model, "--to", "site=lab", "-o", "json"], flags].concat();
    let out = aidos(fleet, &arguments);
    assert!(out.status.success(), "{}", said(&out));
    let made: Value = serde_json::from_slice(&out.stdout).unwrap();
    made["id"].as_str().unwrap().to_owned()
}

async fn until(fleet: &Fleet, id: &str, what: &str, check: impl Fn(&Value) -> bool) -> Value {
    let what = format!("rollout: {what}");
    eventually(&what, async || Some(fleet.api.get(&format!("rollouts/{id}")).await).filter(|rollout| check(rollout))).await
}

/// The versions that the agents answer with, by their own word.
async fn versions(fleet: &Fleet) -> Vec<u64> {
    let devices = fleet.api.get("devices").await;
    let mut versions = Vec::new();
    for device in devices["items"].as_array().unwrap() {
        let shown = fleet.api.get(&format!("devices/{}", device["id"].as_str().unwrap())).await;
        versions.push(shown["models"]["digits"]["active_version"].as_u64().unwrap_or(0));
    }
    versions
}

async fn all_run(fleet: &Fleet, version: u64) {
    eventually(&format!("all agents run version {version}"), async || {
        versions(fleet).await.iter().all(|is| *is == version).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_reaches_everyone_wave_by_wave() {
    let (fleet, agents) = lab(4, true).await;
    let planned = aidos(&fleet, &["rollout", "plan", "digits@2", "--to", "site=lab", "--waves", "1,50%,100%", "--soak", "1s"]);
    assert!(planned.status.success() && said(&planned).contains("4 match"), "{}", said(&planned));
    let flags = ["--waves", "1,50%,100%", "--soak", "5s", "--shadow", "10", "--experiment-for", "2s", "-o", "json"];
    let planned = aidos(&fleet, &[&["rollout", "plan", "digits@2", "--to", "site=lab"], flags.as_slice()].concat());
    let planned: Value = serde_json::from_slice(&planned.stdout).unwrap();
    let size = fleet.api.get("models/digits/versions/2").await["size"].as_u64().unwrap();
    // Three waves of 5 s and 2 s; none of the four has a byte of it yet.
    assert_eq!((&planned["bytes_at_most"], &planned["seconds_at_least"]), (&json!(4 * size), &json!(21)), "{planned}");
    let flags = ["--waves", "1,50%,100%", "--soak", "1s", "--gate", "self_test=pass", "--wait", "--timeout", "90s"];
    let out = aidos(&fleet, &[&["rollout", "create", "digits@2", "--to", "site=lab"], flags.as_slice()].concat());
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).contains("4 of 4 devices done"), "{}", said(&out));
    all_run(&fleet, 2).await;
    predicts_seven(&agents[0].predict("digits", &digit(7)));
    let rollouts = fleet.api.get("rollouts").await;
    let id = rollouts["items"][0]["id"].as_str().unwrap();
    until(&fleet, id, "devices tell what their lines carried", |rollout| rollout["bytes_fetched"].as_u64() > Some(0)).await;
    let status = said(&aidos(&fleet, &["rollout", "status", id]));
    for word in ["wave 3  ██", "self_test=pass", " fetched, ", " saved"] {
        assert!(status.contains(word), "{word}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_version_is_stopped_by_its_first_device_and_all_answer_with_the_old_one() {
    let (fleet, agents) = lab(3, false).await;
    let flags = ["--waves", "1,100%", "--gate", "self_test=pass", "--auto-revert", "--wait", "--timeout", "90s"];
    let out = aidos(&fleet, &[&["rollout", "create", "digits@2", "--to", "site=lab"], flags.as_slice()].concat());
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    let rollout = fleet.api.get("rollouts").await["items"][0].clone();
    assert_eq!((&rollout["phase"], &rollout["reverted"]), (&json!("aborted"), &json!(true)), "{rollout}");
    assert_eq!((&rollout["waves"][0]["failed"], &rollout["waves"][1]["waiting"]), (&json!(1), &json!(2)), "{rollout}");
    let id = rollout["id"].as_str().unwrap();
    let status = said(&aidos(&fleet, &["rollout", "status", id]));
    for word in ["aborted", "why", "go back to what they had", "BASELINE", "CANDIDATE", "self_test=pass", "wave 1  ✗"] {
        assert!(status.contains(word), "{word}: {status}");
    }
    let history = fleet.api.get(&format!("rollouts/{id}/history")).await;
    let last = &history["items"][0];
    assert_eq!((&last["action"], &last["actor"]), (&json!("rollout.abort"), &json!("system")), "{history}");
    all_run(&fleet, 1).await;
    for agent in &agents {
        predicts_seven(&agent.predict("digits", &digit(7)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_approve_pause_abort_and_undo() {
    let (fleet, _agents) = lab(2, true).await;
    let id = create(&fleet, "digits@2", &["--waves", "1,100%", "--approve"]);
    let waits = until(&fleet, &id, "the second wave waits", |rollout| rollout["phase"] == "paused").await;
    assert!(waits["reason"].as_str().unwrap().contains("waits for approval"), "{waits}");
    let mut running = versions(&fleet).await;
    running.sort_unstable();
    assert_eq!(running, [1, 2]);
    let resumed = aidos(&fleet, &["rollout", "resume", &id]);
    assert!(said(&resumed).contains("`promote` approves it"), "{}", said(&resumed));
    assert!(aidos(&fleet, &["rollout", "promote", &id, "--reason", "looks fine"]).status.success());
    until(&fleet, &id, "it is finished", |rollout| rollout["phase"] == "finished").await;
    all_run(&fleet, 2).await;

    let undo = aidos(&fleet, &["rollout", "undo", &id, "--reason", "too slow", "-o", "json"]);
    assert!(undo.status.success(), "{}", said(&undo));
    let undo: Value = serde_json::from_slice(&undo.stdout).unwrap();
    assert_eq!((&undo["version"], &undo["undoes"]), (&json!("1"), &json!(id)));
    let undo = undo["id"].as_str().unwrap();
    until(&fleet, undo, "the undo is finished", |rollout| rollout["phase"] == "finished").await;
    all_run(&fleet, 1).await;
    let redo = aidos(&fleet, &["rollout", "undo", undo, "-o", "json"]);
    let redo: Value = serde_json::from_slice(&redo.stdout).unwrap_or_else(|_| panic!("{}", said(&redo)));
    assert_eq!(redo["version"], "2", "{redo}");
    until(&fleet, redo["id"].as_str().unwrap(), "the redo is finished", |rollout| rollout["phase"] == "finished").await;
    all_run(&fleet, 2).await;

    // Back over two versions at once, and to none that there is not.
    push(&fleet, 3, true);
    let third = create(&fleet, "digits@3", &[]);
    until(&fleet, &third, "it is finished", |rollout| rollout["phase"] == "finished").await;
    let nowhere = aidos(&fleet, &["rollout", "undo", &third, "--to", "9"]);
    assert!(nowhere.status.code() == Some(1) && said(&nowhere).contains('9'), "{}", said(&nowhere));
    assert!(aidos(&fleet, &["rollout", "undo", &third, "--to", "1"]).status.success());
    all_run(&fleet, 1).await;

    // What was done, by whom and why.
    let history = said(&aidos(&fleet, &["rollout", "history", &id]));
    for word in ["rollout.create", "rollout.promote", "looks fine", "rollout.undo", "too slow", "key:"] {
        assert!(history.contains(word), "{word}: {history}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_rollout_tells_nobody_else_and_an_aborted_one_goes_back_or_stays() {
    let (fleet, _agents) = lab(2, true).await;
    let id = create(&fleet, "digits@2", &["--waves", "1,100%", "--soak", "2s"]);
    let shown = Process::start("watch", fleet.command(&["rollout", "status", &id, "--watch"]), fleet.folder());
    until(&fleet, &id, "the first device runs it", |rollout| rollout["stage"] == "soak").await;
    assert!(aidos(&fleet, &["rollout", "pause", &id, "--reason", "a call from the shop"]).status.success());
    eventually("who watches sees the pause", async || {
        let log = shown.log();
        (log.contains("paused") && log.contains("a call from the shop")).then_some(())
    })
    .await;
    // Nothing is there to wait for: that nothing happens shows only in time, twice the soak.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let paused = fleet.api.get(&format!("rollouts/{id}")).await;
    assert_eq!((&paused["phase"], &paused["waves"][1]["waiting"]), (&json!("paused"), &json!(1)), "{paused}");
    let mut running = versions(&fleet).await;
    running.sort_unstable();
    assert_eq!(running, [1, 2]);
    assert!(aidos(&fleet, &["rollout", "resume", &id]).status.success());
    until(&fleet, &id, "it is finished", |rollout| rollout["phase"] == "finished").await;
    all_run(&fleet, 2).await;
    eventually("who watches sees the end", async || shown.log().contains("finished").then_some(())).await;

    // The same again is the same, and nobody is told anything.
    assert_eq!(create(&fleet, "digits@2", &["--waves", "1,100%", "--soak", "2s"]), id);

    for (version, flag) in [(3, "--keep"), (4, "--revert")] {
        push(&fleet, version, true);
        let id = create(&fleet, &format!("digits@{version}"), &["--waves", "1,100%", "--approve"]);
        until(&fleet, &id, "the second wave waits", |rollout| rollout["phase"] == "paused").await;
        let aborted = aidos(&fleet, &["rollout", "abort", &id, flag, "--reason", "not this one"]);
        assert!(aborted.status.success(), "{}", said(&aborted));
        // The one that has it keeps it, or goes back to what holds.
        eventually("each stands where it should", async || {
            let has = versions(&fleet).await.iter().filter(|is| **is == u64::from(version)).count();
            (has == usize::from(flag == "--keep")).then_some(())
        })
        .await;
        let status = said(&aidos(&fleet, &["rollout", "status", &id]));
        assert!(status.contains("aborted") && status.contains("why") && status.contains("not this one"), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_gives_each_key_one_version_before_everyone_has_the_new_one() {
    let (fleet, agents) = lab(1, true).await;
    let id = create(&fleet, "digits@2", &["--split", "50:user", "--experiment-for", "8s"]);
    until(&fleet, &id, "it is in its experiment", |rollout| rollout["waves"][0]["trying"] == 1).await;
    let mut versions = BTreeSet::new();
    for user in 0..20 {
        let mut answers = BTreeSet::new();
        for _ in 0..3 {
            let inputs = [json!({ "name": "image", "shape": [1, 1, 28, 28], "datatype": "FP32", "data": vec![0.5; 28 * 28] })];
            let request = json!({ "parameters": { "user": format!("u-{user}") }, "inputs": inputs });
            let asked = reqwest::Client::new().post(format!("{}/v2/models/digits/infer", agents[0].url)).json(&request);
            let answer: Value = asked.send().await.unwrap().json().await.unwrap();
            answers.insert(answer["model_version"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned());
        }
        assert_eq!(answers.len(), 1, "user {user} meets one version");
        versions.extend(answers);
    }
    assert_eq!(versions.len(), 2, "both answer");
    until(&fleet, &id, "it is finished", |rollout| rollout["phase"] == "finished").await;
    all_run(&fleet, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_away_follows_when_it_comes_back() {
    let (fleet, mut agents) = lab(2, true).await;
    agents[1].process().terminate(Duration::from_secs(20));
    fleet.device("edge-1", "offline").await;
    let id = create(&fleet, "digits@2", &["--waves", "50%,100%", "--deadline", "3s"]);
    let over = until(&fleet, &id, "it is over", |rollout| rollout["phase"] != "running").await;
    // If the one that is away was the whole first wave, a person is asked.
    if over["phase"] == "paused" {
        assert!(aidos(&fleet, &["rollout", "promote", &id]).status.success());
    }
    let over = until(&fleet, &id, "it is finished", |rollout| rollout["phase"] == "finished").await;
    let silent: u64 = over["waves"].as_array().unwrap().iter().map(|wave| wave["silent"].as_u64().unwrap()).sum();
    assert_eq!(silent, 1, "{over}");
    agents[1].start().await;
    until(&fleet, &id, "it has followed", |rollout| {
        rollout["waves"].as_array().unwrap().iter().all(|wave| wave["silent"] == 0 && wave["succeeded"] == wave["devices"])
    })
    .await;
    all_run(&fleet, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_compares_before_the_version_answers() {
    let (fleet, agents) = lab(1, true).await;
    let id = create(&fleet, "digits@2", &["--shadow", "100", "--experiment-for", "3s"]);
    until(&fleet, &id, "it is in its experiment", |rollout| rollout["waves"][0]["trying"] == 1).await;
    assert_eq!(versions(&fleet).await, [1], "the old version answers");
    predicts_seven(&agents[0].predict("digits", &digit(7)));
    until(&fleet, &id, "it is finished", |rollout| rollout["phase"] == "finished").await;
    all_run(&fleet, 2).await;
}

/// Lets the agent answer a picture as often as a drift needs.
fn traffic(agent: &Agent, value: u8) {
    for _ in 0..55 {
        let answer = agent.predict("digits", &digit(value));
        assert!(answer.status.success(), "{}", said(&answer));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_application_measures_pauses_and_answers_that_drift_abort() {
    let (fleet, agents) = lab(1, true).await;
    traffic(&agents[0], 7);
    let gates = ["--gate", "memory<16GiB", "--gate", "custom.rejects<5 else pause", "--soak", "4s"];
    let id = create(&fleet, "digits@2", &gates);
    until(&fleet, &id, "the device watches it", |rollout| rollout["waves"][0]["running"] == 1).await;
    let posted = reqwest::Client::new().post(format!("{}/v2/models/digits/versions/2/metrics", agents[0].url));
    assert!(posted.json(&json!({ "rejects": 9 })).send().await.unwrap().status().is_success());
    let paused = until(&fleet, &id, "it pauses", |rollout| rollout["phase"] == "paused").await;
    assert!(paused["reason"].as_str().unwrap().contains("custom.rejects"), "{paused}");
    let memory = &paused["gates"][0];
    assert!(memory["verdict"] == "holds" && memory["candidate"].as_f64() > Some(1e6), "{paused}");
    assert!(aidos(&fleet, &["rollout", "promote", &id, "--reason", "known"]).status.success());
    until(&fleet, &id, "it is finished", |rollout| rollout["phase"] == "finished").await;

    // The next one answers otherwise than the one before: here because it is asked otherwise.
    traffic(&agents[0], 7);
    push(&fleet, 3, true);
    let id = create(&fleet, "digits@3", &["--gate", "drift<0.2", "--soak", "4s", "--auto-revert"]);
    until(&fleet, &id, "the device watches it", |rollout| rollout["waves"][0]["running"] == 1).await;
    traffic(&agents[0], 1);
    let over = until(&fleet, &id, "it is over", |rollout| rollout["phase"] != "running").await;
    let drift = over["gates"][0]["candidate"].as_f64();
    assert!(over["phase"] == "aborted" && drift > Some(0.2), "{over}");
    all_run(&fleet, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_opens_in_each_devices_own_time() {
    let fleet = Fleet::start().await;
    let token = fleet.token(&json!({ "site": "lab" })).await;
    let mut agents = Vec::new();
    // POSIX time zones, which need no database: noon is not at the same time in the two.
    for (name, zone) in [("here", "UTC0"), ("far", "<+12>-12")] {
        let mut agent = fleet.joined(name, &token, &fleet.folder().join(name));
        agent.environment.push(("TZ".into(), zone.into()));
        agent.start().await;
        agents.push(agent);
    }
    fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    push(&fleet, 2, true);
    let minutes = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 60;
    let clock = |minutes: u64| format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60);
    // From an hour ago until in an hour, where it is twelve hours later.
    let window = format!("{}-{}", clock(minutes + 11 * 60), clock(minutes + 13 * 60));
    let id = create(&fleet, "digits@2", &["--window", &window]);
    until(&fleet, &id, "one of them has it", |rollout| rollout["waves"][0]["succeeded"] == 1).await;
    let waits = eventually("the other one waits for its window", async || {
        let devices = fleet.api.get(&format!("deployments/{id}/devices")).await;
        devices["items"].as_array()?.iter().find(|device| device["step"] == "waiting").cloned()
    })
    .await;
    assert_eq!((&waits["name"], &waits["active_version"]), (&json!("here"), &json!("1")), "{waits}");
    assert!(waits["error"].as_str().unwrap().contains("window"), "{waits}");
    let shown = said(&aidos(&fleet, &["deployment", "show", &id]));
    assert!(shown.contains("window"), "a person sees why: {shown}");
    predicts_seven(&agents[0].predict("digits", &digit(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_was_killed_goes_on_where_it_was() {
    let (mut fleet, _agents) = lab(3, true).await;
    let id = create(&fleet, "digits@2", &["--waves", "1,100%", "--soak", "2s"]);
    until(&fleet, &id, "the first device runs it", |rollout| rollout["stage"] == "soak").await;
    fleet.control_plane().kill();
    fleet.start_control_plane().await;
    until(&fleet, &id, "it is finished", |rollout| rollout["phase"] == "finished").await;
    all_run(&fleet, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_followed_says_where_and_why() {
    let fleet = Fleet::start().await;
    fleet.push("digits", &sample_model()).await;
    for (flags, says) in [
        (["--waves", "1%,10%"], "append `,100%`"),
        (["--gate", "error_rate <"], "^"),
        (["--window", "Mon-Fri"], "^"),
        (["--gate", "self_test=pass"], "--golden"),
    ] {
        let out = aidos(&fleet, &[&["rollout", "create", "digits@1", "--to", "site=lab"], flags.as_slice()].concat());
        assert!(!out.status.success() && said(&out).contains(says), "{flags:?}: {}", said(&out));
    }
    // One to nobody goes on.
    create(&fleet, "digits@1", &["--waves", "1,100%", "--approve", "--deadline", "1h"]);
    tokio::time::timeout(
        Duration::from_secs(30),
        until(&fleet, &first(&fleet).await, "nobody is there", |rollout| {
            rollout["phase"] == "paused" || rollout["phase"] == "finished"
        }),
    )
    .await
    .expect("a rollout to nobody goes on");
}

async fn first(fleet: &Fleet) -> String {
    fleet.api.get("rollouts").await["items"][0]["id"].as_str().unwrap().to_owned()
}
