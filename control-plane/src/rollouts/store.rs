//! Deployments and their devices in the database. Every statement names the tenant; the one that returns nothing but tenants
//! says so.

use super::desired::Desired;
use super::machine::Standing;
use crate::platform::db::{Among, StoreError};
use aidos_protocol::{DeploymentId, DeviceId, Subject, TenantId, api::deployments::Progress, selector::Selector, time::Micros};
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, FromRow, Row as _, any::AnyRow};
use std::collections::BTreeMap;

/// Whether a deployment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Devices that match get it.
    Active,
    /// It changes nothing any more; `removed`: its devices lose what it put there.
    Stopped { removed: bool },
    /// It was aborted, and its devices go back to what they had before.
    Reverted,
    /// Another one holds in its place.
    Superseded { by: DeploymentId },
}

/// A deployment as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Deployment {
    pub(crate) id: DeploymentId,
    pub(crate) subject: Subject,
    /// What devices are told, the experiment included.
    pub(crate) desired: Desired,
    pub(crate) selector: Selector,
    pub(crate) state: State,
    /// Only devices that its rollout has admitted get it.
    pub(crate) gradual: bool,
    /// The highest wins on a device.
    pub(crate) priority: i32,
    /// Strictly increasing within a tenant.
    pub(crate) created: Micros,
    pub(crate) created_by: String,
    pub(crate) ended: Option<Micros>,
}

impl Deployment {
    /// What a device is told; with the experiment while it is on `trial`.
    pub(super) fn told(&self, trial: bool) -> Desired {
        let told = self.desired.clone();
        if trial || !self.gradual { told } else { told.settled() }
    }
    /// What it is about, with the version.
    pub(super) fn named(&self) -> String {
        format!("{}@{}", self.subject, self.desired.version())
    }
}

impl FromRow<'_, AnyRow> for Deployment {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let state = match row.try_get::<String, _>("state")?.as_str() {
            "active" => State::Active,
            "stopped" if row.try_get::<i64, _>("reverted")? != 0 => State::Reverted,
            "stopped" => State::Stopped { removed: row.try_get::<i64, _>("removed")? != 0 },
            _ => State::Superseded { by: parsed(row, "superseded_by")? },
        };
        Ok(Self {
            id: parsed(row, "id")?,
            subject: parsed(row, "subject")?,
            desired: serde_json::from_str(&row.try_get::<String, _>("desired")?).map_err(|e| undecodable("desired", e))?,
            selector: parsed(row, "selector")?,
            state,
            gradual: row.try_get::<i64, _>("gradual")? != 0,
            priority: i32::try_from(row.try_get::<i64, _>("priority")?).map_err(|e| undecodable("priority", e))?,
            created: Micros(row.try_get("created_us")?),
            created_by: row.try_get("created_by")?,
            ended: row.try_get::<Option<i64>, _>("ended_us")?.map(Micros),
        })
    }
}

/// What a device was told, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) device: DeviceId,
    pub(crate) subject: Subject,
    pub(crate) deployment: DeploymentId,
    pub(super) standing: Standing,
    pub(crate) told: Micros,
    pub(crate) updated: Micros,
}

impl FromRow<'_, AnyRow> for Assignment {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            device: parsed(row, "device_id")?,
            subject: parsed(row, "subject")?,
            deployment: parsed(row, "deployment_id")?,
            standing: Standing {
                progress: read_progress(&row.try_get::<String, _>("progress")?),
                step: row.try_get("step")?,
                active_version: row.try_get("active_version")?,
                error: row.try_get("error")?,
            },
            told: Micros(row.try_get("told_us")?),
            updated: Micros(row.try_get("updated_us")?),
        })
    }
}

pub(super) const DEPLOYMENT: &str = "SELECT id, subject, desired, selector, state, removed, reverted, superseded_by, \
     gradual, priority, created_us, created_by, ended_us FROM deployments WHERE tenant_id = $1";

pub(super) async fn insert(tx: &mut AnyConnection, tenant: TenantId, row: &Deployment) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "INSERT INTO deployments (tenant_id, id, subject, version, digest, desired, selector, state, gradual, priority, \
         created_us, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7, 'active', $8, $9, $10, $11)",
    )
    .bind(tenant.to_string())
    .bind(row.id.to_string())
    .bind(row.subject.as_str())
    .bind(signed(row.desired.number()))
    .bind(row.desired.digest().to_string())
    .bind(serde_json::to_string(&row.desired).expect("what is desired has only text keys"))
    .bind(row.selector.to_string())
    .bind(i64::from(row.gradual))
    .bind(i64::from(row.priority))
    .bind(row.created.0)
    .bind(&row.created_by)
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn deployment(pool: &AnyPool, tenant: TenantId, id: DeploymentId) -> Result<Option<Deployment>, StoreError> {
    Ok(sqlx::query_as::<Any, Deployment>(AssertSqlSafe(format!("{DEPLOYMENT} AND id = $2")))
        .bind(tenant.to_string())
        .bind(id.to_string())
        .fetch_optional(pool)
        .await?)
}

