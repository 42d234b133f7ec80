//! The task that brings the devices' intents to what the deployments say. It takes no input: whatever wakes it, it reads the
//! desired state and the present one and edits the difference, so running twice, or in two processes, is harmless.
//!
//! ```text
//! a device changed     → that device
//! a deployment changed → the devices that have, or should have, something else than they were told
//! each minute          → the same, for every tenant
//! at start, or when changes were missed, and each hour → every device with or for a deployment
//! ```

use super::deployments::{Deployments, PAGE, holder};
use super::machine::{self, Admission, Fate, Standing};
use super::ports::{Change, FleetError, Wanted};
use super::rollout_store::{self as rollouts, Member};
use super::store::{self, Assignment, Deployment, State};
use super::{DeploymentError, deployments::Pokes, members, outcome};
use aidos_protocol::api::rollouts::Outcome;
use aidos_protocol::time::Micros;
use aidos_protocol::twin::ModelStatus;
use aidos_protocol::{DeploymentId, DeviceId, ModelName, TenantId};
use futures::{FutureExt as _, StreamExt as _, stream};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often everything is compared: what a lost wake-up costs at most.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Each so many sweeps read the devices' intents too, not only what this room knows of them: once an hour.
const DEEP_EVERY: u32 = 60;
/// Devices worked on at once: each loads one twin.
const AT_ONCE: usize = 8;
/// Changes taken together before they are worked on; a device among them twice is worked on once.
const BATCH: usize = 1_024;
/// `DesiredModel`s of one edit; the twin takes no more at once.
const EDITS_AT_ONCE: usize = aidos_protocol::twin::edit::MAX_EDITS;

/// The background task.
pub(crate) struct Reconciler {
    deployments: Deployments,
    /// Devices whose reports could not be recorded: read again with the next sweep. As many as there are devices.
    again: Mutex<BTreeSet<(TenantId, DeviceId)>>,
}

/// The deployments of one tenant, read once for many devices.
struct Known {
    tenant: TenantId,
    /// What wins last.
    active: Vec<Deployment>,
}

#[derive(Default)]
struct Work {
    devices: BTreeSet<(TenantId, DeviceId)>,
    reports: BTreeSet<(TenantId, DeviceId)>,
    tenants: BTreeSet<TenantId>,
    everything: bool,
}

impl Work {
    fn add(&mut self, change: Change) {
        match change {
            Change::Intent(tenant, device) => _ = self.devices.insert((tenant, device)),
            Change::Report(tenant, device) => _ = self.reports.insert((tenant, device)),
            Change::Missed => self.everything = true,
        }
    }
}

impl Reconciler {
    /// The task for `deployments`.
    pub(crate) fn new(deployments: Deployments) -> Self {
        Self { deployments, again: Mutex::default() }
    }

    /// Reconciles until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        // Subscribed before the first look, so that nothing falls between.
        let mut changes = self.deployments.fleet.changes();
        let pokes: Arc<Pokes<TenantId>> = self.deployments.pokes.clone();
        let mut every = tokio::time::interval(SWEEP_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut sweeps = 0u32;
        let mut listening = true;
        loop {
            let mut work = Work::default();
            tokio::select! {
                () = shutdown.cancelled() => return,
                tenants = pokes.take() => work.tenants = tenants,
                change = changes.next(), if listening => match change {
                    Some(change) => work.add(change),
                    // The fleet is shutting down.
                    None => listening = false,
                },
                _ = every.tick() => {
                    work.reports = std::mem::take(&mut *self.again.lock().unwrap_or_else(PoisonError::into_inner));
                    work.everything = sweeps.is_multiple_of(DEEP_EVERY);
                    sweeps = sweeps.wrapping_add(1);
                    match store::tenants(self.deployments.db.pool()).await {
                        Ok(tenants) => work.tenants.extend(tenants),
                        Err(error) => tracing::warn!(%error, "deployments could not be read; trying again in a minute"),
                    }
                }
            }
            for _ in 0..BATCH {
                match changes.next().now_or_never() {
                    Some(Some(change)) => work.add(change),
                    _ => break,
                }
            }
            if shutdown.run_until_cancelled(self.work(work)).await.is_none() {
                return;
            }
        }
    }

