//! Models, their aliases and holds in the database.

use super::{json, parsed, signed, unsigned};
use crate::platform::db::StoreError;
use aidos_protocol::{ModelName, TenantId, api::models::Alias, time::Micros};
use sqlx::{Any, AnyConnection, AnyPool, FromRow, Row as _, any::AnyRow};
use std::collections::BTreeMap;

/// A model as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelRow {
    pub(crate) name: ModelName,
    pub(crate) description: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Markdown; empty in lists.
    pub(crate) card: String,
    /// The highest version, 0 for none.
    pub(crate) last_version: u64,
    /// Counts what changes of it, versions and aliases included.
    pub(crate) revision: u64,
    pub(crate) created: Micros,
    pub(crate) updated: Micros,
}

impl FromRow<'_, AnyRow> for ModelRow {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            name: parsed(row, "name")?,
            description: row.try_get("description")?,
            labels: json(row, "labels")?,
            card: row.try_get("card")?,
            last_version: unsigned(row, "last_version")?,
            revision: unsigned(row, "revision")?,
            created: Micros(row.try_get("created_us")?),
            updated: Micros(row.try_get("updated_us")?),
        })
    }
}

pub(in crate::registry) async fn insert(tx: &mut AnyConnection, tenant: TenantId, row: &ModelRow) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "INSERT INTO models (tenant_id, name, description, labels, card, created_us, updated_us) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(tenant.to_string())
    .bind(row.name.as_str())
    .bind(&row.description)
    .bind(labels_text(&row.labels))
    .bind(&row.card)
    .bind(row.created.0)
    .bind(row.updated.0)
    .execute(tx)
    .await?;
    Ok(())
}

const WHOLE: &str = "SELECT name, description, labels, card, last_version, revision, created_us, updated_us FROM models \
     WHERE tenant_id = $1 AND name = $2";

pub(in crate::registry) async fn model(
    pool: &AnyPool,
    tenant: TenantId,
    name: &ModelName,
) -> Result<Option<ModelRow>, StoreError> {
    Ok(sqlx::query_as::<Any, ModelRow>(WHOLE).bind(tenant.to_string()).bind(name.as_str()).fetch_optional(pool).await?)
}

pub(in crate::registry) async fn model_in(
    tx: &mut AnyConnection,
    tenant: TenantId,
    name: &ModelName,
) -> Result<Option<ModelRow>, StoreError> {
    Ok(sqlx::query_as::<Any, ModelRow>(WHOLE).bind(tenant.to_string()).bind(name.as_str()).fetch_optional(tx).await?)
}

/// Models by name after `after`; `search` is part of the name or description, in any case.
pub(in crate::registry) async fn list(
    pool: &AnyPool,
    tenant: TenantId,
    search: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<ModelRow>, StoreError> {
    let mut pattern = String::from("%");
    for c in search.to_lowercase().chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    Ok(sqlx::query_as::<Any, ModelRow>(
        "SELECT name, description, labels, '' AS card, last_version, revision, created_us, updated_us FROM models \
         WHERE tenant_id = $1 AND name > $2 AND (name LIKE $3 ESCAPE '\\' OR LOWER(description) LIKE $3 ESCAPE '\\') \
         ORDER BY name LIMIT $4",
    )
    .bind(tenant.to_string())
    .bind(after)
    .bind(pattern)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?)
}

/// Writes description, labels and card over revision `row.revision`; `false` when that is not the present one.
pub(in crate::registry) async fn update(
    tx: &mut AnyConnection,
    tenant: TenantId,
    row: &ModelRow,
    now: Micros,
) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>(
        "UPDATE models SET description = $4, labels = $5, card = $6, updated_us = $7, revision = revision + 1 \
         WHERE tenant_id = $1 AND name = $2 AND revision = $3",
    )
    .bind(tenant.to_string())
    .bind(row.name.as_str())
    .bind(signed(row.revision))
    .bind(&row.description)
    .bind(labels_text(&row.labels))
    .bind(&row.card)
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Takes the model's next version number; `None` when there is no such model. The row stays locked until the commit.
pub(in crate::registry) async fn next_version(
    tx: &mut AnyConnection,
    tenant: TenantId,
    name: &ModelName,
    now: Micros,
) -> Result<Option<u64>, StoreError> {
    let row = sqlx::query::<Any>(
        "UPDATE models SET last_version = last_version + 1, revision = revision + 1, updated_us = $3 WHERE tenant_id = $1 AND name = $2 \
         RETURNING last_version",
    )
    .bind(tenant.to_string())
    .bind(name.as_str())
    .bind(now.0)
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| unsigned(&row, "last_version")).transpose()?)
}

/// Counts a change that stands in another table.
pub(in crate::registry) async fn touch(
    tx: &mut AnyConnection,
    tenant: TenantId,
    name: &ModelName,
    now: Micros,
) -> Result<(), StoreError> {
    sqlx::query::<Any>("UPDATE models SET revision = revision + 1, updated_us = $3 WHERE tenant_id = $1 AND name = $2")
        .bind(tenant.to_string())
        .bind(name.as_str())
        .bind(now.0)
        .execute(tx)
        .await?;
    Ok(())
}

