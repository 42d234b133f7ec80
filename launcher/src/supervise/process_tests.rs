//! The launcher as a process of its own: what systemd hears of it, and one update of the agent with the disk failing, staying broken, or
//! the launcher killed at each point of its way, enumerated and not sampled.
//!
//! The test runs its own binary again: as the launcher, so that a kill is a real one, and as the agent, which is a script that starts it.
//! Before the launcher begins, it does what the agent does before it hands over: it stages the new version and asks for it.

use super::*;
use crate::fault::{Plan, passed};
use crate::machine::Limits;
use crate::notify::HEALTHY;
use crate::state::Request;
use std::path::{Path, PathBuf};

const NAME: &str =
    "supervise::process_tests::at_every_point_of_its_update_the_agent_is_a_whole_old_or_a_whole_new_one_and_the_state_says_which";
const DEVICE: &str = "AIDOS_TEST_DEVICE";
const PLAN: &str = "AIDOS_TEST_PLAN";
/// What a script says of itself when it starts this binary as the agent.
const AGENT: &str = "AIDOS_TEST_AGENT";
/// Longer than anything that is waited for takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a launcher goes on that could not write something down.
const BROKEN: Duration = Duration::from_millis(700);
/// The launcher could not begin.
const NOT_STARTED: i32 = 3;

/// A version of the agent: it appends its name to `starts`, and is healthy. Long enough to be written in pieces.
fn version(name: &str) -> String {
    let exe = std::env::current_exe().unwrap();
    let run = format!("#!/bin/sh\n{AGENT}={name} exec '{}' --exact {NAME} --nocapture\n", exe.display());
    format!("{run}{}", format!("# {name}\n").repeat(20_000))
}

/// As the agent.
fn agent(name: &str) -> ! {
    let dir = PathBuf::from(std::env::var_os("AIDOS_AGENT_DATA_DIR").unwrap());
    let launcher = std::os::unix::process::parent_id();
    let socket = UnixDatagram::unbound().unwrap();
    let notify = std::env::var_os("NOTIFY_SOCKET").unwrap();
    let trial = std::env::var(TRIAL_VARIABLE).unwrap_or_default();
    let mut starts = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("starts")).unwrap();
    writeln!(starts, "{name}").unwrap();
    // Like the real one it ends with its launcher: the next one's agent would find it in its place.
    while std::os::unix::process::parent_id() == launcher {
        // Nobody listens any more when the launcher was killed; the loop ends then.
        let _ = socket.send_to(format!("READY=1\nWATCHDOG=1\n{HEALTHY}={trial}").as_bytes(), &notify);
        std::thread::sleep(Duration::from_millis(5));
    }
    std::process::exit(0);
}

fn request() -> Request {
    let release = Release { version: "2.0.0".into(), counter: 2, ..Release::default() };
    Request { id: "update-1".into(), release }
}

/// As the launcher, with the agent's part before it where the update was not tried yet.
fn launcher(dir: &Path) -> i32 {
    let limits = Limits { pause: Duration::from_millis(10), stop: Duration::from_secs(5), ..Limits::default() };
    let options = Options { data_dir: dir.to_owned(), agent: Some(dir.join("installed")), limits, agent_args: Vec::new() };
    let slots = Slots::of(dir);
    let tried = slots.state().ok().flatten().is_some_and(|state| state.last.is_some() || state.trial.is_some());
    if !tried && slots.dir().join("state.json").exists() && slots.request().ok().flatten().is_none() {
        // An agent that cannot write goes on as it is, and tries again later.
        let _ = slots.stage("update-1", &mut version("new").as_bytes()).and_then(|_| slots.ask(&request()));
    }
    let ended = supervise(&options);
    std::fs::write(dir.join("points"), passed().join("\n")).unwrap();
    if ended.is_ok() { 0 } else { NOT_STARTED }
}

