//! The chain of trust from a person's key to a device: signed with `aidos trust`, served by a real control plane, read by
//! python-tuf and tough as their authors ship them, and by the agent's own verifier.

use crate::stories::{peer, sample_model};
use aidos_tests::{Fleet, binary};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PASSPHRASE: &str = "five words make it long";
const TARGET: &str = "models/digits/1/model.onnx";

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A tenant's repository as its people and clients see it.
pub(crate) struct Repository<'a> {
    fleet: &'a Fleet,
    view: Value,
    /// Where the people's keys are.
    pub(crate) keys: PathBuf,
    /// The root that clients begin with.
    root: PathBuf,
}

impl<'a> Repository<'a> {
    /// Makes the tenant's keys and its repository.
    pub(crate) async fn init(fleet: &'a Fleet) -> Self {
        let keys = fleet.folder().join("keys");
        let repository = Self { fleet, view: Value::Null, root: fleet.folder().join("first-root.json"), keys };
        repository.aidos(&["init"]);
        std::fs::copy(repository.keys.join("root.json"), &repository.root).unwrap();
        Self { view: fleet.api.get("trust").await, ..repository }
    }

    /// One that was made before.
    pub(crate) async fn at(fleet: &'a Fleet) -> Self {
        let (keys, root) = (fleet.folder().join("keys"), fleet.folder().join("first-root.json"));
        Self { view: fleet.api.get("trust").await, root, keys, fleet }
    }

