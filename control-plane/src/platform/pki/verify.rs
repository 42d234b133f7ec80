//! Whether a certificate is that of a device of this deployment. Every check fails closed.

use super::{Pki, PkiError};
use aidos_protocol::enrol::parse_spiffe_id;
use aidos_protocol::{DeviceId, TenantId, time::Micros};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

/// Who a device is, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceCert {
    /// Its tenant.
    pub(crate) tenant: TenantId,
    /// The device.
    pub(crate) device: DeviceId,
    /// Hexadecimal.
    pub(crate) serial: String,
    /// SHA-256 of its SubjectPublicKeyInfo, hexadecimal: the key's id.
    pub(crate) spki_sha256: String,
    /// Its SubjectPublicKeyInfo, DER.
    pub(crate) spki_der: Vec<u8>,
    /// Its end.
    pub(crate) not_after: Micros,
}

impl Pki {
    /// Checks what a device presented: its certificate first, the CA's after it or not at all. A certificate that expired at
    /// most `allow_expired_days` ago passes; 0 for anything but renewal.
    pub(crate) fn verify_device_chain(
        &self,
        chain: &[CertificateDer<'_>],
        now: Micros,
        allow_expired_days: i64,
    ) -> Result<DeviceCert, PkiError> {
        let refused = |why: &'static str| PkiError::Refused(why);
        let leaf = chain.first().ok_or(refused("there is none"))?;
        let (rest, cert) = X509Certificate::from_der(leaf).map_err(|_| refused("it is not X.509"))?;
        let (_, ca) = X509Certificate::from_der(&self.0.ca).map_err(|_| refused("the CA's own certificate is unreadable"))?;
        if !rest.is_empty() {
            return Err(refused("bytes follow it"));
        }
        if cert.issuer().as_raw() != ca.subject().as_raw() {
            return Err(refused("another authority signed it"));
        }
        if cert.signature_algorithm != cert.tbs_certificate.signature {
            return Err(refused("it names two signature algorithms"));
        }
        cert.verify_signature(Some(ca.public_key())).map_err(|_| refused("this deployment's authority did not sign it"))?;
        check_extensions(&cert)?;
        let uri = only_uri(&cert).ok_or(refused("it does not name exactly one device"))?;
        let (deployment, tenant, device) = parse_spiffe_id(uri).map_err(|_| refused("it does not name a device"))?;
        if deployment != self.0.deployment {
            return Err(refused("it is of another deployment"));
        }
        let seconds = now.0.div_euclid(1_000_000);
        let validity = cert.validity();
        if seconds < validity.not_before.timestamp() {
            return Err(refused("it is not valid yet; check the clocks"));
        }
        if seconds > validity.not_after.timestamp().saturating_add(allow_expired_days.saturating_mul(86_400)) {
            return Err(PkiError::Expired);
        }
        let spki_der = cert.public_key().raw.to_vec();
        Ok(DeviceCert {
            tenant,
            device,
            serial: hex::encode(cert.raw_serial()),
            spki_sha256: hex::encode(Sha256::digest(&spki_der)),
            spki_der,
            not_after: Micros(validity.not_after.timestamp().saturating_mul(1_000_000)),
        })
    }
}

/// A leaf for clients, with no critical extension that is not understood here.
fn check_extensions(cert: &X509Certificate<'_>) -> Result<(), PkiError> {
    let mut client = false;
    for extension in cert.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
                return Err(PkiError::Refused("it is an authority's"));
            }
            ParsedExtension::ExtendedKeyUsage(usage) => client = usage.client_auth,
            ParsedExtension::BasicConstraints(_)
            | ParsedExtension::KeyUsage(_)
            | ParsedExtension::SubjectAlternativeName(_)
            | ParsedExtension::SubjectKeyIdentifier(_)
            | ParsedExtension::AuthorityKeyIdentifier(_) => {}
            _ if extension.critical => return Err(PkiError::Refused("it has an unknown critical extension")),
            _ => {}
        }
    }
    if client { Ok(()) } else { Err(PkiError::Refused("it is not for clients")) }
}

fn only_uri<'a>(cert: &'a X509Certificate<'a>) -> Option<&'a str> {
    let names = cert.subject_alternative_name().ok()??;
    match names.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => Some(uri),
        _ => None,
    }
}
