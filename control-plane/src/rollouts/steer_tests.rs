//! What people do to rollouts: at the same time, again, back over several versions, and to a deployment, which is one of one wave.

use super::course::Command;
use super::deployments::Made;
use super::rollout_tests::waves;
use super::tests::World;
use super::{Conductor, DeploymentError};
use crate::platform::db::Db;
use crate::platform::testing::both_stores;
use crate::registry::tests::digits_again;
use aidos_protocol::api::models::CreateVersion;
use aidos_protocol::api::rollouts::RolloutPhase as Phase;
use aidos_protocol::twin::Health;
use std::time::Duration;

both_stores!(
    of_two_rollouts_made_at_once_on_the_same_devices_one_is_made,
    promoting_and_aborting_at_once_end_in_one_of_the_two,
    two_undos_at_once_are_one,
    the_same_again_is_the_same_and_tells_nobody,
    undo_goes_back_over_several_versions_and_to_none_that_there_is_not,
    a_deployment_is_a_rollout_of_one_wave_and_is_undone_like_one,
    the_history_says_who_and_why,
);

async fn of_two_rollouts_made_at_once_on_the_same_devices_one_is_made(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(4).await;
    let make = || world.deployments.roll_out(&world.alice, "digits@2", "site=lab", waves("1,100%"), None);
    let (a, b) = tokio::join!(make(), make());
    let made: Vec<_> = [&a, &b].into_iter().filter_map(|made| made.as_ref().ok()).collect();
    let [Made::New(row)] = made.as_slice() else { panic!("{a:?} {b:?}") };
    world.turn(row.id, Health::Watching, &[]).await;
    assert_eq!(world.count(&lab, 2), 1);
}

async fn promoting_and_aborting_at_once_end_in_one_of_the_two(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(4).await;
    let rollout = world.roll_out("digits@2", "site=lab", waves("1,100%")).await;
    world.turn(rollout.id, Health::Watching, &[]).await;
    let (promoted, aborted) = tokio::join!(
        world.steer(rollout.id, Command::Promote { all: true }),
        world.steer(rollout.id, Command::Abort { revert: Some(true), reason: "bad".into() }),
    );
    // An abort may follow a promotion; nothing follows an abort.
    assert!(aborted.is_ok(), "{promoted:?} {aborted:?}");
    for _ in 0..2 {
        world.turn(rollout.id, Health::Healthy, &lab).await;
    }
    assert_eq!((world.phase(rollout.id).await, world.count(&lab, 1)), (Phase::Aborted, 4));
}

