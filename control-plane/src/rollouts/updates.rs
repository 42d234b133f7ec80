//! What was rolled out and deployed to one device, and what came of it there. Of deployments only those are known by which the
//! device has something now: they write down what a device is told, not what it was told before.

use super::desired::Desired;
use super::{DeploymentError, Deployments, updates_store};
use aidos_protocol::api::deployments::Progress;
use aidos_protocol::api::rollouts::{Outcome, UpdateKind};
use aidos_protocol::{DeploymentId, DeviceId, Subject, TenantId, time::Micros};

/// A rollout or deployment, as it concerns one device.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Update {
    pub(super) id: DeploymentId,
    pub(super) kind: UpdateKind,
    pub(super) subject: Subject,
    pub(super) desired: Desired,
    pub(super) created: Micros,
    /// The device's wave, from 0, and what has become of it there.
    pub(super) part: Option<(usize, Outcome)>,
    /// How far it is, while this is what it was told last about the subject.
    pub(super) progress: Option<Progress>,
    pub(super) reason: String,
    pub(super) told: Option<Micros>,
    pub(super) updated: Micros,
}

impl Deployments {
    /// What a device got by rollouts and deployments that were made before `before`, newest first.
    pub(super) async fn updates(
        &self,
        tenant: TenantId,
        device: DeviceId,
        before: Micros,
        limit: u32,
    ) -> Result<Vec<Update>, DeploymentError> {
        if !self.fleet.exists(tenant, device).await? {
            return Err(DeploymentError::NoDevice(device));
        }
        let online = self.fleet.devices(tenant, &[device]).await?.get(&device).is_some_and(|device| device.online);
        let mut updates = updates_store::updates(self.db.pool(), tenant, device, before, limit).await?;
        for update in updates.iter_mut().filter(|_| !online) {
            update.progress = update.progress.map(|progress| match progress {
                Progress::Pending | Progress::Downloading => Progress::Offline,
                Progress::Ready | Progress::Failed | Progress::Offline => progress,
            });
        }
        Ok(updates)
    }
}
