//! Draining this device: it takes no new inference requests over HTTP until an operator says otherwise.
//!
//! Invariant: on disk before it takes effect, so that a restart at any point goes on as it was told. About traffic alone: updates,
//! rollouts and an operator's own request from afar go on. It must never stop a request that is being answered.

use crate::serve::Traffic;
use crate::state::{Ledger, LedgerError};
use aidos_protocol::time::Micros;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Where it is kept: since when, in microseconds, big-endian. Absent: not drained.
const KEY: &str = "drained_since_us";

/// Told of each change: since when the device is drained.
pub type Told = Arc<dyn Fn(Option<Micros>) + Send + Sync>;

/// The device's drain. Cheap to clone.
#[derive(Clone)]
pub struct Drain {
    ledger: Ledger,
    traffic: Traffic,
    told: Told,
    /// One change at a time, so that disk and traffic agree.
    turn: Arc<Mutex<()>>,
}

impl Drain {
    /// As the last start left it. Blocks for the disk.
    pub fn open(ledger: Ledger, traffic: Traffic, told: Told) -> Result<Self, LedgerError> {
        if let Some(kept) = ledger.get(KEY)? {
            // What cannot be read says at least that the device was drained.
            let since = Micros(kept.try_into().map_or(0, i64::from_be_bytes));
            traffic.close(since);
            told(Some(since));
        }
        Ok(Self { ledger, traffic, told, turn: Arc::default() })
    }

    /// The traffic that it closes.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Takes no new requests from now on. Twice is the same as once. Returns since when.
    pub async fn drain(&self, now: Micros) -> Result<Micros, LedgerError> {
        let _turn = self.turn.lock().await;
        if let Some(since) = self.traffic.closed() {
            return Ok(since);
        }
        self.on_disk(move |ledger| ledger.put(KEY, &now.0.to_be_bytes())).await?;
        self.traffic.close(now);
        (self.told)(Some(now));
        tracing::info!("drained: no new inference requests are taken");
        Ok(now)
    }

    /// Takes requests again. Says whether it did not before.
    pub async fn undrain(&self) -> Result<bool, LedgerError> {
        let _turn = self.turn.lock().await;
        if self.traffic.closed().is_none() {
            return Ok(false);
        }
        self.on_disk(|ledger| ledger.remove(KEY)).await?;
        self.traffic.open();
        (self.told)(None);
        tracing::info!("undrained: inference requests are taken again");
        Ok(true)
    }

    async fn on_disk(&self, work: impl FnOnce(&Ledger) -> Result<(), LedgerError> + Send + 'static) -> Result<(), LedgerError> {
        let ledger = self.ledger.clone();
        tokio::task::spawn_blocking(move || work(&ledger)).await.unwrap_or(Err(LedgerError::Closed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Heard = Arc<std::sync::Mutex<Vec<Option<Micros>>>>;

    fn open(ledger: &Ledger) -> (Drain, Heard) {
        let told: Heard = Arc::default();
        let tell = Arc::clone(&told);
        let tell: Told = Arc::new(move |since| tell.lock().unwrap().push(since));
        (Drain::open(ledger.clone(), Traffic::default(), tell).unwrap(), told)
    }

    #[tokio::test]
    async fn a_drained_device_stays_so_over_restarts_until_it_is_undrained() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        let (first, told) = open(&ledger);
        assert_eq!(first.drain(Micros(5)).await.unwrap(), Micros(5));
        assert_eq!(first.drain(Micros(9)).await.unwrap(), Micros(5), "it keeps its begin");
        assert_eq!(*told.lock().unwrap(), [Some(Micros(5))]);
        let (second, told) = open(&ledger);
        assert_eq!(second.traffic().closed(), Some(Micros(5)));
        assert!(second.undrain().await.unwrap() && !second.undrain().await.unwrap());
        assert_eq!(*told.lock().unwrap(), [Some(Micros(5)), None]);
        assert_eq!(open(&ledger).0.traffic().closed(), None);
    }

    #[tokio::test]
    async fn what_cannot_be_kept_does_not_take_effect() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        let (drain, told) = open(&ledger);
        let broken = |tx: &rusqlite::Transaction<'_>| Ok(tx.execute_batch("ALTER TABLE kv RENAME TO gone")?);
        ledger.transaction(broken).unwrap();
        assert!(drain.drain(Micros(5)).await.is_err());
        assert!(drain.traffic().closed().is_none() && told.lock().unwrap().is_empty());
    }
}
