//! What gates said over time, as the conductor writes it down and as it is read, on both stores.

use super::readings::{KEPT, Point};
use super::rollout_tests::waves;
use super::tests::World;
use super::{Conductor, readings_store};
use crate::platform::db::Db;
use crate::platform::testing::both_stores;
use aidos_protocol::api::rollouts::{GatePoint, RolloutGatesView, RolloutPhase as Phase};
use aidos_protocol::rollout::{Plan, Verdict};
use aidos_protocol::twin::Health;
use aidos_protocol::{DeploymentId, DeviceId, time::Micros};
use axum::response::IntoResponse as _;
use futures::StreamExt as _;
use std::time::Duration;

both_stores!(
    each_judgement_that_says_something_new_is_kept_with_its_wave_also_when_the_rollout_is_over,
    a_judgement_that_changed_is_told_to_who_watches,
    what_is_kept_of_a_gate_is_bounded_and_each_gate_has_its_own,
    a_chart_is_given_as_many_points_as_it_asks_for,
);

fn gated(gates: &[&str]) -> Plan {
    Plan { gates: gates.iter().map(|gate| gate.parse().unwrap()).collect(), soak_s: 60, ..waves("1,100%") }
}

impl World {
    /// So many seconds later, with devices that vouch for what they run and take so many MiB.
    async fn measured(&self, id: DeploymentId, seconds: u64, devices: &[DeviceId], mib: u64) {
        self.registry.clock.advance(Duration::from_secs(seconds));
        for device in devices {
            self.vouch(*device, Health::Healthy);
            self.fleet.change(self.alice.tenant, *device, |twin| {
                twin.health.values_mut().for_each(|report| report.candidate.memory_bytes = Some(mib << 20));
            });
        }
        self.check_all().await;
        Conductor::new(self.deployments.clone()).advance(self.alice.tenant, id).await.unwrap();
        self.reconcile().await;
    }

    async fn gates(&self, path: &str) -> RolloutGatesView {
        let (status, view) = self.get(path).await;
        assert_eq!(status, 200, "{view}");
        serde_json::from_value(view).unwrap()
    }

    /// Wave, MiB and verdict of each point of the first gate.
    async fn said(&self, id: DeploymentId) -> Vec<(u32, Option<u64>, Verdict)> {
        let gates = self.gates(&format!("/api/v1/rollouts/{id}/gates")).await.gates;
        let mib = |point: &GatePoint| point.candidate.map(|bytes| bytes as u64 >> 20);
        gates[0].points.iter().map(|point| (point.wave, mib(point), point.verdict)).collect()
    }
}

async fn each_judgement_that_says_something_new_is_kept_with_its_wave_also_when_the_rollout_is_over(db: Db) {
    use Verdict::{Fails, Holds, Unknown};
    let world = World::on(db).await;
    let lab = world.lab(4).await;
    let id = world.roll_out("digits@2", "site=lab", gated(&["memory<41943040"])).await.id;
    world.turn(id, Health::Watching, &[]).await;
    assert_eq!(world.said(id).await, [(1, None, Unknown)]);
    for (seconds, mib) in [(1, 30), (1, 31), (1, 32), (1, 32), (20, 33)] {
        world.measured(id, seconds, &lab, mib).await;
    }
    let first = [(1, None, Unknown), (1, Some(30), Holds), (1, Some(32), Holds), (1, Some(33), Holds)];
    assert_eq!(world.said(id).await, first, "31 was said for a second only, and 32 twice");
    // The first wave is over, and nothing was measured in the second yet.
    world.turn(id, Health::Healthy, &[]).await;
    world.measured(id, 60, &[], 0).await;
    world.measured(id, 1, &[], 0).await;
    world.measured(id, 1, &lab, 35).await;
    world.measured(id, 1, &lab, 50).await;
    assert_eq!(world.phase(id).await, Phase::Aborted);
    let second = [(2, None, Unknown), (2, Some(35), Holds), (2, Some(50), Fails)];
    assert_eq!(world.said(id).await, [&first[..], &second[..]].concat());
}

