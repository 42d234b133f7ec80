//! `/devices/{device}/twin` and `/config`: what is wanted of a device beside what it reports, and its settings.

use super::{ApiState, of_device};
use crate::fleet::devices::Devices;
use crate::fleet::twins::{TwinError, Twins};
use crate::fleet::views;
use crate::platform::http::{ApiError, ETag, IfMatch, Json, Path};
use crate::tenants::{Caller, Operator, Viewer};
use aidos_protocol::DeviceId;
use aidos_protocol::api::Problem;
use aidos_protocol::api::devices::{Config, TwinView};
use aidos_protocol::twin::release::is_reserved;
use aidos_protocol::twin::{Edit, EditError, IntentError, Room};
use axum::extract::State;
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(config, put_config, patch_config))
}

/// The two documents of a device's twin, and where they differ.
#[utoipa::path(get, path = "/api/v1/devices/{device}/twin", tag = "devices", operation_id = "getTwin",
    params(("device" = DeviceId, Path, description = "The device")),
    responses((status = 200, body = TwinView), (status = 404, body = Problem)))]
async fn show(
    Viewer(caller): Viewer,
    State(devices): State<Devices>,
    State(twins): State<Twins>,
    Path(device): Path<DeviceId>,
) -> Result<(ETag, Json<TwinView>), ApiError> {
    devices.get(caller.tenant, device).await.map_err(of_device(device))?;
    let intent = twins.intent(caller.tenant, device).await?;
    let status = twins.status(caller.tenant, device).await?;
    let view = TwinView {
        device,
        revision: intent.revision,
        differences: views::differences(&intent.view, &intent.heads, &status.values),
        intent: intent.view,
        status: status.values,
    };
    Ok((ETag::revision(view.revision), Json(view)))
}

/// A device's settings.
#[utoipa::path(get, path = "/api/v1/devices/{device}/config", tag = "devices", operation_id = "getConfig",
    params(("device" = DeviceId, Path, description = "The device")),
    responses((status = 200, body = BTreeMap<String, Value>), (status = 404, body = Problem)))]
async fn config(
    Viewer(caller): Viewer,
    State(devices): State<Devices>,
    State(twins): State<Twins>,
    Path(device): Path<DeviceId>,
) -> Result<(ETag, Json<Config>), ApiError> {
    current(&caller, &devices, &twins, device).await
}

async fn current(caller: &Caller, devices: &Devices, twins: &Twins, device: DeviceId) -> Result<(ETag, Json<Config>), ApiError> {
    devices.get(caller.tenant, device).await.map_err(of_device(device))?;
    let intent = twins.intent(caller.tenant, device).await?;
    Ok((ETag::revision(intent.revision), Json(intent.view.config)))
}

/// Replaces all settings of a device: what is not in the body is removed.
#[utoipa::path(put, path = "/api/v1/devices/{device}/config", tag = "devices", operation_id = "putConfig",
    params(("device" = DeviceId, Path, description = "The device"), ("If-Match" = Option<String>, Header, description = "The ETag of the state that was seen")),
    request_body = BTreeMap<String, Value>,
    responses((status = 200, body = BTreeMap<String, Value>), (status = 404, body = Problem), (status = 412, body = Problem), (status = 422, body = Problem)))]
async fn put_config(
    Operator(caller): Operator,
    State(devices): State<Devices>,
    State(twins): State<Twins>,
    Path(device): Path<DeviceId>,
    if_match: IfMatch,
    Json(wanted): Json<Config>,
) -> Result<(ETag, Json<Config>), ApiError> {
    devices.get(caller.tenant, device).await.map_err(of_device(device))?;
    let intent = twins.intent(caller.tenant, device).await?;
    if_match.check(&ETag::revision(intent.revision))?;
    // What is reserved is left as it is: it was not set here.
    let gone = intent.view.config.keys().filter(|key| !wanted.contains_key(*key) && !is_reserved(Room::Config, key));
    let mut edits: Vec<Edit> = gone.map(|key| Edit::RemoveConfig { key: key.clone() }).collect();
    let set = wanted.into_iter().filter(|(key, value)| intent.view.config.get(key) != Some(value));
    edits.extend(set.map(|(key, value)| Edit::SetConfig { key, value }));
    not_reserved(&edits)?;
    // What is removed was looked up above: nothing may have come between.
    write(&twins, &caller, device, &edits, Some(intent.revision)).await?;
    current(&caller, &devices, &twins, device).await
}

/// Sets single settings of a device, or with `null` removes them.
#[utoipa::path(patch, path = "/api/v1/devices/{device}/config", tag = "devices", operation_id = "patchConfig",
    params(("device" = DeviceId, Path, description = "The device"), ("If-Match" = Option<String>, Header, description = "The ETag of the state that was seen")),
    request_body = BTreeMap<String, Value>,
    responses((status = 200, body = BTreeMap<String, Value>), (status = 404, body = Problem), (status = 412, body = Problem), (status = 422, body = Problem)))]
async fn patch_config(
    Operator(caller): Operator,
    State(devices): State<Devices>,
    State(twins): State<Twins>,
    Path(device): Path<DeviceId>,
    if_match: IfMatch,
    Json(patch): Json<Config>,
) -> Result<(ETag, Json<Config>), ApiError> {
    devices.get(caller.tenant, device).await.map_err(of_device(device))?;
    let intent = twins.intent(caller.tenant, device).await?;
    if_match.check(&ETag::revision(intent.revision))?;
    let edit = |(key, value)| match value {
        Value::Null => Edit::RemoveConfig { key },
        value => Edit::SetConfig { key, value },
    };
    let edits: Vec<Edit> = patch.into_iter().map(edit).collect();
    not_reserved(&edits)?;
    write(&twins, &caller, device, &edits, if_match.is_given().then_some(intent.revision)).await?;
    current(&caller, &devices, &twins, device).await
}

/// Refuses settings that have a way of their own, on which they are checked and recorded.
fn not_reserved(edits: &[Edit]) -> Result<(), ApiError> {
    match edits.iter().find(|edit| edit.is_reserved()) {
        None => Ok(()),
        Some(edit) => Err(ApiError::invalid("config", format!("`{}` cannot be set so: its name is reserved", edit.key()))
            .hint("use `aidos agent release deploy` for the agent's version and `aidos config push` for its settings")),
    }
}

/// Writes `edits` as one change by the caller; nothing when there are none.
pub(super) async fn write(
    twins: &Twins,
    caller: &Caller,
    device: DeviceId,
    edits: &[Edit],
    if_revision: Option<u64>,
) -> Result<(), ApiError> {
    if edits.is_empty() {
        return Ok(());
    }
    twins.edit(caller, device, edits, if_revision).await.map_err(|error| refused(device, error))?;
    Ok(())
}

fn refused(device: DeviceId, error: TwinError) -> ApiError {
    match error {
        TwinError::Stale { .. } => ApiError::precondition_failed(error.to_string()),
        TwinError::Edit(IntentError::Edit(error)) => ApiError::invalid(field_of(&error), error.to_string()),
        TwinError::Edit(error @ IntentError::Content { .. }) => ApiError::invalid("body", error.to_string()),
        // What is stored was checked when it was stored.
        TwinError::Edit(error) => ApiError::internal(error),
        TwinError::Store(error) => of_device(device)(error),
    }
}

fn field_of(error: &EditError) -> &'static str {
    match error {
        EditError::Key { room, .. }
        | EditError::Long { room, .. }
        | EditError::Value { room, .. }
        | EditError::Full { room, .. } => room.name(),
        _ => "body",
    }
}
