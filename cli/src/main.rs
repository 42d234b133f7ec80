//! `aidos`: parses and runs.

use aidos_cli::{Args, CliError};
use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    let logging = aidos_cli::init_tracing(&args);
    rustls::crypto::ring::default_provider().install_default().expect("nothing has installed a provider before main");
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let what = format!("the program cannot start: {error}");
            return CliError::failed(what, "raise the limit of threads or open files (`ulimit -a`)").report();
        }
    };
    let result = runtime.block_on(aidos_cli::run(args, logging));
    // A blocked read of the terminal must not hold the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
