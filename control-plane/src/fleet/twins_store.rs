//! Twins in the database. The only file that knows these tables, and the one that keeps `device_labels` as the intents say.
//!
//! A document is written with the revision and the epoch that it was read with in the condition: who lost a race writes nothing.

use super::search_store;
use super::store::parsed;
use crate::platform::db::{Among, StoreError};
use aidos_protocol::frame::{StatusDelta, StatusEntry};
use aidos_protocol::{DeviceId, TenantId, time::Micros};
use sqlx::any::AnyRow;
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, Executor, Row};
use std::collections::BTreeMap;

/// While a device is away or a new epoch is on its way to it: the present epoch and the one before are kept beside the one that it
/// holds. A session that broke as an epoch ended goes on from there.
const KEPT_EPOCHS: i64 = 2;

/// A device's intent as it is stored.
#[derive(Debug, Clone)]
pub(super) struct TwinRow {
    pub(super) revision: u64,
    pub(super) epoch: u32,
    pub(super) document: Vec<u8>,
    pub(super) birth_bytes: usize,
    /// The earliest epoch that the device may have edits to send of.
    pub(super) needed_epoch: u32,
    /// Authors of whom a change was refused in this epoch, and why.
    pub(super) quarantine: BTreeMap<String, String>,
}

fn number<T: TryFrom<i64>>(row: &AnyRow, column: &str) -> Result<T, StoreError> {
    let value: i64 = row.try_get(column)?;
    T::try_from(value).map_err(|_| StoreError::Corrupt(format!("column {column}: {value} is out of range")))
}

fn integer<T: TryInto<i64>>(value: T) -> Result<i64, StoreError> {
    value.try_into().map_err(|_| StoreError::Corrupt("a counter has outgrown the database".into()))
}

fn json(map: &BTreeMap<String, String>) -> String {
    serde_json::to_string(map).expect("a map of texts is JSON")
}

/// The intent of `device`; [`StoreError::NotFound`] when there is no such device in the tenant.
pub(super) async fn twin<'e>(
    executor: impl Executor<'e, Database = Any>,
    tenant: TenantId,
    device: DeviceId,
) -> Result<TwinRow, StoreError> {
    let sql = format!("{TWIN} AND device_id = $2");
    let query = sqlx::query(AssertSqlSafe(sql)).bind(tenant.to_string()).bind(device.to_string());
    twin_row(&query.fetch_one(executor).await?)
}

const TWIN: &str =
    "SELECT device_id, revision, epoch, document, birth_bytes, needed_epoch, quarantine FROM twins WHERE tenant_id = $1";

fn twin_row(row: &AnyRow) -> Result<TwinRow, StoreError> {
    let quarantine: String = row.try_get("quarantine")?;
    Ok(TwinRow {
        revision: number(row, "revision")?,
        epoch: number(row, "epoch")?,
        document: row.try_get("document")?,
        birth_bytes: number(row, "birth_bytes")?,
        needed_epoch: number(row, "needed_epoch")?,
        quarantine: serde_json::from_str(&quarantine).map_err(|e| StoreError::Corrupt(format!("column quarantine: {e}")))?,
    })
}

/// The intents of those of `devices` that are in the tenant.
pub(super) async fn twins(
    pool: &AnyPool,
    tenant: TenantId,
    devices: &[DeviceId],
) -> Result<Vec<(DeviceId, TwinRow)>, StoreError> {
    let mut twins = Vec::with_capacity(devices.len());
    for some in Among::of(devices) {
        let sql = format!("{TWIN} AND device_id IN ({})", some.places(2));
        let query = sqlx::query::<Any>(AssertSqlSafe(sql)).bind(tenant.to_string());
        for row in &some.into_iter().fold(query, |query, id| query.bind(id)).fetch_all(pool).await? {
            twins.push((parsed(row, "device_id")?, twin_row(row)?));
        }
    }
    Ok(twins)
}

/// A new device's intent.
pub(super) async fn insert(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    row: &TwinRow,
    now: Micros,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO twins (tenant_id, device_id, revision, epoch, document, birth_bytes, needed_epoch, quarantine, updated_us) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    sqlx::query(sql)
        .bind(tenant.to_string())
        .bind(device.to_string())
        .bind(integer(row.revision)?)
        .bind(i64::from(row.epoch))
        .bind(row.document.clone())
        .bind(integer(row.birth_bytes)?)
        .bind(i64::from(row.needed_epoch))
        .bind(json(&row.quarantine))
        .bind(now.0)
        .execute(tx)
        .await?;
    Ok(())
}

