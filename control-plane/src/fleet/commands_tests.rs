//! Commands on both databases.

use super::command_request::InferCall;
use super::commands::{CommandError, InferOutcome};
use super::commands_store::CommandRow;
use super::ports::CommandQueue;
use super::test_fleet::Fleet;
use crate::platform::db::{Db, StoreError};
use crate::platform::testing::both_stores;
use aidos_protocol::api::commands::{CommandKind, CommandState, CreateCommand, OfflinePolicy};
use aidos_protocol::frame::{CommandResult, command_result::Outcome};
use aidos_protocol::{CommandId, DeviceId};
use std::time::Duration;

both_stores!(
    a_command_waits_is_delivered_and_answered_once,
    an_offline_device_gets_it_later_or_not_at_all,
    a_command_that_nobody_took_fails_and_one_that_is_over_expires,
    a_late_answer_stands_above_an_assumption,
    only_a_queued_command_can_be_taken_back,
    a_device_has_a_bounded_number_of_open_commands,
    another_tenants_commands_are_not_there,
    an_inference_request_comes_back_as_the_device_answered,
    a_revoked_device_gets_no_commands,
    finished_commands_are_bounded,
    a_log_that_is_followed_is_one_command_and_one_entry_of_the_activity,
);

fn self_test() -> CreateCommand {
    CreateCommand::new(CommandKind::SelfTest)
}

fn answer(id: CommandId, outcome: Outcome, payload: &[u8]) -> CommandResult {
    CommandResult {
        id: id.to_string(),
        outcome: outcome.into(),
        message: "said".into(),
        payload: payload.to_vec().into(),
        content_type: "application/json".into(),
        header_length: 0,
    }
}

async fn give(fleet: &Fleet, device: DeviceId) -> CommandRow {
    fleet.commands.create(&fleet.ours, device, &self_test()).await.unwrap()
}

async fn state(fleet: &Fleet, row: &CommandRow) -> CommandState {
    fleet.commands.get(fleet.ours.tenant, row.device, row.id).await.unwrap().state
}

async fn a_command_waits_is_delivered_and_answered_once(db: Db) {
    let fleet = Fleet::new(db).await;
    let tenant = fleet.ours.tenant;
    let device = fleet.device(&fleet.ours, "a", &[]).await;
    let first = give(&fleet, device).await;
    fleet.clock.advance(Duration::from_millis(5));
    let second = give(&fleet, device).await;
    let pending = fleet.commands.pending(tenant, device, 8).await.unwrap();
    assert_eq!(pending.iter().map(|c| c.id.clone()).collect::<Vec<_>>(), [first.id.to_string(), second.id.to_string()]);
    assert_eq!(pending[0].expires_us, first.expires.0);
    assert_eq!(fleet.commands.pending(tenant, device, 1).await.unwrap().len(), 1);

    fleet.commands.delivered(tenant, device, first.id).await.unwrap();
    fleet.commands.delivered(tenant, device, first.id).await.unwrap();
    assert_eq!(state(&fleet, &first).await, CommandState::Delivered);
    // A session that begins anew sends it again.
    assert_eq!(fleet.commands.pending(tenant, device, 8).await.unwrap().len(), 2);

    let waiting = {
        let commands = fleet.commands.clone();
        tokio::spawn(async move { commands.wait(tenant, device, first.id, Duration::from_secs(20)).await.unwrap() })
    };
    fleet.commands.result(tenant, device, answer(first.id, Outcome::Ok, b"{}")).await.unwrap();
    let done = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    assert_eq!((done.state, done.message.as_str()), (CommandState::Ok, "said"));
    fleet.commands.result(tenant, device, answer(first.id, Outcome::Failed, b"")).await.unwrap();
    assert_eq!(state(&fleet, &first).await, CommandState::Ok);
    let payload = fleet.commands.payload(tenant, device, first.id).await.unwrap().unwrap();
    assert_eq!((payload.content_type.as_str(), &payload.bytes[..]), ("application/json", &b"{}"[..]));
    assert_eq!(fleet.commands.pending(tenant, device, 8).await.unwrap().len(), 1);
    assert_eq!(fleet.actions(&fleet.ours, device).await, ["device.command", "device.command"]);
}

async fn an_offline_device_gets_it_later_or_not_at_all(db: Db) {
    let fleet = Fleet::new(db).await;
    let device = fleet.device(&fleet.ours, "a", &[]).await;
    let now_or_never = CreateCommand { offline: OfflinePolicy::Fail, ..self_test() };
    let refused = fleet.commands.create(&fleet.ours, device, &now_or_never).await;
    assert!(matches!(refused, Err(CommandError::Offline)));
    assert_eq!(give(&fleet, device).await.state, CommandState::Queued);
    fleet.online(&fleet.ours, device).await;
    assert!(fleet.commands.create(&fleet.ours, device, &now_or_never).await.is_ok());
}

