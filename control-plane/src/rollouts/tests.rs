//! Deployments on both stores, on a fleet of twins in memory.

use super::ports::{Account, Change, DeviceFacts, DevicePage, Fleet, FleetError, Status, Wanted};
use super::{DeploymentError, Deployments, Desired, Offers, Reconciler};
use crate::platform::db::Db;
use crate::platform::testing::{both_stores, events};
use crate::registry::tests::{DIGITS, Registry, digits_again};
use crate::tenants::{Activity, Caller, Tenants};
use aidos_protocol::api::deployments::{DeploymentCounts, Progress};
use aidos_protocol::api::models::{CreateModel, CreateVersion};
use aidos_protocol::inventory::Inventory;
use aidos_protocol::rollout::Constraints;
use aidos_protocol::selector::Selector;
use aidos_protocol::twin::{
    Edit, HealthReport, ModelState, ModelStatus, ReleaseState, ReleaseStatus, SettingsState, SettingsStatus, Transfer,
};
use aidos_protocol::{DeviceId, Subject, TenantId};
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

both_stores!(
    matching_devices_get_the_model_and_report_it,
    late_joiners_follow_and_leavers_lose_it,
    the_same_again_is_one_deployment_and_another_version_takes_its_place,
    stopping_leaves_or_removes_and_then_frees_the_model,
    a_device_that_refuses_fails_alone,
    a_device_whose_row_cannot_be_read_holds_up_nobody,
    a_dry_run_says_whom_it_would_reach_and_changes_nothing,
    a_large_deployment_is_counted_page_by_page,
    tenants_see_only_their_own_deployments,
    a_running_reconciler_follows_changes,
    problems_show_where_the_selector_is_wrong,
);

#[derive(Default, Clone)]
pub(super) struct Twin {
    pub(super) name: String,
    pub(super) online: bool,
    pub(super) wanted: Wanted,
    pub(super) reported: BTreeMap<Subject, Status>,
    pub(super) health: BTreeMap<Subject, HealthReport>,
    pub(super) transfers: BTreeMap<Subject, Transfer>,
    pub(super) inventory: Option<Inventory>,
    /// Why it takes nothing more.
    full: Option<String>,
}

pub(super) struct Memory {
    pub(super) twins: Mutex<BTreeMap<(TenantId, DeviceId), Twin>>,
    pub(super) changes: broadcast::Sender<Change>,
}

impl Memory {
    pub(super) fn add(&self, tenant: TenantId, name: &str, labels: &[(&str, &str)]) -> DeviceId {
        let mut twins = self.twins.lock().unwrap();
        let id = DeviceId::new(twins.len() as u64);
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let wanted = Wanted { labels, ..Wanted::default() };
        twins.insert((tenant, id), Twin { name: name.into(), online: true, wanted, ..Twin::default() });
        let _ = self.changes.send(Change::Report(tenant, id));
        id
    }
    pub(super) fn change(&self, tenant: TenantId, device: DeviceId, change: impl FnOnce(&mut Twin)) {
        change(self.twins.lock().unwrap().get_mut(&(tenant, device)).unwrap());
    }
    /// The device does what it is told, as a real one reports it.
    pub(super) fn obey(&self, tenant: TenantId, device: DeviceId) {
        self.change(tenant, device, |twin| {
            let told = twin.wanted.desired.iter();
            twin.reported = told.map(|(subject, desired)| (subject.clone(), obeyed(desired))).collect();
        });
        let _ = self.changes.send(Change::Report(tenant, device));
    }
    fn of<T>(&self, tenant: TenantId, devices: &[DeviceId], what: impl Fn(&Twin) -> T) -> BTreeMap<DeviceId, T> {
        let twins = self.twins.lock().unwrap();
        devices.iter().filter_map(|id| Some((*id, what(twins.get(&(tenant, *id))?)))).collect()
    }
    pub(super) fn versions(&self, tenant: TenantId, device: DeviceId) -> Vec<(String, u64)> {
        let twins = self.twins.lock().unwrap();
        let wanted = &twins[&(tenant, device)].wanted.desired;
        wanted.iter().map(|(subject, desired)| (subject.to_string(), desired.number())).collect()
    }
}

