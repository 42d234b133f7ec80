//! Models, their versions and aliases, and the references by which people name them.

use crate::{ModelName, artifact::Digest, manifest::Manifest, time::Micros};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::{fmt, str::FromStr};

/// The largest file that is taken as a model: a registry holds it in memory once while it is checked.
pub const MAX_MODEL_BYTES: u64 = 1 << 30;

/// The longest model card: Markdown of a long article.
pub const MAX_CARD_BYTES: usize = 64 << 10;
/// The longest description, in bytes: one line of a list.
pub const MAX_DESCRIPTION_BYTES: usize = 512;
/// The longest `source` of a version, in bytes: a URL.
pub const MAX_SOURCE_BYTES: usize = 2_048;

/// `POST /models`: a model without versions yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateModel {
    /// Its name within the tenant.
    pub name: ModelName,
    /// One line for lists.
    #[serde(default)]
    pub description: String,
    /// For selecting in lists.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Markdown.
    #[serde(default)]
    pub card: String,
}

/// `PATCH /models/{name}`: what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchModel {
    /// One line for lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Labels to set; `null` removes one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    /// Markdown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelView {
    /// Its name within the tenant.
    pub name: ModelName,
    /// One line for lists.
    pub description: String,
    /// For selecting in lists.
    pub labels: BTreeMap<String, String>,
    /// Markdown; empty in lists.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub card: String,
    /// The highest version; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_version: Option<u64>,
    /// Alias → version.
    pub aliases: BTreeMap<String, u64>,
    /// Counts its changes; the ETag.
    pub revision: u64,
    /// When it was made.
    pub created_at: Micros,
    /// When it last changed.
    pub updated_at: Micros,
}

/// `POST /models/{name}/versions`: uploaded bytes become the next version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVersion {
    /// An artifact that this tenant has uploaded.
    pub digest: Digest,
    /// How people feed it and read its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    /// Golden cases: an artifact that this tenant has uploaded, in the form of [`crate::golden::Golden`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<Digest>,
    /// Markdown about this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    /// Where it comes from: a URL, a run, a file name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// One immutable version of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelVersionView {
    /// The model.
    pub model: ModelName,
    /// 1, 2, …
    pub version: u64,
    /// The file.
    pub digest: Digest,
    /// Bytes of the file.
    pub size: u64,
    /// What was read from the file.
    pub facts: ModelFacts,
    /// How people feed it and read its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    /// The golden cases that a device tests it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<Digest>,
    /// Markdown about this version; empty in lists.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub card: String,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The aliases that point here.
    pub aliases: Vec<String>,
    /// When it was registered.
    pub created_at: Micros,
    /// Who registered it.
    pub created_by: String,
}

/// What a model file says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelFacts {
    /// `onnx`.
    pub format: String,
    /// The program that wrote the file.
    pub producer: String,
    /// Operator set → version.
    pub opsets: BTreeMap<String, i64>,
    /// What it takes.
    pub inputs: Vec<TensorFacts>,
    /// What it gives.
    pub outputs: Vec<TensorFacts>,
    /// Operator → how often it is used.
    pub operators: BTreeMap<String, u64>,
    /// Numbers in its weights.
    pub parameters: u64,
    /// Bytes of its weights once loaded.
    pub weight_bytes: u64,
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TensorFacts {
    /// Its name.
    pub name: String,
    /// As the Open Inference Protocol writes it: `FP32`, `INT64`, `BYTES`, …
    pub dtype: String,
    /// Its dimensions: a number, a symbol's name, or `?`. Absent where even their count is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<String>>,
}

/// `PUT /models/{name}/aliases/{alias}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutAlias {
    /// Where it points from now on.
    pub version: u64,
}

/// How a person names a model version: `name@3`, `name@champion`, or `name` for the latest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRef {
    /// The model.
    pub name: ModelName,
    /// Which of its versions.
    pub which: Which,
}

/// Which version of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The highest.
    Latest,
    /// This one.
    Version(u64),
    /// The one this alias points to.
    Alias(Alias),
}

/// A name for a version that moves: as a model name, but not only digits and not `latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alias(String);

/// A text that does not name a model version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefError {
    /// The part before `@`.
    #[error(transparent)]
    Name(#[from] crate::NameError),
    /// The part after it.
    #[error("`{0}` is not a version or alias: use a number from 1, or 1 to 64 of a-z 0-9 . _ - beginning with a letter")]
    Which(crate::label::Shortened),
}

impl Alias {
    /// The alias as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for Alias {
    type Err = RefError;
    fn from_str(text: &str) -> Result<Self, RefError> {
        // Beginning with a letter keeps aliases and version numbers apart for ever.
        let fits = text.parse::<ModelName>().is_ok() && text.as_bytes()[0].is_ascii_lowercase() && text != "latest";
        if fits { Ok(Self(text.to_owned())) } else { Err(RefError::Which(text.into())) }
    }
}

impl FromStr for ModelRef {
    type Err = RefError;
    fn from_str(text: &str) -> Result<Self, RefError> {
        let Some((name, which)) = text.split_once('@') else {
            return Ok(Self { name: text.parse()?, which: Which::Latest });
        };
        let name = name.parse()?;
        let which = match which.parse::<u64>() {
            _ if which == "latest" => Which::Latest,
            Ok(version) if (1..=i64::MAX as u64).contains(&version) && !which.starts_with(['+', '0']) => Which::Version(version),
            _ => Which::Alias(which.parse()?),
        };
        Ok(Self { name, which })
    }
}
impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::Latest => write!(f, "{}", self.name),
            Which::Version(version) => write!(f, "{}@{version}", self.name),
            Which::Alias(alias) => write!(f, "{}@{alias}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_the_latest_a_number_or_an_alias() {
        for (text, canonical) in [("m", "m"), ("m@3", "m@3"), ("m@champion", "m@champion"), ("m@latest", "m")] {
            assert_eq!(text.parse::<ModelRef>().unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn a_reference_that_could_mean_two_things_is_refused() {
        for bad in ["", "@1", "m@", "m@0", "m@03", "m@+3", "m@-1", "m@1@2", "M@1", "m@9x", "m@99999999999999999999"] {
            assert!(bad.parse::<ModelRef>().is_err(), "{bad}");
        }
    }
}
