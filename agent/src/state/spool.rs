//! The spool of telemetry: samples wait here until the plane has them, within bounds, the oldest dropped first and counted.
//!
//! Invariants: a sequence number is given to one sample only, also across a crash, because numbers are reserved on disk in
//! blocks before they are given; what is dropped unsent is counted for ever. A kill loses at most what was not flushed yet:
//! [`FLUSH_SAMPLES`] samples or [`FLUSH_AFTER_US`]. A device that is online writes no sample to its flash at all, as the
//! plane has acknowledged it before it is due.

use super::ledger::{self, Ledger, LedgerError};
use crate::link::{PortError, SpoolPort};
use aidos_protocol::frame::{self, Sample, Telemetry};
use aidos_protocol::time::Micros;
use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Transaction, params};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// Samples held in memory before they are written.
const FLUSH_SAMPLES: usize = 6;
/// Age of the oldest sample in memory at which it is written, in microseconds.
const FLUSH_AFTER_US: i64 = 60_000_000;
/// Sequence numbers reserved at once: one small write per 64 samples, and a kill skips fewer than 64 numbers.
const RESERVE: u64 = 64;
/// What a stored sample takes beside its values: keys, row header, its share of the page.
const ROW_BYTES: u64 = 32;
/// Samples that one flush drops for their age. In steady state a flush makes as many old as it adds; the bound is for a
/// clock that jumps ahead for an hour, which must not empty the spool.
const AGED_PER_FLUSH: i64 = 64;
/// Bytes of one batch: half a frame leaves room for names and for the encoding.
const BATCH_BYTES: usize = frame::MAX_FRAME_BYTES / 2;
/// Acknowledged numbers above this are not believed.
const MAX_SEQ: u64 = 1 << 48;

const NEXT_KEY: &str = "spool.reserved";
const LOST_KEY: &str = "spool.lost";

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS spool_names (id INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS spool (seq INTEGER PRIMARY KEY, time_us INTEGER NOT NULL, names INTEGER NOT NULL, samples BLOB NOT NULL);";

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Bytes of stored samples.
    pub bytes: u64,
    /// Samples.
    pub count: u64,
    /// Age of the oldest against the newest, in seconds.
    pub age_s: u64,
}

impl Default for SpoolLimits {
    /// 16 MiB, which holds about eight days of thirty metrics every ten seconds; at most thirty days.
    fn default() -> Self {
        Self { bytes: 16 << 20, count: 300_000, age_s: 30 * 86_400 }
    }
}

/// How the spool fares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpoolStats {
    /// Samples that wait, in memory and on disk.
    pub waiting: u64,
    /// Their bytes, as they are stored.
    pub bytes: u64,
    /// Samples dropped unsent over the device's life.
    pub lost_samples: u64,
    /// Bytes dropped unsent over the device's life.
    pub lost_bytes: u64,
    /// The newest sequence number given.
    pub newest: u64,
}

/// The spool. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool {
    ledger: Ledger,
    limits: SpoolLimits,
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// Not written yet; sequence numbers above every stored one.
    fresh: VecDeque<Row>,
    next: u64,
    reserved: u64,
    stored: u64,
    bytes: u64,
    lost_samples: u64,
    lost_bytes: u64,
}

#[derive(Debug, Clone)]
struct Row {
    seq: u64,
    time: Micros,
    names: Arc<[String]>,
    values: Vec<f64>,
}

impl State {
    fn stats(&self) -> SpoolStats {
        SpoolStats {
            waiting: self.stored + self.fresh.len() as u64,
            bytes: self.bytes + self.fresh.iter().map(Row::bytes).sum::<u64>(),
            lost_samples: self.lost_samples,
            lost_bytes: self.lost_bytes,
            newest: self.next.saturating_sub(1),
        }
    }
}

impl Row {
    fn bytes(&self) -> u64 {
        self.values.len() as u64 * 8 + ROW_BYTES
    }
}

