//! Releases of the agent in the database.

use super::{parsed, signed, unsigned};
use crate::platform::db::StoreError;
use aidos_protocol::{TenantId, artifact::Digest, time::Micros};
use sqlx::{Any, AnyConnection, AnyPool, FromRow, Row as _, any::AnyRow};

/// A release for one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReleaseRow {
    pub(crate) version: String,
    pub(crate) arch: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) counter: u64,
    pub(crate) raises_floor: bool,
    pub(crate) created: Micros,
    pub(crate) created_by: String,
}

impl FromRow<'_, AnyRow> for ReleaseRow {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            version: row.try_get("version")?,
            arch: row.try_get("arch")?,
            digest: parsed(row, "digest")?,
            size: unsigned(row, "size")?,
            counter: unsigned(row, "counter")?,
            raises_floor: row.try_get::<i64, _>("raises_floor")? != 0,
            created: Micros(row.try_get("created_us")?),
            created_by: row.try_get("created_by")?,
        })
    }
}

/// Gives `version` the next counter, unless it has one.
pub(in crate::registry) async fn count_version(
    tx: &mut AnyConnection,
    tenant: TenantId,
    version: &str,
    raises_floor: bool,
) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "INSERT INTO agent_releases (tenant_id, version, counter, raises_floor) \
         SELECT $1, $2, COALESCE(MAX(counter), 0) + 1, $3 FROM agent_releases WHERE tenant_id = $1 \
         ON CONFLICT (tenant_id, version) DO NOTHING",
    )
    .bind(tenant.to_string())
    .bind(version)
    .bind(i64::from(raises_floor))
    .execute(tx)
    .await?;
    Ok(())
}

/// Adds a binary of a version that has a counter. Returns whether there was none for its architecture.
pub(in crate::registry) async fn insert_binary(
    tx: &mut AnyConnection,
    tenant: TenantId,
    row: &ReleaseRow,
) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>(
        "INSERT INTO agent_binaries (tenant_id, version, arch, digest, size, created_us, created_by) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant_id, version, arch) DO NOTHING",
    )
    .bind(tenant.to_string())
    .bind(&row.version)
    .bind(&row.arch)
    .bind(row.digest.to_string())
    .bind(signed(row.size))
    .bind(row.created.0)
    .bind(&row.created_by)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The binaries of a version, one per architecture.
pub(in crate::registry) async fn of_version(
    tx: &mut AnyConnection,
    tenant: TenantId,
    version: &str,
) -> Result<Vec<ReleaseRow>, StoreError> {
    let sql = "SELECT b.version, b.arch, b.digest, b.size, r.counter, r.raises_floor, b.created_us, b.created_by \
               FROM agent_binaries b JOIN agent_releases r ON r.tenant_id = b.tenant_id AND r.version = b.version \
               WHERE b.tenant_id = $1 AND b.version = $2 ORDER BY b.arch";
    Ok(sqlx::query_as::<Any, ReleaseRow>(sql).bind(tenant.to_string()).bind(version).fetch_all(tx).await?)
}

/// Releases after `(counter, arch)`, newest first.
pub(in crate::registry) async fn list(
    pool: &AnyPool,
    tenant: TenantId,
    (counter, arch): (u64, &str),
    limit: u32,
) -> Result<Vec<ReleaseRow>, StoreError> {
    let sql = "SELECT b.version, b.arch, b.digest, b.size, r.counter, r.raises_floor, b.created_us, b.created_by \
               FROM agent_binaries b JOIN agent_releases r ON r.tenant_id = b.tenant_id AND r.version = b.version \
               WHERE b.tenant_id = $1 AND (r.counter < $2 OR (r.counter = $2 AND b.arch > $3)) \
               ORDER BY r.counter DESC, b.arch LIMIT $4";
    Ok(sqlx::query_as::<Any, ReleaseRow>(sql)
        .bind(tenant.to_string())
        .bind(signed(counter))
        .bind(arch)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?)
}

/// The highest counter up to `counter` whose release raises the floor; 0 for none.
pub(in crate::registry) async fn floor(tx: &mut AnyConnection, tenant: TenantId, counter: u64) -> Result<u64, StoreError> {
    let row = sqlx::query::<Any>(
        "SELECT COALESCE(MAX(counter), 0) AS floor FROM agent_releases \
         WHERE tenant_id = $1 AND raises_floor = 1 AND counter <= $2",
    )
    .bind(tenant.to_string())
    .bind(signed(counter))
    .fetch_one(tx)
    .await?;
    Ok(unsigned(&row, "floor")?)
}
