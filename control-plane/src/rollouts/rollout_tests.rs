//! Rollouts on both stores, on a fleet of twins in memory that vouch for what they run, or do not.

use super::course::Command;
use super::deployments::Made;
use super::rollout_store::Member;
use super::store::Deployment;
use super::tests::{World, obeyed};
use super::{Conductor, DeploymentError, Desired, Status};
use crate::platform::db::Db;
use crate::platform::testing::both_stores;
use aidos_protocol::api::releases::CreateRelease;
use aidos_protocol::api::rollouts::{Outcome, RolloutPhase as Phase};
use aidos_protocol::inventory::Inventory;
use aidos_protocol::rollout::Plan;
use aidos_protocol::twin::{Health, HealthReport, Measures, ModelState, ReleaseState};
use aidos_protocol::{DeploymentId, DeviceId, Subject, time::Micros};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

both_stores!(
    a_good_version_goes_wave_by_wave_to_everyone,
    a_bad_version_is_stopped_in_its_first_wave_and_goes_back,
    a_device_that_only_says_ready_is_no_success,
    pause_resume_and_abort_are_written_down_with_their_actor,
    a_silent_device_fails_and_follows_when_it_comes_back,
    a_device_that_watches_quietly_is_not_silent,
    late_joiners_are_put_into_a_wave_and_follow,
    undo_brings_back_the_version_before_and_can_be_undone,
    a_hand_set_version_comes_back_when_there_is_nothing_underneath,
    two_rollouts_at_once_do_not_hold_each_other_up,
    a_deployment_takes_the_place_of_a_rollout_under_way,
    a_forecast_says_who_and_how_much_and_changes_nothing,
    a_plan_that_cannot_be_followed_names_its_field,
    two_operators_at_once_are_judged_one_after_the_other,
    the_running_tasks_finish_a_rollout_by_themselves,
    a_release_of_the_agent_goes_in_waves_and_a_bad_one_goes_back_to_the_one_before,
    settings_go_in_waves_and_are_undone,
    a_release_with_another_binary_is_another_deployment,
);

fn digits() -> Subject {
    "digits".parse().unwrap()
}

pub(super) fn waves(text: &str) -> Plan {
    Plan { waves: text.parse().unwrap(), auto_revert: true, ..Plan::default() }
}

impl World {
    /// So many devices of the lab that run digits@1.
    pub(super) async fn lab(&self, devices: usize) -> Vec<DeviceId> {
        let lab: Vec<_> = (0..devices).map(|n| self.device(&format!("lab-{n}"), &[("site", "lab")])).collect();
        self.deploy("digits@1", "site=lab").await;
        self.reconcile().await;
        for device in &lab {
            self.fleet.obey(self.alice.tenant, *device);
        }
        self.check_all().await;
        lab
    }

    pub(super) async fn roll_out(&self, model: &str, selector: &str, plan: Plan) -> Deployment {
        self.registry.clock.advance(Duration::from_secs(1));
        match self.deployments.roll_out(&self.alice, model, selector, plan, None).await.unwrap() {
            Made::New(row) => row,
            Made::Existing(row) => panic!("{} holds already", row.id),
        }
    }

    /// The device does what it is told, and vouches for it.
    pub(super) fn vouch(&self, device: DeviceId, health: Health) {
        let tenant = self.alice.tenant;
        self.fleet.change(tenant, device, |twin| {
            for (subject, desired) in &twin.wanted.desired {
                let good = health != Health::Unhealthy;
                let mut status = obeyed(desired);
                if let (false, Status::Model(status)) = (good, &mut status) {
                    (status.active_version, status.digest, status.state) = (Some(1), None, ModelState::RolledBack);
                }
                if let (false, Status::Release(status)) = (good, &mut status) {
                    status.state = ReleaseState::RolledBack;
                }
                twin.reported.insert(subject.clone(), status);
                let digest = match desired {
                    Desired::Release(release) => release.binaries[0].digest,
                    other => other.digest(),
                };
                let report = HealthReport {
                    tenant,
                    device,
                    subject: subject.clone(),
                    version: desired.number(),
                    digest,
                    deployment: desired.deployment(),
                    boot_id: 1,
                    health,
                    reason: if good { String::new() } else { "it answers nonsense".into() },
                    self_test: None,
                    candidate: Measures { requests: 100, memory_bytes: Some(30 << 20), ..Measures::default() },
                    baseline: None,
                    at_us: Micros(1),
                };
                twin.health.insert(subject.clone(), report);
            }
        });
    }