/// The deployment that holds for a subject on a selector, or the `gradual` one that is on its way to.
pub(super) async fn holding(
    tx: &mut AnyConnection,
    tenant: TenantId,
    subject: &Subject,
    selector: &Selector,
    gradual: bool,
) -> Result<Option<Deployment>, StoreError> {
    let sql = format!("{DEPLOYMENT} AND subject = $2 AND selector = $3 AND gradual = $4 AND state = 'active'");
    Ok(sqlx::query_as::<Any, Deployment>(AssertSqlSafe(sql))
        .bind(tenant.to_string())
        .bind(subject.as_str())
        .bind(selector.to_string())
        .bind(i64::from(gradual))
        .fetch_optional(tx)
        .await?)
}

/// The active deployments, what wins last: by priority, then oldest first.
pub(super) async fn active(pool: &AnyPool, tenant: TenantId) -> Result<Vec<Deployment>, StoreError> {
    let sql = format!("{DEPLOYMENT} AND state = 'active' ORDER BY priority, created_us");
    Ok(sqlx::query_as::<Any, Deployment>(AssertSqlSafe(sql)).bind(tenant.to_string()).fetch_all(pool).await?)
}

/// How many are active, and when the newest of all was made.
pub(super) async fn census(tx: &mut AnyConnection, tenant: TenantId) -> Result<(u64, Micros), StoreError> {
    let row = sqlx::query::<Any>(
        "SELECT COALESCE(MAX(created_us), 0) AS newest, CAST(COALESCE(SUM(CASE WHEN state = 'active' THEN 1 ELSE 0 END), 0) \
         AS BIGINT) AS active FROM deployments WHERE tenant_id = $1",
    )
    .bind(tenant.to_string())
    .fetch_one(tx)
    .await?;
    Ok((unsigned(&row, "active")?, Micros(row.try_get("newest")?)))
}

/// Deployments older than `before`, newest first; of `subject` and in `state` where given.
pub(super) async fn list(
    pool: &AnyPool,
    tenant: TenantId,
    subject: Option<&Subject>,
    state: Option<&str>,
    before: Micros,
    limit: u32,
) -> Result<Vec<Deployment>, StoreError> {
    let sql = format!(
        "{DEPLOYMENT} AND created_us < $2 AND ($3 = '' OR subject = $3) AND ($4 = '' OR state = $4) \
         ORDER BY created_us DESC LIMIT $5"
    );
    Ok(sqlx::query_as::<Any, Deployment>(AssertSqlSafe(sql))
        .bind(tenant.to_string())
        .bind(before.0)
        .bind(subject.map_or("", Subject::as_str))
        .bind(state.unwrap_or(""))
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?)
}

/// `old` gives way to `new`, and so do those that had given way to `old`.
pub(super) async fn supersede(
    tx: &mut AnyConnection,
    tenant: TenantId,
    old: DeploymentId,
    new: DeploymentId,
    now: Micros,
) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "UPDATE deployments SET state = 'superseded', superseded_by = $3, ended_us = COALESCE(ended_us, $4) \
         WHERE tenant_id = $1 AND (id = $2 OR superseded_by = $2)",
    )
    .bind(tenant.to_string())
    .bind(old.to_string())
    .bind(new.to_string())
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(())
}

/// Stops an active deployment, or adds the removal to a stopped one. Returns whether that changed anything.
pub(super) async fn stop(
    tx: &mut AnyConnection,
    tenant: TenantId,
    id: DeploymentId,
    remove: bool,
    now: Micros,
) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>(
        "UPDATE deployments SET state = 'stopped', removed = $3, ended_us = COALESCE(ended_us, $4) \
         WHERE tenant_id = $1 AND id = $2 AND (state = 'active' OR (state = 'stopped' AND removed < $3))",
    )
    .bind(tenant.to_string())
    .bind(id.to_string())
    .bind(i64::from(remove))
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Everyone who matches gets it from now on, without the experiment.
pub(super) async fn settle(tx: &mut AnyConnection, tenant: TenantId, row: &Deployment) -> Result<(), StoreError> {
    sqlx::query::<Any>("UPDATE deployments SET gradual = 0, desired = $3 WHERE tenant_id = $1 AND id = $2")
        .bind(tenant.to_string())
        .bind(row.id.to_string())
        .bind(serde_json::to_string(&row.told(false)).expect("what is desired has only text keys"))
        .execute(tx)
        .await?;
    Ok(())
}

