//! Live events: `GET /api/v1/events` as server-sent events, for pages and tools that show what happens as it happens.

use crate::time::Micros;
use serde::{Deserialize, Serialize};

/// The kind that tells a client that it missed events: it reads what it shows anew.
pub const RESET: &str = "reset";

/// The `data` of one server-sent event; its `event` field repeats `kind`, and its `id` goes back as `Last-Event-ID`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventView {
    /// What happened, as `noun.verb`: `device.online`; or [`RESET`].
    pub kind: String,
    /// To what: an id or a name; empty for [`RESET`].
    pub resource: String,
    /// When.
    pub at: Micros,
    /// What else there is to know.
    pub data: serde_json::Value,
}
