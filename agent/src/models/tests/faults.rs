//! One update that is good, one that comes as a delta, one that comes in chunks with golden cases, and one that goes back, with the disk
//! failing once, failing for good, or the process killed at each point of their ways: enumerated, not sampled.
//!
//! The test runs its own binary again as the device, so that a kill is a real one. Each device begins as one that answers with
//! version 1, is asked for another, and is started again after its end, as a service would be.

use super::world::{Agent, Plane};
use super::*;
use crate::fault::{Plan, passed};
use aidos_protocol::twin::Way;
use serde::{Deserialize, Serialize};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
    /// By which way the wanted file came.
    way: Option<Way>,
    points: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct View {
    /// Version and digest of what answers.
    answers: Option<(u64, Digest)>,
    status: Option<ModelStatus>,
}

/// The version that fails half of its requests.
const BAD: u64 = 3;
/// The version that comes in chunks, and with golden cases. It has much in common with version 1.
const CHUNKED: u64 = 4;
/// The wish for version 2 where there is a delta from version 1.
const PATCHED: u64 = 5;
/// How long a device goes on whose disk stays broken.
const BROKEN: Duration = Duration::from_millis(600);

/// Noise, of which a byte in 64 differs between versions.
fn bytes(version: u64) -> Vec<u8> {
    if version == CHUNKED {
        let mut bytes = self::bytes(1);
        bytes.splice(150_000..150_000, self::bytes(7)[..60_000].iter().copied());
        return bytes;
    }
    let head: &[u8] = if version == BAD { b"errs" } else { b"good" };
    let noise = (0..LENGTH as u64).map(|n| {
        let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as u8 ^ if n % 64 == 0 { version as u8 } else { 0 }
    });
    head.iter().copied().chain(noise).collect()
}

/// The version that answers once a wish is done.
fn outcome(wish: u64) -> u64 {
    match wish {
        BAD => 1,
        PATCHED => 2,
        version => version,
    }
}

/// A file that nobody asked for.
fn stray(dir: &Path) -> PathBuf {
    dir.join("data/artifacts").join(Digest::of(b"stray").hex())
}

fn view(agent: &Agent) -> View {
    let answers = agent.runner.of("digits").active.map(|(version, bytes)| (version, Digest::of(&bytes)));
    View { answers, status: agent.reconciler.statuses().into_values().next() }
}

