//! Counts devices in the database, in one pass over an index that holds all that is counted.

use crate::platform::db::StoreError;
use aidos_protocol::{TenantId, time::Micros};
use sqlx::{Any, AnyPool, Row};

/// Devices that are alike in what is shown.
pub(super) struct Group {
    pub(super) active: bool,
    /// Absent for those that never had a session.
    pub(super) agent_version: Option<String>,
    pub(super) devices: u64,
    /// Those that have a session now.
    pub(super) online: u64,
    pub(super) expiring: u64,
}

/// All devices of a tenant, in groups. `soon`: a certificate that ends before it counts as expiring.
pub(super) async fn groups(pool: &AnyPool, tenant: TenantId, soon: Micros) -> Result<Vec<Group>, StoreError> {
    // Grouped as the index is ordered: it is streamed, and nothing is sorted or held.
    let sql = "SELECT state, agent_version, COUNT(*) AS devices, COUNT(session) AS online, \
               COUNT(CASE WHEN cert_end_us < $2 THEN 1 END) AS expiring \
               FROM devices WHERE tenant_id = $1 GROUP BY state, agent_version";
    let rows = sqlx::query::<Any>(sql).bind(tenant.to_string()).bind(soon.0).fetch_all(pool).await?;
    let group = |row: sqlx::any::AnyRow| {
        let count = |name| row.try_get::<i64, _>(name).map(|count| u64::try_from(count).unwrap_or_default());
        Ok(Group {
            active: row.try_get::<String, _>("state")? == "active",
            agent_version: row.try_get("agent_version")?,
            devices: count("devices")?,
            online: count("online")?,
            expiring: count("expiring")?,
        })
    };
    rows.into_iter().map(group).collect()
}
