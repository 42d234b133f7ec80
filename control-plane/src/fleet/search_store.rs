//! What devices are found by, in the database: one short row each, that a search for a part of a word reads all of. It must never be
//! changed but in the transaction that changes the name, the address or the labels.

use crate::platform::db::StoreError;
use aidos_protocol::{DeviceId, TenantId};
use sqlx::{Any, AnyConnection};
use std::collections::BTreeMap;

/// Makes a new device findable by its name.
pub(super) async fn put(tx: &mut AnyConnection, tenant: TenantId, device: DeviceId, name: &str) -> Result<(), StoreError> {
    let sql = "INSERT INTO device_search (tenant_id, device_id, name, folded, text) VALUES ($1, $2, $3, $4, $4)";
    write(tx, sql, tenant, device, &[name, &name.to_lowercase()]).await
}

/// The device has another name.
pub(super) async fn rename(tx: &mut AnyConnection, tenant: TenantId, device: DeviceId, name: &str) -> Result<(), StoreError> {
    let sql = "UPDATE device_search SET name = $3, folded = $4, text = $4 || $5 || address || $5 || labels \
               WHERE tenant_id = $1 AND device_id = $2";
    write(tx, sql, tenant, device, &[name, &name.to_lowercase(), "\n"]).await
}

/// The device is reached at another address. One that comes back from where it was writes nothing: its port is left out.
pub(super) async fn reach(tx: &mut AnyConnection, tenant: TenantId, device: DeviceId, address: &str) -> Result<(), StoreError> {
    let host = address.parse::<std::net::SocketAddr>().map_or_else(|_| address.to_lowercase(), |at| at.ip().to_string());
    let sql = "UPDATE device_search SET address = $3, text = folded || $4 || $3 || $4 || labels \
               WHERE tenant_id = $1 AND device_id = $2 AND address <> $3";
    write(tx, sql, tenant, device, &[&host, "\n"]).await
}

/// The device has other labels.
pub(super) async fn label(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    labels: &BTreeMap<String, String>,
) -> Result<(), StoreError> {
    let values: Vec<String> = labels.values().map(|value| value.to_lowercase()).collect();
    let sql = "UPDATE device_search SET labels = $3, text = folded || $4 || address || $4 || $3 \
               WHERE tenant_id = $1 AND device_id = $2";
    write(tx, sql, tenant, device, &[&values.join("\n"), "\n"]).await
}

async fn write(
    tx: &mut AnyConnection,
    sql: &'static str,
    tenant: TenantId,
    device: DeviceId,
    texts: &[&str],
) -> Result<(), StoreError> {
    let query = sqlx::query::<Any>(sql).bind(tenant.to_string()).bind(device.to_string());
    texts.iter().fold(query, |query, text| query.bind((*text).to_owned())).execute(tx).await?;
    Ok(())
}