    async fn work(&self, mut work: Work) {
        if work.everything {
            match store::tenants(self.deployments.db.pool()).await {
                Ok(tenants) => work.tenants.extend(tenants),
                Err(error) => tracing::warn!(%error, "deployments could not be read; trying again in a minute"),
            }
        }
        for tenant in &work.tenants {
            if let Err(error) = self.sweep(*tenant, work.everything).await {
                tracing::warn!(%tenant, %error, "deployments could not be compared; trying again in a minute");
            }
        }
        let mut by_tenant: BTreeMap<TenantId, Vec<DeviceId>> = BTreeMap::new();
        for (tenant, device) in &work.devices {
            by_tenant.entry(*tenant).or_default().push(*device);
        }
        for (tenant, devices) in by_tenant {
            if let Err(error) = self.judge_all(tenant, devices).await {
                tracing::warn!(%tenant, %error, "deployments could not be compared; trying again in a minute");
            }
        }
        stream::iter(work.reports.difference(&work.devices))
            .for_each_concurrent(AT_ONCE, |(tenant, device)| async move {
                if let Err(error) = self.report(*tenant, *device).await {
                    tracing::warn!(%tenant, %device, %error, "progress could not be recorded; trying again in a minute");
                    self.again.lock().unwrap_or_else(PoisonError::into_inner).insert((*tenant, *device));
                }
            })
            .await;
    }

    /// Compares what a tenant's devices were told with what follows from its deployments, and judges those that differ, or
    /// all of them when `deep`.
    pub(super) async fn sweep(&self, tenant: TenantId, deep: bool) -> Result<(), DeploymentError> {
        let d = &self.deployments;
        let known = self.known(tenant).await?;
        let mut due: BTreeMap<(DeviceId, ModelName), DeploymentId> = BTreeMap::new();
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
                due.extend(reached.map(|device| ((device.id, deployment.model.clone()), deployment.id)));
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
                after = (last.device.to_string(), last.model.to_string());
            }
            for row in page {
                let same = due.remove(&(row.device, row.model.clone())) == Some(row.deployment);
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
        stream::iter(devices)
            .for_each_concurrent(AT_ONCE, |device| async move {
                if let Err(error) = self.judge(known, device).await {
                    // One device that cannot be edited never holds up the others.
                    tracing::warn!(tenant = %known.tenant, %device, %error, "a device could not be brought up to its deployments");
                }
            })
            .await;
    }

    async fn known(&self, tenant: TenantId) -> Result<Known, DeploymentError> {
        Ok(Known { tenant, active: store::active(self.deployments.db.pool(), tenant).await? })
    }

    /// Brings one device's intent to what follows from the deployments, and writes down what it was told.
    async fn judge(&self, known: &Known, device: DeviceId) -> Result<(), DeploymentError> {
        let (d, tenant) = (&self.deployments, known.tenant);
        let rows = store::assignments(d.db.pool(), tenant, device).await?;
        if d.fleet.device(tenant, device).await?.is_none() {
            return self.forget(tenant, device, rows.iter().map(|row| &row.model)).await;
        }
        if known.active.is_empty() && rows.is_empty() {
            return Ok(());
        }
        let wanted = d.fleet.wanted(tenant, device).await?;
        let ids = wanted.models.values().filter_map(|desired| desired.deployment);
        let fates = self.fates(known, ids).await?;
        let admissions = self.admissions(known, device, &wanted).await?;
        let decision = machine::decide(&known.active, &fates, &admissions, &wanted.labels, &wanted.models);
        self.remember(tenant, device, &wanted, &decision.governed, &admissions).await?;
        let mut refused = None;
        for edits in decision.edits.chunks(EDITS_AT_ONCE) {
            match d.fleet.edit(tenant, device, edits).await {
                Ok(()) => {}
                Err(FleetError::Refused(reason)) => refused = Some(reason),
                Err(error) => return Err(error.into()),
            }
        }
        let gone = rows.iter().map(|row| &row.model).filter(|model| !decision.governed.contains_key(*model));
        self.forget(tenant, device, gone).await?;
        self.record(tenant, device, &decision.governed, &rows, refused).await
    }

