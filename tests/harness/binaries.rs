//! Where the real binaries are.

use std::path::PathBuf;

/// Names another agent to run: benchmarks measure the one that goes to devices, built with the `dist` profile.
const AGENT_BINARY: &str = "AIDOS_AGENT_BINARY";

/// A program of this workspace, in the folder that these tests were built into.
///
/// Panics when it is not there: `cargo test` alone builds no binaries of other packages.
pub fn binary(name: &str) -> PathBuf {
    if let Some(agent) = std::env::var_os(AGENT_BINARY).filter(|_| name == "aidos-agent") {
        return agent.into();
    }
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("tests lie in target/<profile>/deps");
    let path = folder.join(name);
    assert!(path.exists(), "{} is not built: run `cargo xtask test`, or `cargo build --workspace` first", path.display());
    path
}
