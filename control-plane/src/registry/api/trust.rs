//! `/trust`: the tenant's update repository, for people; `/tuf`: the same for TUF clients, which send no credentials.

use super::content;
use crate::platform::http::{ApiError, Json, Path};
use crate::registry::Trust;
use crate::tenants::{Operator, Viewer};
use aidos_protocol::TenantId;
use aidos_protocol::api::trust::{PutTrust, TrustView};
use aidos_protocol::enrol::TrustAnchor;
use axum::extract::State;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse as _, Response};

/// The largest body: the largest targets file as a JSON string, with a root beside it.
pub(super) const MAX_BODY: usize = 8 << 20;
/// Roots, versioned files and targets never change; only the timestamp does, which no cache may hold back.
const NEVER_CHANGES: &str = "private, max-age=31536000, immutable";

/// Show the update repository
#[utoipa::path(get, path = "/api/v1/trust", operation_id = "getTrust", tag = "trust", responses((status = 200, body = TrustView)))]
pub(super) async fn show(Viewer(caller): Viewer, State(trust): State<Trust>) -> Result<Json<TrustView>, ApiError> {
    Ok(Json(trust.view(caller.tenant).await?))
}

/// Publish signed metadata
///
/// Takes the next versions of root, targets and publishers' roles, all or none, and signs a snapshot and timestamp of them.
/// A root needs an owner's key.
#[utoipa::path(put, path = "/api/v1/trust", operation_id = "putTrust", tag = "trust", request_body = PutTrust,
    responses((status = 200, body = TrustView), (status = 409), (status = 422)))]
pub(super) async fn publish(
    Operator(caller): Operator,
    State(trust): State<Trust>,
    Json(request): Json<PutTrust>,
) -> Result<Json<TrustView>, ApiError> {
    Ok(Json(trust.publish(&caller, &request.files).await?))
}

/// Fetch a metadata file
///
/// The address itself is the credential: it has an unguessable part.
#[utoipa::path(get, path = "/api/v1/tuf/{tenant}/{access}/metadata/{file}", operation_id = "getTufMetadata", tag = "trust",
    params(("tenant" = TenantId, Path), ("access" = String, Path), ("file" = String, Path)), security(()),
    responses((status = 200, content_type = "application/json", body = Vec<u8>), (status = 404)))]
pub(super) async fn metadata(
    State(trust): State<Trust>,
    Path((tenant, access, file)): Path<(TenantId, String, String)>,
) -> Result<Response, ApiError> {
    let body = trust.metadata(tenant, &access, &file).await?;
    let cache = if file == "timestamp.json" { "no-cache" } else { NEVER_CHANGES };
    Ok(([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, cache)], body).into_response())
}

/// Fetch the root of trust
///
/// The newest root, signed by the deployment's CA: what a device begins with that joined before there was one. The address
/// itself is the credential.
#[utoipa::path(get, path = "/api/v1/tuf/{tenant}/{access}/anchor", operation_id = "getTrustAnchor", tag = "trust",
    params(("tenant" = TenantId, Path), ("access" = String, Path)), security(()),
    responses((status = 200, body = TrustAnchor), (status = 404)))]
pub(super) async fn anchor(
    State(trust): State<Trust>,
    Path((tenant, access)): Path<(TenantId, String)>,
) -> Result<Response, ApiError> {
    let anchor = trust.anchor_at(tenant, &access).await?;
    Ok(([(header::CACHE_CONTROL, "no-cache")], Json(anchor)).into_response())
}

/// Fetch a target file
///
/// The address itself is the credential: it has an unguessable part.
#[utoipa::path(get, path = "/api/v1/tuf/{tenant}/{access}/targets/{*path}", operation_id = "getTufTarget", tag = "trust",
    params(("tenant" = TenantId, Path), ("access" = String, Path), ("path" = String, Path)), security(()),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206), (status = 304),
        (status = 307), (status = 404), (status = 416)))]
pub(super) async fn target(
    State(trust): State<Trust>,
    Path((tenant, access, path)): Path<(TenantId, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let digest = trust.target(tenant, &access, &path)?;
    content::respond(trust.artifacts(), tenant, &digest, &method, &headers).await
}