impl Spool {
    /// Opens the spool in `ledger`.
    pub fn open(ledger: Ledger, limits: SpoolLimits) -> Result<Self, LedgerError> {
        ledger.declare(SCHEMA)?;
        let state = ledger.transaction(|tx| {
            let reserved = match ledger::get(tx, NEXT_KEY)? {
                Some(bytes) => ledger::read_u64("the spool's number", &bytes)?,
                None => ledger::first_of_a_new_ledger(),
            };
            let lost = ledger::get(tx, LOST_KEY)?.unwrap_or_else(|| vec![0; 16]);
            let (samples, bytes) = lost.split_at(lost.len().min(8));
            let (stored, size) = measure(tx)?;
            Ok(State {
                fresh: VecDeque::new(),
                next: reserved,
                reserved,
                stored,
                bytes: size,
                lost_samples: ledger::read_u64("the spool's losses", samples)?,
                lost_bytes: ledger::read_u64("the spool's losses", bytes)?,
            })
        })?;
        let changed = Arc::new(watch::Sender::new(state.next));
        Ok(Self { ledger, limits, state: Arc::new(Mutex::new(state)), changed })
    }

    /// Adds a sample of `values`, which stand in the order of `names`. Returns its sequence number.
    pub async fn push(&self, time: Micros, names: Arc<[String]>, values: Vec<f64>) -> Result<u64, LedgerError> {
        let mut state = self.state.lock().await;
        if state.next == state.reserved {
            let reserved = state.reserved + RESERVE;
            let noted = self.ledger.run(move |tx| ledger::put(tx, NEXT_KEY, &reserved.to_be_bytes())).await;
            if let Err(error) = noted {
                // Without a number that is safe to give, the sample cannot be kept.
                state.lost_samples += 1;
                state.lost_bytes += values.len() as u64 * 8 + ROW_BYTES;
                return Err(error);
            }
            state.reserved = reserved;
        }
        let seq = state.next;
        state.next += 1;
        state.fresh.push_back(Row { seq, time, names, values });
        let oldest = state.fresh.front().map_or(time, |row| row.time);
        let due = state.fresh.len() >= FLUSH_SAMPLES || time.0.saturating_sub(oldest.0) >= FLUSH_AFTER_US;
        let flushed = if due { self.flush_locked(&mut state).await } else { Ok(()) };
        if flushed.is_err() {
            // A full disk must not become a full memory: beyond a few flushes' worth the oldest go.
            while state.fresh.len() > FLUSH_SAMPLES * 10 {
                if let Some(row) = state.fresh.pop_front() {
                    state.lost_samples += 1;
                    state.lost_bytes += row.bytes();
                }
            }
        }
        drop(state);
        self.changed.send_replace(seq);
        flushed.map(|()| seq)
    }

    /// Writes what is in memory and returns the numbers that were reserved and not given. The shutdown calls it.
    pub async fn close(&self) -> Result<(), LedgerError> {
        let mut state = self.state.lock().await;
        self.flush_locked(&mut state).await?;
        let next = state.next;
        self.ledger.run(move |tx| ledger::put(tx, NEXT_KEY, &next.to_be_bytes())).await?;
        state.reserved = next;
        Ok(())
    }

    /// How the spool fares.
    pub async fn stats(&self) -> SpoolStats {
        self.state.lock().await.stats()
    }

    /// [`Spool::stats`] without waiting; `None` while a sample is being written.
    pub fn stats_now(&self) -> Option<SpoolStats> {
        self.state.try_lock().ok().map(|state| state.stats())
    }

    async fn flush_locked(&self, state: &mut State) -> Result<(), LedgerError> {
        if state.fresh.is_empty() {
            return Ok(());
        }
        let (rows, limits) = (state.fresh.clone(), self.limits);
        let mut after = State { fresh: VecDeque::new(), ..state.clone() };
        *state = self
            .ledger
            .run(move |tx| {
                for row in &rows {
                    insert(tx, row)?;
                    after.stored += 1;
                    after.bytes += row.bytes();
                }
                let newest = rows.back().map_or(0, |row| row.time.0);
                evict(tx, &mut after, limits, newest)?;
                Ok(after)
            })
            .await?;
        Ok(())
    }
}

