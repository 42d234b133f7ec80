//! `aidos top` in a real terminal: it shows the fleet, follows what happens, and gives the terminal back.

use aidos_tests::{Fleet, binary};
use serde_json::json;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdout, Command};

const PATIENCE: Duration = Duration::from_secs(60);

/// A program on a terminal of its own, and what it wrote there.
struct Terminal {
    program: Child,
    out: ChildStdout,
    written: String,
}

impl Terminal {
    fn open(line: &str, fleet: &Fleet) -> Self {
        let mut script = Command::new("script");
        script.args(["-qefc", &format!("stty cols 120 rows 30; exec {line}"), "/dev/null"]);
        for (name, value) in fleet.command(&[]).get_envs() {
            script.env(name, value.unwrap_or_default());
        }
        script.env("TERM", "xterm-256color").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut program = script.spawn().expect("util-linux's `script` is there");
        let out = program.stdout.take().unwrap();
        Self { program, out, written: String::new() }
    }

    /// Reads on until `part` was written since the last call.
    async fn shows(&mut self, part: &str) {
        let reading = async {
            let mut bytes = [0; 4096];
            while !self.written.contains(part) {
                let read = self.out.read(&mut bytes).await.unwrap();
                assert!(read > 0, "it ended without {part}: {}", self.written);
                self.written.push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        };
        let shown = tokio::time::timeout(PATIENCE, reading).await;
        assert!(shown.is_ok(), "{part} was not shown: {}", self.written);
        self.written.clear();
    }

    async fn types(&mut self, keys: &str) {
        self.program.stdin.as_mut().unwrap().write_all(keys.as_bytes()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_shows_the_fleet_and_what_happens_to_it() {
    let fleet = Fleet::start().await;
    let _first = fleet.agent("edge-1", &json!({ "site": "lab" })).await;
    fleet.device("edge-1", "online").await;
    let mut terminal = Terminal::open(&format!("{} top", binary("aidos").display()), &fleet);
    terminal.shows("edge-1").await;
    terminal.shows("live").await;
    // Nobody asked: the control plane told.
    let _second = fleet.agent("edge-2", &json!({ "site": "lab" })).await;
    terminal.shows("edge-2").await;
    terminal.types("q").await;
    // The screen that was there before comes back.
    terminal.shows("\x1b[?1049l").await;
    let ended = tokio::time::timeout(PATIENCE, terminal.program.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_it_says_what_to_use() {
    let fleet = Fleet::start().await;
    let refused = fleet.cli(&["top"]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && error.contains("aidos status -o json"), "{error}");
}
