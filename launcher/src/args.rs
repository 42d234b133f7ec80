//! The launcher's command line. It is read by hand: a parser would be larger than the rest of the launcher.

use crate::machine::Limits;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What `--help` shows.
pub const USAGE: &str = "\
Starts the AI-DOS agent, tries new versions of it and goes back to the one that works

Usage: aidos-launcher --data-dir DIR [OPTIONS] [-- AGENT ARGUMENTS]

Options:
  --data-dir DIR      The agent's data folder [env: AIDOS_AGENT_DATA_DIR]
  --agent FILE        The installed agent, which the first start copies into a slot
  --starts N          Starts that a new version gets [default: 3]
  --silence SECONDS   The longest pause between two heartbeats [default: 60]
  --deadline SECONDS  By when a new version must be healthy [default: 1800]
  --memory-mib N      Memory that no version may exceed [default: none]
  --growth-mib N      Memory beyond twice the old version's that a new one may take [default: 128]
  --version, --help

The agent's arguments are `run` unless others are given.
";

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The agent's data folder.
    pub data_dir: PathBuf,
    /// The installed agent.
    pub agent: Option<PathBuf>,
    /// What versions are held to.
    pub limits: Limits,
    /// The agent's arguments.
    pub agent_args: Vec<OsString>,
}

/// A command line that asks for no launcher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// `--help`
    #[error("{USAGE}")]
    Help,
    /// `--version`
    #[error("aidos-launcher {}", env!("CARGO_PKG_VERSION"))]
    Version,
    /// A mistake.
    #[error("{0}; see aidos-launcher --help")]
    Wrong(String),
}

impl Options {
    /// Reads the arguments after the program's name. `data_dir`: the environment's.
    pub fn read(arguments: impl IntoIterator<Item = OsString>, data_dir: Option<PathBuf>) -> Result<Self, ArgsError> {
        let mut options = Self { data_dir: PathBuf::new(), agent: None, limits: Limits::default(), agent_args: Vec::new() };
        let mut data_dir = data_dir;
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let name = argument.to_string_lossy().into_owned();
            match name.as_str() {
                "--help" | "-h" => return Err(ArgsError::Help),
                "--version" | "-V" => return Err(ArgsError::Version),
                "--" => {
                    options.agent_args.extend(arguments.by_ref());
                    break;
                }
                _ => {}
            }
            let known = ["--data-dir", "--agent", "--starts", "--silence", "--deadline", "--memory-mib", "--growth-mib"];
            if !known.contains(&name.as_str()) {
                return Err(ArgsError::Wrong(format!("there is no option `{name}`")));
            }
            let value = arguments.next().ok_or_else(|| ArgsError::Wrong(format!("{name} needs a value")))?;
            let number = || match value.to_str().and_then(|text| text.parse::<u32>().ok()) {
                Some(number) if number > 0 => Ok(number),
                _ => Err(ArgsError::Wrong(format!("{name} needs a whole number above 0"))),
            };
            let seconds = || number().map(|seconds| Duration::from_secs(seconds.into()));
            let bytes = || number().map(|mib| u64::from(mib) << 20);
            match name.as_str() {
                "--data-dir" => data_dir = Some(value.into()),
                "--agent" => options.agent = Some(value.into()),
                "--starts" => options.limits.starts = number()?,
                "--silence" => options.limits.silence = seconds()?,
                "--deadline" => options.limits.deadline = seconds()?,
                "--memory-mib" => options.limits.memory = Some(bytes()?),
                _ => options.limits.growth = bytes()?,
            }
        }
        options.data_dir = match data_dir {
            // The agent is told the same folder, whatever it thinks its own is.
            Some(dir) if !dir.as_os_str().is_empty() => std::path::absolute(&dir).unwrap_or(dir),
            _ => return Err(ArgsError::Wrong("the agent's data folder is needed: --data-dir DIR".into())),
        };
        if options.agent_args.is_empty() {
            options.agent_args.push("run".into());
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Options, ArgsError> {
        Options::read(arguments.iter().map(OsString::from), None)
    }

    #[test]
    fn options_are_read_and_the_rest_is_the_agents() {
        let options = read(&["--data-dir", "/d", "--starts", "2", "--memory-mib", "64", "--", "run", "--serve", "x"]).unwrap();
        assert_eq!((options.limits.starts, options.limits.memory), (2, Some(64 << 20)));
        assert_eq!(options.agent_args, ["run", "--serve", "x"]);
        assert_eq!(read(&["--data-dir", "/d"]).unwrap().agent_args, ["run"]);
    }

    #[test]
    fn a_mistake_is_named() {
        let said = |arguments: &[&str]| read(arguments).unwrap_err().to_string();
        assert!(said(&["--dta"]).contains("`--dta`"));
        assert!(said(&["--starts", "0"]).contains("--starts needs a whole number"));
        assert!(said(&["--agent"]).contains("--agent needs a value"));
        assert!(said(&[]).contains("--data-dir"));
        assert!(said(&["--help"]).contains("Usage") && said(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
    }
}