fn insert(tx: &Transaction<'_>, row: &Row) -> Result<(), LedgerError> {
    let names =
        serde_json::to_string(&row.names[..]).map_err(|e| LedgerError::Row { what: "metric names", why: e.to_string() })?;
    let known: Option<i64> =
        tx.prepare_cached("SELECT id FROM spool_names WHERE names = ?1")?.query_row([&names], |r| r.get(0)).optional()?;
    let id = match known {
        Some(id) => id,
        None => {
            tx.execute("DELETE FROM spool_names WHERE id NOT IN (SELECT names FROM spool)", [])?;
            tx.execute("INSERT INTO spool_names (names) VALUES (?1)", [&names])?;
            tx.last_insert_rowid()
        }
    };
    let values: Vec<u8> = row.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tx.prepare_cached("INSERT INTO spool (seq, time_us, names, samples) VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        row.seq.cast_signed(),
        row.time.0,
        id,
        values
    ])?;
    Ok(())
}

/// Drops the oldest until the limits hold, and counts them.
fn evict(tx: &Transaction<'_>, state: &mut State, limits: SpoolLimits, newest_us: i64) -> Result<(), LedgerError> {
    let horizon = newest_us.saturating_sub_unsigned(limits.age_s.saturating_mul(1_000_000));
    let mut aged = 0;
    loop {
        let oldest: Option<(i64, i64, u64)> = tx
            .prepare_cached("SELECT seq, time_us, LENGTH(samples) FROM spool ORDER BY seq LIMIT 1")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?.cast_unsigned())))
            .optional()?;
        let Some((seq, time_us, length)) = oldest else { break };
        let old = time_us < horizon && aged < AGED_PER_FLUSH;
        if !old && state.bytes <= limits.bytes && state.stored <= limits.count {
            break;
        }
        aged += i64::from(old);
        tx.prepare_cached("DELETE FROM spool WHERE seq = ?1")?.execute([seq])?;
        state.stored -= 1;
        state.bytes = state.bytes.saturating_sub(length + ROW_BYTES);
        state.lost_samples += 1;
        state.lost_bytes += length + ROW_BYTES;
    }
    if state.lost_samples > 0 {
        let lost = [state.lost_samples.to_be_bytes(), state.lost_bytes.to_be_bytes()].concat();
        ledger::put(tx, LOST_KEY, &lost)?;
    }
    Ok(())
}

fn measure(tx: &Transaction<'_>) -> Result<(u64, u64), LedgerError> {
    let sql = "SELECT COUNT(*), COALESCE(SUM(LENGTH(samples)), 0) FROM spool";
    let (count, bytes): (i64, i64) = tx.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let count = count.cast_unsigned();
    Ok((count, bytes.cast_unsigned() + count * ROW_BYTES))
}

fn stored_after(tx: &Transaction<'_>, after: u64, most: usize) -> Result<Vec<Row>, LedgerError> {
    let sql = "SELECT s.seq, s.time_us, n.names, s.samples FROM spool s JOIN spool_names n ON n.id = s.names
               WHERE s.seq > ?1 ORDER BY s.seq LIMIT ?2";
    let mut statement = tx.prepare_cached(sql)?;
    let mut found = statement.query(params![after.min(MAX_SEQ).cast_signed(), most as i64])?;
    let mut rows: Vec<Row> = Vec::new();
    let mut last: Option<(String, Arc<[String]>)> = None;
    while let Some(row) = found.next()? {
        let text: String = row.get(2)?;
        let names = match &last {
            Some((same, names)) if *same == text => Arc::clone(names),
            Some(_) => break,
            None => {
                let list: Vec<String> = serde_json::from_str(&text)
                    .map_err(|error| LedgerError::Row { what: "metric names", why: error.to_string() })?;
                let names: Arc<[String]> = list.into();
                last = Some((text, Arc::clone(&names)));
                names
            }
        };
        let blob: Vec<u8> = row.get(3)?;
        let values = blob.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("chunks of eight"))).collect();
        rows.push(Row { seq: row.get::<_, i64>(0)?.cast_unsigned(), time: Micros(row.get(1)?), names, values });
    }
    Ok(rows)
}

