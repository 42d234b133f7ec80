//! Who is taken when: waves by label, devices that come late, how many may be away at once, and which of several rollouts holds.

use super::rollout_tests::waves;
use super::tests::World;
use crate::platform::db::Db;
use crate::platform::testing::both_stores;
use aidos_protocol::DeviceId;
use aidos_protocol::api::rollouts::{Outcome, RolloutPhase as Phase};
use aidos_protocol::rollout::Plan;
use aidos_protocol::twin::Health;
use std::collections::BTreeMap;
use std::time::Duration;

both_stores!(
    a_wave_by_label_takes_whatever_carries_it_first,
    a_late_joiner_follows_once_the_wave_it_belongs_to_is_over,
    no_more_are_away_than_may_be_and_who_is_offline_takes_no_place,
    the_higher_priority_holds_whichever_came_first,
);

async fn a_wave_by_label_takes_whatever_carries_it_first(db: Db) {
    let world = World::on(db).await;
    let canaries: Vec<_> = (0..2).map(|n| world.device(&format!("c-{n}"), &[("site", "lab"), ("canary", "yes")])).collect();
    let lab = world.lab(6).await;
    // One that carries the label and is not meant.
    let elsewhere = world.device("elsewhere", &[("canary", "yes")]);
    let rollout = world.roll_out("digits@2", "site=lab", waves("canary=yes,100%")).await;
    world.turn(rollout.id, Health::Watching, &[]).await;
    assert_eq!((world.count(&canaries, 2), world.count(&lab, 2)), (2, 0));
    for _ in 0..2 {
        world.turn(rollout.id, Health::Healthy, &[canaries.clone(), lab.clone()].concat()).await;
    }
    assert_eq!((world.phase(rollout.id).await, world.count(&lab, 2)), (Phase::Finished, 6));
    assert!(world.versions(elsewhere).is_empty());
}

async fn a_late_joiner_follows_once_the_wave_it_belongs_to_is_over(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(10).await;
    let rollout = world.roll_out("digits@2", "site=lab", Plan { soak_s: 60, ..waves("40%,70%,100%") }).await;
    world.turn(rollout.id, Health::Healthy, &lab).await;
    world.registry.clock.advance(Duration::from_secs(60));
    world.turn(rollout.id, Health::Watching, &[]).await;
    assert_eq!(world.count(&lab, 2), 7, "the first wave is over, and the second has begun");

    let late: Vec<_> = (0..60).map(|n| world.device(&format!("late-{n}"), &[("site", "lab")])).collect();
    world.reconcile().await;
    world.turn(rollout.id, Health::Watching, &[]).await;
    let of_wave: BTreeMap<DeviceId, usize> =
        world.members(rollout.id).await.iter().map(|member| (member.device, member.wave)).collect();
    let in_wave = |wave: usize| late.iter().copied().filter(|device| of_wave[device] == wave).collect::<Vec<_>>();
    let (first, last) = (in_wave(0), in_wave(2));
    assert!(!first.is_empty() && !last.is_empty(), "sixty are spread over three waves: {of_wave:?}");
    assert_eq!(world.phase(rollout.id).await, Phase::Running);
    assert_eq!((world.count(&first, 2), world.count(&last, 1)), (first.len(), last.len()));
}

async fn no_more_are_away_than_may_be_and_who_is_offline_takes_no_place(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(20).await;
    let tenant = world.alice.tenant;
    for device in &lab[..3] {
        world.fleet.change(tenant, *device, |twin| twin.online = false);
    }
    let limited = Plan { max_unavailable: Some("2".parse().unwrap()), deadline_s: 600, ..waves("100%") };
    let rollout = world.roll_out("digits@2", "site=lab", limited).await;
    let mut most = 0;
    for _ in 0..40 {
        world.turn(rollout.id, Health::Watching, &[]).await;
        let members = world.members(rollout.id).await;
        let changing = members.iter().filter(|member| member.outcome == Outcome::Changing && member.told.is_some());
        let changing: Vec<_> = changing.map(|member| member.device).filter(|device| world.online(*device)).collect();
        most = most.max(changing.len());
        // One of them is done; the other one takes its time.
        if let Some(device) = changing.first() {
            world.vouch(*device, Health::Healthy);
            world.check_all().await;
        }
    }
    assert_eq!(most, 2, "as many as may be, and never more");
    assert_eq!(world.count(&lab[3..], 2), 17, "those that are offline held nobody up");
}

async fn the_higher_priority_holds_whichever_came_first(db: Db) {
    let world = World::on(db).await;
    let lab = world.lab(3).await;
    let through = async |model: &str, selector: &str, priority: i32| {
        let rollout = world.roll_out(model, selector, Plan { priority, ..waves("100%") }).await;
        for _ in 0..2 {
            world.turn(rollout.id, Health::Healthy, &lab).await;
        }
    };
    through("digits@2", "site=lab", -1).await;
    assert_eq!(world.count(&lab, 1), 3, "what holds has a higher one");
    through("digits@2", "site in (lab)", 3).await;
    assert_eq!(world.count(&lab, 2), 3, "a newer one that is higher takes over");
    through("digits@1", "site!=home", 2).await;
    assert_eq!(world.count(&lab, 2), 3, "a newer one that is lower does not");
    through("digits@1", "*", 4).await;
    assert_eq!(world.count(&lab, 1), 3);
}
