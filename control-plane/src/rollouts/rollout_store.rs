//! Rollouts and their devices in the database. Every statement names the tenant.

use super::course::{Course, Reading, Tally};
use super::desired::Desired;
use super::machine::Admission;
use super::store::{parsed, signed, undecodable, unsigned};
use crate::platform::db::{Among, StoreError};
use aidos_protocol::api::overview::RolloutCounts;
use aidos_protocol::api::rollouts::{Outcome, RolloutPhase};
use aidos_protocol::rollout::Plan;
use aidos_protocol::twin::HealthReport;
use aidos_protocol::{DeploymentId, DeviceId, TenantId, time::Micros};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, FromRow, Row as _, any::AnyRow};
use std::collections::{BTreeMap, BTreeSet};

/// Rows of one statement: SQLite and Postgres both take so many parameters.
const ROWS: usize = 500;

/// A rollout as it is stored, beside its deployment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rollout {
    pub(super) id: DeploymentId,
    pub(super) plan: Plan,
    pub(super) course: Course,
    pub(super) readings: Vec<Reading>,
    /// The highest rank of each wave.
    pub(super) bounds: Vec<u64>,
    pub(super) undoes: Option<DeploymentId>,
    pub(super) revision: i64,
    pub(super) updated: Micros,
}

/// A device of a rollout.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub(super) device: DeviceId,
    pub(super) wave: usize,
    pub(super) outcome: Outcome,
    pub(super) trial: bool,
    pub(super) reason: String,
    pub(super) report: Option<HealthReport>,
    /// Bytes that came over the site's line for the file.
    pub(super) fetched: Option<u64>,
    pub(super) told: Option<Micros>,
    pub(super) updated: Micros,
}

/// How far a rollout's devices are.
#[derive(Debug, Clone, Default)]
pub(super) struct Tallies {
    /// Up to the last wave that has devices.
    pub(super) waves: Vec<Tally>,
    /// Devices that have told what came over their line for the file.
    pub(super) told: u64,
    /// How many bytes that was together.
    pub(super) bytes: u64,
}

/// What is drawn of a device of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) device: DeviceId,
    pub(super) wave: usize,
    pub(super) outcome: Outcome,
}

impl FromRow<'_, AnyRow> for Rollout {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let undoes = row.try_get::<Option<String>, _>("undoes")?.map(|text| text.parse()).transpose();
        Ok(Self {
            id: parsed(row, "id")?,
            plan: json(row, "plan")?,
            course: json(row, "course")?,
            readings: json(row, "readings")?,
            bounds: json(row, "bounds")?,
            undoes: undoes.map_err(|error| undecodable("undoes", error))?,
            revision: row.try_get("revision")?,
            updated: Micros(row.try_get("updated_us")?),
        })
    }
}

impl FromRow<'_, AnyRow> for Member {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let report = row.try_get::<Option<String>, _>("report")?.map(|text| serde_json::from_str(&text)).transpose();
        Ok(Self {
            device: parsed(row, "device_id")?,
            wave: wave(row)?,
            outcome: outcome(row)?,
            trial: row.try_get::<i64, _>("trial")? != 0,
            reason: row.try_get("reason")?,
            report: report.map_err(|error| undecodable("report", error))?,
            fetched: row.try_get::<Option<i64>, _>("fetched")?.and_then(|bytes| u64::try_from(bytes).ok()),
            told: row.try_get::<Option<i64>, _>("told_us")?.map(Micros),
            updated: Micros(row.try_get("updated_us")?),
        })
    }
}

const ROLLOUT: &str =
    "SELECT id, plan, course, readings, bounds, undoes, revision, updated_us FROM rollouts WHERE tenant_id = $1";
const MEMBER: &str = "SELECT device_id, wave, outcome, trial, reason, report, fetched, told_us, updated_us FROM rollout_devices \
     WHERE tenant_id = $1";

