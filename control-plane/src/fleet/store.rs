//! Devices and their keys in the database. The only file that knows these two tables.
//!
//! Every statement names the tenant. The exceptions return nothing but tenants: of an id that a stranger presents, and of
//! the devices that a start has to sweep.

use super::search_store;
use crate::platform::db::{Among, StoreError};
use aidos_protocol::{DeviceId, TenantId, TokenId, time::Micros};
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, FromRow, Row, any::AnyRow};
use std::collections::{BTreeMap, BTreeSet};

/// A device as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceRow {
    /// Its tenant.
    pub(crate) tenant: TenantId,
    /// Its id.
    pub(crate) id: DeviceId,
    /// Its name, for people.
    pub(crate) name: String,
    /// Whether it was revoked, and when.
    pub(crate) revoked: Option<Micros>,
    /// The token it joined with.
    pub(crate) token: Option<TokenId>,
    /// When it joined.
    pub(crate) created: Micros,
    /// Grows with each edit of this row by a person: the ETag.
    pub(crate) revision: i64,
    /// Whether it has a session.
    pub(crate) online: bool,
    /// The transport of its present or last session.
    pub(crate) transport: Option<String>,
    /// The address of its present or last session.
    pub(crate) address: Option<String>,
    /// The agent's version as of its present or last session.
    pub(crate) agent_version: Option<String>,
    /// When it was last heard of.
    pub(crate) last_seen: Option<Micros>,
    /// When its newest certificate ends.
    pub(crate) certificate_end: Micros,
}

/// The columns a [`DeviceRow`] is read from.
pub(super) const DEVICE_COLUMNS: &str = "tenant_id, id, name, state, token_id, created_us, revision, session, transport, \
     address, agent_version, last_seen_us, cert_end_us, revoked_us";

/// A key that a device was certified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceKey {
    /// SHA-256 of `spki`, hexadecimal.
    pub(crate) key_id: String,
    /// SubjectPublicKeyInfo, DER.
    pub(crate) spki: Vec<u8>,
    /// Serial number of its newest certificate.
    pub(crate) serial: String,
    /// When it was first certified.
    pub(crate) created: Micros,
}

pub(super) fn corrupt(column: &str) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> sqlx::Error + '_ {
    move |source| sqlx::Error::ColumnDecode { index: column.to_owned(), source }
}

/// Reads a text column as a typed id.
pub(super) fn parsed<T>(row: &AnyRow, column: &str) -> Result<T, sqlx::Error>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.try_get::<String, _>(column)?.parse().map_err(|e| corrupt(column)(Box::new(e)))
}

pub(super) fn time(row: &AnyRow, column: &str) -> Result<Option<Micros>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Micros))
}

impl FromRow<'_, AnyRow> for DeviceRow {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let token = row.try_get::<Option<String>, _>("token_id")?.map(|text| text.parse()).transpose();
        let revoked = row.try_get::<String, _>("state")? == "revoked";
        Ok(Self {
            tenant: parsed(row, "tenant_id")?,
            id: parsed(row, "id")?,
            name: row.try_get("name")?,
            revoked: if revoked { Some(time(row, "revoked_us")?.unwrap_or_default()) } else { None },
            token: token.map_err(|e| corrupt("token_id")(Box::new(e)))?,
            created: Micros(row.try_get("created_us")?),
            revision: row.try_get("revision")?,
            online: row.try_get::<Option<i64>, _>("session")?.is_some(),
            transport: row.try_get("transport")?,
            address: row.try_get("address")?,
            agent_version: row.try_get("agent_version")?,
            last_seen: time(row, "last_seen_us")?,
            certificate_end: Micros(row.try_get("cert_end_us")?),
        })
    }
}

impl FromRow<'_, AnyRow> for DeviceKey {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            key_id: row.try_get("key_id")?,
            spki: row.try_get("spki")?,
            serial: row.try_get("serial")?,
            created: Micros(row.try_get("created_us")?),
        })
    }
}

