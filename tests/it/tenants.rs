//! Two tenants see nothing of each other: not over REST, not over the links.

use crate::stories::sample_model;
use aidos_tests::Fleet;
use reqwest::{Method, StatusCode};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_see_nothing_of_each_other() {
    let fleet = Fleet::start().await;
    let other = fleet.api.post("tenants", &json!({ "name": "other" })).await;
    let theirs = fleet.api.with_key(other["owner_key"].as_str().unwrap());
    let token = theirs.post("tokens", &json!({})).await["token"].as_str().unwrap().to_owned();
    let _ours = fleet.agent("ours", &json!({ "site": "lab" })).await;
    let _theirs = fleet.agent_with_token("theirs", &token).await;
    let our_device = fleet.device("ours", "online").await["id"].as_str().unwrap().to_owned();
    let version = fleet.push("digits", &sample_model()).await;
    let deployment = fleet.deploy("digits@1", "all").await;

    // Lists hold one's own only, and a selector for everything means everything of one's own.
    let names = |list: serde_json::Value| {
        list["items"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(theirs.get("devices").await), ["theirs"]);
    assert_eq!(names(fleet.api.get("devices").await), ["ours"]);
    assert_eq!(deployment["counts"]["total"], 1);
    assert_eq!(theirs.get("models").await["items"], json!([]));
    assert_eq!(theirs.get("deployments").await["items"], json!([]));

    // By id, what belongs to another does not exist.
    let digest = version["digest"].as_str().unwrap();
    let deployment = deployment["id"].as_str().unwrap();
    for path in [
        format!("devices/{our_device}"),
        format!("devices/{our_device}/twin"),
        format!("devices/{our_device}/telemetry/metrics"),
        "models/digits".into(),
        "models/digits/versions/1".into(),
        format!("artifacts/{digest}"),
        format!("artifacts/{digest}/content"),
        format!("deployments/{deployment}"),
    ] {
        assert_eq!(theirs.status(&path).await, StatusCode::NOT_FOUND, "{path}");
    }
    let revoke = theirs.request(Method::POST, &format!("devices/{our_device}/revoke"));
    assert_eq!(theirs.send(revoke).await.0, StatusCode::NOT_FOUND);
    let command = theirs.request(Method::POST, &format!("devices/{our_device}/commands")).json(&json!({ "kind": "self-test" }));
    assert_eq!(theirs.send(command).await.0, StatusCode::NOT_FOUND);
    // A digest alone gives nobody the bytes behind it.
    theirs.post("models", &json!({ "name": "stolen" })).await;
    let version = theirs.request(Method::POST, "models/stolen/versions").json(&json!({ "digest": digest }));
    assert!(theirs.send(version).await.0.is_client_error());
    let activity = theirs.get("activity").await.to_string();
    assert!(!activity.contains(&our_device) && !activity.contains("digits"), "{activity}");
}
