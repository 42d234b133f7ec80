//! Tenants, keys and activity in the database. The only file that knows these tables.
//!
//! Every statement on a tenant's rows names the tenant, but for the one that finds the tenant of a presented key.

use super::ActivityQuery;
use crate::platform::db::{Db, StoreError};
use aidos_protocol::api::activity::ActivityView;
use aidos_protocol::api::keys::Role;
use aidos_protocol::api::tenants::TenantName;
use aidos_protocol::{ApiKeyId, EventId, TenantId, time::Micros};
use sqlx::any::AnyRow;
use sqlx::{Any, AnyConnection, AnyPool, Executor, Row};
use std::str::FromStr;

/// A tenant as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TenantRow {
    pub(crate) id: TenantId,
    pub(crate) name: TenantName,
    pub(crate) root: bool,
    pub(crate) created: Micros,
}

/// A key as it is stored, without the hash of its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) tenant: TenantId,
    pub(crate) id: ApiKeyId,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) hint: String,
    pub(crate) created: Micros,
    pub(crate) created_by: String,
    pub(crate) expires: Option<Micros>,
    pub(crate) revoked: Option<Micros>,
    pub(crate) last_used: Option<Micros>,
}

/// An entry of the activity as it is stored.
#[derive(Debug, Clone)]
pub(super) struct ActivityRow {
    pub(super) id: EventId,
    pub(super) at: Micros,
    pub(super) actor: String,
    pub(super) action: String,
    pub(super) target: String,
    pub(super) detail: String,
    pub(super) from: Option<String>,
}

fn parsed<T: FromStr>(row: &AnyRow, column: &str) -> Result<T, StoreError>
where
    T::Err: std::fmt::Display,
{
    let text: String = row.try_get(column)?;
    text.parse().map_err(|error| StoreError::Corrupt(format!("column {column}: {error}")))
}

fn moment(row: &AnyRow, column: &str) -> Result<Option<Micros>, StoreError> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Micros))
}

fn tenant_row(row: &AnyRow) -> Result<TenantRow, StoreError> {
    Ok(TenantRow {
        id: parsed(row, "id")?,
        name: parsed(row, "name")?,
        root: row.try_get::<i64, _>("root")? != 0,
        created: Micros(row.try_get("created_us")?),
    })
}

pub(super) fn key_row(row: &AnyRow) -> Result<KeyRow, StoreError> {
    Ok(KeyRow {
        tenant: parsed(row, "tenant_id")?,
        id: parsed(row, "id")?,
        name: row.try_get("name")?,
        role: parsed(row, "role")?,
        hint: row.try_get("hint")?,
        created: Micros(row.try_get("created_us")?),
        created_by: row.try_get("created_by")?,
        expires: moment(row, "expires_us")?,
        revoked: moment(row, "revoked_us")?,
        last_used: moment(row, "last_used_us")?,
    })
}

pub(super) async fn count_tenants(tx: &mut AnyConnection) -> Result<i64, StoreError> {
    let row = sqlx::query("SELECT COUNT(*) AS n FROM tenants").fetch_one(tx).await?;
    Ok(row.try_get("n")?)
}

pub(super) async fn insert_tenant(tx: &mut AnyConnection, row: &TenantRow) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO tenants (id, name, root, created_us) VALUES ($1, $2, $3, $4)")
        .bind(row.id.to_string())
        .bind(row.name.to_string())
        .bind(i64::from(row.root))
        .bind(row.created.0)
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn get_tenant(pool: &AnyPool, tenant: TenantId) -> Result<TenantRow, StoreError> {
    let query = sqlx::query("SELECT id, name, root, created_us FROM tenants WHERE id = $1").bind(tenant.to_string());
    tenant_row(&query.fetch_one(pool).await?)
}

pub(super) async fn list_tenants(pool: &AnyPool, after: Option<&str>, limit: usize) -> Result<Vec<TenantRow>, StoreError> {
    let query = sqlx::query("SELECT id, name, root, created_us FROM tenants WHERE name > $1 ORDER BY name LIMIT $2")
        .bind(after.unwrap_or_default().to_owned())
        .bind(limit as i64);
    query.fetch_all(pool).await?.iter().map(tenant_row).collect()
}

pub(super) async fn insert_key(tx: &mut AnyConnection, row: &KeyRow, hash: &[u8]) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO api_keys (tenant_id, id, name, role, hint, secret_hash, created_us, created_by, expires_us) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(row.tenant.to_string())
    .bind(row.id.to_string())
    .bind(row.name.clone())
    .bind(row.role.as_str())
    .bind(row.hint.clone())
    .bind(hash.to_vec())
    .bind(row.created.0)
    .bind(row.created_by.clone())
    .bind(row.expires.map(|at| at.0))
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn find_key_by_hash(pool: &AnyPool, hash: &[u8]) -> Result<KeyRow, StoreError> {
    let query = sqlx::query(
        "SELECT tenant_id, id, name, role, hint, created_us, created_by, expires_us, revoked_us, last_used_us \
         FROM api_keys WHERE secret_hash = $1",
    )
    .bind(hash.to_vec());
    key_row(&query.fetch_one(pool).await?)
}

