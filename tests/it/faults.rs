//! Faults of the ground that everything stands on: a disk that is full, a database that is locked, a database that is gone. Each is
//! named to whoever asks, what was there goes on, and afterwards nothing is missing.

use crate::stories::{digit, noise, predicts_seven, sample_model, variant};
use aidos_tests::{Agent, Api, Ext4, Fleet, FleetOptions, Postgres, Tmpfs, eventually};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// What the device says of its model.
async fn model(api: &Api, id: &str) -> Value {
    api.get(&format!("devices/{id}")).await["models"]["digits"].clone()
}

/// The device waits for room, not for another attempt, and says what a person can do about it.
async fn waits_for_room(api: &Api, id: &str, words: &[&str]) {
    eventually(&format!("the device waits and says {words:?}"), async || {
        let shown = model(api, id).await;
        let error = shown["error"].as_str().unwrap_or_default();
        (shown["state"] == "waiting" && words.iter().all(|word| error.contains(word))).then_some(())
    })
    .await;
}

async fn runs(api: &Api, id: &str, version: u64) {
    eventually(&format!("version {version} runs"), async || {
        let shown = model(api, id).await;
        (shown["active_version"] == version && shown["state"] == "ready").then_some(())
    })
    .await;
}

/// A device with version 1 of the sample, its state in `dir`.
async fn device(fleet: &Fleet, dir: &Path) -> (Agent, String) {
    let token = fleet.token(&json!({ "site": "lab" })).await;
    let mut agent = fleet.joined("edge-1", &token, dir);
    agent.start().await;
    fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    let id = fleet.device("edge-1", "online").await["id"].as_str().unwrap().to_owned();
    (agent, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_while_a_model_comes_is_named_and_the_old_model_goes_on() {
    let fleet = Fleet::with(FleetOptions { api_relay: true, ..FleetOptions::default() }).await;
    let dir = fleet.folder().join("edge-1");
    // 64 MiB stay reserved; the rest is for the state and some 16 MiB of models.
    let disk = Tmpfs::mount(&dir, 96);
    let (agent, id) = device(&fleet, &dir).await;

    // Too little room before it begins.
    let filler = disk.fill(4 << 20);
    fleet.push("digits", &variant(fleet.folder(), 2, 8 << 20)).await;
    deploy(&fleet, 2).await;
    waits_for_room(&fleet.api, &id, &["more bytes are needed", "stay reserved", "free some space"]).await;
    predicts_seven(&agent.predict("digits", &digit(7)));
    std::fs::remove_file(&filler).unwrap();
    runs(&fleet.api, &id, 2).await;

    // Full in the middle: the line stalls with half of it here, something else takes the rest of the disk, the line goes on.
    let relay = fleet.api_relay.as_ref().unwrap();
    relay.hold_after(3 << 20);
    fleet.push("digits", &variant(fleet.folder(), 3, 8 << 20)).await;
    deploy(&fleet, 3).await;
    eventually("half of the model is here", async || part(&dir)).await;
    let filler = disk.fill(0);
    relay.release();
    waits_for_room(&fleet.api, &id, &["free", "space"]).await;
    predicts_seven(&agent.predict("digits", &digit(7)));
    assert_eq!(model(&fleet.api, &id).await["active_version"], 2);

    // The ledger lies on the same disk: the agent lives, answers and tells what is wrong, though it can keep nothing of what comes.
    let patch = fleet.api.request(Method::PATCH, &format!("devices/{id}")).json(&json!({ "labels": { "during": "yes" } }));
    assert!(fleet.api.send(patch).await.0.is_success());
    eventually("the device says that its disk is full", async || {
        let shown = fleet.api.get(&format!("devices/{id}")).await;
        let note = shown["link"]["note"].as_str().unwrap_or_default();
        (shown["state"] == "online" && note.contains("is full") && note.contains("free some space")).then_some(())
    })
    .await;
    predicts_seven(&agent.predict("digits", &digit(7)));
    std::fs::remove_file(&filler).unwrap();
    runs(&fleet.api, &id, 3).await;
    eventually("the device has followed", async || {
        let shown = fleet.api.get(&format!("devices/{id}")).await;
        let note = shown["link"]["note"].as_str().unwrap_or_default();
        (shown["in_sync"] == true && shown["labels"]["during"] == "yes" && note.is_empty()).then_some(())
    })
    .await;
    predicts_seven(&agent.predict("digits", &digit(7)));
    assert_eq!(fleet.device("edge-1", "online").await["id"], id.as_str());
    // The agent ends before its disk does.
    drop(agent);
}

/// The device's disk turns read-only: before anything comes, in the middle of it, and while the new version is watched.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_turns_read_only_at_any_step_is_named_and_what_answers_goes_on() {
    let fleet = Fleet::with(FleetOptions { api_relay: true, ..FleetOptions::default() }).await;
    let dir = fleet.folder().join("edge-1");
    let disk = Ext4::mount(&fleet.folder().join("edge-1.img"), &dir, 192);
    let (mut agent, id) = device(&fleet, &dir).await;
    let relay = fleet.api_relay.as_ref().unwrap();
    for (version, step) in [(2, "before"), (3, "midway"), (4, "watched")] {
        fleet.push("digits", &noise(fleet.folder(), version, 4 << 20)).await;
        if step == "before" {
            disk.fails();
        }
        relay.hold_after(if step == "midway" { 1 << 20 } else { 1 << 40 });
        let soak = if step == "watched" { "5s" } else { "0" };
        let name = format!("digits@{version}");
        let made = fleet.cli(&["rollout", "create", &name, "--to", "site=lab", "--soak", soak, "-o", "json"]);
        let rollout: Value = serde_json::from_slice(&made.stdout).unwrap_or_else(|_| panic!("{made:?}"));
        let rollout = format!("rollouts/{}", rollout["id"].as_str().unwrap());
        match step {
            "midway" => {
                eventually("some of the model is here", async || part(&dir)).await;
                disk.fails();
                relay.release();
            }
            "watched" => {
                eventually("the new version answers", async || {
                    (model(&fleet.api, &id).await["active_version"] == version).then_some(())
                })
                .await;
                disk.fails();
            }
            _ => {}
        }
        // It lives, answers, and tells what is wrong where there is something that it cannot do.
        if step != "watched" {
            eventually("the device says that it cannot write", async || {
                let shown = fleet.api.get(&format!("devices/{id}")).await;
                let said = format!("{} {}", shown["link"]["note"], shown["models"]["digits"]["error"]).to_lowercase();
                (shown["state"] == "online" && said.contains("read-only")).then_some(())
            })
            .await;
            assert_eq!(model(&fleet.api, &id).await["active_version"], version - 1);
        }
        predicts_seven(&agent.predict("digits", &digit(7)));
        // Repaired, as at the next start of the machine, it goes on to the end.
        agent.process().kill();
        relay.release();
        disk.repair();
        agent.start().await;
        runs(&fleet.api, &id, version.into()).await;
        predicts_seven(&agent.predict("digits", &digit(7)));
        eventually("the rollout is over", async || (fleet.api.get(&rollout).await["phase"] == "finished").then_some(())).await;
    }
    // The agent ends before its disk does.
    drop(agent);
}

/// A file that is on its way to the device, once a MiB of it is there.
fn part(dir: &Path) -> Option<()> {
    let parts = std::fs::read_dir(dir.join("artifacts")).ok()?.filter_map(Result::ok);
    let mut parts = parts.filter(|entry| entry.path().extension().is_some_and(|end| end == "part"));
    parts.any(|entry| entry.metadata().is_ok_and(|file| file.len() > 1 << 20)).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_is_called_off_ends_within_one_check_in() {
    let fleet = Fleet::with(FleetOptions { api_relay: true, ..FleetOptions::default() }).await;
    let dir = fleet.folder().join("edge-1");
    let (agent, id) = device(&fleet, &dir).await;
    let relay = fleet.api_relay.as_ref().unwrap();
    relay.hold_after(2 << 20);
    fleet.push("digits", &noise(fleet.folder(), 2, 8 << 20)).await;
    let made = fleet.cli(&["rollout", "create", "digits@2", "--to", "site=lab", "-o", "json"]);
    let rollout: Value = serde_json::from_slice(&made.stdout).unwrap();
    eventually("some of it is here", async || part(&dir)).await;
    // The line still stalls: what ends it comes over the link.
    let aborted = fleet.cli(&["rollout", "abort", rollout["id"].as_str().unwrap(), "--revert"]);
    assert!(aborted.status.success(), "{}", String::from_utf8_lossy(&aborted.stderr));
    let gone = eventually("nothing of it is left", async || part(&dir).is_none().then_some(()));
    tokio::time::timeout(Duration::from_secs(15), gone).await.expect("a check-in is shorter");
    runs(&fleet.api, &id, 1).await;
    predicts_seven(&agent.predict("digits", &digit(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_whose_disk_is_full_says_so_and_a_push_goes_on_where_it_was() {
    let mut fleet = Fleet::start().await;
    let (agent, id) = device(&fleet, &fleet.folder().join("edge-1")).await;
    // Its data folder moves to a small disk.
    fleet.control_plane().terminate(Duration::from_secs(30));
    let (dir, before) = (fleet.control_plane_dir(), fleet.folder().join("before"));
    std::fs::rename(&dir, &before).unwrap();
    let disk = Tmpfs::mount(&dir, 96);
    let copied = std::process::Command::new("cp").arg("-a").arg(before.join(".")).arg(&dir).status().unwrap();
    assert!(copied.success());
    fleet.start_control_plane().await;
    fleet.device("edge-1", "online").await;

    let file = variant(fleet.folder(), 2, 16 << 20).to_string_lossy().into_owned();
    let push = || fleet.cli(&["model", "push", &file, "--name", "digits"]);
    let filler = disk.fill(8 << 20);
    let refused = push();
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && error.contains("disk is full") && error.contains("free some space"), "{error}");

    // To the last byte: what is asked is answered, what is to be kept is refused with its reason, and devices go on.
    std::fs::remove_file(&filler).unwrap();
    let filler = disk.fill(0);
    assert_eq!(fleet.api.get("models/digits").await["latest_version"], 1);
    let create = fleet.api.request(Method::POST, "models").json(&json!({ "name": "later" }));
    let (status, problem) = fleet.api.send(create).await;
    assert!(status.is_server_error() && problem.to_string().contains("full"), "{status} {problem}");
    predicts_seven(&agent.predict("digits", &digit(7)));
    assert!(agent.cli(&["labels", "set", "during=yes"]).status.success());

    std::fs::remove_file(&filler).unwrap();
    let pushed = push();
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    deploy(&fleet, 2).await;
    runs(&fleet.api, &id, 2).await;
    eventually("the device has followed", async || {
        let shown = fleet.api.get(&format!("devices/{id}")).await;
        (shown["in_sync"] == true && shown["labels"]["during"] == "yes").then_some(())
    })
    .await;
    // The control plane ends before its disk does.
    fleet.control_plane().kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_beyond_the_stores_limit_is_named_and_comes_once_the_limit_is_raised() {
    let fleet = Fleet::start().await;
    a_store_that_is_full(&fleet, &fleet.folder().join("edge-1")).await;
}

async fn a_store_that_is_full(fleet: &Fleet, dir: &Path) {
    let (mut agent, id) = device(fleet, dir).await;
    let configuration = fleet.folder().join("agent.toml");
    std::fs::write(&configuration, "[storage]\nmax_bytes = 4000000\n").unwrap();
    agent.environment = vec![("AIDOS_AGENT_CONFIG".into(), configuration.to_string_lossy().into_owned())];
    agent.process().terminate(Duration::from_secs(20));
    agent.start().await;
    fleet.push("digits", &variant(fleet.folder(), 2, 8 << 20)).await;
    deploy(fleet, 2).await;
    waits_for_room(&fleet.api, &id, &["at most 4000000", "raise `storage.max_bytes` or deploy fewer models"]).await;
    predicts_seven(&agent.predict("digits", &digit(7)));
    std::fs::write(&configuration, "[storage]\nmax_bytes = 40000000\n").unwrap();
    agent.process().terminate(Duration::from_secs(20));
    agent.start().await;
    predicts_seven(&agent.predict("digits", &digit(7)));
    runs(&fleet.api, &id, 2).await;
}

async fn deploy(fleet: &Fleet, version: u64) {
    fleet.api.post("deployments", &json!({ "subject": format!("digits@{version}"), "selector": "site=lab" })).await;
}

/// Sends a request that must be answered with a problem and a time to come again.
async fn unavailable(api: &Api, name: &str) -> Value {
    let request = api.request(Method::POST, "models").header("idempotency-key", name).json(&json!({ "name": name }));
    let response = request.send().await.expect("the control plane answers although its database does not");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let headers = response.headers();
    assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
    let seconds: u64 = headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["code"], "unavailable");
    problem
}

/// Everything that was there before is there, the model of the failed attempt is made at last, and the device still reports.
async fn nothing_is_lost(fleet: &Fleet, agent: &Agent, id: &str, name: &str) {
    let again = fleet.api.request(Method::POST, "models").header("idempotency-key", name).json(&json!({ "name": name }));
    assert_eq!(fleet.api.send(again).await.0, StatusCode::CREATED);
    fleet.push("digits", &variant(fleet.folder(), 2, 0)).await;
    deploy(fleet, 2).await;
    runs(&fleet.api, id, 2).await;
    predicts_seven(&agent.predict("digits", &digit(7)));
    eventually("the device is online and its telemetry is whole", async || {
        let overview = fleet.api.get(&format!("devices/{id}/telemetry/metrics")).await;
        assert_eq!(overview["lost_samples"], 0);
        let device = fleet.api.get(&format!("devices/{id}")).await;
        (device["state"] == "online" && device["labels"]["during"] == "yes" && device["in_sync"] == true).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_database_is_answered_with_when_to_come_again_and_loses_nothing() {
    let fleet = Fleet::start().await;
    let (agent, id) = device(&fleet, &fleet.folder().join("edge-1")).await;
    let database = rusqlite::Connection::open(fleet.control_plane_dir().join("control-plane.db")).unwrap();
    database.execute_batch("PRAGMA busy_timeout = 10000; BEGIN EXCLUSIVE").unwrap();
    let problem = unavailable(&fleet.api, "held-up").await;
    assert!(problem["detail"].as_str().unwrap().contains("locked"), "{problem}");
    // Whoever only reads is answered, and the site goes on.
    assert_eq!(fleet.api.get("models/digits").await["latest_version"], 1);
    assert!(agent.cli(&["labels", "set", "during=yes"]).status.success());
    let told = fleet.cli(&["token", "create"]);
    let error = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.code() == Some(1) && error.contains("locked") && error.contains("try again"), "{error}");
    database.execute_batch("COMMIT").unwrap();
    nothing_is_lost(&fleet, &agent, &id, "held-up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_killed_and_returns_loses_nothing() {
    let mut postgres = Postgres::start().await;
    let fleet = Fleet::with(FleetOptions { postgres: Some(postgres.url()), ..FleetOptions::default() }).await;
    let (agent, id) = device(&fleet, &fleet.folder().join("edge-1")).await;
    postgres.kill();
    let problem = unavailable(&fleet.api, "held-up").await;
    assert!(problem["detail"].as_str().unwrap().contains("reached"), "{problem}");
    let ready = reqwest::get(format!("{}/readyz", fleet.api.url())).await.unwrap();
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(agent.cli(&["labels", "set", "during=yes"]).status.success());
    predicts_seven(&agent.predict("digits", &digit(7)));
    postgres.restart().await;
    eventually("the control plane is ready again", async || {
        reqwest::get(format!("{}/readyz", fleet.api.url())).await.ok().filter(|r| r.status().is_success()).map(drop)
    })
    .await;
    nothing_is_lost(&fleet, &agent, &id, "held-up").await;
}
