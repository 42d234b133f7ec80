//! Carries out commands of the control plane: self-test, restart a component, tail the log, infer, probe, drain, undrain.
//!
//! Each is carried out at most once in the device's life (`state::Inbox`), each has an end, and none changes what intent says:
//! a command is a deed, intent is a state. Every failure is a result with its reason. Reading the log is no deed: it may be repeated.

mod tail;

use crate::drain::Drain;
use crate::infer;
use crate::link::CommandPort;
use crate::models::Runner;
use crate::observe::Logs;
use crate::state::{Begin, Inbox};
use aidos_protocol::ModelName;
use aidos_protocol::api::commands::{Check, CheckLevel, Drained, MAX_DRAIN_WAIT_S};
use aidos_protocol::frame::command::Kind;
use aidos_protocol::frame::command_result::Outcome;
use aidos_protocol::frame::{Command, CommandResult, Infer, MAX_FRAME_BYTES};
use aidos_protocol::oip::InferRequest;
use aidos_protocol::time::Micros;
use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tail::Tails;
use tokio::sync::Semaphore;

/// Commands carried out at a time; further ones wait their turn.
const AT_ONCE: usize = 4;
/// The longest a command may take: a self-test of many models takes minutes.
const LIMIT: Duration = Duration::from_secs(300);
/// The longest id that is taken; a command's id has 36 characters.
const MAX_ID: usize = 128;
/// How often a repeated command that is still at work is looked at again.
const LOOK: Duration = Duration::from_millis(250);
/// The longest payload of a result: what a frame holds, less its other fields.
const MAX_PAYLOAD: usize = MAX_FRAME_BYTES - 4_096;

/// Restarts components by name.
pub trait Restart: Send + Sync + 'static {
    /// Restarts `component`, or says which there are.
    fn restart(&self, component: &str) -> Result<String, String>;
}

/// Looks at everything that can go wrong on this device.
#[async_trait]
pub trait Examine: Send + Sync + 'static {
    /// What was looked at, in the order in which a person would mend things.
    async fn examine(&self) -> Vec<Check>;
}

/// What commands act on.
pub struct Means {
    /// For self-tests and inference.
    pub models: infer::Models,
    /// The last lines of the log.
    pub logs: Logs,
    /// The components.
    pub restart: Arc<dyn Restart>,
    /// Whether inference requests are taken.
    pub drain: Drain,
    /// The device as a whole.
    pub examine: Arc<dyn Examine>,
}

/// The commands of one device. Cheap to clone.
#[derive(Clone)]
pub struct Commands {
    inner: Arc<Inner>,
}

struct Inner {
    inbox: Inbox,
    models: infer::Models,
    restart: Arc<dyn Restart>,
    drain: Drain,
    examine: Arc<dyn Examine>,
    tails: Tails,
    now: Arc<dyn Fn() -> Micros + Send + Sync>,
    seats: Semaphore,
}

/// What a command led to.
struct Deed {
    outcome: Outcome,
    message: String,
    payload: Bytes,
    content_type: &'static str,
    header_length: u64,
}

impl Deed {
    fn text(outcome: Outcome, message: impl Into<String>) -> Self {
        Self { outcome, message: message.into(), payload: Bytes::new(), content_type: "", header_length: 0 }
    }
    fn json(outcome: Outcome, message: impl Into<String>, value: &impl Serialize) -> Self {
        let payload = serde_json::to_vec(value).unwrap_or_default().into();
        Self { payload, content_type: "application/json", ..Self::text(outcome, message) }
    }
    fn result(mut self, id: String) -> CommandResult {
        if self.payload.len() > MAX_PAYLOAD {
            let text = format!(
                "the answer has {} bytes, a command's answer at most {MAX_PAYLOAD}; ask the device's own API",
                self.payload.len()
            );
            self = Self::text(Outcome::Failed, text);
        }
        CommandResult {
            id,
            outcome: self.outcome.into(),
            message: self.message,
            payload: self.payload,
            content_type: self.content_type.to_owned(),
            header_length: self.header_length,
        }
    }
}

