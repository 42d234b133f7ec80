//! What an intent document says at present, conflicts included.

use super::{DesiredModel, Edit};
use crate::ModelName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The state of an intent document as people and reconcilers read it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct IntentView {
    /// The document's epoch.
    pub epoch: u32,
    /// Labels, by which selectors find the device.
    pub labels: BTreeMap<String, String>,
    /// Notes of people for people.
    pub notes: BTreeMap<String, String>,
    /// Which version of which model should be active.
    #[schema(value_type = BTreeMap<String, DesiredModel>)]
    pub models: BTreeMap<ModelName, DesiredModel>,
    /// Settings of the agent.
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub config: BTreeMap<String, serde_json::Value>,
    /// Where two people wrote at the same time, and what lost. The next write of such a field resolves it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Conflict>,
    /// Paths whose value this version cannot read (a newer one wrote it); they are left as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

impl IntentView {
    /// Shows `edit` on top, as it will be once it is merged.
    pub fn overlay(&mut self, edit: &Edit) {
        match edit.clone() {
            Edit::SetLabel { key, value } => drop(self.labels.insert(key, value)),
            Edit::RemoveLabel { key } => drop(self.labels.remove(&key)),
            Edit::SetNote { key, value } => drop(self.notes.insert(key, value)),
            Edit::RemoveNote { key } => drop(self.notes.remove(&key)),
            Edit::SetModel { name, model } => drop(self.models.insert(name, model)),
            Edit::RemoveModel { name } => drop(self.models.remove(&name)),
            Edit::SetConfig { key, value } => drop(self.config.insert(key, value)),
            Edit::RemoveConfig { key } => drop(self.config.remove(&key)),
        }
    }
}

/// Values that lost against a simultaneous write of the same field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Conflict {
    /// `labels/site`, `models/digits`, …
    pub path: String,
    /// Who wrote the value that is shown.
    pub winner: String,
    /// The others.
    pub losing: Vec<LosingValue>,
}

/// One value that lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LosingValue {
    /// The value, as text.
    pub value: String,
    /// Who wrote it: `key:<id>`, `system` or `site:<user>`.
    pub author: String,
}