async fn two_undos_at_once_are_one(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(3).await;
    let rollout = world.roll_out("digits@2", "site=lab", waves("100%")).await;
    for _ in 0..2 {
        world.turn(rollout.id, Health::Healthy, &lab).await;
    }
    world.registry.clock.advance(Duration::from_secs(1));
    let undo = || world.deployments.undo(&world.alice, rollout.id, None, "slow");
    let (a, b) = tokio::join!(undo(), undo());
    let ids: Vec<_> = [a, b].into_iter().flatten().map(|whole| whole.deployment.id).collect();
    assert!(!ids.is_empty() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    for _ in 0..2 {
        world.turn(ids[0], Health::Healthy, &lab).await;
    }
    assert_eq!(world.count(&lab, 1), 3);
}

async fn the_same_again_is_the_same_and_tells_nobody(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(2).await;
    let rollout = world.roll_out("digits@2", "site=lab", waves("100%")).await;
    for _ in 0..2 {
        world.turn(rollout.id, Health::Healthy, &lab).await;
    }
    assert_eq!(world.phase(rollout.id).await, Phase::Finished);
    let told = |members: Vec<super::rollout_store::Member>| members.iter().map(|member| member.told).collect::<Vec<_>>();
    let before = told(world.members(rollout.id).await);
    world.registry.clock.advance(Duration::from_secs(60));
    let again = world.deployments.roll_out(&world.alice, "digits@2", "site=lab", waves("1,100%"), None).await.unwrap();
    let Made::Existing(same) = again else { panic!("{again:?}") };
    assert_eq!(same.id, rollout.id);
    world.turn(rollout.id, Health::Healthy, &lab).await;
    assert_eq!(told(world.members(rollout.id).await), before);
}

async fn undo_goes_back_over_several_versions_and_to_none_that_there_is_not(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(3).await;
    let third = [digits_again(), b"\x32\x01x".to_vec()].concat();
    let digest = world.registry.upload(&world.alice, &third).await;
    let request = CreateVersion { digest, manifest: None, golden: None, card: None, source: None };
    world.registry.models.register(&world.alice, &"digits".parse().unwrap(), request).await.unwrap();
    let mut last = None;
    for version in ["digits@2", "digits@3"] {
        let rollout = world.roll_out(version, "site=lab", waves("100%")).await;
        for _ in 0..2 {
            world.turn(rollout.id, Health::Healthy, &lab).await;
        }
        last = Some(rollout.id);
    }
    let id = last.unwrap();
    assert_eq!(world.count(&lab, 3), 3);
    world.registry.clock.advance(Duration::from_secs(1));
    let nowhere = world.deployments.undo(&world.alice, id, Some("9"), "").await;
    assert!(nowhere.as_ref().is_err_and(|error| error.to_string().contains('9')), "{nowhere:?}");
    assert_eq!(world.phase(id).await, Phase::Finished, "what could not be done has ended nothing");
    let undo = world.deployments.undo(&world.alice, id, Some("1"), "both are slow").await.unwrap();
    assert_eq!(undo.rollout.unwrap().undoes, Some(id));
    for _ in 0..2 {
        world.turn(undo.deployment.id, Health::Healthy, &lab).await;
    }
    assert_eq!(world.count(&lab, 1), 3);
}

async fn a_deployment_is_a_rollout_of_one_wave_and_is_undone_like_one(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(2).await;
    let deployment = world.deploy("digits@2", "site=lab").await;
    world.reconcile().await;
    for device in &lab {
        world.vouch(*device, Health::Healthy);
    }
    world.check_all().await;
    assert_eq!(world.count(&lab, 2), 2);
    assert_eq!(world.deployments.rollout(world.alice.tenant, deployment.id).await.unwrap().deployment.id, deployment.id);
    world.registry.clock.advance(Duration::from_secs(1));
    let undo = world.deployments.undo(&world.alice, deployment.id, None, "").await.unwrap();
    for _ in 0..2 {
        world.turn(undo.deployment.id, Health::Healthy, &lab).await;
    }
    assert_eq!(world.count(&lab, 1), 2);
}

async fn the_history_says_who_and_why(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(2).await;
    let rollout = world.roll_out("digits@2", "site=lab", waves("1,100%")).await;
    world.turn(rollout.id, Health::Watching, &lab).await;
    for command in [
        Command::Pause { reason: "lunch".into() },
        Command::Resume,
        Command::Abort { revert: Some(true), reason: "it is slow".into() },
    ] {
        world.registry.clock.advance(Duration::from_secs(1));
        world.deployments.steer(&world.alice, rollout.id, &command, "because").await.unwrap();
    }
    Conductor::new(world.deployments.clone()).advance(world.alice.tenant, rollout.id).await.unwrap();
    let query = crate::tenants::ActivityQuery { target: Some(rollout.id.to_string()), ..Default::default() };
    let entries = world.deployments.activity.list(world.alice.tenant, &query, None, 10).await.unwrap();
    for action in ["rollout.pause", "rollout.resume", "rollout.abort"] {
        let entry = entries.iter().find(|entry| entry.action == action).unwrap_or_else(|| panic!("{action}: {entries:?}"));
        assert_eq!((&entry.actor, &entry.detail["reason"]), (&world.alice.actor, &"because".into()), "{entry:?}");
    }
    assert!(matches!(world.deployments.undo(&world.alice, rollout.id, None, "").await, Err(DeploymentError::Conflict(_))));
}
