//! Finding and naming devices. It must never change what a device is allowed to do; that is `devices`' own.

use super::devices::Devices;
use super::listing_store::{self as store, DeviceFilter, Place};
use super::store::DeviceRow;
use crate::platform::db::StoreError;
use crate::tenants::Caller;
use aidos_protocol::api::devices::DeviceSort;
use aidos_protocol::selector::Selector;
use aidos_protocol::{DeviceId, TenantId};
use serde_json::json;
use std::collections::BTreeMap;

/// Why a device was not named.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenameError {
    /// It was edited since the caller looked at it.
    #[error("the device was edited since you looked at it")]
    Stale,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Devices {
    /// The devices of `filter` after `after` in the order `sort`, at most `limit`.
    pub(crate) async fn list(
        &self,
        tenant: TenantId,
        filter: &DeviceFilter,
        sort: DeviceSort,
        after: Option<&Place>,
        limit: usize,
    ) -> Result<Vec<DeviceRow>, StoreError> {
        store::list(self.db.pool(), tenant, filter, sort, after, limit).await
    }

    /// The devices that match and are not revoked, by id after `after`, at most `limit`: for who has to visit all of them.
    pub(crate) async fn matching(
        &self,
        tenant: TenantId,
        selector: &Selector,
        after: Option<DeviceId>,
        limit: usize,
    ) -> Result<Vec<DeviceRow>, StoreError> {
        store::matching(self.db.pool(), tenant, selector, after, limit).await
    }

    /// The labels of `devices`, those without any left out.
    pub(crate) async fn labels(
        &self,
        tenant: TenantId,
        devices: &[DeviceId],
    ) -> Result<BTreeMap<DeviceId, BTreeMap<String, String>>, StoreError> {
        store::labels(self.db.pool(), tenant, devices).await
    }

    /// Names a device that still has the revision `if_revision`.
    pub(crate) async fn rename(
        &self,
        caller: &Caller,
        device: DeviceId,
        name: &str,
        if_revision: i64,
    ) -> Result<(), RenameError> {
        let before = self.get(caller.tenant, device).await?;
        if before.name == name && before.revision == if_revision {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        if store::rename(&mut tx, caller.tenant, device, name, if_revision).await?.is_none() {
            return Err(RenameError::Stale);
        }
        let detail = json!({ "from": before.name, "to": name });
        self.activity.record(&mut tx, caller, "device.rename", &device.to_string(), detail).await?;
        tx.commit().await?;
        self.events.publish(caller.tenant, "device.updated", &device.to_string(), json!({ "name": name }));
        Ok(())
    }
}
