//! What is done to some devices at a time: their intents are brought to what follows from the deployments, and what they report is
//! written down. All that is known of them is read first, what follows is pure, and it is written in one transaction.

use super::desired::Desired;
use super::machine::{self, Admission, Decision, Fate, Standing};
use super::ports::{Account, FleetError, Wanted};
use super::rollout_store::{self as rollouts, Member};
use super::store::{self, Assignment, Deployment, State};
use super::{DeploymentError, Reconciler, members, outcome};
use aidos_protocol::{DeploymentId, DeviceId, Subject, TenantId};
use futures::{StreamExt as _, stream};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Devices whose intents are edited at once: SQLite's writers share their commits.
const AT_ONCE: usize = 16;
/// What is told with one edit; the twin takes no more at once.
const EDITS_AT_ONCE: usize = aidos_protocol::twin::edit::MAX_EDITS;

/// The deployments of one tenant, read once for many devices.
pub(super) struct Known {
    pub(super) tenant: TenantId,
    /// What wins last.
    pub(super) active: Vec<Deployment>,
}

/// What a device was told.
#[derive(Debug, Default)]
struct Told {
    /// By which deployment it has which subject.
    governed: BTreeMap<Subject, DeploymentId>,
    /// Why its intent could not take it.
    refused: Option<String>,
    /// What no deployment puts there any more.
    gone: Vec<Subject>,
}

type Rows = BTreeMap<DeviceId, Vec<Assignment>>;

impl Reconciler {
    /// Brings devices' intents to what follows from the deployments, and writes down what they were told.
    pub(super) async fn judge(&self, known: &Known, devices: &[DeviceId]) -> Result<(), DeploymentError> {
        let (d, tenant) = (&self.deployments, known.tenant);
        let rows = store::assignments(d.db.pool(), tenant, devices).await?;
        if known.active.is_empty() && rows.is_empty() {
            return Ok(());
        }
        let wanted = d.fleet.wanted(tenant, devices).await?;
        let admissions = self.admissions(known, &wanted).await?;
        let named = wanted.values().flat_map(|wanted| wanted.desired.values().filter_map(Desired::deployment));
        let fates = self.fates(known, named.collect()).await?;
        let nothing = BTreeMap::new();
        let decide = |(device, wanted): (&DeviceId, &Wanted)| {
            let admissions = admissions.get(device).unwrap_or(&nothing);
            (*device, machine::decide(&known.active, &fates, admissions, &wanted.labels, &wanted.desired))
        };
        let decisions: BTreeMap<DeviceId, Decision> = wanted.iter().map(decide).collect();
        self.remember(tenant, &wanted, &decisions, &admissions).await?;
        let mut told: BTreeMap<DeviceId, Told> = stream::iter(decisions)
            .map(|(device, decision)| async move { (device, self.tell(tenant, device, decision).await) })
            .buffer_unordered(AT_ONCE)
            .filter_map(|(device, told)| async move {
                match told {
                    Ok(told) => Some((device, told)),
                    // One device that cannot be edited never holds up the others.
                    Err(error) => {
                        tracing::warn!(%tenant, %device, %error, "a device could not be brought up to its deployments");
                        None
                    }
                }
            })
            .collect()
            .await;
        for (device, rows) in &rows {
            // A device that is not there any more is told nothing.
            let told = match wanted.contains_key(device) {
                true => told.get_mut(device),
                false => Some(told.entry(*device).or_default()),
            };
            if let Some(told) = told {
                let subjects = rows.iter().map(|row| row.subject.clone());
                told.gone = subjects.filter(|subject| !told.governed.contains_key(subject)).collect();
            }
        }
        self.record(tenant, &told, &rows).await
    }

    async fn tell(&self, tenant: TenantId, device: DeviceId, decision: Decision) -> Result<Told, FleetError> {
        let mut told = Told { governed: decision.governed, ..Told::default() };
        for edits in decision.edits.chunks(EDITS_AT_ONCE) {
            match self.deployments.fleet.edit(tenant, device, edits).await {
                Ok(()) => {}
                Err(FleetError::Refused(reason)) => told.refused = Some(reason),
                Err(error) => return Err(error),
            }
        }
        Ok(told)
    }

