//! Artifacts that are kept although nothing needs them yet: a bundle brought them ahead of their deployment.
//!
//! Invariant: a pin ends by itself, and all of them give way when a deployment needs the room.

use super::{Ledger, LedgerError};
use aidos_protocol::artifact::Digest;
use aidos_protocol::time::Micros;
use std::collections::HashSet;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS pins (digest TEXT PRIMARY KEY, until_us INTEGER NOT NULL) WITHOUT ROWID;";
/// The most pins: a few bundles of the largest kind. The ones that end first give way.
const MOST: i64 = 4_096;

/// The pins. Cheap to clone. Its methods block.
#[derive(Debug, Clone)]
pub struct Pins {
    ledger: Ledger,
}

impl Pins {
    /// Opens the table in `ledger`.
    pub fn open(ledger: Ledger) -> Result<Self, LedgerError> {
        ledger.declare(SCHEMA)?;
        Ok(Self { ledger })
    }

    /// Keeps `digests` until `until`.
    pub fn pin(&self, digests: &[Digest], until: Micros) -> Result<(), LedgerError> {
        let digests: Vec<String> = digests.iter().map(Digest::to_string).collect();
        self.ledger.transaction(|tx| {
            let sql = "INSERT INTO pins (digest, until_us) VALUES (?1, ?2)
                       ON CONFLICT (digest) DO UPDATE SET until_us = MAX(until_us, excluded.until_us)";
            for digest in &digests {
                tx.execute(sql, (digest, until.0))?;
            }
            let last = "DELETE FROM pins WHERE digest NOT IN (SELECT digest FROM pins ORDER BY until_us DESC LIMIT ?1)";
            Ok(tx.execute(last, [MOST]).map(drop)?)
        })
    }

    /// What is kept at `now`.
    pub fn kept(&self, now: Micros) -> Result<HashSet<Digest>, LedgerError> {
        self.ledger.transaction(|tx| {
            let mut statement = tx.prepare_cached("SELECT digest FROM pins WHERE until_us > ?1")?;
            let rows = statement.query_map([now.0], |row| row.get::<_, String>(0))?;
            let texts = rows.collect::<Result<Vec<_>, _>>()?;
            // A row that is no digest pins nothing.
            Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
        })
    }

    /// Ends all of them.
    pub fn clear(&self) -> Result<(), LedgerError> {
        self.ledger.transaction(|tx| Ok(tx.execute("DELETE FROM pins", []).map(drop)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_ends_by_itself_and_can_be_prolonged_never_shortened() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::open(Ledger::open(dir.path()).unwrap()).unwrap();
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        pins.pin(&[a, b], Micros(100)).unwrap();
        pins.pin(&[a], Micros(200)).unwrap();
        pins.pin(&[a], Micros(50)).unwrap();
        assert_eq!(pins.kept(Micros(99)).unwrap(), HashSet::from([a, b]));
        assert_eq!(pins.kept(Micros(150)).unwrap(), HashSet::from([a]));
        pins.clear().unwrap();
        assert!(pins.kept(Micros(0)).unwrap().is_empty());
    }
}
