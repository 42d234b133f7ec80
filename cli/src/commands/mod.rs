//! One file per noun. Each command: read what was typed, one or two requests, print.

mod activity;
mod agent;
mod bundle;
mod config;
mod context;
mod deploy;
mod device;
mod device_command;
mod key;
mod model;
mod open;
mod predict;
mod rollout;
mod rollout_plan;
mod shell;
mod status;
mod tenant;
mod token;
mod top;
mod trust;
mod up;
mod watch;

use crate::args::Args;
use crate::client::Client;
use crate::context as contexts;
use crate::error::CliError;
use crate::global::Global;
use crate::progress;
use aidos_agent::observe::Logging;
use aidos_protocol::time::Micros;
use clap::Subcommand;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a control plane, one agent and a sample model on this machine
    Up(up::Up),
    /// What runs, at a glance
    Status(status::Status),
    /// Watch the fleet and its rollouts, live
    Top(top::Top),
    /// Open the dashboard in a browser, signed in
    Open(open::Open),
    /// Run a model on this machine's agent, or on another device
    Predict(predict::Predict),
    /// Models, versions and aliases
    #[command(subcommand, visible_alias = "models")]
    Model(model::Model),
    /// Model versions in one file, for devices that no network reaches
    #[command(subcommand)]
    Bundle(bundle::Bundle),
    /// Put a model version on the devices of a selector
    Deploy(deploy::Deploy),
    /// What is deployed where, and how far each device is
    #[command(subcommand, visible_alias = "deployments")]
    Deployment(deploy::Deployment),
    /// Model versions that go out in waves, judged by what devices measure
    #[command(subcommand, visible_alias = "rollouts")]
    Rollout(rollout::Rollout),
    /// Devices
    #[command(subcommand, visible_alias = "devices")]
    Device(device::Device),
    /// The agents themselves: their versions
    #[command(subcommand, visible_alias = "agents")]
    Agent(agent::Agent),
    /// Settings of agents
    #[command(subcommand)]
    Config(config::Config),
    /// Join tokens
    #[command(subcommand, visible_alias = "tokens")]
    Token(token::Token),
    /// API keys
    #[command(subcommand, visible_alias = "keys")]
    Key(key::Key),
    /// The keys and signatures by which devices believe updates
    #[command(subcommand)]
    Trust(trust::Trust),
    /// Tenants
    #[command(subcommand, visible_alias = "tenants")]
    Tenant(tenant::Tenant),
    /// Who did what to what, from where
    Activity(activity::Activity),
    /// Remember a control plane and its key
    Login(context::Login),
    /// The control planes that this machine knows
    #[command(subcommand, visible_alias = "contexts")]
    Context(context::Context),
    /// Print a completion script for a shell
    Completion(shell::Completion),
    /// Write the manual pages
    Man(shell::Man),
}

/// Runs the command that was typed. `logging` keeps the lines of an agent that it runs.
pub async fn run(args: Args, logging: Logging) -> Result<(), CliError> {
    let global = &args.global;
    progress::set_quiet(global.quiet);
    match args.command {
        Command::Up(command) => command.run(global, logging).await,
        Command::Status(command) => command.run(global).await,
        Command::Top(command) => command.run(global).await,
        Command::Open(command) => command.run(global).await,
        Command::Predict(command) => command.run(global).await,
        Command::Model(command) => command.run(global).await,
        Command::Bundle(command) => command.run(global).await,
        Command::Deploy(command) => command.run(global).await,
        Command::Deployment(command) => command.run(global).await,
        Command::Rollout(command) => command.run(global).await,
        Command::Device(command) => command.run(global).await,
        Command::Agent(command) => command.run(global).await,
        Command::Config(command) => command.run(global).await,
        Command::Token(command) => command.run(global).await,
        Command::Key(command) => command.run(global).await,
        Command::Trust(command) => command.run(global).await,
        Command::Tenant(command) => command.run(global).await,
        Command::Activity(command) => command.run(global).await,
        Command::Login(command) => command.run(global).await,
        Command::Context(command) => command.run(global),
        Command::Completion(command) => command.run(),
        Command::Man(command) => command.run(),
    }
}

/// The control plane that this call is for.
fn client(global: &Global) -> Result<Client, CliError> {
    Client::new(contexts::resolve(global)?)
}

/// Reads `key=value` as clap wants it.
fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not key=value"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Reads a span such as `90s`, `1h`, `7d` into seconds, as clap wants it.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a span: write a number and s, m, h or d, such as 1h");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)
}

/// Reads a point in time such as `2026-12-01T06:00:00Z`, as clap wants it.
fn moment(text: &str) -> Result<Micros, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339);
    let time = time.map_err(|error| format!("`{text}` is not a time such as 2026-12-01T06:00:00Z: {error}"))?;
    let micros = i64::try_from(time.unix_timestamp_nanos() / 1_000);
    micros.map(Micros).map_err(|_| format!("`{text}` is too far away"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_with_its_offset() {
        assert_eq!(moment("2026-12-01T07:00:00+01:00"), Ok(Micros(1_796_104_800_000_000)));
        assert!(moment("tomorrow").unwrap_err().contains("2026-12-01T06:00:00Z"));
    }

    #[test]
    fn spans_take_a_unit_and_refuse_anything_else() {
        assert_eq!((seconds("90"), seconds("1h"), seconds("7d")), (Ok(90), Ok(3_600), Ok(604_800)));
        assert!(seconds("h").is_err() && seconds("1w").is_err() && seconds("99999999999999999999d").is_err());
    }
}
