//! The inbox of commands: which were begun and what they answered, so that none is carried out twice.
//!
//! Invariants: an id is in the inbox before its effect begins; an effect within the ledger and its result share one
//! transaction ([`Inbox::finish_with`]); an id that was begun before a crash and never finished is not begun again.

use super::{Ledger, LedgerError};
use aidos_protocol::frame::{self, Body, CommandResult};
use aidos_protocol::time::Micros;
use rusqlite::{OptionalExtension as _, Transaction, params};

/// Commands remembered. A plane that repeats a command does so within the session or at the next one, never 512 commands
/// later.
const MAX_ROWS: i64 = 512;
/// Bytes of remembered results together.
const MAX_BYTES: i64 = 2 << 20;
/// A longer result is delivered once and remembered without its payload.
const MAX_PAYLOAD: usize = 64 << 10;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS inbox (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, boot INTEGER NOT NULL, received_us INTEGER NOT NULL, result BLOB);";

/// What is known of a command when it arrives.
#[derive(Debug, Clone, PartialEq)]
pub enum Begin {
    /// Never seen: carry it out. It counts as begun now.
    New,
    /// It is being carried out at this moment.
    Running,
    /// It was begun before the agent's last start and did not finish; whether it had an effect is unknown.
    Interrupted,
    /// It finished with this result.
    Done(CommandResult),
}

/// The inbox. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inbox {
    ledger: Ledger,
    boot: u64,
}

impl Inbox {
    /// Opens the inbox for the start `boot` of the agent.
    pub fn open(ledger: Ledger, boot: u64) -> Result<Self, LedgerError> {
        ledger.declare(SCHEMA)?;
        Ok(Self { ledger, boot })
    }

    /// The number of the agent's start that it was opened for.
    pub fn boot_id(&self) -> u64 {
        self.boot
    }

    /// Looks the command up and, when it is new, notes it as begun. Durable on return.
    pub async fn begin(&self, id: &str, now: Micros) -> Result<Begin, LedgerError> {
        let (id, boot) = (id.to_owned(), self.boot);
        self.ledger.run(move |tx| begin(tx, &id, boot, now)).await
    }

    /// The result of a command that finished, without noting anything.
    pub async fn result(&self, id: &str) -> Result<Option<CommandResult>, LedgerError> {
        let (id, boot) = (id.to_owned(), self.boot);
        let known = self.ledger.run(move |tx| known(tx, &id, boot)).await?;
        Ok(if let Some(Begin::Done(result)) = known { Some(result) } else { None })
    }

    /// Notes the result of a command that was begun.
    pub async fn finish(&self, result: CommandResult) -> Result<(), LedgerError> {
        self.finish_with(result, |_| Ok(())).await
    }

    /// Carries out `effect` and notes the result in the same transaction: both are durable, or neither.
    pub async fn finish_with<F>(&self, result: CommandResult, effect: F) -> Result<(), LedgerError>
    where
        F: FnOnce(&Transaction<'_>) -> Result<(), LedgerError> + Send + 'static,
    {
        self.ledger
            .run(move |tx| {
                effect(tx)?;
                finish(tx, result)
            })
            .await
    }
}

fn begin(tx: &Transaction<'_>, id: &str, boot: u64, now: Micros) -> Result<Begin, LedgerError> {
    if let Some(known) = known(tx, id, boot)? {
        return Ok(known);
    }
    let sql = "INSERT INTO inbox (id, boot, received_us) VALUES (?1, ?2, ?3)";
    tx.prepare_cached(sql)?.execute(params![id, boot.cast_signed(), now.0])?;
    trim(tx)?;
    Ok(Begin::New)
}

fn known(tx: &Transaction<'_>, id: &str, boot: u64) -> Result<Option<Begin>, LedgerError> {
    let row: Option<(i64, Option<Vec<u8>>)> = tx
        .prepare_cached("SELECT boot, result FROM inbox WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(match row {
        None => None,
        Some((_, Some(bytes))) => match frame::decode(bytes.into()) {
            Ok((_, Body::CommandResult(result))) => Some(Begin::Done(result)),
            Ok(_) => return Err(unreadable("another frame")),
            Err(error) => return Err(unreadable(error)),
        },
        Some((begun, None)) if begun == boot.cast_signed() => Some(Begin::Running),
        Some(_) => Some(Begin::Interrupted),
    })
}