/// Puts `next` in the place of what stands at `before` (revision, epoch). Says whether it still stood there.
pub(super) async fn update(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    before: (u64, u32),
    next: &TwinRow,
    now: Micros,
) -> Result<bool, StoreError> {
    let sql = "UPDATE twins SET revision = $1, epoch = $2, document = $3, birth_bytes = $4, needed_epoch = $5, quarantine = $6, \
               updated_us = $7 WHERE tenant_id = $8 AND device_id = $9 AND revision = $10 AND epoch = $11";
    let done = sqlx::query(sql)
        .bind(integer(next.revision)?)
        .bind(i64::from(next.epoch))
        .bind(next.document.clone())
        .bind(integer(next.birth_bytes)?)
        .bind(i64::from(next.needed_epoch))
        .bind(json(&next.quarantine))
        .bind(now.0)
        .bind(tenant.to_string())
        .bind(device.to_string())
        .bind(integer(before.0)?)
        .bind(i64::from(before.1))
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// The device holds `epoch`, the present one unless this comes late, and speaks of none before `needed`: those are forgotten.
pub(super) async fn set_needed(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    epoch: u32,
    needed: u32,
) -> Result<(), StoreError> {
    let set = sqlx::query("UPDATE twins SET needed_epoch = $1 WHERE tenant_id = $2 AND device_id = $3 AND epoch = $4")
        .bind(i64::from(needed))
        .bind(tenant.to_string())
        .bind(device.to_string())
        .bind(i64::from(epoch))
        .execute(&mut *tx)
        .await?;
    if set.rows_affected() == 1 {
        sqlx::query("DELETE FROM twin_epochs WHERE tenant_id = $1 AND device_id = $2 AND epoch < $3")
            .bind(tenant.to_string())
            .bind(device.to_string())
            .bind(i64::from(needed))
            .execute(tx)
            .await?;
    }
    Ok(())
}

/// The document of an earlier epoch, while it is kept.
pub(super) async fn epoch(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    epoch: u32,
) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT document FROM twin_epochs WHERE tenant_id = $1 AND device_id = $2 AND epoch = $3";
    let query = sqlx::query(sql).bind(tenant.to_string()).bind(device.to_string()).bind(i64::from(epoch));
    Ok(query.fetch_optional(tx).await?.map(|row| row.try_get("document")).transpose()?)
}

/// Keeps the document of an earlier epoch, or what became of it, and drops those that are out of reach: all but the newest
/// and `needed`, the earliest that the device may have edits of.
pub(super) async fn put_epoch(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    epoch: u32,
    document: Vec<u8>,
    needed: u32,
    now: Micros,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO twin_epochs (tenant_id, device_id, epoch, document, ended_us) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (tenant_id, device_id, epoch) DO UPDATE SET document = excluded.document";
    sqlx::query(sql)
        .bind(tenant.to_string())
        .bind(device.to_string())
        .bind(i64::from(epoch))
        .bind(document)
        .bind(now.0)
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "DELETE FROM twin_epochs WHERE tenant_id = $1 AND device_id = $2 AND epoch <> $3 AND epoch <= \
         (SELECT epoch FROM twins WHERE tenant_id = $1 AND device_id = $2) - $4",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .bind(i64::from(needed))
    .bind(KEPT_EPOCHS)
    .execute(tx)
    .await?;
    Ok(())
}

/// Makes the device's mirrored labels what its intent says.
pub(super) async fn put_labels(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    labels: &BTreeMap<String, String>,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM device_labels WHERE tenant_id = $1 AND device_id = $2")
        .bind(tenant.to_string())
        .bind(device.to_string())
        .execute(&mut *tx)
        .await?;
    for (key, value) in labels {
        sqlx::query("INSERT INTO device_labels (tenant_id, device_id, key, value) VALUES ($1, $2, $3, $4)")
            .bind(tenant.to_string())
            .bind(device.to_string())
            .bind(key.clone())
            .bind(value.clone())
            .execute(&mut *tx)
            .await?;
    }
    search_store::label(tx, tenant, device, labels).await
}