/// What a device reports that does what it is told.
pub(super) fn obeyed(desired: &Desired) -> Status {
    match desired {
        Desired::Model(model) => Status::Model(ModelStatus {
            desired_version: Some(model.version),
            active_version: Some(model.version),
            state: ModelState::Ready,
            digest: Some(model.digest),
            ..ModelStatus::default()
        }),
        Desired::Release(release) => Status::Release(ReleaseStatus {
            desired: Some(release.version.clone()),
            active: release.version.clone(),
            active_counter: release.counter,
            state: ReleaseState::Ready,
            deployment: release.deployment,
            ..ReleaseStatus::default()
        }),
        Desired::Settings(settings) => Status::Settings(SettingsStatus {
            desired_version: Some(settings.version),
            version: Some(settings.version),
            deployment: settings.deployment,
            state: SettingsState::Applied,
            ..SettingsStatus::default()
        }),
    }
}

/// What a device's intent asks for, after an edit.
pub(super) fn apply(wanted: &mut BTreeMap<Subject, Desired>, edit: &Edit) {
    match edit.clone() {
        Edit::SetModel { name, model } => _ = wanted.insert(name.into(), Desired::Model(Box::new(model))),
        Edit::RemoveModel { name } => _ = wanted.remove(&name.into()),
        Edit::SetConfig { key, value } => _ = wanted.insert(key.parse().unwrap(), serde_json::from_value(value).unwrap()),
        Edit::RemoveConfig { key } => _ = wanted.remove(&key.parse().unwrap()),
        other => panic!("rollouts edit what devices are told only, not {other:?}"),
    }
}

fn facts(id: DeviceId, twin: &Twin) -> DeviceFacts {
    DeviceFacts { id, name: twin.name.clone(), online: twin.online }
}

pub(super) struct Handle(Arc<Memory>);

#[async_trait]
impl Fleet for Handle {
    async fn devices(&self, tenant: TenantId, devices: &[DeviceId]) -> Result<BTreeMap<DeviceId, DeviceFacts>, FleetError> {
        let twins = self.0.twins.lock().unwrap();
        let of = |id: &DeviceId| twins.get(&(tenant, *id)).map(|twin| (*id, facts(*id, twin)));
        Ok(devices.iter().filter_map(of).collect())
    }
    async fn exists(&self, tenant: TenantId, device: DeviceId) -> Result<bool, FleetError> {
        Ok(self.0.twins.lock().unwrap().contains_key(&(tenant, device)))
    }
    async fn matching(
        &self,
        tenant: TenantId,
        selector: &Selector,
        after: Option<DeviceId>,
        limit: u32,
    ) -> Result<DevicePage, FleetError> {
        let twins = self.0.twins.lock().unwrap();
        let of = twins.iter().filter(|((t, id), twin)| {
            *t == tenant && after.is_none_or(|after| *id > after) && selector.matches(&twin.wanted.labels)
        });
        let devices: Vec<_> = of.map(|((_, id), twin)| facts(*id, twin)).take(limit as usize).collect();
        let next = devices.last().filter(|_| devices.len() == limit as usize).map(|device| device.id);
        Ok(DevicePage { devices, next })
    }
    async fn wanted(&self, tenant: TenantId, devices: &[DeviceId]) -> Result<BTreeMap<DeviceId, Wanted>, FleetError> {
        Ok(self.0.of(tenant, devices, |twin| twin.wanted.clone()))
    }
    async fn edit(&self, tenant: TenantId, device: DeviceId, edits: &[Edit]) -> Result<(), FleetError> {
        let mut refused = None;
        self.0.change(tenant, device, |twin| {
            refused = twin.full.clone();
            for edit in edits.iter().filter(|_| refused.is_none()) {
                apply(&mut twin.wanted.desired, edit);
            }
        });
        match refused {
            Some(reason) => Err(FleetError::Refused(reason)),
            None => {
                let _ = self.0.changes.send(Change::Intent(tenant, device));
                Ok(())
            }
        }
    }
    async fn accounts(&self, tenant: TenantId, devices: &[DeviceId]) -> Result<BTreeMap<DeviceId, Account>, FleetError> {
        Ok(self.0.of(tenant, devices, |twin| Account {
            statuses: twin.reported.clone(),
            health: twin.health.clone(),
            transfers: twin.transfers.clone(),
        }))
    }
    async fn unfit(
        &self,
        tenant: TenantId,
        device: DeviceId,
        constraints: &Constraints,
        archs: &[&str],
    ) -> Result<Option<String>, FleetError> {
        let twins = self.0.twins.lock().unwrap();
        let inventory = twins[&(tenant, device)].inventory.as_ref();
        let other = inventory.filter(|is| !archs.is_empty() && !archs.contains(&is.arch.as_str()));
        Ok(constraints.fits(inventory, None).err().or(other.map(|is| format!("there is no binary for {}", is.arch))))
    }
    async fn online(&self, tenant: TenantId) -> Result<BTreeSet<DeviceId>, FleetError> {
        let twins = self.0.twins.lock().unwrap();
        Ok(twins.iter().filter(|((of, _), twin)| *of == tenant && twin.online).map(|((_, id), _)| *id).collect())
    }
    fn changes(&self) -> BoxStream<'static, Change> {
        BroadcastStream::new(self.0.changes.subscribe()).map(|change| change.unwrap_or(Change::Missed)).boxed()
    }
}

