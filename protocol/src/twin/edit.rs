//! One thing that a person changes in an intent document, and the limits it has to keep.

use crate::artifact::Digest;
use crate::manifest::Manifest;
use crate::rollout::UpdatePolicy;
use crate::{DeploymentId, ModelName};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Labels on one device; selectors read all of them.
pub const MAX_LABELS: usize = 64;
/// Notes on one device.
pub const MAX_NOTES: usize = 64;
/// Models on one device: each holds memory there.
pub const MAX_MODELS: usize = 64;
/// Settings on one device.
pub const MAX_CONFIG: usize = 64;
/// Bytes of a label's value. Kubernetes allows 63; site names and asset numbers are longer.
pub const MAX_LABEL_VALUE_BYTES: usize = 256;
/// Bytes of a note: a few paragraphs.
pub const MAX_NOTE_BYTES: usize = 4 * 1024;
/// Bytes of one model's JSON, its manifest included; a longer manifest travels as an artifact.
pub const MAX_MODEL_BYTES: usize = 16 * 1024;
/// Bytes of one setting's JSON.
pub const MAX_CONFIG_BYTES: usize = 4 * 1024;
/// Edits in one change.
pub const MAX_EDITS: usize = 64;

/// The model version that a device should have active. One scalar: concurrent writes never mix their fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DesiredModel {
    /// The version in the registry.
    pub version: u64,
    /// Digest of the file.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The manifest, when it is short enough to stand here ([`MAX_MODEL_BYTES`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    /// Digest of the manifest as JSON, when it is too long to stand here: an artifact to fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_digest: Option<Digest>,
    /// The deployment that asked for it; absent when a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// Digest of the golden cases ([`crate::golden::Golden`]), an artifact to fetch; absent when the model brings none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden_digest: Option<Digest>,
    /// How the device goes about it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub update: UpdatePolicy,
}

impl DesiredModel {
    /// A version without a manifest, wanted by a person, to be updated to in the everyday way.
    pub fn new(version: u64, digest: Digest, size: u64) -> Self {
        Self {
            version,
            digest,
            size,
            manifest: None,
            manifest_digest: None,
            deployment: None,
            golden_digest: None,
            update: UpdatePolicy::default(),
        }
    }
}

fn is_default(policy: &UpdatePolicy) -> bool {
    *policy == UpdatePolicy::default()
}

/// The parts of an intent document: one map each, all of them made by the genesis change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Room {
    /// `labels`
    Labels,
    /// `notes`
    Notes,
    /// `models`
    Models,
    /// `config`
    Config,
}

impl Room {
    /// In the order in which genesis makes them, which is for ever: their object ids follow from it.
    pub const ALL: [Self; 4] = [Self::Labels, Self::Notes, Self::Models, Self::Config];

    /// The key under the document's root.
    pub fn name(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Notes => "notes",
            Self::Models => "models",
            Self::Config => "config",
        }
    }

    /// The most entries it holds.
    pub fn capacity(self) -> usize {
        match self {
            Self::Labels => MAX_LABELS,
            Self::Notes => MAX_NOTES,
            Self::Models => MAX_MODELS,
            Self::Config => MAX_CONFIG,
        }
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One edit. Several make one change, which is applied as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "op", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "at most 64 live at once, and a box would stand in everybody's way")]
pub enum Edit {
    /// Sets a label.
    SetLabel {
        /// `[prefix/]name`, as in Kubernetes.
        key: String,
        /// At most [`MAX_LABEL_VALUE_BYTES`].
        value: String,
    },
    /// Removes a label; absent already is fine.
    RemoveLabel {
        /// The label.
        key: String,
    },
    /// Sets a note.
    SetNote {
        /// Its name.
        key: String,
        /// At most [`MAX_NOTE_BYTES`].
        value: String,
    },
    /// Removes a note.
    RemoveNote {
        /// Its name.
        key: String,
    },
    /// Asks for a model version.
    SetModel {
        /// The model.
        name: ModelName,
        /// The version, and where its bytes are.
        model: DesiredModel,
    },
    /// Asks that the device have no version of a model.
    RemoveModel {
        /// The model.
        name: ModelName,
    },
    /// Sets a setting of the agent (`telemetry.interval_s`, `log.level`, …).
    SetConfig {
        /// Its name.
        key: String,
        /// Any JSON, at most [`MAX_CONFIG_BYTES`] as text.
        #[schema(value_type = serde_json::Value)]
        value: serde_json::Value,
    },
    /// Removes a setting: the agent's default holds again.
    RemoveConfig {
        /// Its name.
        key: String,
    },
}

