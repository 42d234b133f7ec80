//! Devices: `/api/v1/devices`, what each of them is, what it should do and what it says that it does.

use crate::artifact::Digest;
use crate::inventory::Inventory;
use crate::time::Micros;
use crate::twin::{ComponentStatus, IntentStatus, IntentView, LinkStatus, ModelState, TrustStatus};
use crate::{DeviceId, ModelName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest name of a device, in characters; host names have at most 253.
pub const MAX_NAME_CHARS: usize = 253;
/// The longest text that `?q=` searches for, in characters.
pub const MAX_QUERY_CHARS: usize = 128;

/// Whether a device can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// It has a session now.
    Online,
    /// It has none; what is asked of it waits.
    Offline,
    /// It may never have one again.
    Revoked,
}

/// The order of a list of devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceSort {
    /// By name, then by id.
    #[default]
    Name,
    /// The latest enrolled first.
    Newest,
    /// The latest heard of first; those never heard of last.
    LastSeen,
}

/// A device as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeviceView {
    /// Its id.
    pub id: DeviceId,
    /// Its name, for people; two devices may share one.
    pub name: String,
    /// Whether it can be reached.
    pub state: DeviceState,
    /// Its labels, by which selectors find it.
    pub labels: BTreeMap<String, String>,
    /// `quic` or `mqtt`: the transport of its present or last session.
    pub transport: Option<String>,
    /// Where its present or last session came from.
    pub address: Option<String>,
    /// The agent's version as of its present or last session.
    pub agent_version: Option<String>,
    /// When it enrolled.
    pub created_at: Micros,
    /// When it was last heard of.
    pub last_seen_at: Option<Micros>,
    /// When its newest certificate ends; it renews long before.
    pub certificate_expires_at: Micros,
    /// When it was revoked.
    pub revoked_at: Option<Micros>,
    /// Since when it takes no inference requests over HTTP, as it reports itself; absent while it takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained_at: Option<Micros>,
}

/// `GET /api/v1/devices/{id}`: everything about one device that fits on a page. Its ETag is what `If-Match` takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeviceDetail {
    /// The device as it is listed.
    #[serde(flatten)]
    pub device: DeviceView,
    /// Notes of people for people.
    pub notes: BTreeMap<String, String>,
    /// Each model that is wanted or is there.
    #[schema(value_type = BTreeMap<String, DeviceModel>)]
    pub models: BTreeMap<ModelName, DeviceModel>,
    /// What it is made of; absent until it has reported.
    pub inventory: Option<Inventory>,
    /// Its link as it sees it itself; absent until it has reported.
    pub link: Option<LinkStatus>,
    /// By whose word it installs; absent until it has reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustStatus>,
    /// The agent's components.
    pub components: BTreeMap<String, ComponentStatus>,
    /// What of the intent it has applied; absent until it has reported.
    pub applied: Option<IntentStatus>,
    /// Whether it reports everything that is wanted of it.
    pub in_sync: bool,
}

/// One model on one device: what is wanted beside what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeviceModel {
    /// The version that should be active; absent when the model should not be there.
    pub desired_version: Option<u64>,
    /// The version that answers now.
    pub active_version: Option<u64>,
    /// The version that is kept beside it.
    pub previous_version: Option<u64>,
    /// Where the desired version stands.
    pub state: ModelState,
    /// Why it failed; empty otherwise.
    pub error: String,
    /// Digest of the active version's file.
    pub digest: Option<Digest>,
    /// What runs it; empty while nothing does.
    pub engine: String,
    /// Since when it is in `state`; absent until the device has reported.
    pub since: Option<Micros>,
}

/// `PATCH /api/v1/devices/{id}`. What is absent stays; a label or note that is `null` is removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchDevice {
    /// The new name, 1 to [`MAX_NAME_CHARS`] visible characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels to set or, with `null`, to remove.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    /// Notes to set or, with `null`, to remove.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, Option<String>>,
}

/// `GET /api/v1/devices/{id}/twin`. Its ETag is what `If-Match` takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TwinView {
    /// The device.
    pub device: DeviceId,
    /// Grows with every change of the intent, whoever made it.
    pub revision: u64,
    /// What is wanted, conflicts and their authors included.
    pub intent: IntentView,
    /// What the device reports, path by path.
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub status: BTreeMap<String, serde_json::Value>,
    /// Where what is reported differs from what is wanted; empty when the device has converged.
    pub differences: Vec<Difference>,
}

/// One thing that is not yet as it is wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// `models/digits`, or `intent` when the device has not applied the newest edits.
    pub path: String,
    /// What is wanted; absent when it should not be there.
    pub desired: Option<String>,
    /// What the device reports; absent when it reports nothing.
    pub reported: Option<String>,
    /// Where it stands, or why it failed.
    pub reason: String,
}

/// What `/api/v1/devices/{id}/config` answers and takes: `PUT` replaces all of it, with `PATCH` a `null` removes.
pub type Config = BTreeMap<String, serde_json::Value>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_tells_removing_from_leaving_alone_and_names_a_misspelt_field() {
        let patch: PatchDevice = serde_json::from_str(r#"{"labels":{"site":"lab","old":null}}"#).unwrap();
        assert_eq!(patch.labels["site"].as_deref(), Some("lab"));
        assert_eq!(patch.labels["old"], None);
        assert!(patch.name.is_none() && patch.notes.is_empty());
        let error = serde_json::from_str::<PatchDevice>(r#"{"label":{}}"#).unwrap_err();
        assert!(error.to_string().contains("label"), "{error}");
    }
}
