//! Telemetry in the database: samples, the names of their metrics, losses. The only file that knows these three tables.
//!
//! One row per sample, its values in one blob of little-endian `f64`. Every statement names the tenant; the exception
//! returns nothing but the tenants that retention has to visit.

use super::store::{corrupt, parsed};
use crate::platform::db::StoreError;
use aidos_protocol::{DeviceId, TenantId, time::Micros};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::{Any, AnyConnection, AnyPool, FromRow, Row, any::AnyRow};
use std::fmt::Write as _;

/// A sample as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SampleRow {
    pub(super) seq: i64,
    pub(super) time: Micros,
    pub(super) schema: String,
    pub(super) values: Vec<f64>,
}

impl FromRow<'_, AnyRow> for SampleRow {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let blob: Vec<u8> = row.try_get("samples")?;
        let (values, rest) = blob.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(corrupt("samples")("its length is not a multiple of 8".into()));
        }
        Ok(Self {
            seq: row.try_get("seq")?,
            time: Micros(row.try_get("time_us")?),
            schema: row.try_get("schema_id")?,
            values: values.iter().map(|value| f64::from_le_bytes(*value)).collect(),
        })
    }
}

/// What was lost of a device's telemetry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Loss {
    /// What the device dropped.
    pub(super) samples: i64,
    /// Its bytes.
    pub(super) bytes: i64,
    /// What came and was not kept.
    pub(super) refused: i64,
}

/// Rows of one statement: 3 binds each and 3 for all, far below the 32,766 of SQLite and the 65,535 of Postgres.
const ROWS_PER_INSERT: usize = 512;

// Samples.

pub(super) async fn highest(db: &mut AnyConnection, tenant: TenantId, device: DeviceId) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query::<Any>("SELECT seq FROM telemetry WHERE tenant_id = $1 AND device_id = $2 ORDER BY seq DESC LIMIT 1")
        .bind(tenant.to_string())
        .bind(device.to_string())
        .fetch_optional(db)
        .await?;
    Ok(row.map(|row| row.try_get("seq")).transpose()?)
}

/// Inserts `samples`, all of them with the names of `schema`. A sequence number that is there stays as it is.
pub(super) async fn insert_samples(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    schema: &str,
    samples: &[aidos_protocol::frame::Sample],
) -> Result<(), StoreError> {
    for chunk in samples.chunks(ROWS_PER_INSERT) {
        let mut sql = String::from("INSERT INTO telemetry (tenant_id, device_id, schema_id, seq, time_us, samples) VALUES ");
        for index in 0..chunk.len() {
            let bind = 4 + 3 * index;
            let comma = if index == 0 { "" } else { ", " };
            write!(sql, "{comma}($1, $2, $3, ${bind}, ${}, ${})", bind + 1, bind + 2).expect("writing to a string");
        }
        sql.push_str(" ON CONFLICT (tenant_id, device_id, seq) DO NOTHING");
        let mut query = sqlx::query::<Any>(sqlx::AssertSqlSafe(sql))
            // One text per number of rows: not worth a place among the prepared statements.
            .persistent(false)
            .bind(tenant.to_string())
            .bind(device.to_string())
            .bind(schema.to_owned());
        for sample in chunk {
            let seq = i64::try_from(sample.seq).map_err(|_| StoreError::Corrupt("a sequence number beyond 2^63".into()))?;
            let blob: Vec<u8> = sample.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            query = query.bind(seq).bind(sample.time_us).bind(blob);
        }
        query.execute(&mut *tx).await?;
    }
    Ok(())
}

/// The samples of `from..to` in the order of time, as they come from the database: never all of them in memory.
pub(super) fn samples(
    pool: &AnyPool,
    tenant: TenantId,
    device: DeviceId,
    from: Micros,
    to: Micros,
) -> BoxStream<'_, Result<SampleRow, StoreError>> {
    sqlx::query_as::<Any, SampleRow>(
        "SELECT seq, time_us, schema_id, samples FROM telemetry \
         WHERE tenant_id = $1 AND device_id = $2 AND time_us >= $3 AND time_us < $4 ORDER BY time_us",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .bind(from.0)
    .bind(to.0)
    .fetch(pool)
    .map_err(StoreError::from)
    .boxed()
}

