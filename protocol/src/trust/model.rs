//! How model versions stand in targets metadata: their paths, and the custom fields that say which devices they are for.

use super::Target;
use crate::ModelName;
use crate::artifact::Digest;
use serde::{Deserialize, Serialize};

/// The field of a target's `custom` that holds a [`ModelTarget`].
const FIELD: &str = "aidos-model";

/// A model version, or a variant of it for a class of devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelTarget {
    /// The model.
    pub model: ModelName,
    /// Its version.
    pub version: u64,
    /// The variant's name; none for the file as it was registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The class of devices that the variant is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_class: Option<String>,
    /// The engine that it was measured with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// The manifest as a file ([`crate::bundle::manifest_file`]), an empty one where there is none; absent in what was signed
    /// before manifests were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// The golden cases that may be run with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<Digest>,
}

impl ModelTarget {
    /// The file as it was registered.
    pub fn original(model: ModelName, version: u64) -> Self {
        Self { model, version, variant: None, device_class: None, engine: None, manifest: None, golden: None }
    }

    /// Its target path: `models/<name>/<version>/<variant>.onnx`, `model.onnx` for the original. A publisher of one model
    /// is delegated `models/<name>/*/*`.
    pub fn path(&self) -> String {
        format!("models/{}/{}/{}.onnx", self.model, self.version, self.variant.as_deref().unwrap_or("model"))
    }

    /// The target that describes its file.
    pub fn target(&self, digest: Digest, length: u64) -> Target {
        Target { custom: Some(serde_json::json!({ FIELD: self })), ..Target::of(digest, length) }
    }

    /// What a target says about the model that it is; `None` for one that is no model.
    pub fn of(target: &Target) -> Option<Self> {
        serde_json::from_value(target.custom.as_ref()?.get(FIELD)?.clone()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_reads_back_from_its_target() {
        let model = ModelTarget { variant: Some("int8".into()), ..ModelTarget::original("digits".parse().unwrap(), 2) };
        let target = model.target(Digest::of(b"x"), 1);
        assert_eq!(ModelTarget::of(&target), Some(model.clone()));
        assert_eq!(model.path(), "models/digits/2/int8.onnx");
        assert_eq!(ModelTarget::of(&Target::of(Digest::of(b"x"), 1)), None);
    }
}
