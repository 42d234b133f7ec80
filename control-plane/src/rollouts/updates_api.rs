//! `/devices/{device}/updates`: what was rolled out and deployed to a device.

use super::Deployments;
use super::api::ApiState;
use super::rollout_api::number;
use super::updates::Update;
use crate::platform::http::{ApiError, Json, PageQuery, Path, Query};
use crate::tenants::Viewer;
use aidos_protocol::api::Page;
use aidos_protocol::api::rollouts::DeviceUpdateView;
use aidos_protocol::{DeviceId, time::Micros};
use axum::extract::State;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router(state: ApiState) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(updates)).with_state(state)
}

/// List what was rolled out and deployed to a device, newest first
///
/// Every rollout that the device has or had a place in, and what came of it there. Deployments are listed while the device has by them
/// what it has.
#[utoipa::path(get, path = "/api/v1/devices/{device}/updates", operation_id = "listDeviceUpdates", tag = "devices",
    params(("device" = DeviceId, Path), PageQuery), responses((status = 200, body = Page<DeviceUpdateView>)))]
async fn updates(
    Viewer(caller): Viewer,
    State(deployments): State<Deployments>,
    Path(device): Path<DeviceId>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<DeviceUpdateView>>, ApiError> {
    let before = page.after()?.unwrap_or(Micros(i64::MAX));
    let limit = u32::try_from(page.limit()? + 1).unwrap_or(u32::MAX);
    let rows = deployments.updates(caller.tenant, device, before, limit).await?;
    Ok(Json(page.page(rows, |row| row.created)?.map(view)))
}

fn view(update: Update) -> DeviceUpdateView {
    let Update { id, kind, subject, desired, created, part, progress, reason, told, updated } = update;
    let (wave, outcome) = part.map_or((None, None), |(wave, outcome)| (Some(number(wave)), Some(outcome)));
    DeviceUpdateView {
        id,
        kind,
        subject,
        version: desired.version(),
        wave,
        outcome,
        progress,
        reason,
        told_at: told,
        updated_at: updated,
        created_at: created,
    }
}
