//! Signing: ed25519 keys, and files signed by them.

use super::envelope::Wire;
use super::{Key, KeyId, Metadata, Signature, canonical};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

/// Why something could not be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// Not a private ed25519 key in PKCS#8.
    #[error("that is not a private ed25519 key in PKCS#8")]
    Key,
    /// The system has no randomness.
    #[error("the system gives no randomness to make a key from")]
    Random,
    /// Not metadata, or such that cannot be signed.
    #[error("it cannot be signed: {0}")]
    Document(String),
}

/// A private ed25519 key.
pub struct SigningKey {
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// The PKCS#8 of a new key. It is the only copy.
    pub fn generate() -> Result<Vec<u8>, SigningError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| SigningError::Random)?;
        Ok(pkcs8.as_ref().to_vec())
    }

    /// From PKCS#8.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, SigningError> {
        Ok(Self { pair: Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| SigningError::Key)? })
    }

    /// Its public half.
    pub fn public(&self) -> Key {
        Key::ed25519(self.pair.public_key().as_ref())
    }

    /// Its id.
    pub fn id(&self) -> KeyId {
        self.public().id()
    }

    fn signature(&self, message: &[u8]) -> Signature {
        Signature { keyid: self.id(), sig: hex::encode(self.pair.sign(message).as_ref()) }
    }
}

/// `signed`, signed by `keys`, as the file to publish.
pub fn sign<T: Metadata>(signed: &T, keys: &[&SigningKey]) -> Result<Vec<u8>, SigningError> {
    let document = |e: &dyn std::fmt::Display| SigningError::Document(e.to_string());
    let signed = serde_json::to_value(signed).map_err(|e| document(&e))?;
    let message = canonical(&signed).map_err(|e| document(&e))?;
    let signatures = keys.iter().map(|key| key.signature(&message)).collect();
    serde_json::to_vec_pretty(&Wire { signatures, signed }).map_err(|e| document(&e))
}

/// The file with one more signature, or with that key's signature made anew: for roles that several people sign in turn.
pub fn add_signature(file: &[u8], key: &SigningKey) -> Result<Vec<u8>, SigningError> {
    let document = |e: &dyn std::fmt::Display| SigningError::Document(e.to_string());
    let mut wire: Wire = serde_json::from_slice(file).map_err(|e| document(&e))?;
    let message = canonical(&wire.signed).map_err(|e| document(&e))?;
    let signature = key.signature(&message);
    wire.signatures.retain(|s| s.keyid != signature.keyid);
    wire.signatures.push(signature);
    serde_json::to_vec_pretty(&wire).map_err(|e| document(&e))
}