    /// Lets the rollout go on until it has nothing to do, with devices that end up in `health`.
    pub(super) async fn turn(&self, id: DeploymentId, health: Health, devices: &[DeviceId]) {
        self.registry.clock.advance(Duration::from_secs(1));
        Conductor::new(self.deployments.clone()).advance(self.alice.tenant, id).await.unwrap();
        self.reconcile().await;
        for device in devices {
            if self.online(*device) {
                self.vouch(*device, health);
            }
        }
        self.check_all().await;
        Conductor::new(self.deployments.clone()).advance(self.alice.tenant, id).await.unwrap();
        self.reconcile().await;
    }

    pub(super) fn online(&self, device: DeviceId) -> bool {
        self.fleet.twins.lock().unwrap()[&(self.alice.tenant, device)].online
    }

    pub(super) fn count(&self, devices: &[DeviceId], version: u64) -> usize {
        devices.iter().filter(|device| self.versions(**device) == [version]).count()
    }

    pub(super) async fn phase(&self, id: DeploymentId) -> Phase {
        self.deployments.rollout(self.alice.tenant, id).await.unwrap().rollout.unwrap().course.phase
    }

    async fn reason(&self, id: DeploymentId) -> String {
        self.deployments.rollout(self.alice.tenant, id).await.unwrap().rollout.unwrap().course.reason
    }

    pub(super) async fn members(&self, id: DeploymentId) -> Vec<Member> {
        self.deployments.members(self.alice.tenant, id, (None, None), "", 1_000).await.unwrap()
    }

    pub(super) async fn steer(&self, id: DeploymentId, command: Command) -> Result<(), DeploymentError> {
        self.deployments.steer(&self.alice, id, &command, "because").await.map(drop)
    }
}

async fn a_good_version_goes_wave_by_wave_to_everyone(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(20).await;
    let rollout = world.roll_out("digits@2", "site=lab", Plan { soak_s: 60, ..waves("5%,50%,100%") }).await;
    world.turn(rollout.id, Health::Healthy, &[]).await;
    assert_eq!((world.count(&lab, 1), world.count(&lab, 2)), (19, 1), "the first wave is one device");
    world.turn(rollout.id, Health::Healthy, &lab).await;
    assert_eq!(world.count(&lab, 2), 1, "it is looked at first");
    world.registry.clock.advance(Duration::from_secs(60));
    world.turn(rollout.id, Health::Healthy, &lab).await;
    assert_eq!(world.count(&lab, 2), 10);
    world.registry.clock.advance(Duration::from_secs(60));
    world.turn(rollout.id, Health::Healthy, &lab).await;
    world.registry.clock.advance(Duration::from_secs(60));
    world.turn(rollout.id, Health::Healthy, &lab).await;
    assert_eq!((world.phase(rollout.id).await, world.count(&lab, 2)), (Phase::Finished, 20));
    let held = world.deployments.list(world.alice.tenant, None, Some("active"), Micros(i64::MAX), 10).await.unwrap();
    assert_eq!(held.iter().map(|row| row.id).collect::<Vec<_>>(), [rollout.id], "what held before gave way");
    let late = world.device("late", &[("site", "lab")]);
    world.reconcile().await;
    assert_eq!(world.versions(late), [2]);
}

