//! The trusted metadata in the ledger. All of it changes in one transaction, so that no crash leaves versions that do not
//! belong together.

use crate::state::{Ledger, LedgerError};
use aidos_protocol::time::Micros;
use aidos_protocol::trust::{TrustError, Trusted};
use rusqlite::OptionalExtension as _;
use std::collections::BTreeMap;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS trust (role TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trust_time (id INTEGER PRIMARY KEY CHECK (id = 0), seen_us INTEGER NOT NULL);";

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
            let time =
                "INSERT INTO trust_time (id, seen_us) VALUES (0, ?1) ON CONFLICT (id) DO UPDATE SET seen_us = excluded.seen_us";
            tx.prepare_cached(time)?.execute([seen.0])?;
            Ok(())
        };
        self.ledger.run(work).await
    }
}
