//! Artifacts in chunks, in the database.

use super::{optional, parsed, signed, unsigned};
use crate::platform::db::StoreError;
use aidos_protocol::{TenantId, artifact::Digest, time::Micros};
use sqlx::{Any, AnyConnection, AnyPool, Row as _};

/// An artifact's list of chunks, and the object that holds them packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkedRow {
    pub(crate) recipe: Digest,
    pub(crate) recipe_size: u64,
    pub(crate) packed: Digest,
    pub(crate) packed_size: u64,
}

/// Where the making of chunks or of a delta stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing<T> {
    /// Nobody asked for it yet.
    Unknown,
    /// Asked for, being made, or given up.
    Absent,
    /// It is there.
    Ready(T),
}

pub(in crate::registry) async fn chunked(
    pool: &AnyPool,
    tenant: TenantId,
    digest: &Digest,
) -> Result<Standing<ChunkedRow>, StoreError> {
    let row = sqlx::query::<Any>(
        "SELECT c.state, c.recipe, c.packed, COALESCE(r.size, 0) AS recipe_size, COALESCE(p.size, 0) AS packed_size \
         FROM artifact_chunks c LEFT JOIN artifacts r ON r.tenant_id = c.tenant_id AND r.digest = c.recipe \
         LEFT JOIN artifacts p ON p.tenant_id = c.tenant_id AND p.digest = c.packed WHERE c.tenant_id = $1 AND c.digest = $2",
    )
    .bind(tenant.to_string())
    .bind(digest.to_string())
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(Standing::Unknown) };
    if row.try_get::<String, _>("state")? != "ready" {
        return Ok(Standing::Absent);
    }
    Ok(Standing::Ready(ChunkedRow {
        recipe: parsed(&row, "recipe")?,
        recipe_size: unsigned(&row, "recipe_size")?,
        packed: parsed(&row, "packed")?,
        packed_size: unsigned(&row, "packed_size")?,
    }))
}

/// Asks for the chunks of an artifact; once is enough.
pub(in crate::registry) async fn ask(
    tx: &mut AnyConnection,
    tenant: TenantId,
    digest: &Digest,
    now: Micros,
) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "INSERT INTO artifact_chunks (tenant_id, digest, state, since_us) VALUES ($1, $2, 'due', $3) \
         ON CONFLICT (tenant_id, digest) DO NOTHING",
    )
    .bind(tenant.to_string())
    .bind(digest.to_string())
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(())
}

/// The tenant whose artifact has waited longest, or whose was left in the middle before `stale`; nothing of theirs.
pub(in crate::registry) async fn waiting(pool: &AnyPool, now: Micros, stale: Micros) -> Result<Option<TenantId>, StoreError> {
    let row = sqlx::query::<Any>(
        "SELECT tenant_id FROM artifact_chunks WHERE (state = 'due' AND since_us <= $1) \
         OR (state = 'building' AND since_us <= $2) ORDER BY since_us LIMIT 1",
    )
    .bind(now.0)
    .bind(stale.0)
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| parsed(&row, "tenant_id")).transpose()?)
}

/// Takes the artifact that waited longest, unless it was begun `tries` times before; then it is given up.
pub(in crate::registry) async fn claim(
    tx: &mut AnyConnection,
    tenant: TenantId,
    now: Micros,
    stale: Micros,
    tries: u64,
) -> Result<Option<Digest>, StoreError> {
    sqlx::query::<Any>(
        "UPDATE artifact_chunks SET state = 'failed', since_us = $2, \
         reason = CASE WHEN reason = '' THEN 'the control plane ended each time while they were made' ELSE reason END \
         WHERE tenant_id = $1 AND tries >= $4 AND (state = 'due' OR (state = 'building' AND since_us <= $3))",
    )
    .bind(tenant.to_string())
    .bind(now.0)
    .bind(stale.0)
    .bind(signed(tries))
    .execute(&mut *tx)
    .await?;
    // The condition stands twice: another control plane may have taken the row between the two readings.
    let row = sqlx::query::<Any>(
        "UPDATE artifact_chunks SET state = 'building', tries = tries + 1, since_us = $2 WHERE tenant_id = $1 \
         AND ((state = 'due' AND since_us <= $2) OR (state = 'building' AND since_us <= $3)) \
         AND digest = (SELECT digest FROM artifact_chunks WHERE tenant_id = $1 AND ((state = 'due' AND since_us <= $2) \
         OR (state = 'building' AND since_us <= $3)) ORDER BY since_us, digest LIMIT 1) RETURNING digest",
    )
    .bind(tenant.to_string())
    .bind(now.0)
    .bind(stale.0)
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| parsed(&row, "digest")).transpose()?)
}

pub(in crate::registry) async fn ready(
    tx: &mut AnyConnection,
    tenant: TenantId,
    digest: &Digest,
    (recipe, packed): (&Digest, &Digest),
    now: Micros,
) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "UPDATE artifact_chunks SET state = 'ready', since_us = $3, recipe = $4, packed = $5, reason = '' \
         WHERE tenant_id = $1 AND digest = $2",
    )
    .bind(tenant.to_string())
    .bind(digest.to_string())
    .bind(now.0)
    .bind(recipe.to_string())
    .bind(packed.to_string())
    .execute(tx)
    .await?;
    Ok(())
}

/// They were not made; they are tried again after `again`.
pub(in crate::registry) async fn failed(
    tx: &mut AnyConnection,
    tenant: TenantId,
    digest: &Digest,
    again: Micros,
    reason: &str,
) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "UPDATE artifact_chunks SET state = 'due', since_us = $3, reason = $4 WHERE tenant_id = $1 AND digest = $2 \
         AND state = 'building'",
    )
    .bind(tenant.to_string())
    .bind(digest.to_string())
    .bind(again.0)
    .bind(reason)
    .execute(tx)
    .await?;
    Ok(())
}

/// Everything that was made from an artifact: its chunks, and the patches from it and to it.
pub(in crate::registry) async fn made_from(
    tx: &mut AnyConnection,
    tenant: TenantId,
    digest: &Digest,
) -> Result<Vec<Digest>, StoreError> {
    let mut made = Vec::new();
    for (sql, columns) in [
        ("SELECT recipe, packed FROM artifact_chunks WHERE tenant_id = $1 AND digest = $2", &["recipe", "packed"][..]),
        ("SELECT patch FROM artifact_deltas WHERE tenant_id = $1 AND (base = $2 OR target = $2)", &["patch"]),
    ] {
        let rows = sqlx::query::<Any>(sql).bind(tenant.to_string()).bind(digest.to_string()).fetch_all(&mut *tx).await?;
        for row in &rows {
            for column in columns {
                made.extend(optional::<Digest>(row, column)?);
            }
        }
    }
    Ok(made)
}
