//! Rollouts as people make, watch and steer them. Nothing here tells a device anything: the conductor admits devices by what is
//! written, and the reconciler tells them.

use super::candidate::Candidate;
use super::course::{Command, Course};
use super::deployments::{Made, PAGE, Plan as Reach, holder};
use super::desired::Desired;
use super::members;
use super::ports::DeviceFacts;
use super::readings::Point;
use super::readings_store;
use super::rollout_store::{self as rollouts, Cell, Member, Rollout, Tallies};
use super::store::{self, Deployment, State};
use super::{DeploymentError, Deployments};
use crate::tenants::Caller;
use aidos_protocol::api::overview::RolloutCounts;
use aidos_protocol::api::rollouts::{Outcome, RolloutPhase};
use aidos_protocol::rollout::{Plan, Share};
use aidos_protocol::selector::Selector;
use aidos_protocol::{DeploymentId, DeviceId, TenantId};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// How often a command starts again because the rollout went on meanwhile.
const TRIES: usize = 5;
/// Devices of a rollout that change how large its table is.
const MANY: usize = 1_000;
/// Reasons of a forecast that say why a device does not fit.
const REASONS: usize = 10;
/// Bytes of a reason that a person gives.
const MAX_REASON: usize = 500;

/// A rollout with what it rolls out. One that was made as a deployment has no course of its own.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) deployment: Deployment,
    pub(super) rollout: Option<Rollout>,
}

/// The devices of a rollout that is, or would be, made now.
pub(super) struct Cast {
    pub(super) candidate: Candidate,
    pub(super) selector: Selector,
    pub(super) matching: u64,
    /// In the order of the waves.
    pub(super) members: Vec<(DeviceId, usize)>,
    bounds: Vec<u64>,
    pub(super) unfit: u64,
    pub(super) reasons: Vec<String>,
}

impl Deployments {
    /// Finds the devices of a rollout and puts them into waves, and changes nothing.
    pub(super) async fn cast(
        &self,
        tenant: TenantId,
        id: DeploymentId,
        reference: &str,
        selector: &str,
        plan: &Plan,
    ) -> Result<Cast, DeploymentError> {
        plan.check().map_err(DeploymentError::Plan)?;
        let selector: Selector = selector.parse()?;
        let candidate = self.offers.resolve(tenant, reference).await?;
        candidate.desired.check(&candidate.named(), plan).map_err(DeploymentError::Plan)?;
        let archs = candidate.desired.archs();
        let mut cast = Cast {
            candidate: candidate.clone(),
            selector,
            matching: 0,
            members: Vec::new(),
            bounds: Vec::new(),
            unfit: 0,
            reasons: Vec::new(),
        };
        let mut devices = BTreeSet::new();
        for device in self.all_matching(tenant, &cast.selector).await? {
            cast.matching += 1;
            if let Some(reason) = self.fleet.unfit(tenant, device, &plan.constraints, &archs).await? {
                cast.unfit += 1;
                if cast.reasons.len() < REASONS {
                    cast.reasons.push(format!("{device}: {reason}"));
                }
                continue;
            }
            devices.insert(device);
        }
        let mut labelled: BTreeMap<(&str, &str), BTreeSet<DeviceId>> = BTreeMap::new();
        for (key, value) in plan.wave_labels() {
            let of: Selector = format!("{key}={value}").parse()?;
            labelled.insert((key, value), self.all_matching(tenant, &of).await?.into_iter().collect());
        }
        let takes = |share: &Share, device: DeviceId| match share {
            Share::Label { key, value } => labelled.get(&(key.as_str(), value.as_str())).is_some_and(|all| all.contains(&device)),
            Share::Percent(_) | Share::Count(_) => false,
        };
        (cast.members, cast.bounds) = members::assign(id, &plan.waves, devices, takes);
        Ok(cast)
    }

    async fn all_matching(&self, tenant: TenantId, selector: &Selector) -> Result<Vec<DeviceId>, DeploymentError> {
        let (mut devices, mut after) = (Vec::new(), None);
        loop {
            let page = self.fleet.matching(tenant, selector, after, PAGE).await?;
            devices.extend(page.devices.into_iter().map(|device| device.id));
            after = page.next;
            if after.is_none() {
                return Ok(devices);
            }
        }
    }

