//! What devices do with signatures: real agents, a real control plane, and somebody who has its database.

use crate::stories::{digit, predicts_seven, sample_model, variant};
use crate::trust::{Repository, text};
use aidos_tests::{Agent, Fleet, binary, eventually};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What a device reports at `path`, once it satisfies `check`.
async fn reports(fleet: &Fleet, device: &str, path: &str, check: impl Fn(&Value) -> bool) -> Value {
    let id = fleet.device(device, "online").await["id"].as_str().unwrap().to_owned();
    eventually(&format!("{device} reports {path}"), async || {
        let value = fleet.api.get(&format!("devices/{id}/twin")).await["status"][path].clone();
        check(&value).then_some(value)
    })
    .await
}

async fn stands(fleet: &Fleet, device: &str, version: u64, state: &str) -> Value {
    let is = |value: &Value| value["desired_version"] == version && value["state"] == state;
    reports(fleet, device, "models/digits", is).await
}

async fn ready(fleet: &Fleet, agent: &Agent, device: &str, version: u64) {
    stands(fleet, device, version, "ready").await;
    predicts_seven(&agent.predict("digits", &digit(7)));
}

/// Asks for a version without waiting for anybody.
fn ask_for(fleet: &Fleet, version: &str, selector: &str) {
    let out = fleet.cli(&["deploy", version, "--to", selector]);
    assert!(out.status.success(), "{}", text(&out));
}

