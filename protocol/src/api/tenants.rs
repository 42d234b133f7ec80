//! Tenants: `/api/v1/tenants` and `/api/v1/whoami`. Only an owner of the root tenant sees or makes others.

use crate::{ApiKeyId, TenantId, api::keys::Role, time::Micros};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The name of a tenant: 1–40 of `a-z 0-9 -`, beginning and ending with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TenantName(String);

/// A text that cannot name a tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a tenant name: use 1 to 40 of a-z 0-9 -, and begin and end with a letter or digit")]
pub struct TenantNameError(String);

impl TenantName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl FromStr for TenantName {
    type Err = TenantNameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let ok = (1..=40).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-');
        if ok { Ok(Self(text.to_owned())) } else { Err(TenantNameError(text.chars().take(80).collect())) }
    }
}
impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl From<TenantName> for String {
    fn from(name: TenantName) -> String {
        name.0
    }
}
impl TryFrom<String> for TenantName {
    type Error = TenantNameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
impl utoipa::PartialSchema for TenantName {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"))
            .build()
            .into()
    }
}
impl utoipa::ToSchema for TenantName {}

/// `POST /api/v1/tenants`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// Unique within the deployment.
    pub name: TenantName,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TenantView {
    /// Its id.
    pub id: TenantId,
    /// Its name.
    pub name: TenantName,
    /// Whether its owners may see and make tenants.
    pub root: bool,
    /// When it was made.
    pub created_at: Micros,
}

/// The answer to [`CreateTenant`]: the tenant and the only sight of its first owner's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TenantCreated {
    /// The new tenant.
    pub tenant: TenantView,
    /// Its first owner key; it is shown once and stored only as a hash.
    pub owner_key: String,
}

/// `GET /api/v1/whoami`: what the presented key stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WhoAmI {
    /// The key's tenant.
    pub tenant: TenantView,
    /// The key.
    pub key_id: ApiKeyId,
    /// The key's name.
    pub key_name: String,
    /// What it may do.
    pub role: Role,
    /// When it ends; absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Micros>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_name_fits_in_a_url_and_a_certificate() {
        for bad in ["", "-a", "a-", "A", "a b", "a/b", &"a".repeat(41)] {
            assert!(bad.parse::<TenantName>().is_err(), "{bad}");
        }
        assert!("site-7".parse::<TenantName>().is_ok());
    }
}
