//! Reads certificates and decides whether one is this device's own. Servers are judged by rustls, not here.

use super::{DeviceKey, IdentityError};
use aidos_protocol::time::Micros;
use aidos_protocol::{DeviceId, TenantId, enrol};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A leaf, an intermediate or two, and the root.
const MAX_CHAIN: usize = 8;

/// What counts of the device's own certificate.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) not_before: Micros,
    pub(super) not_after: Micros,
}

impl Leaf {
    /// Accepts `chain` if its leaf is signed by `ca`, holds the public part of `key`, and names this tenant and device.
    /// Whether it is expired is not asked: expired is not dead, it can be renewed.
    pub(super) fn check(
        chain: &[CertificateDer<'_>],
        ca: &CertificateDer<'_>,
        key: &DeviceKey,
        tenant: TenantId,
        device: DeviceId,
    ) -> Result<Self, IdentityError> {
        let leaf = parse(chain.first().ok_or_else(|| refuse("the chain is empty"))?)?;
        // Each is signed by the next, or by the deployment's CA, which ends the chain.
        let ca = parse(ca)?;
        let mut signed = leaf.clone();
        for issuer in chain.iter().skip(1).map(parse).collect::<Result<Vec<_>, _>>()? {
            if signed.verify_signature(Some(ca.public_key())).is_ok() {
                break;
            }
            let is_ca = issuer.basic_constraints().ok().flatten().is_some_and(|c| c.value.ca);
            if !is_ca || signed.verify_signature(Some(issuer.public_key())).is_err() {
                return Err(refuse("it is not signed by its chain"));
            }
            signed = issuer;
        }
        if signed.verify_signature(Some(ca.public_key())).is_err() {
            return Err(refuse("it is not signed by the deployment's CA"));
        }
        if leaf.public_key().raw != key.spki_der() {
            return Err(refuse("it is for another key"));
        }
        let (is_tenant, is_device) = names(&leaf)?;
        if (is_tenant, is_device) != (tenant, device) {
            return Err(refuse(format!("it is for {is_device} of {is_tenant}, this is {device} of {tenant}")));
        }
        let micros = |seconds: i64| Micros(seconds.saturating_mul(1_000_000));
        let validity = leaf.validity();
        Ok(Self { not_before: micros(validity.not_before.timestamp()), not_after: micros(validity.not_after.timestamp()) })
    }
}

/// The tenant and device that a certificate names. Whether it is to be believed is not asked.
pub(super) fn spiffe(der: &CertificateDer<'_>) -> Result<(TenantId, DeviceId), IdentityError> {
    names(&parse(der)?)
}

fn names(leaf: &X509Certificate<'_>) -> Result<(TenantId, DeviceId), IdentityError> {
    let names = leaf.subject_alternative_name().map_err(|e| refuse(e.to_string()))?;
    let uri = names.iter().flat_map(|n| &n.value.general_names).find_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let parsed = enrol::parse_spiffe_id(uri.ok_or_else(|| refuse("it names no device"))?);
    parsed.map(|(_, tenant, device)| (tenant, device)).map_err(|e| refuse(e.to_string()))
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityError> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|e| refuse(e.to_string()))?;
    if rest.is_empty() { Ok(certificate) } else { Err(refuse("bytes follow it")) }
}

fn refuse(detail: impl Into<String>) -> IdentityError {
    IdentityError::Certificate(detail.into())
}

/// All certificates in a PEM text.
pub(super) fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).take(MAX_CHAIN + 1).collect();
    let chain = chain.map_err(|e| refuse(e.to_string()))?;
    if chain.is_empty() || chain.len() > MAX_CHAIN {
        return Err(refuse(format!("expected 1 to {MAX_CHAIN} certificates, found {}", chain.len())));
    }
    Ok(chain)
}

/// The one certificate in a PEM text.
pub(super) fn single(pem: &str) -> Result<CertificateDer<'static>, IdentityError> {
    let mut chain = chain(pem)?;
    if chain.len() != 1 {
        return Err(refuse(format!("expected one CA certificate, found {}", chain.len())));
    }
    Ok(chain.remove(0))
}

/// When a certificate's life begins.
pub(super) fn not_before(der: &CertificateDer<'_>) -> Result<Micros, IdentityError> {
    Ok(Micros(parse(der)?.validity().not_before.timestamp().saturating_mul(1_000_000)))
}

/// Hexadecimal SHA-256 of a certificate, as in a join token.
pub(super) fn pin(der: &CertificateDer<'_>) -> String {
    hex::encode(Sha256::digest(der))
}

/// The bytes of a certificate's public key.
pub(super) fn public_key(der: &CertificateDer<'_>) -> Result<Vec<u8>, IdentityError> {
    Ok(parse(der)?.public_key().subject_public_key.data.to_vec())
}