/// Stops an active deployment; with `revert` its devices go back.
pub(super) async fn abort(
    tx: &mut AnyConnection,
    tenant: TenantId,
    id: DeploymentId,
    revert: bool,
    now: Micros,
) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "UPDATE deployments SET state = 'stopped', reverted = $3, ended_us = $4 WHERE tenant_id = $1 AND id = $2 AND state = 'active'",
    )
    .bind(tenant.to_string())
    .bind(id.to_string())
    .bind(i64::from(revert))
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(())
}

/// The newest deployment that everyone got before `of`, of the same subject on the same selector and another version.
pub(super) async fn earlier(pool: &AnyPool, tenant: TenantId, of: &Deployment) -> Result<Option<Deployment>, StoreError> {
    let sql = format!(
        "{DEPLOYMENT} AND subject = $2 AND selector = $3 AND created_us < $4 AND gradual = 0 AND version <> $5 \
         ORDER BY created_us DESC LIMIT 1"
    );
    Ok(sqlx::query_as::<Any, Deployment>(AssertSqlSafe(sql))
        .bind(tenant.to_string())
        .bind(of.subject.as_str())
        .bind(of.selector.to_string())
        .bind(of.created.0)
        .bind(signed(of.desired.number()))
        .fetch_optional(pool)
        .await?)
}

/// Ended deployments that still hold their version although no device has it by them.
pub(super) async fn to_release(pool: &AnyPool, tenant: TenantId) -> Result<Vec<Deployment>, StoreError> {
    let sql = format!(
        "{DEPLOYMENT} AND held = 1 AND state <> 'active' AND NOT EXISTS (SELECT 1 FROM deployment_devices a \
         WHERE a.tenant_id = deployments.tenant_id AND a.deployment_id = deployments.id) LIMIT 1000"
    );
    Ok(sqlx::query_as::<Any, Deployment>(AssertSqlSafe(sql)).bind(tenant.to_string()).fetch_all(pool).await?)
}

pub(super) async fn released(tx: &mut AnyConnection, tenant: TenantId, id: DeploymentId) -> Result<(), StoreError> {
    sqlx::query::<Any>("UPDATE deployments SET held = 0 WHERE tenant_id = $1 AND id = $2")
        .bind(tenant.to_string())
        .bind(id.to_string())
        .execute(tx)
        .await?;
    Ok(())
}

/// The tenants that have deployments; nothing of theirs.
pub(super) async fn tenants(pool: &AnyPool) -> Result<Vec<TenantId>, StoreError> {
    let rows = sqlx::query::<Any>("SELECT DISTINCT tenant_id FROM deployments").fetch_all(pool).await?;
    Ok(rows.iter().map(|row| parsed(row, "tenant_id")).collect::<Result<_, _>>()?)
}

const ASSIGNMENT: &str = "SELECT device_id, subject, deployment_id, progress, step, active_version, error, told_us, updated_us \
     FROM deployment_devices WHERE tenant_id = $1";

pub(super) async fn put_assignment(tx: &mut AnyConnection, tenant: TenantId, row: &Assignment) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "INSERT INTO deployment_devices (tenant_id, device_id, subject, deployment_id, progress, step, active_version, error, \
         told_us, updated_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (tenant_id, device_id, subject) DO UPDATE SET deployment_id = excluded.deployment_id, \
         progress = excluded.progress, step = excluded.step, active_version = excluded.active_version, error = excluded.error, \
         told_us = excluded.told_us, updated_us = excluded.updated_us",
    )
    .bind(tenant.to_string())
    .bind(row.device.to_string())
    .bind(row.subject.as_str())
    .bind(row.deployment.to_string())
    .bind(write_progress(row.standing.progress))
    .bind(&row.standing.step)
    .bind(&row.standing.active_version)
    .bind(&row.standing.error)
    .bind(row.told.0)
    .bind(row.updated.0)
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn delete_assignment(
    tx: &mut AnyConnection,
    tenant: TenantId,
    device: DeviceId,
    subject: &Subject,
) -> Result<(), StoreError> {
    sqlx::query::<Any>("DELETE FROM deployment_devices WHERE tenant_id = $1 AND device_id = $2 AND subject = $3")
        .bind(tenant.to_string())
        .bind(device.to_string())
        .bind(subject.as_str())
        .execute(tx)
        .await?;
    Ok(())
}

