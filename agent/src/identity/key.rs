//! The device's private key: ECDSA P-256. It is made here, kept in a file of mode 0600, and never leaves this module but
//! as a signature or inside TLS settings.

use super::{IdentityError, files};
use rcgen::{CertificateParams, CertificateSigningRequest, DistinguishedName, KeyPair, PublicKeyData as _, SigningKey as _};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::sync::Arc;

/// SHA-256 of a public key's SubjectPublicKeyInfo DER.
pub type KeyId = [u8; 32];

/// A PEM P-256 key has about 240 bytes.
const MAX_KEY_FILE_BYTES: u64 = 4 * 1024;

/// A device key. Clones share it.
#[derive(Clone)]
pub struct DeviceKey(Arc<KeyPair>);

impl DeviceKey {
    /// A new key, in memory only.
    pub fn generate() -> Result<Self, IdentityError> {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(crypto)?;
        Ok(Self(Arc::new(pair)))
    }

    /// Writes the key to its own file in `dir` and returns the file's name, which the key's id is part of.
    pub(super) fn write(&self, dir: &Path) -> Result<String, IdentityError> {
        let name = format!("{FILE_PREFIX}{}{FILE_SUFFIX}", &hex::encode(self.id())[..16]);
        files::replace(dir, &name, self.0.serialize_pem().as_bytes())?;
        Ok(name)
    }

    /// Reads the key in `path`.
    pub(super) fn read(path: &Path) -> Result<Self, IdentityError> {
        let pem = files::read(path, MAX_KEY_FILE_BYTES)?.ok_or_else(|| IdentityError::damaged(path, "it is missing"))?;
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|e| IdentityError::damaged(path, e))?;
        Ok(Self(Arc::new(pair)))
    }

    /// Names of the key files in `dir`.
    pub(super) fn list(dir: &Path) -> Result<Vec<String>, IdentityError> {
        let entries = std::fs::read_dir(dir).map_err(|e| IdentityError::io(dir, e))?;
        let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| name.starts_with(FILE_PREFIX) && name.ends_with(FILE_SUFFIX)).collect())
    }

    /// SHA-256 of the public key.
    pub fn id(&self) -> KeyId {
        Sha256::digest(self.spki_der()).into()
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn spki_der(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// ECDSA over SHA-256 of `message`, ASN.1 DER.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, IdentityError> {
        self.0.sign(message).map_err(crypto)
    }

    /// A signing request with an empty subject: the control plane decides what the certificate says.
    pub fn csr(&self) -> Result<CertificateSigningRequest, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serialize_request(&*self.0).map_err(crypto)
    }

    pub(super) fn to_tls(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }
}

const FILE_PREFIX: &str = "key-";
const FILE_SUFFIX: &str = ".pem";

pub(super) fn crypto(error: rcgen::Error) -> IdentityError {
    IdentityError::Crypto(error.to_string())
}

impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceKey({})", &hex::encode(self.id())[..16])
    }
}