    /// Says whom a rollout would reach, and when, and changes nothing.
    pub(crate) async fn forecast(
        &self,
        tenant: TenantId,
        reference: &str,
        selector: &str,
        plan: &Plan,
        show: usize,
    ) -> Result<Forecast, DeploymentError> {
        let cast = self.cast(tenant, DeploymentId::new(self.clock.now().as_millis()), reference, selector, plan).await?;
        let mut present = 0;
        let mut first = Vec::new();
        let devices: Vec<_> = cast.members.iter().map(|(device, _)| *device).collect();
        for some in devices.chunks(PAGE as usize) {
            let wanted = self.fleet.wanted(tenant, some).await?;
            let mut facts = self.fleet.devices(tenant, &some[..show.saturating_sub(first.len()).min(some.len())]).await?;
            for device in some {
                let wanted = wanted.get(device).and_then(|wanted| wanted.desired.get(&cast.candidate.subject));
                present += u64::from(wanted.is_some_and(|desired| desired.digest() == cast.candidate.desired.digest()));
                if let Some(facts) = facts.remove(device) {
                    first.push((facts, wanted.map(Desired::version)));
                }
            }
        }
        let of = |wave: usize| cast.members.iter().filter(|(_, of)| *of == wave).count() as u64;
        let waves = plan.waves.shares().iter().enumerate().map(|(wave, share)| (share.to_string(), of(wave))).collect();
        let reach = Reach { candidate: cast.candidate, selector: cast.selector, matching: cast.matching, first };
        Ok(Forecast { reach, waves, present, unfit: cast.unfit, reasons: cast.reasons, members: cast.members.len() as u64 })
    }

    /// Makes a rollout. One that holds already for the same version on the same selector is the answer instead.
    pub(crate) async fn roll_out(
        &self,
        caller: &Caller,
        reference: &str,
        selector: &str,
        plan: Plan,
        undoes: Option<DeploymentId>,
    ) -> Result<Made, DeploymentError> {
        let (tenant, now) = (caller.tenant, self.clock.now());
        let id = DeploymentId::new(now.as_millis());
        let cast = self.cast(tenant, id, reference, selector, &plan).await?;
        let Candidate { subject, desired } = cast.candidate;
        let mut tx = self.db.begin().await?;
        let holding = store::holding(&mut tx, tenant, &subject, &cast.selector, false).await?;
        if let Some(same) = holding.filter(|holding| holding.desired.is_of(&desired)) {
            return Ok(Made::Existing(same));
        }
        if let Some(other) = store::holding(&mut tx, tenant, &subject, &cast.selector, true).await? {
            let text = format!(
                "{} of {} is under way on the same selector: `aidos rollout abort {}` ends it, `promote` brings it on",
                other.id,
                other.named(),
                other.id
            );
            return Err(DeploymentError::Conflict(text));
        }
        let created = self.place(&mut tx, tenant, now).await?;
        let row = Deployment {
            gradual: true,
            priority: plan.priority,
            ..self.row(caller, id, Candidate { subject, desired: desired.planned(&plan) }, cast.selector, created)
        };
        self.insert(&mut tx, caller, &row).await?;
        let course = Course::new(&plan);
        let rollout = Rollout { id, plan, course, readings: Vec::new(), bounds: cast.bounds, undoes, revision: 0, updated: now };
        rollouts::insert(&mut tx, tenant, &rollout).await?;
        rollouts::add_members(&mut tx, tenant, id, &cast.members, now).await?;
        let detail = json!({
            "subject": row.subject, "version": row.desired.version(), "selector": row.selector, "waves": rollout.plan.waves,
            "devices": cast.members.len(), "undoes": undoes,
        });
        self.activity.record(&mut tx, caller, "rollout.create", &id.to_string(), detail.clone()).await?;
        tx.commit().await?;
        if cast.members.len() >= MANY {
            self.db.grown("rollout_devices").await;
        }
        self.events.publish(tenant, "rollout.created", &id.to_string(), detail);
        self.courses.add((tenant, id));
        Ok(Made::New(row))
    }

    /// One rollout.
    pub(crate) async fn rollout(&self, tenant: TenantId, id: DeploymentId) -> Result<Whole, DeploymentError> {
        let deployment = self.get(tenant, id).await?;
        Ok(Whole { deployment, rollout: rollouts::rollout(self.db.pool(), tenant, id).await? })
    }

    /// The devices of a rollout, by id after `after`, of one wave (from 0) and in one outcome where given.
    pub(super) async fn members(
        &self,
        tenant: TenantId,
        id: DeploymentId,
        filter: (Option<usize>, Option<Outcome>),
        after: &str,
        limit: u32,
    ) -> Result<Vec<Member>, DeploymentError> {
        self.get(tenant, id).await?;
        Ok(rollouts::members(self.db.pool(), tenant, id, filter, after, limit).await?)
    }

