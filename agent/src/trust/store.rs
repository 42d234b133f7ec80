//! The trusted metadata in the ledger. All of it changes in one transaction, so that no crash leaves versions that do not
//! belong together.

use crate::state::{Ledger, LedgerError};
use aidos_protocol::DeviceId;
use aidos_protocol::time::Micros;
use aidos_protocol::trust::{TrustError, Trusted};
use rusqlite::OptionalExtension as _;
use std::collections::BTreeMap;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS trust (role TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trust_time (id INTEGER PRIMARY KEY CHECK (id = 0), seen_us INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS trust_device (id INTEGER PRIMARY KEY CHECK (id = 0), device TEXT NOT NULL);";

const KEEP_TIME: &str =
    "INSERT INTO trust_time (id, seen_us) VALUES (0, ?1) ON CONFLICT (id) DO UPDATE SET seen_us = excluded.seen_us";

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TrustStore {
    ledger: Ledger,
}

impl TrustStore {
    /// Opens the store.
    pub fn open(ledger: Ledger) -> Result<Self, LedgerError> {
        ledger.declare(SCHEMA)?;
        Ok(Self { ledger })
    }

    /// Makes this the store of `device`. What another one trusted, before a person let this machine join anew, is forgotten: that
    /// is the one way to begin again.
    pub async fn bind(&self, device: DeviceId) -> Result<(), LedgerError> {
        let device = device.to_string();
        let work = move |tx: &rusqlite::Transaction<'_>| {
            let known: Option<String> = tx.query_row("SELECT device FROM trust_device", [], |row| row.get(0)).optional()?;
            if known.as_ref().is_some_and(|known| *known != device) {
                tx.execute("DELETE FROM trust", [])?;
                tx.execute("DELETE FROM trust_time", [])?;
            }
            let put =
                "INSERT INTO trust_device (id, device) VALUES (0, ?1) ON CONFLICT (id) DO UPDATE SET device = excluded.device";
            tx.execute(put, [device])?;
            Ok(())
        };
        self.ledger.run(work).await
    }

    /// Keeps the time that was come to, so that a restart does not fall far behind it.
    pub async fn keep_time(&self, seen: Micros) -> Result<(), LedgerError> {
        self.ledger
            .run(move |tx| {
                tx.prepare_cached(KEEP_TIME)?.execute([seen.0])?;
                Ok(())
            })
            .await
    }

    /// What is trusted; `None` on a device that was not given a root yet.
    pub async fn load(&self) -> Result<Option<Result<Trusted, TrustError>>, LedgerError> {
        let files = self.ledger.run(|tx| {
            let mut query = tx.prepare_cached("SELECT role, body FROM trust")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<BTreeMap<String, Vec<u8>>, _>>()?)
        });
        let files = files.await?;
        Ok((!files.is_empty()).then(|| Trusted::open(&files)))
    }

    /// The trusted time that an earlier start had come to.
    pub async fn seen(&self) -> Result<Option<Micros>, LedgerError> {
        self.ledger
            .run(|tx| Ok(tx.query_row("SELECT seen_us FROM trust_time", [], |row| row.get(0).map(Micros)).optional()?))
            .await
    }

    /// Keeps exactly `trusted` and the time that it was judged at. Rows that have not changed are not written.
    pub async fn save(&self, trusted: &Trusted, seen: Micros) -> Result<(), LedgerError> {
        let files: BTreeMap<String, Vec<u8>> = trusted.files().map(|(role, body)| (role.to_owned(), body.to_vec())).collect();
        let work = move |tx: &rusqlite::Transaction<'_>| {
            let known = {
                let mut query = tx.prepare_cached("SELECT role FROM trust")?;
                let rows = query.query_map([], |row| row.get(0))?;
                rows.collect::<Result<Vec<String>, _>>()?
            };
            for role in known.iter().filter(|role| !files.contains_key(*role)) {
                tx.prepare_cached("DELETE FROM trust WHERE role = ?1")?.execute([role])?;
            }
            let put = "INSERT INTO trust (role, body) VALUES (?1, ?2)
                ON CONFLICT (role) DO UPDATE SET body = excluded.body WHERE body <> excluded.body";
            for (role, body) in &files {
                tx.prepare_cached(put)?.execute(rusqlite::params![role, body])?;
            }
            tx.prepare_cached(KEEP_TIME)?.execute([seen.0])?;
            Ok(())
        };
        self.ledger.run(work).await
    }
}
