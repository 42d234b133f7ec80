//! A signed file: the signatures and what they sign.

use super::{Key, KeyId, Metadata, Role, TrustError, canonical, key, metadata};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// By which key.
    pub keyid: KeyId,
    /// Hexadecimal digits; what is not such counts as invalid.
    pub sig: String,
}

/// A file that was read, not yet believed: [`Envelope::verify`] says whether enough keys signed it.
#[derive(Debug, Clone)]
pub struct Envelope<T> {
    /// What is signed.
    pub signed: T,
    /// By whom.
    pub signatures: Vec<Signature>,
    /// The bytes as they came: hashes are over these.
    bytes: Vec<u8>,
    /// What the signatures are over.
    message: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Wire {
    pub(super) signatures: Vec<Signature>,
    pub(super) signed: Value,
}

impl<T: Metadata> Envelope<T> {
    /// Reads `bytes`, at most `max`. What is verified and what is read are the same parsed value, so that a JSON text with two
    /// meanings has only one here.
    pub fn read(file: &str, bytes: &[u8], max: u64) -> Result<Self, TrustError> {
        if bytes.len() as u64 > max {
            return Err(TrustError::TooLarge { file: file.into(), max });
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(|e| TrustError::malformed(file, e))?;
        let mut ids = BTreeSet::new();
        if let Some(twice) = wire.signatures.iter().find(|s| !ids.insert(&s.keyid)) {
            return Err(TrustError::malformed(file, format!("it has two signatures by key {}", twice.keyid)));
        }
        let message = canonical(&wire.signed).map_err(|e| TrustError::malformed(file, e))?;
        let signed = metadata::read(file, wire.signed)?;
        Ok(Self { signed, signatures: wire.signatures, bytes: bytes.to_vec(), message })
    }

    /// Whether enough distinct keys of `role`, as `keys` gives them, signed it. A key that is listed under two ids counts once,
    /// and an invalid signature takes nothing from the valid ones.
    pub fn verify(&self, file: &str, delegator: &str, role: &Role, keys: &BTreeMap<KeyId, Key>) -> Result<(), TrustError> {
        let mut signers = BTreeSet::new();
        for signature in self.signatures.iter().filter(|s| role.keyids.contains(&s.keyid)) {
            let Some(material) = keys.get(&signature.keyid).and_then(Key::material) else { continue };
            let Ok(raw) = hex::decode(&signature.sig) else { continue };
            if key::verify(&material, &self.message, &raw) {
                signers.insert(material);
            }
        }
        let threshold = usize::try_from(role.threshold).unwrap_or(usize::MAX);
        if signers.len() < threshold {
            let (file, delegator) = (file.into(), delegator.into());
            return Err(TrustError::Threshold { file, delegator, valid: signers.len(), threshold });
        }
        Ok(())
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