async fn a_bad_version_is_stopped_in_its_first_wave_and_goes_back(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(100).await;
    let rollout = world.roll_out("digits@2", "site=lab", waves("1%,10%,100%")).await;
    world.turn(rollout.id, Health::Unhealthy, &lab).await;
    assert_eq!(world.phase(rollout.id).await, Phase::Aborted);
    assert_eq!(world.reason(rollout.id).await, "1 of 1 devices of wave 1 failed, 0 may");
    assert_eq!(world.count(&lab, 1), 100, "all are back on the old one");
    let failed: Vec<_> = world.members(rollout.id).await.into_iter().filter(|m| m.outcome == Outcome::Failed).collect();
    assert_eq!((failed.len(), failed[0].reason.as_str()), (1, "it answers nonsense"));
    let told = world.members(rollout.id).await.iter().filter(|member| member.told.is_some()).count();
    assert_eq!(told, 1, "one was exposed");
}

async fn a_device_that_only_says_ready_is_no_success(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(2).await;
    let rollout = world.roll_out("digits@2", "site=lab", waves("1,100%")).await;
    world.turn(rollout.id, Health::Healthy, &[]).await;
    for device in &lab {
        world.fleet.obey(world.alice.tenant, *device);
    }
    world.turn(rollout.id, Health::Healthy, &[]).await;
    let outcomes: Vec<_> = world.members(rollout.id).await.iter().map(|member| member.outcome).collect();
    assert!(outcomes.contains(&Outcome::Changing) && !outcomes.contains(&Outcome::Succeeded), "{outcomes:?}");
    assert_eq!(world.phase(rollout.id).await, Phase::Running);
}

async fn pause_resume_and_abort_are_written_down_with_their_actor(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(4).await;
    let rollout = world.roll_out("digits@2", "site=lab", waves("50%,100%")).await;
    world.registry.clock.advance(Duration::from_secs(1));
    world.steer(rollout.id, Command::Pause { reason: "lunch".into() }).await.unwrap();
    world.turn(rollout.id, Health::Healthy, &lab).await;
    assert_eq!((world.phase(rollout.id).await, world.count(&lab, 2)), (Phase::Paused, 0));
    assert!(matches!(world.steer(rollout.id, Command::Pause { reason: String::new() }).await, Err(DeploymentError::Conflict(_))));
    world.registry.clock.advance(Duration::from_secs(1));
    world.steer(rollout.id, Command::Resume).await.unwrap();
    world.turn(rollout.id, Health::Watching, &[]).await;
    assert_eq!(world.count(&lab, 2), 2);
    world.steer(rollout.id, Command::Abort { revert: Some(false), reason: "enough".into() }).await.unwrap();
    world.reconcile().await;
    assert_eq!(world.count(&lab, 2), 2, "without bringing them back they keep it");
    let query = crate::tenants::ActivityQuery { target: Some(rollout.id.to_string()), ..Default::default() };
    let done = world.deployments.activity.list(world.alice.tenant, &query, None, 10).await.unwrap();
    let done: Vec<_> = done.iter().rev().map(|entry| (entry.action.as_str(), entry.actor == world.alice.actor)).collect();
    assert_eq!(done, [("rollout.create", true), ("rollout.pause", true), ("rollout.resume", true), ("rollout.abort", true)]);
}

async fn a_silent_device_fails_and_follows_when_it_comes_back(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(4).await;
    let (tenant, gone) = (world.alice.tenant, lab[1]);
    world.fleet.change(tenant, gone, |twin| twin.online = false);
    let rollout = world.roll_out("digits@2", "site=lab", waves("100%")).await;
    world.turn(rollout.id, Health::Healthy, &lab).await;
    assert_eq!(world.phase(rollout.id).await, Phase::Running, "it is waited for");
    world.registry.clock.advance(Duration::from_secs(3_700));
    world.turn(rollout.id, Health::Healthy, &[]).await;
    assert_eq!(world.phase(rollout.id).await, Phase::Finished);
    let silent = |members: Vec<Member>| members.into_iter().find(|member| member.device == gone).unwrap();
    assert_eq!(silent(world.members(rollout.id).await).outcome, Outcome::Silent);
    world.fleet.change(tenant, gone, |twin| twin.online = true);
    world.vouch(gone, Health::Healthy);
    world.check_all().await;
    assert_eq!(silent(world.members(rollout.id).await).outcome, Outcome::Succeeded);
}

