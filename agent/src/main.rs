//! The agent's binary: parses and runs.

use aidos_agent::admin::Cli;
use aidos_agent::observe::Logging;
use aidos_agent::selfupdate::Launcher;
use clap::Parser as _;
use std::io::Write as _;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(code) => code,
        Err(error) => {
            // There is nowhere left to tell that standard error is gone.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was installed twice"))?;
    let config = cli.config()?;
    if let Some(launcher) = Launcher::of_environment().filter(|_| cli.is_run()) {
        launcher.end_with_it();
    }
    let logging = if cli.is_run() { Logging::start(&config.log.level, config.log.json) } else { Logging::default() };
    // Two workers: one may wait for a disk while the other answers. Few blocking threads, each with a small stack, that go
    // again soon: memory is what an idle agent is measured by.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .thread_keep_alive(std::time::Duration::from_secs(5))
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        if cli.is_run() {
            let (mut term, mut int, token) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                token.cancel();
            });
        }
        Ok(cli.execute(config, logging, stop).await?)
    })
}
