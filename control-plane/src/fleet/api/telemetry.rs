//! `/devices/{device}/telemetry`: what a device measured.

use super::{ApiState, of_device};
use crate::fleet::devices::Devices;
use crate::fleet::telemetry::Telemetry;
use crate::platform::clock::Clock;
use crate::platform::http::{ApiError, Json, Path, Query};
use crate::tenants::Viewer;
use aidos_protocol::DeviceId;
use aidos_protocol::api::Problem;
use aidos_protocol::api::telemetry::{DEFAULT_POINTS, MAX_POINTS, MAX_SERIES, TelemetryOverview, TelemetryRange};
use aidos_protocol::time::Micros;
use axum::extract::State;
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The range when the caller does not say where it begins, in seconds: an hour.
const DEFAULT_RANGE_S: i64 = 3_600;

pub(super) fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(range)).routes(routes!(metrics))
}

/// Which metrics, when, how finely.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct RangeQuery {
    /// The metric, or up to 16 of them with commas between.
    /// The metric, or up to 16 of them with commas between; the first 16 of the newest sample, by name, when absent.
    #[serde(default)]
    metric: String,
    /// The range's begin in microseconds since the epoch; an hour before its end when absent.
    from: Option<i64>,
    /// The range's end; now when absent.
    to: Option<i64>,
    /// Points per metric at most; 500 when absent.
    #[param(minimum = 1, maximum = 2000)]
    points: Option<u32>,
}

/// Metrics over time, thinned to least, greatest and mean per point.
#[utoipa::path(get, path = "/api/v1/devices/{device}/telemetry", tag = "telemetry", operation_id = "getTelemetry",
    params(("device" = DeviceId, Path, description = "The device"), RangeQuery),
    responses((status = 200, body = TelemetryRange), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn range(
    Viewer(caller): Viewer,
    State(devices): State<Devices>,
    State(telemetry): State<Telemetry>,
    State(clock): State<Clock>,
    Path(device): Path<DeviceId>,
    Query(query): Query<RangeQuery>,
) -> Result<Json<TelemetryRange>, ApiError> {
    devices.get(caller.tenant, device).await.map_err(of_device(device))?;
    let mut metrics: Vec<String> = Vec::new();
    for metric in query.metric.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if !metrics.iter().any(|known| known == metric) {
            metrics.push(metric.to_owned());
        }
    }
    if metrics.len() > MAX_SERIES {
        return Err(ApiError::invalid("metric", format!("name at most {MAX_SERIES} metrics, and ask for the others after")));
    }
    if metrics.is_empty() {
        let known = telemetry.overview(caller.tenant, device).await?.metrics;
        metrics.extend(known.into_iter().map(|metric| metric.name).take(MAX_SERIES));
    }
    let points = query.points.unwrap_or(DEFAULT_POINTS);
    if !(1..=MAX_POINTS).contains(&points) {
        return Err(ApiError::invalid("points", format!("points is {points}, it must be 1 to {MAX_POINTS}")));
    }
    let to = query.to.map_or_else(|| clock.now(), Micros);
    let from = query.from.map_or_else(|| to.plus_seconds(-DEFAULT_RANGE_S), Micros);
    if from >= to {
        return Err(ApiError::invalid("from", "the range must begin before it ends; both are microseconds since the epoch"));
    }
    Ok(Json(telemetry.range(caller.tenant, device, metrics, (from, to), points).await?))
}

/// The metrics of a device, their newest readings, and what was lost.
#[utoipa::path(get, path = "/api/v1/devices/{device}/telemetry/metrics", tag = "telemetry", operation_id = "getTelemetryMetrics",
    params(("device" = DeviceId, Path, description = "The device")),
    responses((status = 200, body = TelemetryOverview), (status = 404, body = Problem)))]
async fn metrics(
    Viewer(caller): Viewer,
    State(devices): State<Devices>,
    State(telemetry): State<Telemetry>,
    Path(device): Path<DeviceId>,
) -> Result<Json<TelemetryOverview>, ApiError> {
    devices.get(caller.tenant, device).await.map_err(of_device(device))?;
    Ok(Json(telemetry.overview(caller.tenant, device).await?))
}
