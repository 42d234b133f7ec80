//! The CA: made once, kept in a folder, and what it signs.

use super::PkiError;
use crate::platform::{clock::Clock, private_file};
use aidos_protocol::enrol::{CERTIFICATE_DAYS, TrustAnchor, anchor_message, spiffe_id};
use aidos_protocol::{DeviceId, TenantId, time::Micros};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SigningKey as _,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate, X509CertificationRequest};

/// The CA's life. Replacing it means that every device enrols again, so it outlives the hardware.
const CA_DAYS: i64 = 25 * 366;
/// A server certificate's life; it lives in memory and is renewed at two thirds.
pub(super) const SERVER_DAYS: i64 = 90;
/// How far a certificate's begin lies back, in seconds: devices' clocks are a little wrong.
const BACKDATED_S: i64 = 300;
/// The longest signing request, in bytes: one with a P-256 key has under 1 KiB.
const MAX_REQUEST: usize = 8 << 10;

const NOTE: &str = "\
ca.key is the private key of this deployment's certificate authority. Whoever has it can be any device and any control plane.
It is not encrypted: it is readable by its owner only (mode 0600), so that the control plane starts without a person.
Back up this folder somewhere safe. If ca.key is lost, every device must enrol again; if it leaks, make a new data folder.
ca.pem is public: devices hold it, and join tokens carry its SHA-256.
";

/// The certificate authority of one deployment; a clone shares it.
#[derive(Clone)]
pub(crate) struct Pki(pub(super) Arc<Authority>);

pub(super) struct Authority {
    pub(super) deployment: String,
    pub(super) ca: CertificateDer<'static>,
    pub(super) clock: Clock,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate that was just signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IssuedCert {
    /// PEM: the certificate, then the CA's.
    pub(crate) chain_pem: String,
    /// Hexadecimal.
    pub(crate) serial: String,
    /// Its end.
    pub(crate) not_after: Micros,
    /// SHA-256 of its SubjectPublicKeyInfo, hexadecimal: the key's id.
    pub(crate) spki_sha256: String,
    /// Its SubjectPublicKeyInfo, DER.
    pub(crate) spki_der: Vec<u8>,
}

impl Pki {
    /// Opens the CA in `folder`, or makes it on the first start.
    pub(crate) fn open_or_create(folder: &Path, deployment: &str, clock: Clock) -> Result<Self, PkiError> {
        let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
        if deployment.is_empty() || deployment.len() > 60 || !deployment.bytes().all(plain) {
            return Err(PkiError::Setup(format!("the deployment's name `{deployment}` must be 1 to 60 of a-z 0-9 . -")));
        }
        private_file::create_folder(folder)?;
        let (key_path, ca_path) = (folder.join("ca.key"), folder.join("ca.pem"));
        let unreadable = |path: &Path| PkiError::Setup(format!("{} is not what it should be; restore a backup", path.display()));
        let (key, pem) = (private_file::read(&key_path)?, private_file::read(&ca_path)?);
        let key = match key {
            Some(bytes) => {
                let text = String::from_utf8(bytes).map_err(|_| unreadable(&key_path))?;
                KeyPair::from_pem(&text).map_err(|_| unreadable(&key_path))?
            }
            None if pem.is_some() => {
                return Err(PkiError::Setup(format!("{} is missing beside ca.pem; restore a backup", key_path.display())));
            }
            None => {
                let key = KeyPair::generate()?;
                private_file::write(&folder.join("README"), NOTE.as_bytes())?;
                private_file::write(&key_path, key.serialize_pem().as_bytes())?;
                key
            }
        };
        // A key without a certificate is a first start that was cut short: nothing was signed with it yet.
        let ca = match pem {
            Some(bytes) => CertificateDer::from_pem_slice(&bytes).map_err(|_| unreadable(&ca_path))?,
            None => {
                let ca = authority_params(deployment, &clock)?.self_signed(&key)?;
                private_file::write(&ca_path, ca.pem().as_bytes())?;
                ca.der().clone()
            }
        };
        check_owner(&ca, &key, deployment).map_err(|text| PkiError::Setup(format!("{}: {text}", ca_path.display())))?;
        let issuer = Issuer::from_ca_cert_der(&ca, key)?;
        Ok(Self(Arc::new(Authority { deployment: deployment.to_owned(), ca, clock, issuer })))
    }

    /// The CA certificate, PEM.
    pub(crate) fn ca_pem(&self) -> String {
        pem(&self.0.ca)
    }
    /// The CA certificate, DER.
    pub(crate) fn ca_der(&self) -> &CertificateDer<'static> {
        &self.0.ca
    }
    /// SHA-256 of the CA certificate (DER), hexadecimal: what join tokens carry.
    pub(crate) fn ca_pin(&self) -> String {
        hex::encode(Sha256::digest(&self.0.ca))
    }