async fn a_command_that_nobody_took_fails_and_one_that_is_over_expires(db: Db) {
    let fleet = Fleet::new(db).await;
    let tenant = fleet.ours.tenant;
    let device = fleet.device(&fleet.ours, "a", &[]).await;
    fleet.online(&fleet.ours, device).await;
    let create = async |asked: CreateCommand| fleet.commands.create(&fleet.ours, device, &asked).await.unwrap();
    let now_or_never = create(CreateCommand { offline: OfflinePolicy::Fail, ttl_s: 3_600, ..self_test() }).await;
    let patient = create(CreateCommand { ttl_s: 60, ..self_test() }).await;
    let taken = create(CreateCommand { ttl_s: 60, ..self_test() }).await;
    fleet.commands.delivered(tenant, device, taken.id).await.unwrap();
    assert_eq!(fleet.commands.sweep().await.unwrap(), 0);

    fleet.clock.advance(Duration::from_secs(31));
    assert_eq!(fleet.commands.pending(tenant, device, 8).await.unwrap().len(), 2);
    assert_eq!(fleet.commands.sweep().await.unwrap(), 1);
    assert_eq!(state(&fleet, &now_or_never).await, CommandState::Failed);

    fleet.clock.advance(Duration::from_secs(30));
    assert!(fleet.commands.pending(tenant, device, 8).await.unwrap().is_empty());
    assert_eq!(fleet.commands.sweep().await.unwrap(), 1);
    assert_eq!(state(&fleet, &patient).await, CommandState::Expired);
    // An answer that is on its way is waited for a little longer.
    assert_eq!(state(&fleet, &taken).await, CommandState::Delivered);
    fleet.clock.advance(Duration::from_secs(30));
    assert_eq!(fleet.commands.sweep().await.unwrap(), 1);
    let row = fleet.commands.get(tenant, device, taken.id).await.unwrap();
    assert_eq!(row.state, CommandState::Expired);
    assert!(row.message.contains("may have done it"), "{}", row.message);
}

async fn a_late_answer_stands_above_an_assumption(db: Db) {
    let fleet = Fleet::new(db).await;
    let tenant = fleet.ours.tenant;
    let device = fleet.device(&fleet.ours, "a", &[]).await;
    let row = give(&fleet, device).await;
    fleet.commands.delivered(tenant, device, row.id).await.unwrap();
    fleet.clock.advance(Duration::from_secs(3_600));
    fleet.commands.sweep().await.unwrap();
    fleet.commands.result(tenant, device, answer(row.id, Outcome::Expired, b"")).await.unwrap();
    assert_eq!(state(&fleet, &row).await, CommandState::Expired);
    fleet.commands.result(tenant, device, answer(row.id, Outcome::Ok, b"")).await.unwrap();
    assert_eq!(state(&fleet, &row).await, CommandState::Ok);
}

async fn only_a_queued_command_can_be_taken_back(db: Db) {
    let fleet = Fleet::new(db).await;
    let device = fleet.device(&fleet.ours, "a", &[]).await;
    let (queued, delivered) = (give(&fleet, device).await, give(&fleet, device).await);
    fleet.commands.delivered(fleet.ours.tenant, device, delivered.id).await.unwrap();
    for _ in 0..2 {
        let row = fleet.commands.cancel(&fleet.ours, device, queued.id).await.unwrap();
        assert_eq!(row.state, CommandState::Cancelled);
    }
    let refused = fleet.commands.cancel(&fleet.ours, device, delivered.id).await;
    assert!(matches!(refused, Err(CommandError::NotQueued(CommandState::Delivered))));
    let unknown = fleet.commands.cancel(&fleet.ours, device, CommandId::new(1)).await;
    assert!(matches!(unknown, Err(CommandError::Store(StoreError::NotFound))));
    let actions = fleet.actions(&fleet.ours, device).await;
    assert_eq!(actions.iter().filter(|action| *action == "device.command.cancel").count(), 1);
}

async fn a_device_has_a_bounded_number_of_open_commands(db: Db) {
    let fleet = Fleet::new(db).await;
    let device = fleet.device(&fleet.ours, "a", &[]).await;
    let first = give(&fleet, device).await;
    for _ in 1..100 {
        give(&fleet, device).await;
    }
    assert!(matches!(fleet.commands.create(&fleet.ours, device, &self_test()).await, Err(CommandError::Full)));
    fleet.commands.cancel(&fleet.ours, device, first.id).await.unwrap();
    give(&fleet, device).await;
}

async fn another_tenants_commands_are_not_there(db: Db) {
    let fleet = Fleet::new(db).await;
    let device = fleet.device(&fleet.ours, "a", &[]).await;
    let row = give(&fleet, device).await;
    let theirs = fleet.theirs.tenant;
    assert!(matches!(fleet.commands.get(theirs, device, row.id).await, Err(StoreError::NotFound)));
    assert!(matches!(fleet.commands.list(theirs, device, None, 10).await, Err(StoreError::NotFound)));
    assert!(fleet.commands.create(&fleet.theirs, device, &self_test()).await.is_err());
    assert!(fleet.commands.cancel(&fleet.theirs, device, row.id).await.is_err());
    assert!(fleet.commands.pending(theirs, device, 8).await.unwrap().is_empty());
    // Not even another device of the same tenant answers for this one.
    let neighbour = fleet.device(&fleet.ours, "b", &[]).await;
    fleet.commands.result(fleet.ours.tenant, neighbour, answer(row.id, Outcome::Ok, b"")).await.unwrap();
    fleet.commands.result(theirs, device, answer(row.id, Outcome::Ok, b"")).await.unwrap();
    assert_eq!(state(&fleet, &row).await, CommandState::Queued);
}

