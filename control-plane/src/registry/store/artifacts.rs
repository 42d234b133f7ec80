//! Artifacts and their unfinished uploads in the database.

use super::{parsed, signed, unsigned};
use crate::platform::db::StoreError;
use aidos_protocol::{ArtifactUploadId, TenantId, artifact::Digest, time::Micros};
use sqlx::{Any, AnyConnection, AnyPool, FromRow, Row as _, any::AnyRow};

/// A stored artifact: its bytes are in the object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArtifactRow {
    /// Its name.
    pub(crate) digest: Digest,
    /// Bytes.
    pub(crate) size: u64,
    /// When it was completed.
    pub(crate) created: Micros,
    /// Who sent it.
    pub(crate) created_by: String,
}

impl FromRow<'_, AnyRow> for ArtifactRow {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            digest: parsed(row, "digest")?,
            size: unsigned(row, "size")?,
            created: Micros(row.try_get("created_us")?),
            created_by: row.try_get("created_by")?,
        })
    }
}

/// An unfinished upload: `stored` bytes of it are synced to the staging file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UploadRow {
    /// Its id.
    pub(crate) id: ArtifactUploadId,
    /// What it claims to be.
    pub(crate) digest: Digest,
    /// Bytes of the whole.
    pub(crate) size: u64,
    /// Bytes stored.
    pub(crate) stored: u64,
    /// Who sends it.
    pub(crate) created_by: String,
    /// When it is discarded.
    pub(crate) expires: Micros,
}

impl FromRow<'_, AnyRow> for UploadRow {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: parsed(row, "id")?,
            digest: parsed(row, "digest")?,
            size: unsigned(row, "size")?,
            stored: unsigned(row, "stored")?,
            created_by: row.try_get("created_by")?,
            expires: Micros(row.try_get("expires_us")?),
        })
    }
}

/// Returns whether it was not there before.
pub(in crate::registry) async fn insert_artifact(
    tx: &mut AnyConnection,
    tenant: TenantId,
    row: &ArtifactRow,
) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>(
        "INSERT INTO artifacts (tenant_id, digest, size, created_us, created_by) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (tenant_id, digest) DO NOTHING",
    )
    .bind(tenant.to_string())
    .bind(row.digest.to_string())
    .bind(signed(row.size))
    .bind(row.created.0)
    .bind(&row.created_by)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

pub(in crate::registry) async fn artifact(
    pool: &AnyPool,
    tenant: TenantId,
    digest: &Digest,
) -> Result<Option<ArtifactRow>, StoreError> {
    Ok(sqlx::query_as::<Any, ArtifactRow>(
        "SELECT digest, size, created_us, created_by FROM artifacts WHERE tenant_id = $1 AND digest = $2",
    )
    .bind(tenant.to_string())
    .bind(digest.to_string())
    .fetch_optional(pool)
    .await?)
}

/// [`artifact`] within a transaction.
pub(in crate::registry) async fn artifact_in(
    tx: &mut AnyConnection,
    tenant: TenantId,
    digest: &Digest,
) -> Result<Option<ArtifactRow>, StoreError> {
    Ok(sqlx::query_as::<Any, ArtifactRow>(
        "SELECT digest, size, created_us, created_by FROM artifacts WHERE tenant_id = $1 AND digest = $2",
    )
    .bind(tenant.to_string())
    .bind(digest.to_string())
    .fetch_optional(tx)
    .await?)
}

/// No version and no release needs it, and it is no other artifact's chunks or patch.
macro_rules! unreferenced {
    () => {
        "DELETE FROM artifacts WHERE tenant_id = $1 AND digest = $2 AND NOT EXISTS (SELECT 1 FROM model_versions v \
         WHERE v.tenant_id = $1 AND (v.digest = $2 OR v.manifest_digest = $2)) AND NOT EXISTS (SELECT 1 FROM agent_binaries b \
         WHERE b.tenant_id = $1 AND b.digest = $2) AND NOT EXISTS (SELECT 1 FROM artifact_chunks c WHERE c.tenant_id = $1 \
         AND c.digest <> $2 AND (c.recipe = $2 OR c.packed = $2)) AND NOT EXISTS (SELECT 1 FROM artifact_deltas d \
         WHERE d.tenant_id = $1 AND d.patch = $2 AND d.base <> $2 AND d.target <> $2)"
    };
}

/// [`delete_unreferenced`] of what `maker` stored: what a person has uploaded as well stays.
pub(in crate::registry) async fn delete_made(
    tx: &mut AnyConnection,
    tenant: TenantId,
    digest: &Digest,
    maker: &str,
) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>(concat!(unreferenced!(), " AND created_by = $3"))
        .bind(tenant.to_string())
        .bind(digest.to_string())
        .bind(maker)
        .execute(tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes the artifact's row when nothing needs it. Returns whether it did.
pub(in crate::registry) async fn delete_unreferenced(
    tx: &mut AnyConnection,
    tenant: TenantId,
    digest: &Digest,
) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>(unreferenced!()).bind(tenant.to_string()).bind(digest.to_string()).execute(tx).await?;
    Ok(done.rows_affected() > 0)
}

