//! The task that moves rollouts on. It looks at what the devices of each unfinished rollout have become, asks the course what
//! follows, writes that down, and only then has the reconciler tell the devices. Whatever wakes it, it reads everything anew: running
//! twice, or in two processes, is harmless, since a course is written only over the one it was read from.

use super::course::{self, Act, Seen, Tally};
use super::deployments::Deployments;
use super::readings::Point;
use super::readings_store;
use super::rollout_store::{self as rollouts, Rollout};
use super::store::{self, Deployment};
use super::{DeploymentError, Reconciler};
use crate::tenants::Caller;
use aidos_protocol::api::rollouts::RolloutPhase;
use aidos_protocol::time::Micros;
use aidos_protocol::{DeploymentId, DeviceId, TenantId};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Looks at one rollout are at least so far apart, however much its devices say.
const EVERY: Duration = Duration::from_millis(500);
/// How often all are looked at, should a wake-up be lost.
const SWEEP: Duration = Duration::from_secs(60);
/// How often a look starts again because someone else wrote meanwhile.
const TRIES: usize = 5;

/// The background task.
pub(crate) struct Conductor {
    deployments: Deployments,
    reconciler: Reconciler,
}

impl Conductor {
    /// The task for the rollouts of `deployments`.
    pub(crate) fn new(deployments: Deployments) -> Self {
        Self { reconciler: Reconciler::new(deployments.clone()), deployments }
    }