/// What `devices` were told: at most one row per subject and device, and none for a device that was told nothing.
pub(super) async fn assignments(
    pool: &AnyPool,
    tenant: TenantId,
    devices: &[DeviceId],
) -> Result<BTreeMap<DeviceId, Vec<Assignment>>, StoreError> {
    let mut all: BTreeMap<DeviceId, Vec<Assignment>> = BTreeMap::new();
    for some in Among::of(devices) {
        let sql = format!("{ASSIGNMENT} AND device_id IN ({})", some.places(2));
        let query = sqlx::query_as::<Any, Assignment>(AssertSqlSafe(sql)).bind(tenant.to_string());
        for row in some.into_iter().fold(query, |query, id| query.bind(id)).fetch_all(pool).await? {
            all.entry(row.device).or_default().push(row);
        }
    }
    Ok(all)
}

/// The devices of a deployment, by id after `after`.
pub(super) async fn devices(
    pool: &AnyPool,
    tenant: TenantId,
    deployment: DeploymentId,
    after: &str,
    limit: u32,
) -> Result<Vec<Assignment>, StoreError> {
    let sql = format!("{ASSIGNMENT} AND deployment_id = $2 AND device_id > $3 ORDER BY device_id LIMIT $4");
    Ok(sqlx::query_as::<Any, Assignment>(AssertSqlSafe(sql))
        .bind(tenant.to_string())
        .bind(deployment.to_string())
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?)
}

/// Which deployment each device has each subject by: the rows after (`device`, `subject`), in that order.
pub(super) async fn all_assignments(
    pool: &AnyPool,
    tenant: TenantId,
    after: (&str, &str),
    limit: u32,
) -> Result<Vec<Assignment>, StoreError> {
    let sql =
        format!("{ASSIGNMENT} AND (device_id > $2 OR (device_id = $2 AND subject > $3)) ORDER BY device_id, subject LIMIT $4");
    Ok(sqlx::query_as::<Any, Assignment>(AssertSqlSafe(sql))
        .bind(tenant.to_string())
        .bind(after.0)
        .bind(after.1)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?)
}

/// Devices of a deployment by what they reported last.
pub(super) async fn counts(
    pool: &AnyPool,
    tenant: TenantId,
    deployment: DeploymentId,
) -> Result<BTreeMap<Progress, u64>, StoreError> {
    let rows = sqlx::query::<Any>(
        "SELECT progress, COUNT(*) AS devices FROM deployment_devices WHERE tenant_id = $1 AND deployment_id = $2 GROUP BY progress",
    )
    .bind(tenant.to_string())
    .bind(deployment.to_string())
    .fetch_all(pool)
    .await?;
    let mut counts = BTreeMap::new();
    for row in rows {
        counts.insert(read_progress(&row.try_get::<String, _>("progress")?), unsigned(&row, "devices")?);
    }
    Ok(counts)
}

/// The devices of a deployment that are neither ready nor failed.
pub(super) async fn unfinished(
    pool: &AnyPool,
    tenant: TenantId,
    deployment: DeploymentId,
) -> Result<Vec<(DeviceId, Progress)>, StoreError> {
    let rows = sqlx::query::<Any>(
        "SELECT device_id, progress FROM deployment_devices WHERE tenant_id = $1 AND deployment_id = $2 \
         AND progress IN ('pending', 'downloading')",
    )
    .bind(tenant.to_string())
    .bind(deployment.to_string())
    .fetch_all(pool)
    .await?;
    let read = |row: &AnyRow| Ok((parsed(row, "device_id")?, read_progress(&row.try_get::<String, _>("progress")?)));
    Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
}

fn write_progress(progress: Progress) -> &'static str {
    match progress {
        Progress::Pending | Progress::Offline => "pending",
        Progress::Downloading => "downloading",
        Progress::Ready => "ready",
        Progress::Failed => "failed",
    }
}

pub(super) fn read_progress(text: &str) -> Progress {
    match text {
        "downloading" => Progress::Downloading,
        "ready" => Progress::Ready,
        "failed" => Progress::Failed,
        // The column's check allows no other.
        _ => Progress::Pending,
    }
}

pub(super) fn parsed<T>(row: &AnyRow, column: &str) -> Result<T, sqlx::Error>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.try_get::<String, _>(column)?.parse().map_err(|error| undecodable(column, error))
}

pub(super) fn unsigned(row: &AnyRow, column: &str) -> Result<u64, sqlx::Error> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|error| undecodable(column, error))
}

/// Versions are far below `i64::MAX`: the registry counts them up one by one.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn undecodable(column: &str, source: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(source) }
}
