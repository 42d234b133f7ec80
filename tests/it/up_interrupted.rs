//! `aidos up` that is killed or told to stop at any moment of its first start: the next start finishes what was left, on whatever
//! ports it has.

use crate::stories::{digit, predicts_seven, sample_model};
use aidos_tests::{Api, Process, binary, eventually};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// First starts that are cut short: each signal several times, early, in the middle and late.
const ROUNDS: u64 = 12;
/// The latest moment, in milliseconds: about what a first start takes here.
const LATEST_MS: u64 = 2_500;
/// How long a start that is told to stop may take: what has begun is drained.
const STOPS_WITHIN: Duration = Duration::from_secs(20);

fn up(run: &str, folder: &Path, more: &[&str]) -> Process {
    let mut command = Command::new(binary("aidos"));
    command.arg("up").arg("--data-dir").arg(folder).args(more);
    for port in ["--listen", "--quic", "--mqtt", "--serve"] {
        command.args([port, "127.0.0.1:0"]);
    }
    Process::start(run, command, folder)
}

fn aidos(folder: &Path, arguments: &[&str]) -> Output {
    let contexts = folder.join("contexts.toml");
    let mut command = Command::new(binary("aidos"));
    command.args(arguments).env("AIDOS_DATA_DIR", folder).env("AIDOS_CONTEXTS", contexts).env_remove("AIDOS_URL");
    command.output().unwrap()
}

async fn running(process: &mut Process) {
    eventually("`aidos up` says what to try next", async || {
        assert!(process.is_running(), "`aidos up` ended:\n{}", process.log());
        process.log().contains("Try next").then_some(())
    })
    .await;
}

fn api(folder: &Path) -> Api {
    let run = std::fs::read(folder.join("control-plane/run.json")).unwrap();
    let run: Value = serde_json::from_slice(&run).unwrap();
    let key = std::fs::read_to_string(folder.join("control-plane/owner.key")).unwrap();
    Api::new(run["api"].as_str().unwrap(), key.trim())
}

/// The device that runs here is connected, and the sample answers on it and through the control plane.
async fn answers(folder: &Path) {
    let seven = digit(7);
    let seven = seven.to_str().unwrap();
    let api = api(folder);
    let device = eventually("the device is online with the sample", async || {
        let devices = api.get("devices").await;
        let online = devices["items"].as_array()?.iter().find(|device| device["state"] == "online")?;
        let id = online["id"].as_str()?.to_owned();
        let shown = api.get(&format!("devices/{id}")).await;
        (shown["models"]["digits"]["state"] == "ready").then_some(id)
    })
    .await;
    predicts_seven(&aidos(folder, &["predict", "digits", "--input", seven]));
    predicts_seven(&aidos(folder, &["predict", "digits", "--device", &device, "--input", seven]));
}

