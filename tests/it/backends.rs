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
    whole_path(FleetOptions { s3: Some(fresh_bucket(false).await), ..FleetOptions::default() }).await;
}

/// A fresh bucket on the tests' S3 server.
async fn fresh_bucket(presign: bool) -> Bucket {
    let endpoint = peer("AIDOS_TEST_S3_URL");
    // The client library wants the process's provider, which a first API client installs.
    let _ = aidos_tests::Api::new(&endpoint, "");
    let name = format!("it-{}-{}", std::process::id(), rand::random::<u32>());
    let made = reqwest::Client::new().put(format!("{endpoint}/{name}")).send().await.expect("the S3 server answers");
    assert!(made.status().is_success(), "{}", made.status());
    Bucket { endpoint, name, presign }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_fetches_from_s3_itself_by_an_address_that_was_signed_for_it() {
    let bucket = fresh_bucket(true).await;
    let fleet = Fleet::with(FleetOptions { s3: Some(bucket.clone()), api_relay: true, ..FleetOptions::default() }).await;
    let agent = fleet.agent("edge-1", &json!({ "site": "lab" })).await;
    // From now on nothing can come to the device from the control plane's API.
    fleet.api_relay.as_ref().expect("asked for").hold_after(0);
    let version = fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    predicts_seven(&agent.predict("digits", &digit(7)));

    // A person's download is sent there, too, by an address that holds for a while and for this artifact.
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let path = format!("artifacts/{}/content", version["digest"].as_str().unwrap());
    let redirect = client.execute(fleet.api.request(reqwest::Method::GET, &path).build().unwrap()).await.unwrap();
    assert_eq!(redirect.status(), reqwest::StatusCode::TEMPORARY_REDIRECT);
    let address = redirect.headers()[reqwest::header::LOCATION].to_str().unwrap().to_owned();
    assert!(address.starts_with(&format!("{}/{}/t/", bucket.endpoint, bucket.name)), "{address}");
    for part in ["X-Amz-Signature=", "X-Amz-Expires=900"] {
        assert!(address.contains(part), "{address}");
    }
    let bytes = reqwest::get(&address).await.unwrap().bytes().await.unwrap();
    assert_eq!(bytes, std::fs::read(sample_model()).unwrap());
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
