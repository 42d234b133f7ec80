//! What belongs to an artifact on its way beside its own bytes: how much came by which line, and the files it is made from –
//! its list of chunks, a patch – which stay until it is complete.
//!
//! Invariant: an aid is of use to one artifact only, and goes with it.

use super::chunks::{ChunkError, Chunks, io};
use crate::fault;
use aidos_protocol::artifact::Digest;
use aidos_protocol::twin::Way;
use rusqlite::{OptionalExtension as _, params};
use std::collections::{HashMap, HashSet};

/// A transfer's row stays as long as its artifact does.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS transfers (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, fetched INTEGER NOT NULL,
  near INTEGER NOT NULL, way TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS aids (digest TEXT PRIMARY KEY, target TEXT NOT NULL) WITHOUT ROWID;";

/// Files below this size are no base: they come again in one answer.
const BASE_FROM: u64 = 64 << 10;

/// How an artifact came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Its bytes.
    pub size: u64,
    /// Bytes that came over the site's line for it.
    pub fetched: u64,
    /// Bytes of it that neighbours gave.
    pub near: u64,
    /// By which way it was completed; `None`: it is on its way still.
    pub way: Option<Way>,
}

fn word(way: Way) -> &'static str {
    match way {
        Way::Whole => "whole",
        Way::Chunks => "chunks",
        Way::Delta => "delta",
        Way::Neighbours => "neighbours",
    }
}

fn way(word: &str) -> Option<Way> {
    [Way::Whole, Way::Chunks, Way::Delta, Way::Neighbours].into_iter().find(|way| self::word(*way) == word)
}

impl Chunks {
    /// Counts bytes that came for `digest`, over all attempts; what a killed process had not counted yet is lost.
    pub fn count(&self, digest: Digest, size: u64, fetched: u64, near: u64) -> Result<(), ChunkError> {
        if fetched == 0 && near == 0 {
            return Ok(());
        }
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Ok(self.ledger.transaction(|tx| {
            let sql = "INSERT INTO transfers (digest, size, fetched, near, way) VALUES (?1, ?2, ?3, ?4, '')
                       ON CONFLICT (digest) DO UPDATE SET size = excluded.size, fetched = fetched + excluded.fetched,
                       near = near + excluded.near";
            Ok(tx.execute(sql, params![digest.to_string(), signed(size), signed(fetched), signed(near)]).map(drop)?)
        })?)
    }

    /// `digest` is complete, and came this way.
    pub fn came_by(&self, digest: Digest, size: u64, way: Way) -> Result<(), ChunkError> {
        Ok(self.ledger.transaction(|tx| {
            let sql = "INSERT INTO transfers (digest, size, fetched, near, way) VALUES (?1, ?2, 0, 0, ?3)
                       ON CONFLICT (digest) DO UPDATE SET size = excluded.size, way = excluded.way";
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            Ok(tx.execute(sql, params![digest.to_string(), size, word(way)]).map(drop)?)
        })?)
    }

