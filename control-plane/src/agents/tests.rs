//! Settings for agents, on both databases. What reaches devices is tested with the whole control plane.

use super::send::{Agents, SendError};
use super::settings::Kept;
use crate::fleet::{Devices, Live, Twins};
use crate::platform::db::Db;
use crate::platform::http::Events;
use crate::platform::testing::both_stores;
use crate::registry::tests::Registry;
use crate::tenants::Activity;
use serde_json::json;
use tokio_util::sync::CancellationToken;

both_stores!(
    settings_are_counted_and_the_same_again_are_the_version_they_have,
    settings_that_there_are_not_are_refused_with_their_names,
    tenants_see_only_their_own_settings,
);

async fn agents(db: Db) -> (Agents, Registry) {
    let registry = Registry::on(db).await;
    let (db, clock) = (registry.db.clone(), registry.clock.clone());
    let activity = Activity::new(db.clone(), clock.clone());
    let events = Events::new(clock.clone(), CancellationToken::new());
    let devices = Devices::new(db.clone(), clock.clone(), activity.clone(), events, Live::default());
    let twins = Twins::new(db.clone(), clock.clone(), activity.clone());
    (Agents::new(db, clock, activity, devices, twins, registry.releases.clone()), registry)
}

async fn settings_are_counted_and_the_same_again_are_the_version_they_have(db: Db) {
    let (agents, registry) = agents(db).await;
    let alice = &registry.alice;
    let slow = json!({ "telemetry": { "interval_s": 60 } });
    let keep = async |value: &serde_json::Value| match agents.keep(alice, value).await.unwrap() {
        Kept::New(row) => (true, row.version),
        Kept::Existing(row) => (false, row.version),
    };
    assert_eq!(keep(&slow).await, (true, 1));
    assert_eq!(keep(&slow).await, (false, 1));
    assert_eq!(keep(&json!({})).await, (true, 2));
    assert_eq!(keep(&slow).await, (true, 3));
    let listed = agents.all_settings(alice.tenant, u64::MAX, 2).await.unwrap();
    assert_eq!(listed.iter().map(|row| row.version).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(agents.settings(alice.tenant, 1).await.unwrap().settings.telemetry.interval_s, Some(60));
}

async fn settings_that_there_are_not_are_refused_with_their_names(db: Db) {
    let (agents, registry) = agents(db).await;
    let refused = agents.keep(&registry.alice, &json!({ "telemetry": { "intervals": 5 } })).await.unwrap_err();
    assert!(matches!(refused, SendError::Settings(_)) && refused.to_string().contains("telemetry.intervals"), "{refused}");
    assert!(agents.all_settings(registry.alice.tenant, u64::MAX, 9).await.unwrap().is_empty());
}

async fn tenants_see_only_their_own_settings(db: Db) {
    let (agents, registry) = agents(db).await;
    agents.keep(&registry.alice, &json!({ "log": { "level": "debug" } })).await.unwrap();
    assert!(agents.all_settings(registry.mallory.tenant, u64::MAX, 9).await.unwrap().is_empty());
    assert!(matches!(agents.settings(registry.mallory.tenant, 1).await, Err(SendError::NoSettings(1))));
    assert!(matches!(agents.apply(&registry.mallory, 1, "*").await, Err(SendError::NoSettings(1))));
}