const UPLOAD: &str = "SELECT id, digest, size, stored, created_by, expires_us FROM artifact_uploads WHERE tenant_id = $1";

pub(in crate::registry) async fn insert_upload(
    tx: &mut AnyConnection,
    tenant: TenantId,
    row: &UploadRow,
    now: Micros,
) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "INSERT INTO artifact_uploads (tenant_id, id, digest, size, created_us, created_by, expires_us) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(tenant.to_string())
    .bind(row.id.to_string())
    .bind(row.digest.to_string())
    .bind(signed(row.size))
    .bind(now.0)
    .bind(&row.created_by)
    .bind(row.expires.0)
    .execute(tx)
    .await?;
    Ok(())
}

pub(in crate::registry) async fn upload(
    pool: &AnyPool,
    tenant: TenantId,
    id: ArtifactUploadId,
) -> Result<Option<UploadRow>, StoreError> {
    Ok(sqlx::query_as::<Any, UploadRow>(sqlx::AssertSqlSafe(format!("{UPLOAD} AND id = $2")))
        .bind(tenant.to_string())
        .bind(id.to_string())
        .fetch_optional(pool)
        .await?)
}

pub(in crate::registry) async fn upload_of(
    tx: &mut AnyConnection,
    tenant: TenantId,
    digest: &Digest,
) -> Result<Option<UploadRow>, StoreError> {
    Ok(sqlx::query_as::<Any, UploadRow>(sqlx::AssertSqlSafe(format!("{UPLOAD} AND digest = $2")))
        .bind(tenant.to_string())
        .bind(digest.to_string())
        .fetch_optional(tx)
        .await?)
}

pub(in crate::registry) async fn expired_uploads(
    pool: &AnyPool,
    tenant: TenantId,
    now: Micros,
) -> Result<Vec<UploadRow>, StoreError> {
    Ok(sqlx::query_as::<Any, UploadRow>(sqlx::AssertSqlSafe(format!("{UPLOAD} AND expires_us <= $2 LIMIT 1000")))
        .bind(tenant.to_string())
        .bind(now.0)
        .fetch_all(pool)
        .await?)
}

/// How many uploads are open, and the bytes they will have.
pub(in crate::registry) async fn open_uploads(tx: &mut AnyConnection, tenant: TenantId) -> Result<(u64, u64), StoreError> {
    let row = sqlx::query::<Any>(
        "SELECT COUNT(*) AS uploads, CAST(COALESCE(SUM(size), 0) AS BIGINT) AS bytes FROM artifact_uploads WHERE tenant_id = $1",
    )
    .bind(tenant.to_string())
    .fetch_one(tx)
    .await?;
    Ok((unsigned(&row, "uploads")?, unsigned(&row, "bytes")?))
}

/// Moves the offset from `from` to `to`; `false` when it was not at `from`.
pub(in crate::registry) async fn advance(
    tx: &mut AnyConnection,
    tenant: TenantId,
    id: ArtifactUploadId,
    from: u64,
    to: u64,
) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>("UPDATE artifact_uploads SET stored = $4 WHERE tenant_id = $1 AND id = $2 AND stored = $3")
        .bind(tenant.to_string())
        .bind(id.to_string())
        .bind(signed(from))
        .bind(signed(to))
        .execute(tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

pub(in crate::registry) async fn delete_upload(
    tx: &mut AnyConnection,
    tenant: TenantId,
    id: ArtifactUploadId,
) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>("DELETE FROM artifact_uploads WHERE tenant_id = $1 AND id = $2")
        .bind(tenant.to_string())
        .bind(id.to_string())
        .execute(tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// The tenants with open uploads; nothing of theirs.
pub(in crate::registry) async fn tenants_uploading(pool: &AnyPool) -> Result<Vec<TenantId>, StoreError> {
    let rows = sqlx::query::<Any>("SELECT DISTINCT tenant_id FROM artifact_uploads").fetch_all(pool).await?;
    Ok(rows.iter().map(|row| parsed(row, "tenant_id")).collect::<Result<_, _>>()?)
}

/// The deployment's secret called `name`; the first caller's `proposal` becomes it for ever. It belongs to no tenant.
pub(in crate::registry) async fn secret(tx: &mut AnyConnection, name: &str, proposal: &[u8]) -> Result<Vec<u8>, StoreError> {
    sqlx::query::<Any>("INSERT INTO registry_keys (name, secret) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(name)
        .bind(proposal.to_vec())
        .execute(&mut *tx)
        .await?;
    let row = sqlx::query::<Any>("SELECT secret FROM registry_keys WHERE name = $1").bind(name).fetch_one(tx).await?;
    Ok(row.try_get("secret")?)
}
