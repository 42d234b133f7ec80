//! The task that brings the devices' intents to what the deployments say. It takes no input: whatever wakes it, it reads the
//! desired state and the present one and edits the difference, so running twice, or in two processes, is harmless.
//!
//! ```text
//! a device changed     → that device
//! a deployment changed → the devices that have, or should have, something else than they were told
//! each minute          → the same, for every tenant
//! at start, or when changes were missed, and each hour → every device with or for a deployment
//! ```

use super::DeploymentError;
use super::deployments::{Deployments, PAGE, Pokes, holder};
use super::judge::Known;
use super::ports::{Change, FleetError};
use super::rollout_store as rollouts;
use super::store;
use crate::platform::db::StoreError;
use aidos_protocol::{DeploymentId, DeviceId, Subject, TenantId};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often everything is compared: what a lost wake-up costs at most.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Each so many sweeps read the devices' intents too, not only what this room knows of them: once an hour.
const DEEP_EVERY: u32 = 60;
/// Devices worked on together: what is known of them is read, and what follows is written, in one go.
const TOGETHER: usize = 64;

/// The background task.
pub(crate) struct Reconciler {
    pub(super) deployments: Deployments,
    /// What happened to devices and was not looked at yet; the same thing waits once.
    seen: Pokes<Change>,
    /// Some of what happened was missed.
    missed: Notify,
    /// Devices whose reports could not be recorded: read again with the next sweep. As many as there are devices.
    again: Mutex<BTreeSet<(TenantId, DeviceId)>>,
}

/// What to do with devices.
#[derive(Clone, Copy)]
enum Look<'a> {
    /// Bring them to what follows from the deployments.
    Judge(&'a Known),
    /// Write down what they report.
    Report(TenantId),
}

impl Reconciler {
    /// The task for `deployments`.
    pub(crate) fn new(deployments: Deployments) -> Self {
        Self { deployments, seen: Pokes::default(), missed: Notify::new(), again: Mutex::default() }
    }

