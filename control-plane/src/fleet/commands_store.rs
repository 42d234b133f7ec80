//! Commands in the database. The only file that knows this table.
//!
//! A command leaves `queued` and `delivered` once, by a statement that checks where it stands, so that an answer, an expiry
//! and a cancellation never overwrite one another. Every statement names the tenant; the exception returns nothing but the
//! tenants that have something to end.

use super::store::{corrupt, parsed, time};
use crate::platform::db::StoreError;
use aidos_protocol::api::commands::{CommandArguments, CommandKind, CommandState, OfflinePolicy};
use aidos_protocol::{CommandId, DeviceId, TenantId, time::Micros};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use sqlx::{Any, AnyConnection, AnyPool, FromRow, Row, any::AnyRow};

/// A command as it is stored, without its bodies.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CommandRow {
    /// Its id.
    pub(crate) id: CommandId,
    /// Its device.
    pub(crate) device: DeviceId,
    /// What to do.
    pub(crate) kind: CommandKind,
    /// With what.
    pub(crate) arguments: CommandArguments,
    /// Where it stands.
    pub(crate) state: CommandState,
    /// What becomes of it while the device is offline.
    pub(crate) offline: OfflinePolicy,
    /// Who gave it.
    pub(crate) actor: String,
    /// When it was given.
    pub(crate) created: Micros,
    /// When its time is over.
    pub(crate) expires: Micros,
    /// When it was handed to the device's link.
    pub(crate) delivered: Option<Micros>,
    /// When it finished.
    pub(crate) finished: Option<Micros>,
    /// What the device said, or why it never got there.
    pub(crate) message: String,
    /// Media type and length of what it brought back.
    pub(crate) payload: Option<(String, u64)>,
}

/// What a command brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    /// Media type.
    pub(crate) content_type: String,
    /// Length of the JSON part when raw tensors follow it, else 0.
    pub(crate) header_length: u64,
    /// The bytes, as the device sent them.
    pub(crate) bytes: Bytes,
}

/// How a command finishes.
#[derive(Debug, Clone)]
pub(super) struct Finish<'a> {
    pub(super) state: CommandState,
    pub(super) message: &'a str,
    pub(super) payload: Option<&'a Payload>,
    /// The device said so, which proves that it got the command.
    pub(super) by_device: bool,
}

/// Reads a column that holds the word of an enum.
fn word<T: DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T, sqlx::Error> {
    let text: String = row.try_get(column)?;
    serde_json::from_value(text.into()).map_err(|e| corrupt(column)(Box::new(e)))
}

impl FromRow<'_, AnyRow> for CommandRow {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let arguments: String = row.try_get("arguments")?;
        let content_type: Option<String> = row.try_get("content_type")?;
        let length = row.try_get::<Option<i64>, _>("payload_bytes")?.and_then(|n| u64::try_from(n).ok());
        Ok(Self {
            id: parsed(row, "id")?,
            device: parsed(row, "device_id")?,
            kind: word(row, "kind")?,
            arguments: serde_json::from_str(&arguments).map_err(|e| corrupt("arguments")(Box::new(e)))?,
            state: word(row, "state")?,
            offline: word(row, "offline_policy")?,
            actor: row.try_get("actor")?,
            created: Micros(row.try_get("created_us")?),
            expires: Micros(row.try_get("expires_us")?),
            delivered: time(row, "delivered_us")?,
            finished: time(row, "finished_us")?,
            message: row.try_get("message")?,
            payload: content_type.zip(length),
        })
    }
}

const COLUMNS: &str = "id, device_id, kind, arguments, state, offline_policy, actor, created_us, expires_us, \
     delivered_us, finished_us, message, content_type, CAST(LENGTH(payload) AS BIGINT) AS payload_bytes";

