//! Commands to devices: things that a device does once and answers.
//!
//! A command is durable before its maker has an answer; the device's inbox makes "at least once" on the link "at most once"
//! on the device. Every command ends: by its answer, its cancellation or its time. What a device says that it did stands
//! above what was assumed here: an answer that comes after the end replaces it. A command that goes on from another of the same
//! person takes its place, in the history and in the activity. Nothing here knows sessions beyond poking them.

use super::command_request::{InferCall, Request, RequestError, command};
use super::commands_store::{self as store, CommandRow, Finish, Payload};
use super::devices::Devices;
use super::live::Live;
use super::ports::CommandQueue;
use crate::platform::clock::Clock;
use crate::platform::db::{Db, StoreError};
use crate::platform::http::Events;
use crate::tenants::{Activity, Caller};
use aidos_protocol::api::commands::{CommandState, CreateCommand, OfflinePolicy};
use aidos_protocol::frame::{self, command_result::Outcome};
use aidos_protocol::{CommandId, DeviceId, TenantId, time::Micros};
use async_trait::async_trait;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Open commands per device: a person gives a handful, a script that never waits is stopped here.
const MAX_OPEN: i64 = 100;
/// Finished commands kept per device, each with at most a frame of payload.
const KEEP_FINISHED: i64 = 200;
/// How long an online device has for taking a command that is not to wait for it: a few lost packets on a bad link.
const TAKE_WITHIN_S: i64 = 30;
/// How long after its end a delivered command's answer is waited for; as long as its session holds its place.
const ANSWER_GRACE_S: i64 = 30;
/// Commands that one transaction ends.
const ENDS_AT_ONCE: i64 = 200;
/// How often ends are looked for: people tell seconds apart, not less.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);
/// Requests that wait for an answer at once, in this process; each costs a task and a look at the database per second.
const MAX_WAITING: usize = 1_024;
/// How often a waiting request looks by itself, for commands that another control plane finished.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Finished commands that a waiting request may fall behind; it then looks at the database.
const FINISHED_BUFFER: usize = 256;
/// The longest message of a device that is kept, in characters.
const MAX_MESSAGE_CHARS: usize = 4_096;
/// The longest media type of a device's answer that is kept.
const MAX_CONTENT_TYPE_BYTES: usize = 128;
/// What is said of bytes whose media type the device did not say.
const UNKNOWN_TYPE: &str = "application/octet-stream";

const OPEN: [CommandState; 2] = [CommandState::Queued, CommandState::Delivered];
const UNANSWERED: [CommandState; 4] =
    [CommandState::Queued, CommandState::Delivered, CommandState::Expired, CommandState::Cancelled];

/// Why a command cannot be given, taken back or answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// It asks for what cannot be.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The device is offline and the command was not to wait.
    #[error("the device is offline")]
    Offline,
    /// The device was revoked.
    #[error("the device was revoked; it never gets commands again")]
    Revoked,
    /// Too many wait already.
    #[error("{MAX_OPEN} commands wait for this device already")]
    Full,
    /// It is not queued any more.
    #[error("the command is {0} already; only a queued one can be taken back")]
    NotQueued(CommandState),
    /// Too many requests wait for answers.
    #[error("{MAX_WAITING} requests wait for devices already")]
    Busy,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of an inference request.
#[derive(Debug)]
pub(crate) enum InferOutcome {
    /// The device's answer, as it sent it.
    Answer(Payload),
    /// It could not, did not want to, or did not say in time.
    NoAnswer(Box<CommandRow>),
}