    /// The rollouts that have told the device something. It is put into those that it matches and came late for.
    async fn admissions(
        &self,
        known: &Known,
        device: DeviceId,
        wanted: &Wanted,
    ) -> Result<BTreeMap<DeploymentId, Admission>, DeploymentError> {
        let (d, tenant) = (&self.deployments, known.tenant);
        let mut admissions = rollouts::admissions(d.db.pool(), tenant, device).await?;
        let late = known.active.iter().filter(|deployment| {
            deployment.gradual && !admissions.contains_key(&deployment.id) && deployment.selector.matches(&wanted.labels)
        });
        for deployment in late {
            let Some(rollout) = rollouts::rollout(d.db.pool(), tenant, deployment.id).await? else { continue };
            if d.fleet.unfit(tenant, device, &rollout.plan.constraints).await?.is_some() {
                continue;
            }
            let wave = members::late(members::rank(rollout.id, device), &rollout.bounds);
            let mut tx = d.db.begin().await?;
            rollouts::add_members(&mut tx, tenant, rollout.id, &[(device, wave)], d.clock.now()).await?;
            tx.commit().await?;
            d.courses.add((tenant, rollout.id));
        }
        admissions.retain(|_, admission| admission.is_some());
        Ok(admissions.into_iter().filter_map(|(id, admission)| Some((id, admission?))).collect())
    }

    /// Writes down what a device had before a rollout's first edit, so that it can go back.
    async fn remember(
        &self,
        tenant: TenantId,
        device: DeviceId,
        wanted: &Wanted,
        governed: &BTreeMap<ModelName, DeploymentId>,
        admissions: &BTreeMap<DeploymentId, Admission>,
    ) -> Result<(), DeploymentError> {
        for (model, id) in governed {
            if admissions.get(id).is_some_and(|admission| admission.before.is_none()) {
                let before = wanted.models.get(model).filter(|desired| desired.deployment != Some(*id));
                let mut tx = self.deployments.db.begin().await?;
                rollouts::remember(&mut tx, tenant, *id, device, before).await?;
                tx.commit().await?;
            }
        }
        Ok(())
    }

    /// The device reported something about its models: its progress may be another one.
    async fn report(&self, tenant: TenantId, device: DeviceId) -> Result<(), DeploymentError> {
        let rows = store::assignments(self.deployments.db.pool(), tenant, device).await?;
        if rows.is_empty() {
            // It was never told anything, so it may be new.
            return self.judge(&self.known(tenant).await?, device).await;
        }
        let told = rows.iter().filter(|row| !row.standing.is_untold());
        let governed = told.map(|row| (row.model.clone(), row.deployment)).collect();
        self.record(tenant, device, &governed, &rows, None).await
    }

    /// Writes down what the device was told and how far it is, where that differs from `rows`.
    async fn record(
        &self,
        tenant: TenantId,
        device: DeviceId,
        governed: &BTreeMap<ModelName, DeploymentId>,
        rows: &[Assignment],
        refused: Option<String>,
    ) -> Result<(), DeploymentError> {
        if governed.is_empty() {
            return Ok(());
        }
        let d = &self.deployments;
        let (reported, now) = (d.fleet.reported(tenant, device).await?, d.clock.now());
        for (model, id) in governed {
            let Some(deployment) = store::deployment(d.db.pool(), tenant, *id).await? else { continue };
            let before = rows.iter().find(|row| row.model == *model && row.deployment == *id);
            let status = reported.get(model);
            let standing = match &refused {
                Some(reason) => Standing::untold(reason.clone()),
                None => machine::standing(&deployment.desired, status),
            };
            self.judge_outcome(tenant, device, &deployment, &standing, status, now).await?;
            if before.is_some_and(|row| row.standing == standing) {
                continue;
            }
            let told = before.map_or(now, |row| row.told);
            let row = Assignment { device, model: model.clone(), deployment: *id, standing, told, updated: now };
            let mut tx = d.db.begin().await?;
            store::put_assignment(&mut tx, tenant, &row).await?;
            tx.commit().await?;
            let data = json!({
                "device": device, "model": model, "version": deployment.version, "progress": row.standing.progress,
                "step": row.standing.step, "error": row.standing.error,
            });
            d.events.publish(tenant, "deployment.progress", &id.to_string(), data);
        }
        Ok(())
    }

