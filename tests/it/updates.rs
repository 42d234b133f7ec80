//! What a device does about a version by itself, with real agents: a self-test that fails, a crash, a watch that is broken off,
//! experiments beside the version that answers, and files from the neighbour.
//!
//! Deployments carry no policy of their own; it is written into the stored deployment before any device matches it.

use crate::made_models::{Does, WIDTH, made};
use aidos_agent::assembly;
use aidos_agent::identity::Identity;
use aidos_agent::neighbours::{Neighbours, Pieces, Settings, Site};
use aidos_protocol::artifact::Digest;
use aidos_tests::{Agent, Fleet, eventually, free_port};
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Requests that a version must have had before it is judged.
const REQUESTS: usize = 20;

/// A control plane, and a device that runs version 1 of `made`.
async fn device(config: &str) -> (Fleet, Agent, String) {
    let fleet = Fleet::start().await;
    let file = fleet.folder().join("agent.toml");
    std::fs::write(&file, config).unwrap();
    let agent = fleet.agent_with_config("edge-1", &json!({ "site": "lab" }), &file).await;
    fleet.push("made", &made(fleet.folder(), 1, Does::Answers)).await;
    fleet.deploy("made@1", "site=lab").await;
    let id = fleet.device("edge-1", "online").await["id"].as_str().unwrap().to_owned();
    (fleet, agent, id)
}

/// Wants `version` of every device at the site, with what `more` adds to what a deployment says.
async fn want(fleet: &Fleet, version: u64, more: &Value) {
    // A label that nobody has yet, so that nothing is told before the policy is there.
    let label = format!("wave-{}", fleet.api.get("deployments?limit=100").await["items"].as_array().unwrap().len());
    let wish = json!({ "subject": format!("made@{version}"), "selector": format!("{label}=yes") });
    let deployment = fleet.api.post("deployments", &wish).await;
    let database = rusqlite::Connection::open(fleet.control_plane_dir().join("control-plane.db")).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    let id = deployment["id"].as_str().unwrap();
    let text: String = database.query_row("SELECT desired FROM deployments WHERE id = ?1", [id], |row| row.get(0)).unwrap();
    let mut desired: Value = serde_json::from_str(&text).unwrap();
    more.as_object().unwrap().iter().for_each(|(key, value)| desired[key] = value.clone());
    database.execute("UPDATE deployments SET desired = ?2 WHERE id = ?1", (id, desired.to_string())).unwrap();
    for device in fleet.api.get("devices").await["items"].as_array().unwrap() {
        let path = format!("devices/{}", device["id"].as_str().unwrap());
        let patch = fleet.api.request(Method::PATCH, &path).json(&json!({ "labels": { &label: "yes" } }));
        assert!(fleet.api.send(patch).await.0.is_success());
    }
}

/// What the device says of the model, once it is in `state` with `version` wanted.
async fn says(fleet: &Fleet, id: &str, version: u64, state: &str) -> Value {
    eventually(&format!("version {version} is {state}"), async || {
        let model = fleet.api.get(&format!("devices/{id}")).await["models"]["made"].clone();
        (model["state"] == state && model["desired_version"] == version).then_some(model)
    })
    .await
}

/// Asks for an answer to four times `x`; the version that gave it and the first number, or the error.
async fn ask(agent: &Agent, x: f64, parameters: Value) -> Result<(u64, f64), String> {
    let data = vec![x; WIDTH as usize];
    let input = json!({ "name": "x", "datatype": "FP32", "shape": [1, WIDTH], "data": data });
    let request = json!({ "inputs": [input], "parameters": parameters });
    let url = format!("{}/v2/models/made/infer", agent.url);
    let answer = reqwest::Client::new().post(url).json(&request).send().await.unwrap();
    let good = answer.status().is_success();
    let body: Value = answer.json().await.unwrap();
    if !good {
        return Err(body["error"].to_string());
    }
    let version = body["model_version"].as_str().unwrap().parse().unwrap();
    Ok((version, body["outputs"][0]["data"][0].as_f64().unwrap()))
}

/// Registers bytes that belong to a model.
async fn upload(fleet: &Fleet, bytes: &[u8]) -> String {
    let digest = Digest::of(bytes).to_string();
    let begun = fleet.api.post("uploads", &json!({ "digest": digest, "size": bytes.len() })).await;
    let path = format!("uploads/{}", begun["id"].as_str().unwrap());
    let chunk = fleet.api.request(Method::PATCH, &path).header("upload-offset", "0").body(bytes.to_vec());
    assert!(fleet.api.send(chunk).await.0.is_success());
    fleet.api.post(&format!("{path}/complete"), &json!({})).await;
    digest
}

