//! What a device's reports say about its part in a rollout. Pure. Success is only the signed health report of the running new
//! version, in this rollout: that a file was fetched or a model loaded never is.

use super::machine::Standing;
use super::ports::Account;
use super::ports::Status;
use super::rollout_store::Member;
use super::store::Deployment;
use aidos_protocol::api::deployments::Progress;
use aidos_protocol::api::rollouts::Outcome;
use aidos_protocol::time::Micros;
use aidos_protocol::twin::{Health, HealthReport};

/// What follows for a device that was told something (`trial`: the experiment only), with its report of what it was told. `None`:
/// nothing yet.
pub(super) fn judge(
    trial: bool,
    standing: &Standing,
    status: Option<&Status>,
    ours: Option<&HealthReport>,
) -> Option<(Outcome, String)> {
    let in_trial = status.is_some_and(Status::in_experiment);
    Some(match ours.map(|report| (report.health, report)) {
        Some((Health::Unhealthy, report)) => (Outcome::Failed, reason(&report.reason)),
        // A report from the experiment does not vouch for the version answering alone.
        Some((Health::Healthy, _)) if !trial && !in_trial => (Outcome::Succeeded, String::new()),
        Some((Health::Watching, _)) if trial && in_trial => (Outcome::Trying, String::new()),
        Some((Health::Watching, _)) if !trial && !in_trial => (Outcome::Running, String::new()),
        _ if standing.progress == Progress::Failed => (Outcome::Failed, reason(standing.error.as_deref().unwrap_or_default())),
        _ => return None,
    })
}

/// What a device's account makes of its part in a rollout that told it `deployment`; `None`: nothing new.
pub(super) fn follow(
    was: &Member,
    deployment: &Deployment,
    standing: &Standing,
    account: &Account,
    now: Micros,
) -> Option<Member> {
    let (subject, told) = (&deployment.subject, &deployment.desired);
    let report = account.health.get(subject).filter(|report| told.is_in(report, deployment.id)).cloned();
    let transfer = account.transfers.get(subject);
    let transfer = transfer.filter(|transfer| transfer.version == told.number() && told.holds(transfer.digest));
    let (outcome, reason) = judge(was.trial, standing, account.statuses.get(subject), report.as_ref())
        .filter(|_| was.outcome != Outcome::Waiting)
        // What it said before it fell silent is no new word.
        .filter(|_| was.outcome != Outcome::Silent || report.is_none() || report != was.report)
        .unwrap_or_else(|| (was.outcome, was.reason.clone()));
    let is = Member {
        outcome,
        reason,
        report: report.or_else(|| was.report.clone()),
        fetched: transfer.map_or(was.fetched, |transfer| Some(transfer.fetched)),
        ..was.clone()
    };
    (is != *was).then_some(Member { updated: now, ..is })
}

fn reason(text: &str) -> String {
    if text.is_empty() { "the device gives no reason".into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollouts::desired::Desired;
    use aidos_protocol::artifact::Digest;
    use aidos_protocol::twin::{DesiredModel, Measures, ModelState, ModelStatus};
    use aidos_protocol::{DeploymentId, DeviceId, TenantId};

    fn rollout() -> DeploymentId {
        "dep_00000000000000000000000000000009".parse().unwrap()
    }

    fn report(health: Health) -> HealthReport {
        HealthReport {
            tenant: TenantId::new(1),
            device: DeviceId::new(1),
            subject: "m".parse().unwrap(),
            version: 2,
            digest: Digest::of(b"2"),
            deployment: Some(rollout()),
            boot_id: 1,
            health,
            reason: if health == Health::Unhealthy { "it answers nonsense".into() } else { String::new() },
            self_test: None,
            candidate: Measures::default(),
            baseline: None,
            at_us: Micros(0),
        }
    }

    fn judged(trial: bool, state: ModelState, health: Option<&HealthReport>) -> Option<(Outcome, String)> {
        let told = DesiredModel::new(2, Digest::of(b"2"), 1);
        let status = Status::Model(ModelStatus {
            desired_version: Some(2),
            active_version: Some(2),
            state,
            digest: Some(told.digest),
            ..ModelStatus::default()
        });
        let told = Desired::Model(Box::new(told));
        let ours = health.filter(|report| told.is_in(report, rollout()));
        judge(trial, &told.standing(Some(&status)), Some(&status), ours)
    }

    #[test]
    fn only_a_signed_report_of_this_rollout_and_file_is_success() {
        // The device says that it is ready, and nothing vouches for it.
        assert_eq!(judged(false, ModelState::Ready, None), None);
        assert_eq!(judged(false, ModelState::Ready, Some(&report(Health::Healthy))), Some((Outcome::Succeeded, String::new())));
        let other = HealthReport { deployment: Some(DeploymentId::new(8)), ..report(Health::Healthy) };
        assert_eq!(judged(false, ModelState::Ready, Some(&other)), None);
        let other = HealthReport { digest: Digest::of(b"1"), ..report(Health::Healthy) };
        assert_eq!(judged(false, ModelState::Ready, Some(&other)), None);
    }

    #[test]
    fn an_experiment_vouches_for_the_experiment_only() {
        assert_eq!(judged(true, ModelState::Trial, Some(&report(Health::Watching))).unwrap().0, Outcome::Trying);
        assert_eq!(judged(false, ModelState::Trial, Some(&report(Health::Watching))), None);
        assert_eq!(judged(false, ModelState::Watching, Some(&report(Health::Watching))).unwrap().0, Outcome::Running);
    }

    #[test]
    fn failure_is_believed_without_a_signature() {
        assert_eq!(judged(false, ModelState::Failed, None).unwrap().0, Outcome::Failed);
        let unhealthy = judged(false, ModelState::RolledBack, Some(&report(Health::Unhealthy))).unwrap();
        assert_eq!(unhealthy, (Outcome::Failed, "it answers nonsense".into()));
    }
}
