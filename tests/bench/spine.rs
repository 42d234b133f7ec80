//! What the whole weighs and how fast it is there: from `aidos up` to the first prediction, an idle agent's memory, a restart,
//! and 200 agents that join and converge.
//!
//! `cargo xtask bench spine`; fails when a limit is passed.
//! Timings are medians of [`RUNS`].

#![allow(clippy::unwrap_used)]

use aidos_agent::identity::{JoinOptions, join};
use aidos_agent::{assembly, config};
use aidos_tests::{Figures, Fleet, Process, binary, eventually};
use futures::future::join_all;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const RUNS: usize = 5;
/// Agents of the fleet that converges.
const AGENTS: usize = 200;
/// After a prediction, an agent is idle when its threads have gone again.
const SETTLE: Duration = Duration::from_secs(10);

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("models/digits")
}

fn predicts(folder: &Path) -> bool {
    let picture = sample().join("samples/7.png");
    let output = Command::new(binary("aidos"))
        .args(["predict", "digits", "--input"])
        .arg(picture)
        .env("AIDOS_DATA_DIR", folder)
        .output()
        .unwrap();
    output.status.success() && output.stdout.starts_with(b"7")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Seconds from starting `aidos up` on an empty folder to the first right answer.
async fn first_prediction() -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let mut command = Command::new(binary("aidos"));
    command.arg("up").arg("--data-dir").arg(folder.path());
    for port in ["--listen", "--quic", "--mqtt", "--serve"] {
        command.args([port, "127.0.0.1:0"]);
    }
    let up = Process::start("up", command, folder.path());
    eventually("`aidos up` is up", async || up.log().contains("Try next").then_some(())).await;
    assert!(predicts(folder.path()), "{}", up.log());
    start.elapsed().as_secs_f64()
}

/// Resident megabytes of an idle agent with the sample, and seconds from its start to ready, with the control plane there. The memory is
/// that of the median of its last starts.
async fn agent() -> (f64, f64) {
    let mut fleet = Fleet::start().await;
    let mut agent = fleet.agent("edge", &json!({})).await;
    fleet.push("digits", &sample().join("digits.onnx")).await;
    fleet.deploy("digits@1", "all").await;
    let (mut restarts, mut residents) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        agent.process().terminate(Duration::from_secs(20));
        let start = Instant::now();
        agent.start().await;
        let ready = format!("{}/v2/models/digits/ready", agent.url);
        eventually("the model is ready", async || reqwest::get(&ready).await.ok().filter(|r| r.status().is_success())).await;
        restarts.push(start.elapsed().as_secs_f64());
        assert!(agent.predict("digits", &sample().join("samples/7.png")).status.success());
        fleet.device("edge", "online").await;
        tokio::time::sleep(SETTLE).await;
        residents.push(resident(agent.process().id()));
    }
    fleet.control_plane().kill();
    (median(residents), median(restarts))
}

fn resident(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kilobytes: f64 = resident.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes / 1_024.0
}

/// Seconds from the first join until every agent, all in this process, runs the sample. They join and connect over real QUIC.
async fn converge() -> f64 {
    let fleet = Fleet::start().await;
    fleet.push("digits", &sample().join("digits.onnx")).await;
    let wish = json!({ "uses": AGENTS, "labels": { "site": "bench" } });
    let token = fleet.api.post("tokens", &wish).await["token"].as_str().unwrap().to_owned();
    let deployment = fleet.api.post("deployments", &json!({ "subject": "digits@1", "selector": "site=bench" })).await;
    let path = format!("deployments/{}", deployment["id"].as_str().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let start = Instant::now();
    let agents = (0..AGENTS).map(|n| {
        let (url, token, stop) = (fleet.api.url().to_owned(), token.clone(), stop.clone());
        let data_dir = folder.path().join(format!("agent-{n}"));
        tokio::spawn(async move {
            std::fs::create_dir_all(&data_dir).unwrap();
            let options = JoinOptions {
                url,
                token,
                name: format!("agent-{n}"),
                labels: Default::default(),
                dir: assembly::identity_dir(&data_dir),
                insecure_http: false,
                force: false,
            };
            join(&options).await.unwrap();
            let mut config = config::Config { data_dir, ..config::Config::default() };
            config.serve.address = "127.0.0.1:0".parse().unwrap();
            assembly::run(config.check().unwrap(), stop).await.unwrap()
        })
    });
    let agents = join_all(agents).await;
    eventually("every agent is ready", async || {
        let deployment = fleet.api.get(&path).await;
        (deployment["counts"]["ready"] == AGENTS).then_some(())
    })
    .await;
    let seconds = start.elapsed().as_secs_f64();
    for device in fleet.api.get("devices?limit=200").await["items"].as_array().unwrap() {
        let shown = fleet.api.get(&format!("devices/{}", device["id"].as_str().unwrap())).await;
        assert_eq!(shown["link"]["transport"], "quic", "{shown}");
    }
    stop.cancel();
    for agent in agents {
        agent.unwrap().join().await.unwrap();
    }
    seconds
}

#[tokio::main]
async fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let mut figures = Figures::default();
    let mut firsts = Vec::new();
    for _ in 0..RUNS {
        firsts.push(Box::pin(first_prediction()).await);
    }
    figures.figure("up_to_first_prediction", median(firsts), "s", Some(10.0));
    let (resident, restart) = Box::pin(agent()).await;
    figures.figure("idle_agent_resident", resident, "MiB", Some(25.0));
    figures.figure("restart_to_ready", restart, "s", Some(1.0));
    figures.figure("agents_200_converged", Box::pin(converge()).await, "s", Some(30.0));
    figures.verdict()
}
