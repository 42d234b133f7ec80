//! Public keys and what a valid signature by one is.

use super::canonical;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use x509_parser::prelude::{FromDer as _, parse_x509_pem};
use x509_parser::x509::SubjectPublicKeyInfo;

/// Names a key within a repository: by custom the SHA-256 of its canonical form, but any text will do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub String);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A public key as metadata holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// `ed25519`, `ecdsa` (also written `ecdsa-sha2-nistp256`) or `rsa`; keys of other types verify nothing.
    pub keytype: String,
    /// `ed25519`, `ecdsa-sha2-nistp256` or `rsassa-pss-sha256`.
    pub scheme: String,
    /// The key itself.
    pub keyval: KeyValue,
    /// What this version does not know; it is signed all the same.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// The key itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyValue {
    /// 64 hexadecimal digits for ed25519, else PEM of a SubjectPublicKeyInfo.
    pub public: String,
    /// What this version does not know.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl Key {
    /// An ed25519 key of its 32 raw bytes.
    pub fn ed25519(public: &[u8]) -> Self {
        let keyval = KeyValue { public: hex::encode(public), extra: BTreeMap::new() };
        Self { keytype: "ed25519".into(), scheme: "ed25519".into(), keyval, extra: BTreeMap::new() }
    }

    /// The customary id: SHA-256 of the key's canonical form.
    pub fn id(&self) -> KeyId {
        let value = serde_json::to_value(self).unwrap_or_default();
        // A key whose unknown fields hold fractions could not have been signed for; its id matters to nobody.
        KeyId(hex::encode(Sha256::digest(canonical(&value).unwrap_or_default())))
    }

    /// The bytes that make two keys the same key, whatever ids they go by; `None` for a key that this version cannot use.
    pub(super) fn material(&self) -> Option<(&'static str, Vec<u8>)> {
        match (self.keytype.as_str(), self.scheme.as_str()) {
            ("ed25519", "ed25519") => hex::decode(&self.keyval.public).ok().map(|raw| ("ed25519", raw)),
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => from_pem(&self.keyval.public).map(|raw| ("ecdsa", raw)),
            ("rsa", "rsassa-pss-sha256") => from_pem(&self.keyval.public).map(|raw| ("rsa", raw)),
            _ => None,
        }
    }
}

/// Whether `signature` over `message` is by the key of that [`Key::material`].
pub(super) fn verify(material: &(&'static str, Vec<u8>), message: &[u8], signature: &[u8]) -> bool {
    let algorithm: &'static dyn VerificationAlgorithm = match material.0 {
        "ed25519" => &ED25519,
        "ecdsa" => &ECDSA_P256_SHA256_ASN1,
        _ => &RSA_PSS_2048_8192_SHA256,
    };
    UnparsedPublicKey::new(algorithm, &material.1).verify(message, signature).is_ok()
}

/// The bit string of a SubjectPublicKeyInfo in PEM: a curve's point, or an RSA key's DER. A key on another curve has another
/// length and fails to verify.
fn from_pem(pem: &str) -> Option<Vec<u8>> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let (_, info) = SubjectPublicKeyInfo::from_der(&pem.contents).ok()?;
    Some(info.subject_public_key.data.into_owned())
}
