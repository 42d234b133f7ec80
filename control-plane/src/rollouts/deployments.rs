//! Deployments as people make, watch and stop them. Nothing here touches a device: the reconciler does, from what is written.

use super::candidate::{Candidate, Offers};
use super::course::Command;
use super::desired::Desired;
use super::machine::Standing;
use super::ports::{DeviceFacts, Fleet, FleetError};
use super::rollout_store as rollouts;
use super::store::{self, Assignment, Deployment, State};
use crate::platform::{
    clock::Clock,
    db::{Db, StoreError, Tx},
    http::Events,
};
use crate::registry::RegistryError;
use crate::tenants::{Activity, Caller};
use aidos_protocol::{
    DeploymentId, DeviceId, Subject, TenantId,
    api::deployments::{DeploymentCounts, Progress},
    rollout::PlanError,
    selector::{Selector, SelectorError},
    time::Micros,
};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Active deployments of one tenant: each is looked at for each device that changes.
const MAX_ACTIVE: u64 = 1_000;
/// Devices of one look at the fleet.
pub(super) const PAGE: u32 = 1_000;

/// A refusal or failure of this room.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeploymentError {
    /// There is no such deployment in this tenant.
    #[error("there is no deployment {0}")]
    NotFound(DeploymentId),
    /// There is no such device in this tenant.
    #[error("there is no device {0}")]
    NoDevice(DeviceId),
    /// The state of things forbids it.
    #[error("{0}")]
    Conflict(String),
    /// The selector cannot be read.
    #[error("{0}")]
    Selector(#[from] SelectorError),
    /// The plan of a rollout cannot be followed.
    #[error("{0}")]
    Plan(PlanError),
    /// The registry's word on what is deployed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The fleet's.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A cheap handle to the deployments.
#[derive(Clone)]
pub(crate) struct Deployments {
    pub(super) db: Db,
    pub(super) offers: Offers,
    pub(super) fleet: Arc<dyn Fleet>,
    pub(super) activity: Activity,
    pub(super) events: Events,
    pub(super) clock: Clock,
    /// Tenants whose deployments were changed, for the reconciler.
    pub(super) pokes: Arc<Pokes<TenantId>>,
    /// Rollouts to look at, for the conductor.
    pub(super) courses: Arc<Pokes<(TenantId, DeploymentId)>>,
    /// Of the tasks that look at devices, the one whose turn it is: two at once could write down the older report last.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

/// What waits for a background task; the same thing waits once.
pub(super) struct Pokes<T> {
    waiting: Mutex<BTreeSet<T>>,
    wake: Notify,
}

impl<T> Default for Pokes<T> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), wake: Notify::default() }
    }
}

impl<T: Ord> Pokes<T> {
    pub(super) fn add(&self, what: T) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(what);
        self.wake.notify_one();
    }
    /// Waits until there are any. Cancel-safe: what is not returned stays.
    pub(super) async fn take(&self) -> BTreeSet<T> {
        loop {
            let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if !waiting.is_empty() {
                return waiting;
            }
            self.wake.notified().await;
        }
    }
}

/// What a deployment would do now.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) candidate: Candidate,
    pub(crate) selector: Selector,
    pub(crate) matching: u64,
    /// The first of them, each with the version that is wanted there now.
    pub(crate) first: Vec<(DeviceFacts, Option<String>)>,
}

/// What came of making a deployment.
#[derive(Debug)]
pub(crate) enum Made {
    /// It is new.
    New(Deployment),
    /// The same one holds already.
    Existing(Deployment),
}

/// One device of a deployment.
#[derive(Debug)]
pub(crate) struct DeviceProgress {
    pub(crate) device: DeviceId,
    pub(crate) name: String,
    pub(crate) online: bool,
    pub(crate) progress: Progress,
    pub(crate) step: Option<String>,
    pub(crate) active_version: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) told: Micros,
    pub(crate) updated: Micros,
}

impl Deployments {
    /// Deployments in `db`, of what the registry `offers` on `fleet`.
    pub(crate) fn new(db: Db, offers: Offers, fleet: Arc<dyn Fleet>, activity: Activity, events: Events, clock: Clock) -> Self {
        let (pokes, courses, turn) = Default::default();
        Self { db, offers, fleet, activity, events, clock, pokes, courses, turn }
    }

