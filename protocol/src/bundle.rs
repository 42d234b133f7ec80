//! Bundles: model versions in one file that travels on a stick to where no network reaches.
//!
//! A bundle is a tar archive, so that people can look into it with what they have: first [`INDEX`], a JSON [`Index`], then each
//! file it lists once, as [`name`] says. Nothing else is in it: no folders, links, owners or other names. The index is a claim
//! like any other; a file is believed by its digest.

use crate::ModelName;
use crate::artifact::{Digest, MAX_ARTIFACT_BYTES};
use crate::manifest::Manifest;
use crate::time::Micros;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The first file's name.
pub const INDEX: &str = "bundle.json";
/// The format that this version writes, and the only one it reads.
pub const FORMAT: u32 = 1;
/// The longest index: every model with a manifest of a thousand labels.
pub const MAX_INDEX_BYTES: u64 = 4 << 20;
/// The most model versions in one bundle.
pub const MAX_MODELS: usize = 256;
/// The most files: each version's weights, manifest and golden cases.
pub const MAX_FILES: usize = 3 * MAX_MODELS;

/// What a bundle holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// [`FORMAT`].
    pub format: u32,
    /// When it was made, by the clock of whoever made it.
    pub created_at: Micros,
    /// The model versions.
    pub models: Vec<BundledModel>,
    /// Every file, in the order in which they follow.
    pub files: Vec<BundledFile>,
}

/// One model version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledModel {
    /// The model.
    pub name: ModelName,
    /// Its number in the registry that the bundle comes from.
    pub version: u64,
    /// Its weights.
    pub digest: Digest,
    /// Its manifest, as a file of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// Its golden cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<Digest>,
}

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledFile {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// An index that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Over its limit.
    #[error("its index has {0} bytes, the limit is {MAX_INDEX_BYTES}; make several smaller bundles")]
    Long(u64),
    /// Not JSON, or not this shape.
    #[error("its index cannot be read: {0}; was it made by `aidos bundle export`?")]
    Json(#[from] serde_json::Error),
    /// Of another time.
    #[error("it is of format {0}, this version reads format {FORMAT}; update whichever of the two is older")]
    Format(u32),
    /// It contradicts itself or a limit.
    #[error("its index is not valid: {0}")]
    Value(String),
}

/// The name of a file within the archive.
pub fn name(digest: &Digest) -> String {
    format!("artifacts/{}", digest.hex())
}

/// A manifest as the file that devices read.
pub fn manifest_file(manifest: &Manifest) -> Vec<u8> {
    serde_json::to_vec(manifest).expect("a manifest has only text keys")
}

impl Index {
    /// Reads and checks an index.
    pub fn from_json(bytes: &[u8]) -> Result<Self, IndexError> {
        if bytes.len() as u64 > MAX_INDEX_BYTES {
            return Err(IndexError::Long(bytes.len() as u64));
        }
        // The format is read first: another one may have other fields.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_slice(bytes)?;
        if head.format != FORMAT {
            return Err(IndexError::Format(head.format));
        }
        let index: Self = serde_json::from_slice(bytes)?;
        index.check()?;
        Ok(index)
    }

    /// Whether it keeps to the limits, lists each file once, and lists all that its models need.
    pub fn check(&self) -> Result<(), IndexError> {
        let wrong = |why: String| Err(IndexError::Value(why));
        if self.models.is_empty() || self.models.len() > MAX_MODELS {
            return wrong(format!("{} models, 1 to {MAX_MODELS} are possible", self.models.len()));
        }
        if self.files.len() > MAX_FILES {
            return wrong(format!("{} files, at most {MAX_FILES} are possible", self.files.len()));
        }
        let mut listed = BTreeSet::new();
        for BundledFile { digest, size } in &self.files {
            if !(1..=MAX_ARTIFACT_BYTES).contains(size) {
                return wrong(format!("{digest} has {size} bytes, a file has 1 to {MAX_ARTIFACT_BYTES}"));
            }
            if !listed.insert(digest) {
                return wrong(format!("{digest} is listed twice"));
            }
        }
        for model in &self.models {
            let needed = [Some(&model.digest), model.manifest.as_ref(), model.golden.as_ref()];
            if let Some(missing) = needed.into_iter().flatten().find(|digest| !listed.contains(digest)) {
                return wrong(format!("{}@{} needs {missing}, which it does not list", model.name, model.version));
            }
        }
        Ok(())
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let digest = Digest::of(b"weights");
        let model = BundledModel { name: "digits".parse().unwrap(), version: 2, digest, manifest: None, golden: None };
        let files = vec![BundledFile { digest, size: 7 }];
        Index { format: FORMAT, created_at: Micros(1), models: vec![model], files }
    }

    #[test]
    fn an_index_reads_back() {
        let json = serde_json::to_vec(&index()).unwrap();
        assert_eq!(Index::from_json(&json).unwrap(), index());
    }

    #[test]
    fn what_contradicts_itself_or_a_limit_is_refused_with_the_reason() {
        let digest = Digest::of(b"weights");
        let twice = Index { files: vec![BundledFile { digest, size: 7 }; 2], ..index() };
        let empty = Index { files: vec![BundledFile { digest, size: 0 }], ..index() };
        let huge = Index { files: vec![BundledFile { digest, size: u64::MAX }], ..index() };
        let missing = Index { files: Vec::new(), ..index() };
        let without = Index { models: Vec::new(), ..index() };
        let many = Index { models: vec![index().models[0].clone(); MAX_MODELS + 1], ..index() };
        for (bad, why) in [
            (twice, "twice"),
            (empty, "0 bytes"),
            (huge, "bytes"),
            (missing, "does not list"),
            (without, "0 models"),
            (many, "257"),
        ] {
            let json = serde_json::to_vec(&bad).unwrap();
            let error = Index::from_json(&json).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let later = br#"{"format":2,"something":"else"}"#;
        assert!(matches!(Index::from_json(later), Err(IndexError::Format(2))));
        assert!(Index::from_json(b"{").is_err());
    }
}