pub(super) struct World {
    pub(super) registry: Registry,
    pub(super) fleet: Arc<Memory>,
    pub(super) deployments: Deployments,
    pub(super) alice: Caller,
}

impl World {
    /// Alice's tenant with the model `digits` in two versions.
    pub(super) async fn on(db: Db) -> Self {
        let registry = Registry::on(db.clone()).await;
        let alice = registry.alice.clone();
        let create = CreateModel {
            name: "digits".parse().unwrap(),
            description: String::new(),
            labels: BTreeMap::new(),
            card: String::new(),
        };
        let name = create.name.clone();
        registry.models.create(&alice, create).await.unwrap();
        for bytes in [DIGITS.to_vec(), digits_again()] {
            let digest = registry.upload(&alice, &bytes).await;
            let request = CreateVersion { digest, manifest: None, golden: None, card: None, source: None };
            registry.models.register(&alice, &name, request).await.unwrap();
        }
        let fleet = Arc::new(Memory { twins: Mutex::default(), changes: broadcast::channel(64).0 });
        let events = events(&registry.clock);
        let activity = Activity::new(db.clone(), registry.clock.clone(), events.clone());
        let port = Arc::new(Handle(fleet.clone()));
        let offers =
            Offers { models: registry.models.clone(), releases: registry.releases.clone(), settings: registry.settings.clone() };
        let deployments = Deployments::new(db, offers, port, activity, events, registry.clock.clone());
        Self { registry, fleet, deployments, alice }
    }
    pub(super) async fn deploy(&self, model: &str, selector: &str) -> super::store::Deployment {
        self.registry.clock.advance(Duration::from_secs(1));
        match self.deployments.create(&self.alice, model, selector).await.unwrap() {
            super::deployments::Made::New(row) | super::deployments::Made::Existing(row) => row,
        }
    }
    /// What the API answers to Alice.
    pub(super) async fn get(&self, path: &str) -> (u16, serde_json::Value) {
        let (db, clock) = (self.deployments.db.clone(), self.registry.clock.clone());
        let tenants = Tenants::new(db, clock, self.deployments.activity.clone());
        let (router, _) = super::router(self.deployments.clone(), tenants).split_for_parts();
        let mut request = axum::http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        request.extensions_mut().insert(self.alice.clone());
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 4 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }
    pub(super) async fn reconcile(&self) {
        Reconciler::new(self.deployments.clone()).sweep(self.alice.tenant, false).await.unwrap();
    }
    pub(super) async fn check_all(&self) {
        Reconciler::new(self.deployments.clone()).sweep(self.alice.tenant, true).await.unwrap();
    }
    pub(super) fn device(&self, name: &str, labels: &[(&str, &str)]) -> DeviceId {
        self.fleet.add(self.alice.tenant, name, labels)
    }
    pub(super) fn versions(&self, device: DeviceId) -> Vec<u64> {
        self.fleet.versions(self.alice.tenant, device).into_iter().map(|(_, version)| version).collect()
    }
}

