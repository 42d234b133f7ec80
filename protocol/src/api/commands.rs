//! Commands: `/api/v1/devices/{id}/commands`, things that a device does once and answers.
//!
//! ```text
//! queued ──► delivered ──► ok | failed | refused
//!    │            └──────► expired
//!    └──► cancelled | expired | failed
//! ```
//! A command is delivered at least once and done at most once: its id is in the device's inbox before it acts.

use crate::time::Micros;
use crate::{CommandId, DeviceId, ModelName};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest life of a command, in seconds: a week, so that a device that is off over a weekend still gets it.
pub const MAX_TTL_S: u64 = 7 * 24 * 3_600;
/// The life of a command whose maker does not say, in seconds.
pub const DEFAULT_TTL_S: u64 = 300;
/// The most lines of a log that one command brings; more would not fit a frame.
pub const MAX_LOG_LINES: u32 = 2_000;
/// The longest that a `tail-logs` waits on the device for a line, in seconds: shorter than `?wait=`, so that its end is met.
pub const MAX_TAIL_WAIT_S: u32 = 30;
/// The longest that a `drain` waits on the device for requests in flight, in seconds: shorter than a device works at a command.
pub const MAX_DRAIN_WAIT_S: u32 = 240;
/// How long a `drain` waits when its maker does not say, in seconds: as long as an inference may run.
pub const DEFAULT_DRAIN_WAIT_S: u32 = 30;
/// The longest that `?wait=` waits, in seconds: shorter than the patience of common proxies.
pub const MAX_WAIT_S: u64 = 55;

/// What kind of thing a device is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CommandKind {
    /// Run a model's golden inputs, or check everything the device has.
    SelfTest,
    /// Start a component of the agent anew.
    Restart,
    /// Answer the last lines of the agent's log.
    TailLogs,
    /// Answer a request of the Open Inference Protocol.
    Infer,
    /// Look at everything that can go wrong on the device, and answer a list of [`Check`].
    Probe,
    /// Take no new inference requests over HTTP until `undrain`, and answer once none is in flight.
    Drain,
    /// Take inference requests again.
    Undrain,
}

impl CommandKind {
    /// Every kind there is.
    pub const ALL: [Self; 7] =
        [Self::SelfTest, Self::Restart, Self::TailLogs, Self::Infer, Self::Probe, Self::Drain, Self::Undrain];

    /// As it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SelfTest => "self-test",
            Self::Restart => "restart",
            Self::TailLogs => "tail-logs",
            Self::Infer => "infer",
            Self::Probe => "probe",
            Self::Drain => "drain",
            Self::Undrain => "undrain",
        }
    }
}
impl fmt::Display for CommandKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What becomes of a command while its device is offline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfflinePolicy {
    /// It waits until it expires.
    #[default]
    Queue,
    /// It is not taken, or fails when the device has gone before it was handed over.
    Fail,
}

impl OfflinePolicy {
    /// As it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Fail => "fail",
        }
    }
}

/// Where a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommandState {
    /// It waits for the device.
    Queued,
    /// It was handed to the device's link.
    Delivered,
    /// The device did it.
    Ok,
    /// The device could not, or never got it; `message` says why.
    Failed,
    /// Its time was over before an answer came.
    Expired,
    /// The device does not do this; `message` says why.
    Refused,
    /// A person took it back before it was handed over.
    Cancelled,
}

impl CommandState {
    /// Every state there is.
    pub const ALL: [Self; 7] =
        [Self::Queued, Self::Delivered, Self::Ok, Self::Failed, Self::Expired, Self::Refused, Self::Cancelled];

    /// Whether nothing more is going to happen.
    pub fn is_finished(self) -> bool {
        !matches!(self, Self::Queued | Self::Delivered)
    }

    /// As it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }
}
impl fmt::Display for CommandState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `POST /api/v1/devices/{id}/commands`. Fields that do not belong to the kind are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateCommand {
    /// What to do.
    pub kind: CommandKind,
    /// `self-test`: the model to test, absent for everything. `infer`: the model to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub model: Option<ModelName>,
    /// `infer`: the version to ask, absent for the active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<u64>,
    /// `infer`: the request's JSON as in the Open Inference Protocol. Binary tensors go over `…/infer/{model}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub request: Option<serde_json::Value>,
    /// `restart`: the component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// `tail-logs`: how many lines, at most [`MAX_LOG_LINES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 2_000)]
    pub lines: Option<u32>,
    /// `tail-logs`: the least level, `trace` to `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<LogLevel>,
    /// `tail-logs`: only lines with a higher number, as a [`LogTail`]; 0 for the newest ones. Absent: the newest ones as a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// `tail-logs` with `after`: the start of the agent whose numbers `after` counts in, as the [`LogTail`] before said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<u64>,
    /// `tail-logs` with `after`: seconds to wait for a line where there is none yet, at most [`MAX_TAIL_WAIT_S`]. `drain`: seconds
    /// to wait for requests in flight, at most [`MAX_DRAIN_WAIT_S`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 240)]
    pub wait_s: Option<u32>,
    /// `tail-logs` with `after`: the command that this one goes on from, in whose place it stands from now on. Following a log
    /// for hours is one command in the history and one entry of the activity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<CommandId>,
    /// Its life in seconds, at most [`MAX_TTL_S`].
    #[serde(default = "default_ttl")]
    #[schema(minimum = 1, maximum = 604_800, default = 300)]
    pub ttl_s: u64,
    /// What becomes of it while the device is offline.
    #[serde(default)]
    pub offline: OfflinePolicy,
}

