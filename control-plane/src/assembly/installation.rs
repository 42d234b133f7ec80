//! `/api/v1/installation`: how this control plane was set up. It concerns all tenants, so only owners of the root tenant are told.

use super::rooms::Rooms;
use crate::platform::db::{Db, Dialect};
use crate::platform::http::{ApiError, Json, MAX_BODY};
use crate::platform::objects::Objects;
use crate::tenants::{Owner, Tenants};
use aidos_protocol::api::installation::{Database, InstallationView, LimitsView, ObjectsView};
use aidos_protocol::api::{artifacts, models, page, tokens};
use aidos_protocol::artifact::MAX_ARTIFACT_BYTES;
use aidos_protocol::enrol::EndpointsView;
use axum::extract::{FromRef, State};
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(Clone, FromRef)]
struct Parts {
    tenants: Tenants,
    db: Db,
    objects: Objects,
    endpoints: EndpointsView,
}

/// The endpoint.
pub(super) fn router(rooms: &Rooms) -> OpenApiRouter {
    let (tenants, endpoints) = (rooms.tenants.clone(), rooms.endpoints.clone());
    let parts = Parts { tenants, db: rooms.ground.db.clone(), objects: rooms.ground.objects.clone(), endpoints };
    OpenApiRouter::new().routes(routes!(installation)).with_state(parts)
}

/// How this control plane was set up; for owners of the root tenant
#[utoipa::path(get, path = "/api/v1/installation", operation_id = "getInstallation", tag = "overview",
    responses((status = 200, body = InstallationView)))]
async fn installation(Owner(caller): Owner, State(parts): State<Parts>) -> Result<Json<InstallationView>, ApiError> {
    if !parts.tenants.is_root(&caller).await? {
        return Err(ApiError::forbidden("only owners of the root tenant see how the control plane was set up"));
    }
    Ok(Json(InstallationView {
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        database: match parts.db.dialect() {
            Dialect::Sqlite => Database::Sqlite,
            Dialect::Postgres => Database::Postgres,
        },
        objects: ObjectsView { store: parts.objects.to_string(), presigned: parts.objects.presigns() },
        endpoints: parts.endpoints,
        limits: LimitsView {
            model_bytes: models::MAX_MODEL_BYTES,
            artifact_bytes: MAX_ARTIFACT_BYTES,
            upload_chunk_bytes: artifacts::MAX_CHUNK_BYTES as u64,
            request_bytes: MAX_BODY as u64,
            page_items: page::MAX_LIMIT,
            token_uses: tokens::MAX_USES,
        },
    }))
}
