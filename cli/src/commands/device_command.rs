//! What a device is told to do once, from the shell: sent, waited for and printed. Following a log is such commands one after another.

use crate::client::Client;
use crate::error::CliError;
use crate::global::Global;
use crate::output::{self, Format, Row};
use crate::progress::say;
use aidos_protocol::DeviceId;
use aidos_protocol::api::commands::{
    Check, CheckLevel, CommandKind, CommandState, CommandView, CreateCommand, LogLine, LogTail, MAX_LOG_LINES, MAX_TAIL_WAIT_S,
    OfflinePolicy,
};
use clap::Args;
use reqwest::Method;
use std::time::{Duration, Instant};

/// Seconds of one long poll; the command waits through as many as its life has.
const WAIT_S: u64 = 30;
/// While a log is followed, the next request comes at once, but never more often than this.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// A device that answers nothing before its time has no place for another who waits.
const NO_PLACE: Duration = Duration::from_secs(5);
/// How long a device that is being followed may be away, in seconds: longer than a restart of its agent takes.
const AWAY_S: u64 = 60;

/// Whom a command is for, and what becomes of it while the device is offline.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The device
    id: DeviceId,
    /// How long the device has to do it
    #[arg(long, default_value = "5m", value_parser = super::seconds)]
    ttl: u64,
    /// Leave it for an offline device and return at once
    #[arg(long)]
    queue: bool,
}

/// Sends a command, waits for its answer and prints what the device brought back; with `--queue` it only sends.
pub(super) async fn send(client: &Client, global: &Global, target: &Target, command: CreateCommand) -> Result<(), CliError> {
    print(global, &ask(client, target, command).await?)
}

/// [`send`] for a command whose answer is best told by the device's own words.
pub(super) async fn tell(client: &Client, global: &Global, target: &Target, command: CreateCommand) -> Result<(), CliError> {
    let sent = ask(client, target, command).await?;
    output::one(global.output, &sent, || said(&sent))
}

/// Has the device look at itself; fails when something does not work there.
pub(super) async fn probe(client: &Client, global: &Global, target: &Target) -> Result<(), CliError> {
    let sent = ask(client, target, CreateCommand::new(CommandKind::Probe)).await?;
    let Some(checks) = brought::<Vec<Check>>(&sent) else { return print(global, &sent) };
    if matches!(global.output, Format::Table | Format::Wide) {
        output::list(global.output, &checks)?;
    } else {
        print(global, &sent)?;
    }
    match checks.iter().filter(|check| check.level == CheckLevel::Fail).count() {
        0 => Ok(()),
        failed => Err(CliError::Gate(format!("{failed} of {} checks failed on {}", checks.len(), target.id))),
    }
}

