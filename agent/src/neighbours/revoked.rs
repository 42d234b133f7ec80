//! The devices of the own tenant that the control plane has revoked: they are no neighbours, although their certificates are in
//! force. Kept in the ledger, so that a device that is cut off still knows.
//!
//! Invariant: what [`Revoked::replace`] returned from is on disk, and holds.

use crate::link::{PortError, RevocationPort};
use crate::state::{Ledger, LedgerError};
use aidos_protocol::DeviceId;
use aidos_protocol::frame::{self, Revocations};
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS revoked_devices (device TEXT PRIMARY KEY) WITHOUT ROWID;";

/// The list. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Revoked {
    ledger: Ledger,
    devices: Arc<RwLock<BTreeSet<DeviceId>>>,
}

impl Revoked {
    /// Opens the table in `ledger`. Blocks.
    pub fn open(ledger: Ledger) -> Result<Self, LedgerError> {
        ledger.declare(SCHEMA)?;
        let devices = ledger.transaction(|tx| {
            let mut statement = tx.prepare("SELECT device FROM revoked_devices")?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            let texts = rows.collect::<Result<Vec<_>, _>>()?;
            // A row that is no id is nobody's.
            Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
        })?;
        Ok(Self { ledger, devices: Arc::new(RwLock::new(devices)) })
    }

    /// Whether `device` is on it.
    pub fn contains(&self, device: DeviceId) -> bool {
        self.devices.read().unwrap_or_else(PoisonError::into_inner).contains(&device)
    }
}

#[async_trait]
impl RevocationPort for Revoked {
    fn digest(&self) -> [u8; 32] {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        frame::revocations_digest(devices.iter().map(|device| &device.as_bytes()[..]))
    }

    async fn replace(&self, list: Revocations) -> Result<(), PortError> {
        let ids = list.devices.iter().filter_map(|bytes| <[u8; 16]>::try_from(&bytes[..]).ok());
        let devices: BTreeSet<DeviceId> = ids.map(DeviceId::from_bytes).collect();
        let texts: Vec<String> = devices.iter().map(DeviceId::to_string).collect();
        let write = self.ledger.run(move |tx| {
            tx.execute("DELETE FROM revoked_devices", [])?;
            let mut insert = tx.prepare_cached("INSERT INTO revoked_devices (device) VALUES (?1)")?;
            texts.iter().try_for_each(|text| insert.execute([text]).map(drop))?;
            Ok(())
        });
        write.await.map_err(PortError::new)?;
        tracing::info!(count = devices.len(), "the control plane has told which devices are revoked");
        *self.devices.write().unwrap_or_else(PoisonError::into_inner) = devices;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_list_is_the_last_that_was_told_also_after_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        let list = |ids: &[u8]| Revocations { devices: ids.iter().map(|id| vec![*id; 16].into()).collect() };
        let device = |id: u8| DeviceId::from_bytes([id; 16]);
        let revoked = Revoked::open(Ledger::open(dir.path()).unwrap()).unwrap();
        assert_eq!(revoked.digest(), frame::revocations_digest([]));
        revoked.replace(list(&[1, 2])).await.unwrap();
        revoked.replace(list(&[2, 3])).await.unwrap();
        let again = Revoked::open(Ledger::open(dir.path()).unwrap()).unwrap();
        for revoked in [revoked, again] {
            assert_eq!([1, 2, 3].map(|id| revoked.contains(device(id))), [false, true, true]);
            assert_eq!(revoked.digest(), frame::revocations_digest([&[2; 16][..], &[3; 16][..]]));
        }
    }
}