// Devices.

pub(super) async fn insert_device(tx: &mut AnyConnection, row: &DeviceRow) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "INSERT INTO devices (tenant_id, id, name, state, token_id, created_us, cert_end_us) \
         VALUES ($1, $2, $3, 'active', $4, $5, $6)",
    )
    .bind(row.tenant.to_string())
    .bind(row.id.to_string())
    .bind(&row.name)
    .bind(row.token.map(|id| id.to_string()))
    .bind(row.created.0)
    .bind(row.certificate_end.0)
    .execute(&mut *tx)
    .await?;
    search_store::put(tx, row.tenant, row.id, &row.name).await
}

/// The tenant of a device that only its broker vouches for.
pub(super) async fn tenant_of_device(pool: &AnyPool, device: DeviceId) -> Result<Option<TenantId>, StoreError> {
    let row =
        sqlx::query::<Any>("SELECT tenant_id FROM devices WHERE id = $1").bind(device.to_string()).fetch_optional(pool).await?;
    Ok(row.map(|row| parsed(&row, "tenant_id")).transpose()?)
}

pub(super) async fn device(pool: &AnyPool, tenant: TenantId, device: DeviceId) -> Result<Option<DeviceRow>, StoreError> {
    let sql = format!("SELECT {DEVICE_COLUMNS} FROM devices WHERE tenant_id = $1 AND id = $2");
    Ok(sqlx::query_as::<Any, DeviceRow>(sqlx::AssertSqlSafe(sql))
        .bind(tenant.to_string())
        .bind(device.to_string())
        .fetch_optional(pool)
        .await?)
}

/// Those of `devices` that are there.
pub(super) async fn devices(pool: &AnyPool, tenant: TenantId, devices: &[DeviceId]) -> Result<Vec<DeviceRow>, StoreError> {
    let mut rows = Vec::with_capacity(devices.len());
    for some in Among::of(devices) {
        let sql = format!("SELECT {DEVICE_COLUMNS} FROM devices WHERE tenant_id = $1 AND id IN ({})", some.places(2));
        let query = sqlx::query_as::<Any, DeviceRow>(AssertSqlSafe(sql)).bind(tenant.to_string());
        rows.extend(some.into_iter().fold(query, |query, id| query.bind(id)).fetch_all(pool).await?);
    }
    Ok(rows)
}

/// Who a session belongs to and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Presence<'a> {
    pub(super) session: i64,
    pub(super) transport: &'a str,
    pub(super) address: &'a str,
    pub(super) agent_version: &'a str,
}

pub(super) async fn set_online(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    presence: &Presence<'_>,
    now: Micros,
) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>(
        "UPDATE devices SET session = $3, transport = $4, address = $5, agent_version = $6, last_seen_us = $7 \
         WHERE tenant_id = $1 AND id = $2 AND state = 'active'",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .bind(presence.session)
    .bind(presence.transport)
    .bind(presence.address)
    .bind(presence.agent_version)
    .bind(now.0)
    .execute(&mut *tx)
    .await?;
    search_store::reach(tx, tenant, device, presence.address).await?;
    Ok(done.rows_affected() > 0)
}

