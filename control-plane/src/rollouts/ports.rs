//! What rollouts need of the fleet.

use super::desired::Desired;
use crate::platform::db::StoreError;
use aidos_protocol::{
    DeviceId, Subject, TenantId,
    rollout::Constraints,
    selector::Selector,
    twin::{Edit, HealthReport, ModelState, ModelStatus, ReleaseStatus, SettingsStatus, Transfer},
};
use async_trait::async_trait;
use futures::stream::BoxStream;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a device without its twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceFacts {
    pub(crate) id: DeviceId,
    pub(crate) name: String,
    /// Whether it has a session now.
    pub(crate) online: bool,
}

/// Some devices, in an order of the fleet's own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DevicePage {
    pub(crate) devices: Vec<DeviceFacts>,
    /// Where to go on; `None` at the end.
    pub(crate) next: Option<DeviceId>,
}

/// The parts of a device's intent that rollouts read.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Wanted {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) desired: BTreeMap<Subject, Desired>,
}

/// What a device reports of a subject.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Status {
    /// Of a model.
    Model(ModelStatus),
    /// Of the agent's own version.
    Release(ReleaseStatus),
    /// Of the agent's settings.
    Settings(SettingsStatus),
}

impl Status {
    /// Whether the version takes part in an experiment, and does not answer alone.
    pub(super) fn in_experiment(&self) -> bool {
        matches!(self, Self::Model(status) if status.state == ModelState::Trial)
    }
}

/// A device's own account of what it was told.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Account {
    /// What it reports.
    pub(crate) statuses: BTreeMap<Subject, Status>,
    /// The newest health reports, if they are signed by the device.
    pub(crate) health: BTreeMap<Subject, HealthReport>,
    /// What came over the line.
    pub(crate) transfers: BTreeMap<Subject, Transfer>,
}

/// Something happened to a twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// The device's intent is another one.
    Intent(TenantId, DeviceId),
    /// What the device reports of what it was told is another thing, or the device is new.
    Report(TenantId, DeviceId),
    /// Some changes were missed.
    Missed,
}

/// Why the fleet did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FleetError {
    /// The device cannot have it; the text is for people.
    #[error("{0}")]
    Refused(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The fleet, as rollouts see it. Devices that are unknown, revoked or another tenant's are not there.
#[async_trait]
pub(crate) trait Fleet: Send + Sync + 'static {
    /// Those of `devices` that are there.
    async fn devices(&self, tenant: TenantId, devices: &[DeviceId]) -> Result<BTreeMap<DeviceId, DeviceFacts>, FleetError>;

    /// Whether there is such a device in the tenant, be it revoked.
    async fn exists(&self, tenant: TenantId, device: DeviceId) -> Result<bool, FleetError>;

    /// The devices that match, after the `next` of the page before, at most `limit`.
    async fn matching(
        &self,
        tenant: TenantId,
        selector: &Selector,
        after: Option<DeviceId>,
        limit: u32,
    ) -> Result<DevicePage, FleetError>;

    /// The intents of those of `devices` that are there.
    async fn wanted(&self, tenant: TenantId, devices: &[DeviceId]) -> Result<BTreeMap<DeviceId, Wanted>, FleetError>;

    /// Edits the device's intent; edits that change nothing are fine.
    async fn edit(&self, tenant: TenantId, device: DeviceId, edits: &[Edit]) -> Result<(), FleetError>;

    /// What devices say of what they were told; one that never said anything may be missing.
    async fn accounts(&self, tenant: TenantId, devices: &[DeviceId]) -> Result<BTreeMap<DeviceId, Account>, FleetError>;

    /// Why the device does not fit, if it does not. `archs`: those that there is something for; none: all.
    async fn unfit(
        &self,
        tenant: TenantId,
        device: DeviceId,
        constraints: &Constraints,
        archs: &[&str],
    ) -> Result<Option<String>, FleetError>;

    /// The devices that have a session now.
    async fn online(&self, tenant: TenantId) -> Result<BTreeSet<DeviceId>, FleetError>;

    /// Changes from now on.
    fn changes(&self) -> BoxStream<'static, Change>;
}