/// Inserts a command with its frame.
pub(super) async fn insert(
    tx: &mut AnyConnection,
    tenant: TenantId,
    row: &CommandRow,
    request: Vec<u8>,
) -> Result<(), StoreError> {
    let arguments = serde_json::to_string(&row.arguments).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    sqlx::query::<Any>(
        "INSERT INTO commands (tenant_id, id, device_id, kind, arguments, request, state, offline_policy, actor, \
         created_us, expires_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(tenant.to_string())
    .bind(row.id.to_string())
    .bind(row.device.to_string())
    .bind(row.kind.as_str())
    .bind(arguments)
    .bind(request)
    .bind(row.state.as_str())
    .bind(row.offline.as_str())
    .bind(row.actor.clone())
    .bind(row.created.0)
    .bind(row.expires.0)
    .execute(tx)
    .await?;
    Ok(())
}

/// Removes the finished command that `row` goes on from, if it is of the same device, kind and person. Returns whether it was there.
pub(super) async fn remove_followed(
    tx: &mut AnyConnection,
    tenant: TenantId,
    row: &CommandRow,
    before: CommandId,
) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>(
        "DELETE FROM commands WHERE tenant_id = $1 AND device_id = $2 AND id = $3 AND kind = $4 AND actor = $5 \
         AND state NOT IN ('queued', 'delivered')",
    )
    .bind(tenant.to_string())
    .bind(row.device.to_string())
    .bind(before.to_string())
    .bind(row.kind.as_str())
    .bind(row.actor.clone())
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// How many commands of the device are open.
pub(super) async fn count_open(tx: &mut AnyConnection, tenant: TenantId, device: DeviceId) -> Result<i64, StoreError> {
    let row = sqlx::query::<Any>(
        "SELECT COUNT(*) AS n FROM commands WHERE tenant_id = $1 AND device_id = $2 AND state IN ('queued', 'delivered')",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .fetch_one(tx)
    .await?;
    Ok(row.try_get("n")?)
}

pub(super) async fn get(
    pool: &AnyPool,
    tenant: TenantId,
    device: DeviceId,
    id: CommandId,
) -> Result<Option<CommandRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM commands WHERE tenant_id = $1 AND device_id = $2 AND id = $3");
    Ok(sqlx::query_as::<Any, CommandRow>(sqlx::AssertSqlSafe(sql))
        .bind(tenant.to_string())
        .bind(device.to_string())
        .bind(id.to_string())
        .fetch_optional(pool)
        .await?)
}

/// Newest first, those after `before` (exclusive) in that order.
pub(super) async fn list(
    pool: &AnyPool,
    tenant: TenantId,
    device: DeviceId,
    before: Option<CommandId>,
    limit: usize,
) -> Result<Vec<CommandRow>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM commands WHERE tenant_id = $1 AND device_id = $2 AND id < $3 ORDER BY id DESC LIMIT $4");
    Ok(sqlx::query_as::<Any, CommandRow>(sqlx::AssertSqlSafe(sql))
        .bind(tenant.to_string())
        .bind(device.to_string())
        // Above every id in any collation: they are `cmd_` and hexadecimal digits.
        .bind(before.map_or_else(|| "cmd_g".to_owned(), |id| id.to_string()))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(pool)
        .await?)
}

/// What the command brought back; `None` when that is nothing, or it is not there.
pub(super) async fn payload(
    pool: &AnyPool,
    tenant: TenantId,
    device: DeviceId,
    id: CommandId,
) -> Result<Option<Payload>, StoreError> {
    let row = sqlx::query::<Any>(
        "SELECT payload, content_type, header_length FROM commands \
         WHERE tenant_id = $1 AND device_id = $2 AND id = $3 AND payload IS NOT NULL",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .bind(id.to_string())
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Payload {
        content_type: row.try_get::<Option<String>, _>("content_type")?.unwrap_or_default(),
        header_length: row.try_get::<Option<i64>, _>("header_length")?.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
        bytes: row.try_get::<Vec<u8>, _>("payload")?.into(),
    }))
}