/// Starts the launcher, and ends it once what it says has come to rest, unless it ends before.
fn start(dir: &Path, plan: &str) {
    let _ = std::fs::remove_file(dir.join("starts"));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", NAME, "--nocapture"]).env(DEVICE, dir).env(PLAN, plan);
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            match (status.signal(), status.code()) {
                (Some(9), _) | (None, Some(0 | NOT_STARTED)) => return,
                _ => panic!("{plan}: the launcher ended with {status}"),
            }
        }
        if rests(dir) {
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            child.wait().unwrap();
            return;
        }
        // What could not be written down is tried again at the next start: the power goes.
        if plan.starts_with("fail") && begun.elapsed() > BROKEN {
            child.kill().unwrap();
            child.wait().unwrap();
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{plan}: it never comes to rest: {:?}", Slots::of(dir).state());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn systemd_hears_that_it_stands_lives_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("installed"), version("old")).unwrap();
    let path = dir.path().join("systemd");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", NAME, "--nocapture"]).env(DEVICE, dir.path()).env(PLAN, "record 0").env("NOTIFY_SOCKET", &path);
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut heard = Vec::new();
    let hear = |heard: &mut Vec<String>| {
        let mut datagram = [0; DATAGRAM];
        let length = systemd.recv(&mut datagram).expect("it says something");
        heard.extend(String::from_utf8_lossy(&datagram[..length]).lines().map(str::to_owned));
    };
    let count = |heard: &[String], word: &str| heard.iter().filter(|is| is.as_str() == word).count();
    while count(&heard, "READY=1") == 0 || count(&heard, "WATCHDOG=1") < 2 {
        hear(&mut heard);
    }
    assert!(heard.iter().any(|word| word.starts_with("STATUS=")), "{heard:?}");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    while count(&heard, "STOPPING=1") == 0 {
        hear(&mut heard);
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(count(&heard, "READY=1"), 1, "{heard:?}");
}

/// What was started last, if anything.
fn runs(dir: &Path) -> Option<String> {
    std::fs::read_to_string(dir.join("starts")).ok()?.lines().last().map(str::to_owned)
}

/// The name of the version that the state calls good.
fn good(dir: &Path) -> Option<(State, &'static str)> {
    let state = Slots::of(dir).state().ok().flatten()?;
    let name = if state.good_release()?.version == "2.0.0" { "new" } else { "old" };
    Some((state, name))
}

/// Nothing is on trial or asked for that was not judged, and what the state calls good runs.
fn rests(dir: &Path) -> bool {
    let asked = Slots::of(dir).request().ok().flatten();
    let open = |state: &State| asked.as_ref().is_some_and(|request| state.last.as_ref().is_none_or(|last| last.id != request.id));
    let good = good(dir).filter(|(state, _)| state.trial.is_none() && !open(state));
    good.is_some_and(|(_, name)| runs(dir).as_deref() == Some(name))
}

/// The good slot holds a whole version, which is the one that the state names.
fn truthful(dir: &Path, what: &str) -> &'static str {
    let (state, name) = good(dir).unwrap_or_else(|| panic!("{what}: no state"));
    let held = std::fs::read_to_string(Slots::of(dir).binary(state.good)).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(held == version(name), "{what}: the state says {name}, and the slot holds something else");
    name
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(copied.success());
}

/// `prepared` with the fault, then without.
fn endure(prepared: &Path, plan: &str) {
    let dir = tempfile::tempdir().unwrap();
    copy(prepared, dir.path());
    start(dir.path(), plan);
    truthful(dir.path(), plan);
    start(dir.path(), "record 0");
    truthful(dir.path(), plan);
    // The agent asks again where its wish was lost, and where an attempt was given up it does not: both ends are whole.
    start(dir.path(), "record 0");
    let name = truthful(dir.path(), plan);
    let (state, _) = good(dir.path()).unwrap();
    assert!(name == "new" || state.last.is_some(), "{plan}: the old one runs, and nobody says why");
    assert_eq!(runs(dir.path()).as_deref(), Some(name), "{plan}");
}

#[test]
fn at_every_point_of_its_update_the_agent_is_a_whole_old_or_a_whole_new_one_and_the_state_says_which() {
    if let Ok(name) = std::env::var(AGENT) {
        agent(&name);
    }
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
        std::process::exit(launcher(Path::new(&dir)));
    }
    let prepared = tempfile::tempdir().unwrap();
    let installed = prepared.path().join("installed");
    std::fs::write(&installed, version("old")).unwrap();
    start(prepared.path(), "record 0");
    assert_eq!(truthful(prepared.path(), "installed"), "old");
    let recorded = tempfile::tempdir().unwrap();
    copy(prepared.path(), recorded.path());
    start(recorded.path(), "record 0");
    assert_eq!(truthful(recorded.path(), "updated"), "new");
    let points = std::fs::read_to_string(recorded.path().join("points")).unwrap();
    let points: Vec<&str> = points.lines().collect();
    for name in
        ["file.create", "file.write", "file.sync", "file.rename", "slot.rename", "slot.renamed", "file.remove", "folder.sync"]
    {
        assert!(points.contains(&name), "{name} was not passed: {points:?}");
    }
    let plans = ["kill", "fail", "fail-from"].iter().flat_map(|kind| (0..points.len()).map(move |n| format!("{kind} {n}")));
    // Two at a time, as many as the smallest machine that builds this has cores.
    let queue = std::sync::Mutex::new(plans);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                    let Some(plan) = next else { return };
                    endure(prepared.path(), &plan);
                }
            });
        }
    });
    // The figure that this test is about.
    let text = format!(
        "{} points of an update of the agent, each with a kill, a failing disk and one that stays broken\n",
        points.len()
    );
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()).unwrap();
}
