//! Deltas between artifacts, in the database: which pairs devices asked for, and the patches there are.

use super::chunks::Standing;
use super::{parsed, signed, unsigned};
use crate::platform::db::StoreError;
use aidos_protocol::{TenantId, artifact::Digest, time::Micros};
use sqlx::{Any, AnyConnection, AnyPool, FromRow, Row as _, any::AnyRow};

/// A pair of artifacts, and the window that a patch between them may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Pair {
    pub(crate) base: Digest,
    pub(crate) target: Digest,
    pub(crate) window_log: u8,
}

impl FromRow<'_, AnyRow> for Pair {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let window = unsigned(row, "window_log")?;
        Ok(Self { base: parsed(row, "base")?, target: parsed(row, "target")?, window_log: u8::try_from(window).unwrap_or(0) })
    }
}

/// A patch that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PatchRow {
    pub(crate) patch: Digest,
    pub(crate) size: u64,
}

/// How a pair is bound into a statement: tenant, base, target, window.
macro_rules! of_pair {
    ($sql:expr, $tenant:expr, $pair:expr) => {
        sqlx::query::<Any>($sql)
            .bind($tenant.to_string())
            .bind($pair.base.to_string())
            .bind($pair.target.to_string())
            .bind(i64::from($pair.window_log))
    };
}

pub(in crate::registry) async fn patch(pool: &AnyPool, tenant: TenantId, pair: &Pair) -> Result<Standing<PatchRow>, StoreError> {
    let sql = "SELECT state, patch, size FROM artifact_deltas WHERE tenant_id = $1 AND base = $2 AND target = $3 \
               AND window_log = $4";
    let Some(row) = of_pair!(sql, tenant, pair).fetch_optional(pool).await? else { return Ok(Standing::Unknown) };
    if row.try_get::<String, _>("state")? != "ready" {
        return Ok(Standing::Absent);
    }
    Ok(Standing::Ready(PatchRow { patch: parsed(&row, "patch")?, size: unsigned(&row, "size")? }))
}

/// Counts that devices asked for a pair `more` times; from `popular` on it is due. At most `pairs` are kept of a tenant: when
/// there are as many, a new one is not counted. Both artifacts must be there.
pub(in crate::registry) async fn asked(
    tx: &mut AnyConnection,
    tenant: TenantId,
    pair: &Pair,
    (more, popular, pairs): (u64, u64, u64),
    now: Micros,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO artifact_deltas (tenant_id, base, target, window_log, state, since_us, asked, asked_us) \
               SELECT $1, $2, $3, $4, 'counting', $5, 0, $5 WHERE (SELECT COUNT(*) FROM artifact_deltas WHERE tenant_id = $1) < $6 \
               AND (SELECT COUNT(*) FROM artifacts WHERE tenant_id = $1 AND (digest = $2 OR digest = $3)) = 2 \
               ON CONFLICT (tenant_id, base, target, window_log) DO NOTHING";
    of_pair!(sql, tenant, pair).bind(now.0).bind(signed(pairs)).execute(&mut *tx).await?;
    let sql = "UPDATE artifact_deltas SET asked = asked + $5, asked_us = $6, \
               since_us = CASE WHEN state = 'counting' AND asked + $5 >= $7 THEN $6 ELSE since_us END, \
               state = CASE WHEN state = 'counting' AND asked + $5 >= $7 THEN 'due' ELSE state END \
               WHERE tenant_id = $1 AND base = $2 AND target = $3 AND window_log = $4";
    of_pair!(sql, tenant, pair).bind(signed(more)).bind(now.0).bind(signed(popular)).execute(tx).await?;
    Ok(())
}

/// The tenant with the pair that was asked for most and is due, or was left in the middle before `stale`; nothing of theirs.
pub(in crate::registry) async fn waiting(pool: &AnyPool, now: Micros, stale: Micros) -> Result<Option<TenantId>, StoreError> {
    let row = sqlx::query::<Any>(
        "SELECT tenant_id FROM artifact_deltas WHERE (state = 'due' AND since_us <= $1) \
         OR (state = 'building' AND since_us <= $2) ORDER BY asked DESC, since_us LIMIT 1",
    )
    .bind(now.0)
    .bind(stale.0)
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| parsed(&row, "tenant_id")).transpose()?)
}

