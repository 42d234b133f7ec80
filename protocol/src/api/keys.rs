//! API keys: `/api/v1/keys`. A key's text appears in exactly one answer, that of its creation.

use crate::{ApiKeyId, time::Micros};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The longest name of a key, in bytes.
pub const MAX_KEY_NAME_BYTES: usize = 80;
/// The shortest life of a key that ends, in seconds.
pub const MIN_KEY_TTL_S: u64 = 60;
/// The longest life of a key that ends, in seconds: ten years.
pub const MAX_KEY_TTL_S: u64 = 10 * 366 * 24 * 3_600;

/// What a key may do. Each role may do all that the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Changes devices, models and deployments.
    Operator,
    /// Makes and revokes keys and join tokens; in the root tenant also tenants.
    Owner,
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role: use viewer, operator or owner")]
pub struct RoleError(String);

impl Role {
    /// The role as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }
}
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl FromStr for Role {
    type Err = RoleError;
    fn from_str(text: &str) -> Result<Self, RoleError> {
        [Self::Viewer, Self::Operator, Self::Owner]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| RoleError(text.chars().take(80).collect()))
    }
}

/// `POST /api/v1/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// What it is for, at most [`MAX_KEY_NAME_BYTES`] bytes.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Its life in seconds, [`MIN_KEY_TTL_S`] to [`MAX_KEY_TTL_S`]; absent: until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 60, maximum = 316_224_000)]
    pub ttl_s: Option<u64>,
}

/// A key as it is listed; the secret is not stored, so it cannot be shown again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KeyView {
    /// Its id.
    pub id: ApiKeyId,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The first characters of its text, to recognise it by.
    pub hint: String,
    /// When it was made.
    pub created_at: Micros,
    /// Who made it.
    pub created_by: String,
    /// When it ends; absent: when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Micros>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Micros>,
    /// When it was used last, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Micros>,
}

/// The answer to [`CreateKey`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KeyCreated {
    /// The new key.
    #[serde(flatten)]
    pub key: KeyView,
    /// Its text; it is shown once and stored only as a hash.
    pub secret: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_may_do_what_the_lesser_ones_may() {
        assert!(Role::Owner > Role::Operator && Role::Operator > Role::Viewer);
        assert_eq!("owner".parse(), Ok(Role::Owner));
        assert!("admin".parse::<Role>().unwrap_err().to_string().contains("viewer, operator or owner"));
    }
}