#[async_trait]
impl SpoolPort for Spool {
    async fn batch(&self, after: u64, max_samples: usize) -> Result<Option<Telemetry>, PortError> {
        let mut state = self.state.lock().await;
        if after >= state.next && after < MAX_SEQ {
            // The plane knows numbers that this ledger never gave: it was lost, and the clock stands behind. Go on above them.
            state.next = after + 1;
            state.reserved = state.next;
            return Ok(None);
        }
        let most = max_samples.min(frame::MAX_SAMPLES);
        let mut rows = Vec::new();
        if state.stored > 0 {
            rows = self.ledger.run(move |tx| stored_after(tx, after, most)).await.map_err(PortError::new)?;
        }
        // Memory follows only when the disk has been read to its end.
        if rows.last().map_or(after, |row| row.seq) >= newest_stored(&state) || rows.is_empty() {
            rows.extend(state.fresh.iter().filter(|row| row.seq > after).cloned());
        }
        let Some(first) = rows.first() else { return Ok(None) };
        let names = Arc::clone(&first.names);
        let mut size = 0;
        let samples: Vec<Sample> = rows
            .into_iter()
            .take(most)
            .take_while(|row| {
                size += row.values.len() * 8 + ROW_BYTES as usize;
                row.names == names && size <= BATCH_BYTES
            })
            .map(|row| Sample { seq: row.seq, time_us: row.time.0, values: row.values })
            .collect();
        let (lost_samples, lost_bytes) = (state.lost_samples, state.lost_bytes);
        Ok(Some(Telemetry { names: names.to_vec(), samples, lost_samples, lost_bytes }))
    }