pub(super) async fn insert(tx: &mut AnyConnection, tenant: TenantId, row: &Rollout) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "INSERT INTO rollouts (tenant_id, id, plan, course, phase, bounds, undoes, updated_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(tenant.to_string())
    .bind(row.id.to_string())
    .bind(text(&row.plan))
    .bind(text(&row.course))
    .bind(phase_word(row.course.phase))
    .bind(text(&row.bounds))
    .bind(row.undoes.map(|id| id.to_string()))
    .bind(row.updated.0)
    .execute(tx)
    .await?;
    Ok(())
}

/// Adds devices that are not told yet; one that is in it already stays as it is.
pub(super) async fn add_members(
    tx: &mut AnyConnection,
    tenant: TenantId,
    rollout: DeploymentId,
    members: &[(DeviceId, usize)],
    now: Micros,
) -> Result<(), StoreError> {
    for some in members.chunks(ROWS) {
        let rows: Vec<String> =
            (0..some.len()).map(|row| format!("($1, $2, ${}, ${}, 'waiting', $3)", 4 + 2 * row, 5 + 2 * row)).collect();
        let sql = format!(
            "INSERT INTO rollout_devices (tenant_id, rollout_id, device_id, wave, outcome, updated_us) VALUES {} \
             ON CONFLICT (tenant_id, rollout_id, device_id) DO NOTHING",
            rows.join(", ")
        );
        let mut query = sqlx::query::<Any>(AssertSqlSafe(sql)).bind(tenant.to_string()).bind(rollout.to_string()).bind(now.0);
        for (device, wave) in some {
            query = query.bind(device.to_string()).bind(i64::try_from(*wave).unwrap_or(i64::MAX));
        }
        query.execute(&mut *tx).await?;
    }
    Ok(())
}

/// Those of `ids` that are rollouts.
pub(super) async fn rollouts(
    pool: &AnyPool,
    tenant: TenantId,
    ids: &[DeploymentId],
) -> Result<BTreeMap<DeploymentId, Rollout>, StoreError> {
    let mut all = BTreeMap::new();
    for some in Among::of(ids) {
        let query = sqlx::query_as::<Any, Rollout>(AssertSqlSafe(format!("{ROLLOUT} AND id IN ({})", some.places(2))));
        let query = query.bind(tenant.to_string());
        let rows = some.into_iter().fold(query, |query, id| query.bind(id)).fetch_all(pool).await?;
        all.extend(rows.into_iter().map(|row| (row.id, row)));
    }
    Ok(all)
}

pub(super) async fn rollout(
    at: impl sqlx::Executor<'_, Database = Any>,
    tenant: TenantId,
    id: DeploymentId,
) -> Result<Option<Rollout>, StoreError> {
    Ok(sqlx::query_as::<Any, Rollout>(AssertSqlSafe(format!("{ROLLOUT} AND id = $2")))
        .bind(tenant.to_string())
        .bind(id.to_string())
        .fetch_optional(at)
        .await?)
}

/// The rollouts that may still go on.
pub(super) async fn unfinished(pool: &AnyPool, tenant: TenantId) -> Result<Vec<DeploymentId>, StoreError> {
    let sql = "SELECT id FROM rollouts WHERE tenant_id = $1 AND phase IN ('running', 'paused') ORDER BY id";
    let rows = sqlx::query::<Any>(sql).bind(tenant.to_string()).fetch_all(pool).await?;
    Ok(rows.iter().map(|row| parsed(row, "id")).collect::<Result<_, _>>()?)
}

