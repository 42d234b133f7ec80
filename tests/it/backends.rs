//! The same path on every backend: SQLite and Postgres, a folder and S3, the embedded MQTT listener and Mosquitto.

use crate::stories::{digit, peer, predicts_seven, sample_model};
use aidos_tests::{Bucket, Fleet, FleetOptions, Mosquitto};
use serde_json::json;

/// Join, push, deploy, predict, restart the plane, still there.
async fn whole_path(options: FleetOptions) {
    let mut fleet = Fleet::with(options).await;
    let agent = fleet.agent("edge-1", &json!({ "site": "lab" })).await;
    fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits", "site in (lab, shop)").await;
    predicts_seven(&agent.predict("digits", &digit(7)));
    let stopped = fleet.control_plane().terminate(std::time::Duration::from_secs(20));
    assert!(stopped.success(), "{stopped}");
    fleet.start_control_plane().await;
    fleet.device("edge-1", "online").await;
    assert_eq!(fleet.api.get("models/digits").await["latest_version"], 1);
}

/// A fresh database on the tests' Postgres server.
async fn fresh_database() -> String {
    let server = peer("AIDOS_TEST_POSTGRES_URL");
    let name = format!("it_{}_{}", std::process::id(), rand::random::<u32>());
    let base = server.rsplit_once('/').expect("a Postgres URL has a database").0.to_owned();
    let made = std::process::Command::new("psql").args([&server, "-q", "-c", &format!("create database {name}")]).status();
    assert!(made.is_ok_and(|s| s.success()), "a database can be made on the tests' server");
    format!("{base}/{name}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_path_works_on_postgres() {
    whole_path(FleetOptions { postgres: Some(fresh_database().await), ..FleetOptions::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_path_works_on_s3() {
    let endpoint = peer("AIDOS_TEST_S3_URL");
    // The client library wants the process's provider, which a first API client installs.
    let _ = aidos_tests::Api::new(&endpoint, "");
    let bucket = format!("it-{}-{}", std::process::id(), rand::random::<u32>());
    let made = reqwest::Client::new().put(format!("{endpoint}/{bucket}")).send().await.expect("the S3 server answers");
    assert!(made.status().is_success(), "{}", made.status());
    let s3 = Some(Bucket { endpoint, name: bucket });
    whole_path(FleetOptions { s3, ..FleetOptions::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_path_works_over_mosquitto() {
    let mut fleet = Fleet::start().await;
    // The first start made the CA that the broker's certificate needs.
    fleet.control_plane().terminate(std::time::Duration::from_secs(20));
    let broker = Mosquitto::start(fleet.folder(), &fleet.control_plane_dir().join("pki"));
    fleet.options().broker = Some(broker.url.clone());
    fleet.start_control_plane().await;
    let agent = fleet.agent("edge-1", &json!({ "site": "lab" })).await;
    assert_eq!(fleet.device("edge-1", "online").await["transport"], "mqtt");
    fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    predicts_seven(&agent.predict("digits", &digit(7)));
}
