//! One update, with the disk failing or the process killed at each point of its way: enumerated, not sampled.
//!
//! The test runs its own binary again as the device, so that a kill is a real one. Each device begins as one that answers with
//! version 1, is asked for version 2, and is started again after its end, as a service would be.

use super::world::{Agent, Plane};
use super::*;
use crate::fault::{Plan, passed};
use serde::{Deserialize, Serialize};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str =
    "models::tests::faults::at_every_point_of_an_update_a_kill_or_a_failing_disk_leaves_a_whole_version_that_says_so";
const DEVICE: &str = "AIDOS_TEST_DEVICE";
const PLAN: &str = "AIDOS_TEST_PLAN";
const WISH: &str = "AIDOS_TEST_WISH";
/// Large enough to arrive in pieces, and to be cut in the middle once.
const LENGTH: usize = 300_000;
/// How a device ends that could not even begin.
const NOT_STARTED: i32 = 3;

/// What a device says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    /// Right after its start, before it knows any wish.
    begun: Option<View>,
    /// When it was as desired.
    ended: Option<View>,
    points: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct View {
    /// Version and digest of what answers.
    answers: Option<(u64, Digest)>,
    status: Option<ModelStatus>,
}

fn bytes(version: u64) -> Vec<u8> {
    (0..LENGTH).map(|n| (n as u64 * 31 + version) as u8).collect()
}

fn view(agent: &Agent) -> View {
    let answers = agent.runner.of("digits").active.map(|(version, bytes)| (version, Digest::of(&bytes)));
    View { answers, status: agent.reconciler.statuses().into_values().next() }
}

/// The device: version `wish` is desired; what it says goes to `dir`/said.
async fn device(dir: &Path, wish: u64) -> i32 {
    let plane = Plane::start().await;
    let desired = [1, 2].map(|version| plane.publish(version, &bytes(version)))[wish as usize - 1].clone();
    plane.cuts.store(1, Ordering::SeqCst);
    let agent = match Agent::restored(&dir.join("data"), &plane).await {
        Ok(agent) => agent,
        Err(_) => return NOT_STARTED,
    };
    let mut said = Said { begun: Some(view(&agent)), ended: None, points: Vec::new() };
    let write = |said: &Said| std::fs::write(dir.join("said"), serde_json::to_vec(said).unwrap()).unwrap();
    write(&said);
    agent.want(&[("digits", desired)]);
    let running = agent.follow();
    agent.ready("digits", wish).await;
    said.ended = Some(view(&agent));
    agent.cancel.cancel();
    running.await.unwrap();
    said.points = passed().into_iter().map(str::to_owned).collect();
    write(&said);
    0
}

/// Runs the device to its end; the signal or exit code, and what it said.
fn start(dir: &Path, wish: u64, plan: Plan) -> (Result<i32, i32>, Option<Said>) {
    let _ = std::fs::remove_file(dir.join("said"));
    let plan = match plan {
        Plan::Record => "record 0".to_owned(),
        Plan::Fail(number) => format!("fail {number}"),
        Plan::Kill(number) => format!("kill {number}"),
    };
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(DEVICE, dir)
        .env(PLAN, plan)
        .env(WISH, wish.to_string())
        .output()
        .unwrap();
    let said = std::fs::read(dir.join("said")).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let ended = output.status.signal().map_or_else(|| Ok(output.status.code().unwrap()), Err);
    if !matches!(ended, Ok(0 | NOT_STARTED) | Err(9)) {
        panic!("the device failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    (ended, said)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A whole old or a whole new version answers, and the status says which.
fn truthful(view: &View, what: &str) {
    let (version, digest) = view.answers.unwrap_or_else(|| panic!("{what}: nothing answers"));
    assert!(version == 1 || version == 2, "{what}");
    assert_eq!(digest, Digest::of(&bytes(version)), "{what}: not a whole version");
    let status = view.status.as_ref().unwrap_or_else(|| panic!("{what}: no status"));
    assert_eq!((status.active_version, status.digest), (Some(version), Some(digest)), "{what}");
}

fn converged(said: Option<Said>, what: &str) {
    let said = said.unwrap_or_else(|| panic!("{what}: it said nothing"));
    truthful(said.begun.as_ref().unwrap(), what);
    let ended = said.ended.unwrap_or_else(|| panic!("{what}: it never came to version 2"));
    truthful(&ended, what);
    assert_eq!(ended.answers.unwrap().0, 2, "{what}");
}

/// `prepared` with the fault, then without.
fn endure(prepared: &Path, plan: Plan, what: &str) {
    let dir = tempfile::tempdir().unwrap();
    copy(prepared, dir.path());
    let (ended, said) = start(dir.path(), 2, plan);
    match (plan, ended) {
        (Plan::Kill(_), Err(9)) | (Plan::Fail(_), Ok(NOT_STARTED)) => {
            if let Some(said) = said {
                truthful(said.begun.as_ref().unwrap(), what);
            }
            let (ended, said) = start(dir.path(), 2, Plan::Record);
            assert_eq!(ended, Ok(0), "{what}");
            converged(said, what);
        }
        // A body may arrive in fewer pieces than when the points were counted: then the last ones are not there.
        (_, Ok(0)) => converged(said, what),
        (_, ended) => panic!("{what}: it ended with {ended:?}"),
    }
}

#[test]
fn at_every_point_of_an_update_a_kill_or_a_failing_disk_leaves_a_whole_version_that_says_so() {
    if let Some(dir) = std::env::var_os(DEVICE) {
        let plan = std::env::var(PLAN).unwrap();
        let (kind, number) = plan.split_once(' ').unwrap();
        let number = number.parse().unwrap();
        match kind {
            "fail" => Plan::Fail(number),
            "kill" => Plan::Kill(number),
            _ => Plan::Record,
        }
        .arm();
        let wish = std::env::var(WISH).unwrap().parse().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        std::process::exit(runtime.block_on(device(&PathBuf::from(dir), wish)));
    }
    let prepared = tempfile::tempdir().unwrap();
    assert_eq!(start(prepared.path(), 1, Plan::Record).0, Ok(0));
    let recorded = tempfile::tempdir().unwrap();
    copy(prepared.path(), recorded.path());
    let (ended, said) = start(recorded.path(), 2, Plan::Record);
    assert_eq!(ended, Ok(0));
    let points = said.unwrap().points;
    let mut names: Vec<&str> = points.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    for name in ["download.write", "download.sync", "download.rename", "ledger.begin", "ledger.commit", "ledger.committed"] {
        assert!(names.contains(&name), "{name} was not passed: {names:?}");
    }
    // Two at a time, as many as the smallest machine that builds this has cores.
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let Some(name) = points.get(number) else { return };
                    endure(prepared.path(), Plan::Kill(number), &format!("killed at point {number}, {name}"));
                    endure(prepared.path(), Plan::Fail(number), &format!("failed at point {number}, {name}"));
                }
            });
        }
    });
    // The figure that this test is about.
    std::io::Write::write_fmt(
        &mut std::io::stdout(),
        format_args!(
            "{} points of {} kinds, each with a kill and a failing disk: {}\n",
            points.len(),
            names.len(),
            names.join(", ")
        ),
    )
    .unwrap();
}