/// The frames of what waits for the device, oldest first. `taken_since`: commands that only an online device was to get, and
/// that were given before this, are left out.
pub(super) async fn pending(
    pool: &AnyPool,
    tenant: TenantId,
    device: DeviceId,
    now: Micros,
    taken_since: Micros,
    limit: usize,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let rows = sqlx::query::<Any>(
        "SELECT request FROM commands WHERE tenant_id = $1 AND device_id = $2 AND state IN ('queued', 'delivered') \
         AND expires_us > $3 AND (state = 'delivered' OR offline_policy = 'queue' OR created_us >= $4) ORDER BY id LIMIT $5",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .bind(now.0)
    .bind(taken_since.0)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await?;
    Ok(rows.iter().map(|row| row.try_get("request")).collect::<Result<_, _>>()?)
}

/// Returns whether the command was queued until now.
pub(super) async fn set_delivered(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    id: CommandId,
    now: Micros,
) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>(
        "UPDATE commands SET state = 'delivered', delivered_us = $4 \
         WHERE tenant_id = $1 AND device_id = $2 AND id = $3 AND state = 'queued'",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .bind(id.to_string())
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Finishes a command whose state is one of `from`. Returns whether it did.
pub(super) async fn finish(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    id: CommandId,
    from: &[CommandState],
    finish: &Finish<'_>,
    now: Micros,
) -> Result<bool, StoreError> {
    // The states are words of this program.
    let from: Vec<String> = from.iter().map(|state| format!("'{}'", state.as_str())).collect();
    let sql = format!(
        "UPDATE commands SET state = $4, message = $5, payload = $6, content_type = $7, header_length = $8, \
         finished_us = $9, request = $10, delivered_us = COALESCE(delivered_us, $11) WHERE tenant_id = $1 AND device_id = $2 AND id = $3 AND state IN ({})",
        from.join(", ")
    );
    let payload = finish.payload;
    let done = sqlx::query::<Any>(sqlx::AssertSqlSafe(sql))
        .bind(tenant.to_string())
        .bind(device.to_string())
        .bind(id.to_string())
        .bind(finish.state.as_str())
        .bind(finish.message.to_owned())
        .bind(payload.map(|payload| payload.bytes.to_vec()))
        .bind(payload.map(|payload| payload.content_type.clone()))
        .bind(payload.map(|payload| i64::try_from(payload.header_length).unwrap_or(0)))
        .bind(now.0)
        .bind(Vec::<u8>::new())
        .bind(finish.by_device.then_some(now.0))
        .execute(tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes the device's oldest finished commands but for the newest `keep`.
pub(super) async fn prune(tx: &mut AnyConnection, tenant: TenantId, device: DeviceId, keep: i64) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "DELETE FROM commands WHERE tenant_id = $1 AND device_id = $2 AND state NOT IN ('queued', 'delivered') AND id < \
         (SELECT MIN(k.id) FROM (SELECT c.id FROM commands c WHERE c.tenant_id = $1 AND c.device_id = $2 \
          AND c.state NOT IN ('queued', 'delivered') ORDER BY c.id DESC LIMIT $3) k)",
    )
    .bind(tenant.to_string())
    .bind(device.to_string())
    .bind(keep)
    .execute(tx)
    .await?;
    Ok(())
}

// Ends.

/// The tenants that have open commands which are over, or which were to be taken before `taken_since`.
pub(super) async fn tenants_with_ends(pool: &AnyPool, now: Micros, taken_since: Micros) -> Result<Vec<TenantId>, StoreError> {
    let rows = sqlx::query::<Any>(
        "SELECT DISTINCT tenant_id FROM commands WHERE state IN ('queued', 'delivered') \
         AND (expires_us <= $1 OR (state = 'queued' AND offline_policy = 'fail' AND created_us < $2))",
    )
    .bind(now.0)
    .bind(taken_since.0)
    .fetch_all(pool)
    .await?;
    Ok(rows.iter().map(|row| parsed(row, "tenant_id")).collect::<Result<_, _>>()?)
}

/// Of the tenant's open commands, those that are over: queued ones at their end, delivered ones that ended before
/// `answered_since`, and those only for an online device that were given before `taken_since` and not taken. At most `limit`.
pub(super) async fn ends(
    tx: &mut AnyConnection,
    tenant: TenantId,
    now: Micros,
    taken_since: Micros,
    answered_since: Micros,
    limit: i64,
) -> Result<Vec<CommandRow>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM commands WHERE tenant_id = $1 AND ((state = 'queued' AND expires_us <= $2) \
         OR (state = 'queued' AND offline_policy = 'fail' AND created_us < $3) \
         OR (state = 'delivered' AND expires_us <= $4)) ORDER BY id LIMIT $5"
    );
    Ok(sqlx::query_as::<Any, CommandRow>(sqlx::AssertSqlSafe(sql))
        .bind(tenant.to_string())
        .bind(now.0)
        .bind(taken_since.0)
        .bind(answered_since.0)
        .bind(limit)
        .fetch_all(tx)
        .await?)
}