async fn a_device_that_watches_quietly_is_not_silent(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(2).await;
    let plan = Plan { soak_s: 7_200, deadline_s: 60, ..waves("100%") };
    let rollout = world.roll_out("digits@2", "site=lab", plan).await;
    world.turn(rollout.id, Health::Watching, &[]).await;
    for device in &lab {
        world.vouch(*device, Health::Watching);
        world.fleet.change(world.alice.tenant, *device, |twin| {
            let Some(Status::Model(status)) = twin.reported.get_mut(&digits()) else { panic!("it reported") };
            status.state = ModelState::Watching;
        });
    }
    world.check_all().await;
    world.registry.clock.advance(Duration::from_secs(3_600));
    world.turn(rollout.id, Health::Watching, &[]).await;
    let outcomes: Vec<_> = world.members(rollout.id).await.iter().map(|member| member.outcome).collect();
    assert_eq!(outcomes, [Outcome::Running, Outcome::Running]);
    world.registry.clock.advance(Duration::from_secs(3_700));
    world.turn(rollout.id, Health::Watching, &[]).await;
    let outcomes: Vec<_> = world.members(rollout.id).await.iter().map(|member| member.outcome).collect();
    assert_eq!(outcomes, [Outcome::Silent, Outcome::Silent], "beyond its watch it is");
}

async fn late_joiners_are_put_into_a_wave_and_follow(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(4).await;
    let rollout = world.roll_out("digits@2", "site=lab", Plan { soak_s: 60, ..waves("50%,100%") }).await;
    world.turn(rollout.id, Health::Healthy, &lab).await;
    let late: Vec<_> = (0..8).map(|n| world.device(&format!("late-{n}"), &[("site", "lab")])).collect();
    world.reconcile().await;
    world.check_all().await;
    assert_eq!(world.members(rollout.id).await.len(), 12);
    assert_eq!(world.count(&late, 1), 8, "until their wave is over they follow what holds");
    for _ in 0..3 {
        world.registry.clock.advance(Duration::from_secs(60));
        world.turn(rollout.id, Health::Healthy, &[lab.clone(), late.clone()].concat()).await;
    }
    assert_eq!((world.phase(rollout.id).await, world.count(&late, 2)), (Phase::Finished, 8));
}

async fn undo_brings_back_the_version_before_and_can_be_undone(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(3).await;
    let rollout = world.roll_out("digits@2", "site=lab", waves("100%")).await;
    world.turn(rollout.id, Health::Healthy, &lab).await;
    world.turn(rollout.id, Health::Healthy, &lab).await;
    assert_eq!(world.phase(rollout.id).await, Phase::Finished);
    world.registry.clock.advance(Duration::from_secs(1));
    let undo = world.deployments.undo(&world.alice, rollout.id, None, "slow").await.unwrap().deployment;
    world.turn(undo.id, Health::Healthy, &lab).await;
    world.turn(undo.id, Health::Healthy, &lab).await;
    assert_eq!((undo.desired.number(), world.count(&lab, 1)), (1, 3));
    assert!(matches!(world.deployments.undo(&world.alice, rollout.id, None, "").await, Err(DeploymentError::Conflict(_))));
    world.registry.clock.advance(Duration::from_secs(1));
    let redo = world.deployments.undo(&world.alice, undo.id, None, "no, it was fine").await.unwrap().deployment;
    world.turn(redo.id, Health::Healthy, &lab).await;
    assert_eq!((redo.desired.number(), world.count(&lab, 2)), (2, 3));

    // One that is under way is aborted, and its devices go back.
    world.turn(redo.id, Health::Healthy, &lab).await;
    let forth = world.roll_out("digits@1", "site=lab", waves("1,100%")).await;
    world.turn(forth.id, Health::Watching, &lab).await;
    assert_eq!(world.count(&lab, 1), 1);
    world.deployments.undo(&world.alice, forth.id, None, "").await.unwrap();
    world.reconcile().await;
    assert_eq!((world.phase(forth.id).await, world.count(&lab, 2)), (Phase::Aborted, 3));
}