    /// What the rollouts that matter to each device have told it: those that its intent names, and those under way that it matches.
    /// A device is put into those of the latter that it came late for.
    async fn admissions(
        &self,
        known: &Known,
        wanted: &BTreeMap<DeviceId, Wanted>,
    ) -> Result<BTreeMap<DeviceId, BTreeMap<DeploymentId, Admission>>, DeploymentError> {
        let mut devices_of: BTreeMap<DeploymentId, BTreeSet<DeviceId>> = BTreeMap::new();
        for (device, wanted) in wanted {
            let named = wanted.desired.values().filter_map(Desired::deployment);
            let under_way = known.active.iter().filter(|d| d.gradual && d.selector.matches(&wanted.labels)).map(|d| d.id);
            named.chain(under_way).for_each(|id| _ = devices_of.entry(id).or_default().insert(*device));
        }
        let mut admissions: BTreeMap<DeviceId, BTreeMap<DeploymentId, Admission>> = BTreeMap::new();
        for (id, devices) in devices_of {
            let devices: Vec<_> = devices.into_iter().collect();
            let places = rollouts::admissions(self.deployments.db.pool(), known.tenant, id, &devices).await?;
            if let Some(deployment) = known.active.iter().find(|deployment| deployment.id == id && deployment.gradual) {
                let late = devices.into_iter().filter(|device| !places.contains_key(device)).collect();
                self.admit_late(known.tenant, deployment, late).await?;
            }
            for (device, admission) in places.into_iter().filter_map(|(device, place)| Some((device, place?))) {
                admissions.entry(device).or_default().insert(id, admission);
            }
        }
        Ok(admissions)
    }

    async fn admit_late(&self, tenant: TenantId, deployment: &Deployment, late: Vec<DeviceId>) -> Result<(), DeploymentError> {
        let (d, id) = (&self.deployments, deployment.id);
        if late.is_empty() {
            return Ok(());
        }
        let Some(rollout) = rollouts::rollout(d.db.pool(), tenant, id).await? else { return Ok(()) };
        let mut fit = Vec::new();
        for device in late {
            if d.fleet.unfit(tenant, device, &rollout.plan.constraints, &deployment.desired.archs()).await?.is_none() {
                fit.push((device, members::late(members::rank(id, device), &rollout.bounds)));
            }
        }
        if !fit.is_empty() {
            let mut tx = d.db.begin().await?;
            rollouts::add_members(&mut tx, tenant, id, &fit, d.clock.now()).await?;
            tx.commit().await?;
            d.courses.add((tenant, id));
        }
        Ok(())
    }