/// An edit that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// A key outside its alphabet.
    #[error("`{key}` cannot be a key of {room}: {expected}")]
    Key {
        /// Where.
        room: Room,
        /// The key, shortened.
        key: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A value over its limit.
    #[error("{room}/{key} is {is} bytes long, the limit is {limit}")]
    Long {
        /// Where.
        room: Room,
        /// The key.
        key: String,
        /// Its length.
        is: usize,
        /// The most.
        limit: usize,
    },
    /// A value of the wrong form.
    #[error("{room}/{key} is not valid: {reason}")]
    Value {
        /// Where.
        room: Room,
        /// The key.
        key: String,
        /// Why.
        reason: String,
    },
    /// More entries than the room holds.
    #[error("the device would have {is} {room}, the limit is {limit}: remove some first")]
    Full {
        /// Where.
        room: Room,
        /// Entries with this edit.
        is: usize,
        /// The most.
        limit: usize,
    },
    /// More than [`MAX_EDITS`] at once.
    #[error("{0} edits at once, the limit is {MAX_EDITS}: send them in parts")]
    Many(usize),
    /// A user name that cannot stand in an author.
    #[error("`{0}` is not a user name: use 1 to 64 visible characters without `:`")]
    User(String),
}

impl Edit {
    /// Which part of the document it touches.
    pub fn room(&self) -> Room {
        match self {
            Self::SetLabel { .. } | Self::RemoveLabel { .. } => Room::Labels,
            Self::SetNote { .. } | Self::RemoveNote { .. } => Room::Notes,
            Self::SetModel { .. } | Self::RemoveModel { .. } => Room::Models,
            Self::SetConfig { .. } | Self::RemoveConfig { .. } => Room::Config,
        }
    }

    /// The key within its room.
    pub fn key(&self) -> &str {
        match self {
            Self::SetLabel { key, .. }
            | Self::RemoveLabel { key }
            | Self::SetNote { key, .. }
            | Self::RemoveNote { key }
            | Self::SetConfig { key, .. }
            | Self::RemoveConfig { key } => key,
            Self::SetModel { name, .. } | Self::RemoveModel { name } => name.as_str(),
        }
    }

