//! The dashboard's gates. Its build is cargo's own, by the crate `fleet-ui`; here it is checked, tested and weighed.

use crate::setup::{eprintln_step, root, run};
use anyhow::{Result, ensure};
use std::path::Path;
use std::process::Command;

fn npm(args: &[&str]) -> Command {
    let mut npm = Command::new("npm");
    npm.args(args).current_dir(root().join("fleet-ui"));
    npm
}

/// Types, unit tests, and the size of what a browser loads first. Cargo has built the dashboard before.
pub(crate) fn check() -> Result<()> {
    ensure!(
        root().join("fleet-ui/dist/.vite/manifest.json").exists(),
        "the dashboard was left out of the build: install Node 20 or later, see the warning of the crate aidos-fleet-ui above"
    );
    eprintln_step("dashboard: types, unit tests, size");
    run(&mut npm(&["run", "--silent", "check"]))?;
    run(&mut npm(&["test", "--silent"]))?;
    run(&mut npm(&["run", "--silent", "size"]))
}

/// The journeys in a real browser, against the binaries in `bin`.
pub(crate) fn journeys(bin: &Path) -> Result<()> {
    eprintln_step("dashboard: journeys in a browser");
    run(npm(&["run", "--silent", "journeys"]).env("AIDOS_BIN", bin))
}