fn default_ttl() -> u64 {
    DEFAULT_TTL_S
}

impl CreateCommand {
    /// A command of `kind` without arguments; set those that the kind takes.
    pub fn new(kind: CommandKind) -> Self {
        Self {
            kind,
            model: None,
            model_version: None,
            request: None,
            component: None,
            lines: None,
            level: None,
            after: None,
            boot_id: None,
            wait_s: None,
            follows: None,
            ttl_s: DEFAULT_TTL_S,
            offline: OfflinePolicy::default(),
        }
    }
}

/// The least level of a line of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum LogLevel {
    Trace,
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

impl LogLevel {
    /// As it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// What a command asks for, without bodies: what people need to recognise it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CommandArguments {
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub model: Option<ModelName>,
    /// Its version; absent for the active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<u64>,
    /// The component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// How many lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u32>,
    /// The least level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<LogLevel>,
    /// Seconds to wait on the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_s: Option<u32>,
    /// The command that it goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<CommandId>,
    /// Bytes of the inference request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_bytes: Option<u64>,
}

/// A command and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CommandView {
    /// Its id.
    pub id: CommandId,
    /// The device.
    pub device: DeviceId,
    /// What to do.
    pub kind: CommandKind,
    /// With what.
    pub arguments: CommandArguments,
    /// Where it stands.
    pub state: CommandState,
    /// What becomes of it while the device is offline.
    pub offline: OfflinePolicy,
    /// Who gave it.
    pub created_by: String,
    /// When it was given.
    pub created_at: Micros,
    /// When its time is over.
    pub expires_at: Micros,
    /// When it was handed to the device's link.
    pub delivered_at: Option<Micros>,
    /// When it finished.
    pub finished_at: Option<Micros>,
    /// What the device said, or why it never got there; empty when there is nothing to say.
    pub message: String,
    /// What it brought back; its bytes are at `…/result`.
    pub result: Option<CommandResultView>,
}

/// What a command brought back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CommandResultView {
    /// Media type of the bytes.
    pub content_type: String,
    /// How many there are.
    pub bytes: u64,
    /// The bytes as JSON, where they are JSON. Absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub json: Option<serde_json::Value>,
    /// The bytes as text, where they are text. Absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A line of an agent's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When.
    pub time_us: Micros,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: String,
    /// Which module.
    pub target: String,
    /// The message and its fields.
    pub text: String,
}

/// What a `tail-logs` with `after` brings back. Agents of earlier versions bring a list of [`LogLine`] whatever they are asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTail {
    /// The agent's start: another one than before means that it was restarted, and that the lines before it are gone.
    pub boot_id: u64,
    /// What to ask with as `after` for what comes next.
    pub next: u64,
    /// Lines after the one that was asked with which the agent keeps no more.
    #[serde(default)]
    pub missed: u64,
    /// The lines, oldest first.
    pub lines: Vec<LogLine>,
}

/// How one thing that a `probe` looked at is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckLevel {
    /// As it should be.
    Ok,
    /// Works, and will not for long or not fully.
    Warn,
    /// Does not work.
    Fail,
}

/// One thing that a `probe` looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What: `certificate`, `clock`, `disk`, …
    pub check: String,
    /// How it is.
    pub level: CheckLevel,
    /// In words.
    pub detail: String,
    /// What to do; empty when all is well.
    #[serde(default)]
    pub advice: String,
}

/// What a `drain` brings back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Since when the device takes no new requests.
    pub since_us: Micros,
    /// Requests that still ran when the wait was over.
    pub running: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_needs_only_its_kind_and_a_misspelt_field_is_named() {
        let command: CreateCommand = serde_json::from_str(r#"{"kind":"self-test"}"#).unwrap();
        assert_eq!(command, CreateCommand::new(CommandKind::SelfTest));
        let error = serde_json::from_str::<CreateCommand>(r#"{"kind":"tail-logs","line":3}"#).unwrap_err();
        assert!(error.to_string().contains("`line`"), "{error}");
    }

    #[test]
    fn every_word_reads_back() {
        for state in CommandState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for kind in CommandKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for level in [LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error] {
            assert_eq!(serde_json::to_value(level).unwrap(), level.as_str());
        }
        assert_eq!(serde_json::to_value(OfflinePolicy::Fail).unwrap(), OfflinePolicy::Fail.as_str());
    }
}
