//! The fleet's REST resources. The only folder of this room that knows axum: it reads requests, asks the handles and writes
//! answers; what may happen to a device is decided by the handles.
//!
//! Each endpoint names the role it takes, and each looks the device up within the caller's tenant first: another tenant's
//! device is answered like one that does not exist.

mod commands;
mod devices;
mod telemetry;
mod twin;

#[cfg(test)]
mod tests;

use super::commands::Commands;
use super::devices::Devices;
use super::telemetry::Telemetry;
use super::twins::Twins;
use crate::platform::clock::Clock;
use crate::platform::db::StoreError;
use crate::platform::http::ApiError;
use crate::tenants::Tenants;
use aidos_protocol::DeviceId;
use axum::extract::FromRef;
use utoipa_axum::router::OpenApiRouter;

/// What the fleet's endpoints work with.
#[derive(Clone, FromRef)]
pub(crate) struct ApiState {
    pub(crate) tenants: Tenants,
    pub(crate) devices: Devices,
    pub(crate) twins: Twins,
    pub(crate) commands: Commands,
    pub(crate) telemetry: Telemetry,
    pub(crate) clock: Clock,
}

/// The endpoints below `/devices`.
pub(crate) fn router(state: ApiState) -> OpenApiRouter {
    OpenApiRouter::new()
        .merge(devices::router())
        .merge(twin::router())
        .merge(commands::router())
        .merge(telemetry::router())
        .with_state(state)
}

/// Says which device is not there; every other error as it is.
fn of_device(device: DeviceId) -> impl Fn(StoreError) -> ApiError {
    move |error| match error {
        StoreError::NotFound => ApiError::not_found(format!("device {device}")).hint("`aidos device list` shows those there are"),
        other => other.into(),
    }
}
