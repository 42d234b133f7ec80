//! Settings for agents, on both databases.

use super::Registry;
use crate::platform::db::Db;
use crate::platform::testing::both_stores;
use crate::registry::RegistryError;
use crate::registry::settings::Kept;
use serde_json::json;

both_stores!(
    settings_are_counted_and_the_same_again_are_the_version_they_have,
    settings_that_there_are_not_are_refused_with_their_names,
    tenants_see_only_their_own_settings,
);

async fn settings_are_counted_and_the_same_again_are_the_version_they_have(db: Db) {
    let registry = Registry::on(db).await;
    let settings = &registry.settings;
    let alice = &registry.alice;
    let slow = json!({ "telemetry": { "interval_s": 60 } });
    let keep = async |value: &serde_json::Value| match settings.create(alice, value).await.unwrap() {
        Kept::New(row) => (true, row.version),
        Kept::Existing(row) => (false, row.version),
    };
    assert_eq!(keep(&slow).await, (true, 1));
    assert_eq!(keep(&slow).await, (false, 1));
    assert_eq!(keep(&json!({})).await, (true, 2));
    assert_eq!(keep(&slow).await, (true, 3));
    let listed = settings.list(alice.tenant, u64::MAX, 2).await.unwrap();
    assert_eq!(listed.iter().map(|row| row.version).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(settings.version(alice.tenant, 1).await.unwrap().settings.telemetry.interval_s, Some(60));
}

async fn settings_that_there_are_not_are_refused_with_their_names(db: Db) {
    let registry = Registry::on(db).await;
    let settings = &registry.settings;
    let refused = settings.create(&registry.alice, &json!({ "telemetry": { "intervals": 5 } })).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Invalid { .. }) && refused.to_string().contains("telemetry.intervals"), "{refused}");
    assert!(settings.list(registry.alice.tenant, u64::MAX, 9).await.unwrap().is_empty());
}

async fn tenants_see_only_their_own_settings(db: Db) {
    let registry = Registry::on(db).await;
    let settings = &registry.settings;
    settings.create(&registry.alice, &json!({ "log": { "level": "debug" } })).await.unwrap();
    assert!(settings.list(registry.mallory.tenant, u64::MAX, 9).await.unwrap().is_empty());
    assert!(matches!(settings.version(registry.mallory.tenant, 1).await, Err(RegistryError::NotFound(_))));
}
