//! Where UDP is blocked the link goes over MQTT, and back once it is not.

use aidos_tests::{Fleet, FleetOptions, eventually};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_device_moves_to_mqtt_when_udp_is_blocked_and_returns() {
    let fleet = Fleet::with(FleetOptions { relay: true, ..FleetOptions::default() }).await;
    let _agent = fleet.agent("edge-1", &json!({})).await;
    let relay = fleet.relay.as_ref().unwrap();
    over(&fleet, "quic").await;
    relay.set_open(false);
    over(&fleet, "mqtt").await;
    // What was asked for while on MQTT arrives there too.
    let id = fleet.device("edge-1", "online").await["id"].as_str().unwrap().to_owned();
    let patch =
        fleet.api.request(reqwest::Method::PATCH, &format!("devices/{id}")).json(&json!({ "labels": { "over": "mqtt" } }));
    assert!(fleet.api.send(patch).await.0.is_success());
    eventually("the device has applied the edit", async || {
        let device = fleet.api.get(&format!("devices/{id}")).await;
        (device["in_sync"] == true).then_some(())
    })
    .await;
    relay.set_open(true);
    over(&fleet, "quic").await;
}

async fn over(fleet: &Fleet, transport: &str) {
    eventually(&format!("the link is {transport}"), async || {
        let device = fleet.device("edge-1", "online").await;
        (device["transport"] == transport).then_some(())
    })
    .await;
}
