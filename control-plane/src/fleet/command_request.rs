//! What a command asks of a device, checked and put into the form in which it travels. Pure.

use aidos_protocol::api::commands::{
    CommandArguments, CommandKind, CreateCommand, DEFAULT_DRAIN_WAIT_S, LogLevel, MAX_DRAIN_WAIT_S, MAX_LOG_LINES,
    MAX_TAIL_WAIT_S, MAX_TTL_S, OfflinePolicy,
};
use aidos_protocol::frame::{self, Body, FrameError, command::Kind};
use aidos_protocol::time::Micros;
use aidos_protocol::{CommandId, ModelName};
use bytes::Bytes;

/// Lines of a log when the caller does not say: a screen or two.
const DEFAULT_LOG_LINES: u32 = 100;
/// The longest name of a component, in bytes; the longest that there is has a dozen.
const MAX_COMPONENT_BYTES: usize = 64;

/// A command that cannot be given.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// An argument is missing, out of its range or not of this kind.
    #[error("{field}: {problem}")]
    Invalid {
        /// Which argument.
        field: &'static str,
        /// What is wrong and what is taken.
        problem: String,
    },
    /// It does not fit a frame.
    #[error(
        "the request takes {is} bytes on the link, the limit is {} bytes; ask the device's own inference API, or send less at once",
        frame::MAX_FRAME_BYTES
    )]
    TooLarge {
        /// Bytes it would take.
        is: usize,
    },
}

/// A checked command, but for its id and its end.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) kind: CommandKind,
    pub(super) arguments: CommandArguments,
    pub(super) offline: OfflinePolicy,
    pub(super) ttl_s: i64,
    wire: Kind,
}

/// An inference request as its caller sent it.
#[derive(Debug, Clone)]
pub(crate) struct InferCall {
    /// The model to ask.
    pub(crate) model: ModelName,
    /// Its version; `None` for the active one.
    pub(crate) version: Option<u64>,
    /// The request's bytes: JSON, and raw tensors after it when `header_length` is not 0.
    pub(crate) body: Bytes,
    /// Length of the JSON part when raw tensors follow it, else 0.
    pub(crate) header_length: u64,
    /// How long an answer is waited for, in seconds.
    pub(crate) timeout_s: u64,
}

fn invalid<T>(field: &'static str, problem: impl Into<String>) -> Result<T, RequestError> {
    Err(RequestError::Invalid { field, problem: problem.into() })
}

impl Request {
    /// Checks what was asked for.
    pub(super) fn new(asked: &CreateCommand) -> Result<Self, RequestError> {
        let ttl_s = ttl("ttl_s", asked.ttl_s)?;
        refuse_foreign_arguments(asked)?;
        let mut arguments = CommandArguments::default();
        let wire = match asked.kind {
            CommandKind::SelfTest => {
                arguments.model.clone_from(&asked.model);
                Kind::SelfTest(frame::SelfTest { model: asked.model.as_ref().map(ToString::to_string).unwrap_or_default() })
            }
            CommandKind::Restart => {
                let Some(component) = asked.component.as_ref().filter(|name| !name.is_empty()) else {
                    return invalid("component", "say which component to start anew; the device's status lists them");
                };
                if component.len() > MAX_COMPONENT_BYTES || component.chars().any(char::is_control) {
                    return invalid("component", "no component has such a name; the device's status lists them");
                }
                arguments.component = Some(component.clone());
                Kind::RestartComponent(frame::RestartComponent { component: component.clone() })
            }
            CommandKind::TailLogs => {
                let lines = asked.lines.unwrap_or(DEFAULT_LOG_LINES);
                if !(1..=MAX_LOG_LINES).contains(&lines) {
                    return invalid("lines", format!("{lines}: take 1 to {MAX_LOG_LINES}"));
                }
                let level: LogLevel = asked.level.unwrap_or_default();
                (arguments.lines, arguments.level) = (Some(lines), Some(level));
                going_on(asked)?;
                (arguments.wait_s, arguments.follows) = (asked.wait_s, asked.follows);
                Kind::TailLogs(frame::TailLogs {
                    lines,
                    level: level.as_str().into(),
                    after: asked.after,
                    boot_id: asked.boot_id,
                    wait_s: asked.wait_s.unwrap_or(0),
                })
            }
            CommandKind::Probe => Kind::Probe(frame::Probe {}),
            CommandKind::Drain => {
                let wait_s = asked.wait_s.unwrap_or(DEFAULT_DRAIN_WAIT_S);
                within(wait_s, MAX_DRAIN_WAIT_S)?;
                arguments.wait_s = Some(wait_s);
                Kind::Drain(frame::Drain { wait_s })
            }
            CommandKind::Undrain => Kind::Undrain(frame::Undrain {}),
            CommandKind::Infer => {
                let Some(model) = asked.model.clone() else { return invalid("model", "say which model to ask") };
                let Some(request) = asked.request.as_ref().filter(|request| request.is_object()) else {
                    return invalid("request", "give the request's JSON object as in the Open Inference Protocol");
                };
                let body = Bytes::from(request.to_string());
                return Self::infer(
                    &InferCall { model, version: asked.model_version, body, header_length: 0, timeout_s: asked.ttl_s },
                    asked.offline,
                );
            }
        };
        Ok(Self { kind: asked.kind, arguments, offline: asked.offline, ttl_s, wire })
    }

