//! The launcher's binary: reads the command line and supervises.

use aidos_launcher::{ArgsError, Options, supervise};
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let data_dir = std::env::var_os("AIDOS_AGENT_DATA_DIR").map(Into::into);
    // Nothing is left to do when the terminal is gone, so what cannot be written is not.
    match Options::read(std::env::args_os().skip(1), data_dir) {
        Ok(options) => match supervise(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "error: {error}");
                ExitCode::from(1)
            }
        },
        Err(asked @ (ArgsError::Help | ArgsError::Version)) => {
            let _ = writeln!(std::io::stdout(), "{asked}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}