/// A golden case: what zeros are answered with by the version whose bias this is.
fn golden(bias: f64) -> Vec<u8> {
    let tensor = |name: &str, value: f64| {
        let data = vec![value; WIDTH as usize];
        json!([{ "name": name, "datatype": "FP32", "shape": [1, WIDTH], "data": data }])
    };
    let response = json!({ "model_name": "made", "outputs": tensor("y", bias) });
    let case = json!({ "name": "zeros", "request": { "inputs": tensor("x", 0.0) }, "response": response });
    json!({ "tolerance": 1e-4, "cases": [case] }).to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_fails_its_golden_cases_never_answers_and_one_that_passes_them_does() {
    let (fleet, agent, id) = device("").await;
    fleet.push("made", &made(fleet.folder(), 2, Does::Answers)).await;
    let (wrong, right) = (upload(&fleet, &golden(7.0)).await, upload(&fleet, &golden(2.0)).await);
    want(&fleet, 2, &json!({ "golden_digest": wrong })).await;
    let model = says(&fleet, &id, 2, "failed").await;
    let error = model["error"].as_str().unwrap();
    assert!(error.contains("self-test failed") && error.contains("`zeros`") && error.contains("differs by"), "{error}");
    assert_eq!(model["active_version"], 1);
    assert_eq!(ask(&agent, 1.0, json!({})).await, Ok((1, 2.0)));
    want(&fleet, 2, &json!({ "golden_digest": right })).await;
    says(&fleet, &id, 2, "ready").await;
    assert_eq!(ask(&agent, 1.0, json!({})).await, Ok((2, 3.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_ends_the_process_is_given_up_after_three_starts_and_the_old_one_answers() {
    let (fleet, mut agent, id) = device("").await;
    // A device with too little memory for an answer of a gigabyte and its copy.
    agent.process().terminate(Duration::from_secs(20));
    agent.memory = Some(1_500 << 20);
    agent.start().await;
    fleet.push("made", &made(fleet.folder(), 2, Does::TakesMemory)).await;
    want(&fleet, 2, &json!({})).await;
    let mut ends = 0;
    // What a service manager does.
    let model = eventually("the version is given up", async || {
        if !agent.process().is_running() {
            ends += 1;
            agent.spawn();
        }
        let model = fleet.api.get(&format!("devices/{id}")).await["models"]["made"].clone();
        (model["state"] == "failed" && model["desired_version"] == 2).then_some(model)
    })
    .await;
    assert_eq!(ends, 3, "{model}");
    assert!(model["error"].as_str().unwrap().contains("ended 3 times"), "{model}");
    agent.serves().await;
    assert_eq!(ask(&agent, 1.0, json!({})).await, Ok((1, 2.0)));
    // And it stays so.
    agent.process().kill();
    agent.start().await;
    assert_eq!(ask(&agent, 1.0, json!({})).await, Ok((1, 2.0)));
    assert_eq!(says(&fleet, &id, 2, "failed").await["active_version"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_answers_fail_while_it_is_watched_gives_way_to_the_old_one_by_itself() {
    let (fleet, agent, id) = device("").await;
    fleet.push("made", &made(fleet.folder(), 2, Does::FailsBesideZero)).await;
    let policy = json!({ "watch_s": 600, "max_error_rate": 0.1, "min_requests": REQUESTS });
    want(&fleet, 2, &json!({ "update": policy })).await;
    assert_eq!(says(&fleet, &id, 2, "watching").await["active_version"], 2);
    assert_eq!(ask(&agent, 0.0, json!({})).await, Ok((2, 2.0)), "zeros it can answer, or it had not come this far");
    for _ in 0..REQUESTS {
        assert!(ask(&agent, 1.0, json!({})).await.is_err());
    }
    let model = says(&fleet, &id, 2, "rolled_back").await;
    let error = model["error"].as_str().unwrap();
    assert!(error.contains("requests failed") && error.contains("10.0 % are allowed"), "{error}");
    assert_eq!(model["active_version"], 1);
    assert_eq!(ask(&agent, 1.0, json!({})).await, Ok((1, 2.0)));
}

/// The newest reading of each of the device's metrics.
async fn metrics(fleet: &Fleet, id: &str) -> BTreeMap<String, f64> {
    let overview = fleet.api.get(&format!("devices/{id}/telemetry/metrics")).await;
    let all = overview["metrics"].as_array().unwrap().iter();
    all.filter_map(|metric| Some((metric["name"].as_str()?.to_owned(), metric["value"].as_f64()?))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_is_shown_the_traffic_while_the_old_version_answers_and_both_are_counted() {
    let (fleet, agent, id) = device("[telemetry]\ninterval_s = 1\n").await;
    fleet.push("made", &made(fleet.folder(), 2, Does::Answers)).await;
    want(&fleet, 2, &json!({ "update": { "experiment": { "kind": "shadow", "percent": 100 } } })).await;
    assert_eq!(says(&fleet, &id, 2, "trial").await["active_version"], 1);
    // One at a time, since the shadow gets nothing while the device is busy.
    for _ in 0..REQUESTS {
        assert_eq!(ask(&agent, 1.0, json!({})).await, Ok((1, 2.0)));
    }
    eventually("both versions are in telemetry", async || {
        let all = metrics(&fleet, &id).await;
        let read = |name: &str| all.get(&format!("model.made.{name}")).copied();
        let shown = read("2.shadow_compared")? + read("2.shadow_dropped")?;
        // The two versions answer differently, by one everywhere: what class is the largest is the same.
        let told = read("1.requests")? >= REQUESTS as f64 && shown >= REQUESTS as f64 && read("2.shadow_compared")? > 0.0;
        (told && read("2.requests")? > 0.0 && read("2.errors")? == 0.0).then_some(())
    })
    .await;
    eventually("the link's round trip is in telemetry", async || {
        let round_trip = metrics(&fleet, &id).await.get("link.rtt_ms").copied()?;
        (round_trip > 0.0).then_some(())
    })
    .await;
    // What takes its place is the version that stood beside.
    want(&fleet, 2, &json!({})).await;
    says(&fleet, &id, 2, "ready").await;
    assert_eq!(ask(&agent, 1.0, json!({})).await, Ok((2, 3.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_by_key_gives_each_key_the_same_version_always() {
    let (fleet, mut agent, id) = device("[telemetry]\ninterval_s = 1\n").await;
    fleet.push("made", &made(fleet.folder(), 2, Does::Answers)).await;
    want(&fleet, 2, &json!({ "update": { "experiment": { "kind": "split", "percent": 50, "key": "user" } } })).await;
    says(&fleet, &id, 2, "trial").await;
    let mut versions: BTreeMap<u32, u64> = BTreeMap::new();
    for round in 0..2 {
        for user in 0..40 {
            let (version, y) = ask(&agent, 1.0, json!({ "user": format!("u-{user}") })).await.unwrap();
            assert_eq!(y, 1.0 + version as f64);
            assert_eq!(*versions.entry(user).or_insert(version), version, "user {user} in round {round}");
        }
        if round == 0 {
            // Neither does a restart deal the keys anew.
            agent.process().terminate(Duration::from_secs(20));
            agent.start().await;
            eventually("the split goes on", async || {
                let view = reqwest::get(format!("{}/v2/models/made", agent.url)).await.ok()?.json::<Value>().await.ok()?;
                let versions: BTreeSet<&str> = view["versions"].as_array()?.iter().filter_map(Value::as_str).collect();
                (versions.len() == 2).then_some(())
            })
            .await;
            says(&fleet, &id, 2, "trial").await;
            // What was reported before the restart is not what holds now.
            let key = versions.iter().find(|(_, version)| **version == 2).map(|(user, _)| *user).unwrap();
            let parameters = json!({ "user": format!("u-{key}") });
            eventually("the version beside answers", async || {
                ask(&agent, 1.0, parameters.clone()).await.is_ok_and(|(version, _)| version == 2).then_some(())
            })
            .await;
        }
    }
    let beside = versions.values().filter(|version| **version == 2).count();
    assert!((8..=32).contains(&beside), "half of 40 keys, more or less: {beside}");
    // Without the key a request takes no part.
    for _ in 0..REQUESTS {
        assert_eq!(ask(&agent, 1.0, json!({})).await, Ok((1, 2.0)));
    }
    eventually("both versions are in telemetry", async || {
        let all = metrics(&fleet, &id).await;
        let count = |version: u64| all.get(&format!("model.made.{version}.requests")).copied();
        (count(1)? >= (40 - beside + REQUESTS) as f64 && count(2)? >= beside as f64).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_by_chance_lets_both_versions_answer() {
    let (fleet, agent, id) = device("").await;
    fleet.push("made", &made(fleet.folder(), 2, Does::Answers)).await;
    want(&fleet, 2, &json!({ "update": { "experiment": { "kind": "split", "percent": 50 } } })).await;
    says(&fleet, &id, 2, "trial").await;
    let mut beside = 0;
    for _ in 0..100 {
        let (version, y) = ask(&agent, 1.0, json!({})).await.unwrap();
        assert_eq!(y, 1.0 + version as f64);
        beside += u64::from(version == 2);
    }
    // Ten standard deviations of a fair coin.
    assert!((1..=99).contains(&beside), "{beside} of 100");
}

/// A counter of an agent's own metrics.
async fn counter(agent: &Agent, name: &str) -> f64 {
    let text = reqwest::get(format!("{}/metrics", agent.url)).await.unwrap().text().await.unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// The configuration of an agent at `port` whose neighbour is at `other`.
fn neighbour(folder: &Path, name: &str, port: u16, other: u16) -> std::path::PathBuf {
    let file = folder.join(format!("{name}.toml"));
    let text =
        format!("[neighbours]\nenabled = true\nmdns = false\nlisten = '127.0.0.1:{port}'\npeers = ['127.0.0.1:{other}']\n");
    std::fs::write(&file, text).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_fetches_a_model_once_and_a_revoked_device_is_no_neighbour_any_more() {
    let mut fleet = Fleet::start().await;
    let (one, two) = (free_port(), free_port());
    let labels = json!({ "site": "lab" });
    let mut first = fleet.agent_with_config("edge-1", &labels, &neighbour(fleet.folder(), "edge-1", one, two)).await;
    let mut second = fleet.agent_with_config("edge-2", &labels, &neighbour(fleet.folder(), "edge-2", two, one)).await;
    let model = crate::stories::variant(fleet.folder(), 1, 6 << 20);
    let size = std::fs::metadata(&model).unwrap().len() as f64;
    fleet.push("digits", &model).await;
    for name in ["edge-1", "edge-2"] {
        let id = fleet.device(name, "online").await["id"].as_str().unwrap().to_owned();
        eventually("it knows its site", async || {
            (fleet.api.get(&format!("devices/{id}")).await["in_sync"] == true).then_some(())
        })
        .await;
    }
    fleet.deploy("digits@1", "site=lab").await;
    let (mut afar, mut near) = (0.0, 0.0);
    for agent in [&first, &second] {
        afar += counter(agent, "aidos_artifact_afar_bytes_total").await;
        near += counter(agent, "aidos_artifact_near_bytes_total").await;
    }
    assert!((size..size * 1.1).contains(&afar), "{afar} of {size} bytes came over the line");
    assert!(near >= size, "{near} of {size} bytes came from the neighbour");

    // Somebody takes the second device away, with its key and a certificate that is in force.
    let stolen = fleet.device("edge-2", "online").await["id"].as_str().unwrap().to_owned();
    second.process().terminate(Duration::from_secs(20));
    let identity = Identity::load(&assembly::identity_dir(&second.dir)).unwrap().unwrap();
    let digest = Digest::of(&std::fs::read(&model).unwrap());
    let ask = async || {
        let settings = Settings { peers: vec![format!("127.0.0.1:{one}")], mdns: false, upload_bytes_per_s: 1 };
        let site: Site = Arc::new(|| Some("lab".to_owned()));
        let thief = Neighbours::new(settings, identity.clone(), Arc::new(Nothing), site, Arc::new(|_| false));
        thief.piece(digest, size as u64).await.is_some()
    };
    assert!(ask().await, "until it is revoked it is a neighbour");
    fleet.api.post(&format!("devices/{stolen}/revoke"), &json!({})).await;
    eventually("the device that is left has heard of it", async || (!ask().await).then_some(())).await;
    // Not even when it has no control plane to ask, and starts anew; and when the device is deleted, it stays so.
    let deleted = fleet.api.send(fleet.api.request(Method::DELETE, &format!("devices/{stolen}"))).await;
    assert!(deleted.0.is_success(), "{deleted:?}");
    first.process().terminate(Duration::from_secs(20));
    first.start().await;
    fleet.device("edge-1", "online").await;
    fleet.control_plane().kill();
    first.process().terminate(Duration::from_secs(20));
    first.start().await;
    assert!(!ask().await);
    assert_eq!(counter(&first, "aidos_artifact_given_bytes_total").await, 0.0);
}

/// What a thief has to give.
struct Nothing;

impl Pieces for Nothing {
    fn has(&self, _: &Digest) -> Option<u64> {
        None
    }
    fn read(&self, _: &Digest, _: Range<u64>) -> std::io::Result<Bytes> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}
