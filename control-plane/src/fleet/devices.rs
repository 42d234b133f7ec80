//! Devices: who may connect, who is connected, and how that ends.
//!
//! A revoked device is refused by everything from the commit on, and its open session ends with it. This knows no labels
//! and no models: those are the twin's.

use super::live::Live;
use super::ports::Peer;
use super::refusal;
use super::revocations::{self, RevocationLists};
use super::store::{self, DeviceKey, DeviceRow, Presence};
use crate::platform::clock::Clock;
use crate::platform::db::{Db, StoreError, Tx};
use crate::platform::http::Events;
use crate::tenants::{Activity, Caller};
use aidos_protocol::frame::{Refused, Revocations};
use aidos_protocol::{DeviceId, TenantId};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Why a device does not get a session, or a certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    /// It was revoked.
    #[error("this device was revoked; enrol it again with a new join token")]
    Revoked,
    /// There is none, or the certificate names another tenant than its row, or its key was never recorded.
    #[error("this control plane does not know this device; enrol it again with a join token")]
    Unknown,
    /// The database could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Denied {
    /// As a frame.
    pub(super) fn refused(&self) -> Refused {
        match self {
            Self::Revoked => refusal::revoked(),
            Self::Unknown => refusal::unknown_device(),
            Self::Store(error) => {
                tracing::warn!(%error, "a device could not be authenticated");
                refusal::internal()
            }
        }
    }
}

/// The handle to devices.
#[derive(Clone)]
pub(crate) struct Devices {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) activity: Activity,
    pub(super) events: Events,
    pub(super) live: Live,
    lists: RevocationLists,
}

impl Devices {
    /// Devices of `db`; revocation ends sessions in `live`.
    pub(crate) fn new(db: Db, clock: Clock, activity: Activity, events: Events, live: Live) -> Self {
        Self { db, clock, activity, events, live, lists: RevocationLists::new() }
    }

    /// One device.
    pub(crate) async fn get(&self, tenant: TenantId, device: DeviceId) -> Result<DeviceRow, StoreError> {
        store::device(self.db.pool(), tenant, device).await?.ok_or(StoreError::NotFound)
    }

    /// Those of `devices` that are there.
    pub(crate) async fn among(&self, tenant: TenantId, devices: &[DeviceId]) -> Result<Vec<DeviceRow>, StoreError> {
        store::devices(self.db.pool(), tenant, devices).await
    }

    /// The tenant of a device that a broker vouches for by its id alone.
    pub(crate) async fn tenant_of(&self, device: DeviceId) -> Result<Option<TenantId>, StoreError> {
        store::tenant_of_device(self.db.pool(), device).await
    }

    /// The devices of a tenant that have a session, in whichever process.
    pub(crate) async fn online(&self, tenant: TenantId) -> Result<BTreeSet<DeviceId>, StoreError> {
        store::online(self.db.pool(), tenant).await
    }

    /// The keys that this device was certified with, newest first.
    pub(crate) async fn keys(&self, tenant: TenantId, device: DeviceId) -> Result<Vec<DeviceKey>, StoreError> {
        store::keys(self.db.pool(), tenant, device).await
    }

    /// The keys of each of `devices`, newest first.
    pub(crate) async fn keys_of(
        &self,
        tenant: TenantId,
        devices: &[DeviceId],
    ) -> Result<BTreeMap<DeviceId, Vec<DeviceKey>>, StoreError> {
        store::keys_of(self.db.pool(), tenant, devices).await
    }

    /// Those of `devices` that are there and not revoked.
    pub(crate) async fn active(&self, tenant: TenantId, devices: &[DeviceId]) -> Result<Vec<DeviceId>, StoreError> {
        store::active(self.db.pool(), tenant, devices).await
    }

    /// Whether the holder of a certificate may act as `device` now. `key_id`: the certificate's key, where the transport
    /// has seen it.
    pub(crate) async fn authenticate(
        &self,
        tenant: TenantId,
        device: DeviceId,
        key_id: Option<&str>,
    ) -> Result<DeviceRow, Denied> {
        let row = store::device(self.db.pool(), tenant, device).await?.ok_or(Denied::Unknown)?;
        if row.revoked.is_some() {
            return Err(Denied::Revoked);
        }
        if let Some(key_id) = key_id
            && !store::has_key(self.db.pool(), tenant, device, key_id).await?
        {
            return Err(Denied::Unknown);
        }
        Ok(row)
    }

