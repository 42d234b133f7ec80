//! Steering a device from the shell, and what those who look on are told of it: live events, who it was and from where, logs.

use crate::stories::{digit, predicts_seven, sample_model, variant};
use aidos_tests::{Agent, Api, Fleet, Process, binary, eventually};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Longer than anything takes that a stream of events is awaited for.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_steers_a_device_from_the_shell() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("edge-1", &json!({ "site": "lab", "row": "9" })).await;
    fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    let device = fleet.device("edge-1", "online").await;
    let id = device["id"].as_str().unwrap();
    let done = |arguments: &[&str]| {
        let output = fleet.cli(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };

    // Labels and notes; who it was and from where is written down.
    let labels = done(&["device", "label", id, "shelf=3", "row-"]);
    assert!(labels.contains("shelf=3") && !labels.contains("row"), "{labels}");
    done(&["device", "note", id, "fan=loud since May"]);
    let shown = done(&["device", "show", id]);
    assert!(shown.contains("fan: loud since May") && shown.contains("shelf=3"), "{shown}");
    let activity = fleet.api.get("activity?limit=100").await;
    let edits: Vec<&Value> =
        activity["items"].as_array().unwrap().iter().filter(|a| a["action"] == "device.edit" && a["target"] == id).collect();
    assert_eq!(edits.len(), 2, "{activity}");
    for edit in edits {
        assert!(edit["from"] == "127.0.0.1" && edit["actor"].as_str().unwrap().starts_with("key:"), "{edit}");
    }
    let twin: Value = serde_json::from_str(&done(&["device", "twin", id, "-o", "json"])).unwrap();
    assert_eq!(twin["intent"]["labels"]["shelf"], "3", "{twin}");

    // The same row in each form.
    let wide = done(&["device", "list", "-l", "shelf=3", "-o", "wide"]);
    assert!(wide.contains("CERTIFICATE UNTIL") && wide.contains(id), "{wide}");
    let yaml = done(&["device", "list", "-l", "shelf=3", "-o", "yaml"]);
    assert!(yaml.contains(&format!("id: {id}")) && yaml.contains("name: edge-1"), "{yaml}");

    // What it is told to do it does, and answers.
    let tested: Value = serde_json::from_str(&done(&["device", "self-test", id, "--model", "digits", "-o", "json"])).unwrap();
    assert_eq!(tested["state"], "ok", "{tested}");
    done(&["device", "restart", id, "telemetry"]);
    let unknown = fleet.cli(&["device", "restart", id, "flux"]);
    let error = String::from_utf8_lossy(&unknown.stderr);
    assert!(unknown.status.code() == Some(1) && error.contains("flux"), "{error}");
    eventually("what it measures is there", async || {
        let top = fleet.cli(&["device", "top", id]);
        String::from_utf8_lossy(&top.stdout).contains("memory.used_bytes").then_some(())
    })
    .await;
    done(&["model", "alias", "digits@1", "stable"]);
    let aliased: Value = serde_json::from_str(&done(&["model", "show", "digits", "-o", "json"])).unwrap();
    assert_eq!(aliased["aliases"]["stable"], 1, "{aliased}");

    // Away: what is asked of it now fails at once, or waits until it is back, as one says.
    agent.process().terminate(Duration::from_secs(20));
    fleet.device("edge-1", "offline").await;
    let now = fleet.cli(&["device", "self-test", id]);
    let error = String::from_utf8_lossy(&now.stderr);
    assert!(now.status.code() == Some(1) && error.contains("offline"), "{error}");
    let queued: Value = serde_json::from_str(&done(&["device", "self-test", id, "--queue", "-o", "json"])).unwrap();
    assert_eq!(queued["state"], "queued", "{queued}");
    agent.start().await;
    eventually("the command that waited is done", async || {
        let listed: Value = serde_json::from_str(&done(&["device", "commands", id, "-o", "json"])).unwrap();
        listed.as_array()?.iter().find(|c| c["id"] == queued["id"] && c["state"] == "ok").map(drop)
    })
    .await;

    // Shut out for good.
    done(&["device", "revoke", id]);
    fleet.device("edge-1", "revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_probes_and_drains_a_device_and_follows_its_log() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("edge-1", &json!({ "site": "lab" })).await;
    fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    let id = fleet.device("edge-1", "online").await["id"].as_str().unwrap().to_owned();
    predicts_seven(&agent.predict("digits", &digit(7)));
    let done = |arguments: &[&str]| {
        let output = fleet.cli(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };

    // What can go wrong there is looked at there, and told here.
    let probed: Value = serde_json::from_str(&done(&["device", "probe", &id, "-o", "json"])).unwrap();
    let checks = probed["result"]["json"].as_array().unwrap();
    for check in
        ["certificate", "clock", "disk", "ledger", "link", "endpoint api", "endpoint mqtt", "inference", "trust", "model digits"]
    {
        assert!(checks.iter().any(|row| row["check"] == check && row["level"] == "ok"), "{check}: {probed}");
    }
    let table = done(&["device", "probe", &id]);
    assert!(table.contains("CHECK") && table.contains("certificate"), "{table}");

    // Drained: no new request is taken, also after a restart. Those who try it from afar, and deployments, go on.
    let refused = |agent: &Agent| {
        let output = agent.predict("digits", &digit(7));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains("drained"), "{error}");
    };
    let drained = done(&["device", "drain", &id, "--wait", "10s"]);
    assert!(drained.contains("none is in flight"), "{drained}");
    refused(&agent);
    assert_eq!(reqwest::get(format!("{}/v2/health/ready", agent.url)).await.unwrap().status(), 503);
    eventually("it is listed as drained", async || {
        let listed = fleet.api.get("devices").await;
        listed["items"][0]["drained_at"].as_i64().filter(|_| done(&["device", "list"]).contains("online, drained"))
    })
    .await;
    agent.process().terminate(Duration::from_secs(20));
    agent.start().await;
    refused(&agent);
    assert!(String::from_utf8_lossy(&agent.cli(&["status"]).stdout).contains("drained"));
    fleet.device("edge-1", "online").await;
    let seven = digit(7);
    predicts_seven(&fleet.cli(&["predict", "digits", "--device", &id, "--input", seven.to_str().unwrap()]));
    fleet.push("digits", &variant(fleet.folder(), 2, 0)).await;
    fleet.deploy("digits@2", "site=lab").await;
    done(&["device", "undrain", &id]);
    predicts_seven(&agent.predict("digits", &digit(7)));
    eventually("it is not listed as drained any more", async || {
        fleet.api.get(&format!("devices/{id}")).await.get("drained_at").is_none().then_some(())
    })
    .await;

    // Its log comes as it is written, and goes on over a restart; in the history it is one command, in the activity one entry.
    let follower = fleet.command(&["device", "logs", &id, "--follow", "--lines", "50"]);
    let mut follower = tokio::process::Command::from(follower).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut until = async |part: &str| {
        let found = async { while !lines.next_line().await.unwrap().expect("it goes on").contains(part) {} };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{part} is not followed"));
    };
    until("requests are taken again").await;
    for _ in 0..2 {
        done(&["device", "restart", &id, "telemetry"]);
        until("restarted as asked").await;
    }
    agent.process().terminate(Duration::from_secs(20));
    agent.start().await;
    until("the agent runs").await;
    follower.kill().await.unwrap();
    let commands: Value = serde_json::from_str(&done(&["device", "commands", &id, "-o", "json"])).unwrap();
    let tails = commands.as_array().unwrap().iter().filter(|command| command["kind"] == "tail-logs").count();
    assert!(tails <= 2, "the one that was answered last, and one that waits: {commands}");
    let activity = fleet.api.get("activity?limit=100").await;
    let reads = |entry: &&Value| entry["action"] == "device.command" && entry["detail"]["kind"] == "tail-logs";
    assert_eq!(activity["items"].as_array().unwrap().iter().filter(reads).count(), 1, "{activity}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_told_live_and_a_reader_that_was_cut_off_resumes() {
    let fleet = Fleet::start().await;
    let _agent = fleet.agent("edge-1", &json!({ "site": "lab" })).await;
    fleet.device("edge-1", "online").await;
    let kinds = "events?kinds=deployment.created,deployment.stopped";
    let mut live = Events::of(&fleet.api, kinds, None).await;
    fleet.push("digits", &sample_model()).await;
    let first = fleet.deploy("digits@1", "site=lab").await;
    let (seen, created) = live.next().await;
    assert_eq!((&created["kind"], &created["resource"]), (&json!("deployment.created"), &first["id"]));
    drop(live);

    // While nobody reads, more happens; a reader that says what it saw last is told that and nothing twice.
    let path = format!("deployments/{}", first["id"].as_str().unwrap());
    assert!(fleet.api.send(fleet.api.request(reqwest::Method::DELETE, &path)).await.0.is_success());
    let mut resumed = Events::of(&fleet.api, kinds, Some(&seen)).await;
    let (last, stopped) = resumed.next().await;
    assert_eq!((&stopped["kind"], &stopped["resource"]), (&json!("deployment.stopped"), &first["id"]));
    let mut again = Events::of(&fleet.api, kinds, Some(&last)).await;
    let second = fleet.deploy("digits@1", "site=lab").await;
    for stream in [&mut resumed, &mut again] {
        let (_, event) = stream.next().await;
        assert_eq!((&event["kind"], &event["resource"]), (&json!("deployment.created"), &second["id"]));
    }

    // One who was away for so long that nobody knows what it missed reads anew.
    let mut lost = Events::of(&fleet.api, kinds, Some("0.1")).await;
    assert_eq!(lost.next().await.1["kind"], "reset");
}

/// A stream of server-sent events.
struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    async fn of(api: &Api, path: &str, last: Option<&str>) -> Self {
        let mut request = api.request(reqwest::Method::GET, path);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event: its id and its data.
    async fn next(&mut self) -> (String, Value) {
        let event = async {
            loop {
                if let Some((event, rest)) = self.text.split_once("\n\n") {
                    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                    let found = field("id: ").zip(field("data: "));
                    let found = found.map(|(id, data)| (id.to_owned(), serde_json::from_str(data).unwrap()));
                    self.text = rest.to_owned();
                    if let Some(found) = found {
                        return found;
                    }
                    continue;
                }
                let chunk = self.response.chunk().await.unwrap().expect("the stream goes on");
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        tokio::time::timeout(PATIENCE, event).await.expect("an event comes")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_as_json_is_an_object_on_each_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary("aidos-control-plane"));
    command.args(["--log-format", "json", "serve", "--data-dir"]).arg(folder.path().join("control-plane"));
    for port in ["--listen", "--quic", "--mqtt"] {
        command.args([port, "127.0.0.1:0"]);
    }
    let mut process = Process::start("control-plane", command, folder.path());
    eventually("it is ready", async || {
        assert!(process.is_running(), "{}", process.log());
        folder.path().join("control-plane/owner.key").exists().then_some(())
    })
    .await;
    assert!(process.terminate(Duration::from_secs(20)).success());
    let log = process.log();
    assert!(!log.is_empty());
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for field in ["timestamp", "level", "target", "fields"] {
            assert!(!entry[field].is_null(), "{field}: {line}");
        }
    }
}
