//! What reaches devices of releases and settings for agents.

use super::plane::Plane;
use aidos_protocol::frame::{StatusDelta, StatusEntry};
use aidos_protocol::{DeviceId, TenantId};
use serde_json::{Value, json};

async fn whose(plane: &Plane) -> TenantId {
    let (_, me) = plane.send("GET", "/api/v1/whoami", &plane.owner, None).await;
    serde_json::from_value(me["tenant"]["id"].clone()).unwrap()
}

/// Lets the device report at its start `boot_id` what it runs on.
async fn report(plane: &Plane, device: DeviceId, boot_id: u64, arch: &str) {
    let inventory = json!(aidos_protocol::inventory::Inventory { arch: arch.into(), ..Default::default() });
    let entry = StatusEntry { path: "inventory".into(), value: inventory.to_string().into_bytes().into(), seq: 1 };
    let delta = StatusDelta { boot_id, seq: 1, full: true, set: vec![entry], ..Default::default() };
    plane.rooms.twins.apply_status(whose(plane).await, device, &delta).await.unwrap().unwrap();
}

fn device_of(names: &super::plane::Names) -> DeviceId {
    names.iter().find(|(name, _)| *name == "{device}").unwrap().1.parse().unwrap()
}

async fn config(plane: &Plane, device: DeviceId) -> Value {
    plane.send("GET", &format!("/api/v1/devices/{device}/config"), &plane.owner, None).await.1
}

#[tokio::test]
async fn a_release_goes_to_the_devices_that_match_and_can_run_it() {
    let plane = Plane::new().await;
    let device = device_of(&plane.furnish(&plane.owner).await);
    let wish = json!({ "selector": "site=lab" });
    let deploy = async |version: &str| {
        plane.send("POST", &format!("/api/v1/agent-releases/{version}/deploy"), &plane.owner, Some(&wish)).await
    };
    let (_, unknown) = deploy("1").await;
    assert!(unknown["devices_left_out"][0]["why"].as_str().unwrap().contains("has not been connected"), "{unknown}");
    report(&plane, device, 1, "aarch64").await;
    let (_, other) = deploy("1").await;
    assert!(other["devices_left_out"][0]["why"].as_str().unwrap().contains("no binary of 1 for aarch64"), "{other}");
    assert_eq!(config(&plane, device).await, json!({}));

    report(&plane, device, 2, "x86_64").await;
    let (status, sent) = deploy("1").await;
    assert_eq!((status.as_u16(), &sent["sent"], &sent["left_out"]), (200, &json!(1), &json!(0)), "{sent}");
    let wanted = config(&plane, device).await["agent.release"].clone();
    assert_eq!((&wanted["version"], &wanted["counter"], &wanted["deployment"]), (&json!("1"), &json!(1), &sent["deployment"]));
    let (_, activity) = plane.send("GET", "/api/v1/activity?action=agent_release.deploy", &plane.owner, None).await;
    assert_eq!(activity["items"][0]["target"], "1");
}

#[tokio::test]
async fn settings_are_sent_and_an_earlier_version_takes_them_back() {
    let plane = Plane::new().await;
    let device = device_of(&plane.furnish(&plane.owner).await);
    let slow = json!({ "settings": { "telemetry": { "interval_s": 60 } } });
    let (status, made) = plane.send("POST", "/api/v1/agent-settings", &plane.owner, Some(&slow)).await;
    assert_eq!((status.as_u16(), &made["version"]), (201, &json!(2)), "{made}");
    for version in [2, 1] {
        let path = format!("/api/v1/agent-settings/{version}/apply");
        let (_, sent) = plane.send("POST", &path, &plane.owner, Some(&json!({ "selector": "all" }))).await;
        assert_eq!(sent["sent"], 1, "{sent}");
        assert_eq!(config(&plane, device).await["agent.config"]["version"], version);
    }
    let bad = json!({ "settings": { "telemetry": { "interval_s": 0 } } });
    let (status, problem) = plane.send("POST", "/api/v1/agent-settings", &plane.owner, Some(&bad)).await;
    assert_eq!(status, 422);
    assert!(problem.to_string().contains("telemetry.interval_s"), "{problem}");
}

#[tokio::test]
async fn reserved_settings_have_one_way_in_and_survive_the_others() {
    let plane = Plane::new().await;
    let device = device_of(&plane.furnish(&plane.owner).await);
    let path = format!("/api/v1/devices/{device}/config");
    plane.send("POST", "/api/v1/agent-settings/1/apply", &plane.owner, Some(&json!({ "selector": "all" }))).await;
    for (method, body) in [
        ("PATCH", json!({ "agent.release": { "version": "6.6.6" } })),
        ("PATCH", json!({ "agent.config": null })),
        ("PUT", json!({ "agent.config": { "version": 1, "settings": { "log": {} } } })),
    ] {
        let (status, problem) = plane.send(method, &path, &plane.owner, Some(&body)).await;
        assert_eq!(status, 422, "{method} {body}: {problem}");
        assert!(problem["hint"].as_str().unwrap().contains("aidos agent release deploy"), "{problem}");
    }
    let (status, left) = plane.send("PUT", &path, &plane.owner, Some(&json!({ "log.level": "debug" }))).await;
    assert_eq!((status.as_u16(), &left["log.level"], &left["agent.config"]["version"]), (200, &json!("debug"), &json!(1)));
}
