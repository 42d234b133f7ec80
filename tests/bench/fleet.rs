//! A release through a whole fleet: simulated devices with the agent's own link, session and device machine, over real sockets,
//! against a control plane in a process of its own.
//!
//! `cargo xtask bench fleet`; fails when a limit is passed. `AIDOS_BENCH_DEVICES=100,200` sets the two sizes for a quick run.
//! One rollout in four gated waves: a wave is opened when every device of the one before has vouched for the version and its soak
//! is over; the soaks do not count.

#![allow(clippy::unwrap_used)]

use aidos_sim::{Counts, Mix, Pace, Releases, Swarm, SwarmOptions};
use aidos_tests::{Figures, Fleet};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Devices of the smaller and the larger fleet.
const SIZES: [usize; 2] = [1_000, 10_000];
/// Of all devices, those that have the release once a wave is done.
const WAVES: &str = "1%,10%,50%,100%";
/// How long each wave is left alone before the next.
const SOAK: Duration = Duration::from_secs(2);
/// Beyond this something hangs.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks at a wave: each reads counts of the whole fleet.
const LOOK: Duration = Duration::from_millis(200);

/// What one size came to.
struct Run {
    joined: Duration,
    connected: Duration,
    first: Duration,
    waves: Duration,
    plane_bytes: u64,
    database_bytes: u64,
    device_bytes: u64,
}

#[expect(clippy::print_stderr, reason = "the progress of minutes")]
fn progress(text: &str) {
    eprintln!("{text}");
}

