//! The gates a change passes, cheapest first; the tests come last, so that their summary closes the output.

use crate::services::Services;
use crate::setup::{Tools, cargo, eprintln_step, root, run};
use crate::ui;
use anyhow::{Context as _, Result};
use std::path::PathBuf;
use std::process::Command;

/// Runs every gate; with a filter only the tests it names.
pub(crate) fn test(tools: &Tools, services: &Services, filter: Option<&str>) -> Result<()> {
    if filter.is_none() {
        eprintln_step("cargo fmt");
        run(cargo().args(["fmt", "--all", "--check"]))?;
        eprintln_step("cargo clippy");
        run(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
        eprintln_step("cargo deny");
        run(Command::new(&tools.cargo_deny).args(["check", "bans", "licenses", "sources"]).current_dir(root()))?;
        eprintln_step("cargo doc");
        run(cargo().args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    }
    eprintln_step("cargo test");
    // The end-to-end tests start the real binaries, which `cargo test` alone does not build. With the tests in the same build,
    // dependencies are compiled once: alone, the binaries would have them with other features.
    run(cargo().args(["build", "--workspace", "--bins", "--tests"]))?;
    if filter.is_none() {
        ui::check()?;
        ui::journeys(&binaries()?)?;
    }
    run(cargo()
        // There are no doc tests; the end-to-end tests come last and close the output.
        .args(["test", "--workspace", "--exclude", "xtask", "--lib", "--bins", "--tests", "--no-fail-fast"])
        .args(filter)
        .env("AIDOS_TEST_POSTGRES_URL", &services.postgres_url)
        .env("AIDOS_TEST_S3_URL", &services.s3_url)
        .env("AIDOS_TEST_MODELS", &tools.models)
        .env("AIDOS_TEST_PYTHON", &tools.python)
        .env("AIDOS_TEST_TOUGH", &tools.tough_reader))
}

/// Where cargo puts the binaries: beside this one.
fn binaries() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    Ok(this.parent().context("a program lies in a folder")?.to_owned())
}

/// Lets the test that compares the document write it.
pub(crate) fn openapi() -> Result<()> {
    run(cargo()
        .args(["test", "--package", "aidos-control-plane", "--lib", "the_committed_openapi_document"])
        .env("AIDOS_UPDATE_OPENAPI", "1"))
}
