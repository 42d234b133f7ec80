//! Signed addresses: whoever holds one may fetch one artifact of one tenant for a short time, without other credentials.
//! This module knows keys and times, never bytes or rows.

use crate::platform::clock::Clock;
use aidos_protocol::{TenantId, artifact::Digest, time::Micros};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;

/// How long an address holds. It is checked when a request begins, so a slow download is not cut; a resumed one asks for a
/// new address over its link.
pub(super) const GRANT_SECONDS: i64 = 15 * 60;
/// Bytes of the key: the block that HMAC-SHA-256 was analysed for.
pub(super) const KEY_BYTES: usize = 32;

/// Signs and checks addresses.
pub(super) struct Grants {
    key: hmac::Key,
    clock: Clock,
}

/// An address relative to the control plane's API.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) path: String,
    pub(super) expires: Micros,
}

/// Why an address does not open anything.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Too old; a new one has to be asked for.
    Expired,
    /// Not signed by this deployment.
    Forged,
}

impl Grants {
    pub(super) fn new(secret: &[u8], clock: Clock) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), clock }
    }

    pub(super) fn sign(&self, tenant: TenantId, digest: &Digest) -> Signed {
        let expires = self.clock.now().plus_seconds(GRANT_SECONDS);
        let tag = hmac::sign(&self.key, message(tenant, digest, expires).as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(tag.as_ref());
        let path = format!("/api/v1/blobs/{tenant}/{digest}?expires={}&signature={signature}", expires.0);
        Signed { path, expires }
    }

    /// The signature is compared in constant time, and before the time is looked at.
    pub(super) fn verify(&self, tenant: TenantId, digest: &Digest, expires: Micros, signature: &str) -> Result<(), Refusal> {
        // A SHA-256 tag is 43 characters; nothing longer is decoded.
        let tag = (signature.len() == 43).then(|| URL_SAFE_NO_PAD.decode(signature).ok()).flatten().ok_or(Refusal::Forged)?;
        hmac::verify(&self.key, message(tenant, digest, expires).as_bytes(), &tag).map_err(|_| Refusal::Forged)?;
        if self.clock.now() < expires { Ok(()) } else { Err(Refusal::Expired) }
    }
}

fn message(tenant: TenantId, digest: &Digest, expires: Micros) -> String {
    format!("aidos blob 1\n{tenant}\n{digest}\n{}", expires.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_address_opens_only_what_it_was_signed_for_and_only_for_a_while() {
        let clock = Clock::manual(Micros(1_000_000_000_000_000));
        let grants = Grants::new(&[7; KEY_BYTES], clock.clone());
        let (tenant, other) = (TenantId::new(1), TenantId::new(2));
        let (digest, another) = (Digest::of(b"a"), Digest::of(b"b"));
        let signed = grants.sign(tenant, &digest);
        let signature = signed.path.split_once("signature=").unwrap().1;
        let check = |tenant, digest, expires| grants.verify(tenant, digest, expires, signature);
        assert_eq!(check(tenant, &digest, signed.expires), Ok(()));
        assert_eq!(check(other, &digest, signed.expires), Err(Refusal::Forged));
        assert_eq!(check(tenant, &another, signed.expires), Err(Refusal::Forged));
        assert_eq!(check(tenant, &digest, signed.expires.plus_seconds(1)), Err(Refusal::Forged));
        assert_eq!(grants.verify(tenant, &digest, signed.expires, "x"), Err(Refusal::Forged));
        let foreign = Grants::new(&[8; KEY_BYTES], clock.clone());
        assert_eq!(foreign.verify(tenant, &digest, signed.expires, signature), Err(Refusal::Forged));
        clock.advance(Duration::from_secs(GRANT_SECONDS.unsigned_abs()));
        assert_eq!(check(tenant, &digest, signed.expires), Err(Refusal::Expired));
    }
}