async fn matching_devices_get_the_model_and_report_it(db: Db) {
    let world = World::on(db).await;
    let tenant = world.alice.tenant;
    let lab: Vec<_> = (0..3).map(|n| world.device(&format!("lab-{n}"), &[("site", "lab")])).collect();
    let home = world.device("home", &[("site", "home")]);
    let deployment = world.deploy("digits@1", "site = lab").await;
    world.reconcile().await;
    assert!(world.versions(home).is_empty());
    assert!(lab.iter().all(|device| world.versions(*device) == [1]));
    let counts = world.deployments.counts(tenant, deployment.id).await.unwrap();
    assert_eq!(counts, DeploymentCounts { total: 3, pending: 3, ..DeploymentCounts::default() });

    world.fleet.obey(tenant, lab[0]);
    world.fleet.change(tenant, lab[1], |twin| twin.online = false);
    world.fleet.change(tenant, lab[2], |twin| {
        let status = ModelStatus {
            desired_version: Some(1),
            state: ModelState::Failed,
            error: "no memory".into(),
            ..ModelStatus::default()
        };
        twin.reported.insert("digits".parse().unwrap(), Status::Model(status));
    });
    world.check_all().await;
    let counts = world.deployments.counts(tenant, deployment.id).await.unwrap();
    assert_eq!(counts, DeploymentCounts { total: 3, ready: 1, offline: 1, failed: 1, ..DeploymentCounts::default() });
    let devices = world.deployments.devices(tenant, deployment.id, "", 10).await.unwrap();
    let seen: Vec<_> = devices.iter().map(|d| (d.name.as_str(), d.progress, d.error.as_deref())).collect();
    assert_eq!(
        seen,
        [("lab-0", Progress::Ready, None), ("lab-1", Progress::Offline, None), ("lab-2", Progress::Failed, Some("no memory"))]
    );
    let rest = world.deployments.devices(tenant, deployment.id, &lab[0].to_string(), 1).await.unwrap();
    assert_eq!(rest[0].device, lab[1]);
}

async fn late_joiners_follow_and_leavers_lose_it(db: Db) {
    let world = World::on(db).await;
    let early = world.device("early", &[("site", "lab")]);
    let deployment = world.deploy("digits@1", "site=lab").await;
    world.reconcile().await;
    let late = world.device("late", &[("site", "lab")]);
    world.reconcile().await;
    assert_eq!((world.versions(early), world.versions(late)), (vec![1], vec![1]));
    world.fleet.change(world.alice.tenant, early, |twin| _ = twin.wanted.labels.insert("site".into(), "home".into()));
    world.reconcile().await;
    assert_eq!((world.versions(early), world.versions(late)), (vec![], vec![1]));
    assert_eq!(world.deployments.counts(world.alice.tenant, deployment.id).await.unwrap().total, 1);
    world.fleet.twins.lock().unwrap().remove(&(world.alice.tenant, late));
    world.reconcile().await;
    assert_eq!(world.deployments.counts(world.alice.tenant, deployment.id).await.unwrap().total, 0);
}

async fn the_same_again_is_one_deployment_and_another_version_takes_its_place(db: Db) {
    let world = World::on(db).await;
    let (tenant, device) = (world.alice.tenant, world.device("a", &[("site", "lab")]));
    let first = world.deploy("digits@1", "site=lab").await;
    assert_eq!(world.deploy("digits@1", " site == lab ").await.id, first.id);
    world.reconcile().await;
    let second = world.deploy("digits", "site=lab").await;
    world.reconcile().await;
    assert_eq!((second.desired.number(), world.versions(device)), (2, vec![2]));
    let third = world.deploy("digits@1", "site=lab").await;
    for old in [first.id, second.id] {
        let state = world.deployments.get(tenant, old).await.unwrap().state;
        assert_eq!(state, super::store::State::Superseded { by: third.id });
    }
    let refused = world.deployments.stop(&world.alice, first.id, true).await.unwrap_err();
    assert!(refused.to_string().contains(&third.id.to_string()), "{refused}");
    // The device still has the second one's version: removal by the third reaches it all the same.
    world.deployments.stop(&world.alice, third.id, true).await.unwrap();
    world.reconcile().await;
    assert!(world.versions(device).is_empty());
    let list = world.deployments.list(tenant, None, None, aidos_protocol::time::Micros(i64::MAX), 10).await.unwrap();
    assert_eq!(list.iter().map(|d| d.id).collect::<Vec<_>>(), [third.id, second.id, first.id]);
    let stopped = world.deployments.list(tenant, None, Some("stopped"), list[0].created, 10).await.unwrap();
    assert!(stopped.is_empty());
}