pub(super) async fn newest(pool: &AnyPool, tenant: TenantId, device: DeviceId) -> Result<Option<SampleRow>, StoreError> {
    Ok(sqlx::query_as::<Any, SampleRow>(
        "SELECT seq, time_us, schema_id, samples FROM telemetry \
         WHERE tenant_id = $1 AND device_id = $2 ORDER BY seq DESC LIMIT 1",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .fetch_optional(pool)
    .await?)
}

pub(super) async fn oldest_time(pool: &AnyPool, tenant: TenantId, device: DeviceId) -> Result<Option<Micros>, StoreError> {
    let row =
        sqlx::query::<Any>("SELECT time_us FROM telemetry WHERE tenant_id = $1 AND device_id = $2 ORDER BY time_us LIMIT 1")
            .bind(tenant.to_string())
            .bind(device.to_string())
            .fetch_optional(pool)
            .await?;
    Ok(row.map(|row| row.try_get("time_us").map(Micros)).transpose()?)
}

// Names.

/// The names of `schema`; `None` when there is no such list.
pub(super) async fn names(
    pool: &AnyPool,
    tenant: TenantId,
    device: DeviceId,
    schema: &str,
) -> Result<Option<Vec<String>>, StoreError> {
    let row = sqlx::query::<Any>("SELECT names FROM telemetry_schemas WHERE tenant_id = $1 AND device_id = $2 AND id = $3")
        .bind(tenant.to_string())
        .bind(device.to_string())
        .bind(schema.to_owned())
        .fetch_optional(pool)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let text: String = row.try_get("names")?;
    Ok(Some(serde_json::from_str(&text).map_err(|e| corrupt("names")(Box::new(e)))?))
}

/// Every list of names of the device with its id, as they come.
pub(super) fn schemas(
    pool: &AnyPool,
    tenant: TenantId,
    device: DeviceId,
) -> BoxStream<'_, Result<(String, Vec<String>), StoreError>> {
    sqlx::query::<Any>("SELECT id, names FROM telemetry_schemas WHERE tenant_id = $1 AND device_id = $2")
        .bind(tenant.to_string())
        .bind(device.to_string())
        .fetch(pool)
        .map(|row| {
            let row = row?;
            let names: String = row.try_get("names")?;
            Ok((row.try_get("id")?, serde_json::from_str(&names).map_err(|e| corrupt("names")(Box::new(e)))?))
        })
        .boxed()
}

pub(super) async fn has_schema(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    schema: &str,
) -> Result<bool, StoreError> {
    let row = sqlx::query::<Any>("SELECT id FROM telemetry_schemas WHERE tenant_id = $1 AND device_id = $2 AND id = $3")
        .bind(tenant.to_string())
        .bind(device.to_string())
        .bind(schema.to_owned())
        .fetch_optional(tx)
        .await?;
    Ok(row.is_some())
}

pub(super) async fn count_schemas(tx: &mut AnyConnection, tenant: TenantId, device: DeviceId) -> Result<i64, StoreError> {
    let row = sqlx::query::<Any>("SELECT COUNT(*) AS n FROM telemetry_schemas WHERE tenant_id = $1 AND device_id = $2")
        .bind(tenant.to_string())
        .bind(device.to_string())
        .fetch_one(tx)
        .await?;
    Ok(row.try_get("n")?)
}

/// Removes the lists of names that no sample of the device has any more.
pub(super) async fn prune_schemas(tx: &mut AnyConnection, tenant: TenantId, device: DeviceId) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "DELETE FROM telemetry_schemas WHERE tenant_id = $1 AND device_id = $2 AND id NOT IN \
         (SELECT DISTINCT t.schema_id FROM telemetry t WHERE t.tenant_id = $1 AND t.device_id = $2)",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn insert_schema(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    schema: &str,
    names: &str,
) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "INSERT INTO telemetry_schemas (tenant_id, device_id, id, names) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (tenant_id, device_id, id) DO NOTHING",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .bind(schema.to_owned())
    .bind(names.to_owned())
    .execute(tx)
    .await?;
    Ok(())
}

