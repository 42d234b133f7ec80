//! Renewal: a device that holds its key gets a new certificate, also when the old one has expired a while ago.
//!
//! This can do nothing but renew. A revoked device is refused; old keys stay known, since edits that were signed with them
//! may still be on their way.

use super::devices::{Denied, Devices};
use super::ports::Peer;
use super::store::{self, DeviceKey};
use crate::platform::db::StoreError;
use crate::platform::pki::{Pki, PkiError};
use crate::tenants::Caller;
use aidos_protocol::enrol::{EndpointsView, RENEW_GRACE_DAYS, RenewalRequest, RenewalResponse, renewal_message};
use aidos_protocol::frame::RenewResponse;
use aidos_protocol::{DeviceId, TenantId};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject as _};
use serde_json::json;
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};

/// A leaf and its issuer; more is not a device's chain.
const MAX_CHAIN_BYTES: usize = 16 * 1024;

/// Why a certificate is not renewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    /// The certificate is not one of this deployment's, or expired too long ago.
    #[error("this certificate cannot be renewed: {0}; enrol the device again with a join token")]
    Certificate(String),
    /// The signature does not prove possession of the old key.
    #[error("the signature does not prove possession of the old key")]
    Signature,
    /// The device may not have one.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The signing request is refused, or the CA could not sign.
    #[error(transparent)]
    Request(#[from] PkiError),
}

impl From<StoreError> for RenewError {
    fn from(error: StoreError) -> Self {
        Self::Denied(error.into())
    }
}

/// The handle to renewal.
#[derive(Clone)]
pub(crate) struct Renewal {
    devices: Devices,
    pki: Pki,
    endpoints: EndpointsView,
}

impl Renewal {
    /// Renews certificates of `devices` with `pki`; tells them `endpoints`.
    pub(crate) fn new(devices: Devices, pki: Pki, endpoints: EndpointsView) -> Self {
        Self { devices, pki, endpoints }
    }

    /// `POST /enrol/renew`: the signature by the old key is the only credential.
    pub(crate) async fn renew(&self, request: &RenewalRequest) -> Result<RenewalResponse, RenewError> {
        let csr = CertificateSigningRequestDer::from_pem_slice(request.csr_pem.as_bytes())
            .map_err(|_| PkiError::Request("it is not PEM; expected `BEGIN CERTIFICATE REQUEST`"))?;
        let certificate = |e: &dyn std::fmt::Display| RenewError::Certificate(e.to_string());
        if request.certificate_pem.len() > MAX_CHAIN_BYTES {
            return Err(certificate(&"it is too long"));
        }
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(request.certificate_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| certificate(&e))?;
        let now = self.devices.clock.now();
        let old = self.pki.verify_device_chain(&chain, now, RENEW_GRACE_DAYS).map_err(|e| certificate(&e))?;
        verify(&old.spki_der, &renewal_message(&csr), &request.signature)?;
        let chain_pem = self.certify(old.tenant, old.device, &old.spki_sha256, &request.csr_pem).await?;
        Ok(RenewalResponse { chain_pem, endpoints: self.endpoints.clone() })
    }

    /// Over a link, whose own certificate proves the old key.
    pub(super) async fn over_link(&self, peer: &Peer, csr_der: &[u8]) -> RenewResponse {
        let renewed = async {
            // Behind a broker the old key is not seen; the broker has checked the certificate it belongs to.
            let key_id = peer.key_id.as_deref().unwrap_or_default();
            let body = STANDARD.encode(csr_der);
            let csr_pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
            self.certify(peer.tenant, peer.device, key_id, &csr_pem).await
        };
        match renewed.await {
            Ok(chain_pem) => RenewResponse { chain_pem, error: String::new() },
            Err(error) => {
                tracing::warn!(device = %peer.device, %error, "a certificate was not renewed");
                RenewResponse { chain_pem: String::new(), error: error.to_string() }
            }
        }
    }

    async fn certify(&self, tenant: TenantId, device: DeviceId, old_key: &str, csr_pem: &str) -> Result<String, RenewError> {
        let Devices { db, clock, activity, events, .. } = &self.devices;
        self.devices.authenticate(tenant, device, (!old_key.is_empty()).then_some(old_key)).await?;
        let issued = self.pki.issue_device(tenant, device, csr_pem)?;
        let key =
            DeviceKey { key_id: issued.spki_sha256, spki: issued.spki_der, serial: issued.serial.clone(), created: clock.now() };
        let mut tx = db.begin().await?;
        store::put_key(&mut tx, tenant, device, &key, issued.not_after).await?;
        let caller = Caller::device(tenant, device);
        let detail = json!({ "serial": issued.serial, "key": key.key_id, "expires_at": issued.not_after });
        activity.record(&mut tx, &caller, "device.renew", &device.to_string(), detail).await?;
        tx.commit().await?;
        events.publish(tenant, "device.renewed", &device.to_string(), json!({ "expires_at": issued.not_after }));
        Ok(issued.chain_pem)
    }
}

/// Verifies an ASN.1 ECDSA P-256 signature (base64) by the key in `spki`.
fn verify(spki: &[u8], message: &[u8], signature: &str) -> Result<(), RenewError> {
    let signature = STANDARD.decode(signature).map_err(|_| RenewError::Signature)?;
    let (_, key) = SubjectPublicKeyInfo::from_der(spki).map_err(|_| RenewError::Signature)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.subject_public_key.data.as_ref())
        .verify(message, &signature)
        .map_err(|_| RenewError::Signature)
}