async fn a_hand_set_version_comes_back_when_there_is_nothing_underneath(db: Db) {
    let world = World::on(db).await;
    let (tenant, device) = (world.alice.tenant, world.device("lone", &[("site", "lab")]));
    let version = world.registry.models.resolve(tenant, "digits@1").await.unwrap();
    world.fleet.change(tenant, device, |twin| {
        let by_hand = aidos_protocol::twin::DesiredModel::new(1, version.digest, version.size);
        twin.wanted.desired.insert(digits(), Desired::Model(Box::new(by_hand)));
    });
    let rollout = world.roll_out("digits@2", "site=lab", waves("100%")).await;
    world.turn(rollout.id, Health::Unhealthy, &[device]).await;
    assert_eq!((world.phase(rollout.id).await, world.versions(device)), (Phase::Aborted, vec![1]));
    let wanted = world.fleet.twins.lock().unwrap()[&(tenant, device)].wanted.desired[&digits()].clone();
    assert_eq!(wanted.deployment(), None);
}

async fn two_rollouts_at_once_do_not_hold_each_other_up(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(2).await;
    let home: Vec<_> = (0..2).map(|n| world.device(&format!("home-{n}"), &[("site", "home")])).collect();
    let stuck = world.roll_out("digits@2", "site=lab", waves("1,100%")).await;
    let other = world.roll_out("digits@2", "site=home", waves("1,100%")).await;
    for _ in 0..3 {
        world.turn(stuck.id, Health::Watching, &[]).await;
        world.turn(other.id, Health::Healthy, &home).await;
    }
    assert_eq!((world.phase(stuck.id).await, world.phase(other.id).await), (Phase::Running, Phase::Finished));
    assert_eq!((world.count(&lab, 2), world.count(&home, 2)), (1, 2));

    // Of two on the same devices, the higher priority wins, whichever came first.
    let urgent = world.roll_out("digits@1", "*", Plan { priority: 5, ..waves("100%") }).await;
    world.turn(urgent.id, Health::Healthy, &[lab.clone(), home.clone()].concat()).await;
    world.turn(urgent.id, Health::Healthy, &[lab.clone(), home.clone()].concat()).await;
    world.deploy("digits@2", "site=home").await;
    world.reconcile().await;
    assert_eq!((world.count(&home, 1), world.count(&lab, 1)), (2, 2));
}

async fn a_deployment_takes_the_place_of_a_rollout_under_way(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(4).await;
    let rollout = world.roll_out("digits@2", "site=lab", waves("1,100%")).await;
    world.turn(rollout.id, Health::Watching, &lab).await;
    let made = world.deployments.roll_out(&world.alice, "digits@2", "site=lab", waves("100%"), None).await;
    assert!(matches!(made, Err(DeploymentError::Conflict(ref text)) if text.contains("under way")), "{made:?}");
    world.deploy("digits@2", "site=lab").await;
    world.reconcile().await;
    assert_eq!((world.phase(rollout.id).await, world.count(&lab, 2)), (Phase::Superseded, 4));
}

async fn a_forecast_says_who_and_how_much_and_changes_nothing(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(10).await;
    let plan = Plan { soak_s: 60, ..waves("1,50%,100%") };
    let forecast = world.deployments.forecast(world.alice.tenant, "digits@2", "site=lab", &plan, 3).await.unwrap();
    let sizes: Vec<_> = forecast.waves.iter().map(|(_, devices)| *devices).collect();
    assert_eq!((sizes, forecast.present, forecast.reach.first.len()), (vec![1, 4, 5], 0, 3));
    let mut picky = plan.clone();
    picky.constraints.arch = Some("riscv64".into());
    let forecast = world.deployments.forecast(world.alice.tenant, "digits@2", "site=lab", &picky, 3).await.unwrap();
    assert_eq!((forecast.unfit, forecast.members), (10, 0));
    assert!(forecast.reasons[0].contains("has not reported its inventory"), "{:?}", forecast.reasons);
    world.reconcile().await;
    assert_eq!(world.count(&lab, 1), 10);
}