// Losses.

/// Records what the device says that it dropped over its life, which never shrinks, and adds what was refused here.
pub(super) async fn put_loss(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    loss: Loss,
    now: Micros,
) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "INSERT INTO telemetry_loss (tenant_id, device_id, lost_samples, lost_bytes, refused_samples, updated_us) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, device_id) DO UPDATE SET \
         lost_samples = CASE WHEN excluded.lost_samples > telemetry_loss.lost_samples \
           THEN excluded.lost_samples ELSE telemetry_loss.lost_samples END, \
         lost_bytes = CASE WHEN excluded.lost_bytes > telemetry_loss.lost_bytes \
           THEN excluded.lost_bytes ELSE telemetry_loss.lost_bytes END, \
         refused_samples = telemetry_loss.refused_samples + excluded.refused_samples, updated_us = excluded.updated_us",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .bind(loss.samples)
    .bind(loss.bytes)
    .bind(loss.refused)
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn loss(pool: &AnyPool, tenant: TenantId, device: DeviceId) -> Result<Loss, StoreError> {
    let row = sqlx::query::<Any>(
        "SELECT lost_samples, lost_bytes, refused_samples FROM telemetry_loss WHERE tenant_id = $1 AND device_id = $2",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(Loss::default()) };
    Ok(Loss {
        samples: row.try_get("lost_samples")?,
        bytes: row.try_get("lost_bytes")?,
        refused: row.try_get("refused_samples")?,
    })
}

// Retention.

/// The tenants that have telemetry.
pub(super) async fn tenants(pool: &AnyPool) -> Result<Vec<TenantId>, StoreError> {
    let rows = sqlx::query::<Any>("SELECT DISTINCT tenant_id FROM telemetry_loss").fetch_all(pool).await?;
    Ok(rows.iter().map(|row| parsed(row, "tenant_id")).collect::<Result<_, _>>()?)
}

/// The devices of `tenant` that have telemetry, those after `after`, at most `limit`.
pub(super) async fn devices(
    pool: &AnyPool,
    tenant: TenantId,
    after: Option<DeviceId>,
    limit: i64,
) -> Result<Vec<DeviceId>, StoreError> {
    let rows = sqlx::query::<Any>(
        "SELECT device_id FROM telemetry_loss WHERE tenant_id = $1 AND device_id > $2 ORDER BY device_id LIMIT $3",
    )
    .bind(tenant.to_string())
    .bind(after.map(|id| id.to_string()).unwrap_or_default())
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(rows.iter().map(|row| parsed(row, "device_id")).collect::<Result<_, _>>()?)
}

/// The sequence number from which on a device has `keep` samples; `None` when it has no more than those.
pub(super) async fn first_kept(pool: &AnyPool, tenant: TenantId, device: DeviceId, keep: i64) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query::<Any>(
        "SELECT seq FROM telemetry WHERE tenant_id = $1 AND device_id = $2 ORDER BY seq DESC LIMIT 2 OFFSET $3",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .bind(keep.max(1) - 1)
    .fetch_all(pool)
    .await?;
    // The first row is the last one to keep; that there is a second says that there is something to remove.
    match row.as_slice() {
        [kept, _] => Ok(Some(kept.try_get("seq")?)),
        _ => Ok(None),
    }
}

/// Removes at most `limit` samples taken before `time` or numbered below `seq`; the newest of a device always stays, since it
/// says how far the device's telemetry has come. Returns how many were removed.
pub(super) async fn remove(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    time: Micros,
    seq: i64,
    limit: i64,
) -> Result<u64, StoreError> {
    let done = sqlx::query::<Any>(
        "DELETE FROM telemetry WHERE tenant_id = $1 AND device_id = $2 AND seq IN \
         (SELECT t.seq FROM telemetry t WHERE t.tenant_id = $1 AND t.device_id = $2 AND (t.time_us < $3 OR t.seq < $4) \
          AND t.seq < (SELECT MAX(m.seq) FROM telemetry m WHERE m.tenant_id = $1 AND m.device_id = $2) \
          ORDER BY t.seq LIMIT $5)",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .bind(time.0)
    .bind(seq)
    .bind(limit)
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
