//! The paths of a device's status, each with the type of its JSON value. A path's meaning never changes; new ones are added.

/// [`crate::inventory::Inventory`].
pub const INVENTORY: &str = "inventory";
/// The agent's version, a string.
pub const AGENT_VERSION: &str = "agent/version";
/// [`super::ReleaseStatus`]: where the agent's own update stands.
pub const AGENT_RELEASE: &str = "agent/release";
/// [`super::SettingsStatus`]: which settings of the control plane hold.
pub const AGENT_CONFIG: &str = "agent/config";
/// [`super::LinkStatus`]: which transport, since when, why not the other.
pub const LINK: &str = "link";
/// [`super::TrustStatus`]: by whose word this device installs.
pub const TRUST: &str = "trust";
/// [`super::DrainStatus`]: that this device takes no inference requests; absent while it does.
pub const DRAIN: &str = "drain";
/// Prefix of `models/<name>`: [`super::ModelStatus`].
pub const MODELS: &str = "models/";
/// Prefix of `health/<subject>`: [`super::SignedHealth`].
pub const HEALTH: &str = "health/";
/// Prefix of `transfers/<subject>`: [`super::Transfer`].
pub const TRANSFERS: &str = "transfers/";
/// Prefix of `components/<name>`: [`super::ComponentStatus`].
pub const COMPONENTS: &str = "components/";
/// Epoch and heads that the device has applied, [`super::IntentStatus`].
pub const INTENT: &str = "intent";
