//! `/api/v1/overview`: numbers of several rooms in one answer. Each room counts its own.

use super::rooms::Rooms;
use crate::fleet::{Devices, Summary};
use crate::platform::clock::Clock;
use crate::platform::http::{ApiError, Json};
use crate::registry::Models;
use crate::rollouts::Deployments;
use crate::tenants::{Tenants, Viewer};
use aidos_protocol::api::overview::OverviewView;
use axum::extract::{FromRef, State};
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(Clone, FromRef)]
struct Parts {
    tenants: Tenants,
    devices: Devices,
    models: Models,
    deployments: Deployments,
    clock: Clock,
}

/// The endpoint.
pub(super) fn router(rooms: &Rooms) -> OpenApiRouter {
    let parts = Parts {
        tenants: rooms.tenants.clone(),
        devices: rooms.devices.clone(),
        models: rooms.models.clone(),
        deployments: rooms.deployments.clone(),
        clock: rooms.ground.clock.clone(),
    };
    OpenApiRouter::new().routes(routes!(overview)).with_state(parts)
}

/// How the fleet stands, in a few numbers
#[utoipa::path(get, path = "/api/v1/overview", operation_id = "getOverview", tag = "overview",
    responses((status = 200, body = OverviewView)))]
async fn overview(Viewer(caller): Viewer, State(parts): State<Parts>) -> Result<Json<OverviewView>, ApiError> {
    let Summary { devices, never_seen, certificates_expiring, agent_versions } = parts.devices.summary(caller.tenant).await?;
    Ok(Json(OverviewView {
        devices,
        never_seen,
        certificates_expiring,
        agent_versions,
        rollouts: parts.deployments.unfinished(caller.tenant).await?,
        models: parts.models.count(caller.tenant).await?,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        now: parts.clock.now(),
    }))
}
