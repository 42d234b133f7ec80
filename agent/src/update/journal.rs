//! Keeps the state of each model's machine in the ledger, so that a start after a crash judges from what was decided.
//!
//! Invariant: what [`Journal::write`] returned from is on disk; the driver calls it before it acts.

use super::record::{Kept, Slot, State};
use crate::state::{Ledger, LedgerError};
use aidos_protocol::ModelName;
use aidos_protocol::time::Micros;
use rusqlite::{OptionalExtension as _, Transaction, params};
use std::collections::BTreeMap;

/// One row per model. `model_slots` is what agents before the machine kept; its rows are taken over once.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS model_updates (name TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;";

/// The table of states. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal {
    ledger: Ledger,
}

impl Journal {
    /// Opens the table in `ledger`.
    pub fn open(ledger: Ledger) -> Result<Self, LedgerError> {
        ledger.declare(SCHEMA)?;
        ledger.transaction(take_over)?;
        Ok(Self { ledger })
    }

    /// Every model that is kept. Blocks. A row that this version cannot read is left out and told: its model is wanted by
    /// intent and comes anew.
    pub fn all(&self) -> Result<BTreeMap<ModelName, State>, LedgerError> {
        self.ledger.transaction(|tx| {
            let mut models = BTreeMap::new();
            let mut statement = tx.prepare_cached("SELECT name, state FROM model_updates")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (name, text): (String, String) = (row.get(0)?, row.get(1)?);
                match (name.parse::<ModelName>(), serde_json::from_str(&text)) {
                    (Ok(name), Ok(state)) => drop(models.insert(name, state)),
                    (Err(error), _) => tracing::error!(name, %error, "the ledger holds a model with an impossible name"),
                    (_, Err(error)) => tracing::error!(name, %error, "what the ledger holds of a model cannot be read"),
                }
            }
            Ok(models)
        })
    }

    /// Keeps `state`; an empty one is forgotten. Durable on return.
    pub async fn write(&self, name: ModelName, state: &State) -> Result<(), LedgerError> {
        let text = if state.is_empty() { None } else { Some(text(state)?) };
        self.ledger.run(move |tx| put(tx, name.as_str(), text.as_deref())).await
    }
}

/// As it is written; equal texts need no write.
pub(crate) fn text(state: &State) -> Result<String, LedgerError> {
    serde_json::to_string(state).map_err(unreadable)
}

fn put(tx: &Transaction<'_>, name: &str, text: Option<&str>) -> Result<(), LedgerError> {
    match text {
        None => tx.execute("DELETE FROM model_updates WHERE name = ?1", [name])?,
        Some(text) => {
            let sql = "INSERT INTO model_updates (name, state) VALUES (?1, ?2)
                       ON CONFLICT (name) DO UPDATE SET state = excluded.state";
            tx.execute(sql, params![name, text])?
        }
    };
    Ok(())
}

fn take_over(tx: &Transaction<'_>) -> Result<(), LedgerError> {
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'model_slots'";
    if tx.query_row(sql, [], |_| Ok(())).optional()?.is_none() {
        return Ok(());
    }
    let mut models: BTreeMap<String, State> = BTreeMap::new();
    {
        let mut statement = tx.prepare("SELECT name, role, version, digest, manifest FROM model_slots")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (name, role, version): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let (digest, manifest): (String, String) = (row.get(3)?, row.get(4)?);
            let slot = Slot { version: version.cast_unsigned(), digest: digest.parse().map_err(unreadable)? };
            let kept = Kept {
                slot,
                manifest: serde_json::from_str(&manifest).map_err(unreadable)?,
                self_test: None,
                measures: None,
                since: Micros(0),
            };
            let state = models.entry(name).or_default();
            if role == "active" { state.answers = Some(kept) } else { state.before = Some(kept) }
        }
    }
    for (name, state) in models {
        put(tx, &name, Some(&text(&state)?))?;
    }
    Ok(tx.execute_batch("DROP TABLE model_slots")?)
}

fn unreadable(why: impl ToString) -> LedgerError {
    LedgerError::Row { what: "a model's state", why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::{Stage, Update};
    use aidos_protocol::artifact::Digest;
    use aidos_protocol::manifest::Manifest;
    use aidos_protocol::twin::DesiredModel;

    fn name() -> ModelName {
        "digits".parse().unwrap()
    }

    #[tokio::test]
    async fn a_state_is_there_after_a_kill_and_gone_once_it_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(Ledger::open(dir.path()).unwrap()).unwrap();
        let slot = Slot { version: 2, digest: Digest::of(b"two") };
        let update = Update::new(DesiredModel::new(3, Digest::of(b"three"), 5), Stage::Failed { reason: "no".into() });
        let kept = Kept { slot, manifest: Manifest::default(), self_test: None, measures: None, since: Micros(0) };
        let state = State { answers: Some(kept), update: Some(update), ..State::default() };
        journal.write(name(), &state).await.unwrap();
        let again = Journal::open(Ledger::open(dir.path()).unwrap()).unwrap();
        assert_eq!(again.all().unwrap(), BTreeMap::from([(name(), state)]));
        again.write(name(), &State::default()).await.unwrap();
        assert!(journal.all().unwrap().is_empty());
    }

    /// As agents of 0.1.0 wrote it.
    #[test]
    fn what_earlier_agents_kept_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        let table = "CREATE TABLE model_slots (name TEXT NOT NULL, role TEXT NOT NULL, version INTEGER NOT NULL,
            digest TEXT NOT NULL, manifest TEXT NOT NULL, PRIMARY KEY (name, role)) WITHOUT ROWID;";
        ledger.declare(table).unwrap();
        for (role, version) in [("active", 2), ("previous", 1)] {
            let row = params!["digits", role, version, Digest::of(role.as_bytes()).to_string(), "{}"];
            let sql = "INSERT INTO model_slots VALUES (?1, ?2, ?3, ?4, ?5)";
            ledger.transaction(|tx| Ok(tx.execute(sql, row).map(drop)?)).unwrap();
        }
        for _ in 0..2 {
            let state = Journal::open(ledger.clone()).unwrap().all().unwrap().remove(&name()).unwrap();
            assert_eq!(state.answers.unwrap().slot.version, 2);
            assert_eq!(state.before.unwrap().slot.version, 1);
        }
    }
}
