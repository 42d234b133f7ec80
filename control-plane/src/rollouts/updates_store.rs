//! What was rolled out and deployed to one device, in the database. Every statement names the tenant.

use super::rollout_store::{outcome, wave};
use super::store::{parsed, read_progress, undecodable};
use super::updates::Update;
use crate::platform::db::StoreError;
use aidos_protocol::api::rollouts::UpdateKind;
use aidos_protocol::{DeviceId, TenantId, time::Micros};
use sqlx::{Any, AnyPool, FromRow, Row as _, any::AnyRow};

impl FromRow<'_, AnyRow> for Update {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let part = match row.try_get::<Option<i64>, _>("wave")? {
            Some(_) => Some((wave(row)?, outcome(row)?)),
            None => None,
        };
        let text = |column| row.try_get::<Option<String>, _>(column).map(|text| text.filter(|text| !text.is_empty()));
        let moment = |column| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.map(Micros));
        let (told, given) = (moment("told_us")?, moment("given_us")?);
        Ok(Self {
            id: parsed(row, "id")?,
            kind: if text("phase")?.is_some() { UpdateKind::Rollout } else { UpdateKind::Deployment },
            subject: parsed(row, "subject")?,
            desired: serde_json::from_str(&row.try_get::<String, _>("desired")?).map_err(|e| undecodable("desired", e))?,
            created: Micros(row.try_get("created_us")?),
            part,
            progress: text("progress")?.as_deref().map(read_progress),
            reason: text("reason")?.or(text("error")?).unwrap_or_default(),
            told: told.or(given),
            // The join has one of the two.
            updated: moment("updated_us")?.max(moment("moved_us")?).unwrap_or_default(),
        })
    }
}

/// What `device` got by rollouts and deployments that were made before `before`, newest first.
pub(super) async fn updates(
    pool: &AnyPool,
    tenant: TenantId,
    device: DeviceId,
    before: Micros,
    limit: u32,
) -> Result<Vec<Update>, StoreError> {
    // No subject is empty: that it is looked at has SQLite read the device's own rows, not an index over everybody's. The cross join
    // has it begin with them, too.
    let sql = "SELECT d.id, d.subject, d.desired, d.created_us, o.phase, r.wave, r.outcome, r.reason, r.told_us, r.updated_us, \
         a.progress, a.error, a.told_us AS given_us, a.updated_us AS moved_us FROM (SELECT rollout_id AS id FROM rollout_devices \
         WHERE tenant_id = $1 AND device_id = $2 UNION SELECT deployment_id FROM deployment_devices \
         WHERE tenant_id = $1 AND device_id = $2 AND subject <> '') u CROSS JOIN deployments d \
         LEFT JOIN rollouts o ON o.tenant_id = $1 AND o.id = d.id \
         LEFT JOIN rollout_devices r ON r.tenant_id = $1 AND r.rollout_id = d.id AND r.device_id = $2 \
         LEFT JOIN deployment_devices a ON a.tenant_id = $1 AND a.device_id = $2 AND a.subject = d.subject AND a.deployment_id = d.id \
         WHERE d.tenant_id = $1 AND d.id = u.id AND d.created_us < $3 ORDER BY d.created_us DESC LIMIT $4";
    Ok(sqlx::query_as::<Any, Update>(sql)
        .bind(tenant.to_string())
        .bind(device.to_string())
        .bind(before.0)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?)
}
