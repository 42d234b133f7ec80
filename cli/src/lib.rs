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

/// Log lines go to standard error: warnings, more with `-v`, whatever `AIDOS_LOG` says. `up` shows its progress itself.
pub fn init_tracing(args: &Args) {
    let level = match args.global.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("AIDOS_LOG").unwrap_or_else(|_| level.into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