    /// Runs `aidos trust` with the people's keys.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(&self.keys, arguments)
    }

    /// Runs `aidos trust` with the keys in a folder.
    pub(crate) fn run_with(&self, keys: &Path, arguments: &[&str]) -> Output {
        let passphrase = self.fleet.folder().join("passphrase");
        std::fs::write(&passphrase, PASSPHRASE).unwrap();
        let keys = keys.to_str().unwrap();
        let after = ["--keys", keys, "--passphrase-file", passphrase.to_str().unwrap()];
        self.fleet.cli(&[&["trust"], arguments, &after].concat())
    }

    /// The same, which must succeed.
    pub(crate) fn aidos(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        assert!(output.status.success(), "aidos trust {arguments:?}: {}", text(&output));
    }

    fn url(&self, which: &str) -> &str {
        self.view[which].as_str().unwrap()
    }

    /// Refreshes and downloads with python-tuf, keeping what it trusts in `name`.
    fn python_tuf(&self, name: &str, target: &str) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/python_tuf_client.py");
        Command::new(peer("AIDOS_TEST_PYTHON"))
            .arg(script)
            .arg(self.fleet.folder().join(name))
            .arg(&self.root)
            .args([self.url("metadata_url"), self.url("targets_url"), target])
            .output()
            .expect("python starts")
    }

    /// Refreshes and downloads with the agent's verifier, keeping what it trusts in `name`.
    fn agents_verifier(&self, name: &str, target: &str) -> Output {
        let folder = self.fleet.folder().join(name);
        let metadata = folder.join("metadata");
        if !metadata.exists() {
            let init = Command::new(binary("aidos-tuf-client"))
                .arg("--metadata-dir")
                .arg(&metadata)
                .arg("init")
                .arg(&self.root)
                .output();
            assert!(init.unwrap().status.success());
        }
        Command::new(binary("aidos-tuf-client"))
            .arg("--metadata-dir")
            .arg(&metadata)
            .args(["--metadata-url", self.url("metadata_url"), "--target-base-url", self.url("targets_url")])
            .args(["--target-name", target, "--target-dir"])
            .arg(folder.join("targets"))
            .args(["--trusted-time", "download"])
            .output()
            .expect("the client starts")
    }

    /// Reads the target with tough, from nothing.
    fn tough(&self, target: &str) -> Output {
        Command::new(peer("AIDOS_TEST_TOUGH"))
            .arg(&self.root)
            .args([self.url("metadata_url"), self.url("targets_url"), target])
            .output()
            .expect("tough-reader starts")
    }

    /// All clients; python-tuf and the agent's verifier go on from what `name` knows.
    pub(crate) fn all_accept(&self, name: &str, target: &str) {
        let python = self.python_tuf(&format!("python-{name}"), target);
        assert!(python.status.success(), "{}", text(&python));
        let answer: Value = serde_json::from_slice(&python.stdout).unwrap();
        let file = std::fs::read(answer["file"].as_str().unwrap()).unwrap();
        assert!(file == std::fs::read(sample_model()).unwrap());
        assert_eq!(answer["custom"]["aidos-model"]["model"], "digits");
        let own = self.agents_verifier(&format!("own-{name}"), target);
        assert!(own.status.success(), "{}", text(&own));
        let tough = self.tough(target);
        assert!(tough.status.success(), "{}", text(&tough));
        assert!(tough.stdout == std::fs::read(sample_model()).unwrap());
    }

    fn all_refuse(&self, name: &str, target: &str, why: &str) {
        let python = self.python_tuf(&format!("python-{name}"), target);
        assert_eq!(python.status.code(), Some(1), "{}", text(&python));
        let own = self.agents_verifier(&format!("own-{name}"), target);
        assert_eq!(own.status.code(), Some(1), "{}", text(&own));
        assert!(text(&own).contains(why), "{}", text(&own));
        assert_eq!(self.tough(target).status.code(), Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_independent_clients_read_a_tenants_repository_through_rotations() {
    let fleet = Fleet::start().await;
    fleet.push("digits", &sample_model()).await;
    let repository = Repository::init(&fleet).await;
    repository.all_refuse("unsigned", TARGET, "nobody vouches for");
    repository.aidos(&["sign", "digits@1"]);
    repository.all_accept("first", TARGET);

    for what in ["date", "targets", "root", "online"] {
        repository.aidos(&["rotate", what]);
        // A client that knows the state before, and one that begins with the first root.
        repository.all_accept("first", TARGET);
        repository.all_accept(&format!("after-{what}"), TARGET);
    }
    let view = fleet.api.get("trust").await;
    let root = view["roles"].as_array().unwrap().iter().find(|role| role["role"] == "root").unwrap();
    assert_eq!(root["version"], 5);

    repository.aidos(&["sign", "--remove", "digits@1"]);
    repository.all_refuse("first", TARGET, "nobody vouches for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_lost_its_key_is_refused_until_people_sign_the_new_one() {
    let mut fleet = Fleet::start().await;
    fleet.push("digits", &sample_model()).await;
    let keys = fleet.control_plane_dir().join("pki/trust.key");
    {
        let repository = Repository::init(&fleet).await;
        repository.aidos(&["sign", "digits@1"]);
        repository.all_accept("first", TARGET);
    }
    let view = fleet.api.get("trust").await;
    fleet.control_plane().terminate(std::time::Duration::from_secs(20));
    std::fs::remove_file(keys).unwrap();
    fleet.start_control_plane().await;
    let repository =
        Repository { view, keys: fleet.folder().join("keys"), root: fleet.folder().join("first-root.json"), fleet: &fleet };
    // It cannot sign for the tenant any more, whatever an operator asks.
    let refused = repository.run(&["sign"]);
    assert!(!refused.status.success(), "{}", text(&refused));
    repository.aidos(&["rotate", "online"]);
    repository.aidos(&["sign"]);
    repository.all_accept("first", TARGET);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_passphrase_or_address_nothing_is_signed_or_read() {
    let fleet = Fleet::start().await;
    fleet.push("digits", &sample_model()).await;
    let repository = Repository::init(&fleet).await;
    let twice = repository.run(&["init"]);
    assert!(text(&twice).contains("has root version 1 already"), "{}", text(&twice));
    let wrong = fleet.folder().join("wrong");
    std::fs::write(&wrong, "five words that are wrong").unwrap();
    let arguments = ["trust", "sign", "digits@1", "--keys", repository.keys.to_str().unwrap(), "--passphrase-file"];
    let refused = fleet.cli(&[&arguments[..], &[wrong.to_str().unwrap()]].concat());
    assert!(text(&refused).contains("the passphrase does not open this key"), "{}", text(&refused));
    // The address of the repository with one character changed.
    let mut address = repository.url("metadata_url").replace("/metadata/", "");
    address.pop();
    let status = reqwest::get(format!("{address}_/metadata/timestamp.json")).await.unwrap().status();
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wall_clock_decides_nothing_for_a_device() {
    let fleet = Fleet::start().await;
    fleet.push("digits", &sample_model()).await;
    let repository = Repository::init(&fleet).await;
    repository.aidos(&["sign", "digits@1"]);
    for wall in ["1970-01-02 00:00:00", "2038-01-20 00:00:00"] {
        let folder = fleet.folder().join(format!("at-{}", &wall[..4]));
        let client = |arguments: &[&str]| {
            let output = Command::new("faketime")
                .arg(wall)
                .arg(binary("aidos-tuf-client"))
                .arg("--metadata-dir")
                .arg(&folder)
                .args(["--metadata-url", repository.url("metadata_url")])
                .args(arguments)
                .output();
            output.expect("faketime starts: `cargo xtask test` installs it")
        };
        assert!(client(&["--trusted-time", "init", repository.root.to_str().unwrap()]).status.success());
        let trusted = client(&["--trusted-time", "refresh"]);
        assert!(trusted.status.success(), "{wall}: {}", text(&trusted));
    }
    // The plain form of the public conformance suite, by the machine's own clock: 0 for what is signed, 1 for what is not.
    let plain = |arguments: &[&str]| {
        let mut client = Command::new(binary("aidos-tuf-client"));
        client.arg("--metadata-dir").arg(fleet.folder().join("plain")).args(arguments).output().unwrap()
    };
    let (metadata, targets) = (repository.url("metadata_url"), repository.url("targets_url"));
    let into = fleet.folder().join("plain-targets");
    let download = |name: &str| {
        let to = ["--target-base-url", targets, "--target-dir", into.to_str().unwrap(), "download"];
        plain(&[&["--metadata-url", metadata, "--target-name", name], to.as_slice()].concat())
    };
    assert!(plain(&["init", repository.root.to_str().unwrap()]).status.success());
    assert!(plain(&["--metadata-url", metadata, "refresh"]).status.success());
    let taken = download(TARGET);
    assert!(taken.status.success(), "{}", text(&taken));
    assert_eq!(download("models/digits/9/model.onnx").status.code(), Some(1));
    // The same files by the wall clock of 2038 have expired: the clock was really set.
    let by_wall = Command::new("faketime")
        .arg("2038-01-20 00:00:00")
        .arg(binary("aidos-tuf-client"))
        .arg("--metadata-dir")
        .arg(fleet.folder().join("at-2038"))
        .args(["--metadata-url", repository.url("metadata_url"), "refresh"])
        .output()
        .unwrap();
    assert!(text(&by_wall).contains("expired"), "{}", text(&by_wall));
}
