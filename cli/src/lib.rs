//! The operator's command line, `aidos`: parses what a person typed, asks the control plane or the local agent, prints.
//!
//! Results go to standard output, progress and errors to standard error. No command may hold logic that the API lacks: whatever
//! the command line can do, another client of the API can do too.

mod args;
mod client;
mod commands;
mod context;
mod error;
mod global;
mod input;
mod output;
mod progress;
mod transfer;
mod trust_keys;

pub use args::Args;
pub use commands::run;
pub use error::CliError;

use aidos_agent::observe::Logging;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

/// Log lines go to standard error: warnings, more with `-v`, whatever `AIDOS_LOG` says. `up` shows its progress itself; the lines of
/// its agent are kept whatever is shown, so that `aidos device logs` has them. Gives where they are kept.
pub fn init_tracing(args: &Args) -> Logging {
    let level = match args.global.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("AIDOS_LOG").unwrap_or_else(|_| level.into());
    let shown = fmt::layer().with_writer(std::io::stderr).with_filter(filter);
    if !args.runs_agent() {
        registry().with(shown).init();
        return Logging::default();
    }
    let (logging, kept) = Logging::within("info");
    registry().with(shown).with(kept).init();
    logging
}