    /// A key for `purpose` that every process with this CA has, also after a restart, and nobody else: HKDF-SHA-256 (RFC 5869)
    /// of the CA's private key.
    pub(crate) fn shared_key(&self, purpose: &str) -> ring::hmac::Key {
        let secret = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]).extract(&self.0.issuer.key().serialize_der());
        let info = [purpose.as_bytes()];
        secret.expand(&info, ring::hmac::HMAC_SHA256).expect("one hash's length can always be expanded").into()
    }

    /// Vouches that `root` is the one by which devices of `tenant` begin to believe updates.
    pub(crate) fn anchor(&self, tenant: TenantId, root: &str) -> Result<TrustAnchor, PkiError> {
        let signature = self.0.issuer.key().sign(&anchor_message(tenant, root.as_bytes()))?;
        Ok(TrustAnchor { root: root.to_owned(), signature: STANDARD.encode(signature) })
    }

    /// Certifies the key of a PEM signing request for `device`, for 30 days.
    pub(crate) fn issue_device(&self, tenant: TenantId, device: DeviceId, csr_pem: &str) -> Result<IssuedCert, PkiError> {
        if csr_pem.len() > MAX_REQUEST {
            return Err(PkiError::Request("it is too long"));
        }
        let der = CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes())
            .map_err(|_| PkiError::Request("it is not PEM; expected `BEGIN CERTIFICATE REQUEST`"))?;
        let request = CertificateSigningRequestParams::from_der(&der)
            .map_err(|_| PkiError::Request("it is not PKCS #10, or its signature is wrong, or it asks for unknown extensions"))?;
        let spki_der = request.public_key.subject_public_key_info();
        // The library infers the curve from the signature's algorithm; a key on another curve would be certified as garbage.
        let (_, parsed) = X509CertificationRequest::from_der(&der).map_err(|_| PkiError::Request("it is not PKCS #10"))?;
        let p256 = request.public_key.algorithm() == &rcgen::PKCS_ECDSA_P256_SHA256;
        if !p256 || parsed.certification_request_info.subject_pki.raw != spki_der {
            return Err(PkiError::Request("its key must be ECDSA on P-256"));
        }
        let mut params = self.leaf(&device.to_string(), CERTIFICATE_DAYS, ExtendedKeyUsagePurpose::ClientAuth)?;
        params.subject_alt_names = vec![uri(&spiffe_id(&self.0.deployment, tenant, device))?];
        let serial = params.serial_number.as_ref().map(|serial| hex::encode(serial.to_bytes())).unwrap_or_default();
        let not_after = micros(params.not_after);
        let cert = params.signed_by(&request.public_key, &self.0.issuer)?;
        Ok(IssuedCert {
            chain_pem: format!("{}{}", cert.pem(), self.ca_pem()),
            serial,
            not_after,
            spki_sha256: hex::encode(Sha256::digest(&spki_der)),
            spki_der,
        })
    }

    /// A certificate for the control plane's listeners with a fresh key; the chain ends with the CA, so that a pin can be checked.
    pub(crate) fn issue_server(
        &self,
        names: &[String],
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PkiError> {
        let mut params = self.leaf("aidos-control-plane", SERVER_DAYS, ExtendedKeyUsagePurpose::ServerAuth)?;
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(dns(name)?),
            });
        }
        self.certify(params)
    }

    /// A client certificate for a part of the control plane itself, `spiffe://<deployment>/service/<name>`, 90 days.
    pub(crate) fn issue_service_client(
        &self,
        name: &str,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PkiError> {
        let mut params = self.leaf(name, SERVER_DAYS, ExtendedKeyUsagePurpose::ClientAuth)?;
        params.subject_alt_names = vec![uri(&format!("spiffe://{}/service/{name}", self.0.deployment))?];
        self.certify(params)
    }

    fn certify(&self, params: CertificateParams) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PkiError> {
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.0.issuer)?;
        let chain = vec![cert.der().clone(), self.0.ca.clone()];
        Ok((chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }

    fn leaf(&self, name: &str, days: i64, purpose: ExtendedKeyUsagePurpose) -> Result<CertificateParams, PkiError> {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = life(&self.0.clock, days)?;
        params.serial_number = Some(serial());
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

fn authority_params(deployment: &str, clock: &Clock) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = life(clock, CA_DAYS)?;
    params.serial_number = Some(serial());
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("{deployment} CA"));
    params.subject_alt_names = vec![uri(&format!("spiffe://{deployment}"))?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// The CA's certificate must be that of its key and of this deployment; else every device would be refused later.
fn check_owner(ca: &CertificateDer<'_>, key: &KeyPair, deployment: &str) -> Result<(), String> {
    let (_, parsed) = X509Certificate::from_der(ca).map_err(|_| "not a certificate; restore a backup".to_owned())?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err("not the certificate of ca.key; restore both from one backup".into());
    }
    let names = parsed.subject_alternative_name().ok().flatten().map(|names| &names.value.general_names);
    let own = names.into_iter().flatten().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("spiffe://"),
        _ => None,
    });
    match own {
        Some(own) if own == deployment => Ok(()),
        Some(own) => Err(format!("this CA is of the deployment `{own}`, not `{deployment}`; set `deployment = \"{own}\"`")),
        None => Err("not a certificate that this control plane made; use another data folder".into()),
    }
}

fn life(clock: &Clock, days: i64) -> Result<(OffsetDateTime, OffsetDateTime), PkiError> {
    let now = clock.now().0.div_euclid(1_000_000);
    let at = |seconds: i64| {
        OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| PkiError::Setup("the clock is out of any range".into()))
    };
    Ok((at(now - BACKDATED_S)?, at(now + days * 86_400)?))
}

fn micros(at: OffsetDateTime) -> Micros {
    Micros(at.unix_timestamp().saturating_mul(1_000_000))
}

/// 16 random bytes, positive and without leading zeros, so that hexadecimal text and DER agree.
fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = bytes[0] & 0x3f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn uri(text: &str) -> Result<SanType, PkiError> {
    Ok(SanType::URI(Ia5String::try_from(text.to_owned())?))
}

fn dns(name: &str) -> Result<Ia5String, PkiError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'*');
    if name.is_empty() || name.len() > 253 || !name.bytes().all(plain) {
        return Err(PkiError::Name(name.chars().take(80).collect()));
    }
    Ok(Ia5String::try_from(name.to_owned())?)
}

/// One certificate as PEM.
fn pem(der: &CertificateDer<'_>) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = (0..body.len()).step_by(64).map(|from| &body[from..body.len().min(from + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
