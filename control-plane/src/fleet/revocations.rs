//! Which devices of a tenant are revoked, as the others of it are told: they meet each other without the control plane, and would
//! trust a certificate until it ends.
//!
//! The list is read once for all sessions of a tenant. This must never decide who is revoked; `devices` does.

use super::store;
use crate::platform::db::{Db, StoreError};
use aidos_protocol::TenantId;
use aidos_protocol::frame::{MAX_REVOCATIONS, Revocations, revocations_digest};
use aidos_protocol::time::Micros;
use bytes::Bytes;
use moka::sync::Cache;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long a list is taken for the present one: what another process of this control plane revokes is known here by then.
const FRESH: Duration = Duration::from_secs(10);
/// Lists in memory, of [`MAX_REVOCATIONS`] at most each.
const LISTS: u64 = 1_000;
/// For so long after a certificate's end its device stays on the list: clocks of devices are wrong by days.
pub(super) const AFTER_END_S: i64 = 30 * 24 * 3_600;

/// The lists of all tenants. Cheap to clone.
#[derive(Clone)]
pub(super) struct RevocationLists {
    lists: Cache<TenantId, Arc<List>>,
    /// One reads at a time: when a device is revoked, all sessions ask at once.
    reading: Arc<Mutex<()>>,
}

struct List {
    devices: Vec<Bytes>,
    digest: [u8; 32],
}

impl RevocationLists {
    pub(super) fn new() -> Self {
        Self { lists: Cache::builder().max_capacity(LISTS).time_to_live(FRESH).build(), reading: Arc::default() }
    }

    /// The tenant's list has changed.
    pub(super) fn forget(&self, tenant: TenantId) {
        self.lists.invalidate(&tenant);
    }

    /// What a device lacks that holds the list of digest `held`; `None`: nothing.
    pub(super) async fn beyond(
        &self,
        db: &Db,
        tenant: TenantId,
        held: &[u8],
        now: Micros,
    ) -> Result<Option<Revocations>, StoreError> {
        let list = match self.lists.get(&tenant) {
            Some(list) => list,
            None => self.read(db, tenant, now).await?,
        };
        Ok((list.digest != held).then(|| Revocations { devices: list.devices.clone() }))
    }

    async fn read(&self, db: &Db, tenant: TenantId, now: Micros) -> Result<Arc<List>, StoreError> {
        let _one = self.reading.lock().await;
        if let Some(list) = self.lists.get(&tenant) {
            return Ok(list);
        }
        let devices = store::revocations(db.pool(), tenant, now.plus_seconds(-AFTER_END_S), MAX_REVOCATIONS).await?;
        let devices: Vec<Bytes> = devices.iter().map(|device| device.as_bytes().to_vec().into()).collect();
        let digest = revocations_digest(devices.iter().map(|device| &device[..]));
        let list = Arc::new(List { devices, digest });
        self.lists.insert(tenant, Arc::clone(&list));
        Ok(list)
    }
}
