//! Bundles: model versions in one file that travels on a stick to where no network reaches.
//!
//! A bundle is a tar archive, so that people can look into it with what they have: first [`INDEX`], a JSON [`Index`], then each
//! file it lists once, as [`name`] says. Nothing else is in it: no folders, links, owners or other names. The index is a claim
//! like any other; a file is believed by its digest.
//!
//! Format 2 also brings the tenant's signed metadata, which a device that trusts a root needs to believe any of it: right after
//! the index, each under [`metadata_name`], as the repository publishes them.

use crate::ModelName;
use crate::artifact::{Digest, MAX_ARTIFACT_BYTES};
use crate::manifest::Manifest;
use crate::time::Micros;
use crate::trust::{MAX_DELEGATIONS, MAX_NEW_ROOTS};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The first file's name.
pub const INDEX: &str = "bundle.json";
/// The format of a bundle without metadata.
pub const FORMAT: u32 = 1;
/// The format of one with metadata, which agents of before do not read.
pub const SIGNED_FORMAT: u32 = 2;
/// The longest index: every model with a manifest of a thousand labels.
pub const MAX_INDEX_BYTES: u64 = 4 << 20;
/// The most model versions in one bundle.
pub const MAX_MODELS: usize = 256;
/// The most files: each version's weights, manifest and golden cases.
pub const MAX_FILES: usize = 3 * MAX_MODELS;

/// The most metadata files: every root that one refresh takes, the other top-level roles, and the publishers that a search asks.
pub const MAX_METADATA: usize = MAX_NEW_ROOTS as usize + 3 + MAX_DELEGATIONS;
/// The most bytes of all metadata together: a device holds them in memory while it verifies them.
pub const MAX_METADATA_BYTES: u64 = 16 << 20;

/// What a bundle holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// [`FORMAT`] or [`SIGNED_FORMAT`].
    pub format: u32,
    /// When it was made, by the clock of whoever made it.
    pub created_at: Micros,
    /// The model versions.
    pub models: Vec<BundledModel>,
    /// The signed metadata, in the order in which they follow the index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<BundledMetadata>,
    /// Every file, in the order in which they follow.
    pub files: Vec<BundledFile>,
}

/// One file of signed metadata. Its signatures say whether it is believed, so it needs no digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledMetadata {
    /// As clients ask the repository for it: `timestamp.json`, `2.root.json`.
    pub name: String,
    /// Bytes.
    pub size: u64,
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
    #[error("it is of format {0}, this version reads formats {FORMAT} and {SIGNED_FORMAT}; update whichever of the two is older")]
    Format(u32),
    /// It contradicts itself or a limit.
    #[error("its index is not valid: {0}")]
    Value(String),
}

/// The name of a file within the archive.
pub fn name(digest: &Digest) -> String {
    format!("artifacts/{}", digest.hex())
}

/// The name of a metadata file within the archive.
pub fn metadata_name(name: &str) -> String {
    format!("metadata/{name}")
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
        if ![FORMAT, SIGNED_FORMAT].contains(&head.format) {
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
        if self.metadata.is_empty() != (self.format == FORMAT) {
            return wrong(format!("format {} has {} metadata files", self.format, self.metadata.len()));
        }
        if self.metadata.len() > MAX_METADATA {
            return wrong(format!("{} metadata files, at most {MAX_METADATA} are possible", self.metadata.len()));
        }
        let mut names = BTreeSet::new();
        for BundledMetadata { name, .. } in &self.metadata {
            // As `quote` makes them; the archive's format has room for a hundred bytes.
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~%".contains(&b);
            if !name.ends_with(".json") || metadata_name(name).len() > 100 || !name.bytes().all(plain) {
                return wrong(format!("`{}` is no name of metadata", name.escape_debug()));
            }
            if !names.insert(name) {
                return wrong(format!("`{name}` is listed twice"));
            }
        }
        let bytes = self.metadata.iter().fold(0u64, |all, one| all.saturating_add(one.size));
        if bytes > MAX_METADATA_BYTES {
            return wrong(format!("{bytes} bytes of metadata, at most {MAX_METADATA_BYTES} are taken"));
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

    /// Bytes of all files, metadata included.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).chain(self.metadata.iter().map(|one| one.size)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let digest = Digest::of(b"weights");
        let model = BundledModel { name: "digits".parse().unwrap(), version: 2, digest, manifest: None, golden: None };
        let files = vec![BundledFile { digest, size: 7 }];
        Index { format: FORMAT, created_at: Micros(1), models: vec![model], metadata: Vec::new(), files }
    }

    #[test]
    fn an_index_reads_back() {
        let json = serde_json::to_vec(&index()).unwrap();
        assert_eq!(Index::from_json(&json).unwrap(), index());
    }

    fn signed(metadata: &[(&str, u64)]) -> Index {
        let metadata = metadata.iter().map(|(name, size)| BundledMetadata { name: (*name).to_owned(), size: *size });
        Index { format: SIGNED_FORMAT, metadata: metadata.collect(), ..index() }
    }

    #[test]
    fn metadata_have_the_names_of_the_repository_and_a_limit() {
        signed(&[("1.root.json", 1), ("timestamp.json", 1), ("3.team%20a.json", 1)]).check().unwrap();
        for (bad, why) in [
            (signed(&[]), "0 metadata files"),
            (Index { format: FORMAT, ..signed(&[("timestamp.json", 1)]) }, "format 1"),
            (signed(&[("../timestamp.json", 1)]), "no name"),
            (signed(&[("timestamp", 1)]), "no name"),
            (signed(&[("timestamp.json", 1), ("timestamp.json", 1)]), "twice"),
            (signed(&[("a.json", u64::MAX), ("b.json", 1)]), "bytes of metadata"),
            (signed(&vec![("a.json", 1); MAX_METADATA + 1]), "metadata files"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
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
        let later = br#"{"format":3,"something":"else"}"#;
        assert!(matches!(Index::from_json(later), Err(IndexError::Format(3))));
        assert!(Index::from_json(b"{").is_err());
    }
}