/// The newest lines of the log; with `follow` also those that come, until interrupted.
pub(super) async fn logs(client: &Client, global: &Global, target: &Target, lines: u32, follow: bool) -> Result<(), CliError> {
    if !follow {
        let command = CreateCommand { lines: Some(lines), ..CreateCommand::new(CommandKind::TailLogs) };
        let sent = ask(client, target, command).await?;
        return match brought::<Vec<LogLine>>(&sent) {
            Some(lines) if matches!(global.output, Format::Table | Format::Wide) => show(global, &lines),
            _ => print(global, &sent),
        };
    }
    if target.queue {
        return Err(CliError::Usage("--follow waits for the device, --queue does not: give one of them".into()));
    }
    tokio::select! {
        ended = following(client, global, target.id, lines) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn following(client: &Client, global: &Global, id: DeviceId, lines: u32) -> Result<(), CliError> {
    let first = CreateCommand { lines: Some(lines), after: Some(0), wait_s: Some(MAX_TAIL_WAIT_S), ttl_s: AWAY_S, ..kind() };
    let mut command = CreateCommand { offline: OfflinePolicy::Fail, ..first };
    let mut boot_id = None;
    loop {
        let began = Instant::now();
        let sent = judged(finished(client, id, &command).await?, id)?;
        let Some(tail) = brought::<LogTail>(&sent) else {
            show(global, &brought::<Vec<LogLine>>(&sent).unwrap_or_default())?;
            let hint = "update its agent; without --follow its newest lines are read as ever";
            return Err(CliError::failed(format!("the agent of {id} is too old to be followed"), hint));
        };
        if boot_id.is_some_and(|before| before != tail.boot_id) {
            say("the agent was started anew");
        }
        if tail.missed > 0 {
            say(&format!("{} lines came faster than they were read, and are not kept on the device", tail.missed));
        }
        show(global, &tail.lines)?;
        boot_id = Some(tail.boot_id);
        tokio::time::sleep(pause(&tail, began.elapsed())).await;
        command = CreateCommand {
            lines: Some(MAX_LOG_LINES),
            after: Some(tail.next),
            boot_id,
            follows: Some(sent.id),
            // A device that is away for a moment is waited for.
            offline: OfflinePolicy::Queue,
            ..command
        };
    }
}

fn kind() -> CreateCommand {
    CreateCommand::new(CommandKind::TailLogs)
}

/// How long until the next request, after one that `took` so long.
fn pause(tail: &LogTail, took: Duration) -> Duration {
    let early = tail.lines.is_empty() && took < Duration::from_secs(u64::from(MAX_TAIL_WAIT_S) / 2);
    if early { NO_PLACE } else { AT_MOST_EVERY.saturating_sub(took) }
}

/// Lines of a log: as text, or each as an object.
fn show(global: &Global, lines: &[LogLine]) -> Result<(), CliError> {
    for line in lines {
        match global.output {
            Format::Json | Format::Yaml => {
                output::line(&serde_json::to_string(line).map_err(|e| CliError::from(anyhow::Error::from(e)))?)?;
            }
            _ => {
                let LogLine { time_us, level, target, text } = line;
                output::line(&output::printable(&format!("{} {level:5} {target} {text}", output::time(*time_us))))?;
            }
        }
    }
    Ok(())
}

async fn ask(client: &Client, target: &Target, command: CreateCommand) -> Result<CommandView, CliError> {
    let offline = if target.queue { OfflinePolicy::Queue } else { OfflinePolicy::Fail };
    let command = CreateCommand { ttl_s: target.ttl, offline, ..command };
    if target.queue {
        return client.post(&format!("devices/{}/commands", target.id), &command).await;
    }
    judged(finished(client, target.id, &command).await?, target.id)
}

/// Gives the command and waits for its end.
async fn finished(client: &Client, id: DeviceId, command: &CreateCommand) -> Result<CommandView, CliError> {
    let path = format!("devices/{id}/commands");
    let mut sent: CommandView = client.post(&path, command).await?;
    while !sent.state.is_finished() {
        let wait = client.request(Method::GET, &format!("{path}/{}", sent.id)).query(&[("wait", WAIT_S)]);
        sent = client.json(wait.timeout(Duration::from_secs(WAIT_S + 10))).await?;
    }
    Ok(sent)
}

/// An end that is not what was wanted is an error.
fn judged(sent: CommandView, id: DeviceId) -> Result<CommandView, CliError> {
    match sent.state {
        CommandState::Ok | CommandState::Queued | CommandState::Delivered => Ok(sent),
        CommandState::Expired => Err(CliError::Timeout(match sent.arguments.follows {
            Some(_) => format!("{id} does not answer any more; follow its log again when it is online"),
            None => format!(
                "{} expired before the device answered; give it longer with --ttl, or leave it there with --queue",
                sent.id
            ),
        })),
        state => Err(CliError::failed(
            format!("{}: {state}: {}", sent.id, output::printable(&sent.message)),
            format!("see what the device says with `aidos device logs {id}`, and how it is with `aidos device show {id}`"),
        )),
    }
}

fn brought<T: serde::de::DeserializeOwned>(sent: &CommandView) -> Option<T> {
    serde_json::from_value(sent.result.as_ref()?.json.clone()?).ok()
}

fn said(sent: &CommandView) -> String {
    if sent.message.is_empty() { format!("{} {}", sent.id, sent.state) } else { output::printable(&sent.message) }
}

fn print(global: &Global, sent: &CommandView) -> Result<(), CliError> {
    output::one(global.output, sent, || match &sent.result {
        Some(result) => match (&result.text, &result.json) {
            (Some(text), _) => output::printable(text),
            (None, Some(json)) => serde_json::to_string_pretty(json).unwrap_or_default(),
            (None, None) => format!("{} bytes of {}", result.bytes, result.content_type),
        },
        None => said(sent),
    })
}

impl Row for Check {
    const COLUMNS: &'static [&'static str] = &["", "CHECK", "DETAIL", "ADVICE"];
    const NARROW: usize = 4;
    fn cells(&self) -> Vec<String> {
        let level = match self.level {
            CheckLevel::Ok => "ok",
            CheckLevel::Warn => "warn",
            CheckLevel::Fail => "FAIL",
        };
        vec![level.into(), self.check.clone(), self.detail.clone(), self.advice.clone()]
    }
    fn name(&self) -> String {
        self.check.clone()
    }
}

impl Row for CommandView {
    const COLUMNS: &'static [&'static str] = &["ID", "KIND", "STATE", "BY", "AGE", "MESSAGE"];
    const NARROW: usize = 6;
    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.kind.to_string(),
            self.state.to_string(),
            self.created_by.clone(),
            output::age(self.created_at),
            self.message.clone(),
        ]
    }
    fn name(&self) -> String {
        self.id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aidos_protocol::time::Micros;

    #[test]
    fn a_follower_asks_again_at_once_and_never_in_a_rush() {
        let line = LogLine { time_us: Micros(0), level: "INFO".into(), target: "t".into(), text: "x".into() };
        let busy = LogTail { lines: vec![line], ..LogTail::default() };
        assert_eq!(pause(&busy, Duration::from_millis(300)), Duration::from_millis(700));
        assert_eq!(pause(&busy, Duration::from_secs(9)), Duration::ZERO);
        let quiet = LogTail::default();
        assert_eq!(pause(&quiet, Duration::from_secs(30)), Duration::ZERO);
        assert_eq!(pause(&quiet, Duration::from_millis(20)), NO_PLACE);
    }
}