/// Writes a rollout's course, if it is still at `row.revision`. Returns whether it was.
pub(super) async fn update(tx: &mut AnyConnection, tenant: TenantId, row: &Rollout, now: Micros) -> Result<bool, StoreError> {
    let done = sqlx::query::<Any>(
        "UPDATE rollouts SET course = $4, phase = $5, readings = $6, updated_us = $7, revision = revision + 1 \
         WHERE tenant_id = $1 AND id = $2 AND revision = $3",
    )
    .bind(tenant.to_string())
    .bind(row.id.to_string())
    .bind(row.revision)
    .bind(text(&row.course))
    .bind(phase_word(row.course.phase))
    .bind(text(&row.readings))
    .bind(now.0)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// How far the devices of each of `rollouts` are, wave by wave, and what it took; one without devices is left out.
pub(super) async fn tallies(
    pool: &AnyPool,
    tenant: TenantId,
    rollouts: &[DeploymentId],
) -> Result<BTreeMap<DeploymentId, Tallies>, StoreError> {
    let mut all: BTreeMap<DeploymentId, Tallies> = BTreeMap::new();
    for some in Among::of(rollouts) {
        let sql = format!(
            "SELECT rollout_id, wave, outcome, trial, COUNT(*) AS devices, COUNT(fetched) AS told, \
             CAST(COALESCE(SUM(fetched), 0) AS BIGINT) AS bytes FROM rollout_devices WHERE tenant_id = $1 AND rollout_id IN ({}) \
             GROUP BY rollout_id, wave, outcome, trial",
            some.places(2)
        );
        let query = sqlx::query::<Any>(AssertSqlSafe(sql)).bind(tenant.to_string());
        for row in &some.into_iter().fold(query, |query, id| query.bind(id)).fetch_all(pool).await? {
            let tallies = all.entry(parsed(row, "rollout_id")?).or_default();
            let (devices, trial, wave) = (unsigned(row, "devices")?, row.try_get::<i64, _>("trial")? != 0, wave(row)?);
            if tallies.waves.len() <= wave {
                tallies.waves.resize(wave + 1, Tally::default());
            }
            *tallies.waves[wave].of(outcome(row)?, trial) += devices;
            tallies.told += unsigned(row, "told")?;
            tallies.bytes += unsigned(row, "bytes")?;
        }
    }
    Ok(all)
}

/// The devices that are on their way to the version.
pub(super) async fn changing(pool: &AnyPool, tenant: TenantId, rollout: DeploymentId) -> Result<Vec<DeviceId>, StoreError> {
    let sql =
        "SELECT device_id FROM rollout_devices WHERE tenant_id = $1 AND rollout_id = $2 AND outcome = 'changing' AND trial = 0";
    let rows = sqlx::query::<Any>(sql).bind(tenant.to_string()).bind(rollout.to_string()).fetch_all(pool).await?;
    Ok(rows.iter().map(|row| parsed(row, "device_id")).collect::<Result<_, _>>()?)
}

/// The devices of a wave that may be told: to take part in the experiment, or else to run the version.
pub(super) async fn candidates(
    pool: &AnyPool,
    tenant: TenantId,
    rollout: DeploymentId,
    wave: usize,
    trial: bool,
) -> Result<Vec<DeviceId>, StoreError> {
    let rows = sqlx::query::<Any>(
        "SELECT device_id FROM rollout_devices WHERE tenant_id = $1 AND rollout_id = $2 AND wave = $3 AND (outcome = 'waiting' \
         OR ($4 = 0 AND trial = 1 AND outcome IN ('changing', 'trying'))) ORDER BY device_id",
    )
    .bind(tenant.to_string())
    .bind(rollout.to_string())
    .bind(i64::try_from(wave).unwrap_or(i64::MAX))
    .bind(i64::from(trial))
    .fetch_all(pool)
    .await?;
    Ok(rows.iter().map(|row| parsed(row, "device_id")).collect::<Result<_, _>>()?)
}

/// What the devices of a wave reported.
pub(super) async fn reports(
    pool: &AnyPool,
    tenant: TenantId,
    rollout: DeploymentId,
    wave: usize,
) -> Result<Vec<HealthReport>, StoreError> {
    let rows = sqlx::query::<Any>(
        "SELECT report FROM rollout_devices WHERE tenant_id = $1 AND rollout_id = $2 AND wave = $3 AND report IS NOT NULL",
    )
    .bind(tenant.to_string())
    .bind(rollout.to_string())
    .bind(i64::try_from(wave).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await?;
    Ok(rows.iter().map(|row| json(row, "report")).collect::<Result<_, _>>()?)
}

/// Writes down that devices are told, before they are.
pub(super) async fn admit(
    tx: &mut AnyConnection,
    tenant: TenantId,
    rollout: DeploymentId,
    devices: &[DeviceId],
    trial: bool,
    now: Micros,
) -> Result<(), StoreError> {
    for some in devices.chunks(ROWS) {
        let places: Vec<String> = (0..some.len()).map(|place| format!("${}", 5 + place)).collect();
        // What it reported of the experiment is not of the version answering alone.
        let sql = format!(
            "UPDATE rollout_devices SET outcome = 'changing', trial = $3, told_us = $4, updated_us = $4, report = NULL, \
             reason = '' WHERE tenant_id = $1 AND rollout_id = $2 AND device_id IN ({})",
            places.join(", ")
        );
        let mut query = sqlx::query::<Any>(AssertSqlSafe(sql)).bind(tenant.to_string()).bind(rollout.to_string());
        query = query.bind(i64::from(trial)).bind(now.0);
        for device in some {
            query = query.bind(device.to_string());
        }
        query.execute(&mut *tx).await?;
    }
    Ok(())
}

/// Devices that were told and have said nothing since `before` count as silent, those that run or try the version since
/// `watching`: without traffic they have nothing to say until their watch is over. Returns how many.
pub(super) async fn silence(
    tx: &mut AnyConnection,
    tenant: TenantId,
    rollout: DeploymentId,
    (before, watching): (Micros, Micros),
    now: Micros,
) -> Result<u64, StoreError> {
    let done = sqlx::query::<Any>(
        "UPDATE rollout_devices SET outcome = 'silent', reason = 'it said nothing by the deadline', updated_us = $4 \
         WHERE tenant_id = $1 AND rollout_id = $2 AND ((outcome = 'changing' AND updated_us < $3) \
         OR (outcome IN ('trying', 'running') AND updated_us < $5))",
    )
    .bind(tenant.to_string())
    .bind(rollout.to_string())
    .bind(before.0)
    .bind(now.0)
    .bind(watching.0)
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// When the device that has been silent longest was heard of.
pub(super) async fn quietest(pool: &AnyPool, tenant: TenantId, rollout: DeploymentId) -> Result<Option<Micros>, StoreError> {
    let row = sqlx::query::<Any>(
        "SELECT MIN(updated_us) AS since FROM rollout_devices WHERE tenant_id = $1 AND rollout_id = $2 \
         AND outcome IN ('changing', 'trying', 'running')",
    )
    .bind(tenant.to_string())
    .bind(rollout.to_string())
    .fetch_one(pool)
    .await?;
    Ok(row.try_get::<Option<i64>, _>("since")?.map(Micros))
}

/// Those of `devices` that are in a rollout.
pub(super) async fn members_of(
    pool: &AnyPool,
    tenant: TenantId,
    rollout: DeploymentId,
    devices: &[DeviceId],
) -> Result<BTreeMap<DeviceId, Member>, StoreError> {
    let mut members = BTreeMap::new();
    for some in Among::of(devices) {
        let sql = format!("{MEMBER} AND rollout_id = $2 AND device_id IN ({})", some.places(3));
        let query = sqlx::query_as::<Any, Member>(AssertSqlSafe(sql)).bind(tenant.to_string()).bind(rollout.to_string());
        let rows = some.into_iter().fold(query, |query, id| query.bind(id)).fetch_all(pool).await?;
        members.extend(rows.into_iter().map(|member| (member.device, member)));
    }
    Ok(members)
}

/// The devices of a rollout, by id after `after`; of one wave and in one outcome where given.
pub(super) async fn members(
    pool: &AnyPool,
    tenant: TenantId,
    rollout: DeploymentId,
    filter: (Option<usize>, Option<Outcome>),
    after: &str,
    limit: u32,
) -> Result<Vec<Member>, StoreError> {
    // What is not asked for is not in the statement: a condition that may hold for everything keeps an index from being used.
    let mut sql = format!("{MEMBER} AND rollout_id = $2 AND device_id > $3");
    if filter.0.is_some() {
        sql += " AND wave = $5";
    }
    if let Some(outcome) = filter.1 {
        sql += &format!(" AND outcome = '{}'", word(outcome));
    }
    let query = sqlx::query_as::<Any, Member>(AssertSqlSafe(sql + " ORDER BY device_id LIMIT $4"))
        .bind(tenant.to_string())
        .bind(rollout.to_string())
        .bind(after)
        .bind(i64::from(limit));
    let query = match filter.0 {
        Some(wave) => query.bind(i64::try_from(wave).unwrap_or(i64::MAX)),
        None => query,
    };
    Ok(query.fetch_all(pool).await?)
}

/// Every device of a rollout with its wave and outcome, wave by wave, within a wave by id.
pub(super) async fn cells(pool: &AnyPool, tenant: TenantId, rollout: DeploymentId) -> Result<Vec<Cell>, StoreError> {
    let sql = "SELECT device_id, wave, outcome FROM rollout_devices WHERE tenant_id = $1 AND rollout_id = $2 ORDER BY device_id";
    let rows = sqlx::query::<Any>(sql).bind(tenant.to_string()).bind(rollout.to_string()).fetch_all(pool).await?;
    let cell = |row: &AnyRow| Ok(Cell { device: parsed(row, "device_id")?, wave: wave(row)?, outcome: outcome(row)? });
    let mut cells = rows.iter().map(cell).collect::<Result<Vec<_>, StoreError>>()?;
    // Here, and stably: the database streams them by id, and would have to sort them all for another order.
    cells.sort_by_key(|cell| cell.wave);
    Ok(cells)
}

/// How many rollouts of a tenant are under way and paused.
pub(super) async fn unfinished_counts(pool: &AnyPool, tenant: TenantId) -> Result<RolloutCounts, StoreError> {
    let sql =
        "SELECT phase, COUNT(*) AS rollouts FROM rollouts WHERE tenant_id = $1 AND phase IN ('running', 'paused') GROUP BY phase";
    let mut counts = RolloutCounts::default();
    for row in sqlx::query::<Any>(sql).bind(tenant.to_string()).fetch_all(pool).await? {
        let counted = if row.try_get::<String, _>("phase")? == "paused" { &mut counts.paused } else { &mut counts.running };
        *counted = unsigned(&row, "rollouts")?;
    }
    Ok(counts)
}

/// Writes down what a device said. One that has not been told has nothing to say.
pub(super) async fn put_outcome(
    tx: &mut AnyConnection,
    tenant: TenantId,
    rollout: DeploymentId,
    row: &Member,
) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "UPDATE rollout_devices SET outcome = $4, reason = $5, report = $6, updated_us = $7, fetched = $9 WHERE tenant_id = $1 \
         AND rollout_id = $2 AND device_id = $3 AND outcome <> 'waiting' AND trial = $8",
    )
    .bind(tenant.to_string())
    .bind(rollout.to_string())
    .bind(row.device.to_string())
    .bind(word(row.outcome))
    .bind(&row.reason)
    .bind(row.report.as_ref().map(text))
    .bind(row.updated.0)
    .bind(i64::from(row.trial))
    .bind(row.fetched.map(signed))
    .execute(tx)
    .await?;
    Ok(())
}

/// The places of `devices` in a rollout; `None` where one is not told yet.
pub(super) async fn admissions(
    pool: &AnyPool,
    tenant: TenantId,
    rollout: DeploymentId,
    devices: &[DeviceId],
) -> Result<BTreeMap<DeviceId, Option<Admission>>, StoreError> {
    let mut all = BTreeMap::new();
    for some in Among::of(devices) {
        let sql = format!(
            "SELECT device_id, outcome, trial, before FROM rollout_devices WHERE tenant_id = $1 AND rollout_id = $2 \
             AND device_id IN ({})",
            some.places(3)
        );
        let query = sqlx::query::<Any>(AssertSqlSafe(sql)).bind(tenant.to_string()).bind(rollout.to_string());
        for row in &some.into_iter().fold(query, |query, id| query.bind(id)).fetch_all(pool).await? {
            let before = row.try_get::<Option<String>, _>("before")?.map(|text| serde_json::from_str(&text)).transpose();
            let admission = Admission {
                trial: row.try_get::<i64, _>("trial")? != 0,
                before: before.map_err(|error| undecodable("before", error))?,
            };
            let told = outcome(row)? != Outcome::Waiting;
            all.insert(parsed(row, "device_id")?, Some(admission).filter(|_| told));
        }
    }
    Ok(all)
}

/// The devices that a rollout has told something.
pub(super) async fn admitted(pool: &AnyPool, tenant: TenantId, rollout: DeploymentId) -> Result<BTreeSet<DeviceId>, StoreError> {
    let rows = sqlx::query::<Any>(
        "SELECT device_id FROM rollout_devices WHERE tenant_id = $1 AND rollout_id = $2 AND outcome <> 'waiting'",
    )
    .bind(tenant.to_string())
    .bind(rollout.to_string())
    .fetch_all(pool)
    .await?;
    Ok(rows.iter().map(|row| parsed(row, "device_id")).collect::<Result<_, _>>()?)
}

/// Writes down what was wanted on a device before the rollout, once.
pub(super) async fn remember(
    tx: &mut AnyConnection,
    tenant: TenantId,
    rollout: DeploymentId,
    device: DeviceId,
    before: Option<&Desired>,
) -> Result<(), StoreError> {
    sqlx::query::<Any>(
        "UPDATE rollout_devices SET before = $4 WHERE tenant_id = $1 AND rollout_id = $2 AND device_id = $3 AND before IS NULL",
    )
    .bind(tenant.to_string())
    .bind(rollout.to_string())
    .bind(device.to_string())
    .bind(text(&before))
    .execute(tx)
    .await?;
    Ok(())
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Waiting => "waiting",
        Outcome::Changing => "changing",
        Outcome::Trying => "trying",
        Outcome::Running => "running",
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Silent => "silent",
    }
}

pub(super) fn outcome(row: &AnyRow) -> Result<Outcome, sqlx::Error> {
    Ok(match row.try_get::<String, _>("outcome")?.as_str() {
        "changing" => Outcome::Changing,
        "trying" => Outcome::Trying,
        "running" => Outcome::Running,
        "succeeded" => Outcome::Succeeded,
        "failed" => Outcome::Failed,
        "silent" => Outcome::Silent,
        // The column's check allows no other.
        _ => Outcome::Waiting,
    })
}

pub(super) fn phase_word(phase: RolloutPhase) -> &'static str {
    match phase {
        RolloutPhase::Running => "running",
        RolloutPhase::Paused => "paused",
        RolloutPhase::Finished => "finished",
        RolloutPhase::Aborted => "aborted",
        RolloutPhase::Superseded => "superseded",
    }
}

pub(super) fn wave(row: &AnyRow) -> Result<usize, sqlx::Error> {
    usize::try_from(row.try_get::<i64, _>("wave")?).map_err(|error| undecodable("wave", error))
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("values of rollouts have only text keys")
}

fn json<T: DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(&row.try_get::<String, _>(column)?).map_err(|error| undecodable(column, error))
}