/// The sample was registered, signed and deployed, each once.
async fn each_once(folder: &Path) {
    let api = api(folder);
    let count = async |path: &str| api.get(path).await["items"].as_array().unwrap().len();
    assert_eq!((count("models/digits/versions").await, count("deployments").await), (1, 1));
    let trust = api.get("trust").await;
    let version =
        |name: &str| trust["roles"].as_array().unwrap().iter().find(|role| role["role"] == name).unwrap()["version"].clone();
    assert_eq!((version("root"), version("targets")), (json!(1), json!(2)), "{trust}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_is_cut_short_at_any_moment_is_finished_by_the_next() {
    let seed = std::env::var("AIDOS_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random::<u64>);
    // Part of the failure's output; give it back in AIDOS_TEST_SEED to have the same moments.
    say(&format!("AIDOS_TEST_SEED={seed}, {ROUNDS} rounds"));
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        let (folder, step) = (folder.path(), LATEST_MS / ROUNDS);
        let moment = Duration::from_millis(round * step + random.random_range(0..step));
        let signal = ["KILL", "TERM", "INT"][(round % 3) as usize];
        let mut first = up("first", folder, &[]);
        tokio::time::sleep(moment).await;
        first.signal(signal);
        let status = first.ended(STOPS_WITHIN);
        let told = first.log().lines().last().unwrap_or("nothing").to_owned();
        say(&format!("round {round}: SIG{signal} after {moment:?}: {status}, its last words: {told}"));
        let mut second = up("second", folder, &[]);
        running(&mut second).await;
        answers(folder).await;
        each_once(folder).await;
        // A join that was answered and not written down leaves a device that never comes.
        let devices = api(folder).get("devices").await["items"].as_array().unwrap().len();
        assert!((1..=2).contains(&devices), "{devices} devices");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_goes_on_from_each_step_of_the_one_before() {
    // A model without versions, a root that is there and not known to be; then a version that nobody has signed or deployed.
    for step in ["model", "version"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut first = up("first", folder, &["--no-sample"]);
        running(&mut first).await;
        let manifest = std::fs::read_to_string(sample_model().with_file_name("model.toml")).unwrap();
        let description = manifest.lines().find_map(|line| line.strip_prefix("description = ")).unwrap().trim_matches('"');
        let api = api(folder);
        api.post("models", &json!({ "name": "digits", "description": description })).await;
        if step == "version" {
            // With keys of nobody's, the push signs nothing.
            let file = sample_model();
            let nobody = folder.join("nobody");
            let push = Command::new(binary("aidos"))
                .args(["model", "push", file.to_str().unwrap(), "--name", "digits"])
                .env("AIDOS_DATA_DIR", folder)
                .env("AIDOS_TRUST_KEYS", &nobody)
                .env("AIDOS_CONTEXTS", folder.join("contexts.toml"))
                .output()
                .unwrap();
            assert!(push.status.success(), "{push:?}");
        }
        assert!(first.terminate(STOPS_WITHIN).success());
        let trust = folder.join("trust");
        if step == "model" {
            std::fs::rename(trust.join("root.json"), trust.join("root.pending.json")).unwrap();
        }
        let mut second = up("second", folder, &[]);
        running(&mut second).await;
        answers(folder).await;
        each_once(folder).await;
        assert!(trust.join("root.json").exists() && !trust.join("root.pending.json").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_the_sample_is_the_persons_doing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut first = up("first", folder, &[]);
    running(&mut first).await;
    let id = api(folder).get("deployments").await["items"][0]["id"].as_str().unwrap().to_owned();
    let stopped = aidos(folder, &["deployment", "stop", &id, "--remove"]);
    assert!(stopped.status.success(), "{stopped:?}");
    assert!(first.terminate(STOPS_WITHIN).success());
    let mut second = up("second", folder, &[]);
    running(&mut second).await;
    let deployments = api(folder).get("deployments").await;
    assert_eq!(deployments["items"].as_array().unwrap().len(), 1, "{deployments}");
    assert_eq!(deployments["items"][0]["state"], "stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_start_on_other_ports_has_its_device_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut api_urls = Vec::new();
    for run in ["first", "second"] {
        let mut process = up(run, folder.path(), &[]);
        running(&mut process).await;
        answers(folder.path()).await;
        api_urls.push(api(folder.path()).url().to_owned());
        let devices = api(folder.path()).get("devices").await;
        assert_eq!(devices["items"].as_array().unwrap().len(), 1, "{devices}");
        assert!(process.terminate(STOPS_WITHIN).success());
    }
    assert_ne!(api_urls[0], api_urls[1], "both starts had the same port: nothing was tested");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_signal_ends_a_start_that_hangs() {
    // A database that takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let silent = tokio::net::TcpListener::from_std(silent).unwrap();
    let database = format!("postgres://nobody@{}/nothing", silent.local_addr().unwrap());
    for (program, signal) in
        [("aidos", "TERM"), ("aidos", "INT"), ("aidos-control-plane", "TERM"), ("aidos-control-plane", "INT")]
    {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("plane.toml");
        std::fs::write(&config, format!("database = \"{database}\"\n")).unwrap();
        let mut command = Command::new(binary(program));
        command.arg(if program == "aidos" { "up" } else { "serve" }).arg("--config").arg(&config);
        command.arg("--data-dir").arg(folder.path().join("data"));
        for port in ["--listen", "--quic", "--mqtt"] {
            command.args([port, "127.0.0.1:0"]);
        }
        let mut process = Process::start(program, command, folder.path());
        let (_connection, _) = tokio::time::timeout(Duration::from_secs(60), silent.accept()).await.unwrap().unwrap();
        process.signal(signal);
        let status = process.ended(Duration::from_secs(5));
        let log = process.log();
        match program {
            "aidos" => assert!(status.code() == Some(1) && log.contains("it goes on where it was"), "{status}: {log}"),
            _ => assert!(status.success() && log.contains("stopped before it was up"), "{status}: {log}"),
        }
    }
}

#[allow(clippy::print_stderr)] // what a person needs to repeat a failure
fn say(line: &str) {
    eprintln!("{line}");
}