impl Commands {
    /// `now` is the time by which commands expire: the control plane's, as far as it is known.
    pub fn new(inbox: Inbox, means: Means, now: Arc<dyn Fn() -> Micros + Send + Sync>) -> Self {
        let Means { models, logs, restart, drain, examine } = means;
        let tails = Tails::new(logs, inbox.boot_id());
        Self { inner: Arc::new(Inner { inbox, models, restart, drain, examine, tails, now, seats: Semaphore::new(AT_ONCE) }) }
    }
}

#[async_trait]
impl CommandPort for Commands {
    async fn execute(&self, command: Command) -> CommandResult {
        let (inner, id) = (Arc::clone(&self.inner), command.id.clone());
        // On its own task, so that it runs to its end when the session that waits for it goes away.
        let task = tokio::spawn(async move { inner.execute(command).await });
        task.await
            .unwrap_or_else(|_| Deed::text(Outcome::Failed, "carrying it out failed inside the agent; see its log").result(id))
    }
}

impl Inner {
    async fn execute(&self, command: Command) -> CommandResult {
        let id = command.id.clone();
        if id.is_empty() || id.len() > MAX_ID {
            return Deed::text(Outcome::Refused, "the command has no proper id").result(id.chars().take(MAX_ID).collect());
        }
        let unable = |error: crate::state::LedgerError| Deed::text(Outcome::Failed, error.to_string()).result(id.clone());
        let now = (self.now)();
        if command.expires_us <= now.0 {
            return match self.inbox.result(&id).await {
                Ok(Some(result)) => result,
                Ok(None) => Deed::text(Outcome::Expired, "it came after its time and was not begun").result(id),
                Err(error) => unable(error),
            };
        }
        let Some(kind) = command.kind else {
            let version = env!("CARGO_PKG_VERSION");
            return Deed::text(Outcome::Refused, format!("the agent {version} does not know this command; update the agent"))
                .result(id);
        };
        if matches!(kind, Kind::TailLogs(_)) {
            // No deed: it needs no seat, and the disk nothing to remember it by.
            return self.carry_out(kind).await.result(id);
        }
        match self.inbox.begin(&id, now).await {
            Ok(Begin::New) => {}
            Ok(Begin::Done(result)) => return result,
            Ok(Begin::Running) => return self.wait_for(&id).await,
            Ok(Begin::Interrupted) => {
                let text = "the agent was restarted while it carried this out; whether it took effect is not known, so send a new command";
                return self.finish(Deed::text(Outcome::Failed, text).result(id)).await;
            }
            Err(error) => return unable(error),
        }
        let deed = match self.seats.acquire().await {
            Ok(_seat) => tokio::time::timeout(LIMIT, self.carry_out(kind)).await.unwrap_or_else(|_| {
                Deed::text(Outcome::Failed, format!("it did not end within {} s and was given up", LIMIT.as_secs()))
            }),
            Err(_) => Deed::text(Outcome::Failed, "the agent is stopping"),
        };
        self.finish(deed.result(id)).await
    }

    async fn finish(&self, result: CommandResult) -> CommandResult {
        if let Err(error) = self.inbox.finish(result.clone()).await {
            tracing::error!(command = result.id, %error, "a command's result could not be stored");
        }
        result
    }

    async fn wait_for(&self, id: &str) -> CommandResult {
        let until = tokio::time::Instant::now() + LIMIT;
        while tokio::time::Instant::now() < until {
            tokio::time::sleep(LOOK).await;
            if let Ok(Some(result)) = self.inbox.result(id).await {
                return result;
            }
        }
        Deed::text(Outcome::Failed, "it is still being carried out").result(id.to_owned())
    }