    /// An inference request whose body is passed on as it is.
    pub(super) fn infer(call: &InferCall, offline: OfflinePolicy) -> Result<Self, RequestError> {
        if call.version == Some(0) {
            return invalid("model_version", "versions begin with 1; leave it away for the active one");
        }
        if usize::try_from(call.header_length).map_or(true, |length| length > call.body.len()) {
            return invalid("header_length", "the JSON part cannot be longer than the body");
        }
        let wire = Kind::Infer(frame::Infer {
            model: call.model.to_string(),
            model_version: call.version.unwrap_or(0),
            body: call.body.clone(),
            header_length: call.header_length,
        });
        let arguments = CommandArguments {
            model: Some(call.model.clone()),
            model_version: call.version,
            request_bytes: u64::try_from(call.body.len()).ok(),
            ..Default::default()
        };
        Ok(Self { kind: CommandKind::Infer, arguments, offline, ttl_s: ttl("timeout", call.timeout_s)?, wire })
    }

    /// The whole frame, as it is kept until the device gets it.
    pub(super) fn frame(&self, id: CommandId, expires: Micros) -> Result<Bytes, RequestError> {
        frame(frame::Command { id: id.to_string(), expires_us: expires.0, kind: Some(self.wire.clone()) })
    }
}

/// Reads what [`Request::frame`] wrote; `None` for what this version cannot read.
pub(super) fn command(bytes: Bytes) -> Option<frame::Command> {
    match frame::decode(bytes) {
        Ok((_, Body::Command(command))) => Some(command),
        _ => None,
    }
}

fn frame(command: frame::Command) -> Result<Bytes, RequestError> {
    frame::encode(frame::VERSION, Body::Command(command)).map_err(|error| match error {
        FrameError::TooLarge(is) => RequestError::TooLarge { is },
        other => RequestError::Invalid { field: "request", problem: other.to_string() },
    })
}

fn ttl(field: &'static str, seconds: u64) -> Result<i64, RequestError> {
    match i64::try_from(seconds) {
        Ok(ttl) if (1..=MAX_TTL_S).contains(&seconds) => Ok(ttl),
        _ => invalid(field, format!("{seconds} seconds: take 1 to {MAX_TTL_S}")),
    }
}

/// What goes on behind a line has to say behind which.
fn going_on(asked: &CreateCommand) -> Result<(), RequestError> {
    let given = [("boot_id", asked.boot_id.is_some()), ("wait_s", asked.wait_s.is_some()), ("follows", asked.follows.is_some())];
    match given.into_iter().find(|(_, given)| *given && asked.after.is_none()) {
        Some((field, _)) => invalid(field, "give `after` with it: 0, or `next` of the answer before"),
        None => within(asked.wait_s.unwrap_or(0), MAX_TAIL_WAIT_S),
    }
}

fn within(wait_s: u32, most: u32) -> Result<(), RequestError> {
    if wait_s > most { invalid("wait_s", format!("{wait_s} seconds: take at most {most}")) } else { Ok(()) }
}