async fn a_judgement_that_changed_is_told_to_who_watches(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(2).await;
    let id = world.roll_out("digits@2", "site=lab", gated(&["memory<41943040"])).await.id;
    world.turn(id, Health::Watching, &[]).await;
    world.measured(id, 1, &lab, 30).await;
    let stream = world.deployments.events.stream(world.alice.tenant, None, vec!["rollout.changed".into()]).unwrap();
    let mut told = stream.into_response().into_body().into_data_stream();
    world.measured(id, 1, &lab, 31).await;
    let mut text = String::new();
    while !text.contains("data:") {
        text += std::str::from_utf8(&told.next().await.unwrap().unwrap()).unwrap();
    }
    assert!(text.contains(&id.to_string()), "{text}");
}

async fn what_is_kept_of_a_gate_is_bounded_and_each_gate_has_its_own(db: Db) {
    let world = World::on(db.clone()).await;
    world.lab(1).await;
    let (tenant, deployment) =
        (world.alice.tenant, world.roll_out("digits@2", "site=lab", gated(&["memory<41943040", "p95<1000000us"])).await);
    let rollout = world.deployments.rollout(tenant, deployment.id).await.unwrap().rollout.unwrap();
    let point = |second: usize| Point {
        at: Micros(second as i64 * 1_000_000),
        wave: second % 2,
        candidate: Some(second as f64),
        baseline: second.is_multiple_of(4).then_some(0.0),
        devices: 1,
        verdict: Verdict::Holds,
    };
    let mut tx = db.begin().await.unwrap();
    readings_store::record(&mut tx, tenant, rollout.id, 1, point(7)).await.unwrap();
    for second in 0..=KEPT {
        readings_store::record(&mut tx, tenant, rollout.id, 0, point(second)).await.unwrap();
    }
    tx.commit().await.unwrap();
    let all = world.deployments.readings(tenant, &rollout).await.unwrap();
    let every_second: Vec<_> = (0..=KEPT).step_by(2).map(point).collect();
    assert_eq!((all[0].len(), &all[0]), (KEPT / 2 + 1, &every_second), "the newest stays");
    assert_eq!(all[1], [point(7)], "of the other gate nothing went");
}

async fn a_chart_is_given_as_many_points_as_it_asks_for(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(2).await;
    let deployment = world.get(&format!("/api/v1/rollouts/{}/gates", world.deploy("digits@1", "site=lab").await.id)).await;
    assert_eq!(deployment, (200, serde_json::json!({ "gates": [] })));
    let id = world.roll_out("digits@2", "site=lab", gated(&["p95<1000000us", "memory<41943040"])).await.id;
    world.turn(id, Health::Watching, &[]).await;
    for mib in [30, 31, 32] {
        world.measured(id, 20, &lab, mib).await;
    }
    let all = world.gates(&format!("/api/v1/rollouts/{id}/gates")).await.gates;
    let gates: Vec<_> = all.iter().map(|series| series.gate.as_str()).collect();
    assert_eq!((gates, all[0].points.len(), all[1].points.len()), (vec!["p95<1000000us", "memory<41943040"], 1, 4));
    let few = world.gates(&format!("/api/v1/rollouts/{id}/gates?max_points=2")).await.gates;
    assert_eq!((few[1].points.len(), few[1].points.last()), (2, all[1].points.last()));
    for wrong in ["0", "10001"] {
        let (status, problem) = world.get(&format!("/api/v1/rollouts/{id}/gates?max_points={wrong}")).await;
        assert_eq!((status, &problem["field"]), (422, &"max_points".into()));
    }
    assert_eq!(world.get(&format!("/api/v1/rollouts/{}/gates", DeploymentId::new(9))).await.0, 404);
}