    /// Says whom a deployment would reach, and changes nothing.
    pub(crate) async fn plan(
        &self,
        tenant: TenantId,
        reference: &str,
        selector: &str,
        show: usize,
    ) -> Result<Plan, DeploymentError> {
        let selector: Selector = selector.parse()?;
        let candidate = self.offers.resolve(tenant, reference).await?;
        let (mut matching, mut first, mut after) = (0, Vec::new(), None);
        loop {
            let page = self.fleet.matching(tenant, &selector, after, PAGE).await?;
            matching += page.devices.len() as u64;
            after = page.next;
            for device in page.devices {
                if first.len() == show {
                    break;
                }
                let wanted = self.fleet.wanted(tenant, &[device.id]).await?;
                let wanted = wanted.get(&device.id).and_then(|wanted| wanted.desired.get(&candidate.subject));
                first.push((device, wanted.map(Desired::version)));
            }
            if after.is_none() {
                return Ok(Plan { candidate, selector, matching, first });
            }
        }
    }

    /// Makes a deployment. One that holds for the same subject on the same selector gives way to it, or is the answer when it
    /// is of the same version.
    pub(crate) async fn create(&self, caller: &Caller, reference: &str, selector: &str) -> Result<Made, DeploymentError> {
        let tenant = caller.tenant;
        let selector: Selector = selector.parse()?;
        let candidate = self.offers.resolve(tenant, reference).await?;
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let holding = store::holding(&mut tx, tenant, &candidate.subject, &selector, false).await?;
        if let Some(same) = holding.as_ref().filter(|holding| holding.desired.is_of(&candidate.desired)) {
            return Ok(Made::Existing(same.clone()));
        }
        let created = self.place(&mut tx, tenant, now).await?;
        let row = self.row(caller, DeploymentId::new(now.as_millis()), candidate, selector, created);
        let id = row.id;
        if let Some(old) = &holding {
            store::supersede(&mut tx, tenant, old.id, id, now).await?;
        }
        if let Some(rolling) = store::holding(&mut tx, tenant, &row.subject, &row.selector, true).await? {
            store::supersede(&mut tx, tenant, rolling.id, id, now).await?;
            self.overtake(&mut tx, caller, rolling.id, id, now).await?;
        }
        self.insert(&mut tx, caller, &row).await?;
        let detail = json!({ "subject": row.subject, "version": row.desired.version(), "selector": row.selector });
        self.activity.record(&mut tx, caller, "deployment.create", &id.to_string(), detail.clone()).await?;
        tx.commit().await?;
        self.events.publish(tenant, "deployment.created", &id.to_string(), detail);
        self.pokes.add(tenant);
        Ok(Made::New(row))
    }

    /// Ends the course of a rollout that a deployment takes the place of.
    async fn overtake(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        rollout: DeploymentId,
        by: DeploymentId,
        now: Micros,
    ) -> Result<(), DeploymentError> {
        let tenant = caller.tenant;
        let Some(mut row) = rollouts::rollout(&mut **tx, tenant, rollout).await? else { return Ok(()) };
        row.course = row.course.command(&row.plan, &Command::Supersede).map_err(DeploymentError::Conflict)?;
        if !rollouts::update(tx, tenant, &row, now).await? {
            return Err(DeploymentError::Conflict(format!("{rollout} went on just now: try again")));
        }
        let detail = json!({ "by": by });
        Ok(self.activity.record(tx, caller, "rollout.supersede", &rollout.to_string(), detail).await?)
    }

    /// Room for one more, and when it is made: a clock that went back must not make the newer one the older.
    pub(super) async fn place(&self, tx: &mut Tx, tenant: TenantId, now: Micros) -> Result<Micros, DeploymentError> {
        let (active, newest) = store::census(tx, tenant).await?;
        if active >= MAX_ACTIVE {
            return Err(DeploymentError::Conflict(format!(
                "{active} deployments are active, the limit is {MAX_ACTIVE}: stop some first, or deploy with a wider selector"
            )));
        }
        Ok(now.max(Micros(newest.0 + 1)))
    }

    /// One deployment.
    pub(crate) async fn get(&self, tenant: TenantId, id: DeploymentId) -> Result<Deployment, DeploymentError> {
        store::deployment(self.db.pool(), tenant, id).await?.ok_or(DeploymentError::NotFound(id))
    }

    /// Deployments older than `before`, newest first; of `subject` and in `state` where given.
    pub(crate) async fn list(
        &self,
        tenant: TenantId,
        subject: Option<&Subject>,
        state: Option<&str>,
        before: Micros,
        limit: u32,
    ) -> Result<Vec<Deployment>, DeploymentError> {
        Ok(store::list(self.db.pool(), tenant, subject, state, before, limit).await?)
    }

