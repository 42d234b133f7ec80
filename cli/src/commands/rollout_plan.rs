//! The flags that make the plan of a rollout.

use crate::error::CliError;
use aidos_protocol::rollout::{Breach, Constraints, Experiment, Gate, Limit, Plan, Waves, Window};
use aidos_protocol::time::Micros;
use clap::{Args, ValueEnum};
use std::str::FromStr;

/// What a breach does.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum OnFailure {
    /// End it
    Abort,
    /// Wait for a person
    Pause,
}

/// How a version goes out.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// How many have it, step by step: shares of all devices, numbers, or labels
    #[arg(long, default_value = "100%")]
    waves: String,
    /// How long a wave is looked at before the next
    #[arg(long, default_value = "0", value_parser = super::seconds)]
    soak: u64,
    /// What devices must measure: `error_rate<1%`, `p95<1.2x`, `self_test=pass`; may be given more than once
    #[arg(long = "gate", value_name = "GATE")]
    gates: Vec<String>,
    /// Requests of a wave's devices together before errors and latencies are judged
    #[arg(long, default_value_t = 20)]
    min_requests: u32,
    /// The most devices on their way at once: `5%` or `3`
    #[arg(long)]
    max_unavailable: Option<String>,
    /// The most devices of a wave that may fail
    #[arg(long, default_value = "5%")]
    max_failed: String,
    /// What more failures do
    #[arg(long, value_enum, default_value = "abort")]
    on_failure: OnFailure,
    /// When devices may change, in their own time zone: `Mon-Fri 22:00-04:00`
    #[arg(long)]
    window: Option<String>,
    /// A device waits while its battery has less, where it has one
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    min_battery: Option<u8>,
    /// A device waits while its hottest sensor reads more, where it has one
    #[arg(long, value_name = "CELSIUS")]
    max_temperature: Option<f64>,
    /// A device that has not begun by then does not any more: `2026-12-01T06:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = super::moment)]
    not_after: Option<Micros>,
    /// How long a device may be silent [default: 1h, with a window 8d]
    #[arg(long, value_parser = super::seconds)]
    deadline: Option<u64>,
    /// Bring the devices back when it is aborted
    #[arg(long)]
    auto_revert: bool,
    /// Wait for `promote` before each wave but the first
    #[arg(long)]
    approve: bool,
    /// Where rollouts of the same thing meet on a device, the highest wins
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// First send so many percent of the traffic to the new version too, and compare the answers
    #[arg(long, value_name = "PERCENT", conflicts_with = "split", requires = "experiment_for")]
    shadow: Option<u8>,
    /// First let the new version answer so many percent of the traffic; `20:user` decides by that parameter of a request
    #[arg(long, value_name = "PERCENT[:KEY]", requires = "experiment_for")]
    split: Option<String>,
    /// How long the experiment lasts
    #[arg(long, value_parser = super::seconds)]
    experiment_for: Option<u64>,
    /// How long each device itself watches the version, ready to go back [default: as long as the soak]
    #[arg(long, value_parser = super::seconds)]
    watch_for: Option<u64>,
    /// Only devices of this architecture: `x86_64`, `aarch64`
    #[arg(long)]
    arch: Option<String>,
    /// Only devices with so many bytes of memory
    #[arg(long, value_name = "BYTES")]
    min_memory: Option<u64>,
    /// Only devices with such an accelerator: a part of its name, or `any`
    #[arg(long)]
    accelerator: Option<String>,
    /// Only devices whose agent has this engine
    #[arg(long)]
    engine: Option<String>,
    /// Only devices with so many bytes of free disk
    #[arg(long, value_name = "BYTES")]
    min_free_disk: Option<u64>,
    /// Only devices with at least this agent version
    #[arg(long)]
    min_agent_version: Option<String>,
}