/// The handle to commands.
#[derive(Clone)]
pub(crate) struct Commands {
    db: Db,
    clock: Clock,
    activity: Activity,
    events: Events,
    devices: Devices,
    live: Live,
    finished: broadcast::Sender<CommandId>,
    waits: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Commands {
    /// Commands to `devices`; whoever waits for an answer is let go at `shutdown`.
    pub(crate) fn new(
        db: Db,
        clock: Clock,
        activity: Activity,
        events: Events,
        devices: Devices,
        live: Live,
        shutdown: CancellationToken,
    ) -> Self {
        let (finished, _) = broadcast::channel(FINISHED_BUFFER);
        let waits = Arc::new(Semaphore::new(MAX_WAITING));
        Self { db, clock, activity, events, devices, live, finished, waits, shutdown }
    }

    /// Gives a command.
    pub(crate) async fn create(
        &self,
        caller: &Caller,
        device: DeviceId,
        asked: &CreateCommand,
    ) -> Result<CommandRow, CommandError> {
        self.give(caller, device, &Request::new(asked)?).await
    }

    async fn give(&self, caller: &Caller, device: DeviceId, request: &Request) -> Result<CommandRow, CommandError> {
        let tenant = caller.tenant;
        let target = self.devices.get(tenant, device).await?;
        if target.revoked.is_some() {
            return Err(CommandError::Revoked);
        }
        if request.offline == OfflinePolicy::Fail && !target.online {
            return Err(CommandError::Offline);
        }
        let now = self.clock.now();
        let row = CommandRow {
            id: CommandId::new(now.as_millis()),
            device,
            kind: request.kind,
            arguments: request.arguments.clone(),
            state: CommandState::Queued,
            offline: request.offline,
            actor: caller.actor.clone(),
            created: now,
            expires: now.plus_seconds(request.ttl_s),
            delivered: None,
            finished: None,
            message: String::new(),
            payload: None,
        };
        let bytes = request.frame(row.id, row.expires)?.to_vec();
        let mut tx = self.db.begin().await?;
        // On Postgres requests at the same moment may pass this together: by as many as there are, not by more.
        if store::count_open(&mut tx, tenant, device).await? >= MAX_OPEN {
            return Err(CommandError::Full);
        }
        store::prune(&mut tx, tenant, device, KEEP_FINISHED).await?;
        store::insert(&mut tx, tenant, &row, bytes).await?;
        let goes_on = match row.arguments.follows {
            Some(before) => store::remove_followed(&mut tx, tenant, &row, before).await?,
            None => false,
        };
        if !goes_on {
            let detail = json!({ "command": row.id, "kind": row.kind, "arguments": row.arguments });
            self.activity.record(&mut tx, caller, "device.command", &device.to_string(), detail).await?;
        }
        tx.commit().await?;
        self.live.notify_command(device);
        self.tell(tenant, &row, row.state);
        Ok(row)
    }

    /// One command.
    pub(crate) async fn get(&self, tenant: TenantId, device: DeviceId, id: CommandId) -> Result<CommandRow, StoreError> {
        store::get(self.db.pool(), tenant, device, id).await?.ok_or(StoreError::NotFound)
    }

    /// Commands of a device, newest first, at most `limit`, those after `before` in that order.
    pub(crate) async fn list(
        &self,
        tenant: TenantId,
        device: DeviceId,
        before: Option<CommandId>,
        limit: usize,
    ) -> Result<Vec<CommandRow>, StoreError> {
        self.devices.get(tenant, device).await?;
        store::list(self.db.pool(), tenant, device, before, limit).await
    }

    /// What a command brought back; `None` when that is nothing yet, or nothing at all.
    pub(crate) async fn payload(&self, tenant: TenantId, device: DeviceId, id: CommandId) -> Result<Option<Payload>, StoreError> {
        store::payload(self.db.pool(), tenant, device, id).await
    }

    /// The command when it has finished, or as it stands after `patience`. Answers at once when too many wait already.
    pub(crate) async fn wait(
        &self,
        tenant: TenantId,
        device: DeviceId,
        id: CommandId,
        patience: Duration,
    ) -> Result<CommandRow, StoreError> {
        match self.waits.try_acquire() {
            Ok(_place) => self.wait_in_place(tenant, device, id, patience).await,
            Err(_) => self.get(tenant, device, id).await,
        }
    }

    async fn wait_in_place(
        &self,
        tenant: TenantId,
        device: DeviceId,
        id: CommandId,
        patience: Duration,
    ) -> Result<CommandRow, StoreError> {
        // Subscribed before the first look, so that nothing falls between.
        let mut finished = self.finished.subscribe();
        let deadline = Instant::now() + patience;
        loop {
            let row = self.get(tenant, device, id).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            if row.state.is_finished() || left.is_zero() || self.shutdown.is_cancelled() {
                return Ok(row);
            }
            // Another command's end is passed over; having fallen behind is a reason to look.
            let told = async { while finished.recv().await.is_ok_and(|other| other != id) {} };
            let _ = timeout(left.min(LOOK_INTERVAL), self.shutdown.run_until_cancelled(told)).await;
        }
    }

    /// Takes a command back that was not handed over yet. Twice is the same as once.
    pub(crate) async fn cancel(&self, caller: &Caller, device: DeviceId, id: CommandId) -> Result<CommandRow, CommandError> {
        let tenant = caller.tenant;
        let mut tx = self.db.begin().await?;
        let message = format!("cancelled by {}", caller.actor);
        let end = Finish { state: CommandState::Cancelled, message: &message, payload: None, by_device: false };
        if store::finish(&mut tx, tenant, device, id, &[CommandState::Queued], &end, self.clock.now()).await? {
            let detail = json!({ "command": id });
            self.activity.record(&mut tx, caller, "device.command.cancel", &device.to_string(), detail).await?;
            tx.commit().await?;
            let row = self.get(tenant, device, id).await?;
            self.tell(tenant, &row, row.state);
            return Ok(row);
        }
        drop(tx);
        let row = self.get(tenant, device, id).await?;
        if row.state == CommandState::Cancelled { Ok(row) } else { Err(CommandError::NotQueued(row.state)) }
    }

    /// Asks a model on an online device and waits for its answer.
    pub(crate) async fn infer(&self, caller: &Caller, device: DeviceId, call: &InferCall) -> Result<InferOutcome, CommandError> {
        let Ok(_place) = self.waits.try_acquire() else { return Err(CommandError::Busy) };
        let request = Request::infer(call, OfflinePolicy::Fail)?;
        let row = self.give(caller, device, &request).await?;
        let patience = Duration::from_secs(call.timeout_s);
        let row = self.wait_in_place(caller.tenant, device, row.id, patience).await?;
        if row.state == CommandState::Ok
            && let Some(payload) = self.payload(caller.tenant, device, row.id).await?
        {
            return Ok(InferOutcome::Answer(payload));
        }
        Ok(InferOutcome::NoAnswer(Box::new(row)))
    }

    /// Ends what is over, once. Returns how many commands that was.
    pub(crate) async fn sweep(&self) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let mut swept = 0;
        for tenant in store::tenants_with_ends(self.db.pool(), now, take_limit(now)).await? {
            loop {
                let ended = self.sweep_tenant(tenant, now).await?;
                swept += ended;
                if ended < ENDS_AT_ONCE.unsigned_abs() {
                    break;
                }
            }
        }
        Ok(swept)
    }

