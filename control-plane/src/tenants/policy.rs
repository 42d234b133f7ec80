//! Who calls and what they may do: the extractors that every handler begins with.

use super::Tenants;
use crate::platform::http::ApiError;
use aidos_protocol::api::keys::Role;
use aidos_protocol::{ApiKeyId, DeviceId, TenantId};
use axum::extract::{ConnectInfo, FromRef, FromRequestParts};
use axum::http::request::Parts;
use std::net::{IpAddr, SocketAddr};

/// Who does something, in which tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Their tenant: the only one that they can reach.
    pub(crate) tenant: TenantId,
    /// `key:<id>`, `device:<id>`, `site:<user>` or `system`.
    pub(crate) actor: String,
    /// What they may do.
    pub(crate) role: Role,
    /// Where the request came from.
    pub(crate) from: Option<IpAddr>,
}

impl Caller {
    /// Someone with an API key.
    pub(crate) fn key(tenant: TenantId, key: ApiKeyId, role: Role, from: Option<IpAddr>) -> Self {
        Self { tenant, actor: format!("key:{key}"), role, from }
    }
    /// A device, for what it does by itself.
    pub(crate) fn device(tenant: TenantId, device: DeviceId) -> Self {
        Self { tenant, actor: format!("device:{device}"), role: Role::Viewer, from: None }
    }
    /// Someone at the device, whose edit the device signed.
    pub(crate) fn site(tenant: TenantId, user: &str) -> Self {
        Self { tenant, actor: format!("site:{user}"), role: Role::Operator, from: None }
    }
    /// The control plane itself.
    pub(crate) fn system(tenant: TenantId) -> Self {
        Self { tenant, actor: "system".into(), role: Role::Owner, from: None }
    }
}

/// Anyone of the tenant.
#[derive(Debug, Clone)]
pub(crate) struct Viewer(pub(crate) Caller);
/// An operator or owner of the tenant.
#[derive(Debug, Clone)]
pub(crate) struct Operator(pub(crate) Caller);
/// An owner of the tenant.
#[derive(Debug, Clone)]
pub(crate) struct Owner(pub(crate) Caller);

async fn at_least<S>(role: Role, parts: &mut Parts, state: &S) -> Result<Caller, ApiError>
where
    Tenants: FromRef<S>,
    S: Send + Sync,
{
    let caller = match parts.extensions.get::<Caller>() {
        Some(caller) => caller.clone(),
        None => {
            let from = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
            let caller = Tenants::from_ref(state).authenticate(&parts.method, &parts.headers, from).await?;
            parts.extensions.insert(caller.clone());
            caller
        }
    };
    if caller.role < role {
        let detail = format!("this needs the role {role}, and the key has the role {}", caller.role);
        return Err(ApiError::forbidden(detail).hint(format!("use a key with the role {role}; an owner makes one")));
    }
    Ok(caller)
}

macro_rules! extractor {
    ($($name:ident),+) => {$(
        impl<S> FromRequestParts<S> for $name
        where
            Tenants: FromRef<S>,
            S: Send + Sync,
        {
            type Rejection = ApiError;
            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
                at_least(Role::$name, parts, state).await.map(Self)
            }
        }
    )+};
}
extractor!(Viewer, Operator, Owner);
