//! SIGKILL or SIGTERM at any moment: of the control plane and of an agent, at seeded random moments while a model is pushed, deployed,
//! downloaded and labels are edited on both sides. Afterwards everything converges and nothing that was acknowledged is missing.

use crate::stories::{digit, predicts_seven, sample_model, variant};
use aidos_tests::{Agent, Api, Fleet, eventually};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Kills in one run: each side, in each of the actions, more than once.
const KILLS: u32 = 12;
/// The latest moment of a kill, in milliseconds: the slowest action takes about as long here.
const LATEST_MS: u64 = 500;
/// How long an orderly end may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes beside the sample's own: two chunks of an upload, so that a kill falls between them.
const PADDING: usize = 12 << 20;

/// What somebody was told had happened.
#[derive(Default)]
struct Acknowledged {
    /// Versions of the model by the digest of their file.
    versions: BTreeMap<u64, String>,
    /// Deployments by id.
    deployments: Vec<String>,
    /// Labels that the site set.
    site: Vec<String>,
    /// Labels that an operator set.
    operator: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let seed = std::env::var("AIDOS_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random::<u64>);
    // Part of the failure's output; give it back in AIDOS_TEST_SEED to have the same moments.
    say(&format!("AIDOS_TEST_SEED={seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let mut fleet = Fleet::start().await;
    let mut agent = fleet.agent("edge-1", &json!({ "site": "lab" })).await;
    fleet.push("digits", &sample_model()).await;
    fleet.deploy("digits@1", "site=lab").await;
    let device = fleet.device("edge-1", "online").await["id"].as_str().unwrap().to_owned();
    let mut told = Acknowledged::default();
    let mut unfinished = Vec::new();

    for round in 0..KILLS {
        let file = variant(fleet.folder(), round + 2, PADDING);
        let moment = Duration::from_millis(random.random_range(0..LATEST_MS));
        // Each side is killed in turn, so that both have their share whatever the seed.
        let plane_dies = round % 2 == 0;
        let gently = random.random_bool(0.5);
        let (who, how) = (if plane_dies { "the control plane" } else { "the agent" }, if gently { "TERM" } else { "KILL" });
        say(&format!("round {round}: SIG{how} to {who} after {moment:?}"));
        let push = start(fleet.command(&["model", "push", &file.to_string_lossy(), "--name", "digits", "-o", "json"]));
        let edit = start(edit(&agent, &format!("site-{round}")));
        let (api, path, label) = (fleet.api.clone(), format!("devices/{device}"), format!("operator-{round}"));
        let newest = told.versions.keys().next_back().copied().unwrap_or(1);
        let by_operator =
            tokio::spawn(async move { (patch(&api, &path, &label).await.then_some(label), deploy(&api, newest).await) });
        tokio::time::sleep(moment).await;
        let process = if plane_dies { fleet.control_plane() } else { agent.process() };
        if gently {
            assert!(process.terminate(PATIENCE).success(), "it ends in order:\n{}", process.log());
        } else {
            process.kill();
        }

        match version(push) {
            Some((version, digest)) => drop(told.versions.insert(version, digest)),
            None => unfinished.push(file),
        }
        told.site.extend(edit.wait_with_output().unwrap().status.success().then(|| format!("site-{round}")));
        let (label, deployment) = by_operator.await.unwrap();
        told.operator.extend(label);
        told.deployments.extend(deployment);
        if plane_dies {
            fleet.start_control_plane().await
        } else {
            agent.start().await
        }
        // Before anything else is asked of it, a device that came back from a kill answers.
        predicts_seven(&agent.predict("digits", &digit(7)));
    }
    say(&format!(
        "acknowledged: {} pushes, {} deployments, {} site edits, {} operator's edits",
        told.versions.len(),
        told.deployments.len(),
        told.site.len(),
        told.operator.len()
    ));
    assert!(!told.site.is_empty() && !told.operator.is_empty() && !told.deployments.is_empty(), "nothing was ever acknowledged");

    // What broke off is done at the second try.
    for file in unfinished {
        let push = start(fleet.command(&["model", "push", &file.to_string_lossy(), "--name", "digits", "-o", "json"]));
        let (version, digest) = version(push).expect("a push with nothing in its way succeeds");
        told.versions.insert(version, digest);
    }
    assert_eq!(told.versions.len(), KILLS as usize, "{:?}", told.versions);
    let last = *told.versions.keys().next_back().unwrap();
    told.deployments.push(deploy(&fleet.api, last).await.expect("nothing is in the way"));
    everything_is_there(&fleet, &device, &told, last).await;
    predicts_seven(&agent.predict("digits", &digit(7)));
}

async fn everything_is_there(fleet: &Fleet, device: &str, told: &Acknowledged, last: u64) {
    for (version, digest) in &told.versions {
        let kept = fleet.api.get(&format!("models/digits/versions/{version}")).await;
        assert_eq!(kept["digest"], digest.as_str(), "version {version}");
        let bytes = fleet.api.request(Method::GET, &format!("artifacts/{digest}/content")).send().await.unwrap();
        let bytes = bytes.bytes().await.unwrap();
        assert_eq!(aidos_protocol::artifact::Digest::of(&bytes).to_string(), *digest, "version {version}");
    }
    for id in &told.deployments {
        assert_eq!(fleet.api.get(&format!("deployments/{id}")).await["id"], id.as_str());
    }
    let shown = eventually("the device has converged", async || {
        let shown = fleet.api.get(&format!("devices/{device}")).await;
        let model = &shown["models"]["digits"];
        let runs = model["active_version"] == last && model["state"] == "ready";
        (runs && shown["in_sync"] == true && shown["state"] == "online" && has_all(&shown["labels"], &told.site)).then_some(shown)
    })
    .await;
    assert!(has_all(&shown["labels"], &told.operator), "{} lacks of {:?}", shown["labels"], told.operator);
    assert_eq!(shown["labels"]["site"], "lab");
    let overview = fleet.api.get(&format!("devices/{device}/telemetry/metrics")).await;
    assert_eq!(overview["lost_samples"], 0, "{overview}");
}

fn has_all(labels: &Value, keys: &[String]) -> bool {
    keys.iter().all(|key| labels[key] == "yes")
}

fn edit(agent: &Agent, key: &str) -> Command {
    let mut command = Command::new(aidos_tests::binary("aidos-agent"));
    command.args(["labels", "set", &format!("{key}=yes"), "--data-dir"]).arg(&agent.dir);
    command
}

async fn patch(api: &Api, path: &str, key: &str) -> bool {
    let request = api.request(Method::PATCH, path).json(&json!({ "labels": { key: "yes" } }));
    request.send().await.is_ok_and(|response| response.status().is_success())
}

/// The deployment's id, where its making was acknowledged.
async fn deploy(api: &Api, version: u64) -> Option<String> {
    let wish = json!({ "subject": format!("digits@{version}"), "selector": "site=lab" });
    let response = api.request(Method::POST, "deployments").json(&wish).send().await.ok().filter(|r| r.status().is_success())?;
    let made: Value = response.json().await.ok()?;
    made["id"].as_str().map(str::to_owned)
}

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// The version and digest that a push printed, where it succeeded.
fn version(push: Child) -> Option<(u64, String)> {
    let output = push.wait_with_output().unwrap();
    let made: Value = output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())?;
    Some((made["version"].as_u64()?, made["digest"].as_str()?.to_owned()))
}

#[allow(clippy::print_stderr)] // what a person needs to repeat a failure
fn say(line: &str) {
    eprintln!("{line}");
}
