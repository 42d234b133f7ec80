//! Sessions and login links in the database. The only file that knows these tables.
//!
//! A session is found by the hash of its secret alone: that is what tells its tenant.

use super::store::{KeyRow, key_row};
use crate::platform::db::StoreError;
use aidos_protocol::{ApiKeyId, TenantId, time::Micros};
use sqlx::{Any, AnyConnection, Executor, Row};

/// A session with the key that it stands for.
#[derive(Debug, Clone)]
pub(super) struct SessionRow {
    pub(super) key: KeyRow,
    pub(super) used: Micros,
    pub(super) expires: Micros,
}

/// What the two kinds of secrets are kept in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Session,
    Link,
}

impl Kind {
    fn table(self) -> (&'static str, &'static str) {
        match self {
            Self::Session => ("sessions", "secret_hash"),
            Self::Link => ("login_links", "code_hash"),
        }
    }
}

/// Drops what has ended, and of this key all but the newest `keep`.
pub(super) async fn prune(
    tx: &mut AnyConnection,
    kind: Kind,
    (tenant, key): (TenantId, ApiKeyId),
    keep: i64,
    now: Micros,
) -> Result<(), StoreError> {
    let (table, hash) = kind.table();
    let ended = format!("DELETE FROM {table} WHERE expires_us <= $1");
    sqlx::query(sqlx::AssertSqlSafe(ended)).bind(now.0).execute(&mut *tx).await?;
    let beyond = format!(
        "DELETE FROM {table} WHERE tenant_id = $1 AND key_id = $2 AND {hash} NOT IN (SELECT {hash} FROM {table} \
         WHERE tenant_id = $1 AND key_id = $2 ORDER BY created_us DESC LIMIT $3)"
    );
    sqlx::query(sqlx::AssertSqlSafe(beyond)).bind(tenant.to_string()).bind(key.to_string()).bind(keep).execute(tx).await?;
    Ok(())
}

pub(super) async fn insert_session(
    tx: &mut AnyConnection,
    hash: &[u8],
    (tenant, key): (TenantId, ApiKeyId),
    (now, expires): (Micros, Micros),
) -> Result<(), StoreError> {
    let sql =
        "INSERT INTO sessions (secret_hash, tenant_id, key_id, created_us, used_us, expires_us) VALUES ($1, $2, $3, $4, $4, $5)";
    sqlx::query(sql)
        .bind(hash.to_vec())
        .bind(tenant.to_string())
        .bind(key.to_string())
        .bind(now.0)
        .bind(expires.0)
        .execute(tx)
        .await?;
    Ok(())
}

/// The session whose secret has this hash, whether or not it still holds.
pub(super) async fn session<'e>(from: impl Executor<'e, Database = Any>, hash: &[u8]) -> Result<SessionRow, StoreError> {
    let sql = "SELECT k.tenant_id, k.id, k.name, k.role, k.hint, k.created_us, k.created_by, k.expires_us, k.revoked_us, \
               k.last_used_us, s.used_us, s.expires_us AS session_end_us FROM sessions s JOIN api_keys k \
               ON k.tenant_id = s.tenant_id AND k.id = s.key_id WHERE s.secret_hash = $1";
    let row = sqlx::query(sql).bind(hash.to_vec()).fetch_one(from).await?;
    Ok(SessionRow { key: key_row(&row)?, used: Micros(row.try_get("used_us")?), expires: Micros(row.try_get("session_end_us")?) })
}

pub(super) async fn use_session(tx: &mut AnyConnection, tenant: TenantId, hash: &[u8], now: Micros) -> Result<(), StoreError> {
    let sql = "UPDATE sessions SET used_us = $3 WHERE tenant_id = $1 AND secret_hash = $2";
    sqlx::query(sql).bind(tenant.to_string()).bind(hash.to_vec()).bind(now.0).execute(tx).await?;
    Ok(())
}

pub(super) async fn delete_session(tx: &mut AnyConnection, hash: &[u8]) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE secret_hash = $1").bind(hash.to_vec()).execute(tx).await?;
    Ok(())
}

pub(super) async fn insert_link(
    tx: &mut AnyConnection,
    hash: &[u8],
    (tenant, key): (TenantId, ApiKeyId),
    (now, expires): (Micros, Micros),
) -> Result<(), StoreError> {
    let sql = "INSERT INTO login_links (code_hash, tenant_id, key_id, created_us, expires_us) VALUES ($1, $2, $3, $4, $5)";
    sqlx::query(sql)
        .bind(hash.to_vec())
        .bind(tenant.to_string())
        .bind(key.to_string())
        .bind(now.0)
        .bind(expires.0)
        .execute(tx)
        .await?;
    Ok(())
}

/// Takes the link whose code has this hash: the key that it is for, once.
pub(super) async fn take_link(tx: &mut AnyConnection, hash: &[u8], now: Micros) -> Result<KeyRow, StoreError> {
    let sql = "SELECT k.tenant_id, k.id, k.name, k.role, k.hint, k.created_us, k.created_by, k.expires_us, k.revoked_us, \
               k.last_used_us FROM login_links l JOIN api_keys k ON k.tenant_id = l.tenant_id AND k.id = l.key_id \
               WHERE l.code_hash = $1 AND l.expires_us > $2";
    let key = key_row(&sqlx::query(sql).bind(hash.to_vec()).bind(now.0).fetch_one(&mut *tx).await?)?;
    let sql = "DELETE FROM login_links WHERE tenant_id = $1 AND code_hash = $2";
    let taken = sqlx::query(sql).bind(key.tenant.to_string()).bind(hash.to_vec()).execute(tx).await?;
    // On Postgres two may have read it at once; one of them took it.
    if taken.rows_affected() == 1 { Ok(key) } else { Err(StoreError::NotFound) }
}
