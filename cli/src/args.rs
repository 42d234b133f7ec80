//! What can be typed.

use crate::commands;
use crate::global::Global;
use clap::Parser;

/// The operator's command line of AI-DOS.
#[derive(Debug, Parser)]
#[command(name = "aidos", version, about, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 gate failed, 4 timeout")]
pub struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: commands::Command,
}

impl Args {
    /// Whether this command runs an agent within this process.
    pub(crate) fn runs_agent(&self) -> bool {
        matches!(self.command, commands::Command::Up(_))
    }
}