    /// Every device, wave by wave, within a wave by id.
    pub(super) async fn cells(&self, tenant: TenantId, id: DeploymentId) -> Result<Vec<Cell>, DeploymentError> {
        self.get(tenant, id).await?;
        Ok(rollouts::cells(self.db.pool(), tenant, id).await?)
    }

    /// What each gate of its plan said over time, oldest first.
    pub(super) async fn readings(&self, tenant: TenantId, rollout: &Rollout) -> Result<Vec<Vec<Point>>, DeploymentError> {
        Ok(readings_store::readings(self.db.pool(), tenant, rollout.id, rollout.plan.gates.len()).await?)
    }

    /// How many rollouts are under way and paused.
    pub(crate) async fn unfinished(&self, tenant: TenantId) -> Result<RolloutCounts, DeploymentError> {
        Ok(rollouts::unfinished_counts(self.db.pool(), tenant).await?)
    }

    /// Those of `ids` that are rollouts, with how far they are; the others are deployments.
    pub(super) async fn rollouts(
        &self,
        tenant: TenantId,
        ids: &[DeploymentId],
    ) -> Result<BTreeMap<DeploymentId, (Rollout, Tallies)>, DeploymentError> {
        let found = rollouts::rollouts(self.db.pool(), tenant, ids).await?;
        let ids: Vec<DeploymentId> = found.keys().copied().collect();
        let mut tallies = rollouts::tallies(self.db.pool(), tenant, &ids).await?;
        Ok(found.into_iter().map(|(id, rollout)| (id, (rollout, tallies.remove(&id).unwrap_or_default()))).collect())
    }

    /// How far one rollout is.
    pub(super) async fn tallies(&self, tenant: TenantId, rollout: DeploymentId) -> Result<Tallies, DeploymentError> {
        Ok(rollouts::tallies(self.db.pool(), tenant, &[rollout]).await?.remove(&rollout).unwrap_or_default())
    }

    /// What is known of those of `devices` that are there, without their twins.
    pub(super) async fn facts(
        &self,
        tenant: TenantId,
        devices: &[DeviceId],
    ) -> Result<BTreeMap<DeviceId, DeviceFacts>, DeploymentError> {
        Ok(self.fleet.devices(tenant, devices).await?)
    }

    /// Carries out a person's command.
    pub(super) async fn steer(
        &self,
        caller: &Caller,
        id: DeploymentId,
        command: &Command,
        reason: &str,
    ) -> Result<Whole, DeploymentError> {
        let tenant = caller.tenant;
        if reason.len() > MAX_REASON {
            let message = format!("a reason has at most {MAX_REASON} bytes");
            return Err(DeploymentError::Plan(aidos_protocol::rollout::PlanError { field: "reason", message }));
        }
        for _ in 0..TRIES {
            let Whole { rollout, .. } = self.rollout(tenant, id).await?;
            let Some(mut rollout) = rollout else {
                let text =
                    format!("{id} is a deployment of one wave, everyone has been told: `aidos deployment stop {id}` ends it");
                return Err(DeploymentError::Conflict(text));
            };
            let refused = |why| DeploymentError::Conflict(format!("{id} cannot do that: {why}"));
            rollout.course = rollout.course.command(&rollout.plan, command).map_err(refused)?;
            let now = self.clock.now();
            let mut tx = self.db.begin().await?;
            if !rollouts::update(&mut tx, tenant, &rollout, now).await? {
                // It went on meanwhile: what the command means is judged anew.
                continue;
            }
            if rollout.course.phase == RolloutPhase::Aborted {
                store::abort(&mut tx, tenant, id, rollout.course.reverted, now).await?;
            }
            let mut detail = json!({ "reason": reason, "wave": rollout.course.wave + 1 });
            let action = match command {
                Command::Pause { .. } => "rollout.pause",
                Command::Resume => "rollout.resume",
                Command::Promote { all } => {
                    detail["all"] = (*all).into();
                    "rollout.promote"
                }
                Command::Abort { .. } => {
                    detail["reverted"] = rollout.course.reverted.into();
                    "rollout.abort"
                }
                Command::Supersede => "rollout.supersede",
            };
            self.activity.record(&mut tx, caller, action, &id.to_string(), detail.clone()).await?;
            tx.commit().await?;
            self.events.publish(tenant, "rollout.changed", &id.to_string(), json!({ "phase": rollout.course.phase }));
            self.courses.add((tenant, id));
            self.pokes.add(tenant);
            return self.rollout(tenant, id).await;
        }
        Err(DeploymentError::Conflict(format!("{id} changes too fast: try again")))
    }