/// Takes the pair that was asked for most, unless it was begun `tries` times before; then it is given up.
pub(in crate::registry) async fn claim(
    tx: &mut AnyConnection,
    tenant: TenantId,
    now: Micros,
    stale: Micros,
    tries: u64,
) -> Result<Option<Pair>, StoreError> {
    sqlx::query::<Any>(
        "UPDATE artifact_deltas SET state = 'failed', since_us = $2, \
         reason = CASE WHEN reason = '' THEN 'the control plane ended each time while it was made' ELSE reason END \
         WHERE tenant_id = $1 AND tries >= $4 AND (state = 'due' OR (state = 'building' AND since_us <= $3))",
    )
    .bind(tenant.to_string())
    .bind(now.0)
    .bind(stale.0)
    .bind(signed(tries))
    .execute(&mut *tx)
    .await?;
    let pair = sqlx::query_as::<Any, Pair>(
        "SELECT base, target, window_log FROM artifact_deltas WHERE tenant_id = $1 AND ((state = 'due' AND since_us <= $2) \
         OR (state = 'building' AND since_us <= $3)) ORDER BY asked DESC, since_us, base, target, window_log LIMIT 1",
    )
    .bind(tenant.to_string())
    .bind(now.0)
    .bind(stale.0)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(pair) = pair else { return Ok(None) };
    // The condition stands twice: another control plane may have taken the row between the two readings.
    let sql = "UPDATE artifact_deltas SET state = 'building', tries = tries + 1, since_us = $5 WHERE tenant_id = $1 AND base = $2 \
               AND target = $3 AND window_log = $4 AND ((state = 'due' AND since_us <= $5) OR (state = 'building' AND since_us <= $6))";
    let taken = of_pair!(sql, tenant, pair).bind(now.0).bind(stale.0).execute(tx).await?;
    Ok((taken.rows_affected() > 0).then_some(pair))
}

/// What came of making a patch.
#[derive(Debug)]
pub(in crate::registry) enum Made<'a> {
    /// It is there.
    Patch { patch: Digest, size: u64, algorithm: &'a str },
    /// It saves nothing, for this reason; it is not made again.
    Useless(&'a str),
    /// It was not made; it is tried again after this time.
    Failed { reason: &'a str, again: Micros },
}

pub(in crate::registry) async fn made(
    tx: &mut AnyConnection,
    tenant: TenantId,
    pair: &Pair,
    made: Made<'_>,
    now: Micros,
) -> Result<(), StoreError> {
    let (state, since, patch, size, algorithm, reason) = match made {
        Made::Patch { patch, size, algorithm } => ("ready", now, Some(patch.to_string()), size, algorithm, ""),
        Made::Useless(reason) => ("useless", now, None, 0, "", reason),
        Made::Failed { reason, again } => ("due", again, None, 0, "", reason),
    };
    let sql = "UPDATE artifact_deltas SET state = $5, since_us = $6, patch = $7, size = $8, algorithm = $9, reason = $10 \
               WHERE tenant_id = $1 AND base = $2 AND target = $3 AND window_log = $4 AND state = 'building'";
    of_pair!(sql, tenant, pair)
        .bind(state)
        .bind(since.0)
        .bind(patch)
        .bind(signed(size))
        .bind(algorithm)
        .bind(reason)
        .execute(tx)
        .await?;
    Ok(())
}

/// Removes the patches that were not asked for longest until those of the tenant have at most `budget` bytes; but never `newest`.
/// Returns what they were.
pub(in crate::registry) async fn evict(
    tx: &mut AnyConnection,
    tenant: TenantId,
    newest: &Digest,
    budget: u64,
) -> Result<Vec<Digest>, StoreError> {
    let rows = sqlx::query::<Any>(
        "SELECT base, target, window_log, patch, size FROM artifact_deltas WHERE tenant_id = $1 AND state = 'ready' \
         ORDER BY asked_us, base, target, window_log",
    )
    .bind(tenant.to_string())
    .fetch_all(&mut *tx)
    .await?;
    let mut bytes = 0_u64;
    for row in &rows {
        bytes += unsigned(row, "size")?;
    }
    let mut evicted = Vec::new();
    for row in &rows {
        let patch = parsed(row, "patch")?;
        if bytes <= budget {
            break;
        }
        if patch == *newest {
            continue;
        }
        let pair = Pair::from_row(row)?;
        let sql = "DELETE FROM artifact_deltas WHERE tenant_id = $1 AND base = $2 AND target = $3 AND window_log = $4";
        of_pair!(sql, tenant, pair).execute(&mut *tx).await?;
        bytes -= unsigned(row, "size")?;
        evicted.push(patch);
    }
    Ok(evicted)
}

/// Forgets pairs without a patch that nobody has asked for since `before`. Returns how many.
pub(in crate::registry) async fn forget(tx: &mut AnyConnection, tenant: TenantId, before: Micros) -> Result<u64, StoreError> {
    let done = sqlx::query::<Any>(
        "DELETE FROM artifact_deltas WHERE tenant_id = $1 AND asked_us < $2 AND state IN ('counting', 'useless', 'failed')",
    )
    .bind(tenant.to_string())
    .bind(before.0)
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
