//! A device that is cut off goes on predicting, sampling and taking local edits; on its return all of it is merged and delivered.

use crate::stories::{digit, predicts_seven, sample_model};
use aidos_tests::{Agent, Fleet, eventually};
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_cut_off_and_restarted_loses_nothing() {
    let mut fleet = Fleet::start().await;
    let config = fleet.folder().join("agent.toml");
    std::fs::write(&config, "[telemetry]\ninterval_s = 1\n").unwrap();
    let mut agent = fleet.agent_with_config("edge-1", &json!({ "site": "lab" }), &config).await;
    fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    predicts_seven(&agent.predict("digits", &digit(7)));
    let id = fleet.device("edge-1", "online").await["id"].as_str().unwrap().to_owned();

    // The plane is killed, the site edits, the device restarts without any network.
    fleet.control_plane().kill();
    let cut_off = now_us();
    let edit = agent.cli(&["labels", "set", "shelf=3"]);
    assert!(edit.status.success(), "{}", String::from_utf8_lossy(&edit.stderr));
    agent.process().terminate(Duration::from_secs(20));
    agent.start().await;
    predicts_seven(&agent.predict("digits", &digit(7)));
    let shown = agent.cli(&["labels"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("shelf"), "{}", String::from_utf8_lossy(&shown.stdout));

    // Of what it sampled meanwhile, before and after its restart, nothing was told to anybody yet.
    let waiting = waiting_samples(&agent).await;
    eventually("it samples", async || (waiting_samples(&agent).await >= waiting + 2.0).then_some(())).await;

    // It returns.
    let restored = now_us();
    fleet.start_control_plane().await;
    eventually("the site's label is merged", async || {
        let device = fleet.api.get(&format!("devices/{id}")).await;
        (device["labels"]["shelf"] == "3" && device["labels"]["site"] == "lab" && device["in_sync"] == true).then_some(())
    })
    .await;
    let author = eventually("the edit is in the activity log", async || {
        let activity = fleet.api.get("activity?limit=100").await;
        activity["items"].as_array()?.iter().find(|a| a["actor"].as_str().is_some_and(|s| s.starts_with("site:"))).cloned()
    })
    .await;
    assert_eq!(author["target"], id.as_str(), "{author}");
    let outage = format!("devices/{id}/telemetry?metric=memory.used_bytes&from={cut_off}&to={restored}&points=2000");
    eventually("telemetry that was sampled offline is delivered", async || {
        let range = fleet.api.get(&outage).await;
        let points = range["series"][0]["points"].as_array()?.iter().filter(|point| point["avg"].as_f64() > Some(0.0)).count();
        (points >= 2).then_some(())
    })
    .await;
    let overview = fleet.api.get(&format!("devices/{id}/telemetry/metrics")).await;
    assert_eq!(overview["lost_samples"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_goes_dead_on_every_way_at_once_costs_a_site_nothing() {
    let mut fleet = Fleet::start().await;
    let mut agent = fleet.agent("edge-1", &json!({ "site": "lab" })).await;
    fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    predicts_seven(&agent.predict("digits", &digit(7)));
    let id = fleet.device("edge-1", "online").await["id"].as_str().unwrap().to_owned();

    // Nothing is refused and nothing is answered, by QUIC, MQTT or HTTP: a cable that was pulled looks the same.
    fleet.control_plane().signal("STOP");
    assert!(agent.cli(&["labels", "set", "before=yes"]).status.success());
    agent.process().terminate(Duration::from_secs(20));
    agent.start().await;
    assert!(agent.cli(&["labels", "set", "after=yes"]).status.success());
    predicts_seven(&agent.predict("digits", &digit(7)));
    fleet.control_plane().signal("CONT");
    eventually("both edits are merged", async || {
        let device = fleet.api.get(&format!("devices/{id}")).await;
        let labels = &device["labels"];
        (labels["before"] == "yes" && labels["after"] == "yes" && device["in_sync"] == true).then_some(())
    })
    .await;
    predicts_seven(&agent.predict("digits", &digit(7)));
}

fn now_us() -> u128 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros()
}

/// Samples that wait in the agent's spool.
async fn waiting_samples(agent: &Agent) -> f64 {
    let metrics = reqwest::get(format!("{}/metrics", agent.url)).await.unwrap().text().await.unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("aidos_telemetry_waiting_samples "));
    line.unwrap_or_else(|| panic!("the agent counts what waits: {metrics}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_control_plane_finds_everything_in_place() {
    let mut fleet = Fleet::start().await;
    let agent = fleet.agent("edge-1", &json!({ "site": "lab" })).await;
    fleet.push("digits", &sample_model()).await;
    let deployment = fleet.deploy("digits@1", "site=lab").await;
    fleet.control_plane().kill();
    fleet.start_control_plane().await;
    fleet.device("edge-1", "online").await;
    let again = fleet.api.get(&format!("deployments/{}", deployment["id"].as_str().unwrap())).await;
    assert_eq!((&again["state"], &again["counts"]["total"]), (&json!("active"), &json!(1)));
    predicts_seven(&agent.predict("digits", &digit(7)));
}
