//! A device that is cut off goes on predicting, sampling and taking local edits; on its return all of it is merged and delivered.

use crate::stories::{digit, predicts_seven, sample_model};
use aidos_tests::{Fleet, eventually};
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_cut_off_and_restarted_loses_nothing() {
    let mut fleet = Fleet::start().await;
    let mut agent = fleet.agent("edge-1", &json!({ "site": "lab" })).await;
    fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    predicts_seven(&agent.predict("digits", &digit(7)));
    let id = fleet.device("edge-1", "online").await["id"].as_str().unwrap().to_owned();

    // The plane is killed, the site edits, the device restarts without any network.
    fleet.control_plane().kill();
    let edit = agent.cli(&["labels", "set", "shelf=3"]);
    assert!(edit.status.success(), "{}", String::from_utf8_lossy(&edit.stderr));
    agent.process().terminate(Duration::from_secs(20));
    agent.start().await;
    predicts_seven(&agent.predict("digits", &digit(7)));
    let shown = agent.cli(&["labels"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("shelf"), "{}", String::from_utf8_lossy(&shown.stdout));

    // It returns.
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
    let overview = eventually("telemetry that was sampled offline is delivered", async || {
        let overview = fleet.api.get(&format!("devices/{id}/telemetry/metrics")).await;
        overview["last_at"].as_i64().map(|_| overview)
    })
    .await;
    assert_eq!(overview["lost_samples"], 0);
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