/// Ends `session` in the database, unless another one took its place. Returns whether the device went offline by this.
pub(super) async fn set_offline(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    session: i64,
    last_seen: Micros,
) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>(
        "UPDATE devices SET session = NULL, last_seen_us = $4 WHERE tenant_id = $1 AND id = $2 AND session = $3",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .bind(session)
    .bind(last_seen.0)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn touch(tx: &mut AnyConnection, tenant: TenantId, device: DeviceId, now: Micros) -> Result<(), StoreError> {
    sqlx::query::<Any>("UPDATE devices SET last_seen_us = $3 WHERE tenant_id = $1 AND id = $2 AND session IS NOT NULL")
        .bind(tenant.to_string())
        .bind(device.to_string())
        .bind(now.0)
        .execute(tx)
        .await?;
    Ok(())
}

/// The tenants that have devices which seem to be online, for the sweep at a start.
pub(super) async fn tenants_online(pool: &AnyPool) -> Result<Vec<TenantId>, StoreError> {
    let rows = sqlx::query::<Any>("SELECT DISTINCT tenant_id FROM devices WHERE session IS NOT NULL").fetch_all(pool).await?;
    Ok(rows.iter().map(|row| parsed(row, "tenant_id")).collect::<Result<_, _>>()?)
}

pub(super) async fn all_offline(tx: &mut AnyConnection, tenant: TenantId) -> Result<(), StoreError> {
    sqlx::query::<Any>("UPDATE devices SET session = NULL WHERE tenant_id = $1 AND session IS NOT NULL")
        .bind(tenant.to_string())
        .execute(tx)
        .await?;
    Ok(())
}

/// Returns whether this call revoked it: `false` when it was revoked before, or is not there.
pub(super) async fn revoke(tx: &mut AnyConnection, tenant: TenantId, device: DeviceId, now: Micros) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>(
        "UPDATE devices SET state = 'revoked', revoked_us = $3, session = NULL, revision = revision + 1 \
         WHERE tenant_id = $1 AND id = $2 AND state = 'active'",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Keeps that the device's certificate is not to be trusted, and forgets those that ended before `ended`. A device that is not
/// there changes nothing.
pub(super) async fn put_revocation(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    ended: Micros,
) -> Result<(), StoreError> {
    sqlx::query::<Any>("DELETE FROM revocations WHERE tenant_id = $1 AND until_us < $2")
        .bind(tenant.to_string())
        .bind(ended.0)
        .execute(&mut *tx)
        .await?;
    sqlx::query::<Any>(
        "INSERT INTO revocations (tenant_id, device_id, until_us) \
         SELECT tenant_id, id, cert_end_us FROM devices WHERE tenant_id = $1 AND id = $2 \
         ON CONFLICT (tenant_id, device_id) DO NOTHING",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .execute(tx)
    .await?;
    Ok(())
}

/// The devices whose certificates are not to be trusted and ended after `since` or will end, the `limit` that last longest, by
/// ascending id.
pub(super) async fn revocations(
    pool: &AnyPool,
    tenant: TenantId,
    since: Micros,
    limit: usize,
) -> Result<Vec<DeviceId>, StoreError> {
    let rows = sqlx::query::<Any>(
        "SELECT device_id FROM revocations WHERE tenant_id = $1 AND until_us > $2 ORDER BY until_us DESC, device_id LIMIT $3",
    )
    .bind(tenant.to_string())
    .bind(since.0)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await?;
    let mut devices = rows.iter().map(|row| parsed(row, "device_id")).collect::<Result<Vec<DeviceId>, _>>()?;
    devices.sort();
    Ok(devices)
}

pub(super) async fn delete_device(tx: &mut AnyConnection, tenant: TenantId, device: DeviceId) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>("DELETE FROM devices WHERE tenant_id = $1 AND id = $2")
        .bind(tenant.to_string())
        .bind(device.to_string())
        .execute(tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

// Keys.

/// Records a key, or the newer certificate of a known one, and the certificate's end. The newest 64 keys stay known: a
/// device that renews each 20 days fills that in more than three years.
pub(super) async fn put_key(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    key: &DeviceKey,
    certificate_end: Micros,
) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "INSERT INTO device_keys (tenant_id, device_id, key_id, spki, serial, created_us) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (tenant_id, device_id, key_id) DO UPDATE SET serial = excluded.serial",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .bind(&key.key_id)
    .bind(key.spki.clone())
    .bind(&key.serial)
    .bind(key.created.0)
    .execute(&mut *tx)
    .await?;
    // A device that renews in a loop must not fill the table.
    sqlx::query::<Any>(
        "DELETE FROM device_keys WHERE tenant_id = $1 AND device_id = $2 AND key_id NOT IN (SELECT key_id FROM device_keys \
         WHERE tenant_id = $1 AND device_id = $2 ORDER BY created_us DESC, key_id LIMIT 64)",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .execute(&mut *tx)
    .await?;
    sqlx::query::<Any>("UPDATE devices SET cert_end_us = $3 WHERE tenant_id = $1 AND id = $2")
        .bind(tenant.to_string())
        .bind(device.to_string())
        .bind(certificate_end.0)
        .execute(tx)
        .await?;
    Ok(())
}

/// The devices that have a session.
pub(super) async fn online(pool: &AnyPool, tenant: TenantId) -> Result<BTreeSet<DeviceId>, StoreError> {
    let rows = sqlx::query::<Any>("SELECT id FROM devices WHERE tenant_id = $1 AND state = 'active' AND session IS NOT NULL")
        .bind(tenant.to_string())
        .fetch_all(pool)
        .await?;
    Ok(rows.iter().map(|row| parsed(row, "id")).collect::<Result<_, _>>()?)
}

/// The keys of a device, newest first.
pub(super) async fn keys(pool: &AnyPool, tenant: TenantId, device: DeviceId) -> Result<Vec<DeviceKey>, StoreError> {
    Ok(sqlx::query_as::<Any, DeviceKey>(
        "SELECT key_id, spki, serial, created_us FROM device_keys WHERE tenant_id = $1 AND device_id = $2 \
         ORDER BY created_us DESC, key_id",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .fetch_all(pool)
    .await?)
}

/// The keys of each of `devices`, newest first.
pub(super) async fn keys_of(
    pool: &AnyPool,
    tenant: TenantId,
    devices: &[DeviceId],
) -> Result<BTreeMap<DeviceId, Vec<DeviceKey>>, StoreError> {
    let mut keys: BTreeMap<DeviceId, Vec<DeviceKey>> = BTreeMap::new();
    for some in Among::of(devices) {
        let sql = format!(
            "SELECT device_id, key_id, spki, serial, created_us FROM device_keys WHERE tenant_id = $1 AND device_id IN ({}) \
             ORDER BY created_us DESC, key_id",
            some.places(2)
        );
        let query = sqlx::query::<Any>(AssertSqlSafe(sql)).bind(tenant.to_string());
        for row in &some.into_iter().fold(query, |query, id| query.bind(id)).fetch_all(pool).await? {
            keys.entry(parsed(row, "device_id")?).or_default().push(DeviceKey::from_row(row)?);
        }
    }
    Ok(keys)
}

/// Those of `devices` that are there and not revoked.
pub(super) async fn active(pool: &AnyPool, tenant: TenantId, devices: &[DeviceId]) -> Result<Vec<DeviceId>, StoreError> {
    let mut active = Vec::with_capacity(devices.len());
    for some in Among::of(devices) {
        let sql = format!("SELECT id FROM devices WHERE tenant_id = $1 AND state = 'active' AND id IN ({})", some.places(2));
        let query = sqlx::query::<Any>(AssertSqlSafe(sql)).bind(tenant.to_string());
        for row in &some.into_iter().fold(query, |query, id| query.bind(id)).fetch_all(pool).await? {
            active.push(parsed(row, "id")?);
        }
    }
    Ok(active)
}

pub(super) async fn has_key(pool: &AnyPool, tenant: TenantId, device: DeviceId, key_id: &str) -> Result<bool, StoreError> {
    let row = sqlx::query::<Any>("SELECT 1 AS one FROM device_keys WHERE tenant_id = $1 AND device_id = $2 AND key_id = $3")
        .bind(tenant.to_string())
        .bind(device.to_string())
        .bind(key_id)
        .fetch_optional(pool)
        .await?;
    Ok(row.is_some())
}
