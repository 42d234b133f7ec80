//! `/rollouts/{id}/gates`: what the gates of a rollout said over time.

use super::Deployments;
use super::api::ApiState;
use super::readings::{Point, thinned};
use super::rollout_api::number;
use crate::platform::http::{ApiError, Json, Path, Query};
use crate::tenants::Viewer;
use aidos_protocol::DeploymentId;
use aidos_protocol::api::rollouts::{DEFAULT_POINTS, GatePoint, GateSeries, MAX_POINTS, RolloutGatesView};
use axum::extract::State;
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router(state: ApiState) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(gates)).with_state(state)
}

/// How much of it.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Points {
    /// At most so many points of each gate; 1,000 when absent.
    #[param(minimum = 1, maximum = 10_000)]
    max_points: Option<u32>,
}

/// Show what the gates of a rollout said over time
///
/// A deployment has no gates. Of a long rollout the older judgements stand wider apart than the newer ones.
#[utoipa::path(get, path = "/api/v1/rollouts/{id}/gates", operation_id = "getRolloutGates", tag = "rollouts",
    params(("id" = DeploymentId, Path), Points), responses((status = 200, body = RolloutGatesView)))]
async fn gates(
    Viewer(caller): Viewer,
    State(deployments): State<Deployments>,
    Path(id): Path<DeploymentId>,
    Query(Points { max_points }): Query<Points>,
) -> Result<Json<RolloutGatesView>, ApiError> {
    let most = max_points.unwrap_or(DEFAULT_POINTS);
    if !(1..=MAX_POINTS).contains(&most) {
        return Err(ApiError::invalid("max_points", format!("max_points is {most}, it must be 1 to {MAX_POINTS}")));
    }
    let Some(rollout) = deployments.rollout(caller.tenant, id).await?.rollout else {
        return Ok(Json(RolloutGatesView { gates: Vec::new() }));
    };
    let readings = deployments.readings(caller.tenant, &rollout).await?;
    let series = rollout.plan.gates.iter().zip(readings).map(|(gate, points)| GateSeries {
        gate: gate.to_string(),
        points: thinned(points, most as usize).into_iter().map(point).collect(),
    });
    Ok(Json(RolloutGatesView { gates: series.collect() }))
}

fn point(point: Point) -> GatePoint {
    let Point { at, wave, candidate, baseline, devices, verdict } = point;
    GatePoint { at, wave: number(wave), candidate, baseline, devices, verdict }
}
