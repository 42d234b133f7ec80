use super::*;
use crate::rollouts::ports::Status;
use crate::rollouts::tests::apply;
use aidos_protocol::artifact::Digest;
use aidos_protocol::twin::{DesiredModel, ModelState, ModelStatus};
use proptest::prelude::*;

fn deployment(age: i64, model: &str, version: u64, selector: &str) -> Deployment {
    let id = DeploymentId::new(age.unsigned_abs());
    let digest = Digest::of(format!("{model}@{version}").as_bytes());
    Deployment {
        id,
        subject: model.parse().unwrap(),
        desired: Desired::Model(Box::new(DesiredModel { deployment: Some(id), ..DesiredModel::new(version, digest, 1) })),
        selector: selector.parse().unwrap(),
        state: State::Active,
        gradual: false,
        priority: 0,
        created: Micros(age),
        created_by: "system".into(),
        ended: None,
    }
}

fn labels(text: &str) -> BTreeMap<String, String> {
    text.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn fates(deployments: &[Deployment]) -> BTreeMap<DeploymentId, Fate> {
    deployments.iter().filter_map(|d| Some((d.id, Fate::of(d)?))).collect()
}

/// What the device is told once the decision is carried out.
fn after(decision: &Decision, wanted: &BTreeMap<Subject, Desired>) -> BTreeMap<Subject, Desired> {
    let mut wanted = wanted.clone();
    decision.edits.iter().for_each(|edit| apply(&mut wanted, edit));
    wanted
}

fn versions(wanted: &BTreeMap<Subject, Desired>) -> Vec<(String, u64)> {
    wanted.iter().map(|(subject, desired)| (subject.to_string(), desired.number())).collect()
}

fn model(deployment: &Deployment) -> DesiredModel {
    let Desired::Model(model) = &deployment.desired else { panic!("{deployment:?}") };
    (**model).clone()
}

#[test]
fn the_newest_matching_deployment_wins_and_a_late_joiner_gets_it() {
    let all = [deployment(1, "m", 1, "*"), deployment(2, "m", 2, "site=lab"), deployment(3, "n", 1, "site=home")];
    let lab = decide(&all, &fates(&all), &BTreeMap::new(), &labels("site=lab"), &BTreeMap::new());
    assert_eq!(versions(&after(&lab, &BTreeMap::new())), [("m".to_owned(), 2)]);
    let other = decide(&all, &fates(&all), &BTreeMap::new(), &labels(""), &BTreeMap::new());
    assert_eq!(versions(&after(&other, &BTreeMap::new())), [("m".to_owned(), 1)]);
}

#[test]
fn a_device_that_no_longer_matches_falls_back_or_loses_the_model() {
    let all = [deployment(1, "m", 1, "*"), deployment(2, "m", 2, "site=lab")];
    let wanted = after(&decide(&all, &fates(&all), &BTreeMap::new(), &labels("site=lab"), &BTreeMap::new()), &BTreeMap::new());
    let moved = decide(&all, &fates(&all), &BTreeMap::new(), &labels("site=home"), &wanted);
    assert_eq!(versions(&after(&moved, &wanted)), [("m".to_owned(), 1)]);
    let alone = &all[1..];
    let moved = decide(alone, &fates(alone), &BTreeMap::new(), &labels("site=home"), &wanted);
    assert_eq!(after(&moved, &wanted), BTreeMap::new());
    assert!(moved.governed.is_empty());
}

#[test]
fn stopping_leaves_or_removes_the_model_as_asked() {
    let mut all = [deployment(1, "m", 1, "*"), deployment(2, "m", 2, "*")];
    let wanted = after(&decide(&all, &fates(&all), &BTreeMap::new(), &labels(""), &BTreeMap::new()), &BTreeMap::new());
    all[1].state = State::Stopped { removed: false };
    let left = decide(&all[..1], &fates(&all), &BTreeMap::new(), &labels(""), &wanted);
    assert_eq!((left.edits.len(), left.governed.values().copied().collect::<Vec<_>>()), (0, vec![all[1].id]));
    let newer = [all[0].clone(), deployment(3, "m", 3, "*")];
    let overridden = decide(&newer, &fates(&all), &BTreeMap::new(), &labels(""), &wanted);
    assert_eq!(versions(&after(&overridden, &wanted)), [("m".to_owned(), 3)]);
    all[1].state = State::Stopped { removed: true };
    let fallen_back = decide(&all[..1], &fates(&all), &BTreeMap::new(), &labels(""), &wanted);
    assert_eq!(versions(&after(&fallen_back, &wanted)), [("m".to_owned(), 1)]);
    let removed = decide(&[], &fates(&all), &BTreeMap::new(), &labels(""), &wanted);
    assert_eq!(after(&removed, &wanted), BTreeMap::new());
}

#[test]
fn what_a_person_put_there_stays_unless_a_deployment_wants_otherwise() {
    let by_hand = DesiredModel { deployment: None, ..model(&deployment(9, "m", 7, "*")) };
    let wanted = BTreeMap::from([("m".parse().unwrap(), Desired::Model(Box::new(by_hand)))]);
    assert_eq!(decide(&[], &BTreeMap::new(), &BTreeMap::new(), &labels(""), &wanted), Decision::default());
    let all = [deployment(1, "m", 1, "*")];
    assert_eq!(
        versions(&after(&decide(&all, &fates(&all), &BTreeMap::new(), &labels(""), &wanted), &wanted)),
        [("m".to_owned(), 1)]
    );
}

#[test]
fn only_the_device_s_own_word_about_this_version_and_file_is_success() {
    let told = deployment(1, "m", 2, "*");
    let digest = told.desired.digest();
    let report = |state, desired_version, active_version, digest| ModelStatus {
        state,
        desired_version,
        active_version,
        digest,
        ..ModelStatus::default()
    };
    let standing = |status: Option<&ModelStatus>| told.desired.standing(status.cloned().map(Status::Model).as_ref());
    let progress = |status: Option<&ModelStatus>| standing(status).progress;
    assert_eq!(progress(None), Progress::Pending);
    let done = report(ModelState::Ready, Some(2), Some(2), Some(digest));
    assert_eq!(progress(Some(&done)), Progress::Ready);
    for not_yet in [
        report(ModelState::Ready, Some(1), Some(1), None),
        report(ModelState::Ready, Some(2), Some(1), None),
        report(ModelState::Ready, Some(2), Some(2), Some(Digest::of(b"other"))),
        report(ModelState::Failed, Some(1), Some(1), None),
        report(ModelState::Pending, Some(2), Some(1), None),
    ] {
        assert_eq!(progress(Some(&not_yet)), Progress::Pending, "{not_yet:?}");
    }
    let failed = ModelStatus { error: "disk full".into(), ..report(ModelState::Failed, Some(2), Some(1), None) };
    let waiting = ModelStatus { error: "its window is closed".into(), ..report(ModelState::Waiting, Some(2), Some(1), None) };
    assert_eq!(standing(Some(&waiting)).error.as_deref(), Some("its window is closed"));
    let failed = standing(Some(&failed));
    assert_eq!(
        (failed.progress, failed.error.as_deref(), failed.active_version.as_deref()),
        (Progress::Failed, Some("disk full"), Some("1"))
    );
}

fn deployments() -> impl Strategy<Value = Vec<Deployment>> {
    let selector = prop::sample::select(vec!["*", "site=lab", "site=home", "site!=lab", "gpu"]);
    let state = prop::sample::select(vec![State::Active, State::Stopped { removed: true }, State::Stopped { removed: false }]);
    let one = (prop::sample::select(vec!["m", "n"]), 1..4u64, selector, state);
    proptest::collection::vec(one, 0..8).prop_map(|list| {
        let make = |(age, (model, version, selector, state))| Deployment { state, ..deployment(age, model, version, selector) };
        (1..).zip(list).map(make).collect()
    })
}

proptest! {
    #[test]
    fn a_second_look_finds_nothing_to_do(
        all in deployments(),
        site in prop::sample::select(vec!["site=lab", "site=home,gpu=yes", ""]),
        before in prop::sample::select(vec!["site=lab", "site=home,gpu=yes", ""]),
    ) {
        let active: Vec<_> = all.iter().filter(|d| d.state == State::Active).cloned().collect();
        // The device lived through everything as if it had all been active, with other labels.
        let ever: Vec<_> = all.iter().cloned().map(|d| Deployment { state: State::Active, ..d }).collect();
        let wanted = after(&decide(&ever, &fates(&ever), &BTreeMap::new(), &labels(before), &BTreeMap::new()), &BTreeMap::new());
        let first = decide(&active, &fates(&all), &BTreeMap::new(), &labels(site), &wanted);
        let then = after(&first, &wanted);
        let second = decide(&active, &fates(&all), &BTreeMap::new(), &labels(site), &then);
        prop_assert!(second.edits.is_empty(), "{:?}", second.edits);
        prop_assert_eq!(&first.governed, &second.governed);
        // Whatever is there is governed by the deployment it names, and nothing is left of a removed one.
        for (subject, desired) in &then {
            prop_assert_eq!(second.governed.get(subject).copied(), desired.deployment());
            let by = all.iter().find(|d| Some(d.id) == desired.deployment()).unwrap();
            prop_assert_ne!(by.state, State::Stopped { removed: true });
        }
    }
}

#[test]
fn a_gradual_deployment_reaches_the_admitted_only_and_what_holds_stays_underneath() {
    let holds = deployment(1, "m", 1, "*");
    let gradual = Deployment { gradual: true, ..deployment(2, "m", 2, "*") };
    let all = [holds.clone(), gradual.clone()];
    let admission = Admission { trial: false, before: Some(Some(holds.desired.clone())) };
    let admitted = BTreeMap::from([(gradual.id, admission)]);
    let (inside, outside) = (&admitted, &BTreeMap::new());
    let told = |admissions| after(&decide(&all, &fates(&all), admissions, &labels(""), &BTreeMap::new()), &BTreeMap::new());
    assert_eq!(versions(&told(outside)), [("m".to_owned(), 1)]);
    assert_eq!(versions(&told(inside)), [("m".to_owned(), 2)]);

    // Aborted: what holds underneath comes back; where nothing does, what was there before.
    let reverted = [Deployment { state: State::Reverted, ..gradual.clone() }, holds.clone()];
    let back = decide(std::slice::from_ref(&holds), &fates(&reverted), inside, &labels(""), &told(inside));
    assert_eq!(versions(&after(&back, &told(inside))), [("m".to_owned(), 1)]);
    let alone = decide(&[], &fates(&reverted), inside, &labels(""), &told(inside));
    assert_eq!(after(&alone, &told(inside))[&gradual.subject], holds.desired);
    let first = BTreeMap::from([(gradual.id, Admission { trial: false, before: Some(None) })]);
    assert!(after(&decide(&[], &fates(&reverted), &first, &labels(""), &told(inside)), &told(inside)).is_empty());
}

#[test]
fn a_device_on_trial_is_told_the_experiment_and_later_the_version_alone() {
    use aidos_protocol::rollout::Experiment;
    let mut gradual = Deployment { gradual: true, ..deployment(2, "m", 2, "*") };
    let mut with = model(&gradual);
    with.update.experiment = Some(Experiment::Shadow { percent: 10 });
    gradual.desired = Desired::Model(Box::new(with));
    let all = [gradual.clone()];
    let told = |trial| {
        let admitted = BTreeMap::from([(gradual.id, Admission { trial, before: Some(None) })]);
        let told = after(&decide(&all, &fates(&all), &admitted, &labels(""), &BTreeMap::new()), &BTreeMap::new());
        let Desired::Model(model) = told[&gradual.subject].clone() else { panic!("{told:?}") };
        model.update.experiment
    };
    assert!(told(true).is_some());
    assert!(told(false).is_none());
}