impl PlanArgs {
    pub(super) fn plan(self) -> Result<Plan, CliError> {
        let experiment = match (self.shadow, &self.split) {
            (Some(percent), _) => Some(Experiment::Shadow { percent }),
            (None, Some(text)) => Some(split(text)?),
            (None, None) => None,
        };
        let plan = Plan {
            waves: read::<Waves>("--waves", &self.waves)?,
            soak_s: short("--soak", self.soak)?,
            gates: self.gates.iter().map(|text| read::<Gate>("--gate", text)).collect::<Result<_, _>>()?,
            min_requests: self.min_requests,
            max_unavailable: self.max_unavailable.map(|text| read::<Limit>("--max-unavailable", &text)).transpose()?,
            max_failed: read("--max-failed", &self.max_failed)?,
            on_failure: match self.on_failure {
                OnFailure::Abort => Breach::Abort,
                OnFailure::Pause => Breach::Pause,
            },
            window: self.window.map(|text| read::<Window>("--window", &text)).transpose()?,
            min_battery_percent: self.min_battery,
            max_temperature_c: self.max_temperature,
            not_after_us: self.not_after,
            deadline_s: short("--deadline", self.deadline.unwrap_or(0))?,
            auto_revert: self.auto_revert,
            approve: self.approve,
            priority: self.priority,
            experiment,
            experiment_s: short("--experiment-for", self.experiment_for.unwrap_or(0))?,
            watch_s: self.watch_for.map(|seconds| short("--watch-for", seconds)).transpose()?,
            constraints: Constraints {
                arch: self.arch,
                min_memory_bytes: self.min_memory,
                accelerator: self.accelerator,
                engine: self.engine,
                min_free_disk_bytes: self.min_free_disk,
                min_agent_version: self.min_agent_version,
            },
        };
        plan.check().map_err(|error| CliError::Usage(error.to_string()))?;
        Ok(plan)
    }
}

/// Reads a flag's own little language; the error shows the place.
fn read<T: FromStr>(flag: &str, text: &str) -> Result<T, CliError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| CliError::Usage(format!("{flag}: {error}")))
}

fn short(flag: &str, seconds: u64) -> Result<u32, CliError> {
    u32::try_from(seconds).map_err(|_| CliError::Usage(format!("{flag}: {seconds} s are too long")))
}

fn split(text: &str) -> Result<Experiment, CliError> {
    let (percent, key) = match text.split_once(':') {
        Some((percent, key)) => (percent, Some(key.to_owned())),
        None => (text, None),
    };
    let wrong = |_| CliError::Usage(format!("--split: `{text}` is not a percentage, or one with a key such as `20:user`"));
    Ok(Experiment::Split { percent: percent.parse().map_err(wrong)?, key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        plan: PlanArgs,
    }

    fn typed(flags: &str) -> Result<Plan, CliError> {
        let words = std::iter::once("x").chain(flags.split('|').filter(|word| !word.is_empty()));
        Typed::try_parse_from(words).map_err(|error| CliError::Usage(error.to_string()))?.plan.plan()
    }

    #[test]
    fn no_flags_are_everyone_at_once() {
        assert_eq!(typed("").unwrap(), Plan { min_requests: 20, ..Plan::default() });
    }

    #[test]
    fn the_flags_of_a_careful_rollout_are_read() {
        let flags = "--waves|1%,10%,100%|--soak|10m|--gate|error_rate<1%|--gate|p95<1.2x else pause|--max-unavailable|5%|--window|\
                     Mon-Fri 22:00-04:00|--auto-revert|--split|20:user|--experiment-for|1h|--min-battery|30|--max-temperature|70|--not-after|2026-12-01T06:00:00Z";
        let plan = typed(flags).unwrap();
        assert_eq!((plan.soak_s, plan.gates.len(), plan.experiment_s), (600, 2, 3_600));
        assert_eq!(plan.experiment, Some(Experiment::Split { percent: 20, key: Some("user".into()) }));
        assert!(plan.auto_revert && plan.window.is_some());
        assert_eq!((plan.min_battery_percent, plan.max_temperature_c), (Some(30), Some(70.0)));
        assert_eq!(plan.not_after_us, Some(Micros(1_796_104_800_000_000)));
    }

    #[test]
    fn an_error_names_the_flag_and_shows_the_place() {
        for (flags, flag) in [
            ("--waves|1%,10%", "--waves"),
            ("--gate|error_rate<", "--gate"),
            ("--max-unavailable|many", "--max-unavailable"),
            ("--window|Moonday", "--window"),
            ("--split|half|--experiment-for|1h", "--split"),
        ] {
            let error = typed(flags).unwrap_err().to_string();
            assert!(error.contains(flag), "{error}");
        }
        assert!(typed("--gate|p95 << 3").unwrap_err().to_string().contains('^'), "the place is shown");
        assert!(typed("--shadow|10").is_err(), "an experiment lasts some time");
    }
}
