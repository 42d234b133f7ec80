//! Sessions of browsers: `/api/v1/session` and `/api/v1/login-links`. A session stands for an API key and can never do more than it;
//! it ends with the key.

use super::keys::Role;
use super::tenants::TenantView;
use crate::{ApiKeyId, time::Micros};
use serde::{Deserialize, Serialize};

/// The header in which a browser's page repeats [`SessionView::csrf_token`] with whatever changes something.
pub const CSRF_HEADER: &str = "x-csrf-token";
/// The page that takes [`LoginLinkView::path`] up.
pub const SIGN_IN_PATH: &str = "/sign-in";
/// The longest life of a session, in seconds: a week, or less where its key ends sooner.
pub const MAX_SESSION_S: i64 = 7 * 24 * 3_600;
/// How long a session lives unused, in seconds: overnight it ends.
pub const IDLE_SESSION_S: i64 = 12 * 3_600;
/// The life of a one-time login link, in seconds.
pub const LOGIN_LINK_S: i64 = 600;

/// `POST /api/v1/session`: one of the two.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    /// An API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// What stands in a one-time login link after `#code=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

impl std::fmt::Debug for CreateSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateSession").finish_non_exhaustive()
    }
}

/// A session. What it is known by stands in a cookie that no script reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionView {
    /// The key's tenant.
    pub tenant: TenantView,
    /// The key that the session stands for.
    pub key_id: ApiKeyId,
    /// The key's name.
    pub key_name: String,
    /// What it may do.
    pub role: Role,
    /// Sent back in [`CSRF_HEADER`] with whatever changes something.
    pub csrf_token: String,
    /// When it ends at the latest.
    pub expires_at: Micros,
}

/// `POST /api/v1/login-links`: a way to sign in once, without typing a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LoginLinkView {
    /// To be opened below the control plane's address. What follows `#` never leaves the browser but in the one request.
    pub path: String,
    /// When it ends unused.
    pub expires_at: Micros,
}