    /// How `digest` came, as far as it was counted.
    pub fn tally(&self, digest: &Digest) -> Result<Option<Tally>, ChunkError> {
        Ok(self.ledger.transaction(|tx| {
            let sql = "SELECT size, fetched, near, way FROM transfers WHERE digest = ?1";
            let number = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(|number| u64::try_from(number).unwrap_or(0));
            let read = |row: &rusqlite::Row<'_>| {
                let way = way(&row.get::<_, String>(3)?);
                Ok(Tally { size: number(row, 0)?, fetched: number(row, 1)?, near: number(row, 2)?, way })
            };
            Ok(tx.query_row(sql, [digest.to_string()], read).optional()?)
        })?)
    }

    /// Keeps `aid`, there or on its way, until `target` is complete or nobody needs it.
    pub fn aid(&self, aid: Digest, target: Digest) -> Result<(), ChunkError> {
        Ok(self.ledger.transaction(|tx| {
            let sql =
                "INSERT INTO aids (digest, target) VALUES (?1, ?2) ON CONFLICT (digest) DO UPDATE SET target = excluded.target";
            Ok(tx.execute(sql, [aid.to_string(), target.to_string()]).map(drop)?)
        })?)
    }

    /// Removes one aid with all that came of it.
    pub fn drop_aid(&self, aid: &Digest) -> Result<(), ChunkError> {
        for path in [self.dir.join(aid.hex()), self.dir.join(format!("{}.part", aid.hex()))] {
            match fault::point("aid.remove").and_then(|()| std::fs::remove_file(&path)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(&path)(error)),
                _ => fault::after("aid.removed"),
            }
        }
        Ok(self.ledger.transaction(|tx| {
            tx.execute("DELETE FROM downloads WHERE digest = ?1", [aid.to_string()])?;
            Ok(tx.execute("DELETE FROM aids WHERE digest = ?1", [aid.to_string()]).map(drop)?)
        })?)
    }

    /// Removes what `target` was made from.
    pub fn drop_aids(&self, target: &Digest) -> Result<(), ChunkError> {
        for (aid, of) in self.aids()? {
            if of == *target {
                self.drop_aid(&aid)?;
            }
        }
        Ok(())
    }

    /// Every aid, with what it is for.
    pub(super) fn aids(&self) -> Result<HashMap<Digest, Digest>, ChunkError> {
        Ok(self.ledger.transaction(|tx| {
            let mut statement = tx.prepare_cached("SELECT digest, target FROM aids")?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            let texts = rows.collect::<Result<Vec<_>, _>>()?;
            // A row that is no digest helps nobody.
            Ok(texts.iter().filter_map(|(aid, target)| Some((aid.parse().ok()?, target.parse().ok()?))).collect())
        })?)
    }

    /// Forgets what belongs to artifacts that are neither here nor `wanted`.
    pub(super) fn forget_transfers(&self, wanted: impl Fn(&Digest) -> bool) -> Result<(), ChunkError> {
        let told: Vec<String> = self.ledger.transaction(|tx| {
            let mut statement = tx.prepare_cached("SELECT digest FROM transfers UNION SELECT target FROM aids")?;
            Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
        })?;
        let here = |digest: &Digest| self.path(digest).is_some() || self.part(digest).is_some();
        let gone: Vec<&String> =
            told.iter().filter(|text| text.parse().map_or(true, |digest| !wanted(&digest) && !here(&digest))).collect();
        if gone.is_empty() {
            return Ok(());
        }
        Ok(self.ledger.transaction(|tx| {
            for digest in gone {
                tx.execute("DELETE FROM transfers WHERE digest = ?1", [digest])?;
                tx.execute("DELETE FROM aids WHERE target = ?1", [digest])?;
            }
            Ok(())
        })?)
    }

    /// Whole files that an artifact of `size` bytes may have much in common with, the likeliest first and at most `most`: those in
    /// `kin`, which the caller knows to be related, then those of about the same size.
    pub fn bases(&self, kin: &[Digest], size: u64, most: usize) -> Result<Vec<Digest>, ChunkError> {
        let aids = self.aids()?;
        let mut others: Vec<_> =
            self.list()?.into_iter().filter(|(digest, length)| *length >= BASE_FROM && !aids.contains_key(digest)).collect();
        others.sort_unstable_by_key(|(digest, length)| (length.abs_diff(size), *digest));
        let there: HashSet<Digest> = others.iter().map(|(digest, _)| *digest).collect();
        let mut bases: Vec<Digest> = Vec::new();
        for digest in kin.iter().filter(|digest| there.contains(digest)).chain(others.iter().map(|(digest, _)| digest)) {
            if bases.len() < most && !bases.contains(digest) {
                bases.push(*digest);
            }
        }
        Ok(bases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Ledger;
    use std::path::Path;

    fn store(dir: &Path) -> Chunks {
        Chunks::open(dir, Ledger::open(dir).unwrap(), 1 << 30).unwrap()
    }

    #[test]
    fn bytes_are_counted_over_restarts_and_the_count_goes_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"weights");
        store(dir.path()).count(digest, 7, 3, 1).unwrap();
        assert_eq!(store(dir.path()).tally(&digest).unwrap().unwrap().way, None, "it is not complete");
        let store = store(dir.path());
        store.count(digest, 7, 2, 0).unwrap();
        store.import(digest, b"weights").unwrap();
        store.came_by(digest, 7, Way::Delta).unwrap();
        assert_eq!(store.tally(&digest).unwrap(), Some(Tally { size: 7, fetched: 5, near: 1, way: Some(Way::Delta) }));
        store.collect(&HashSet::new()).unwrap();
        assert_eq!(store.tally(&digest).unwrap(), None);
    }

    #[test]
    fn an_aid_stays_as_long_as_what_it_is_for_is_wanted_and_not_complete() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let (target, patch, list) = (Digest::of(b"target"), Digest::of(b"patch"), Digest::of(b"list"));
        let mut part = store.download(patch, 5).unwrap();
        store.aid(patch, target).unwrap();
        part.write(b"pa").unwrap();
        part.checkpoint().unwrap();
        drop(part);
        store.import(list, b"list").unwrap();
        store.aid(list, target).unwrap();
        let wanted = HashSet::from([target]);
        assert_eq!(store.collect(&wanted).unwrap(), 0);
        assert_eq!(store.download(patch, 5).unwrap().offset(), 2);
        store.drop_aids(&target).unwrap();
        assert_eq!((store.used().unwrap(), store.aids().unwrap().len()), (0, 0));
        // Nobody wants the target any more.
        store.import(list, b"list").unwrap();
        store.aid(list, target).unwrap();
        assert_eq!(store.collect(&HashSet::new()).unwrap(), 4);
        assert!(store.aids().unwrap().is_empty());
    }

    #[test]
    fn bases_are_kin_first_then_files_of_about_the_same_size_and_never_aids() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let import = |byte: u8, length: usize| {
            let bytes = vec![byte; length];
            store.import(Digest::of(&bytes), &bytes).unwrap();
            Digest::of(&bytes)
        };
        let (far, near, tiny) = (import(1, 500_000), import(2, 101_000), import(3, 10));
        let aid = import(4, 100_000);
        store.aid(aid, Digest::of(b"target")).unwrap();
        assert_eq!(store.bases(&[], 100_000, 8).unwrap(), [near, far]);
        assert_eq!(store.bases(&[tiny, Digest::of(b"gone"), far], 100_000, 8).unwrap(), [far, near]);
        assert_eq!(store.bases(&[far], 100_000, 1).unwrap(), [far]);
    }
}