/// An argument of another kind is a misunderstanding, which silence would hide.
fn refuse_foreign_arguments(asked: &CreateCommand) -> Result<(), RequestError> {
    use CommandKind::{Drain, Infer, Restart, SelfTest, TailLogs};
    let arguments: [(&'static str, bool, &[CommandKind]); 10] = [
        ("model", asked.model.is_some(), &[SelfTest, Infer]),
        ("model_version", asked.model_version.is_some(), &[Infer]),
        ("request", asked.request.is_some(), &[Infer]),
        ("component", asked.component.is_some(), &[Restart]),
        ("lines", asked.lines.is_some(), &[TailLogs]),
        ("level", asked.level.is_some(), &[TailLogs]),
        ("after", asked.after.is_some(), &[TailLogs]),
        ("boot_id", asked.boot_id.is_some(), &[TailLogs]),
        ("wait_s", asked.wait_s.is_some(), &[TailLogs, Drain]),
        ("follows", asked.follows.is_some(), &[TailLogs]),
    ];
    for (field, given, kinds) in arguments {
        if given && !kinds.contains(&asked.kind) {
            return invalid(field, format!("`{}` does not take it; leave it away", asked.kind));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(asked: &CreateCommand) -> &'static str {
        match Request::new(asked) {
            Err(RequestError::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_reads_back_from_its_frame() {
        let mut asked = CreateCommand::new(CommandKind::TailLogs);
        asked.lines = Some(7);
        let request = Request::new(&asked).unwrap();
        let (id, end) = (CommandId::new(1), Micros(5));
        let read = command(request.frame(id, end).unwrap()).unwrap();
        assert_eq!((read.id, read.expires_us), (id.to_string(), 5));
        let tail = frame::TailLogs { lines: 7, level: "info".into(), ..Default::default() };
        assert_eq!(read.kind, Some(Kind::TailLogs(tail)));
    }

    #[test]
    fn a_wait_is_bounded_by_what_waits() {
        let drain = CreateCommand::new(CommandKind::Drain);
        assert_eq!(Request::new(&drain).unwrap().arguments.wait_s, Some(DEFAULT_DRAIN_WAIT_S));
        assert_eq!(refused(&CreateCommand { wait_s: Some(MAX_DRAIN_WAIT_S + 1), ..drain.clone() }), "wait_s");
        assert_eq!(refused(&CreateCommand { after: Some(0), ..drain }), "after");
        let tail = CreateCommand::new(CommandKind::TailLogs);
        assert_eq!(refused(&CreateCommand { wait_s: Some(5), ..tail.clone() }), "wait_s");
        assert_eq!(refused(&CreateCommand { follows: Some(CommandId::new(1)), ..tail.clone() }), "follows");
        let tail = CreateCommand { after: Some(0), ..tail };
        assert_eq!(refused(&CreateCommand { wait_s: Some(MAX_TAIL_WAIT_S + 1), ..tail.clone() }), "wait_s");
        assert!(Request::new(&CreateCommand { wait_s: Some(MAX_TAIL_WAIT_S), boot_id: Some(3), ..tail }).is_ok());
        assert_eq!(refused(&CreateCommand { wait_s: Some(1), ..CreateCommand::new(CommandKind::Probe) }), "wait_s");
    }

    #[test]
    fn an_argument_that_is_missing_foreign_or_out_of_range_is_named() {
        assert_eq!(refused(&CreateCommand::new(CommandKind::Restart)), "component");
        assert_eq!(refused(&CreateCommand::new(CommandKind::Infer)), "model");
        let tail = CreateCommand::new(CommandKind::TailLogs);
        assert_eq!(refused(&CreateCommand { lines: Some(0), ..tail.clone() }), "lines");
        assert_eq!(refused(&CreateCommand { component: Some("x".into()), ..tail.clone() }), "component");
        assert_eq!(refused(&CreateCommand { ttl_s: 0, ..tail.clone() }), "ttl_s");
        assert_eq!(refused(&CreateCommand { ttl_s: u64::MAX, ..tail }), "ttl_s");
        let model = Some("digits".parse().unwrap());
        let infer = CreateCommand { model, ..CreateCommand::new(CommandKind::Infer) };
        assert_eq!(refused(&infer), "request");
        assert_eq!(
            refused(&CreateCommand { model_version: Some(0), request: Some(serde_json::json!({})), ..infer }),
            "model_version"
        );
    }

    #[test]
    fn a_body_that_does_not_fit_a_frame_is_refused_with_its_size() {
        let call = InferCall {
            model: "digits".parse().unwrap(),
            version: None,
            body: Bytes::from(vec![0; frame::MAX_FRAME_BYTES]),
            header_length: 0,
            timeout_s: 5,
        };
        let request = Request::infer(&call, OfflinePolicy::Fail).unwrap();
        assert!(
            matches!(request.frame(CommandId::new(1), Micros(0)), Err(RequestError::TooLarge { is }) if is > frame::MAX_FRAME_BYTES)
        );
        let call = InferCall { header_length: u64::MAX, ..call };
        assert!(Request::infer(&call, OfflinePolicy::Fail).is_err());
    }
}