async fn an_inference_request_comes_back_as_the_device_answered(db: Db) {
    let fleet = Fleet::new(db).await;
    let tenant = fleet.ours.tenant;
    let device = fleet.device(&fleet.ours, "a", &[]).await;
    fleet.online(&fleet.ours, device).await;
    let call = InferCall {
        model: "digits".parse().unwrap(),
        version: None,
        body: bytes::Bytes::from_static(b"{}\x01\x02"),
        header_length: 2,
        timeout_s: 10,
    };
    let asking = {
        let (commands, caller, call) = (fleet.commands.clone(), fleet.ours.clone(), call.clone());
        tokio::spawn(async move { commands.infer(&caller, device, &call).await.unwrap() })
    };
    let command = loop {
        match fleet.commands.pending(tenant, device, 1).await.unwrap().pop() {
            Some(command) => break command,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let Some(aidos_protocol::frame::command::Kind::Infer(infer)) = command.kind else { panic!("{command:?}") };
    assert_eq!((infer.model.as_str(), &infer.body[..], infer.header_length), ("digits", &b"{}\x01\x02"[..], 2));
    let result = CommandResult {
        content_type: "application/octet-stream".into(),
        header_length: 3,
        ..answer(command.id.parse().unwrap(), Outcome::Ok, b"{ }\xff")
    };
    fleet.commands.result(tenant, device, result).await.unwrap();
    let InferOutcome::Answer(payload) = asking.await.unwrap() else { panic!("no answer") };
    assert_eq!((&payload.bytes[..], payload.header_length), (&b"{ }\xff"[..], 3));
}

async fn a_revoked_device_gets_no_commands(db: Db) {
    let fleet = Fleet::new(db).await;
    let device = fleet.device(&fleet.ours, "a", &[]).await;
    fleet.devices.revoke(&fleet.ours, device).await.unwrap();
    assert!(matches!(fleet.commands.create(&fleet.ours, device, &self_test()).await, Err(CommandError::Revoked)));
}

async fn finished_commands_are_bounded(db: Db) {
    let fleet = Fleet::new(db).await;
    let device = fleet.device(&fleet.ours, "a", &[]).await;
    let waiting = give(&fleet, device).await;
    for _ in 0..205 {
        fleet.clock.advance(Duration::from_millis(2));
        let row = give(&fleet, device).await;
        fleet.commands.result(fleet.ours.tenant, device, answer(row.id, Outcome::Ok, b"")).await.unwrap();
    }
    let rows = fleet.commands.list(fleet.ours.tenant, device, None, 1_000).await.unwrap();
    // The newest finished one came after the last look.
    assert_eq!(rows.len(), 202);
    assert_eq!(rows.last().unwrap().id, waiting.id);
}

async fn a_log_that_is_followed_is_one_command_and_one_entry_of_the_activity(db: Db) {
    let fleet = Fleet::new(db).await;
    let tenant = fleet.ours.tenant;
    let device = fleet.device(&fleet.ours, "a", &[]).await;
    let tail = |follows| CreateCommand { after: Some(0), follows, ..CreateCommand::new(CommandKind::TailLogs) };
    let read = async |asked: CreateCommand| {
        fleet.clock.advance(Duration::from_millis(2));
        let row = fleet.commands.create(&fleet.ours, device, &asked).await.unwrap();
        fleet.commands.result(tenant, device, answer(row.id, Outcome::Ok, b"{}")).await.unwrap();
        row.id
    };
    let (mut mine, anothers) = (read(tail(None)).await, read(tail(None)).await);
    for _ in 0..3 {
        mine = read(tail(Some(mine))).await;
    }
    let listed = fleet.commands.list(tenant, device, None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|row| row.id).collect::<Vec<_>>(), [mine, anothers]);
    assert_eq!(fleet.actions(&fleet.ours, device).await, ["device.command"; 2]);

    // What is not there, is another's kind, or has not ended is nothing to go on from: it stays, and the reading is written down.
    let test = give(&fleet, device).await.id;
    fleet.commands.result(tenant, device, answer(test, Outcome::Ok, b"{}")).await.unwrap();
    let open = fleet.commands.create(&fleet.ours, device, &tail(None)).await.unwrap().id;
    for before in [CommandId::new(1), test, open] {
        read(tail(Some(before))).await;
    }
    assert!(fleet.commands.get(tenant, device, test).await.is_ok() && fleet.commands.get(tenant, device, open).await.is_ok());
    assert_eq!(fleet.actions(&fleet.ours, device).await.len(), 7);
}