fn finish(tx: &Transaction<'_>, mut result: CommandResult) -> Result<(), LedgerError> {
    if result.payload.len() > MAX_PAYLOAD {
        let length = result.payload.len();
        result.payload = bytes::Bytes::new();
        result.header_length = 0;
        result.message =
            format!("{} (its {length} bytes were delivered once and are not kept)", result.message).trim().to_owned();
    }
    let id = result.id.clone();
    let bytes = frame::encode(frame::VERSION, Body::CommandResult(result)).map_err(unreadable)?;
    tx.prepare_cached("UPDATE inbox SET result = ?2 WHERE id = ?1")?.execute(params![id, &bytes[..]])?;
    trim(tx)
}

fn unreadable(why: impl ToString) -> LedgerError {
    LedgerError::Row { what: "a command's result", why: why.to_string() }
}

fn trim(tx: &Transaction<'_>) -> Result<(), LedgerError> {
    let sizes = "SELECT COUNT(*), COALESCE(SUM(LENGTH(result)), 0) FROM inbox";
    loop {
        let (rows, bytes): (i64, i64) = tx.prepare_cached(sizes)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if rows <= MAX_ROWS && bytes <= MAX_BYTES {
            return Ok(());
        }
        // Unfinished ones stay longest, but not for ever: a device that is killed in each command must not fill up.
        let oldest = "DELETE FROM inbox WHERE n = (SELECT n FROM inbox ORDER BY result IS NULL, n LIMIT 1)";
        tx.prepare_cached(oldest)?.execute([])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aidos_protocol::frame::command_result::Outcome;

    fn result(id: &str, payload: usize) -> CommandResult {
        let payload = vec![7; payload].into();
        CommandResult { id: id.into(), outcome: Outcome::Ok.into(), payload, ..Default::default() }
    }

    #[tokio::test]
    async fn a_command_is_begun_once_and_then_answered_from_its_result() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(Ledger::open(dir.path()).unwrap(), 1).unwrap();
        assert_eq!(inbox.begin("a", Micros(1)).await.unwrap(), Begin::New);
        assert_eq!(inbox.begin("a", Micros(2)).await.unwrap(), Begin::Running);
        assert_eq!(inbox.result("a").await.unwrap(), None);
        inbox.finish(result("a", 3)).await.unwrap();
        assert_eq!(inbox.result("a").await.unwrap(), Some(result("a", 3)));
        let after_a_kill = Inbox::open(Ledger::open(dir.path()).unwrap(), 2).unwrap();
        assert_eq!(after_a_kill.begin("a", Micros(3)).await.unwrap(), Begin::Done(result("a", 3)));
    }

    #[tokio::test]
    async fn a_command_that_a_crash_interrupted_is_not_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(Ledger::open(dir.path()).unwrap(), 1).unwrap();
        inbox.begin("a", Micros(1)).await.unwrap();
        let after_a_kill = Inbox::open(Ledger::open(dir.path()).unwrap(), 2).unwrap();
        assert_eq!(after_a_kill.begin("a", Micros(2)).await.unwrap(), Begin::Interrupted);
    }

    #[tokio::test]
    async fn an_effect_that_fails_leaves_no_result() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(Ledger::open(dir.path()).unwrap(), 1).unwrap();
        inbox.begin("a", Micros(1)).await.unwrap();
        assert!(inbox.finish_with(result("a", 1), |_| Err(LedgerError::Closed)).await.is_err());
        assert_eq!(inbox.begin("a", Micros(2)).await.unwrap(), Begin::Running);
    }

    #[tokio::test]
    async fn the_inbox_stays_bounded_and_forgets_the_oldest_result_first() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(Ledger::open(dir.path()).unwrap(), 1).unwrap();
        inbox.begin("unfinished", Micros(0)).await.unwrap();
        for n in 0..60 {
            let id = format!("c{n}");
            inbox.begin(&id, Micros(n)).await.unwrap();
            inbox.finish(result(&id, MAX_PAYLOAD)).await.unwrap();
        }
        assert_eq!(inbox.begin("c0", Micros(99)).await.unwrap(), Begin::New);
        assert!(matches!(inbox.begin("c59", Micros(99)).await.unwrap(), Begin::Done(_)));
        assert_eq!(inbox.begin("unfinished", Micros(99)).await.unwrap(), Begin::Running);
    }

    #[tokio::test]
    async fn a_long_result_is_remembered_without_its_payload() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(Ledger::open(dir.path()).unwrap(), 1).unwrap();
        inbox.begin("a", Micros(1)).await.unwrap();
        inbox.finish(result("a", MAX_PAYLOAD + 1)).await.unwrap();
        let Begin::Done(kept) = inbox.begin("a", Micros(2)).await.unwrap() else { panic!("it finished") };
        assert!(kept.payload.is_empty() && kept.message.contains("delivered once"));
    }
}
