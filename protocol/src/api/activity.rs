//! Activity: `/api/v1/activity`, who did what to what, when and from where. Entries are only ever added.

use crate::{EventId, time::Micros};
use serde::{Deserialize, Serialize};

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ActivityView {
    /// Its id.
    pub id: EventId,
    /// When.
    pub at: Micros,
    /// Who: `key:<id>`, `device:<id>`, `site:<user>` or `system`.
    pub actor: String,
    /// What, as `noun.verb`: `device.revoke`.
    pub action: String,
    /// To what: an id or a name.
    pub target: String,
    /// What else there is to know; an object, never a secret.
    pub detail: serde_json::Value,
    /// The address that the request came from; absent for what the control plane does by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}
