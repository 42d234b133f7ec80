//! What a device signs when somebody edits its intent at the site, so that the edit may travel through a neighbour.

use super::ChangeHash;
use crate::{DeviceId, TenantId};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Says what the signature is for: no other message that a device signs begins like this.
const CONTEXT: &[u8] = b"aidos site change v1\0";

/// The bytes to sign: context, tenant, device, epoch, the user name with its length, and the change's hash. Every part has a
/// fixed length or says its own, so that no two different edits have the same message.
pub fn site_change_message(tenant: TenantId, device: DeviceId, epoch: u32, user: &str, change: &ChangeHash) -> Vec<u8> {
    let mut message = Vec::with_capacity(CONTEXT.len() + 16 + 16 + 4 + 4 + user.len() + 32);
    message.extend(CONTEXT);
    message.extend(tenant.as_bytes());
    message.extend(device.as_bytes());
    message.extend(epoch.to_be_bytes());
    message.extend(u32::try_from(user.len()).unwrap_or(u32::MAX).to_be_bytes());
    message.extend(user.as_bytes());
    message.extend(change.as_ref());
    message
}

/// Whether `signature` (ECDSA P-256 over SHA-256, ASN.1) over `message` is by the key whose SubjectPublicKeyInfo is `spki`, DER.
pub fn verify(spki: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok((_, parsed)) = SubjectPublicKeyInfo::from_der(spki) else { return false };
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, parsed.subject_public_key.data);
    key.verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_changes_the_message() {
        let (tenant, device) = (TenantId::new(1), DeviceId::new(2));
        let hash = ChangeHash([7; 32]);
        let message = site_change_message(tenant, device, 1, "alice", &hash);
        assert_ne!(message, site_change_message(TenantId::new(1), device, 1, "alice", &hash));
        assert_ne!(message, site_change_message(tenant, DeviceId::new(2), 1, "alice", &hash));
        assert_ne!(message, site_change_message(tenant, device, 2, "alice", &hash));
        assert_ne!(message, site_change_message(tenant, device, 1, "bob", &hash));
        assert_ne!(message, site_change_message(tenant, device, 1, "alice", &ChangeHash([8; 32])));
        assert!(message.starts_with(b"aidos site change v1\0"));
    }
}
