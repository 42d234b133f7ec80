//! Model versions in the database. A row is never changed once it is written.

use super::{json, parsed, signed, undecodable, unsigned};
use crate::platform::db::StoreError;
use aidos_protocol::{ModelName, TenantId, api::models::ModelFacts, artifact::Digest, manifest::Manifest, time::Micros};
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, FromRow, Row as _, any::AnyRow};

/// One version of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelVersion {
    pub(crate) name: ModelName,
    pub(crate) version: u64,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) facts: ModelFacts,
    pub(crate) manifest: Option<Manifest>,
    /// The manifest's JSON as an artifact, where it is too long to stand in a device's intent.
    pub(crate) manifest_digest: Option<Digest>,
    /// The golden cases as an artifact.
    pub(crate) golden_digest: Option<Digest>,
    /// Markdown; empty in lists.
    pub(crate) card: String,
    pub(crate) source: Option<String>,
    pub(crate) created: Micros,
    pub(crate) created_by: String,
}

impl FromRow<'_, AnyRow> for ModelVersion {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let manifest: Option<String> = row.try_get("manifest")?;
        let manifest = manifest.map(|text| serde_json::from_str(&text)).transpose();
        let manifest_digest: Option<String> = row.try_get("manifest_digest")?;
        let manifest_digest = manifest_digest.map(|text| text.parse()).transpose();
        let golden_digest: Option<String> = row.try_get("golden_digest")?;
        let golden_digest = golden_digest.map(|text| text.parse()).transpose();
        Ok(Self {
            name: parsed(row, "model")?,
            version: unsigned(row, "version")?,
            digest: parsed(row, "digest")?,
            size: unsigned(row, "size")?,
            facts: json(row, "facts")?,
            manifest: manifest.map_err(|error| undecodable("manifest", error))?,
            manifest_digest: manifest_digest.map_err(|error| undecodable("manifest_digest", error))?,
            golden_digest: golden_digest.map_err(|error| undecodable("golden_digest", error))?,
            card: row.try_get("card")?,
            source: row.try_get("source")?,
            created: Micros(row.try_get("created_us")?),
            created_by: row.try_get("created_by")?,
        })
    }
}

const COLUMNS: &str =
    "model, version, digest, size, facts, manifest, manifest_digest, golden_digest, card, source, created_us, created_by";
const IN_LISTS: &str =
    "model, version, digest, size, facts, manifest, manifest_digest, golden_digest, '' AS card, source, created_us, created_by";

pub(in crate::registry) async fn insert(tx: &mut AnyConnection, tenant: TenantId, row: &ModelVersion) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "INSERT INTO model_versions (tenant_id, model, version, digest, size, facts, manifest, manifest_digest, golden_digest, card, \
         source, created_us, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(tenant.to_string())
    .bind(row.name.as_str())
    .bind(signed(row.version))
    .bind(row.digest.to_string())
    .bind(signed(row.size))
    .bind(text(&row.facts))
    .bind(row.manifest.as_ref().map(text))
    .bind(row.manifest_digest.map(|digest| digest.to_string()))
    .bind(row.golden_digest.map(|digest| digest.to_string()))
    .bind(&row.card)
    .bind(&row.source)
    .bind(row.created.0)
    .bind(&row.created_by)
    .execute(tx)
    .await?;
    Ok(())
}

pub(in crate::registry) async fn version(
    pool: &AnyPool,
    tenant: TenantId,
    name: &ModelName,
    version: u64,
) -> Result<Option<ModelVersion>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM model_versions WHERE tenant_id = $1 AND model = $2 AND version = $3");
    Ok(sqlx::query_as::<Any, ModelVersion>(AssertSqlSafe(sql))
        .bind(tenant.to_string())
        .bind(name.as_str())
        .bind(signed(version))
        .fetch_optional(pool)
        .await?)
}

/// The versions of the model with this file, newest first.
pub(in crate::registry) async fn with_digest(
    tx: &mut AnyConnection,
    tenant: TenantId,
    name: &ModelName,
    digest: &Digest,
) -> Result<Vec<ModelVersion>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM model_versions WHERE tenant_id = $1 AND model = $2 AND digest = $3 ORDER BY version DESC LIMIT 100"
    );
    Ok(sqlx::query_as::<Any, ModelVersion>(AssertSqlSafe(sql))
        .bind(tenant.to_string())
        .bind(name.as_str())
        .bind(digest.to_string())
        .fetch_all(tx)
        .await?)
}

/// Versions below `before`, newest first.
pub(in crate::registry) async fn list(
    pool: &AnyPool,
    tenant: TenantId,
    name: &ModelName,
    before: u64,
    limit: u32,
) -> Result<Vec<ModelVersion>, StoreError> {
    let sql = format!(
        "SELECT {IN_LISTS} FROM model_versions WHERE tenant_id = $1 AND model = $2 AND version < $3 ORDER BY version DESC LIMIT $4"
    );
    Ok(sqlx::query_as::<Any, ModelVersion>(AssertSqlSafe(sql))
        .bind(tenant.to_string())
        .bind(name.as_str())
        .bind(signed(before))
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?)
}

/// The artifacts that the model's versions are made of.
pub(in crate::registry) async fn digests(
    tx: &mut AnyConnection,
    tenant: TenantId,
    name: &ModelName,
) -> Result<Vec<Digest>, StoreError> {
    let rows = sqlx::query::<Any>(
        "SELECT digest FROM model_versions WHERE tenant_id = $1 AND model = $2 UNION SELECT manifest_digest AS digest \
         FROM model_versions WHERE tenant_id = $1 AND model = $2 AND manifest_digest IS NOT NULL UNION \
         SELECT golden_digest AS digest FROM model_versions WHERE tenant_id = $1 AND model = $2 AND golden_digest IS NOT NULL",
    )
    .bind(tenant.to_string())
    .bind(name.as_str())
    .fetch_all(tx)
    .await?;
    Ok(rows.iter().map(|row| parsed(row, "digest")).collect::<Result<_, _>>()?)
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("facts and manifests have only text keys")
}
