//! `cargo xtask`: the project's chores. `test` sets up what the tests need and runs every gate.

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod gates;
mod services;
mod setup;
mod ui;

#[derive(Parser)]
#[command(about = "The project's chores")]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Installs what the tests need, then runs every gate: fmt, clippy, licences, docs, tests.
    Test {
        /// Run only the tests whose names contain this, and no other gate.
        filter: Option<String>,
    },
    /// Installs what the tests need and nothing else.
    Setup,
    /// Writes `docs/openapi.json` anew from the handlers.
    Openapi,
    /// Runs the benchmarks in release and writes their figures into `docs/benchmarks.md`.
    Bench {
        /// Run only this one.
        name: Option<String>,
    },
}

fn main() -> Result<()> {
    match Args::parse().chore {
        Chore::Setup => setup::all().map(drop),
        Chore::Test { filter } => {
            let tools = setup::all()?;
            let services = services::start(&tools)?;
            gates::test(&tools, &services, filter.as_deref())
        }
        Chore::Openapi => gates::openapi(),
        Chore::Bench { name } => bench::bench(name.as_deref()),
    }
}
