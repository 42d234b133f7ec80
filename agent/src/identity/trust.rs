//! The root by which this device begins to believe updates: taken once, and only when the deployment's CA signed it. How it is
//! believed from then on is no business of the identity's.

use super::{Identity, IdentityError, certificate};
use aidos_protocol::TenantId;
use aidos_protocol::enrol::{TrustAnchor, anchor_message};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls_pki_types::CertificateDer;

/// Whether `ca` vouches for the root of `tenant`.
pub(super) fn check(anchor: &TrustAnchor, tenant: TenantId, ca: &CertificateDer<'_>) -> Result<(), IdentityError> {
    let wrong = || IdentityError::Certificate("the root of trust is not signed by this deployment's CA".into());
    let signature = STANDARD.decode(&anchor.signature).map_err(|_| wrong())?;
    let key = certificate::public_key(ca)?;
    let message = anchor_message(tenant, anchor.root.as_bytes());
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(&message, &signature).map_err(|_| wrong())
}

impl Identity {
    /// The root that this device began with, once there is one.
    pub fn anchor(&self) -> Option<String> {
        self.current().record.trust.as_ref().map(|anchor| anchor.root.clone())
    }

    /// Takes a root to begin with; one that is there stays. Returns once it is on disk.
    pub async fn take_anchor(&self, anchor: TrustAnchor) -> Result<(), IdentityError> {
        let current = self.current();
        check(&anchor, current.record.tenant_id, &current.ca)?;
        let identity = self.clone();
        let begin = move |record: &mut super::Record| {
            record.trust.get_or_insert(anchor);
        };
        let taken = tokio::task::spawn_blocking(move || identity.replace(begin));
        taken.await.unwrap_or_else(|e| Err(IdentityError::Crypto(format!("the change was interrupted: {e}"))))
    }
}
