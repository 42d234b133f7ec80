//! `--watch`: print again and again until interrupted.

use crate::error::CliError;
use clap::Args;
use std::io::IsTerminal as _;
use std::time::Duration;

/// Often enough to follow, rarely enough for a thousand watchers.
const EVERY: Duration = Duration::from_secs(2);

/// Keep printing.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Watch {
    /// Print again every 2 seconds until interrupted
    #[arg(short, long)]
    watch: bool,
}

/// Runs `print` once, or again and again.
pub(super) async fn watch(flags: Watch, mut print: impl AsyncFnMut() -> Result<(), CliError>) -> Result<(), CliError> {
    if !flags.watch {
        return print().await;
    }
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
        if std::io::stdout().is_terminal() {
            // ANSI: clear the screen, go to its corner.
            crate::output::line("\x1b[2J\x1b[H")?;
        }
        print().await?;
    }
}