/// `(boot_id, seq)` up to which the device's status is held, and since when; `(0, 0)` for nothing.
pub(super) async fn status_position<'e>(
    executor: impl Executor<'e, Database = Any>,
    tenant: TenantId,
    device: DeviceId,
) -> Result<((u64, u64), Option<Micros>), StoreError> {
    let sql = "SELECT boot_id, seq, updated_us FROM device_status_position WHERE tenant_id = $1 AND device_id = $2";
    match sqlx::query(sql).bind(tenant.to_string()).bind(device.to_string()).fetch_optional(executor).await? {
        None => Ok(((0, 0), None)),
        Some(row) => Ok(((number(&row, "boot_id")?, number(&row, "seq")?), Some(Micros(row.try_get("updated_us")?)))),
    }
}

/// Up to which `(boot_id, seq)` the statuses of `devices` are held, of those that ever reported.
pub(super) async fn status_positions(
    pool: &AnyPool,
    tenant: TenantId,
    devices: &[DeviceId],
) -> Result<Vec<(DeviceId, (u64, u64))>, StoreError> {
    let mut positions = Vec::with_capacity(devices.len());
    for some in Among::of(devices) {
        let sql = format!(
            "SELECT device_id, boot_id, seq FROM device_status_position WHERE tenant_id = $1 AND device_id IN ({})",
            some.places(2)
        );
        let query = sqlx::query::<Any>(AssertSqlSafe(sql)).bind(tenant.to_string());
        for row in &some.into_iter().fold(query, |query, id| query.bind(id)).fetch_all(pool).await? {
            positions.push((parsed(row, "device_id")?, (number(row, "boot_id")?, number(row, "seq")?)));
        }
    }
    Ok(positions)
}

/// All that the device reports: path and JSON text.
pub(super) async fn status<'e>(
    executor: impl Executor<'e, Database = Any>,
    tenant: TenantId,
    device: DeviceId,
) -> Result<BTreeMap<String, String>, StoreError> {
    let sql = "SELECT path, value FROM device_status WHERE tenant_id = $1 AND device_id = $2";
    let rows = sqlx::query(sql).bind(tenant.to_string()).bind(device.to_string()).fetch_all(executor).await?;
    rows.iter().map(|row| Ok((row.try_get("path")?, row.try_get("value")?))).collect()
}

/// What those of `devices` report at `path` that report anything there: the JSON text of each.
pub(super) async fn status_at(
    pool: &AnyPool,
    tenant: TenantId,
    path: &str,
    devices: &[DeviceId],
) -> Result<BTreeMap<DeviceId, String>, StoreError> {
    let mut values = BTreeMap::new();
    for some in Among::of(devices) {
        let sql = format!(
            "SELECT device_id, value FROM device_status WHERE tenant_id = $1 AND path = $2 AND device_id IN ({})",
            some.places(3)
        );
        let query = sqlx::query::<Any>(AssertSqlSafe(sql)).bind(tenant.to_string()).bind(path.to_owned());
        for row in &some.into_iter().fold(query, |query, id| query.bind(id)).fetch_all(pool).await? {
            values.insert(parsed(row, "device_id")?, row.try_get("value")?);
        }
    }
    Ok(values)
}

/// Moves the position from `before` to that of `delta`. Says whether it still stood there.
pub(super) async fn put_status_position(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    before: (u64, u64),
    delta: &StatusDelta,
    now: Micros,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO device_status_position (tenant_id, device_id, boot_id, seq, updated_us) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (tenant_id, device_id) DO UPDATE SET boot_id = excluded.boot_id, seq = excluded.seq, \
               updated_us = excluded.updated_us WHERE device_status_position.boot_id = $6 AND device_status_position.seq = $7";
    let done = sqlx::query(sql)
        .bind(tenant.to_string())
        .bind(device.to_string())
        .bind(integer(delta.boot_id)?)
        .bind(integer(delta.seq)?)
        .bind(now.0)
        .bind(integer(before.0)?)
        .bind(integer(before.1)?)
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Sets one path.
pub(super) async fn put_status(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    entry: &StatusEntry,
) -> Result<(), StoreError> {
    let value = std::str::from_utf8(&entry.value).map_err(|_| StoreError::Corrupt("a status that is no text".into()))?;
    sqlx::query(
        "INSERT INTO device_status (tenant_id, device_id, path, value) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (tenant_id, device_id, path) DO UPDATE SET value = excluded.value",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .bind(entry.path.clone())
    .bind(value.to_owned())
    .execute(tx)
    .await?;
    Ok(())
}

/// Removes one path.
pub(super) async fn remove_status(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    path: &str,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM device_status WHERE tenant_id = $1 AND device_id = $2 AND path = $3")
        .bind(tenant.to_string())
        .bind(device.to_string())
        .bind(path.to_owned())
        .execute(tx)
        .await?;
    Ok(())
}
