//! Selectors as SQL mean the same as selectors, on both databases.

use super::*;
use crate::platform::db::Db;
use crate::platform::testing::both_stores;
use aidos_protocol::TenantId;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use sqlx::{Any, AssertSqlSafe, Row as _};
use std::collections::{BTreeMap, BTreeSet};

both_stores!(the_database_and_memory_select_the_same_devices);

/// Selectors compared; each is one statement over all devices.
const SELECTORS: usize = 200;

fn device_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let key = prop::sample::select(vec!["site", "gpu", "example.com/class"]);
    let value = prop::sample::select(vec!["", "lab", "home", "none"]);
    proptest::collection::btree_map(key.prop_map(str::to_owned), value.prop_map(str::to_owned), 0..4)
}

fn selector() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["site", "gpu", "example.com/class", "missing"]);
    let test = prop::sample::select(vec!["K", "!K", "K=lab", "K=", "K!=none", "K in (lab,home)", "K notin (none,)", "K in ()"]);
    let one = (key, test).prop_map(|(key, test)| test.replace('K', key));
    proptest::collection::vec(one, 0..4).prop_map(|all| all.join(","))
}

async fn the_database_and_memory_select_the_same_devices(db: Db) {
    let mut runner = TestRunner::new(Config::default());
    let (tenant, foreign) = (TenantId::new(1).to_string(), TenantId::new(2).to_string());
    let mut devices = Vec::new();
    for n in 0..60 {
        let (id, labels) = (format!("dev_{n:02}"), device_labels().new_tree(&mut runner).unwrap().current());
        // The same labels in another tenant, which must not be found.
        for (tenant, id) in [(&tenant, id.clone()), (&foreign, format!("{id}x"))] {
            insert(&db, tenant, &id, &labels).await;
        }
        devices.push((id, labels));
    }
    for _ in 0..SELECTORS {
        let selector: Selector = selector().new_tree(&mut runner).unwrap().current().parse().unwrap();
        let condition = selector_sql(&selector, 2);
        let sql = format!("SELECT d.id AS id FROM devices d WHERE d.tenant_id = $1 AND {}", condition.text);
        let query = condition.values.iter().fold(sqlx::query::<Any>(AssertSqlSafe(sql)).bind(&tenant), |q, v| q.bind(v));
        let rows = query.fetch_all(db.pool()).await.unwrap();
        let found: BTreeSet<String> = rows.iter().map(|row| row.get("id")).collect();
        let expected = devices.iter().filter(|(_, labels)| selector.matches(labels)).map(|(id, _)| id.clone());
        assert_eq!(found, expected.collect(), "{selector}");
    }
}

async fn insert(db: &Db, tenant: &str, id: &str, labels: &BTreeMap<String, String>) {
    sqlx::query::<Any>(
        "INSERT INTO devices (tenant_id, id, name, state, created_us, cert_end_us) VALUES ($1, $2, $2, 'active', 0, 0)",
    )
    .bind(tenant)
    .bind(id)
    .execute(db.pool())
    .await
    .unwrap();
    for (key, value) in labels {
        sqlx::query::<Any>("INSERT INTO device_labels (tenant_id, device_id, key, value) VALUES ($1, $2, $3, $4)")
            .bind(tenant)
            .bind(id)
            .bind(key)
            .bind(value)
            .execute(db.pool())
            .await
            .unwrap();
    }
}