    /// Moves rollouts on until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut due: BTreeMap<(TenantId, DeploymentId), Micros> = BTreeMap::new();
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = self.deployments.clock.now();
            let wait = due.values().min().map_or(SWEEP, |at| Duration::from_micros((at.0 - now.0).max(0).unsigned_abs()));
            let mut work: Vec<_> = Vec::new();
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.deployments.courses.take() => work.extend(changed),
                () = tokio::time::sleep(wait.min(SWEEP)) => {}
                _ = sweep.tick() => match self.unfinished().await {
                    Ok(all) => work.extend(all),
                    Err(error) => tracing::warn!(%error, "rollouts could not be read; trying again in a minute"),
                },
            }
            let now = self.deployments.clock.now();
            work.extend(due.iter().filter(|(_, at)| **at <= now).map(|(which, _)| *which));
            work.sort_unstable();
            work.dedup();
            for (tenant, id) in work {
                let advanced = shutdown.run_until_cancelled(self.advance(tenant, id)).await;
                match advanced {
                    None => return,
                    Some(Ok(Some(at))) => _ = due.insert((tenant, id), at),
                    Some(Ok(None)) => _ = due.remove(&(tenant, id)),
                    Some(Err(error)) => {
                        tracing::warn!(%tenant, rollout = %id, %error, "a rollout could not be moved on; trying again in a minute");
                        due.remove(&(tenant, id));
                    }
                }
            }
            // What devices say in the meantime is looked at together.
            if shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
                return;
            }
        }
    }

    async fn unfinished(&self) -> Result<Vec<(TenantId, DeploymentId)>, DeploymentError> {
        let pool = self.deployments.db.pool();
        let mut all = Vec::new();
        for tenant in store::tenants(pool).await? {
            all.extend(rollouts::unfinished(pool, tenant).await?.into_iter().map(|id| (tenant, id)));
        }
        Ok(all)
    }

    /// Looks at one rollout, and does what follows. Returns when to look again although nothing is said.
    pub(super) async fn advance(&self, tenant: TenantId, id: DeploymentId) -> Result<Option<Micros>, DeploymentError> {
        let d = &self.deployments;
        for _ in 0..TRIES {
            let Some(rollout) = rollouts::rollout(d.db.pool(), tenant, id).await? else { return Ok(None) };
            if rollout.course.phase.is_over() {
                return Ok(None);
            }
            let now = d.clock.now();
            let deadline = rollout.plan.deadline_us();
            let mut tx = d.db.begin().await?;
            let before = Micros(now.0.saturating_sub(deadline));
            let watching = Micros(before.0.saturating_sub(rollout.plan.watch_us()));
            let silent = rollouts::silence(&mut tx, tenant, id, (before, watching), now).await?;
            tx.commit().await?;
            if silent > 0 {
                tracing::info!(rollout = %id, devices = silent, "devices have said nothing by the deadline");
            }
            let seen = self.see(tenant, &rollout).await?;
            let (course, acts) = rollout.course.clone().look(&rollout.plan, &seen, now);
            let quiet = rollouts::quietest(d.db.pool(), tenant, id).await?.map(|at| Micros(at.0.saturating_add(deadline + 1)));
            let due = [course.due(&rollout.plan, now), quiet.filter(|at| *at > now)].into_iter().flatten().min();
            if course == rollout.course && seen.gates == rollout.readings && acts.is_empty() {
                return Ok(due);
            }
            let next = Rollout { course, readings: seen.gates, ..rollout.clone() };
            if let Some(told) = self.follow(tenant, &rollout, &next, &acts, now).await? {
                self.reconciler.judge_all(tenant, told).await?;
                return Ok(due);
            }
        }
        Err(DeploymentError::Conflict(format!("{id} changes too fast")))
    }

    async fn see(&self, tenant: TenantId, rollout: &Rollout) -> Result<Seen, DeploymentError> {
        let (d, pool) = (&self.deployments, self.deployments.db.pool());
        let mut waves = rollouts::tallies(pool, tenant, &[rollout.id]).await?.remove(&rollout.id).unwrap_or_default().waves;
        waves.resize(rollout.plan.waves.shares().len(), Tally::default());
        let mut unavailable = 0;
        if rollout.plan.max_unavailable.is_some() {
            let changing = rollouts::changing(pool, tenant, rollout.id).await?;
            if !changing.is_empty() {
                let online = d.fleet.online(tenant).await?;
                unavailable = changing.iter().filter(|device| online.contains(device)).count() as u64;
            }
        }
        let mut gates = Vec::new();
        if !rollout.plan.gates.is_empty() {
            let reports = rollouts::reports(pool, tenant, rollout.id, rollout.course.wave).await?;
            gates = course::read(&rollout.plan.gates, &reports, rollout.plan.requests());
        }
        Ok(Seen { waves, unavailable, gates })
    }

    /// Writes down what follows. Returns the devices that are told something, or `None` when someone else wrote first.
    async fn follow(
        &self,
        tenant: TenantId,
        before: &Rollout,
        next: &Rollout,
        acts: &[Act],
        now: Micros,
    ) -> Result<Option<Vec<DeviceId>>, DeploymentError> {
        let (d, id) = (&self.deployments, next.id);
        let mut picked = Vec::new();
        for act in acts {
            picked.push((matches!(act, Act::Try { .. }), self.pick(tenant, id, *act).await?));
        }
        let deployment = d.get(tenant, id).await?;
        let mut tx = d.db.begin().await?;
        if !rollouts::update(&mut tx, tenant, next, now).await? {
            return Ok(None);
        }
        for (gate, reading) in next.readings.iter().enumerate() {
            // The open wave was judged before it was found to be over.
            readings_store::record(&mut tx, tenant, id, gate, Point::new(now, before.course.wave, reading)).await?;
        }
        for (trial, devices) in &picked {
            rollouts::admit(&mut tx, tenant, id, devices, *trial, now).await?;
        }
        let (was, is) = (&before.course, &next.course);
        match is.phase {
            RolloutPhase::Finished => self.settle(&mut tx, tenant, &deployment, now).await?,
            RolloutPhase::Aborted => store::abort(&mut tx, tenant, id, is.reverted, now).await?,
            RolloutPhase::Running | RolloutPhase::Paused | RolloutPhase::Superseded => {}
        }
        let action = match is.phase {
            phase if phase != was.phase => match phase {
                RolloutPhase::Paused => Some("rollout.pause"),
                RolloutPhase::Aborted => Some("rollout.abort"),
                RolloutPhase::Finished => Some("rollout.finish"),
                RolloutPhase::Running | RolloutPhase::Superseded => None,
            },
            _ if is.wave != was.wave => Some("rollout.wave"),
            _ => None,
        };
        let detail = json!({ "wave": is.wave + 1, "reason": is.reason, "reverted": is.reverted });
        if let Some(action) = action {
            d.activity.record(&mut tx, &Caller::system(tenant), action, &id.to_string(), detail).await?;
        }
        tx.commit().await?;
        let data = json!({ "phase": is.phase, "wave": is.wave + 1, "stage": is.stage, "reason": is.reason });
        d.events.publish(tenant, "rollout.changed", &id.to_string(), data);
        if is.phase.is_over() {
            // Devices without a place in it get what holds now.
            d.pokes.add(tenant);
        }
        Ok(Some(picked.into_iter().flat_map(|(_, devices)| devices).collect()))
    }

    /// Which devices: those that are connected first.
    async fn pick(&self, tenant: TenantId, id: DeploymentId, act: Act) -> Result<Vec<DeviceId>, DeploymentError> {
        let d = &self.deployments;
        let (wave, most, trial) = match act {
            Act::Try { wave, most } => (wave, most, true),
            Act::Change { wave, most } => (wave, most, false),
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut devices = rollouts::candidates(d.db.pool(), tenant, id, wave, trial).await?;
        if devices.len() > most {
            let online = d.fleet.online(tenant).await?;
            devices.sort_by_key(|device| !online.contains(device));
            devices.truncate(most);
        }
        Ok(devices)
    }

    /// Everyone who matches gets it from now on, and what held before gives way.
    async fn settle(
        &self,
        tx: &mut crate::platform::db::Tx,
        tenant: TenantId,
        deployment: &Deployment,
        now: Micros,
    ) -> Result<(), DeploymentError> {
        if let Some(old) = store::holding(tx, tenant, &deployment.subject, &deployment.selector, false).await? {
            store::supersede(tx, tenant, old.id, deployment.id, now).await?;
        }
        Ok(store::settle(tx, tenant, deployment).await?)
    }
}