    async fn sweep_tenant(&self, tenant: TenantId, now: Micros) -> Result<u64, StoreError> {
        let answered_since = now.plus_seconds(-ANSWER_GRACE_S);
        let mut ended = Vec::new();
        let mut tx = self.db.begin().await?;
        for row in store::ends(&mut tx, tenant, now, take_limit(now), answered_since, ENDS_AT_ONCE).await? {
            let (state, message) = end_of(&row, now);
            let end = Finish { state, message, payload: None, by_device: false };
            if store::finish(&mut tx, tenant, row.device, row.id, &[row.state], &end, now).await? {
                ended.push((row, state));
            }
        }
        tx.commit().await?;
        for (row, state) in &ended {
            self.tell(tenant, row, *state);
        }
        Ok(u64::try_from(ended.len()).unwrap_or(u64::MAX))
    }

    /// Ends what is over until `shutdown`.
    pub(crate) async fn run_sweep(self) {
        let shutdown = self.shutdown.clone();
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "commands whose time is over could not be ended; trying again");
            }
        }
    }

    /// Tells of a command's new state: whoever waits for it, and whoever listens to events.
    fn tell(&self, tenant: TenantId, row: &CommandRow, state: CommandState) {
        if state.is_finished() {
            // Nobody may be waiting.
            let _ = self.finished.send(row.id);
        }
        if row.arguments.follows.is_some() {
            // The next answer to somebody who follows a log is no news to those who look at the history.
            return;
        }
        let data = json!({ "device": row.device, "kind": row.kind, "state": state });
        self.events.publish(tenant, "command.updated", &row.id.to_string(), data);
    }

    /// Finishes a command as its device says, or leaves it as it is.
    async fn answered(
        &self,
        tenant: TenantId,
        device: DeviceId,
        id: CommandId,
        from: &[CommandState],
        end: &Finish<'_>,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let done = store::finish(&mut tx, tenant, device, id, from, end, self.clock.now()).await?;
        tx.commit().await?;
        if done && let Some(row) = store::get(self.db.pool(), tenant, device, id).await? {
            self.tell(tenant, &row, row.state);
        }
        Ok(())
    }
}

