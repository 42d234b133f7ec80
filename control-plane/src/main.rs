//! The control plane's binary: parses and runs.

use aidos_control_plane::{assembly, config::Settings};
use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use std::io::{IsTerminal as _, stderr};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, fmt};

/// The control plane of AI-DOS: registry, fleet and rollouts behind one REST API and two device links.
#[derive(Parser)]
#[command(name = "aidos-control-plane", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Form of the log on standard error.
    #[arg(long, env = "AIDOS_LOG_FORMAT", default_value = "human", global = true)]
    log_format: LogFormat,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C.
    Serve(Box<Settings>),
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Human,
    Json,
}

fn main() -> ExitCode {
    let Arguments { command: Command::Serve(settings), log_format } = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let log = fmt().with_env_filter(filter).with_writer(stderr).with_ansi(stderr().is_terminal());
    match log_format {
        LogFormat::Human => log.init(),
        LogFormat::Json => log.json().init(),
    }
    let Err(error) = serve(*settings) else { return ExitCode::SUCCESS };
    tracing::error!("{error:#}");
    ExitCode::FAILURE
}

#[tokio::main]
async fn serve(settings: Settings) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let config = settings.resolve()?;
    let mut stopped = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
    let running = tokio::select! {
        running = assembly::run(config, shutdown.clone()) => running.context("the control plane cannot start")?,
        () = stopped() => {
            tracing::info!("stopped before it was up");
            return Ok(());
        }
    };
    stopped().await;
    shutdown.cancel();
    running.join().await;
    Ok(())
}
