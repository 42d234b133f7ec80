//! Which rollouts show which phase, in the database. Every statement names the tenant.

use super::rollout_store::phase_word;
use super::store::{DEPLOYMENT, Deployment};
use crate::platform::db::StoreError;
use aidos_protocol::api::rollouts::RolloutPhase as Phase;
use aidos_protocol::{Subject, TenantId, time::Micros};
use sqlx::{Any, AnyPool, AssertSqlSafe};
use std::collections::BTreeSet;

/// What a deployment's rollout shows, as the API says it: how the deployment ended, or else where its course stands, or else, of a
/// deployment without a course, whether a device is still on its way.
const SHOWN: &str = "CASE state WHEN 'superseded' THEN 'superseded' WHEN 'stopped' THEN 'aborted' ELSE COALESCE(\
     (SELECT r.phase FROM rollouts r WHERE r.tenant_id = deployments.tenant_id AND r.id = deployments.id), \
     CASE WHEN EXISTS (SELECT 1 FROM deployment_devices a WHERE a.tenant_id = deployments.tenant_id \
     AND a.deployment_id = deployments.id AND a.progress IN ('pending', 'downloading')) THEN 'running' ELSE 'finished' END) END";

/// Deployments older than `before` whose rollouts show one of `phases`, newest first; of `subject` where given.
pub(super) async fn list(
    pool: &AnyPool,
    tenant: TenantId,
    subject: Option<&Subject>,
    phases: &[Phase],
    before: Micros,
    limit: u32,
) -> Result<Vec<Deployment>, StoreError> {
    // So that what is under way, which is little, is not looked for among all that ever was.
    let states: BTreeSet<&str> = phases.iter().map(|phase| state(*phase)).collect();
    let sql = format!(
        "{DEPLOYMENT} AND created_us < $2 AND ($3 = '' OR subject = $3) AND state IN ({}) AND {SHOWN} IN ({}) \
         ORDER BY created_us DESC LIMIT $4",
        quoted(states),
        quoted(phases.iter().map(|phase| phase_word(*phase)))
    );
    Ok(sqlx::query_as::<Any, Deployment>(AssertSqlSafe(sql))
        .bind(tenant.to_string())
        .bind(before.0)
        .bind(subject.map_or("", Subject::as_str))
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?)
}

/// The state of a deployment whose rollout shows `phase`.
fn state(phase: Phase) -> &'static str {
    match phase {
        Phase::Running | Phase::Paused | Phase::Finished => "active",
        Phase::Aborted => "stopped",
        Phase::Superseded => "superseded",
    }
}

fn quoted<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ")
}
