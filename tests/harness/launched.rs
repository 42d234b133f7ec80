//! A device whose agent runs behind the launcher, and versions of the agent to update it to.

use crate::{Fleet, Process, binary, eventually};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A device behind a launcher. Dropping kills both: the agent ends with its launcher.
pub struct Launched {
    /// Its id.
    pub id: String,
    /// Its data folder.
    pub dir: PathBuf,
    /// The launcher's process.
    pub launcher: Process,
}

impl Fleet {
    /// Joins a device and starts its agent behind a launcher with `options`; returns once it is online. A new version counts as
    /// healthy after two seconds in touch.
    pub async fn launched(&self, name: &str, options: &[&str]) -> Launched {
        let token = self.token(&serde_json::json!({})).await;
        let dir = self.folder().join(name);
        let joined = Command::new(binary("aidos-agent"))
            .args(["join", self.api.url(), "--token", &token, "--name", name, "--data-dir"])
            .arg(&dir)
            .output()
            .expect("the agent starts");
        assert!(joined.status.success(), "join failed: {}", String::from_utf8_lossy(&joined.stderr));
        let mut command = Command::new(binary("aidos-launcher"));
        command.arg("--data-dir").arg(&dir).arg("--agent").arg(binary("aidos-agent")).args(options);
        command.args(["--", "run", "--serve", "127.0.0.1:0", "--healthy-after", "2"]);
        let launcher = Process::start(name, command, self.folder());
        let device = self.device(name, "online").await;
        let id = device["id"].as_str().expect("a device has an id").to_owned();
        Launched { id, dir, launcher }
    }

    /// Registers a binary as a release of the agent.
    pub fn push_release(&self, file: &Path, version: &str, more: &[&str]) {
        let file = file.to_string_lossy();
        let out = self.cli(&[&["agent", "release", "push", &file, "--version", version], more].concat());
        assert!(out.status.success(), "push of {version} failed: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// Asks every device for a release, all at once.
    pub fn deploy_release(&self, version: &str) {
        let out = self.cli(&["agent", "release", "deploy", version, "--to", "all", "-o", "json"]);
        assert!(out.status.success(), "deploy of {version} failed: {}", String::from_utf8_lossy(&out.stderr));
        let rollout: Value = serde_json::from_slice(&out.stdout).expect("-o json prints JSON");
        assert!(rollout["waves"][0]["devices"].as_u64() > Some(0), "{rollout}");
    }

    /// A version of the agent that does `behaviour` (`crash`, `hang`, `grow`, `deaf`) once it runs.
    pub fn bad_agent(&self, behaviour: &str, version: &str) -> PathBuf {
        self.marked("aidos-agent-stub", &format!("AIDOS-STUB {behaviour} {version}"))
    }

    /// The agent itself as another binary: the same program with something at its end.
    pub fn other_agent(&self, mark: &str) -> PathBuf {
        self.marked("aidos-agent", mark)
    }

    fn marked(&self, program: &str, mark: &str) -> PathBuf {
        let file = self.folder().join(format!("{program}-{}", mark.replace(' ', "-")));
        let mut bytes = std::fs::read(binary(program)).expect("a built program can be read");
        bytes.extend_from_slice(format!("\n{mark}\n").as_bytes());
        std::fs::write(&file, bytes).expect("the test's folder is writable");
        file
    }
}

impl Launched {
    /// What the device reports at `path`, once it satisfies `check`.
    pub async fn reports(&mut self, fleet: &Fleet, path: &str, what: &str, check: impl Fn(&Value) -> bool) -> Value {
        let twin = format!("devices/{}/twin", self.id);
        eventually(what, async || {
            assert!(self.launcher.is_running(), "the launcher ended:\n{}", self.launcher.log());
            let value = fleet.api.get(&twin).await["status"][path].clone();
            check(&value).then_some(value)
        })
        .await
    }

    /// Where the agent's own update stands, once it is in `state` for `version`.
    pub async fn release(&mut self, fleet: &Fleet, version: &str, state: &str) -> Value {
        let what = format!("the device reports {version} as {state}");
        self.reports(fleet, "agent/release", &what, |value| value["state"] == state && value["desired"] == version).await
    }
}
