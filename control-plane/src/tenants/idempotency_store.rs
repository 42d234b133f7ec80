//! Kept answers in the database. The only file that knows this table.

use super::Caller;
use crate::platform::db::{Db, StoreError};
use aidos_protocol::{TenantId, time::Micros};
use sqlx::{AnyConnection, Row};

/// What is kept under a key.
pub(super) struct Kept {
    pub(super) request_hash: Vec<u8>,
    /// `None` while the first request runs.
    pub(super) status: Option<u16>,
    pub(super) headers: String,
    /// `None` for an answer that held a secret.
    pub(super) body: Option<Vec<u8>>,
}

pub(super) async fn count(tx: &mut AnyConnection, tenant: TenantId) -> Result<i64, StoreError> {
    let query = sqlx::query("SELECT COUNT(*) AS n FROM idempotency WHERE tenant_id = $1").bind(tenant.to_string());
    Ok(query.fetch_one(tx).await?.try_get("n")?)
}

/// Claims the key for a request; false when it is taken. A claim from before `abandoned` that has no answer is taken over.
pub(super) async fn claim(
    tx: &mut AnyConnection,
    caller: &Caller,
    key: &str,
    hash: &[u8],
    now: Micros,
    abandoned: Micros,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO idempotency (tenant_id, actor, key, request_hash, created_us) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (tenant_id, actor, key) DO UPDATE SET request_hash = excluded.request_hash, created_us = excluded.created_us \
         WHERE idempotency.status IS NULL AND idempotency.created_us < $6",
    )
    .bind(caller.tenant.to_string())
    .bind(caller.actor.clone())
    .bind(key.to_owned())
    .bind(hash.to_vec())
    .bind(now.0)
    .bind(abandoned.0)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn get(tx: &mut AnyConnection, caller: &Caller, key: &str) -> Result<Kept, StoreError> {
    let row = sqlx::query(
        "SELECT request_hash, status, headers, body FROM idempotency WHERE tenant_id = $1 AND actor = $2 AND key = $3",
    )
    .bind(caller.tenant.to_string())
    .bind(caller.actor.clone())
    .bind(key.to_owned())
    .fetch_one(tx)
    .await?;
    let status: Option<i64> = row.try_get("status")?;
    Ok(Kept {
        request_hash: row.try_get("request_hash")?,
        status: status.map(|status| u16::try_from(status).unwrap_or(500)),
        headers: row.try_get::<Option<String>, _>("headers")?.unwrap_or_default(),
        body: row.try_get("body")?,
    })
}

pub(super) async fn keep(
    db: &Db,
    caller: &Caller,
    key: &str,
    status: u16,
    headers: String,
    body: Option<Vec<u8>>,
) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    sqlx::query("UPDATE idempotency SET status = $4, headers = $5, body = $6 WHERE tenant_id = $1 AND actor = $2 AND key = $3")
        .bind(caller.tenant.to_string())
        .bind(caller.actor.clone())
        .bind(key.to_owned())
        .bind(i64::from(status))
        .bind(headers)
        .bind(body)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

pub(super) async fn free(db: &Db, caller: &Caller, key: &str) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    sqlx::query("DELETE FROM idempotency WHERE tenant_id = $1 AND actor = $2 AND key = $3 AND status IS NULL")
        .bind(caller.tenant.to_string())
        .bind(caller.actor.clone())
        .bind(key.to_owned())
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

/// Removes old answers of all tenants.
pub(super) async fn remove_before(db: &Db, before: Micros) -> Result<u64, StoreError> {
    let mut tx = db.begin().await?;
    let done = sqlx::query("DELETE FROM idempotency WHERE created_us < $1").bind(before.0).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(done.rows_affected())
}