pub(in crate::registry) async fn delete(tx: &mut AnyConnection, tenant: TenantId, name: &ModelName) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>("DELETE FROM models WHERE tenant_id = $1 AND name = $2")
        .bind(tenant.to_string())
        .bind(name.as_str())
        .execute(tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Points `alias` at `version`. A version that is not there is a conflict.
pub(in crate::registry) async fn put_alias(
    tx: &mut AnyConnection,
    tenant: TenantId,
    name: &ModelName,
    alias: &Alias,
    version: u64,
    now: Micros,
) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "INSERT INTO model_aliases (tenant_id, model, alias, version, updated_us) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (tenant_id, model, alias) DO UPDATE SET version = excluded.version, updated_us = excluded.updated_us",
    )
    .bind(tenant.to_string())
    .bind(name.as_str())
    .bind(alias.as_str())
    .bind(signed(version))
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(())
}

pub(in crate::registry) async fn delete_alias(
    tx: &mut AnyConnection,
    tenant: TenantId,
    name: &ModelName,
    alias: &Alias,
) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>("DELETE FROM model_aliases WHERE tenant_id = $1 AND model = $2 AND alias = $3")
        .bind(tenant.to_string())
        .bind(name.as_str())
        .bind(alias.as_str())
        .execute(tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

pub(in crate::registry) async fn alias(
    pool: &AnyPool,
    tenant: TenantId,
    name: &ModelName,
    alias: &Alias,
) -> Result<Option<u64>, StoreError> {
    let row = sqlx::query::<Any>("SELECT version FROM model_aliases WHERE tenant_id = $1 AND model = $2 AND alias = $3")
        .bind(tenant.to_string())
        .bind(name.as_str())
        .bind(alias.as_str())
        .fetch_optional(pool)
        .await?;
    Ok(row.map(|row| unsigned(&row, "version")).transpose()?)
}

/// The aliases of the models named `first` to `last`: model → alias → version.
pub(in crate::registry) async fn aliases(
    pool: &AnyPool,
    tenant: TenantId,
    first: &ModelName,
    last: &ModelName,
) -> Result<BTreeMap<ModelName, BTreeMap<String, u64>>, StoreError> {
    let rows = sqlx::query::<Any>(
        "SELECT model, alias, version FROM model_aliases WHERE tenant_id = $1 AND model >= $2 AND model <= $3",
    )
    .bind(tenant.to_string())
    .bind(first.as_str())
    .bind(last.as_str())
    .fetch_all(pool)
    .await?;
    let mut aliases: BTreeMap<ModelName, BTreeMap<String, u64>> = BTreeMap::new();
    for row in rows {
        let model = aliases.entry(parsed(&row, "model")?).or_default();
        model.insert(row.try_get("alias")?, unsigned(&row, "version")?);
    }
    Ok(aliases)
}

pub(in crate::registry) async fn count(pool: &AnyPool, tenant: TenantId) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) AS models FROM models WHERE tenant_id = $1";
    Ok(unsigned(&sqlx::query::<Any>(sql).bind(tenant.to_string()).fetch_one(pool).await?, "models")?)
}

pub(in crate::registry) async fn count_aliases(
    tx: &mut AnyConnection,
    tenant: TenantId,
    name: &ModelName,
) -> Result<u64, StoreError> {
    let row = sqlx::query::<Any>("SELECT COUNT(*) AS aliases FROM model_aliases WHERE tenant_id = $1 AND model = $2")
        .bind(tenant.to_string())
        .bind(name.as_str())
        .fetch_one(tx)
        .await?;
    Ok(unsigned(&row, "aliases")?)
}

pub(in crate::registry) async fn insert_hold(
    tx: &mut AnyConnection,
    tenant: TenantId,
    name: &ModelName,
    version: u64,
    holder: &str,
) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "INSERT INTO model_holds (tenant_id, model, version, holder) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (tenant_id, model, version, holder) DO NOTHING",
    )
    .bind(tenant.to_string())
    .bind(name.as_str())
    .bind(signed(version))
    .bind(holder)
    .execute(tx)
    .await?;
    Ok(())
}

pub(in crate::registry) async fn delete_hold(
    tx: &mut AnyConnection,
    tenant: TenantId,
    name: &ModelName,
    holder: &str,
) -> Result<(), StoreError> {
    sqlx::query::<Any>("DELETE FROM model_holds WHERE tenant_id = $1 AND model = $2 AND holder = $3")
        .bind(tenant.to_string())
        .bind(name.as_str())
        .bind(holder)
        .execute(tx)
        .await?;
    Ok(())
}

/// Some of those who hold versions of the model.
pub(in crate::registry) async fn holders(
    tx: &mut AnyConnection,
    tenant: TenantId,
    name: &ModelName,
    limit: u32,
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT DISTINCT holder FROM model_holds WHERE tenant_id = $1 AND model = $2 ORDER BY holder LIMIT $3";
    let rows = sqlx::query::<Any>(sql).bind(tenant.to_string()).bind(name.as_str()).bind(i64::from(limit)).fetch_all(tx).await?;
    Ok(rows.iter().map(|row| row.try_get("holder")).collect::<Result<_, _>>()?)
}

fn labels_text(labels: &BTreeMap<String, String>) -> String {
    serde_json::to_string(labels).expect("a map of texts serialises")
}