async fn push(fleet: &Fleet, number: u32) -> Value {
    fleet.push("digits", &variant(fleet.folder(), number, 10)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_takes_what_is_signed_and_not_what_somebody_wrote_into_the_planes_database() {
    let mut fleet = Fleet::start().await;
    fleet.push("digits", &sample_model()).await;
    Repository::init(&fleet).await.aidos(&["sign", "digits@1"]);
    // The root comes with the join's answer.
    let agent = fleet.agent("edge", &json!({})).await;
    let identity: Value = serde_json::from_slice(&std::fs::read(agent.dir.join("identity/identity.json")).unwrap()).unwrap();
    assert!(identity["trust"]["root"].as_str().unwrap().contains("\"root\""), "{identity}");
    fleet.deploy("digits@1", "all").await;
    ready(&fleet, &agent, "edge", 1).await;
    let status = reports(&fleet, "edge", "trust", |value| value["state"] == "verified").await;
    assert_eq!((&status["root"], &status["targets"]), (&1.into(), &2.into()), "{status}");
    let shown = text(&agent.cli(&["status"]));
    assert!(shown.contains("signed updates only"), "{shown}");

    // Two versions are signed; then somebody with the database lets version 2 be the file of another one, and gives version 3
    // to a file that nobody signed.
    let (second, other) = (push(&fleet, 2).await, fleet.push("other", &variant(fleet.folder(), 3, 20)).await);
    Repository::at(&fleet).await.aidos(&["sign", "digits@2"]);
    fleet.control_plane().terminate(Duration::from_secs(20));
    let database = fleet.control_plane_dir().join("control-plane.db");
    let database = rusqlite::Connection::open(database).unwrap();
    let of = |view: &Value| (view["digest"].as_str().unwrap().to_owned(), view["size"].as_i64().unwrap());
    let ((digest, size), (is, _)) = (of(&other), of(&second));
    let changed = database.execute(
        "UPDATE model_versions SET digest = ?1, size = ?2 WHERE model = 'digits' AND version = 2 AND digest = ?3",
        rusqlite::params![digest, size, is],
    );
    assert_eq!(changed.unwrap(), 1);
    drop(database);
    fleet.start_control_plane().await;
    ask_for(&fleet, "digits@2", "all");
    let status = stands(&fleet, "edge", 2, "failed").await;
    assert!(status["error"].as_str().unwrap().contains("is not what targets signed: its digest"), "{status}");
    assert_eq!(status["active_version"], 1);
    predicts_seven(&agent.predict("digits", &digit(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_version_waits_for_its_signature_also_on_a_device_that_joined_before_there_was_a_root() {
    let fleet = Fleet::start().await;
    fleet.push("digits", &sample_model()).await;
    let agent = fleet.agent("edge", &json!({})).await;
    fleet.deploy("digits@1", "all").await;
    let shown = text(&agent.cli(&["status"])) + &text(&agent.cli(&["doctor"]));
    assert!(shown.contains("installs by the control plane's word alone") && shown.contains("aidos trust init"), "{shown}");

    let repository = Repository::init(&fleet).await;
    let pushed = fleet.cli(&["model", "push", &variant(fleet.folder(), 2, 10).to_string_lossy(), "--name", "digits"]);
    assert!(text(&pushed).contains("aidos trust sign digits@2"), "{}", text(&pushed));
    ask_for(&fleet, "digits@2", "all");
    let status = stands(&fleet, "edge", 2, "waiting").await;
    assert!(status["error"].as_str().unwrap().contains("run `aidos trust sign digits@2`"), "{status}");
    assert_eq!(status["active_version"], 1);
    let id = fleet.device("edge", "online").await["id"].as_str().unwrap().to_owned();
    let shown = text(&fleet.cli(&["device", "show", &id]));
    assert!(shown.contains("aidos trust sign digits@2") && shown.contains("signed updates only"), "{shown}");
    repository.aidos(&["sign", "digits@2"]);
    ready(&fleet, &agent, "edge", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_away_while_every_key_was_replaced_finds_the_way() {
    let fleet = Fleet::start().await;
    fleet.push("digits", &sample_model()).await;
    let repository = Repository::init(&fleet).await;
    repository.aidos(&["sign", "digits@1"]);
    let mut agent = fleet.agent("edge", &json!({})).await;
    fleet.deploy("digits@1", "all").await;
    agent.process().terminate(Duration::from_secs(20));
    for what in ["root", "targets", "online", "root"] {
        repository.aidos(&["rotate", what]);
    }
    push(&fleet, 2).await;
    repository.aidos(&["sign", "digits@2"]);
    ask_for(&fleet, "digits@2", "all");
    // What is installed answers before anything is asked.
    agent.start().await;
    ready(&fleet, &agent, "edge", 2).await;
    assert_eq!(reports(&fleet, "edge", "trust", |value| value["state"] == "verified").await["root"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stick_carries_its_proof_and_an_older_one_is_refused() {
    let fleet = Fleet::start().await;
    fleet.push("digits", &sample_model()).await;
    let repository = Repository::init(&fleet).await;
    let stick = |name: &str| fleet.folder().join(name).to_string_lossy().into_owned();
    let export = |version: &str, name: &str| fleet.cli(&["bundle", "export", version, "--out", &stick(name)]);
    let refused = export("digits@1", "unsigned.tar");
    assert!(!refused.status.success() && text(&refused).contains("aidos trust sign digits@1"), "{}", text(&refused));
    repository.aidos(&["sign", "digits@1"]);
    assert!(export("digits@1", "old.tar").status.success());

    let mut agent = fleet.agent("edge", &json!({})).await;
    // Out of reach of the repository it believes the stick by the root that it was given.
    agent.process().terminate(Duration::from_secs(20));
    let brought = agent.cli(&["bundle", "import", &stick("old.tar")]);
    assert!(brought.status.success(), "{}", text(&brought));
    agent.start().await;
    push(&fleet, 2).await;
    repository.aidos(&["sign", "digits@2"]);
    assert!(export("digits@2", "new.tar").status.success());
    let brought = agent.cli(&["bundle", "import", &stick("new.tar")]);
    assert!(brought.status.success(), "{}", text(&brought));
    let older = agent.cli(&["bundle", "import", &stick("old.tar")]);
    assert!(!older.status.success() && text(&older).contains("already trusts"), "{}", text(&older));
    fleet.deploy("digits@2", "all").await;
    ready(&fleet, &agent, "edge", 2).await;

    // The files of another version under the name of the signed one.
    let bytes = std::fs::read(stick("new.tar")).unwrap();
    let forged = replaced(&bytes, b"\"version\":2", b"\"version\":1");
    std::fs::write(stick("forged.tar"), forged).unwrap();
    let fresh = fleet.agent("fresh", &json!({ "site": "far" })).await;
    let refused = fresh.cli(&["bundle", "import", &stick("forged.tar")]);
    assert!(!refused.status.success() && text(&refused).contains("is not what targets signed"), "{}", text(&refused));
}

/// `bytes` with the first `from` as `to`, of the same length.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("it is in there");
    let mut bytes = bytes.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_signs_what_is_delegated_to_it_and_nothing_else_and_only_until_it_is_revoked() {
    let fleet = Fleet::start().await;
    fleet.push("digits", &sample_model()).await;
    let repository = Repository::init(&fleet).await;
    let team = fleet.folder().join("team-keys");
    let as_team = |arguments: &[&str]| repository.run_with(&team, arguments);
    let made = as_team(&["key", "team-a"]);
    assert!(made.status.success() && text(&made).contains("compare it"), "{}", text(&made));
    let public = team.join("team-a.pub.json").to_string_lossy().into_owned();
    let useless = repository.run(&["delegate", "team-a", "--key", &public, "--paths", "models/digits/*"]);
    assert!(text(&useless).contains("matches no target"), "{}", text(&useless));
    repository.aidos(&["delegate", "team-a", "--key", &public, "--models", "digits"]);
    let shown = text(&repository.run(&["status"]));
    assert!(shown.contains("team-a") && shown.contains("models/digits/*/*"), "{shown}");

    let agent = fleet.agent("edge", &json!({})).await;
    let signed = as_team(&["sign", "digits@1", "--as", "team-a"]);
    assert!(signed.status.success(), "{}", text(&signed));
    fleet.deploy("digits@1", "all").await;
    ready(&fleet, &agent, "edge", 1).await;
    repository.all_accept("delegated", "models/digits/1/model.onnx");
    // What it signed travels on a stick, too.
    let stick = fleet.folder().join("team.tar").to_string_lossy().into_owned();
    assert!(fleet.cli(&["bundle", "export", "digits@1", "--out", &stick]).status.success());
    let taken = agent.cli(&["bundle", "import", &stick]);
    assert!(taken.status.success(), "{}", text(&taken));
    fleet.push("other", &variant(fleet.folder(), 9, 10)).await;
    let outside = as_team(&["sign", "other@1", "--as", "team-a"]);
    assert!(text(&outside).contains("is not among what this publisher may sign"), "{}", text(&outside));
    // Its key is none of the people's.
    let outside = as_team(&["sign", "other@1"]);
    assert!(text(&outside).contains("there is no key for targets"), "{}", text(&outside));

    repository.aidos(&["revoke", "team-a"]);
    push(&fleet, 2).await;
    let revoked = as_team(&["sign", "digits@2", "--as", "team-a"]);
    assert!(text(&revoked).contains("nothing is delegated to `team-a`"), "{}", text(&revoked));
    ask_for(&fleet, "digits@2", "all");
    let status = stands(&fleet, "edge", 2, "waiting").await;
    assert_eq!(status["active_version"], 1, "what was verified goes on: {status}");
    repository.aidos(&["sign", "digits@2"]);
    ready(&fleet, &agent, "edge", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_of_the_agent_is_taken_once_it_is_signed() {
    let fleet = Fleet::start().await;
    let repository = Repository::init(&fleet).await;
    let mut device = fleet.launched("edge", &["--silence", "30", "--deadline", "120"]).await;
    fleet.push_release(&fleet.other_agent("signed build"), "0.1.0+signed", &[]);
    fleet.deploy_release("0.1.0+signed");
    let status = device.release(&fleet, "0.1.0+signed", "waiting").await;
    assert!(status["error"].as_str().unwrap().contains("aidos trust sign --release 0.1.0+signed"), "{status}");
    repository.aidos(&["sign", "--release", "0.1.0+signed"]);
    let status = device.release(&fleet, "0.1.0+signed", "ready").await;
    assert_eq!(status["active"], "0.1.0+signed");
}

/// Sets a process's wall clock, and only that: the monotonic one is nobody's to set.
fn wall_clock(at: &str) -> [(&'static str, String); 3] {
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    assert!(Path::new(LIBRARY).exists(), "faketime is not there: `cargo xtask test` installs it");
    let preload = ("LD_PRELOAD", LIBRARY.to_owned());
    [preload, ("FAKETIME", format!("@{at} 00:00:00")), ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_at_2038_neither_blocks_a_stick_that_is_valid_nor_lets_one_in_that_is_not_signed() {
    let fleet = Fleet::start().await;
    fleet.push("digits", &sample_model()).await;
    let repository = Repository::init(&fleet).await;
    repository.aidos(&["sign", "digits@1"]);
    let stick = fleet.folder().join("stick.tar");
    assert!(fleet.cli(&["bundle", "export", "digits@1", "--out", &stick.to_string_lossy()]).status.success());
    let forged = fleet.folder().join("forged.tar");
    let bytes = std::fs::read(&stick).unwrap();
    std::fs::write(&forged, replaced(&bytes, b"\"name\":\"digits\"", b"\"name\":\"digitz\"")).unwrap();
    for (year, at) in [("1970", "1970-01-02"), ("2038", "2038-01-20")] {
        let agent = fleet.joined(year, &fleet.token(&json!({})).await, &fleet.folder().join(year));
        let import = |file: &Path| {
            let mut command = Command::new(binary("aidos-agent"));
            command.args(["bundle", "import"]).arg(file).arg("--data-dir").arg(&agent.dir);
            command.envs(wall_clock(at)).output().unwrap()
        };
        let refused = import(&forged);
        assert!(!refused.status.success() && text(&refused).contains("digitz@1 is not signed"), "{}", text(&refused));
        let taken = import(&stick);
        assert!(taken.status.success(), "{at}: {}", text(&taken));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_at_1970_or_2038_neither_blocks_a_signed_version_nor_lets_an_unsigned_one_in() {
    let fleet = Fleet::start().await;
    fleet.push("digits", &sample_model()).await;
    let repository = Repository::init(&fleet).await;
    let mut agents = Vec::new();
    for (year, at, seconds) in [("y1970", "1970-01-02", 0..1_000_000_000), ("y2038", "2038-01-20", 2_147_000_000..2_148_000_000)]
    {
        let token = fleet.token(&json!({})).await;
        let mut agent = fleet.joined(year, &token, &fleet.folder().join(year));
        agent.environment = wall_clock(at).map(|(name, value)| (name.to_owned(), value)).to_vec();
        agent.start().await;
        agents.push((year, agent, seconds));
    }
    ask_for(&fleet, "digits@1", "all");
    for (year, _, seconds) in &agents {
        let status = stands(&fleet, year, 1, "waiting").await;
        assert!(seconds.contains(&(status["since_us"].as_i64().unwrap() / 1_000_000)), "the clock was set: {status}");
    }
    repository.aidos(&["sign", "digits@1"]);
    for (year, agent, _) in &agents {
        ready(&fleet, agent, year, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_while_a_version_is_watched_changes_nothing() {
    let fleet = Fleet::start().await;
    fleet.push("digits", &sample_model()).await;
    let token = fleet.token(&json!({})).await;
    let mut agent = fleet.joined("edge", &token, &fleet.folder().join("edge"));
    let clock = fleet.folder().join("clock");
    let jump = |by: &str| std::fs::write(&clock, by).unwrap();
    jump("+0");
    agent.environment = wall_clock("1970-01-02").map(|(name, value)| (name.to_owned(), value)).to_vec();
    agent.environment.retain(|(name, _)| name != "FAKETIME");
    agent.environment.push(("FAKETIME_TIMESTAMP_FILE".into(), clock.to_string_lossy().into_owned()));
    agent.environment.push(("FAKETIME_NO_CACHE".into(), "1".into()));
    agent.start().await;
    fleet.deploy("digits@1", "all").await;
    let (past, ahead) = (0..100_000_000, 2_100_000_000..i64::MAX);
    for (version, jumps, ends) in [(2, ["+4200d", "-20000d"], past), (3, ["-20000d", "+4200d"], ahead)] {
        push(&fleet, version).await;
        let name = format!("digits@{version}");
        let made = fleet.cli(&["rollout", "create", &name, "--to", "all", "--soak", "4s", "-o", "json"]);
        assert!(made.status.success(), "{}", text(&made));
        let id = serde_json::from_slice::<Value>(&made.stdout).unwrap()["id"].as_str().unwrap().to_owned();
        let is = |phase: &'static str, running: u64| {
            let (fleet, id) = (&fleet, &id);
            eventually("the rollout goes on", async move || {
                let rollout = fleet.api.get(&format!("rollouts/{id}")).await;
                (rollout["phase"] == phase && rollout["waves"][0]["running"] == running).then_some(())
            })
        };
        is("running", 1).await;
        for by in jumps {
            jump(by);
            // Long enough to be looked at in each of its steps.
            tokio::time::sleep(Duration::from_millis(1_500)).await;
        }
        is("finished", 0).await;
        ready(&fleet, &agent, "edge", version.into()).await;
        let since = stands(&fleet, "edge", version.into(), "ready").await["since_us"].as_i64().unwrap() / 1_000_000;
        assert!(ends.contains(&since), "the clock jumped: {since}");
    }
    // Nor does a start with a wrong clock.
    agent.process().terminate(Duration::from_secs(20));
    agent.start().await;
    fleet.device("edge", "online").await;
    ready(&fleet, &agent, "edge", 3).await;
}
