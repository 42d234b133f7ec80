//! Enrolment: join token → certificate signing request → certificate, and renewal of a certificate that has expired.
//!
//! A join token is `aidos1.<base64url(json)>`: the control plane's address, the token's id and secret, and the SHA-256 of the
//! deployment's CA certificate, so that a device trusts the right control plane before it has any certificate.

use crate::artifact::Digest;
use crate::{DeviceId, TenantId, TokenId};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::{fmt, str::FromStr};

/// A device certificate's life: long enough to survive weeks offline, short enough that a stolen key ages out.
pub const CERTIFICATE_DAYS: i64 = 30;
/// How long after its end a certificate may still be renewed.
pub const RENEW_GRACE_DAYS: i64 = 400;

/// A join token as it is printed once and typed on devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Which token; it is stored under this id.
    #[serde(rename = "i")]
    pub id: TokenId,
    /// 32 random bytes, base64url. Only its SHA-256 is stored.
    #[serde(rename = "s")]
    pub secret: String,
    /// SHA-256 of the CA certificate (DER), hexadecimal.
    #[serde(rename = "c")]
    pub ca_pin: String,
}

/// A text that is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a join token: it should begin with `aidos1.`; make one with `aidos token create`")]
pub struct TokenFormatError;

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_vec(self).expect("a struct of strings serialises");
        write!(f, "aidos1.{}", URL_SAFE_NO_PAD.encode(json))
    }
}
impl FromStr for JoinToken {
    type Err = TokenFormatError;
    fn from_str(text: &str) -> Result<Self, TokenFormatError> {
        // 512 bounds what is decoded; a token is about 200 characters.
        let body = text.trim().strip_prefix("aidos1.").filter(|b| b.len() <= 512).ok_or(TokenFormatError)?;
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| TokenFormatError)?;
        serde_json::from_slice(&json).map_err(|_| TokenFormatError)
    }
}

/// `POST /api/v1/enrol`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EnrolRequest {
    /// The join token's text.
    pub token: String,
    /// PEM certificate signing request (PKCS #10), ECDSA P-256. Its subject is ignored.
    pub csr_pem: String,
    /// A name for people; the host name by default.
    pub name: String,
    /// Labels the device adds to those of the token. The token's win.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// The answer to [`EnrolRequest`].
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EnrolResponse {
    /// The new device's id.
    pub device_id: DeviceId,
    /// Its tenant.
    pub tenant_id: TenantId,
    /// PEM: the device's certificate, then the CA's.
    pub chain_pem: String,
    /// PEM: the CA certificate to trust.
    pub ca_pem: String,
    /// Where to connect.
    pub endpoints: EndpointsView,
    /// The root of the tenant's update repository; absent where its people have made none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustAnchor>,
}

/// The root by which a device begins to believe updates. It is taken once; later roots prove themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TrustAnchor {
    /// The newest root, byte for byte.
    pub root: String,
    /// ECDSA P-256/SHA-256 (ASN.1 DER, base64) by the deployment's CA over [`anchor_message`]: what came on a way that others
    /// can open is still of the control plane that the join token's pin names.
    pub signature: String,
}

/// What the deployment's CA signs in a [`TrustAnchor`].
pub fn anchor_message(tenant: TenantId, root: &[u8]) -> Vec<u8> {
    format!("aidos trust root v1\0{tenant}\0{}", Digest::of(root)).into_bytes()
}

/// Where a control plane is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EndpointsView {
    /// Base URL of the REST API.
    pub api_url: String,
    /// `host:port`, UDP; empty: not offered.
    #[serde(default)]
    pub quic: String,
    /// `host:port`, TCP with TLS; empty: not offered.
    #[serde(default)]
    pub mqtt: String,
    /// The tenant's update repository, a URL or a path of the API, to which `metadata/`, `targets/` and `anchor` are added;
    /// empty: not told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trust: String,
}

/// `POST /api/v1/enrol/renew`: for a certificate that is about to expire, or expired at most [`RENEW_GRACE_DAYS`] ago.
/// The signature proves possession of the old key, so no other credential is needed and nothing else can be done with it.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RenewalRequest {
    /// PEM of the certificate to renew.
    pub certificate_pem: String,
    /// PEM certificate signing request with the key to certify.
    pub csr_pem: String,
    /// ECDSA P-256/SHA-256 (ASN.1 DER, base64) by the *old* key over [`renewal_message`].
    pub signature: String,
}

/// The answer to [`RenewalRequest`].
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RenewalResponse {
    /// PEM: the new certificate, then the CA's.
    pub chain_pem: String,
    /// Where to connect now.
    pub endpoints: EndpointsView,
}

/// What the old key signs in a [`RenewalRequest`].
pub fn renewal_message(csr_der: &[u8]) -> Vec<u8> {
    [b"aidos renewal v1\0".as_slice(), csr_der].concat()
}

/// The URI that names a device in its certificate's subject alternative name (SPIFFE ID).
pub fn spiffe_id(deployment: &str, tenant: TenantId, device: DeviceId) -> String {
    format!("spiffe://{deployment}/tenant/{tenant}/device/{device}")
}

/// A URI that is not the SPIFFE ID of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the SPIFFE ID of a device")]
pub struct SpiffeError(String);

/// Takes a SPIFFE ID apart into deployment, tenant and device.
pub fn parse_spiffe_id(uri: &str) -> Result<(String, TenantId, DeviceId), SpiffeError> {
    let fail = || SpiffeError(uri.chars().take(200).collect());
    let mut parts = uri.strip_prefix("spiffe://").ok_or_else(fail)?.split('/');
    let (Some(deployment), Some("tenant"), Some(tenant), Some("device"), Some(device), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(fail());
    };
    Ok((deployment.to_owned(), tenant.parse().map_err(|_| fail())?, device.parse().map_err(|_| fail())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_token_survives_being_typed() {
        let token = JoinToken { id: TokenId::new(1), secret: "s".repeat(43), ca_pin: "a".repeat(64) };
        assert_eq!(format!(" {token}\n").parse(), Ok(token));
        assert!("aidos1.!!".parse::<JoinToken>().is_err());
        assert!("hello".parse::<JoinToken>().unwrap_err().to_string().contains("aidos token create"));
    }

    #[test]
    fn a_spiffe_id_reads_back_and_nothing_longer_is_taken() {
        let (tenant, device) = (TenantId::new(1), DeviceId::new(2));
        let uri = spiffe_id("home", tenant, device);
        assert_eq!(parse_spiffe_id(&uri), Ok(("home".into(), tenant, device)));
        assert!(parse_spiffe_id(&format!("{uri}/x")).is_err());
    }
}
