//! What devices report, kept durably. It must never take a report for newer than what is held without asking the database.

use super::twins::{Twins, What};
use super::twins_store as store;
use crate::platform::db::{StoreError, Tx};
use aidos_protocol::frame::{StatusAck, StatusDelta};
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{DrainStatus, StatusError, StatusMirror, Verdict, check_delta, judge, path};
use aidos_protocol::{DeviceId, TenantId};
use moka::sync::Cache;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of reports kept in memory: those of about 20,000 devices with a few models.
const STATUS_BYTES: u64 = 64 << 20;
/// What an entry takes beside its path and its value.
const ENTRY_BYTES: usize = 64;

/// A device's status.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct StatusState {
    /// What it reports, by path.
    pub(crate) values: BTreeMap<String, serde_json::Value>,
    /// The start of the agent that it is of; 0 before the first report.
    pub(crate) boot_id: u64,
    /// Counts the changes since that start.
    pub(crate) seq: u64,
    /// When it last changed.
    pub(crate) updated: Option<Micros>,
}

/// Reports of devices that are reporting now; each is used only at the position it was read at.
pub(super) fn statuses() -> Cache<(TenantId, DeviceId), Arc<StatusMirror>> {
    let weight = |_: &(TenantId, DeviceId), held: &Arc<StatusMirror>| {
        let bytes: usize = held.iter().map(|(path, value)| path.len() + value.len() + ENTRY_BYTES).sum();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    };
    Cache::builder().max_capacity(STATUS_BYTES).weigher(weight).build()
}

impl Twins {
    /// What the device reports.
    pub(crate) async fn status(&self, tenant: TenantId, device: DeviceId) -> Result<StatusState, StoreError> {
        let ((boot_id, seq), updated) = store::status_position(self.db.pool(), tenant, device).await?;
        Ok(StatusState { values: self.values(tenant, device).await?, boot_id, seq, updated })
    }

    /// What those of `devices` report that ever did, by path.
    pub(crate) async fn statuses(
        &self,
        tenant: TenantId,
        devices: &[DeviceId],
    ) -> Result<BTreeMap<DeviceId, BTreeMap<String, serde_json::Value>>, StoreError> {
        let mut statuses = BTreeMap::new();
        for (device, position) in store::status_positions(self.db.pool(), tenant, devices).await? {
            let held = self.statuses.get(&(tenant, device)).filter(|held| held.position() == position);
            let values = match held {
                Some(held) => held.iter().map(|(path, value)| read(path, value)).collect::<Result<_, _>>()?,
                None => self.values(tenant, device).await?,
            };
            statuses.insert(device, values);
        }
        Ok(statuses)
    }

    /// Since when those of `devices` are drained that are.
    pub(crate) async fn drained(&self, tenant: TenantId, devices: &[DeviceId]) -> Result<BTreeMap<DeviceId, Micros>, StoreError> {
        let texts = store::status_at(self.db.pool(), tenant, path::DRAIN, devices).await?;
        // A value of another shape says no less that the device is drained.
        let since = |text: &str| serde_json::from_str::<DrainStatus>(text).unwrap_or_default().since_us;
        Ok(texts.iter().map(|(device, text)| (*device, since(text))).collect())
    }

    async fn values(&self, tenant: TenantId, device: DeviceId) -> Result<BTreeMap<String, serde_json::Value>, StoreError> {
        let texts = store::status(self.db.pool(), tenant, device).await?;
        texts.iter().map(|(path, text)| read(path, text.as_bytes())).collect()
    }

    /// `(boot_id, seq)` up to which the device's status is held.
    pub(crate) async fn status_position(&self, tenant: TenantId, device: DeviceId) -> Result<(u64, u64), StoreError> {
        Ok(store::status_position(self.db.pool(), tenant, device).await?.0)
    }

    /// Takes what the device reports, durably. Known and late deltas change nothing.
    pub(crate) async fn apply_status(
        &self,
        tenant: TenantId,
        device: DeviceId,
        delta: &StatusDelta,
    ) -> Result<Result<StatusAck, StatusError>, StoreError> {
        if let Err(error) = check_delta(delta) {
            return Ok(Err(error));
        }
        let mut tx = self.db.begin().await?;
        let moves = |held: &Arc<StatusMirror>| matches!(judge(held.position(), delta), Verdict::Apply | Verdict::Replace);
        let mut remembered = self.statuses.get(&(tenant, device)).filter(moves);
        loop {
            // What is remembered may be what was held before another session's report: the database tells by the position.
            let (before, certain) = match remembered.take() {
                Some(held) => (held, false),
                None => (Arc::new(held(&mut tx, tenant, device).await?), true),
            };
            let mut next = StatusMirror::clone(&before);
            let (ack, changed) = match next.apply(delta) {
                Ok(applied) => applied,
                Err(error) if certain => return Ok(Err(error)),
                Err(_) => continue,
            };
            if next.position() == before.position() {
                return Ok(Ok(ack));
            }
            if !store::put_status_position(&mut tx, tenant, device, before.position(), delta, self.clock.now()).await? {
                if certain {
                    // Another session of the device was faster: what this delta follows is not what is held.
                    let (boot_id, seq) = before.position();
                    return Ok(Ok(StatusAck { boot_id, seq, resync: true }));
                }
                continue;
            }
            for path in &changed {
                match delta.set.iter().find(|entry| entry.path == *path) {
                    Some(entry) => store::put_status(&mut tx, tenant, device, entry).await?,
                    None => store::remove_status(&mut tx, tenant, device, path).await?,
                }
            }
            tx.commit().await?;
            self.statuses.insert((tenant, device), Arc::new(next));
            if !changed.is_empty() {
                self.announce(tenant, device, What::Status(changed.into()));
            }
            return Ok(Ok(ack));
        }
    }
}

async fn held(tx: &mut Tx, tenant: TenantId, device: DeviceId) -> Result<StatusMirror, StoreError> {
    let position = store::status_position(&mut **tx, tenant, device).await?.0;
    let entries = store::status(&mut **tx, tenant, device).await?;
    Ok(StatusMirror::restore(position, entries.into_iter().map(|(path, value)| (path, value.into_bytes()))))
}

fn read(path: &str, text: &[u8]) -> Result<(String, serde_json::Value), StoreError> {
    let value = serde_json::from_slice(text).map_err(|error| StoreError::Corrupt(format!("status at {path}: {error}")))?;
    Ok((path.to_owned(), value))
}
