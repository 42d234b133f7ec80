//! Settings for agents in the database.

use crate::platform::db::StoreError;
use aidos_protocol::settings::Settings;
use aidos_protocol::{TenantId, time::Micros};
use sqlx::{Any, AnyConnection, AnyPool, FromRow, Row as _, any::AnyRow};

/// One version of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SettingsRow {
    pub(crate) version: u64,
    pub(crate) settings: Settings,
    pub(crate) created: Micros,
    pub(crate) created_by: String,
}

impl FromRow<'_, AnyRow> for SettingsRow {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let wrong = |column: &str, source: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::ColumnDecode {
            index: column.to_owned(),
            source,
        };
        let text: String = row.try_get("settings")?;
        Ok(Self {
            version: u64::try_from(row.try_get::<i64, _>("version")?).map_err(|error| wrong("version", error.into()))?,
            settings: serde_json::from_str(&text).map_err(|error| wrong("settings", error.into()))?,
            created: Micros(row.try_get("created_us")?),
            created_by: row.try_get("created_by")?,
        })
    }
}

pub(in super::super) async fn insert(tx: &mut AnyConnection, tenant: TenantId, row: &SettingsRow) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "INSERT INTO agent_settings (tenant_id, version, settings, created_us, created_by) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(tenant.to_string())
    .bind(signed(row.version))
    .bind(serde_json::to_string(&row.settings).expect("settings have only text keys"))
    .bind(row.created.0)
    .bind(&row.created_by)
    .execute(tx)
    .await?;
    Ok(())
}

pub(in super::super) async fn newest(tx: &mut AnyConnection, tenant: TenantId) -> Result<Option<SettingsRow>, StoreError> {
    let sql = "SELECT version, settings, created_us, created_by FROM agent_settings WHERE tenant_id = $1 \
               ORDER BY version DESC LIMIT 1";
    Ok(sqlx::query_as::<Any, SettingsRow>(sql).bind(tenant.to_string()).fetch_optional(tx).await?)
}

pub(in super::super) async fn version(pool: &AnyPool, tenant: TenantId, version: u64) -> Result<Option<SettingsRow>, StoreError> {
    let sql = "SELECT version, settings, created_us, created_by FROM agent_settings WHERE tenant_id = $1 AND version = $2";
    Ok(sqlx::query_as::<Any, SettingsRow>(sql).bind(tenant.to_string()).bind(signed(version)).fetch_optional(pool).await?)
}

pub(in super::super) async fn list(
    pool: &AnyPool,
    tenant: TenantId,
    before: u64,
    limit: u32,
) -> Result<Vec<SettingsRow>, StoreError> {
    let sql = "SELECT version, settings, created_us, created_by FROM agent_settings WHERE tenant_id = $1 AND version < $2 \
               ORDER BY version DESC LIMIT $3";
    Ok(sqlx::query_as::<Any, SettingsRow>(sql)
        .bind(tenant.to_string())
        .bind(signed(before))
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
