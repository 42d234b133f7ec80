//! What reaches devices of releases and settings for agents.

use super::plane::Plane;
use crate::rollouts::Reconciler;
use aidos_protocol::DeviceId;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

fn device_of(names: &super::plane::Names) -> DeviceId {
    names.iter().find(|(name, _)| *name == "{device}").unwrap().1.parse().unwrap()
}

async fn config(plane: &Plane, device: DeviceId) -> Value {
    plane.send("GET", &format!("/api/v1/devices/{device}/config"), &plane.owner, None).await.1
}

/// Deployments reach devices until the guard is gone.
fn reconciling(plane: &Plane) -> DropGuard {
    let stop = CancellationToken::new();
    tokio::spawn(Reconciler::new(plane.rooms.deployments.clone()).run(stop.clone()));
    stop.drop_guard()
}

/// What `key` of the device's settings is once its version is `version`.
async fn told(plane: &Plane, device: DeviceId, key: &str, version: &Value) -> Value {
    for _ in 0..500 {
        let is = config(plane, device).await[key].clone();
        if is["version"] == *version {
            return is;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{key} is not {version} within 5 s: {}", config(plane, device).await);
}

async fn deploy(plane: &Plane, subject: &str) -> Value {
    let wish = json!({ "subject": subject, "selector": "site=lab" });
    let (status, made) = plane.send("POST", "/api/v1/deployments", &plane.owner, Some(&wish)).await;
    assert_eq!(status, 201, "{made}");
    made
}

#[tokio::test]
async fn a_release_goes_to_the_devices_that_match_with_all_its_binaries() {
    let plane = Plane::new().await;
    let device = device_of(&plane.furnish(&plane.owner).await);
    let _running = reconciling(&plane);
    let made = deploy(&plane, "agent.release@1").await;
    assert_eq!((&made["subject"], &made["version"]), (&json!("agent.release"), &json!("1")));
    let wanted = told(&plane, device, "agent.release", &json!("1")).await;
    assert_eq!((&wanted["counter"], &wanted["deployment"]), (&json!(1), &made["id"]));
    assert_eq!(wanted["binaries"][0]["arch"], "x86_64");
    for (subject, status, words) in [
        ("agent.release@7", 404, "aidos agent release list"),
        ("agent.release", 422, "agent.release@1.4.0"),
        ("agent.config@x", 422, "agent.config@3"),
        ("agent.config@9", 404, "aidos config list"),
    ] {
        let wish = json!({ "subject": subject, "selector": "site=lab" });
        let (is, problem) = plane.send("POST", "/api/v1/deployments", &plane.owner, Some(&wish)).await;
        assert!(is == status && problem.to_string().contains(words), "{subject}: {is} {problem}");
    }
}

#[tokio::test]
async fn settings_are_sent_and_an_earlier_version_takes_them_back() {
    let plane = Plane::new().await;
    let device = device_of(&plane.furnish(&plane.owner).await);
    let _running = reconciling(&plane);
    let slow = json!({ "settings": { "telemetry": { "interval_s": 60 } } });
    let (status, made) = plane.send("POST", "/api/v1/agent-settings", &plane.owner, Some(&slow)).await;
    assert_eq!((status.as_u16(), &made["version"]), (201, &json!(2)), "{made}");
    for version in [2, 1] {
        let made = deploy(&plane, &format!("agent.config@{version}")).await;
        let wanted = told(&plane, device, "agent.config", &json!(version)).await;
        assert_eq!(wanted["deployment"], made["id"]);
    }
    let bad = json!({ "settings": { "telemetry": { "interval_s": 0 } } });
    let (status, problem) = plane.send("POST", "/api/v1/agent-settings", &plane.owner, Some(&bad)).await;
    assert_eq!(status, 422);
    assert!(problem.to_string().contains("telemetry.interval_s"), "{problem}");
}

#[tokio::test]
async fn a_plan_asks_of_agents_only_what_they_can_measure() {
    let plane = Plane::new().await;
    plane.furnish(&plane.owner).await;
    for (subject, plan, field, words) in [
        ("agent.release@1", json!({ "gates": ["error_rate<1%"] }), "gates", "`memory` only"),
        (
            "agent.release@1",
            json!({ "experiment": { "kind": "shadow", "percent": 5 }, "experiment_s": 9 }),
            "experiment",
            "models",
        ),
        ("agent.config@1", json!({ "gates": ["memory<1.2x"] }), "gates", "no measurements"),
        ("agent.config@1", json!({ "window": "22:00-04:00" }), "window", "as soon as"),
    ] {
        let wish = json!({ "subject": subject, "selector": "site=lab", "plan": plan });
        let (status, problem) = plane.send("POST", "/api/v1/rollouts", &plane.owner, Some(&wish)).await;
        assert_eq!((status.as_u16(), problem["field"].as_str()), (422, Some(field)), "{subject} {plan}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
    let wish = json!({ "subject": "agent.release@1", "selector": "site=lab", "plan": { "gates": ["memory<1.2x"], "window": "22:00-04:00" } });
    let (status, made) = plane.send("POST", "/api/v1/rollouts", &plane.owner, Some(&wish)).await;
    assert_eq!(status, 201, "{made}");
}

#[tokio::test]
async fn reserved_settings_have_one_way_in_and_survive_the_others() {
    let plane = Plane::new().await;
    let device = device_of(&plane.furnish(&plane.owner).await);
    let path = format!("/api/v1/devices/{device}/config");
    let _running = reconciling(&plane);
    deploy(&plane, "agent.config@1").await;
    told(&plane, device, "agent.config", &json!(1)).await;
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