    /// Reconciles until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        // Subscribed before the first look, so that nothing falls between.
        let changes = self.deployments.fleet.changes();
        let work = async { tokio::join!(self.listen(changes), self.follow_devices(), self.follow_deployments()) };
        shutdown.run_until_cancelled(work).await;
    }

    /// Takes note of changes as they come, however long the work on earlier ones takes.
    async fn listen(&self, mut changes: BoxStream<'static, Change>) {
        while let Some(change) = changes.next().await {
            self.seen.add(change);
        }
    }

    async fn follow_devices(&self) {
        loop {
            let (mut intents, mut reports): (BTreeMap<_, Vec<_>>, BTreeMap<_, Vec<_>>) = Default::default();
            for change in self.seen.take().await {
                match change {
                    Change::Intent(tenant, device) => intents.entry(tenant).or_default().push(device),
                    Change::Report(tenant, device) => reports.entry(tenant).or_default().push(device),
                    Change::Missed => self.missed.notify_one(),
                }
            }
            for (tenant, devices) in intents {
                if let Err(error) = self.judge_all(tenant, devices).await {
                    tracing::warn!(%tenant, %error, "deployments could not be compared; trying again in a minute");
                }
            }
            for (tenant, devices) in reports {
                let failed = self.each(&devices, Look::Report(tenant)).await;
                let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
                again.extend(failed.into_iter().map(|device| (tenant, device)));
            }
        }
    }

    async fn follow_deployments(&self) {
        let mut every = tokio::time::interval(SWEEP_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut sweeps = 0u32;
        loop {
            let (mut tenants, mut deep, mut all) = (BTreeSet::new(), false, false);
            tokio::select! {
                changed = self.deployments.pokes.take() => tenants = changed,
                () = self.missed.notified() => (deep, all) = (true, true),
                _ = every.tick() => {
                    let again = std::mem::take(&mut *self.again.lock().unwrap_or_else(PoisonError::into_inner));
                    again.into_iter().for_each(|(tenant, device)| self.seen.add(Change::Report(tenant, device)));
                    (deep, all) = (sweeps.is_multiple_of(DEEP_EVERY), true);
                    sweeps = sweeps.wrapping_add(1);
                }
            }
            if all {
                match store::tenants(self.deployments.db.pool()).await {
                    Ok(known) => tenants.extend(known),
                    Err(error) => tracing::warn!(%error, "deployments could not be read; trying again in a minute"),
                }
            }
            for tenant in tenants {
                if let Err(error) = self.sweep(tenant, deep).await {
                    tracing::warn!(%tenant, %error, "deployments could not be compared; trying again in a minute");
                }
            }
        }
    }

    /// Compares what a tenant's devices were told with what follows from its deployments, and judges those that differ, or
    /// all of them when `deep`.
    pub(super) async fn sweep(&self, tenant: TenantId, deep: bool) -> Result<(), DeploymentError> {
        let d = &self.deployments;
        let known = self.known(tenant).await?;
        let mut due: BTreeMap<(DeviceId, Subject), DeploymentId> = BTreeMap::new();
        for deployment in &known.active {
            let admitted = match deployment.gradual {
                true => Some(rollouts::admitted(d.db.pool(), tenant, deployment.id).await?),
                false => None,
            };
            let mut after = None;
            loop {
                let page = d.fleet.matching(tenant, &deployment.selector, after, PAGE).await?;
                after = page.next;
                let reached =
                    page.devices.into_iter().filter(|device| admitted.as_ref().is_none_or(|of| of.contains(&device.id)));
                due.extend(reached.map(|device| ((device.id, deployment.subject.clone()), deployment.id)));
                if after.is_none() {
                    break;
                }
            }
        }
        let mut devices: BTreeSet<DeviceId> = BTreeSet::new();
        let mut after = (String::new(), String::new());
        loop {
            let page = store::all_assignments(d.db.pool(), tenant, (&after.0, &after.1), PAGE).await?;
            let more = page.len() == PAGE as usize;
            if let Some(last) = page.last() {
                after = (last.device.to_string(), last.subject.to_string());
            }
            for row in page {
                let same = due.remove(&(row.device, row.subject.clone())) == Some(row.deployment);
                // A device that refused may have made room.
                if deep || !same || row.standing.is_untold() {
                    devices.insert(row.device);
                }
            }
            if !more {
                break;
            }
        }
        devices.extend(due.into_keys().map(|(device, _)| device));
        self.judge_each(&known, devices).await;
        self.release(tenant).await
    }

    pub(super) async fn judge_all(&self, tenant: TenantId, devices: Vec<DeviceId>) -> Result<(), DeploymentError> {
        let known = self.known(tenant).await?;
        self.judge_each(&known, devices).await;
        Ok(())
    }

    async fn judge_each(&self, known: &Known, devices: impl IntoIterator<Item = DeviceId>) {
        let devices: Vec<_> = devices.into_iter().collect();
        self.each(&devices, Look::Judge(known)).await;
    }

    /// Looks at some devices at a time, one task of this process after the other: what one reads is written before the next one
    /// looks. Returns the devices that it failed for; one whose rows cannot be read never holds up the others.
    async fn each(&self, devices: &[DeviceId], look: Look<'_>) -> Vec<DeviceId> {
        let mut failed = Vec::new();
        for some in devices.chunks(TOGETHER) {
            let _turn = self.deployments.turn.lock().await;
            match self.look(some, look).await {
                Err(error) if is_corrupt(&error) => {
                    for device in some.chunks(1) {
                        let looked = self.look(device, look).await;
                        failed.extend(looked.err().map(|error| warn(device[0], &error)));
                    }
                }
                Err(error) => failed.extend(some.iter().map(|device| warn(*device, &error))),
                Ok(()) => {}
            }
        }
        failed
    }

    async fn look(&self, devices: &[DeviceId], look: Look<'_>) -> Result<(), DeploymentError> {
        match look {
            Look::Judge(known) => self.judge(known, devices).await,
            Look::Report(tenant) => self.report(tenant, devices).await,
        }
    }

    pub(super) async fn known(&self, tenant: TenantId) -> Result<Known, DeploymentError> {
        Ok(Known { tenant, active: store::active(self.deployments.db.pool(), tenant).await? })
    }

    /// Lets go of the model versions that ended deployments kept, once no device has them by such a deployment.
    async fn release(&self, tenant: TenantId) -> Result<(), DeploymentError> {
        let d = &self.deployments;
        for deployment in store::to_release(d.db.pool(), tenant).await? {
            let mut tx = d.db.begin().await?;
            if let Some(model) = deployment.subject.model() {
                d.offers.models.release(&mut tx, tenant, model, &holder(deployment.id)).await?;
            }
            store::released(&mut tx, tenant, deployment.id).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

fn is_corrupt(error: &DeploymentError) -> bool {
    matches!(
        error,
        DeploymentError::Store(StoreError::Corrupt(_)) | DeploymentError::Fleet(FleetError::Store(StoreError::Corrupt(_)))
    )
}

fn warn(device: DeviceId, error: &DeploymentError) -> DeviceId {
    tracing::warn!(%device, %error, "a device could not be brought up to its deployments; trying again in a minute");
    device
}
