//! The record of who did what to what, and from where. Entries are written in the transaction of what they tell, and never
//! changed or removed; the database refuses it too. Who watches is told of each once that transaction is durable.

use super::{Caller, store};
use crate::platform::clock::Clock;
use crate::platform::db::{Db, StoreError, Tx};
use crate::platform::http::Events;
use aidos_protocol::api::activity::ActivityView;
use aidos_protocol::{EventId, TenantId, time::Micros};
use serde::Deserialize;

/// The longest detail that is kept, in bytes of JSON: a whole card or manifest does not belong here.
const MAX_DETAIL: usize = 16 << 10;

/// The activity of all tenants; a clone shares it.
#[derive(Clone)]
pub(crate) struct Activity {
    db: Db,
    clock: Clock,
    events: Events,
}

/// What to list.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ActivityQuery {
    /// Only what this actor did: `key:<id>`, `device:<id>`, `site:<user>` or `system`.
    pub(crate) actor: Option<String>,
    /// Only this action, such as `device.revoke`.
    pub(crate) action: Option<String>,
    /// Only what was done to this.
    pub(crate) target: Option<String>,
    /// Only from this time on, in microseconds since the epoch.
    pub(crate) since: Option<i64>,
    /// Only before this time, in microseconds since the epoch.
    pub(crate) until: Option<i64>,
}

impl Activity {
    /// The record kept in `db`; `events` tell of each entry.
    pub(crate) fn new(db: Db, clock: Clock, events: Events) -> Self {
        Self { db, clock, events }
    }

    /// Adds an entry to the transaction of what it tells. `action` is `noun.verb`; `detail` never holds a secret.
    pub(crate) async fn record(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        action: &str,
        target: &str,
        detail: serde_json::Value,
    ) -> Result<(), StoreError> {
        let mut detail = detail.to_string();
        if detail.len() > MAX_DETAIL {
            detail = serde_json::json!({ "omitted_bytes": detail.len() }).to_string();
        }
        let at = self.clock.now();
        let row = store::ActivityRow {
            id: EventId::new(at.as_millis()),
            at,
            actor: caller.actor.clone(),
            action: action.to_owned(),
            target: target.to_owned(),
            detail,
            from: caller.from.map(|ip| ip.to_string()),
        };
        store::insert_activity(tx, caller.tenant, &row).await?;
        let (events, tenant) = (self.events.clone(), caller.tenant);
        tx.afterwards(move || {
            let data = serde_json::json!({ "actor": row.actor, "action": row.action, "target": row.target });
            events.publish(tenant, "activity.created", &row.id.to_string(), data);
        });
        Ok(())
    }

    /// Entries, newest first, after the entry at `after`.
    pub(crate) async fn list(
        &self,
        tenant: TenantId,
        query: &ActivityQuery,
        after: Option<(Micros, EventId)>,
        limit: usize,
    ) -> Result<Vec<ActivityView>, StoreError> {
        store::list_activity(self.db.pool(), tenant, query, after, limit).await
    }
}
