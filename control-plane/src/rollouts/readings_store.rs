//! What gates said over time in the database. Every statement names the tenant.

use super::readings::{KEPT, Keep, Newest, Point, keep};
use super::rollout_store::wave;
use super::store::{signed, undecodable, unsigned};
use crate::platform::db::StoreError;
use aidos_protocol::rollout::Verdict;
use aidos_protocol::{DeploymentId, TenantId, time::Micros};
use sqlx::{Any, AnyConnection, AnyPool, FromRow, Row as _, any::AnyRow};

impl FromRow<'_, AnyRow> for Point {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            at: Micros(row.try_get("at_us")?),
            wave: wave(row)?,
            candidate: row.try_get("candidate")?,
            baseline: row.try_get("baseline")?,
            devices: unsigned(row, "devices")?,
            verdict: match row.try_get::<String, _>("verdict")?.as_str() {
                "holds" => Verdict::Holds,
                "fails" => Verdict::Fails,
                // The column's check allows no other.
                _ => Verdict::Unknown,
            },
        })
    }
}

/// Keeps what a rollout's `gate`, by its place in the plan, said; as far as it says something new.
pub(super) async fn record(
    tx: &mut AnyConnection,
    tenant: TenantId,
    rollout: DeploymentId,
    gate: usize,
    point: Point,
) -> Result<(), StoreError> {
    let gate = place(gate);
    let newest = newest(tx, tenant, rollout, gate).await?;
    match keep(newest.as_ref(), point) {
        Keep::Nothing => {}
        Keep::Instead(point) => {
            sqlx::query::<Any>(
                "DELETE FROM rollout_readings WHERE tenant_id = $1 AND rollout_id = $2 AND gate = $3 AND at_us = $4",
            )
            .bind(tenant.to_string())
            .bind(rollout.to_string())
            .bind(gate)
            .bind(newest.map(|newest| newest.last.at.0))
            .execute(&mut *tx)
            .await?;
            insert(tx, tenant, rollout, gate, point).await?;
        }
        Keep::Behind(point) => {
            insert(tx, tenant, rollout, gate, point).await?;
            thin(tx, tenant, rollout, gate).await?;
        }
    }
    Ok(())
}

async fn newest(
    tx: &mut AnyConnection,
    tenant: TenantId,
    rollout: DeploymentId,
    gate: i64,
) -> Result<Option<Newest>, StoreError> {
    let rows = sqlx::query::<Any>(
        "SELECT at_us, wave, candidate, baseline, devices, verdict, (SELECT MIN(f.at_us) FROM rollout_readings f \
         WHERE f.tenant_id = $1 AND f.rollout_id = $2 AND f.gate = $3) AS since_us FROM rollout_readings \
         WHERE tenant_id = $1 AND rollout_id = $2 AND gate = $3 ORDER BY at_us DESC LIMIT 2",
    )
    .bind(tenant.to_string())
    .bind(rollout.to_string())
    .bind(gate)
    .fetch_all(tx)
    .await?;
    let Some(last) = rows.first() else { return Ok(None) };
    Ok(Some(Newest {
        last: Point::from_row(last)?,
        before: rows.get(1).map(Point::from_row).transpose()?,
        since: Micros(last.try_get("since_us")?),
    }))
}

async fn insert(
    tx: &mut AnyConnection,
    tenant: TenantId,
    rollout: DeploymentId,
    gate: i64,
    point: Point,
) -> Result<(), StoreError> {
    // The driver declares an absent DOUBLE PRECISION as another type, by which Postgres would read the next one that is there.
    sqlx::query::<Any>(
        "INSERT INTO rollout_readings (tenant_id, rollout_id, gate, at_us, wave, candidate, baseline, devices, verdict) \
         VALUES ($1, $2, $3, $4, $5, CASE $10 WHEN 1 THEN $6 END, CASE $11 WHEN 1 THEN $7 END, $8, $9)",
    )
    .bind(tenant.to_string())
    .bind(rollout.to_string())
    .bind(gate)
    .bind(point.at.0)
    .bind(place(point.wave))
    .bind(point.candidate.unwrap_or_default())
    .bind(point.baseline.unwrap_or_default())
    .bind(signed(point.devices))
    .bind(match point.verdict {
        Verdict::Holds => "holds",
        Verdict::Fails => "fails",
        Verdict::Unknown => "unknown",
    })
    .bind(i64::from(point.candidate.is_some()))
    .bind(i64::from(point.baseline.is_some()))
    .execute(tx)
    .await?;
    Ok(())
}

/// Where there are too many, every second one goes; the newest stays.
async fn thin(tx: &mut AnyConnection, tenant: TenantId, rollout: DeploymentId, gate: i64) -> Result<(), StoreError> {
    let row = sqlx::query::<Any>(
        "SELECT COUNT(*) AS points FROM rollout_readings WHERE tenant_id = $1 AND rollout_id = $2 AND gate = $3",
    )
    .bind(tenant.to_string())
    .bind(rollout.to_string())
    .bind(gate)
    .fetch_one(&mut *tx)
    .await?;
    if unsigned(&row, "points")? <= KEPT as u64 {
        return Ok(());
    }
    sqlx::query::<Any>(
        "DELETE FROM rollout_readings WHERE tenant_id = $1 AND rollout_id = $2 AND gate = $3 AND at_us IN \
         (SELECT at_us FROM (SELECT at_us, ROW_NUMBER() OVER (ORDER BY at_us DESC) AS place FROM rollout_readings \
         WHERE tenant_id = $1 AND rollout_id = $2 AND gate = $3) AS placed WHERE place % 2 = 0)",
    )
    .bind(tenant.to_string())
    .bind(rollout.to_string())
    .bind(gate)
    .execute(tx)
    .await?;
    Ok(())
}

/// What each of a rollout's `gates` gates said, in the order of the plan, each in the order of time.
pub(super) async fn readings(
    pool: &AnyPool,
    tenant: TenantId,
    rollout: DeploymentId,
    gates: usize,
) -> Result<Vec<Vec<Point>>, StoreError> {
    let rows = sqlx::query::<Any>(
        "SELECT gate, at_us, wave, candidate, baseline, devices, verdict FROM rollout_readings \
         WHERE tenant_id = $1 AND rollout_id = $2 ORDER BY gate, at_us",
    )
    .bind(tenant.to_string())
    .bind(rollout.to_string())
    .fetch_all(pool)
    .await?;
    let mut all = vec![Vec::new(); gates];
    for row in &rows {
        let gate = usize::try_from(row.try_get::<i64, _>("gate")?).map_err(|error| undecodable("gate", error))?;
        if let Some(points) = all.get_mut(gate) {
            points.push(Point::from_row(row)?);
        }
    }
    Ok(all)
}

fn place(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}
