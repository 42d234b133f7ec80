//! Signed metadata files in the database.

use super::{signed, unsigned};
use crate::platform::db::StoreError;
use aidos_protocol::{TenantId, time::Micros};
use sqlx::{Any, AnyConnection, AnyPool, FromRow, Row as _, any::AnyRow};

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileRow {
    /// Its role.
    pub(crate) role: String,
    /// Its version.
    pub(crate) version: u64,
    /// Its bytes.
    pub(crate) body: Vec<u8>,
    /// When it stops being valid.
    pub(crate) expires: Micros,
    /// When it was taken or made.
    pub(crate) created: Micros,
    /// By whom.
    pub(crate) created_by: String,
}

impl FromRow<'_, AnyRow> for FileRow {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            role: row.try_get("role")?,
            version: unsigned(row, "version")?,
            body: row.try_get("body")?,
            expires: Micros(row.try_get("expires_us")?),
            created: Micros(row.try_get("created_us")?),
            created_by: row.try_get("created_by")?,
        })
    }
}

/// The newest file of each role, by name.
pub(in crate::registry) async fn newest(conn: &mut AnyConnection, tenant: TenantId) -> Result<Vec<FileRow>, StoreError> {
    Ok(sqlx::query_as::<Any, FileRow>(
        "SELECT role, version, body, expires_us, created_us, created_by FROM trust_files f WHERE tenant_id = $1 AND version = \
         (SELECT MAX(version) FROM trust_files n WHERE n.tenant_id = $1 AND n.role = f.role) ORDER BY role",
    )
    .bind(tenant.to_string())
    .fetch_all(conn)
    .await?)
}

/// The bytes of a role's file; `None` for the version means the newest.
pub(in crate::registry) async fn body(
    pool: &AnyPool,
    tenant: TenantId,
    role: &str,
    version: Option<u64>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let row = sqlx::query::<Any>(
        "SELECT body FROM trust_files WHERE tenant_id = $1 AND role = $2 AND version >= $3 AND version <= $4 \
         ORDER BY version DESC LIMIT 1",
    )
    .bind(tenant.to_string())
    .bind(role)
    .bind(signed(version.unwrap_or(1)))
    .bind(signed(version.unwrap_or(u64::MAX)))
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| row.try_get("body")).transpose()?)
}

/// Adds a file; a conflict when another one of that version came first.
pub(in crate::registry) async fn insert(tx: &mut AnyConnection, tenant: TenantId, row: &FileRow) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "INSERT INTO trust_files (tenant_id, role, version, body, expires_us, created_us, created_by) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(tenant.to_string())
    .bind(&row.role)
    .bind(signed(row.version))
    .bind(row.body.clone())
    .bind(row.expires.0)
    .bind(row.created.0)
    .bind(&row.created_by)
    .execute(tx)
    .await?;
    Ok(())
}

/// Removes a role's files below `version`.
pub(in crate::registry) async fn prune(
    tx: &mut AnyConnection,
    tenant: TenantId,
    role: &str,
    version: u64,
) -> Result<(), StoreError> {
    sqlx::query::<Any>("DELETE FROM trust_files WHERE tenant_id = $1 AND role = $2 AND version < $3")
        .bind(tenant.to_string())
        .bind(role)
        .bind(signed(version))
        .execute(tx)
        .await?;
    Ok(())
}

/// The tenants whose newest timestamp is older than `made_before`; nothing of theirs.
pub(in crate::registry) async fn tenants_due(pool: &AnyPool, made_before: Micros) -> Result<Vec<TenantId>, StoreError> {
    let rows = sqlx::query::<Any>(
        "SELECT tenant_id FROM trust_files WHERE role = 'timestamp' GROUP BY tenant_id HAVING MAX(created_us) < $1 LIMIT 1000",
    )
    .bind(made_before.0)
    .fetch_all(pool)
    .await?;
    Ok(rows.iter().map(|row| super::parsed(row, "tenant_id")).collect::<Result<_, _>>()?)
}