    /// The device has a session now. Denies when it was revoked meanwhile.
    pub(super) async fn mark_online(&self, peer: &Peer, session: i64, agent_version: &str) -> Result<(), Denied> {
        let transport = peer.transport.to_string();
        let presence = Presence { session, transport: &transport, address: &peer.address, agent_version };
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        if !store::set_online(&mut tx, peer.tenant, peer.device, &presence, now).await? {
            return Err(Denied::Revoked);
        }
        tx.commit().await?;
        let data = json!({ "transport": transport, "address": peer.address });
        self.events.publish(peer.tenant, "device.online", &peer.device.to_string(), data);
        Ok(())
    }

    /// The session is over; a newer one of the same device is left alone.
    pub(super) async fn mark_offline(&self, peer: &Peer, session: i64) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let ended = store::set_offline(&mut tx, peer.tenant, peer.device, session, self.clock.now()).await?;
        tx.commit().await?;
        if ended {
            self.events.publish(peer.tenant, "device.offline", &peer.device.to_string(), json!({}));
        }
        Ok(())
    }

    /// The device was heard of.
    pub(super) async fn touch(&self, peer: &Peer) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        store::touch(&mut tx, peer.tenant, peer.device, self.clock.now()).await?;
        tx.commit().await
    }

    /// Nobody is connected to a process that has just started: sets right what a killed one left behind.
    pub(crate) async fn sweep_at_start(&self) -> Result<(), StoreError> {
        let tenants = store::tenants_online(self.db.pool()).await?;
        let mut tx = self.db.begin().await?;
        for tenant in tenants {
            store::all_offline(&mut tx, tenant).await?;
        }
        tx.commit().await
    }

    /// Denies the device everything from now on and ends its session. Revoking twice is the same as once.
    pub(crate) async fn revoke(&self, caller: &Caller, device: DeviceId) -> Result<DeviceRow, StoreError> {
        let mut tx = self.db.begin().await?;
        if store::revoke(&mut tx, caller.tenant, device, self.clock.now()).await? {
            self.put_revocation(&mut tx, caller.tenant, device).await?;
            self.activity.record(&mut tx, caller, "device.revoke", &device.to_string(), json!({})).await?;
            tx.commit().await?;
            self.events.publish(caller.tenant, "device.revoked", &device.to_string(), json!({}));
        } else {
            drop(tx);
        }
        let row = self.get(caller.tenant, device).await?;
        // After the commit: a session that begins now is refused by its own look at the row. Also when the device was
        // revoked before, for the case that the first call died here.
        self.live.disconnect(device, refusal::revoked());
        self.tell_others(caller.tenant);
        Ok(row)
    }

    async fn put_revocation(&self, tx: &mut Tx, tenant: TenantId, device: DeviceId) -> Result<(), StoreError> {
        store::put_revocation(tx, tenant, device, self.clock.now().plus_seconds(-revocations::AFTER_END_S)).await
    }

    /// The devices that meet the revoked one at their site are told, those that are connected now at once.
    fn tell_others(&self, tenant: TenantId) {
        self.lists.forget(tenant);
        self.live.notify_revocations();
    }

    /// The devices of the tenant that are not to be trusted, for a device that holds the list of digest `held`; `None`: it has
    /// them all.
    pub(super) async fn revocations(&self, tenant: TenantId, held: &[u8]) -> Result<Option<Revocations>, StoreError> {
        self.lists.beyond(&self.db, tenant, held, self.clock.now()).await
    }

    /// Removes the device with all that is stored of it, and ends its session. Its certificate is then of an unknown device.
    pub(crate) async fn delete(&self, caller: &Caller, device: DeviceId) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        self.put_revocation(&mut tx, caller.tenant, device).await?;
        if !store::delete_device(&mut tx, caller.tenant, device).await? {
            return Err(StoreError::NotFound);
        }
        self.activity.record(&mut tx, caller, "device.delete", &device.to_string(), json!({})).await?;
        tx.commit().await?;
        self.live.disconnect(device, refusal::unknown_device());
        self.tell_others(caller.tenant);
        self.events.publish(caller.tenant, "device.deleted", &device.to_string(), json!({}));
        Ok(())
    }
}
