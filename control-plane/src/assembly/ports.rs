//! What one room needs of another that it must not import, passed through.

use crate::fleet::{ArtifactSource, DeviceKey, DeviceRow, Devices, Live, Telemetry, TrustSource, TwinError, Twins, What, Wish};
use crate::platform::db::StoreError;
use crate::registry::{Artifacts, Held, Trust};
use crate::rollouts::{Account, Change, Desired, DeviceFacts, DevicePage, Fleet, FleetError, Status, Wanted};
use crate::tenants::Caller;
use aidos_protocol::enrol::TrustAnchor;
use aidos_protocol::inventory::Inventory;
use aidos_protocol::rollout::Constraints;
use aidos_protocol::selector::Selector;
use aidos_protocol::twin::{Edit, ReleaseStatus, SettingsStatus, SignedHealth, path};
use aidos_protocol::{DeviceId, Subject, TenantId, frame};
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

/// The metric that agents report the free space of their data folder's disk by.
const FREE_DISK: &str = "disk.free_bytes";

/// The registry as devices' sessions see it.
pub(super) struct Grants(pub(super) Artifacts);

#[async_trait]
impl ArtifactSource for Grants {
    async fn grant(&self, tenant: TenantId, wish: Wish) -> frame::ArtifactGrant {
        let held = Held { bases: wish.bases, window_log: wish.window_log };
        self.0.grant(tenant, wish.digest, &held).await
    }
}

/// The update repositories as enrolment and devices' sessions see them.
pub(super) struct Repositories(pub(super) Trust);

#[async_trait]
impl TrustSource for Repositories {
    fn repository(&self, tenant: TenantId) -> String {
        self.0.path(tenant)
    }
    async fn anchor(&self, tenant: TenantId) -> Option<TrustAnchor> {
        let anchor = self.0.anchor(tenant).await;
        anchor.inspect_err(|error| tracing::warn!(%tenant, %error, "the root of trust could not be told")).ok().flatten()
    }
}

/// What a device's status says of what it was told. A device of another version may report what is not known here; that then
/// counts as not reported.
pub(super) fn account(
    tenant: TenantId,
    device: DeviceId,
    keys: &[DeviceKey],
    status: BTreeMap<String, serde_json::Value>,
) -> Account {
    let mut account = Account::default();
    for (at, value) in status {
        if let Some((subject, status)) = of_subject(&at, path::MODELS, &value) {
            account.statuses.insert(subject, Status::Model(status));
        } else if let Some((subject, transfer)) = of_subject(&at, path::TRANSFERS, &value) {
            account.transfers.insert(subject, transfer);
        } else if let Some((subject, signed)) = of_subject::<SignedHealth>(&at, path::HEALTH, &value) {
            match keys.iter().find_map(|key| signed.open(tenant, device, &key.spki).ok()) {
                Some(report) if report.subject == subject => _ = account.health.insert(subject, report),
                Some(_) => {}
                None => tracing::warn!(%device, %subject, "a health report that the device has not signed is passed over"),
            }
        } else if at == path::AGENT_RELEASE {
            let status = ReleaseStatus::deserialize(&value).ok();
            account.statuses.extend(status.map(|status| (Subject::Release, Status::Release(status))));
        } else if at == path::AGENT_CONFIG {
            let status = SettingsStatus::deserialize(&value).ok();
            account.statuses.extend(status.map(|status| (Subject::Settings, Status::Settings(status))));
        }
    }
    account
}

fn of_subject<T: DeserializeOwned>(at: &str, room: &str, value: &serde_json::Value) -> Option<(Subject, T)> {
    Some((at.strip_prefix(room)?.parse().ok()?, T::deserialize(value).ok()?))
}

/// The fleet as rollouts see it.
pub(super) struct FleetOfRollouts {
    pub(super) devices: Devices,
    pub(super) twins: Twins,
    pub(super) live: Live,
    pub(super) telemetry: Telemetry,
}

impl FleetOfRollouts {
    fn facts(&self, row: DeviceRow) -> DeviceFacts {
        DeviceFacts { online: row.online || self.live.is_online(row.id), id: row.id, name: row.name }
    }
}

#[async_trait]
impl Fleet for FleetOfRollouts {
    async fn devices(&self, tenant: TenantId, devices: &[DeviceId]) -> Result<BTreeMap<DeviceId, DeviceFacts>, FleetError> {
        let rows = self.devices.among(tenant, devices).await?;
        let there = rows.into_iter().filter(|row| row.revoked.is_none());
        Ok(there.map(|row| (row.id, self.facts(row))).collect())
    }