async fn a_plan_that_cannot_be_followed_names_its_field(db: Db) {
    let world = World::on(db).await;
    let gated = Plan { gates: vec!["self_test=pass".parse().unwrap()], ..waves("100%") };
    let made = world.deployments.roll_out(&world.alice, "digits@2", "*", gated, None).await;
    let Err(DeploymentError::Plan(error)) = made else { panic!("{made:?}") };
    assert_eq!(error.field, "gates");
    assert!(error.message.contains("--golden"), "{error}");
}

impl World {
    /// A release of the agent for some architectures.
    async fn release(&self, version: &str, archs: &[&str]) {
        for arch in archs {
            let digest = self.registry.upload(&self.alice, format!("agent {version} for {arch}").as_bytes()).await;
            let request = CreateRelease { version: version.into(), arch: (*arch).into(), digest, raise_floor: false };
            self.registry.releases.create(&self.alice, request).await.unwrap();
        }
    }

    fn runs_on(&self, device: DeviceId, arch: &str) {
        let inventory = Inventory { arch: arch.into(), ..Inventory::default() };
        self.fleet.change(self.alice.tenant, device, |twin| twin.inventory = Some(inventory));
    }

    fn wanted(&self, device: DeviceId, subject: &Subject) -> Option<Desired> {
        self.fleet.twins.lock().unwrap()[&(self.alice.tenant, device)].wanted.desired.get(subject).cloned()
    }

    /// The versions that devices are told of a subject, and how many each.
    fn told(&self, devices: &[DeviceId], subject: &Subject) -> BTreeMap<String, usize> {
        let mut told = BTreeMap::new();
        for device in devices {
            *told.entry(self.wanted(*device, subject).map_or_else(String::new, |is| is.version())).or_default() += 1;
        }
        told
    }
}

async fn a_release_of_the_agent_goes_in_waves_and_a_bad_one_goes_back_to_the_one_before(db: Db) {
    let world = World::on(db).await;
    let lab: Vec<_> = (0..6).map(|n| world.device(&format!("lab-{n}"), &[("site", "lab")])).collect();
    for (n, device) in lab.iter().enumerate() {
        world.runs_on(*device, ["x86_64", "aarch64", "riscv64"][n % 3]);
    }
    world.release("1.0.0", &["x86_64", "aarch64"]).await;
    world.release("1.1.0", &["x86_64", "aarch64"]).await;
    let plan = Plan { gates: vec!["memory<1GiB".parse().unwrap()], ..waves("1,100%") };
    let good = world.roll_out("agent.release@1.0.0", "site=lab", plan).await;
    assert_eq!(world.members(good.id).await.len(), 4, "two run on what there is no binary for");
    world.turn(good.id, Health::Watching, &lab).await;
    let one: BTreeMap<String, usize> = [(String::new(), 5), ("1.0.0".to_owned(), 1)].into();
    assert_eq!(world.told(&lab, &Subject::Release), one, "the others wait until the first has proved itself");
    world.turn(good.id, Health::Healthy, &lab).await;
    world.turn(good.id, Health::Healthy, &lab).await;
    assert_eq!(world.phase(good.id).await, Phase::Finished);
    let mut devices = world.members(good.id).await;
    devices.retain(|member| member.outcome == Outcome::Succeeded);
    assert_eq!(devices.len(), 4);

    let bad = world.roll_out("agent.release@1.1.0", "site=lab", waves("1,100%")).await;
    world.turn(bad.id, Health::Unhealthy, &lab).await;
    assert_eq!(world.phase(bad.id).await, Phase::Aborted);
    assert!(!world.told(&lab, &Subject::Release).contains_key("1.1.0"), "all are back on the one before");
    assert_eq!(world.members(bad.id).await.iter().filter(|member| member.told.is_some()).count(), 1, "one was exposed");
}

