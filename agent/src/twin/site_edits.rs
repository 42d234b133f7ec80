//! Edits made at this device that the plane does not hold yet, in the ledger. Each is the signed change as it travels, with the
//! edits beside it for people, and it keeps the epoch it was made on: the plane merges it there.

use crate::state::LedgerError;
use aidos_protocol::frame::SiteChange;
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{ChangeHash, Edit};
use rusqlite::{Transaction, params};

/// Edits that may wait: years of a person's edits, and a bound for a script gone wild.
pub(super) const MAX_PENDING: usize = 1_024;
/// Refused edits kept for people to see.
const MAX_REFUSED: usize = 64;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS intent (id INTEGER PRIMARY KEY CHECK (id = 1), document BLOB NOT NULL, run INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS site_edits (
  number     INTEGER PRIMARY KEY AUTOINCREMENT,
  hash       BLOB    NOT NULL UNIQUE,
  epoch      INTEGER NOT NULL,
  change     BLOB    NOT NULL,
  user       TEXT    NOT NULL,
  key_id     BLOB    NOT NULL,
  signature  BLOB    NOT NULL,
  edits      TEXT    NOT NULL,
  made_us    INTEGER NOT NULL,
  refused    TEXT
);";

/// An edit that waits for the plane.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteEdit {
    pub(super) hash: ChangeHash,
    pub(super) epoch: u32,
    pub(super) change: Vec<u8>,
    pub(super) key_id: Vec<u8>,
    pub(super) signature: Vec<u8>,
    /// Who made it.
    pub user: String,
    /// What it does.
    pub edits: Vec<Edit>,
    /// When.
    pub made: Micros,
}

impl SiteEdit {
    pub(super) fn frame(&self) -> SiteChange {
        SiteChange {
            change: self.change.clone().into(),
            user: self.user.clone(),
            key_id: self.key_id.clone().into(),
            signature: self.signature.clone().into(),
        }
    }
}

/// An edit that the plane refused.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusedEdit {
    /// Who made it.
    pub user: String,
    /// What it would have done.
    pub edits: Vec<Edit>,
    /// When it was made.
    pub made: Micros,
    /// Why it was refused.
    pub reason: String,
}

fn edits(text: &str) -> Result<Vec<Edit>, LedgerError> {
    serde_json::from_str(text).map_err(|e| LedgerError::Row { what: "a site edit", why: e.to_string() })
}

/// The document and the author's run; `None` before the first was written.
pub(super) fn document(tx: &Transaction<'_>) -> Result<Option<(Vec<u8>, u32)>, LedgerError> {
    let mut statement = tx.prepare_cached("SELECT document, run FROM intent WHERE id = 1")?;
    let mut rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.next().transpose()?)
}

pub(super) fn put_document(tx: &Transaction<'_>, document: &[u8], run: u32) -> Result<(), LedgerError> {
    let sql = "INSERT INTO intent (id, document, run) VALUES (1, ?1, ?2) \
               ON CONFLICT (id) DO UPDATE SET document = excluded.document, run = excluded.run";
    tx.prepare_cached(sql)?.execute(params![document, run])?;
    Ok(())
}

/// All that wait, oldest first.
pub(super) fn pending(tx: &Transaction<'_>) -> Result<Vec<SiteEdit>, LedgerError> {
    let sql = "SELECT hash, epoch, change, user, key_id, signature, edits, made_us FROM site_edits \
               WHERE refused IS NULL ORDER BY number";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut pending = Vec::new();
    while let Some(row) = rows.next()? {
        pending.push(SiteEdit {
            hash: ChangeHash(row.get(0)?),
            epoch: row.get(1)?,
            change: row.get(2)?,
            user: row.get(3)?,
            key_id: row.get(4)?,
            signature: row.get(5)?,
            edits: edits(&row.get::<_, String>(6)?)?,
            made: Micros(row.get(7)?),
        });
    }
    Ok(pending)
}

pub(super) fn insert(tx: &Transaction<'_>, edit: &SiteEdit) -> Result<(), LedgerError> {
    let sql = "INSERT INTO site_edits (hash, epoch, change, user, key_id, signature, edits, made_us) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let text = serde_json::to_string(&edit.edits).expect("edits have only text keys");
    let made = edit.made.0;
    tx.execute(sql, params![&edit.hash.0[..], edit.epoch, edit.change, edit.user, edit.key_id, edit.signature, text, made])?;
    Ok(())
}

/// The plane holds it.
pub(super) fn remove(tx: &Transaction<'_>, hash: &ChangeHash) -> Result<(), LedgerError> {
    tx.prepare_cached("DELETE FROM site_edits WHERE hash = ?1 AND refused IS NULL")?.execute(params![&hash.0[..]])?;
    Ok(())
}

/// The plane refused it; it is kept for people, the oldest making room.
pub(super) fn refuse(tx: &Transaction<'_>, hash: &ChangeHash, reason: &str) -> Result<(), LedgerError> {
    tx.execute("UPDATE site_edits SET refused = ?2 WHERE hash = ?1", params![&hash.0[..], reason])?;
    let sql = "DELETE FROM site_edits WHERE refused IS NOT NULL AND number NOT IN \
               (SELECT number FROM site_edits WHERE refused IS NOT NULL ORDER BY number DESC LIMIT ?1)";
    tx.execute(sql, params![i64::try_from(MAX_REFUSED).unwrap_or(i64::MAX)])?;
    Ok(())
}

/// What was refused, newest first.
pub(super) fn refused(tx: &Transaction<'_>) -> Result<Vec<RefusedEdit>, LedgerError> {
    let sql = "SELECT user, edits, made_us, refused FROM site_edits WHERE refused IS NOT NULL ORDER BY number DESC";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut list = Vec::new();
    while let Some(row) = rows.next()? {
        let (user, text, made, reason) = (row.get(0)?, row.get::<_, String>(1)?, Micros(row.get(2)?), row.get(3)?);
        list.push(RefusedEdit { user, edits: edits(&text)?, made, reason });
    }
    Ok(list)
}
