//! Rollouts by the phase that they show, and by the device that they concern, on both stores.

use super::course::Command;
use super::rollout_tests::waves;
use super::tests::World;
use crate::platform::db::Db;
use crate::platform::testing::both_stores;
use aidos_protocol::DeviceId;
use aidos_protocol::rollout::Plan;
use aidos_protocol::twin::Health;
use serde_json::{Value, json};
use std::time::Duration;

both_stores!(
    a_list_in_phases_has_those_that_show_them_page_by_page,
    a_device_says_what_became_of_each_rollout_on_it,
    a_deployment_is_listed_while_it_is_what_the_device_has,
    updates_come_in_pages_and_of_devices_that_are_there_only,
);

const PHASES: [&str; 5] = ["running", "paused", "finished", "aborted", "superseded"];

impl World {
    async fn all(&self, path: &str) -> Vec<Value> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let between = if path.contains('?') { '&' } else { '?' };
            let (status, page) = self.get(&format!("{path}{between}limit=1{cursor}")).await;
            assert_eq!(status, 200, "{page}");
            items.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["next_cursor"].as_str() else { return items };
            cursor = format!("&cursor={next}");
        }
    }

    async fn updates(&self, device: DeviceId) -> Vec<Value> {
        self.all(&format!("/api/v1/devices/{device}/updates")).await
    }
}

fn parts(updates: &[Value], names: &[&str]) -> Vec<Value> {
    updates.iter().map(|update| names.iter().map(|name| update[*name].clone()).collect()).collect()
}

async fn a_list_in_phases_has_those_that_show_them_page_by_page(db: Db) {
    let world = World::on(db).await;
    let at = |site: &str| world.device(site, &[("site", site)]);
    let sites = ["running", "paused", "finished", "aborted", "overtaken", "pending", "ready", "stopped"];
    let devices: Vec<_> = sites.iter().map(|site| at(site)).collect();
    let plan = || Plan { soak_s: 60, ..waves("100%") };
    world.roll_out("digits@2", "site=running", plan()).await;
    let paused = world.roll_out("digits@2", "site=paused", plan()).await;
    world.steer(paused.id, Command::Pause { reason: String::new() }).await.unwrap();
    let finished = world.roll_out("digits@2", "site=finished", waves("100%")).await;
    for _ in 0..2 {
        world.turn(finished.id, Health::Healthy, &devices[2..3]).await;
    }
    let aborted = world.roll_out("digits@2", "site=aborted", plan()).await;
    world.steer(aborted.id, Command::Abort { revert: None, reason: String::new() }).await.unwrap();
    world.roll_out("digits@2", "site=overtaken", plan()).await;
    for (version, site) in
        [("1", "overtaken"), ("1", "pending"), ("1", "ready"), ("2", "ready"), ("1", "stopped"), ("1", "nowhere")]
    {
        let deployment = world.deploy(&format!("digits@{version}"), &format!("site={site}")).await;
        world.reconcile().await;
        match site {
            "ready" => world.fleet.obey(world.alice.tenant, devices[6]),
            "stopped" => _ = world.deployments.stop(&world.alice, deployment.id, false).await.unwrap(),
            _ => {}
        }
    }
    world.check_all().await;
    let all = world.all("/api/v1/rollouts").await;
    assert_eq!(all.len(), 11);
    for phase in PHASES {
        assert!(all.iter().any(|one| one["phase"] == phase), "none is {phase}: {all:?}");
    }
    for one in PHASES {
        for other in PHASES {
            let wanted: Vec<_> = all.iter().filter(|is| is["phase"] == one || is["phase"] == other).cloned().collect();
            let listed = world.all(&format!("/api/v1/rollouts?phase={one},{other}")).await;
            assert_eq!(parts(&listed, &["id", "phase"]), parts(&wanted, &["id", "phase"]), "{one},{other}");
        }
    }
    assert_eq!(world.all("/api/v1/rollouts?phase=").await.len(), 11);
    assert!(world.all("/api/v1/rollouts?phase=running&subject=faces").await.is_empty());
    let (status, problem) = world.get("/api/v1/rollouts?phase=running,done").await;
    assert_eq!(status, 422);
    assert!(problem["detail"].as_str().unwrap().contains("`done` is no phase"), "{problem}");
}