async fn settings_go_in_waves_and_are_undone(db: Db) {
    let world = World::on(db).await;
    let lab: Vec<_> = (0..4).map(|n| world.device(&format!("lab-{n}"), &[("site", "lab")])).collect();
    for interval in [10, 60] {
        let settings = serde_json::json!({ "telemetry": { "interval_s": interval } });
        world.registry.settings.create(&world.alice, &settings).await.unwrap();
    }
    world.deploy("agent.config@1", "site=lab").await;
    world.reconcile().await;
    let rollout = world.roll_out("agent.config@2", "site=lab", waves("50%,100%")).await;
    world.turn(rollout.id, Health::Watching, &[]).await;
    assert_eq!(world.told(&lab, &Subject::Settings), [("1".to_owned(), 2), ("2".to_owned(), 2)].into());
    for _ in 0..2 {
        world.turn(rollout.id, Health::Healthy, &lab).await;
    }
    assert_eq!(world.phase(rollout.id).await, Phase::Finished);
    world.registry.clock.advance(Duration::from_secs(1));
    let undo = world.deployments.undo(&world.alice, rollout.id, None, "too seldom").await.unwrap().deployment;
    world.turn(undo.id, Health::Healthy, &lab).await;
    assert_eq!(world.told(&lab, &Subject::Settings), [("1".to_owned(), 4)].into());
    let counts = world.deployments.counts(world.alice.tenant, undo.id).await.unwrap();
    assert_eq!((counts.ready, counts.total), (4, 4), "{counts:?}");
}

async fn a_release_with_another_binary_is_another_deployment(db: Db) {
    let world = World::on(db).await;
    let device = world.device("arm", &[]);
    world.release("1.0.0", &["x86_64"]).await;
    let first = world.deploy("agent.release@1.0.0", "*").await;
    assert_eq!(world.deploy("agent.release@1.0.0", "*").await.id, first.id);
    world.release("1.0.0", &["aarch64"]).await;
    let second = world.deploy("agent.release@1.0.0", "*").await;
    assert_ne!(second.id, first.id);
    world.reconcile().await;
    let Some(Desired::Release(release)) = world.wanted(device, &Subject::Release) else { panic!("it was told") };
    assert_eq!(release.binaries.len(), 2);
}

async fn two_operators_at_once_are_judged_one_after_the_other(db: Db) {
    let world = World::on(db).await;
    world.lab(4).await;
    let rollout = world.roll_out("digits@2", "site=lab", waves("1,100%")).await;
    let (a, b) = tokio::join!(
        world.steer(rollout.id, Command::Pause { reason: "a".into() }),
        world.steer(rollout.id, Command::Pause { reason: "b".into() }),
    );
    assert_eq!([a.is_ok(), b.is_ok()].iter().filter(|ok| **ok).count(), 1, "{a:?} {b:?}");
}

async fn the_running_tasks_finish_a_rollout_by_themselves(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(6).await;
    let stop = CancellationToken::new();
    let tasks = [
        tokio::spawn(super::Reconciler::new(world.deployments.clone()).run(stop.clone())),
        tokio::spawn(Conductor::new(world.deployments.clone()).run(stop.clone())),
    ];
    let mut events = world.fleet.changes.subscribe();
    let rollout = world.roll_out("digits@2", "site=lab", waves("1,50%,100%")).await;
    let finished = async {
        while world.phase(rollout.id).await != Phase::Finished {
            let change = tokio::time::timeout(Duration::from_millis(200), events.recv()).await;
            if let Ok(Ok(super::Change::Intent(tenant, device))) = change {
                world.vouch(device, Health::Healthy);
                let _ = world.fleet.changes.send(super::Change::Report(tenant, device));
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), finished).await.expect("it finishes");
    assert_eq!(world.count(&lab, 2), 6);
    stop.cancel();
    for task in tasks {
        task.await.unwrap();
    }
}