    async fn exists(&self, tenant: TenantId, device: DeviceId) -> Result<bool, FleetError> {
        match self.devices.get(tenant, device).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn matching(
        &self,
        tenant: TenantId,
        selector: &Selector,
        after: Option<DeviceId>,
        limit: u32,
    ) -> Result<DevicePage, FleetError> {
        let limit = limit as usize;
        let rows = self.devices.matching(tenant, selector, after, limit).await?;
        let next = rows.last().filter(|_| rows.len() >= limit).map(|row| row.id);
        Ok(DevicePage { devices: rows.into_iter().map(|row| self.facts(row)).collect(), next })
    }

    async fn wanted(&self, tenant: TenantId, devices: &[DeviceId]) -> Result<BTreeMap<DeviceId, Wanted>, FleetError> {
        let active = self.devices.active(tenant, devices).await?;
        let intents = self.twins.intents(tenant, &active).await?;
        Ok(intents
            .into_iter()
            .map(|(id, view)| (id, Wanted { labels: view.labels.clone(), desired: Desired::of_intent(view) }))
            .collect())
    }

    async fn edit(&self, tenant: TenantId, device: DeviceId, edits: &[Edit]) -> Result<(), FleetError> {
        match self.twins.edit(&Caller::system(tenant), device, edits, None).await {
            Ok(_) => Ok(()),
            Err(TwinError::Store(error)) => Err(error.into()),
            Err(other) => Err(FleetError::Refused(other.to_string())),
        }
    }

    async fn accounts(&self, tenant: TenantId, devices: &[DeviceId]) -> Result<BTreeMap<DeviceId, Account>, FleetError> {
        let statuses = self.twins.statuses(tenant, devices).await?;
        // A device may have signed with the key before its newest.
        let keys = self.devices.keys_of(tenant, devices).await?;
        let account = |(device, status)| {
            let keys = keys.get(&device).map(Vec::as_slice).unwrap_or_default();
            (device, account(tenant, device, keys, status))
        };
        Ok(statuses.into_iter().map(account).collect())
    }

    async fn unfit(
        &self,
        tenant: TenantId,
        device: DeviceId,
        constraints: &Constraints,
        archs: &[&str],
    ) -> Result<Option<String>, FleetError> {
        if constraints.is_none() && archs.is_empty() {
            return Ok(None);
        }
        let mut status = self.twins.status(tenant, device).await?;
        let inventory = status.values.remove(path::INVENTORY).and_then(|value| Inventory::deserialize(value).ok());
        if let Some(inventory) = inventory.as_ref().filter(|is| !archs.is_empty() && !archs.contains(&is.arch.as_str())) {
            return Ok(Some(format!("there is no binary for {}", inventory.arch)));
        }
        let mut free = None;
        if constraints.min_free_disk_bytes.is_some() {
            let metrics = self.telemetry.overview(tenant, device).await?.metrics;
            // Telemetry has numbers of one kind only; a disk's bytes are whole.
            free =
                metrics.into_iter().find(|metric| metric.name == FREE_DISK).and_then(|metric| metric.value).map(|is| is as u64);
        }
        Ok(constraints.fits(inventory.as_ref(), free).err())
    }

    async fn online(&self, tenant: TenantId) -> Result<BTreeSet<DeviceId>, FleetError> {
        Ok(self.devices.online(tenant).await?)
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        let changes = BroadcastStream::new(self.twins.changes());
        let rooms = [path::MODELS, path::HEALTH, path::TRANSFERS, path::AGENT_RELEASE, path::AGENT_CONFIG];
        let of_deployments = move |paths: &[String]| paths.iter().any(|at| rooms.iter().any(|room| at.starts_with(room)));
        changes
            .filter_map(move |change| {
                let change = match change {
                    Ok((tenant, device, What::Intent)) => Some(Change::Intent(tenant, device)),
                    // A new device's first report may hold no model.
                    Ok((tenant, device, What::Status(paths))) if of_deployments(&paths) || paths.len() > 1 => {
                        Some(Change::Report(tenant, device))
                    }
                    // What deployments did themselves is no news to them.
                    Ok(_) => None,
                    Err(BroadcastStreamRecvError::Lagged(_)) => Some(Change::Missed),
                };
                std::future::ready(change)
            })
            .boxed()
    }
}