    /// Writes down what devices had before a rollout's first edit, so that they can go back.
    async fn remember(
        &self,
        tenant: TenantId,
        wanted: &BTreeMap<DeviceId, Wanted>,
        decisions: &BTreeMap<DeviceId, Decision>,
        admissions: &BTreeMap<DeviceId, BTreeMap<DeploymentId, Admission>>,
    ) -> Result<(), DeploymentError> {
        let mut first = Vec::new();
        for (device, decision) in decisions {
            let Some(admissions) = admissions.get(device) else { continue };
            for (subject, id) in &decision.governed {
                if admissions.get(id).is_some_and(|admission| admission.before.is_none()) {
                    let before = wanted.get(device).and_then(|wanted| wanted.desired.get(subject));
                    first.push((*id, *device, before.filter(|desired| desired.deployment() != Some(*id))));
                }
            }
        }
        if first.is_empty() {
            return Ok(());
        }
        let mut tx = self.deployments.db.begin().await?;
        for (id, device, before) in first {
            rollouts::remember(&mut tx, tenant, id, device, before).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Devices reported something: their progress may be another one.
    pub(super) async fn report(&self, tenant: TenantId, devices: &[DeviceId]) -> Result<(), DeploymentError> {
        let rows = store::assignments(self.deployments.db.pool(), tenant, devices).await?;
        let (known, new): (Vec<DeviceId>, Vec<_>) = devices.iter().partition(|device| rows.contains_key(device));
        let told = known.into_iter().map(|device| {
            let told = rows[&device].iter().filter(|row| !row.standing.is_untold());
            (device, Told { governed: told.map(|row| (row.subject.clone(), row.deployment)).collect(), ..Told::default() })
        });
        self.record(tenant, &told.collect(), &rows).await?;
        if !new.is_empty() {
            // They were never told anything, so they may be new.
            self.judge(&self.known(tenant).await?, &new).await?;
        }
        Ok(())
    }

    /// Writes down what devices were told and how far they are, where that differs from `rows`, and what follows for their parts in
    /// rollouts.
    async fn record(&self, tenant: TenantId, told: &BTreeMap<DeviceId, Told>, rows: &Rows) -> Result<(), DeploymentError> {
        let d = &self.deployments;
        let reporting: Vec<_> = told.iter().filter(|(_, told)| !told.governed.is_empty()).map(|(device, _)| *device).collect();
        let accounts = d.fleet.accounts(tenant, &reporting).await?;
        let ids: BTreeSet<_> = told.values().flat_map(|told| told.governed.values().copied()).collect();
        let (mut assignments, mut outcomes) = (Vec::new(), Vec::new());
        let (nothing, now) = (Account::default(), d.clock.now());
        for id in ids {
            let Some(deployment) = store::deployment(d.db.pool(), tenant, id).await? else { continue };
            let of: Vec<_> = told.iter().filter(|(_, told)| told.governed.get(&deployment.subject) == Some(&id)).collect();
            let devices: Vec<_> = of.iter().map(|(device, _)| **device).collect();
            let members = rollouts::members_of(d.db.pool(), tenant, id, &devices).await?;
            for (device, told) in of {
                let account = accounts.get(device).unwrap_or(&nothing);
                let standing = match &told.refused {
                    Some(reason) => Standing::untold(reason.clone()),
                    None => deployment.desired.standing(account.statuses.get(&deployment.subject)),
                };
                if let Some(was) = members.get(device)
                    && let Some(is) = outcome::follow(was, &deployment, &standing, account, now)
                {
                    outcomes.push((id, was.outcome, is));
                }
                let is_this = |row: &&Assignment| row.subject == deployment.subject && row.deployment == id;
                let before = rows.get(device).into_iter().flatten().find(is_this);
                if before.is_none_or(|row| row.standing != standing) {
                    let told = before.map_or(now, |row| row.told);
                    let (device, subject) = (*device, deployment.subject.clone());
                    let row = Assignment { device, subject, deployment: id, standing, told, updated: now };
                    assignments.push((deployment.desired.version(), row));
                }
            }
        }
        let gone = told.iter().flat_map(|(device, told)| told.gone.iter().map(move |subject| (*device, subject)));
        let gone: Vec<_> = gone.collect();
        if assignments.is_empty() && outcomes.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let mut tx = d.db.begin().await?;
        for (device, subject) in gone {
            store::delete_assignment(&mut tx, tenant, device, subject).await?;
        }
        for (id, _, is) in &outcomes {
            rollouts::put_outcome(&mut tx, tenant, *id, is).await?;
        }
        for (_, row) in &assignments {
            store::put_assignment(&mut tx, tenant, row).await?;
        }
        tx.commit().await?;
        self.announce(tenant, &assignments, &outcomes);
        Ok(())
    }

    fn announce(
        &self,
        tenant: TenantId,
        assignments: &[(String, Assignment)],
        outcomes: &[(DeploymentId, aidos_protocol::api::rollouts::Outcome, Member)],
    ) {
        let d = &self.deployments;
        for (id, was, is) in outcomes {
            d.courses.add((tenant, *id));
            if is.outcome != *was {
                let data = json!({ "device": is.device, "outcome": is.outcome, "reason": is.reason, "wave": is.wave + 1 });
                d.events.publish(tenant, "rollout.device", &id.to_string(), data);
            }
        }
        for (version, row) in assignments {
            let data = json!({
                "device": row.device, "subject": row.subject, "version": version, "progress": row.standing.progress,
                "step": row.standing.step, "error": row.standing.error,
            });
            d.events.publish(tenant, "deployment.progress", &row.deployment.to_string(), data);
        }
    }

    async fn fates(&self, known: &Known, ids: BTreeSet<DeploymentId>) -> Result<BTreeMap<DeploymentId, Fate>, DeploymentError> {
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
}