    /// `labels/site`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.room(), self.key())
    }

    /// The text that stands in the document, `None` for a removal.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::SetLabel { value, .. } | Self::SetNote { value, .. } => Some(value.clone()),
            Self::SetModel { model, .. } => Some(serde_json::to_string(model).expect("a desired model has only text keys")),
            Self::SetConfig { value, .. } => Some(value.to_string()),
            Self::RemoveLabel { .. } | Self::RemoveNote { .. } | Self::RemoveModel { .. } | Self::RemoveConfig { .. } => None,
        }
    }

    /// The edit that puts `text` at `key`, or removes it, checked.
    pub(super) fn from_text(room: Room, key: &str, text: Option<&str>) -> Result<Self, EditError> {
        let key = key.to_owned();
        let wrong = |key: &str, reason: String| EditError::Value { room, key: shorten(key), reason };
        let edit = match (room, text) {
            (Room::Labels, Some(value)) => Self::SetLabel { key, value: value.to_owned() },
            (Room::Labels, None) => Self::RemoveLabel { key },
            (Room::Notes, Some(value)) => Self::SetNote { key, value: value.to_owned() },
            (Room::Notes, None) => Self::RemoveNote { key },
            (Room::Models, text) => {
                let name = key.parse().map_err(|e: crate::NameError| wrong(&key, e.to_string()))?;
                match text {
                    Some(text) if text.len() > MAX_MODEL_BYTES => {
                        return Err(EditError::Long { room, key, is: text.len(), limit: MAX_MODEL_BYTES });
                    }
                    Some(text) => {
                        let model = serde_json::from_str(text).map_err(|e| wrong(&key, e.to_string()))?;
                        Self::SetModel { name, model }
                    }
                    None => Self::RemoveModel { name },
                }
            }
            (Room::Config, Some(text)) if text.len() > MAX_CONFIG_BYTES => {
                return Err(EditError::Long { room, key, is: text.len(), limit: MAX_CONFIG_BYTES });
            }
            (Room::Config, Some(text)) => {
                let value = serde_json::from_str(text).map_err(|e| wrong(&key, e.to_string()))?;
                Self::SetConfig { key, value }
            }
            (Room::Config, None) => Self::RemoveConfig { key },
        };
        edit.check()?;
        Ok(edit)
    }

    /// Checks key and value against the limits; capacities are checked against the document.
    pub fn check(&self) -> Result<(), EditError> {
        let room = self.room();
        let key = self.key();
        let (valid, expected) = match room {
            Room::Labels => (
                valid_label_key(key),
                "use [prefix/]name, name being 1 to 63 of A-Z a-z 0-9 . _ - that begin and end with a letter or digit",
            ),
            Room::Models => (true, ""),
            Room::Notes | Room::Config => {
                (valid_name(key, 128), "use 1 to 128 of A-Z a-z 0-9 . _ - that begin and end with a letter or digit")
            }
        };
        if !valid {
            return Err(EditError::Key { room, key: shorten(key), expected });
        }
        if let (Room::Labels, Self::SetLabel { value, .. }) = (room, self)
            && value.chars().any(char::is_control)
        {
            return Err(EditError::Value { room, key: shorten(key), reason: "control characters are not allowed".into() });
        }
        if let Self::SetModel { model: DesiredModel { manifest: Some(manifest), .. }, .. } = self {
            manifest.check().map_err(|e| EditError::Value { room, key: shorten(key), reason: e.to_string() })?;
        }
        let limit = match room {
            Room::Labels => MAX_LABEL_VALUE_BYTES,
            Room::Notes => MAX_NOTE_BYTES,
            Room::Models => MAX_MODEL_BYTES,
            Room::Config => MAX_CONFIG_BYTES,
        };
        match self.text() {
            Some(text) if text.len() > limit => Err(EditError::Long { room, key: shorten(key), is: text.len(), limit }),
            _ => Ok(()),
        }
    }
}

/// Whether `key` can name a label: `[prefix/]name`, name of 1 to 63 bytes, prefix a DNS name of at most 253.
pub fn valid_label_key(key: &str) -> bool {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let part = |p: &str| valid_name(p, 63) && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    valid_name(name, 63) && prefix.is_none_or(|p| p.len() <= 253 && p.split('.').all(part))
}

fn valid_name(text: &str, limit: usize) -> bool {
    let bytes = text.as_bytes();
    let end = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= limit
        && end(bytes.first())
        && end(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Errors quote hostile text: never all of it.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_keys_are_those_of_kubernetes() {
        for good in ["site", "a", "aidos.dev/gpu-class", "A.b_c-9"] {
            assert!(valid_label_key(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "x/", "/x", "UPPER/x", "a/b/c", &"a".repeat(64)] {
            assert!(!valid_label_key(bad), "{bad}");
        }
    }

    #[test]
    fn an_edit_over_a_limit_says_which() {
        let long = Edit::SetLabel { key: "site".into(), value: "x".repeat(257) };
        assert_eq!(long.check().unwrap_err().to_string(), "labels/site is 257 bytes long, the limit is 256");
        let bad = Edit::SetConfig { key: "a b".into(), value: 1.into() };
        assert!(bad.check().unwrap_err().to_string().contains("`a b` cannot be a key of config"));
        assert!(Edit::SetLabel { key: "site".into(), value: "a\nb".into() }.check().is_err());
    }

    #[test]
    fn an_edit_reads_back_from_its_text() {
        let model = DesiredModel { manifest: Some(Manifest::default()), ..DesiredModel::new(3, Digest::of(b"x"), 1) };
        for edit in [
            Edit::SetModel { name: "digits".parse().unwrap(), model },
            Edit::SetConfig { key: "log.level".into(), value: serde_json::json!({"a": [1, "x"]}) },
            Edit::RemoveNote { key: "n".into() },
        ] {
            let text = edit.text();
            assert_eq!(Edit::from_text(edit.room(), edit.key(), text.as_deref()), Ok(edit));
        }
    }

    #[test]
    fn edits_have_one_json_form() {
        let edit: Edit = serde_json::from_str(r#"{"op":"set_label","key":"site","value":"lab"}"#).unwrap();
        assert_eq!(edit, Edit::SetLabel { key: "site".into(), value: "lab".into() });
    }
}
