//! What can go wrong for a person at the terminal: each error says what to do next and has its exit code.

use std::process::ExitCode;

/// A failed command. Exit codes: 1 failed, 2 usage, 3 gate failed, 4 timeout.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// What was typed cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// The control plane or the agent refused, or something on this machine failed.
    #[error("{message}")]
    Failed {
        /// What failed.
        message: String,
        /// What to do next.
        hint: Option<String>,
    },
    /// A check that was asked for did not pass.
    #[error("{0}")]
    Gate(String),
    /// It did not happen in the time given.
    #[error("{0}")]
    Timeout(String),
}

impl CliError {
    /// A failure with advice.
    pub fn failed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), hint: Some(hint.into()) }
    }

    /// Prints the error and what to do next; gives the exit code.
    #[allow(clippy::print_stderr)]
    pub fn report(&self) -> ExitCode {
        eprintln!("error: {self}");
        if let Self::Failed { hint: Some(hint), .. } = self {
            eprintln!("  hint: {hint}");
        }
        ExitCode::from(match self {
            Self::Failed { .. } => 1,
            Self::Usage(_) => 2,
            Self::Gate(_) => 3,
            Self::Timeout(_) => 4,
        })
    }
}

/// What nobody can do much about: a library or the system failed in a way that has no advice of its own. Files are never among these;
/// whoever opens one names it and says what to do.
impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(format!("{error:#}"), "try it again; if it stays so, report it with what -vv adds")
    }
}
