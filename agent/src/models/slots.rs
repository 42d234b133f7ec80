//! Which versions of which models this device last ran, so that it runs them again before it has any network.
//!
//! Invariant: a version is written here before it is activated, so a start after a crash never goes back behind what answered.

use super::plan::Slot;
use crate::state::{Ledger, LedgerError};
use aidos_protocol::ModelName;
use aidos_protocol::artifact::Digest;
use aidos_protocol::manifest::Manifest;
use rusqlite::{OptionalExtension as _, Transaction, params};
use std::collections::{BTreeMap, HashSet};

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS model_slots (
    name TEXT NOT NULL, role TEXT NOT NULL, version INTEGER NOT NULL, digest TEXT NOT NULL, manifest TEXT NOT NULL,
    PRIMARY KEY (name, role)) WITHOUT ROWID;";

/// One version with what is needed to load it.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Number and digest.
    pub slot: Slot,
    /// As the publisher declared it.
    pub manifest: Manifest,
}

/// What is kept of one model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeptModel {
    /// The version that answers.
    pub active: Option<Kept>,
    /// The version before it.
    pub previous: Option<Kept>,
}

/// The table of slots. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Slots {
    ledger: Ledger,
}

impl Slots {
    /// Opens the table in `ledger`.
    pub fn open(ledger: Ledger) -> Result<Self, LedgerError> {
        ledger.declare(SCHEMA)?;
        Ok(Self { ledger })
    }

    /// Everything that is kept. Blocks.
    pub fn all(&self) -> Result<BTreeMap<ModelName, KeptModel>, LedgerError> {
        self.ledger.transaction(|tx| {
            let mut models: BTreeMap<ModelName, KeptModel> = BTreeMap::new();
            let mut statement = tx.prepare_cached("SELECT name, role, version, digest, manifest FROM model_slots")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (name, role): (String, String) = (row.get(0)?, row.get(1)?);
                let name: ModelName = name.parse().map_err(unreadable)?;
                let kept = read(row.get(2)?, row.get(3)?, row.get(4)?)?;
                let model = models.entry(name).or_default();
                if role == "active" { model.active = Some(kept) } else { model.previous = Some(kept) }
            }
            Ok(models)
        })
    }

    /// Makes `kept` the active version of `name`; the one before it becomes the previous. Durable on return.
    pub async fn activate(&self, name: ModelName, kept: Kept) -> Result<(), LedgerError> {
        self.ledger
            .run(move |tx| {
                let active: Option<(i64, String)> = tx
                    .query_row(
                        "SELECT version, digest FROM model_slots WHERE name = ?1 AND role = 'active'",
                        [name.as_str()],
                        |row| Ok((row.get(0)?, row.get(1)?)),
                    )
                    .optional()?;
                let same = active == Some((kept.slot.version.cast_signed(), kept.slot.digest.to_string()));
                if active.is_some() && !same {
                    tx.execute("DELETE FROM model_slots WHERE name = ?1 AND role = 'previous'", [name.as_str()])?;
                    tx.execute("UPDATE model_slots SET role = 'previous' WHERE name = ?1 AND role = 'active'", [name.as_str()])?;
                }
                write(tx, &name, &kept)
            })
            .await
    }

    /// Forgets `name`.
    pub async fn forget(&self, name: ModelName) -> Result<(), LedgerError> {
        self.ledger.run(move |tx| Ok(tx.execute("DELETE FROM model_slots WHERE name = ?1", [name.as_str()]).map(drop)?)).await
    }

    /// The digests that are kept. Blocks.
    pub fn digests(&self) -> Result<HashSet<Digest>, LedgerError> {
        let all = self.all()?;
        Ok(all.into_values().flat_map(|model| [model.active, model.previous]).flatten().map(|kept| kept.slot.digest).collect())
    }
}

fn write(tx: &Transaction<'_>, name: &ModelName, kept: &Kept) -> Result<(), LedgerError> {
    let manifest = serde_json::to_string(&kept.manifest).map_err(unreadable)?;
    let sql = "INSERT INTO model_slots (name, role, version, digest, manifest) VALUES (?1, 'active', ?2, ?3, ?4)
               ON CONFLICT (name, role) DO UPDATE SET version = excluded.version, digest = excluded.digest, manifest = excluded.manifest";
    let Slot { version, digest } = kept.slot;
    tx.execute(sql, params![name.as_str(), version.cast_signed(), digest.to_string(), manifest])?;
    Ok(())
}

fn read(version: i64, digest: String, manifest: String) -> Result<Kept, LedgerError> {
    let slot = Slot { version: version.cast_unsigned(), digest: digest.parse().map_err(unreadable)? };
    Ok(Kept { slot, manifest: serde_json::from_str(&manifest).map_err(unreadable)? })
}

fn unreadable(why: impl ToString) -> LedgerError {
    LedgerError::Row { what: "a model's slot", why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(version: u64) -> Kept {
        Kept { slot: Slot { version, digest: Digest::of(&[version as u8]) }, manifest: Manifest::default() }
    }

    #[tokio::test]
    async fn the_version_before_the_active_one_is_remembered_also_after_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        let slots = Slots::open(Ledger::open(dir.path()).unwrap()).unwrap();
        let name: ModelName = "digits".parse().unwrap();
        for version in [1, 2, 2, 3] {
            slots.activate(name.clone(), kept(version)).await.unwrap();
        }
        let again = Slots::open(Ledger::open(dir.path()).unwrap()).unwrap();
        let expected = KeptModel { active: Some(kept(3)), previous: Some(kept(2)) };
        assert_eq!(again.all().unwrap(), BTreeMap::from([(name.clone(), expected)]));
        assert_eq!(again.digests().unwrap().len(), 2);
        again.forget(name).await.unwrap();
        assert!(slots.all().unwrap().is_empty());
    }
}