    /// How far a deployment's devices are.
    pub(crate) async fn counts(&self, tenant: TenantId, id: DeploymentId) -> Result<DeploymentCounts, DeploymentError> {
        let reported = store::counts(self.db.pool(), tenant, id).await?;
        let of = |progress| reported.get(&progress).copied().unwrap_or(0);
        let mut counts = DeploymentCounts {
            total: reported.values().sum(),
            pending: of(Progress::Pending),
            downloading: of(Progress::Downloading),
            ready: of(Progress::Ready),
            failed: of(Progress::Failed),
            offline: 0,
        };
        if counts.pending + counts.downloading == 0 {
            return Ok(counts);
        }
        (counts.pending, counts.downloading) = (0, 0);
        let unfinished = store::unfinished(self.db.pool(), tenant, id).await?;
        let online = self.online(tenant, &unfinished.iter().map(|(device, _)| *device).collect::<Vec<_>>()).await?;
        for (device, progress) in unfinished {
            let online = online.contains(&device);
            match (online, progress) {
                (false, _) => counts.offline += 1,
                (true, Progress::Downloading) => counts.downloading += 1,
                (true, _) => counts.pending += 1,
            }
        }
        // The rows may have changed between the two looks.
        counts.total = counts.pending + counts.downloading + counts.ready + counts.failed + counts.offline;
        Ok(counts)
    }

    /// Those of `devices` that have a session now.
    async fn online(&self, tenant: TenantId, devices: &[DeviceId]) -> Result<BTreeSet<DeviceId>, DeploymentError> {
        if devices.len() > PAGE as usize {
            return Ok(self.fleet.online(tenant).await?);
        }
        let facts = self.fleet.devices(tenant, devices).await?;
        Ok(facts.into_values().filter(|device| device.online).map(|device| device.id).collect())
    }

    /// The devices of a deployment, by id after `after`.
    pub(crate) async fn devices(
        &self,
        tenant: TenantId,
        id: DeploymentId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<DeviceProgress>, DeploymentError> {
        self.get(tenant, id).await?;
        let rows = store::devices(self.db.pool(), tenant, id, after, limit).await?;
        let ids: Vec<DeviceId> = rows.iter().map(|row| row.device).collect();
        let mut facts = self.fleet.devices(tenant, &ids).await?;
        Ok(rows.into_iter().map(|row| (facts.remove(&row.device), row)).map(|(facts, row)| progress(row, facts)).collect())
    }

    /// Stops a deployment. Its devices keep what they have, or lose it with `remove`. Stopping twice is the same as once; the
    /// removal may be added later.
    pub(crate) async fn stop(&self, caller: &Caller, id: DeploymentId, remove: bool) -> Result<Deployment, DeploymentError> {
        let tenant = caller.tenant;
        if let State::Superseded { by } = self.get(tenant, id).await?.state {
            return Err(DeploymentError::Conflict(format!("{id} has been superseded by {by}: stop that one")));
        }
        let rollout = rollouts::rollout(self.db.pool(), tenant, id).await?;
        if rollout.is_some_and(|rollout| !rollout.course.phase.is_over()) {
            let abort = Command::Abort { revert: Some(false), reason: String::new() };
            self.steer(caller, id, &abort, "stopped as a deployment").await?;
        }
        let mut tx = self.db.begin().await?;
        if store::stop(&mut tx, tenant, id, remove, self.clock.now()).await? {
            let detail = json!({ "remove": remove });
            self.activity.record(&mut tx, caller, "deployment.stop", &id.to_string(), detail.clone()).await?;
            tx.commit().await?;
            self.events.publish(tenant, "deployment.stopped", &id.to_string(), detail);
        } else {
            drop(tx);
        }
        // Also when it was stopped before, for the case that the first call died here.
        self.pokes.add(tenant);
        self.get(tenant, id).await
    }
}

/// What the registry tells people about a hold.
pub(super) fn holder(id: DeploymentId) -> String {
    format!("deployment {id}")
}

fn progress(row: Assignment, facts: Option<DeviceFacts>) -> DeviceProgress {
    let Standing { progress, step, active_version, error } = row.standing;
    let online = facts.as_ref().is_some_and(|facts| facts.online);
    let unfinished = matches!(progress, Progress::Pending | Progress::Downloading);
    DeviceProgress {
        device: row.device,
        name: facts.map(|facts| facts.name).unwrap_or_default(),
        online,
        progress: if unfinished && !online { Progress::Offline } else { progress },
        step,
        active_version,
        error,
        told: row.told,
        updated: row.updated,
    }
}
