//! Points in time as both sides write them. This module knows how to print and add, never what time it is.

use serde::{Deserialize, Serialize};

/// Microseconds since the Unix epoch, UTC. On REST it is an integer; nothing here asks a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
pub struct Micros(pub i64);

impl Micros {
    /// This point and `seconds` more; saturating.
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }
    /// Whole milliseconds since the epoch; 0 for times before it.
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0 / 1_000).unwrap_or(0)
    }
}