/// Bytes of a line of `/proc/<process>/status`.
fn status(process: &str, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let found = status.lines().find(|l| l.starts_with(line)).unwrap();
    found.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

/// The sample with a few bytes of comment more, so that each version is another file.
fn version(folder: &Path, number: u8) -> std::path::PathBuf {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("models/digits/digits.onnx");
    let mut bytes = std::fs::read(sample).unwrap();
    // ONNX: field 6 of the model, its documentation; the last one counts.
    bytes.extend([0x32, 1, b'0' + number]);
    let path = folder.join(format!("digits-{number}.onnx"));
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Waits until every device of a deployment has said how it ended.
async fn settled(fleet: &Fleet, deployment: &Value, devices: usize) {
    let path = format!("deployments/{}", deployment["id"].as_str().unwrap());
    let start = Instant::now();
    let mut said = Instant::now();
    loop {
        let look = Instant::now();
        let counts = fleet.api.get(&path).await["counts"].clone();
        let took = look.elapsed();
        if counts["ready"] == devices {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "the wave does not end: {counts}");
        if said.elapsed() > Duration::from_secs(5) {
            said = Instant::now();
            progress(&format!("  {counts}"));
        }
        // The control plane counts the whole fleet for it: looking must not be most of what it does.
        tokio::time::sleep(LOOK.max(took * 10)).await;
    }
}

/// Waits until a rollout has reached everyone.
async fn finished(fleet: &Fleet, rollout: &Value) {
    let path = format!("rollouts/{}", rollout["id"].as_str().unwrap());
    let start = Instant::now();
    let mut wave = 0;
    loop {
        let rollout = fleet.api.get(&path).await;
        if rollout["wave"] != wave {
            wave = rollout["wave"].as_u64().unwrap();
            progress(&format!("  wave {wave} begins after {:.1?}", start.elapsed()));
        }
        match rollout["phase"].as_str() {
            Some("finished") => return,
            Some("running") => {}
            _ => panic!("the rollout stops: {rollout}"),
        }
        assert!(start.elapsed() < PATIENCE, "the rollout does not end: {rollout}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until every device has had its first session.
async fn connected(swarm: &Swarm, devices: usize) {
    let start = Instant::now();
    while swarm.counts().met < devices {
        assert!(start.elapsed() < PATIENCE, "only {} devices connect", swarm.counts().met);
        tokio::time::sleep(LOOK).await;
    }
}

async fn run(devices: usize) -> Run {
    progress(&format!("{devices} devices"));
    let mut fleet = Fleet::start().await;
    let folder = tempfile::tempdir().unwrap();
    for number in [1, 2] {
        fleet.push("digits", &version(folder.path(), number)).await;
    }
    let token = fleet.api.post("tokens", &json!({ "uses": devices, "labels": { "site": "bench" } })).await;
    let before = status("self", "VmRSS:");
    let start = Instant::now();
    let options = SwarmOptions {
        url: fleet.api.url().to_owned(),
        token: token["token"].as_str().unwrap().to_owned(),
        devices,
        seed: 1,
        mix: Mix::HONEST,
        releases: Releases::default(),
        pace: Pace::default(),
        labels: |_| BTreeMap::new(),
        folder: folder.path().join("identities"),
    };
    let mut swarm = Swarm::join(options).await.unwrap();
    let joined = start.elapsed();
    progress(&format!("  joined after {joined:.1?}"));

    let start = Instant::now();
    swarm.start();
    connected(&swarm, devices).await;
    let connect = start.elapsed();
    progress(&format!("  connected after {connect:.1?}"));

    let start = Instant::now();
    let deployment = fleet.api.post("deployments", &json!({ "subject": "digits@1", "selector": "site=bench" })).await;
    settled(&fleet, &deployment, devices).await;
    let first = start.elapsed();
    progress(&format!("  the first version after {first:.1?}"));

    let start = Instant::now();
    let wish = json!({
        "subject": "digits@2", "selector": "site=bench",
        "plan": { "waves": WAVES, "soak_s": SOAK.as_secs(), "gates": ["memory<64GiB"], "auto_revert": true },
    });
    let rollout = fleet.api.post("rollouts", &wish).await;
    finished(&fleet, &rollout).await;
    let waves = start.elapsed() - SOAK * u32::try_from(WAVES.split(',').count()).unwrap();
    let Counts { answers, processes, bytes, .. } = swarm.counts();
    assert_eq!(answers, BTreeMap::from([(2, devices)]), "what answers is what was reported");
    progress(&format!("  {processes} processes, {} MB of artifacts", bytes / 1_000_000));

    let plane = fleet.control_plane().id().to_string();
    let plane_bytes = status(&plane, "VmHWM:");
    let device_bytes = status("self", "VmRSS:").saturating_sub(before);
    let files = std::fs::read_dir(fleet.control_plane_dir()).unwrap().map(|entry| entry.unwrap());
    let is_database =
        |name: &std::ffi::OsStr| name.to_string_lossy().contains(".db") || name.to_string_lossy().contains(".sqlite");
    let database_bytes = files.filter(|entry| is_database(&entry.file_name())).map(|entry| entry.metadata().unwrap().len()).sum();
    swarm.stop().await;
    fleet.control_plane().kill();
    Run { joined, connected: connect, first, waves, plane_bytes, database_bytes, device_bytes }
}

fn sizes() -> [usize; 2] {
    let Ok(text) = std::env::var("AIDOS_BENCH_DEVICES") else { return SIZES };
    let sizes: Vec<usize> = text.split(',').map(|size| size.trim().parse().unwrap()).collect();
    assert!(sizes.iter().all(|size| size % 100 == 0 && *size > 0), "sizes are whole hundreds: {text}");
    sizes.try_into().expect("two sizes, the smaller first")
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut figures = Figures::default();
    let [small, large] = sizes();
    let mut runs = Vec::new();
    for devices in [small, large] {
        let run = Box::pin(run(devices)).await;
        let name = |what: &str| format!("fleet_{devices}_{what}");
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let each = |bytes: u64| bytes as f64 / devices as f64 / 1_024.0;
        figures.figure(&name("enrolled"), run.joined.as_secs_f64(), "s", None);
        figures.figure(&name("connected"), run.connected.as_secs_f64(), "s", None);
        figures.figure(&name("first_version"), run.first.as_secs_f64(), "s", None);
        figures.figure(&name("four_waves_beyond_soak"), run.waves.as_secs_f64(), "s", Some(60.0));
        figures.figure(&name("control_plane_peak"), mib(run.plane_bytes), "MiB", Some(1_024.0));
        figures.figure(&name("control_plane_per_device"), each(run.plane_bytes), "KiB", None);
        figures.figure(&name("database_per_device"), each(run.database_bytes), "KiB", None);
        figures.figure(&name("simulated_device"), each(run.device_bytes), "KiB", None);
        runs.push(run);
    }
    // At most linear: in so many times as many devices.
    let times = large as f64 / small as f64;
    figures.figure("fleet_growth_time", runs[1].waves.as_secs_f64() / runs[0].waves.as_secs_f64(), "x", Some(times));
    figures.figure("fleet_growth_memory", runs[1].plane_bytes as f64 / runs[0].plane_bytes as f64, "x", Some(times));
    figures.figure("fleet_growth_database", runs[1].database_bytes as f64 / runs[0].database_bytes as f64, "x", Some(times));
    figures.verdict()
}