async fn stopping_leaves_or_removes_and_then_frees_the_model(db: Db) {
    let world = World::on(db).await;
    let (device, name) = (world.device("a", &[]), "digits".parse().unwrap());
    let deployment = world.deploy("digits@1", "*").await;
    world.reconcile().await;
    assert!(world.registry.models.delete(&world.alice, &name).await.is_err());
    world.deployments.stop(&world.alice, deployment.id, false).await.unwrap();
    let late = world.device("late", &[]);
    world.reconcile().await;
    assert_eq!((world.versions(device), world.versions(late)), (vec![1], vec![]));
    let held = world.registry.models.delete(&world.alice, &name).await.unwrap_err();
    assert!(held.to_string().contains(&deployment.id.to_string()), "a device still has it: {held}");
    let stopped = world.deployments.stop(&world.alice, deployment.id, true).await.unwrap();
    assert_eq!(stopped.state, super::store::State::Stopped { removed: true });
    world.check_all().await;
    assert!(world.versions(device).is_empty());
    world.registry.models.delete(&world.alice, &name).await.unwrap();
}

async fn a_device_that_refuses_fails_alone(db: Db) {
    let world = World::on(db).await;
    let (full, fine) = (world.device("full", &[]), world.device("fine", &[]));
    world.fleet.change(world.alice.tenant, full, |twin| twin.full = Some("it has 64 models, the limit is 64".into()));
    let deployment = world.deploy("digits@1", "*").await;
    world.reconcile().await;
    assert_eq!((world.versions(full), world.versions(fine)), (vec![], vec![1]));
    let devices = world.deployments.devices(world.alice.tenant, deployment.id, "", 10).await.unwrap();
    let refused = devices.iter().find(|d| d.device == full).unwrap();
    assert_eq!((refused.progress, refused.error.as_deref()), (Progress::Failed, Some("it has 64 models, the limit is 64")));
    world.fleet.change(world.alice.tenant, full, |twin| twin.full = None);
    world.reconcile().await;
    assert_eq!(world.versions(full), [1]);
    assert_eq!(world.deployments.counts(world.alice.tenant, deployment.id).await.unwrap().pending, 2);
}

async fn a_device_whose_row_cannot_be_read_holds_up_nobody(db: Db) {
    let world = World::on(db.clone()).await;
    let tenant = world.alice.tenant;
    let devices: Vec<_> = (0..5).map(|n| world.device(&format!("d{n}"), &[])).collect();
    let deployment = world.deploy("digits@1", "*").await;
    world.reconcile().await;
    let mut tx = db.begin().await.unwrap();
    sqlx::query("UPDATE deployment_devices SET subject = 'NOT A NAME' WHERE tenant_id = $1 AND device_id = $2")
        .bind(tenant.to_string())
        .bind(devices[2].to_string())
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    devices.iter().for_each(|device| world.fleet.obey(tenant, *device));
    let reconciler = Reconciler::new(world.deployments.clone());
    reconciler.judge_all(tenant, devices).await.unwrap();
    assert_eq!(world.deployments.counts(tenant, deployment.id).await.unwrap().ready, 4);
}

async fn a_dry_run_says_whom_it_would_reach_and_changes_nothing(db: Db) {
    let world = World::on(db).await;
    let (a, _) = (world.device("a", &[("site", "lab")]), world.device("b", &[]));
    world.deploy("digits@1", "*").await;
    world.reconcile().await;
    let plan = world.deployments.plan(world.alice.tenant, "digits", "site=lab", 5).await.unwrap();
    assert_eq!((plan.candidate.desired.number(), plan.matching), (2, 1));
    assert_eq!((plan.first[0].0.id, plan.first[0].1.as_deref()), (a, Some("1")));
    assert_eq!(world.deployments.plan(world.alice.tenant, "digits", "*", 1).await.unwrap().matching, 2);
    world.reconcile().await;
    assert_eq!(world.versions(a), [1]);
}

async fn a_large_deployment_is_counted_page_by_page(db: Db) {
    let world = World::on(db).await;
    let devices: Vec<_> = (0..130).map(|n| world.device(&format!("d{n}"), &[])).collect();
    let deployment = world.deploy("digits@1", "*").await;
    world.reconcile().await;
    for device in &devices[..20] {
        world.fleet.change(world.alice.tenant, *device, |twin| twin.online = false);
    }
    let counts = world.deployments.counts(world.alice.tenant, deployment.id).await.unwrap();
    assert_eq!(counts, DeploymentCounts { total: 130, pending: 110, offline: 20, ..DeploymentCounts::default() });
}

