//! A Postgres server of a test's own, which it may kill and start again. Tests that only need a database use the shared one.

use crate::{Process, eventually, free_port};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Debian's packages put the programs, one folder per version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// A server. Dropping kills it.
pub struct Postgres {
    folder: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Postgres {
    /// Makes a cluster and starts it.
    pub async fn start() -> Self {
        let versions = std::fs::read_dir(VERSIONS).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path().join("bin")));
        let programs = versions.filter(|bin| bin.join("initdb").exists()).max();
        let programs = programs.expect("Postgres is not there: run `cargo xtask test`, which installs it");
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut server = Self { folder, programs, port: free_port(), process: None };
        if is_root() {
            // The server refuses to run as root, and its user has to get here.
            let owned = Command::new("chown").arg("postgres:postgres").arg(server.folder.path()).status();
            assert!(owned.is_ok_and(|s| s.success()), "root can give a folder away");
        }
        let mut initdb = server.program("initdb");
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"]).arg(server.data());
        let made = initdb.output().expect("initdb starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.restart().await;
        server
    }

    /// The URL of its one database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Kills it without a chance to clean up.
    pub fn kill(&mut self) {
        self.process.take().expect("the server was started").kill();
    }

    /// Starts it after a kill and waits until it takes connections.
    pub async fn restart(&mut self) {
        let port = self.port;
        eventually("Postgres takes connections", async || {
            // What is left of a killed server holds its memory for a moment; a start fails until it is gone.
            if !self.process.as_mut().is_some_and(Process::is_running) {
                self.process = Some(self.serve());
            }
            let ready = self.program("pg_isready").args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]).status();
            ready.is_ok_and(|s| s.success()).then_some(())
        })
        .await;
    }

    fn serve(&self) -> Process {
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "fsync=off", "-k"]).arg(self.folder.path());
        // The log is this user's: the folder is the server's.
        Process::start(&format!("postgres-{}", self.port), command, &std::env::temp_dir())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = if is_root() { Command::new("setpriv") } else { Command::new(&program) };
        if is_root() {
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=KILL"]).arg(&program);
        }
        command.current_dir("/");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.process.take();
        let _ = std::fs::remove_file(std::env::temp_dir().join(format!("postgres-{}.log", self.port)));
    }
}

fn is_root() -> bool {
    std::fs::metadata(Path::new("/proc/self")).is_ok_and(|meta| meta.uid() == 0)
}
