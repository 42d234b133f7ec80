//! `aidos completion` and `aidos man`: what a shell and a manual want from the same description.

use crate::args::Args as AllArgs;
use crate::error::CliError;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use std::path::PathBuf;

/// Print a completion script for a shell.
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// Which shell
    shell: Shell,
}

/// Write the manual pages.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The folder to write them to, such as /usr/local/share/man/man1
    folder: PathBuf,
}

impl Completion {
    pub(super) fn run(self) -> Result<(), CliError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut AllArgs::command(), "aidos", &mut script);
        crate::output::line(String::from_utf8_lossy(&script).trim_end())
    }
}

impl Man {
    pub(super) fn run(self) -> Result<(), CliError> {
        let written =
            std::fs::create_dir_all(&self.folder).and_then(|()| clap_mangen::generate_to(AllArgs::command(), &self.folder));
        written.map_err(|e| {
            CliError::failed(format!("{}: {e}", self.folder.display()), "name a folder that you may write to, such as ./man")
        })
    }
}