    async fn ack(&self, seq: u64) -> Result<(), PortError> {
        let mut state = self.state.lock().await;
        while state.fresh.front().is_some_and(|row| row.seq <= seq) {
            state.fresh.pop_front();
        }
        if state.stored > 0 {
            let (stored, bytes) = self
                .ledger
                .run(move |tx| {
                    tx.prepare_cached("DELETE FROM spool WHERE seq <= ?1")?.execute([seq.min(MAX_SEQ).cast_signed()])?;
                    measure(tx)
                })
                .await
                .map_err(PortError::new)?;
            (state.stored, state.bytes) = (stored, bytes);
        }
        Ok(())
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// The highest sequence number that may be on disk: all in memory are above it.
fn newest_stored(state: &State) -> u64 {
    state.fresh.front().map_or(state.next, |row| row.seq).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Arc<[String]> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn open(dir: &std::path::Path, limits: SpoolLimits) -> Spool {
        Spool::open(Ledger::open(dir).unwrap(), limits).unwrap()
    }

    async fn seqs(spool: &Spool, after: u64) -> Vec<u64> {
        let batch = spool.batch(after, 1_000).await.unwrap();
        batch.map(|b| b.samples.iter().map(|s| s.seq).collect()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_sequence_number_is_never_given_twice_whether_closed_or_killed() {
        let dir = tempfile::tempdir().unwrap();
        let mut last = 0;
        for round in 0..10 {
            let spool = open(dir.path(), SpoolLimits::default());
            for n in 0..round * 3 {
                let seq = spool.push(Micros(n), names(&["cpu"]), vec![1.0]).await.unwrap();
                assert!(seq > last);
                last = seq;
            }
            if round % 2 == 0 {
                spool.close().await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_kill_loses_at_most_what_was_not_flushed() {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path(), SpoolLimits::default());
        for n in 0..20 {
            spool.push(Micros(n), names(&["cpu"]), vec![n as f64]).await.unwrap();
        }
        let killed = open(dir.path(), SpoolLimits::default());
        assert!(killed.stats().await.waiting >= 20 - FLUSH_SAMPLES as u64);
        spool.close().await.unwrap();
        let closed = open(dir.path(), SpoolLimits::default());
        assert_eq!(closed.stats().await.waiting, 20);
    }

    #[tokio::test]
    async fn samples_come_oldest_first_from_disk_and_memory_and_go_when_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path(), SpoolLimits::default());
        let mut given = Vec::new();
        for n in 0..9 {
            given.push(spool.push(Micros(n), names(&["cpu"]), vec![n as f64]).await.unwrap());
        }
        assert_eq!(seqs(&spool, 0).await, given);
        assert_eq!(seqs(&spool, given[3]).await, given[4..]);
        spool.ack(given[6]).await.unwrap();
        spool.ack(given[6]).await.unwrap();
        assert_eq!(seqs(&spool, 0).await, given[7..]);
        assert_eq!(spool.stats().await.waiting, 2);
    }

    #[tokio::test]
    async fn a_batch_never_mixes_names() {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path(), SpoolLimits::default());
        let mut given = Vec::new();
        for n in 0..14 {
            let list = if n % 7 < 5 { names(&["a"]) } else { names(&["a", "b"]) };
            let values = vec![0.0; list.len()];
            given.push(spool.push(Micros(n), list, values).await.unwrap());
        }
        let mut after = 0;
        let mut seen = Vec::new();
        while let Some(batch) = spool.batch(after, 1_000).await.unwrap() {
            assert!(batch.samples.iter().all(|s| s.values.len() == batch.names.len()));
            after = batch.samples.last().unwrap().seq;
            seen.extend(batch.samples.iter().map(|s| s.seq));
        }
        assert_eq!(seen, given);
    }

    #[tokio::test]
    async fn the_oldest_are_dropped_beyond_each_bound_and_counted_across_restarts() {
        let ample = SpoolLimits::default();
        for limits in
            [SpoolLimits { bytes: 400, ..ample }, SpoolLimits { count: 10, ..ample }, SpoolLimits { age_s: 10, ..ample }]
        {
            let dir = tempfile::tempdir().unwrap();
            let spool = open(dir.path(), limits);
            let mut last = 0;
            for n in 0..60 {
                last = spool.push(Micros(n * 1_000_000), names(&["cpu"]), vec![0.0]).await.unwrap();
            }
            spool.close().await.unwrap();
            let stats = spool.stats().await;
            assert!(stats.waiting <= 12, "{limits:?}: {stats:?}");
            assert_eq!(stats.waiting + stats.lost_samples, 60, "{limits:?}");
            assert_eq!(seqs(&spool, 0).await.last(), Some(&last));
            let again = open(dir.path(), limits).stats().await;
            assert_eq!((again.lost_samples, again.lost_bytes), (stats.lost_samples, stats.lost_bytes));
        }
    }

    #[tokio::test]
    async fn a_full_disk_fills_no_memory_and_what_it_cost_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        let spool = Spool::open(ledger.clone(), SpoolLimits::default()).unwrap();
        ledger.fill_up(true);
        let (wide, mut failed) = (vec![0.5; 200], 0);
        let list: Arc<[String]> = (0..200).map(|n| format!("metric.{n}")).collect();
        for n in 0..400 {
            failed += u64::from(spool.push(Micros(n), Arc::clone(&list), wide.clone()).await.is_err());
        }
        assert!(failed > 0);
        let stats = spool.stats().await;
        assert!(stats.waiting <= FLUSH_SAMPLES as u64 * 10 && stats.lost_samples > 0, "{stats:?}");
        ledger.fill_up(false);
        spool.push(Micros(500), list, wide).await.unwrap();
        spool.close().await.unwrap();
        assert_eq!(open(dir.path(), SpoolLimits::default()).stats().await.lost_samples, stats.lost_samples);
    }

    #[tokio::test]
    async fn a_clock_that_jumps_ahead_does_not_empty_the_spool() {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path(), SpoolLimits::default());
        for n in 0..600 {
            spool.push(Micros(n), names(&["cpu"]), vec![0.0]).await.unwrap();
        }
        spool.push(Micros(i64::MAX / 2), names(&["cpu"]), vec![0.0]).await.unwrap();
        spool.close().await.unwrap();
        assert!(spool.stats().await.waiting > 500);
    }

    #[tokio::test]
    async fn numbers_go_on_above_what_the_plane_has_seen() {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path(), SpoolLimits::default());
        let ahead = spool.stats().await.newest + 1_000_000;
        assert!(spool.batch(ahead, 10).await.unwrap().is_none());
        assert_eq!(spool.push(Micros(1), names(&["cpu"]), vec![1.0]).await.unwrap(), ahead + 1);
        assert_eq!(seqs(&spool, ahead).await, [ahead + 1]);
        assert!(spool.batch(u64::MAX, 10).await.unwrap().is_none());
    }
}