    async fn carry_out(&self, kind: Kind) -> Deed {
        match kind {
            Kind::SelfTest(test) => self.self_test(&test.model).await,
            Kind::RestartComponent(restart) => match self.restart.restart(&restart.component) {
                Ok(done) => Deed::text(Outcome::Ok, done),
                Err(why) => Deed::text(Outcome::Refused, why),
            },
            Kind::TailLogs(tail) => self.tails.answer(&tail).await,
            Kind::Probe(_) => self.probe().await,
            Kind::Drain(drain) => self.drain(drain.wait_s.min(MAX_DRAIN_WAIT_S)).await,
            Kind::Undrain(_) => self.undrain().await,
            Kind::Infer(request) => self.infer(request).await.unwrap_or_else(|why| Deed::text(Outcome::Failed, why)),
        }
    }

    async fn self_test(&self, only: &str) -> Deed {
        #[derive(Serialize)]
        struct Tested {
            model: ModelName,
            version: u64,
            ok: bool,
            error: String,
        }
        let mut tested = Vec::new();
        for info in self.models.list() {
            if info.place != infer::Place::Active || !(only.is_empty() || only == info.name.as_str()) {
                continue;
            }
            let error = self.models.check(&info.name, info.version).await.err().unwrap_or_default();
            tested.push(Tested { model: info.name, version: info.version, ok: error.is_empty(), error });
        }
        let failed = tested.iter().filter(|test| !test.ok).count();
        if tested.is_empty() && !only.is_empty() {
            return Deed::text(Outcome::Failed, format!("this device does not run a model `{only}`"));
        }
        let outcome = if failed == 0 { Outcome::Ok } else { Outcome::Failed };
        Deed::json(outcome, format!("{} of {} models answer", tested.len() - failed, tested.len()), &tested)
    }

    async fn probe(&self) -> Deed {
        let checks = self.examine.examine().await;
        let count = |level| checks.iter().filter(|check| check.level == level).count();
        let (failed, warned) = (count(CheckLevel::Fail), count(CheckLevel::Warn));
        Deed::json(Outcome::Ok, format!("{} checks: {failed} failed, {warned} to look at", checks.len()), &checks)
    }

    async fn drain(&self, wait_s: u32) -> Deed {
        let since_us = match self.drain.drain((self.now)()).await {
            Ok(since) => since,
            Err(error) => return Deed::text(Outcome::Failed, error.to_string()),
        };
        let running = self.drain.traffic().settled(Duration::from_secs(wait_s.into())).await as u64;
        if self.drain.traffic().closed().is_none() {
            return Deed::text(Outcome::Failed, "the device was undrained meanwhile");
        }
        let message = match running {
            0 => "drained: no new request is taken, none is in flight".to_owned(),
            _ => format!("drained: no new request is taken; after {wait_s} s there were {running} still in flight"),
        };
        Deed::json(Outcome::Ok, message, &Drained { since_us, running })
    }

    async fn undrain(&self) -> Deed {
        match self.drain.undrain().await {
            Ok(true) => Deed::text(Outcome::Ok, "requests are taken again"),
            Ok(false) => Deed::text(Outcome::Ok, "the device was not drained"),
            Err(error) => Deed::text(Outcome::Failed, error.to_string()),
        }
    }

    async fn infer(&self, command: Infer) -> Result<Deed, String> {
        let name: ModelName = command.model.parse().map_err(|error: aidos_protocol::NameError| error.to_string())?;
        let header = (command.header_length > 0).then(|| usize::try_from(command.header_length).unwrap_or(usize::MAX));
        let request = InferRequest::decode(command.body, header).map_err(|error| error.to_string())?;
        let form = request.answer_form();
        let version = (command.model_version > 0).then_some(command.model_version);
        let response = self.models.infer(&name, version, request).await.map_err(|error| error.to_string())?;
        let encoded = response.encode(&form).map_err(|error| error.to_string())?;
        Ok(Deed {
            content_type: encoded.content_type(),
            header_length: encoded.header_length.unwrap_or(0) as u64,
            payload: encoded.body,
            ..Deed::text(Outcome::Ok, "")
        })
    }
}

#[cfg(test)]
mod tests;