pub(super) async fn get_key<'e>(
    from: impl Executor<'e, Database = Any>,
    tenant: TenantId,
    id: ApiKeyId,
) -> Result<KeyRow, StoreError> {
    let query = sqlx::query(
        "SELECT tenant_id, id, name, role, hint, created_us, created_by, expires_us, revoked_us, last_used_us \
         FROM api_keys WHERE tenant_id = $1 AND id = $2",
    )
    .bind(tenant.to_string())
    .bind(id.to_string());
    key_row(&query.fetch_one(from).await?)
}

pub(super) async fn list_keys(
    pool: &AnyPool,
    tenant: TenantId,
    after: Option<ApiKeyId>,
    limit: usize,
) -> Result<Vec<KeyRow>, StoreError> {
    let query = sqlx::query(
        "SELECT tenant_id, id, name, role, hint, created_us, created_by, expires_us, revoked_us, last_used_us \
         FROM api_keys WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3",
    )
    .bind(tenant.to_string())
    .bind(after.map(|id| id.to_string()).unwrap_or_default())
    .bind(limit as i64);
    query.fetch_all(pool).await?.iter().map(key_row).collect()
}

pub(super) async fn count_keys(tx: &mut AnyConnection, tenant: TenantId) -> Result<i64, StoreError> {
    let query = sqlx::query("SELECT COUNT(*) AS n FROM api_keys WHERE tenant_id = $1").bind(tenant.to_string());
    Ok(query.fetch_one(tx).await?.try_get("n")?)
}

pub(super) async fn count_lasting_owner_keys(tx: &mut AnyConnection, tenant: TenantId) -> Result<i64, StoreError> {
    let query = sqlx::query(
        "SELECT COUNT(*) AS n FROM api_keys \
         WHERE tenant_id = $1 AND role = 'owner' AND revoked_us IS NULL AND expires_us IS NULL",
    )
    .bind(tenant.to_string());
    Ok(query.fetch_one(tx).await?.try_get("n")?)
}

pub(super) async fn revoke_key(tx: &mut AnyConnection, tenant: TenantId, id: ApiKeyId, at: Micros) -> Result<(), StoreError> {
    sqlx::query("UPDATE api_keys SET revoked_us = $3 WHERE tenant_id = $1 AND id = $2")
        .bind(tenant.to_string())
        .bind(id.to_string())
        .bind(at.0)
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn touch_key(db: &Db, tenant: TenantId, id: ApiKeyId, at: Micros) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    sqlx::query("UPDATE api_keys SET last_used_us = $3 WHERE tenant_id = $1 AND id = $2")
        .bind(tenant.to_string())
        .bind(id.to_string())
        .bind(at.0)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

pub(super) async fn insert_activity(tx: &mut AnyConnection, tenant: TenantId, row: &ActivityRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO activity (tenant_id, id, at_us, actor, action, target, detail, from_address) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(tenant.to_string())
    .bind(row.id.to_string())
    .bind(row.at.0)
    .bind(row.actor.clone())
    .bind(row.action.clone())
    .bind(row.target.clone())
    .bind(row.detail.clone())
    .bind(row.from.clone())
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn list_activity(
    pool: &AnyPool,
    tenant: TenantId,
    query: &ActivityQuery,
    after: Option<(Micros, EventId)>,
    limit: usize,
) -> Result<Vec<ActivityView>, StoreError> {
    let (after_us, after_id) = after.map_or((i64::MAX, String::new()), |(at, id)| (at.0, id.to_string()));
    let rows = sqlx::query(
        "SELECT id, at_us, actor, action, target, detail, from_address FROM activity \
         WHERE tenant_id = $1 AND (at_us < $2 OR (at_us = $2 AND id < $3)) \
         AND ($4 = '' OR actor = $4) AND ($5 = '' OR action = $5) AND ($6 = '' OR target = $6) \
         AND at_us >= $7 AND at_us < $8 ORDER BY at_us DESC, id DESC LIMIT $9",
    )
    .bind(tenant.to_string())
    .bind(after_us)
    .bind(after_id)
    .bind(query.actor.clone().unwrap_or_default())
    .bind(query.action.clone().unwrap_or_default())
    .bind(query.target.clone().unwrap_or_default())
    .bind(query.since.unwrap_or(i64::MIN))
    .bind(query.until.unwrap_or(i64::MAX))
    .bind(limit as i64)
    .fetch_all(pool)
    .await?;
    rows.iter().map(activity_view).collect()
}

fn activity_view(row: &AnyRow) -> Result<ActivityView, StoreError> {
    let detail: String = row.try_get("detail")?;
    let corrupt = |error: serde_json::Error| StoreError::Corrupt(format!("column detail: {error}"));
    Ok(ActivityView {
        id: parsed(row, "id")?,
        at: Micros(row.try_get("at_us")?),
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        target: row.try_get("target")?,
        detail: serde_json::from_str(&detail).map_err(corrupt)?,
        from: row.try_get("from_address")?,
    })
}