async fn a_device_says_what_became_of_each_rollout_on_it(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(2).await;
    let names = ["kind", "version", "wave", "outcome", "progress", "reason"];
    let before = json!(["deployment", "1", null, null, "ready", null]);
    let rollout = world.roll_out("digits@2", "site=lab", waves("1,100%")).await;
    world.turn(rollout.id, Health::Healthy, &[]).await;
    let first = world.members(rollout.id).await.iter().position(|member| member.wave == 0).unwrap();
    let (first, second) = (lab[first], lab[1 - first]);
    let waiting = json!(["rollout", "2", 2, "waiting", null, null]);
    assert_eq!(parts(&world.updates(second).await, &names), [waiting.clone(), before.clone()]);
    let changing = world.updates(first).await;
    assert_eq!(
        parts(&changing, &names),
        [json!(["rollout", "2", 1, "changing", "pending", null])],
        "it has only what it was told last"
    );
    assert!(changing[0]["told_at"].is_i64() && changing[0]["updated_at"].is_i64());
    world.fleet.change(world.alice.tenant, first, |twin| twin.online = false);
    assert_eq!(world.updates(first).await[0]["progress"], "offline");
    world.fleet.change(world.alice.tenant, first, |twin| twin.online = true);

    world.turn(rollout.id, Health::Unhealthy, &[first]).await;
    let failed = json!(["rollout", "2", 1, "failed", null, "it answers nonsense"]);
    let back = json!(["deployment", "1", null, null, "pending", null]);
    assert_eq!(parts(&world.updates(first).await, &names), [failed, back], "it goes back to what held");
    assert_eq!(parts(&world.updates(second).await, &names), [waiting, before], "it was spared");
}

async fn a_deployment_is_listed_while_it_is_what_the_device_has(db: Db) {
    let world = World::on(db).await;
    let device = world.device("a", &[("site", "lab")]);
    let first = world.deploy("digits@1", "site=lab").await;
    world.reconcile().await;
    let of = |updates: Vec<Value>| parts(&updates, &["id", "kind"]);
    assert_eq!(of(world.updates(device).await), [json!([first.id, "deployment"])]);
    let second = world.deploy("digits@2", "site=lab").await;
    world.reconcile().await;
    assert_eq!(of(world.updates(device).await), [json!([second.id, "deployment"])]);

    // One that comes after a rollout is over has it without a place in a wave.
    let rollout = world.roll_out("digits@1", "site=lab", waves("100%")).await;
    for _ in 0..2 {
        world.turn(rollout.id, Health::Healthy, &[device]).await;
    }
    let late = world.device("late", &[("site", "lab")]);
    world.reconcile().await;
    let names = ["id", "kind", "wave", "outcome", "progress"];
    assert_eq!(parts(&world.updates(late).await, &names), [json!([rollout.id, "rollout", null, null, "pending"])]);
    assert_eq!(parts(&world.updates(device).await, &names), [json!([rollout.id, "rollout", 1, "succeeded", "ready"])]);
}

async fn updates_come_in_pages_and_of_devices_that_are_there_only(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(1).await;
    for version in ["2", "1", "2"] {
        world.registry.clock.advance(Duration::from_secs(1));
        let rollout = world.roll_out(&format!("digits@{version}"), "site=lab", waves("100%")).await;
        for _ in 0..2 {
            world.turn(rollout.id, Health::Healthy, &lab).await;
        }
    }
    let updates = world.updates(lab[0]).await;
    assert_eq!(parts(&updates, &["version"]), [json!(["2"]), json!(["1"]), json!(["2"])]);
    let created: Vec<_> = updates.iter().map(|update| update["created_at"].as_i64().unwrap()).collect();
    assert!(created.is_sorted_by(|newer, older| newer > older), "{created:?}");
    let nobody = DeviceId::new(99);
    let (status, problem) = world.get(&format!("/api/v1/devices/{nobody}/updates")).await;
    assert_eq!(status, 404);
    assert!(problem["detail"].as_str().unwrap().contains(&nobody.to_string()), "{problem}");
}