/// The device: version `wish` is desired; what it says goes to `dir`/said.
async fn device(dir: &Path, wish: u64) -> i32 {
    let plane = Plane::start().await;
    let version = if wish == PATCHED { 2 } else { wish };
    let mut desired = [1, 2, BAD, CHUNKED].map(|version| plane.publish(version, &bytes(version)))[version as usize - 1].clone();
    if wish == PATCHED {
        plane.patch(&bytes(1), &bytes(2));
    }
    if wish == CHUNKED {
        plane.cut_up(&bytes(CHUNKED));
        desired.golden_digest = Some(plane.publish(1, super::golden_case().as_bytes()).digest);
    }
    let digest = desired.digest;
    let desired = if wish == BAD { super::watched(desired) } else { desired };
    plane.cuts.store(1, Ordering::SeqCst);
    let agent = match Agent::restored(&dir.join("data"), &plane).await {
        Ok(agent) => agent,
        Err(_) => return NOT_STARTED,
    };
    let mut said = Said { begun: Some(view(&agent)), ended: None, way: None, points: Vec::new() };
    let write = |said: &Said| std::fs::write(dir.join("said"), serde_json::to_vec(said).unwrap()).unwrap();
    write(&said);
    agent.want(&[("digits", desired)]);
    let running = agent.follow();
    if wish == BAD {
        agent.state("digits", ModelState::RolledBack).await;
    } else {
        agent.ready("digits", version).await;
    }
    said.ended = Some(view(&agent));
    // The fault may fall on this question, too: only a run without one is asked for the way.
    said.way = agent.store.tally(&digest).ok().flatten().and_then(|tally| tally.way);
    // What nobody needs goes right afterwards, or stays where the disk fails.
    for _ in 0..100 {
        if !stray(dir).exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
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
        Plan::FailFrom(number) => format!("fail-from {number}"),
        Plan::Kill(number) => format!("kill {number}"),
    };
    let forever = plan.starts_with("fail-from");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", NAME, "--nocapture"]).env(DEVICE, dir).env(PLAN, plan).env(WISH, wish.to_string());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = std::time::Instant::now();
    // What cannot be kept is tried again for ever: then the power goes.
    while forever && child.try_wait().unwrap().is_none() {
        if begun.elapsed() > BROKEN {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
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
    assert!((1..=CHUNKED).contains(&version), "{what}");
    assert_eq!(digest, Digest::of(&bytes(version)), "{what}: not a whole version");
    let status = view.status.as_ref().unwrap_or_else(|| panic!("{what}: no status"));
    assert_eq!((status.active_version, status.digest), (Some(version), Some(digest)), "{what}");
}

fn converged(said: Option<Said>, wish: u64, what: &str) {
    let said = said.unwrap_or_else(|| panic!("{what}: it said nothing"));
    truthful(said.begun.as_ref().unwrap(), what);
    let ended = said.ended.unwrap_or_else(|| panic!("{what}: it never came to its end"));
    truthful(&ended, what);
    assert_eq!(ended.answers.unwrap().0, outcome(wish), "{what}");
}

/// `prepared` with the fault, then without.
fn endure(prepared: &Path, wish: u64, plan: Plan, what: &str) {
    let dir = tempfile::tempdir().unwrap();
    copy(prepared, dir.path());
    let (ended, said) = start(dir.path(), wish, plan);
    match (plan, ended) {
        (Plan::Kill(_) | Plan::FailFrom(_), Err(9)) | (Plan::Fail(_) | Plan::FailFrom(_), Ok(NOT_STARTED)) => {
            if let Some(said) = said {
                truthful(said.begun.as_ref().unwrap(), what);
            }
            let (ended, said) = start(dir.path(), wish, Plan::Record);
            assert_eq!(ended, Ok(0), "{what}");
            converged(said, wish, what);
        }
        // A body may arrive in fewer pieces than when the points were counted: then the last ones are not there.
        (_, Ok(0)) => converged(said, wish, what),
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
            "fail-from" => Plan::FailFrom(number),
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
    // What nobody needs is cleared away, too.
    std::fs::write(stray(prepared.path()), b"stray").unwrap();
    let points = |wish| {
        let recorded = tempfile::tempdir().unwrap();
        copy(prepared.path(), recorded.path());
        let (ended, said) = start(recorded.path(), wish, Plan::Record);
        assert_eq!(ended, Ok(0));
        let said = said.unwrap();
        let way = match wish {
            PATCHED => Way::Delta,
            CHUNKED => Way::Chunks,
            _ => Way::Whole,
        };
        // What was given up is forgotten with its file.
        assert!(wish == BAD || said.way == Some(way), "{wish}: {:?}", said.way);
        said.points.into_iter().enumerate().map(move |(number, name)| (wish, number, name)).collect::<Vec<_>>()
    };
    let (good, patched, chunked, bad) = (points(2), points(PATCHED), points(CHUNKED), points(BAD));
    let all = || good.iter().chain(&patched).chain(&chunked).chain(&bad);
    let mut names: Vec<&str> = all().map(|(_, _, name)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for name in [
        "download.write",
        "download.sync",
        "download.rename",
        "aid.remove",
        "chunks.remove",
        "ledger.begin",
        "ledger.commit",
        "ledger.committed",
    ] {
        assert!(names.contains(&name), "{name} was not passed: {names:?}");
    }
    // Two at a time, as many as the smallest machine that builds this has cores.
    let queue = std::sync::Mutex::new(all());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some((wish, number, name)) = queue.lock().unwrap_or_else(PoisonError::into_inner).next() else { return };
                    let (wish, number) = (*wish, *number);
                    endure(prepared.path(), wish, Plan::Kill(number), &format!("{wish}: killed at point {number}, {name}"));
                    endure(prepared.path(), wish, Plan::Fail(number), &format!("{wish}: failed at point {number}, {name}"));
                    // After a deed is before the next one.
                    if !name.ends_with("ed") {
                        let what = format!("{wish}: failed from point {number} on, {name}");
                        endure(prepared.path(), wish, Plan::FailFrom(number), &what);
                    }
                }
            });
        }
    });
    // The figure that this test is about.
    let text = format!(
        "{} points of an update, {} of one by a delta, {} of one in chunks, {} of one that goes back, each with a kill, a failing disk and \
         one that stays broken: {}\n",
        good.len(),
        patched.len(),
        chunked.len(),
        bad.len(),
        names.join(", ")
    );
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()).unwrap();
}
