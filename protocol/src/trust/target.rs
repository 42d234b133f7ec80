//! A target file as signed metadata describes it, and the check of its bytes.

use super::{MetaFile, TrustError};
use crate::artifact::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha512};
use std::collections::BTreeMap;

/// Length and hashes of a target file, and what its publisher says about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Bytes.
    pub length: u64,
    /// Hexadecimal digits by algorithm: `sha256`, `sha512`.
    pub hashes: BTreeMap<String, String>,
    /// What its publisher says about it: for a model's variants the model, version, device class and runtime. No fractions:
    /// canonical JSON has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Value>,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Target {
    /// An artifact of that digest and length.
    pub fn of(digest: Digest, length: u64) -> Self {
        let hashes = BTreeMap::from([("sha256".to_owned(), digest.hex())]);
        Self { length, hashes, custom: None, extra: BTreeMap::new() }
    }

    /// Its content address, when it is described by a SHA-256.
    pub fn digest(&self) -> Option<Digest> {
        format!("sha256:{}", self.hashes.get("sha256")?.to_ascii_lowercase()).parse().ok()
    }

    /// Where it lies below the repository's target address: with consistent snapshots the hash stands before the file name.
    pub fn address(&self, path: &str, consistent: bool) -> String {
        let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
        let hash = consistent.then(|| self.hashes.get("sha256").or_else(|| self.hashes.values().next())).flatten();
        let parts = folder.split('/').filter(|part| !part.is_empty());
        let name = hash.map_or_else(|| quote(name), |hash| format!("{}.{}", quote(hash), quote(name)));
        parts.map(quote).chain([name]).collect::<Vec<_>>().join("/")
    }

    /// Begins the check of its bytes as they come.
    pub fn check(&self, path: &str) -> Result<TargetCheck, TrustError> {
        TargetCheck::begin(path, Some(self.length), &self.hashes)
    }

    /// Checks bytes that are all there.
    pub fn verify(&self, path: &str, bytes: &[u8]) -> Result<(), TrustError> {
        let mut check = self.check(path)?;
        check.update(bytes)?;
        check.finish()
    }
}

/// Percent-encodes a role's or file's name for an address or a folder: only letters, digits and `-._~` stay.
pub fn quote(part: &str) -> String {
    const KEEP: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(part, KEEP).to_string()
}

/// The check of bytes against a signed length and hashes, piece by piece: more bytes than described are refused as they come.
#[derive(Debug, Clone)]
pub struct TargetCheck {
    file: String,
    seen: u64,
    length: Option<u64>,
    sha256: Option<(String, Sha256)>,
    sha512: Option<(String, Sha512)>,
}

impl TargetCheck {
    fn begin(file: &str, length: Option<u64>, hashes: &BTreeMap<String, String>) -> Result<Self, TrustError> {
        let sha256 = hashes.get("sha256").map(|hex| (hex.to_ascii_lowercase(), Sha256::new()));
        let sha512 = hashes.get("sha512").map(|hex| (hex.to_ascii_lowercase(), Sha512::new()));
        if sha256.is_none() && sha512.is_none() {
            return Err(TrustError::NoHash { file: file.into() });
        }
        Ok(Self { file: file.into(), seen: 0, length, sha256, sha512 })
    }

    /// Takes the next bytes; fails as soon as there are too many.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), TrustError> {
        self.seen = self.seen.saturating_add(bytes.len() as u64);
        if let Some(max) = self.length.filter(|length| self.seen > *length) {
            return Err(TrustError::TooLarge { file: self.file.clone(), max });
        }
        if let Some((_, hash)) = &mut self.sha256 {
            hash.update(bytes);
        }
        if let Some((_, hash)) = &mut self.sha512 {
            hash.update(bytes);
        }
        Ok(())
    }

    /// Whether the bytes were all there and the right ones.
    pub fn finish(self) -> Result<(), TrustError> {
        let mismatch = |what| TrustError::Mismatch { file: self.file.clone(), what };
        if self.length.is_some_and(|length| length != self.seen) {
            return Err(mismatch("length"));
        }
        if self.sha256.is_some_and(|(hex, hash)| hex::encode(hash.finalize()) != hex) {
            return Err(mismatch("sha256"));
        }
        if self.sha512.is_some_and(|(hex, hash)| hex::encode(hash.finalize()) != hex) {
            return Err(mismatch("sha512"));
        }
        Ok(())
    }
}

/// Checks a metadata file against its description; what is not said is not checked, as its version and signatures are.
pub(super) fn check_meta(file: &str, meta: &MetaFile, bytes: &[u8]) -> Result<(), TrustError> {
    match &meta.hashes {
        Some(hashes) => {
            let mut check = TargetCheck::begin(file, meta.length, hashes)?;
            check.update(bytes)?;
            check.finish()
        }
        None if meta.length.is_some_and(|length| length != bytes.len() as u64) => {
            Err(TrustError::Mismatch { file: file.into(), what: "length" })
        }
        None => Ok(()),
    }
}