async fn tenants_see_only_their_own_deployments(db: Db) {
    let world = World::on(db).await;
    let mallory = &world.registry.mallory;
    let theirs = world.fleet.add(mallory.tenant, "theirs", &[]);
    let deployment = world.deploy("digits@1", "*").await;
    world.reconcile().await;
    assert!(world.fleet.versions(mallory.tenant, theirs).is_empty());
    assert!(matches!(world.deployments.get(mallory.tenant, deployment.id).await, Err(DeploymentError::NotFound(_))));
    assert!(matches!(world.deployments.stop(mallory, deployment.id, true).await, Err(DeploymentError::NotFound(_))));
    assert!(matches!(world.deployments.devices(mallory.tenant, deployment.id, "", 1).await, Err(DeploymentError::NotFound(_))));
    let all = world.deployments.list(mallory.tenant, None, None, aidos_protocol::time::Micros(i64::MAX), 10).await;
    assert!(all.unwrap().is_empty());
    assert!(world.deployments.create(mallory, "digits@1", "*").await.is_err(), "the model is another tenant's");
}

async fn a_running_reconciler_follows_changes(db: Db) {
    let world = World::on(db).await;
    let (tenant, shutdown) = (world.alice.tenant, CancellationToken::new());
    let task = tokio::spawn(Reconciler::new(world.deployments.clone()).run(shutdown.clone()));
    let eventually = async |what: &str, check: &dyn Fn() -> bool| {
        for _ in 0..500 {
            if check() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: not within 5 s");
    };
    let early = world.device("early", &[("site", "lab")]);
    let deployment = world.deploy("digits@1", "site=lab").await;
    eventually("a deployment reaches its devices", &|| world.versions(early) == [1]).await;
    let late = world.device("late", &[("site", "lab")]);
    eventually("a late joiner follows", &|| world.versions(late) == [1]).await;
    for device in [early, late] {
        world.fleet.obey(tenant, device);
    }
    let mut ready = 0;
    for _ in 0..500 {
        ready = world.deployments.counts(tenant, deployment.id).await.unwrap().ready;
        if ready == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ready, 2);
    world.deployments.stop(&world.alice, deployment.id, true).await.unwrap();
    eventually("a removal reaches its devices", &|| world.versions(early).is_empty() && world.versions(late).is_empty()).await;
    shutdown.cancel();
    task.await.unwrap();
}

async fn problems_show_where_the_selector_is_wrong(db: Db) {
    let world = World::on(db.clone()).await;
    let activity = Activity::new(db.clone(), world.registry.clock.clone(), events(&world.registry.clock));
    let tenants = Tenants::new(db, world.registry.clock.clone(), activity);
    let (router, _) = super::router(world.deployments.clone(), tenants).split_for_parts();
    let send = async |uri: &str, body: serde_json::Value| {
        let request = axum::http::Request::post(uri).header("content-type", "application/json");
        let mut request = request.body(axum::body::Body::from(body.to_string())).unwrap();
        request.extensions_mut().insert(world.alice.clone());
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice::<serde_json::Value>(&body).unwrap())
    };
    let body = |model: &str, selector: &str| serde_json::json!({ "subject": model, "selector": selector });
    let (status, problem) = send("/api/v1/deployments", body("digits", "site=lab,gpu!none")).await;
    assert_eq!((status, problem["field"].as_str()), (422, Some("selector")));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("column 14") && detail.contains("\n             ^"), "{detail}");
    assert_eq!(send("/api/v1/deployments", body("other", "*")).await.0, 404);
    assert_eq!(send("/api/v1/deployments", body("digits@", "*")).await.0, 422);
    let (status, plan) = send("/api/v1/deployments?dry_run=true", body("digits", "site in (lab)")).await;
    assert_eq!((status, &plan["matching"], &plan["selector"]), (200, &0.into(), &"site in (lab)".into()));
    let (status, view) = send("/api/v1/deployments", body("digits", "*")).await;
    assert_eq!((status, &view["state"], &view["version"]), (201, &"active".into(), &"2".into()));
    assert_eq!(send("/api/v1/deployments", body("digits@2", "all")).await.0, 200);
}