/// Commands that only an online device was to get and that were given before this have failed.
fn take_limit(now: Micros) -> Micros {
    now.plus_seconds(-TAKE_WITHIN_S)
}

/// How a command ends by itself.
fn end_of(row: &CommandRow, now: Micros) -> (CommandState, &'static str) {
    match row.state {
        CommandState::Queued if row.expires > now => (CommandState::Failed, "the device went offline before it took the command"),
        CommandState::Queued => (CommandState::Expired, "the device did not come online in time; nothing was done"),
        _ => (CommandState::Expired, "the device took the command and did not answer in time; it may have done it"),
    }
}

/// At most `limit` characters, control characters but line breaks and tabs replaced: a device's text is shown to people.
fn shown(text: &str, limit: usize) -> String {
    text.chars().take(limit).map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { ' ' } else { c }).collect()
}

/// The payload of an answer; `None` where there is nothing.
fn payload_of(result: &mut frame::CommandResult) -> Option<Payload> {
    if result.payload.is_empty() {
        return None;
    }
    let content_type = std::mem::take(&mut result.content_type);
    // It becomes a header of an HTTP answer.
    let valid =
        (1..=MAX_CONTENT_TYPE_BYTES).contains(&content_type.len()) && content_type.bytes().all(|b| (0x20..0x7f).contains(&b));
    let length = u64::try_from(result.payload.len()).unwrap_or(u64::MAX);
    Some(Payload {
        content_type: if valid { content_type } else { UNKNOWN_TYPE.to_owned() },
        header_length: if result.header_length <= length { result.header_length } else { 0 },
        bytes: std::mem::take(&mut result.payload),
    })
}

#[async_trait]
impl CommandQueue for Commands {
    async fn pending(&self, tenant: TenantId, device: DeviceId, limit: usize) -> Result<Vec<frame::Command>, StoreError> {
        let now = self.clock.now();
        let frames = store::pending(self.db.pool(), tenant, device, now, take_limit(now), limit).await?;
        // What a newer version of this program wrote and this one cannot read expires by itself.
        Ok(frames.into_iter().filter_map(|bytes| command(bytes.into())).collect())
    }

    async fn delivered(&self, tenant: TenantId, device: DeviceId, id: CommandId) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let done = store::set_delivered(&mut tx, tenant, device, id, self.clock.now()).await?;
        tx.commit().await?;
        if done && let Some(row) = store::get(self.db.pool(), tenant, device, id).await? {
            self.tell(tenant, &row, row.state);
        }
        Ok(())
    }

    async fn result(&self, tenant: TenantId, device: DeviceId, mut result: frame::CommandResult) -> Result<(), StoreError> {
        let Ok(id) = result.id.parse::<CommandId>() else { return Ok(()) };
        let payload = payload_of(&mut result);
        let mut message = shown(&result.message, MAX_MESSAGE_CHARS);
        let (state, from): (_, &[CommandState]) = match result.outcome() {
            Outcome::Ok => (CommandState::Ok, &UNANSWERED),
            Outcome::Failed => (CommandState::Failed, &UNANSWERED),
            Outcome::Refused => (CommandState::Refused, &UNANSWERED),
            // The device did nothing, which is no news of a command that has ended here.
            Outcome::Expired => (CommandState::Expired, &OPEN),
            Outcome::Unspecified => {
                if message.is_empty() {
                    message = "the device answered in a way that this version does not know".into();
                }
                (CommandState::Failed, &UNANSWERED)
            }
        };
        let end = Finish { state, message: &message, payload: payload.as_ref(), by_device: true };
        self.answered(tenant, device, id, from, &end).await
    }
}
