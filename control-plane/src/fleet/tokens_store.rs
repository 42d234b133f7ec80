//! Join tokens in the database. The only file that knows this table.
//!
//! Every statement names the tenant, but for the one that finds the tenant of a token that a stranger presents.

use super::store::{corrupt, parsed, time};
use crate::platform::db::StoreError;
use aidos_protocol::{TenantId, TokenId, time::Micros};
use sqlx::{Any, AnyConnection, AnyPool, FromRow, Row, any::AnyRow};
use std::collections::BTreeMap;

/// A join token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenRow {
    /// Its tenant.
    pub(crate) tenant: TenantId,
    /// Its id.
    pub(crate) id: TokenId,
    /// SHA-256 of its secret.
    pub(crate) secret_hash: Vec<u8>,
    /// Labels for the devices that join with it.
    pub(crate) labels: BTreeMap<String, String>,
    /// How many devices may join.
    pub(crate) uses: u32,
    /// How many did.
    pub(crate) used: u32,
    /// When it was made.
    pub(crate) created: Micros,
    /// Who made it.
    pub(crate) created_by: String,
    /// When it ends.
    pub(crate) expires: Micros,
    /// When a device joined with it last.
    pub(crate) last_used: Option<Micros>,
}

fn count(row: &AnyRow, column: &str) -> Result<u32, sqlx::Error> {
    u32::try_from(row.try_get::<i64, _>(column)?).map_err(|e| corrupt(column)(Box::new(e)))
}

impl FromRow<'_, AnyRow> for TokenRow {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let labels: String = row.try_get("labels")?;
        Ok(Self {
            tenant: parsed(row, "tenant_id")?,
            id: parsed(row, "id")?,
            secret_hash: row.try_get("secret_hash")?,
            labels: serde_json::from_str(&labels).map_err(|e| corrupt("labels")(Box::new(e)))?,
            uses: count(row, "uses")?,
            used: count(row, "used")?,
            created: Micros(row.try_get("created_us")?),
            created_by: row.try_get("created_by")?,
            expires: Micros(row.try_get("expires_us")?),
            last_used: time(row, "last_used_us")?,
        })
    }
}

const TOKEN_COLUMNS: &str = "tenant_id, id, secret_hash, labels, uses, used, created_us, created_by, expires_us, last_used_us";

pub(super) async fn insert_token(tx: &mut AnyConnection, row: &TokenRow) -> Result<(), StoreError> {
    let labels = serde_json::to_string(&row.labels).expect("a map of strings serialises");
    sqlx::query::<Any>(
        "INSERT INTO tokens (tenant_id, id, secret_hash, labels, uses, created_us, created_by, expires_us) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(row.tenant.to_string())
    .bind(row.id.to_string())
    .bind(row.secret_hash.clone())
    .bind(labels)
    .bind(i64::from(row.uses))
    .bind(row.created.0)
    .bind(&row.created_by)
    .bind(row.expires.0)
    .execute(tx)
    .await?;
    Ok(())
}

/// Newest first, those after `before` (exclusive) in that order.
pub(super) async fn tokens(
    pool: &AnyPool,
    tenant: TenantId,
    before: Option<TokenId>,
    limit: usize,
) -> Result<Vec<TokenRow>, StoreError> {
    let sql = format!("SELECT {TOKEN_COLUMNS} FROM tokens WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3");
    Ok(sqlx::query_as::<Any, TokenRow>(sqlx::AssertSqlSafe(sql))
        .bind(tenant.to_string())
        // Above every id in any collation: they are `tok_` and hexadecimal digits.
        .bind(before.map_or_else(|| "tok_g".to_owned(), |id| id.to_string()))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(pool)
        .await?)
}

/// The tenant of a token that a stranger presents.
pub(super) async fn tenant_of_token(tx: &mut AnyConnection, token: TokenId) -> Result<Option<TenantId>, StoreError> {
    let row = sqlx::query::<Any>("SELECT tenant_id FROM tokens WHERE id = $1").bind(token.to_string()).fetch_optional(tx).await?;
    Ok(row.map(|row| parsed(&row, "tenant_id")).transpose()?)
}

pub(super) async fn token(tx: &mut AnyConnection, tenant: TenantId, token: TokenId) -> Result<Option<TokenRow>, StoreError> {
    let sql = format!("SELECT {TOKEN_COLUMNS} FROM tokens WHERE tenant_id = $1 AND id = $2");
    Ok(sqlx::query_as::<Any, TokenRow>(sqlx::AssertSqlSafe(sql))
        .bind(tenant.to_string())
        .bind(token.to_string())
        .fetch_optional(tx)
        .await?)
}

/// Spends one use, in one statement, so that two devices never share the last one. `None`: none is left, or it has expired.
pub(super) async fn spend_token(
    tx: &mut AnyConnection,
    tenant: TenantId,
    token: TokenId,
    now: Micros,
) -> Result<Option<TokenRow>, StoreError> {
    let sql = format!(
        "UPDATE tokens SET used = used + 1, last_used_us = $3 \
         WHERE tenant_id = $1 AND id = $2 AND used < uses AND expires_us > $3 RETURNING {TOKEN_COLUMNS}"
    );
    Ok(sqlx::query_as::<Any, TokenRow>(sqlx::AssertSqlSafe(sql))
        .bind(tenant.to_string())
        .bind(token.to_string())
        .bind(now.0)
        .fetch_optional(tx)
        .await?)
}

pub(super) async fn delete_token(tx: &mut AnyConnection, tenant: TenantId, token: TokenId) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>("DELETE FROM tokens WHERE tenant_id = $1 AND id = $2")
        .bind(tenant.to_string())
        .bind(token.to_string())
        .execute(tx)
        .await?;
    Ok(done.rows_affected() > 0)
}
