//! `/artifacts` and `/blobs`: stored bytes, for people with a key and for devices with a signed address.

use super::{content, views};
use crate::platform::http::{ApiError, Json, Path, Query};
use crate::registry::Artifacts;
use crate::tenants::Viewer;
use aidos_protocol::{TenantId, api::artifacts::ArtifactView, artifact::Digest, time::Micros};
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use serde::Deserialize;

/// Show an artifact
#[utoipa::path(get, path = "/api/v1/artifacts/{digest}", operation_id = "getArtifact", tag = "artifacts", params(("digest" = Digest, Path)),
    responses((status = 200, body = ArtifactView)))]
pub(super) async fn show(
    Viewer(caller): Viewer,
    State(artifacts): State<Artifacts>,
    Path(digest): Path<Digest>,
) -> Result<Json<ArtifactView>, ApiError> {
    Ok(Json(views::artifact(artifacts.get(caller.tenant, &digest).await?)))
}

/// Fetch an artifact's bytes
///
/// Takes `Range`, `If-Range` and `If-None-Match`; may redirect to the object store.
#[utoipa::path(get, path = "/api/v1/artifacts/{digest}/content", operation_id = "getArtifactContent", tag = "artifacts", params(("digest" = Digest, Path)),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206), (status = 304),
        (status = 307), (status = 416)))]
pub(super) async fn content(
    Viewer(caller): Viewer,
    State(artifacts): State<Artifacts>,
    Path(digest): Path<Digest>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    content::respond(&artifacts, caller.tenant, &digest, &method, &headers).await
}

/// The signature of an address.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Signature {
    /// Microseconds since the epoch.
    #[param(value_type = i64)]
    expires: Micros,
    /// HMAC over tenant, digest and expiry.
    signature: String,
}

/// Fetch an artifact's bytes by a signed address
///
/// The address itself is the credential; devices get one over their link.
#[utoipa::path(get, path = "/api/v1/blobs/{tenant}/{digest}", operation_id = "getBlob", tag = "artifacts",
    params(("tenant" = TenantId, Path), ("digest" = Digest, Path), Signature), security(()),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206), (status = 304),
        (status = 307), (status = 403), (status = 416)))]
pub(super) async fn blob(
    State(artifacts): State<Artifacts>,
    Path((tenant, digest)): Path<(TenantId, Digest)>,
    Query(signature): Query<Signature>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    artifacts.check_grant(tenant, &digest, signature.expires, &signature.signature)?;
    content::respond(&artifacts, tenant, &digest, &method, &headers).await
}