    /// Writes down what follows for the device's part in the rollout, if it has one.
    async fn judge_outcome(
        &self,
        tenant: TenantId,
        device: DeviceId,
        deployment: &Deployment,
        standing: &Standing,
        status: Option<&ModelStatus>,
        now: Micros,
    ) -> Result<(), DeploymentError> {
        let d = &self.deployments;
        let Some(was) = rollouts::member(d.db.pool(), tenant, deployment.id, device).await? else { return Ok(()) };
        let (health, transfer) = d.fleet.account(tenant, device, &deployment.model).await?;
        let report = outcome::of(deployment.id, &deployment.desired, health);
        let transfer = transfer.filter(|transfer| transfer.version == deployment.version && transfer.digest == deployment.digest);
        let (outcome, reason) = outcome::judge(was.trial, standing, status, report.as_ref())
            .filter(|_| was.outcome != Outcome::Waiting)
            // What it said before it fell silent is no new word.
            .filter(|_| was.outcome != Outcome::Silent || report.is_none() || report != was.report)
            .unwrap_or_else(|| (was.outcome, was.reason.clone()));
        let is = Member {
            outcome,
            reason,
            report: report.or_else(|| was.report.clone()),
            fetched: transfer.as_ref().map_or(was.fetched, |transfer| Some(transfer.fetched)),
            updated: now,
            ..was.clone()
        };
        if (Member { updated: was.updated, ..is.clone() }) == was {
            return Ok(());
        }
        let mut tx = d.db.begin().await?;
        rollouts::put_outcome(&mut tx, tenant, deployment.id, &is).await?;
        tx.commit().await?;
        d.courses.add((tenant, deployment.id));
        if is.outcome != was.outcome {
            let data = json!({ "device": device, "outcome": is.outcome, "reason": is.reason, "wave": is.wave + 1 });
            d.events.publish(tenant, "rollout.device", &deployment.id.to_string(), data);
        }
        Ok(())
    }

    async fn forget(
        &self,
        tenant: TenantId,
        device: DeviceId,
        models: impl Iterator<Item = &ModelName>,
    ) -> Result<(), DeploymentError> {
        for model in models {
            let mut tx = self.deployments.db.begin().await?;
            store::delete_assignment(&mut tx, tenant, device, model).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    async fn fates(
        &self,
        known: &Known,
        ids: impl Iterator<Item = DeploymentId>,
    ) -> Result<BTreeMap<DeploymentId, Fate>, DeploymentError> {
        let mut fates = BTreeMap::new();
        for id in ids {
            if let Some(deployment) = known.active.iter().find(|deployment| deployment.id == id) {
                fates.extend(Fate::of(deployment).map(|fate| (id, fate)));
                continue;
            }
            let pool = self.deployments.db.pool();
            let mut end = store::deployment(pool, known.tenant, id).await?;
            if let Some(Deployment { state: State::Superseded { by }, .. }) = end {
                // Chains are kept one step long.
                end = store::deployment(pool, known.tenant, by).await?;
            }
            fates.extend(end.as_ref().and_then(Fate::of).map(|fate| (id, fate)));
        }
        Ok(fates)
    }

    /// Lets go of the model versions that ended deployments kept, once no device has them by such a deployment.
    async fn release(&self, tenant: TenantId) -> Result<(), DeploymentError> {
        let d = &self.deployments;
        for deployment in store::to_release(d.db.pool(), tenant).await? {
            let mut tx = d.db.begin().await?;
            d.models.release(&mut tx, tenant, &deployment.model, &holder(deployment.id)).await?;
            store::released(&mut tx, tenant, deployment.id).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
