//! `/api/v1/overview`: how a tenant's fleet stands, in a few numbers.

use crate::time::Micros;
use serde::{Deserialize, Serialize};

/// A certificate that ends within this, in seconds, is about to: an agent renews its 30 days after 20.
pub const EXPIRING_S: i64 = 7 * 24 * 3_600;

/// How a fleet stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OverviewView {
    /// Devices by whether they can be reached.
    pub devices: DeviceCounts,
    /// Of those that may connect, how many never did.
    pub never_seen: u64,
    /// Of those that may connect, how many have a certificate that ends within a week or has ended.
    pub certificates_expiring: u64,
    /// Of those that may connect, how many run each version of the agent, by their present or last session; most first.
    pub agent_versions: Vec<AgentVersionCount>,
    /// Rollouts that are not over.
    pub rollouts: RolloutCounts,
    /// Models in the registry.
    pub models: u64,
    /// The control plane's version.
    pub server_version: String,
    /// The control plane's time.
    pub now: Micros,
}

/// Devices by their state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeviceCounts {
    /// With a session now.
    pub online: u64,
    /// Without one.
    pub offline: u64,
    /// That may never have one again.
    pub revoked: u64,
}

/// A version of the agent and how many devices run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentVersionCount {
    /// The version.
    pub version: String,
    /// How many devices.
    pub devices: u64,
}

/// Rollouts by their phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutCounts {
    /// Under way.
    pub running: u64,
    /// Waiting for a person.
    pub paused: u64,
}
