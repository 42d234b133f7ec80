//! What an operator does to a device from a terminal, and what is seen of it: live events, the activity with its address, JSON logs.

use crate::stories::sample_model;
use aidos_tests::{Api, Fleet, Process, binary, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

/// Reads server-sent events until one of this kind, and gives its id.
async fn heard(api: &Api, kinds: &str, last: Option<&str>, until: &str) -> String {
    let mut request = api.request(Method::GET, &format!("events?kinds={kinds}"));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let mut stream = request.send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let listen = async {
        let mut text = String::new();
        loop {
            let piece = stream.chunk().await.unwrap().unwrap_or_else(|| panic!("the stream ended: {text}"));
            text.push_str(std::str::from_utf8(&piece).unwrap());
            // A whole event ends with an empty line.
            for event in text.rsplit_once("\n\n").map_or("", |(whole, _)| whole).split("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
                if field("event:").as_deref() == Some(until) {
                    return field("id:").unwrap_or_else(|| panic!("an event has an id: {event}"));
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), listen).await.unwrap_or_else(|_| panic!("no {until} was heard"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_steers_a_device_and_sees_what_happens() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("edge-1", &json!({ "site": "lab" })).await;
    let id = fleet.device("edge-1", "online").await["id"].as_str().unwrap().to_owned();
    let done = |arguments: &[&str]| {
        let out = fleet.cli(arguments);
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };

    // A deployment is heard live, and again by who comes back with the last event that it saw.
    let api = fleet.api.clone();
    let listening = tokio::spawn(async move { heard(&api, "device.updated,deployment.created,deployment.progress", None, "deployment.progress").await });
    done(&["device", "label", &id, "shelf=3"]);
    fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    let first = listening.await.unwrap();
    done(&["deployment", "stop", fleet.api.get("deployments").await["items"][0]["id"].as_str().unwrap()]);
    heard(&fleet.api, "deployment.stopped", Some(&first), "deployment.stopped").await;

    assert!(done(&["device", "show", &id]).contains("shelf=3"));
    done(&["device", "note", &id, "rack=left of the door"]);
    assert!(done(&["device", "twin", &id]).contains("left of the door"));
    assert!(done(&["device", "self-test", &id]).to_lowercase().contains("ok"));
    done(&["device", "restart", &id, "telemetry"]);
    assert!(done(&["device", "top", &id]).contains("cpu.percent"));
    done(&["model", "alias", "digits@1", "champion"]);
    assert!(done(&["model", "show", "digits@champion"]).contains("digits@1"));
    let wide = done(&["device", "list", "-o", "wide"]);
    let yaml = done(&["device", "list", "-o", "yaml"]);
    assert!(wide.contains(&id) && yaml.contains(&format!("id: {id}")), "{wide}{yaml}");

    // Left for a device that is away, and done when it comes back.
    agent.process().terminate(Duration::from_secs(20));
    fleet.device("edge-1", "offline").await;
    let refused = fleet.cli(&["device", "self-test", &id]);
    assert!(!refused.status.success(), "{refused:?}");
    done(&["device", "self-test", &id, "--queue"]);
    agent.start().await;
    eventually("the command that waited is done", async || {
        let commands = fleet.api.get(&format!("devices/{id}/commands")).await;
        (commands["items"][0]["state"] == "ok").then_some(())
    })
    .await;

    // Who did what, from where.
    let activity = fleet.api.get("activity?limit=100").await;
    let labelled = activity["items"].as_array().unwrap().iter().find(|row| row["action"] == "device.edit");
    let labelled = labelled.unwrap_or_else(|| panic!("{activity}"));
    assert_eq!((&labelled["target"], &labelled["from"]), (&json!(id), &json!("127.0.0.1")), "{labelled}");

    done(&["device", "revoke", &id]);
    fleet.device("edge-1", "revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_logs_json_line_by_line_where_it_is_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary("aidos-control-plane"));
    command.args(["--log-format", "json", "serve", "--data-dir"]).arg(folder.path().join("plane"));
    for port in ["--listen", "--quic", "--mqtt"] {
        command.args([port, "127.0.0.1:0"]);
    }
    let mut plane = Process::start("plane", command, folder.path());
    eventually("it says that it runs", async || {
        assert!(plane.is_running(), "{}", plane.log());
        (plane.log().lines().count() > 2).then_some(())
    })
    .await;
    assert!(plane.terminate(Duration::from_secs(30)).success());
    let log = plane.log();
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(entry["level"].is_string() && entry["fields"]["message"].is_string(), "{line}");
    }
}