    /// Undoes a rollout: one that is under way is aborted and its devices go back; one that is finished gives way to the version
    /// before it, or to `to`.
    pub(super) async fn undo(
        &self,
        caller: &Caller,
        id: DeploymentId,
        to: Option<&str>,
        reason: &str,
    ) -> Result<Whole, DeploymentError> {
        let tenant = caller.tenant;
        let Whole { deployment, rollout } = self.rollout(tenant, id).await?;
        let under_way = rollout.as_ref().is_some_and(|rollout| !rollout.course.phase.is_over());
        if under_way && to.is_none() {
            let abort = Command::Abort { revert: Some(true), reason: format!("undone: {reason}") };
            return self.steer(caller, id, &abort, reason).await;
        }
        match deployment.state {
            State::Superseded { by } => {
                return Err(DeploymentError::Conflict(format!("{id} has been superseded by {by}: undo that one")));
            }
            State::Stopped { .. } | State::Reverted => {
                return Err(DeploymentError::Conflict(format!(
                    "{id} was ended before everyone had it: there is nothing to undo"
                )));
            }
            State::Active => {}
        }
        if under_way {
            self.steer(caller, id, &Command::Abort { revert: Some(true), reason: format!("undone: {reason}") }, reason).await?;
        }
        let version = match to {
            Some(version) => version.to_owned(),
            None => {
                let earlier = store::earlier(self.db.pool(), tenant, &deployment).await?;
                let first = || {
                    DeploymentError::Conflict(format!(
                        "{id} is the first of {} on `{}`: name a version with `--to`, or take it off with \
                         `aidos deployment stop {id} --remove`",
                        deployment.subject, deployment.selector
                    ))
                };
                earlier.ok_or_else(first)?.desired.version()
            }
        };
        let old = rollout.map(|rollout| rollout.plan).unwrap_or_default();
        let plan = Plan {
            max_unavailable: old.max_unavailable,
            priority: deployment.priority,
            // It is known to work: a device that cannot take it back does not hold up the others.
            max_failed: "100%".parse().expect("a limit"),
            ..Plan::default()
        };
        let reference = format!("{}@{version}", deployment.subject);
        let made = self.roll_out(caller, &reference, &deployment.selector.to_string(), plan, Some(id)).await?;
        let row = match made {
            Made::New(row) => {
                // What undoes it is in its own history, too, with the reason.
                let mut tx = self.db.begin().await?;
                let detail = json!({ "reason": reason, "by": row.id, "version": version });
                self.activity.record(&mut tx, caller, "rollout.undo", &id.to_string(), detail).await?;
                tx.commit().await?;
                row
            }
            Made::Existing(row) => row,
        };
        self.rollout(tenant, row.id).await
    }

    /// A deployment as it is made now.
    pub(super) fn row(
        &self,
        caller: &Caller,
        id: DeploymentId,
        candidate: Candidate,
        selector: Selector,
        created: aidos_protocol::time::Micros,
    ) -> Deployment {
        Deployment {
            id,
            subject: candidate.subject,
            desired: candidate.desired.by(id),
            selector,
            state: State::Active,
            gradual: false,
            priority: 0,
            created,
            created_by: caller.actor.clone(),
            ended: None,
        }
    }

    /// Writes a new deployment, and keeps its model version from being deleted. Releases and settings never are.
    pub(super) async fn insert(
        &self,
        tx: &mut crate::platform::db::Tx,
        caller: &Caller,
        row: &Deployment,
    ) -> Result<(), DeploymentError> {
        use crate::platform::db::StoreError;
        store::insert(tx, caller.tenant, row).await.map_err(|error| match error {
            // On Postgres two people may have done the same at once.
            StoreError::Conflict(_) => DeploymentError::Conflict(
                "someone else deployed the same on the same selector just now: look at that deployment first".into(),
            ),
            error => error.into(),
        })?;
        if let Some(model) = row.subject.model() {
            self.offers.models.hold(tx, caller.tenant, model, row.desired.number(), &holder(row.id)).await?;
        }
        Ok(())
    }
}

/// What a rollout would do now.
pub(crate) struct Forecast {
    pub(crate) reach: Reach,
    /// Each share, and the devices it adds.
    pub(crate) waves: Vec<(String, u64)>,
    /// Devices that want this file already.
    pub(crate) present: u64,
    pub(crate) unfit: u64,
    pub(crate) reasons: Vec<String>,
    pub(crate) members: u64,
}
