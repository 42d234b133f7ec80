//! The unguessable part of a repository's address: TUF clients send no credentials, and model names are nobody else's business.

use aidos_protocol::TenantId;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;

/// Makes and checks that part. It never expires: the address is written into devices and other clients.
pub(super) struct Access(hmac::Key);

impl Access {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    pub(super) fn of(&self, tenant: TenantId) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, message(tenant).as_bytes()))
    }

    /// In constant time.
    pub(super) fn opens(&self, tenant: TenantId, text: &str) -> bool {
        // A SHA-256 tag is 43 characters; nothing longer is decoded.
        let tag = (text.len() == 43).then(|| URL_SAFE_NO_PAD.decode(text).ok()).flatten();
        tag.is_some_and(|tag| hmac::verify(&self.0, message(tenant).as_bytes(), &tag).is_ok())
    }
}

fn message(tenant: TenantId) -> String {
    format!("aidos tuf 1\n{tenant}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_opens_one_tenants_repository() {
        let access = Access::new(&[7; 32]);
        let (tenant, other) = (TenantId::new(1), TenantId::new(2));
        let text = access.of(tenant);
        assert!(access.opens(tenant, &text));
        assert!(!access.opens(other, &text));
        assert!(!access.opens(tenant, "x") && !access.opens(tenant, ""));
        assert!(!Access::new(&[8; 32]).opens(tenant, &text));
    }
}
