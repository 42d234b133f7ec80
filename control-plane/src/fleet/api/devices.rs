//! `/devices`: finding, showing, editing, revoking and removing them.

use super::{ApiState, of_device};
use crate::fleet::devices::Devices;
use crate::fleet::listing::RenameError;
use crate::fleet::listing_store::{DeviceFilter, Place};
use crate::fleet::store::DeviceRow;
use crate::fleet::twins::Twins;
use crate::fleet::views;
use crate::platform::http::{ApiError, ETag, IfMatch, Json, PageQuery, Path, Query};
use crate::tenants::{Caller, Operator, Viewer};
use aidos_protocol::DeviceId;
use aidos_protocol::api::devices::{
    DeviceDetail, DeviceSort, DeviceState, DeviceView, MAX_NAME_CHARS, MAX_QUERY_CHARS, PatchDevice,
};
use aidos_protocol::api::{Page, Problem};
use aidos_protocol::selector::Selector;
use aidos_protocol::twin::Edit;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, edit, remove)).routes(routes!(revoke))
}

/// Which devices, in which order.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// A label selector as in kubectl: `site=lab,gpu!=none`.
    selector: Option<String>,
    /// Only devices in this state.
    state: Option<DeviceState>,
    /// A part of the name, the address or a label's value, or the begin of the id.
    q: Option<String>,
    /// The order.
    #[param(inline)]
    #[serde(default)]
    sort: DeviceSort,
}

/// Devices, page by page.
#[utoipa::path(get, path = "/api/v1/devices", tag = "devices", operation_id = "listDevices", params(ListQuery, PageQuery),
    responses((status = 200, body = Page<DeviceView>), (status = 422, body = Problem, description = "A selector that does not read")))]
async fn list(
    Viewer(caller): Viewer,
    State(devices): State<Devices>,
    State(twins): State<Twins>,
    Query(query): Query<ListQuery>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<DeviceView>>, ApiError> {
    let selector: Selector = match query.selector.as_deref() {
        None => Selector::everything(),
        Some(text) => text.parse().map_err(|error| ApiError::invalid("selector", format!("{error}")))?,
    };
    let text = query.q.filter(|text| !text.is_empty());
    if text.as_ref().is_some_and(|text| text.chars().count() > MAX_QUERY_CHARS) {
        return Err(ApiError::invalid("q", format!("search for at most {MAX_QUERY_CHARS} characters")));
    }
    let after: Option<Place> = page.after()?;
    if after.as_ref().is_some_and(|place| place.sort() != query.sort) {
        return Err(ApiError::invalid("cursor", "the cursor is of a list in another order; begin again without it"));
    }
    let filter = DeviceFilter { selector, state: query.state, text };
    let rows = devices.list(caller.tenant, &filter, query.sort, after.as_ref(), page.limit()? + 1).await?;
    let page = page.page(rows, |row| Place::of(row, query.sort))?;
    let ids: Vec<DeviceId> = page.items.iter().map(|row| row.id).collect();
    let mut labels = devices.labels(caller.tenant, &ids).await?;
    let drained = twins.drained(caller.tenant, &ids).await?;
    Ok(Json(page.map(|row| {
        let (labels, drained) = (labels.remove(&row.id).unwrap_or_default(), drained.get(&row.id).copied());
        views::device(row, labels, drained)
    })))
}

/// One device: what it is, what is wanted of it, what it reports.
#[utoipa::path(get, path = "/api/v1/devices/{device}", tag = "devices", operation_id = "getDevice",
    params(("device" = DeviceId, Path, description = "The device")),
    responses((status = 200, body = DeviceDetail, headers(("ETag" = String, description = "For If-Match"))), (status = 404, body = Problem)))]
async fn show(
    Viewer(caller): Viewer,
    State(devices): State<Devices>,
    State(twins): State<Twins>,
    Path(device): Path<DeviceId>,
) -> Result<(ETag, Json<DeviceDetail>), ApiError> {
    detail(&caller, &devices, &twins, device).await
}

async fn detail(
    caller: &Caller,
    devices: &Devices,
    twins: &Twins,
    device: DeviceId,
) -> Result<(ETag, Json<DeviceDetail>), ApiError> {
    let row = devices.get(caller.tenant, device).await.map_err(of_device(device))?;
    let intent = twins.intent(caller.tenant, device).await?;
    let status = twins.status(caller.tenant, device).await?;
    let etag = etag(&row, intent.revision);
    Ok((etag, Json(views::device_detail(row, &intent.view, &intent.heads, &status.values))))
}

/// A device is edited in two places, its row and its intent: its tag changes with either.
fn etag(row: &DeviceRow, intent_revision: u64) -> ETag {
    ETag::revision(format_args!("{}.{intent_revision}", row.revision))
}

/// Names a device, labels it, notes something about it. What is absent stays.
#[utoipa::path(patch, path = "/api/v1/devices/{device}", tag = "devices", operation_id = "editDevice",
    params(("device" = DeviceId, Path, description = "The device"), ("If-Match" = Option<String>, Header, description = "The ETag of the state that was seen")),
    request_body = PatchDevice,
    responses((status = 200, body = DeviceDetail), (status = 404, body = Problem), (status = 412, body = Problem), (status = 422, body = Problem)))]
async fn edit(
    Operator(caller): Operator,
    State(devices): State<Devices>,
    State(twins): State<Twins>,
    Path(device): Path<DeviceId>,
    if_match: IfMatch,
    Json(patch): Json<PatchDevice>,
) -> Result<(ETag, Json<DeviceDetail>), ApiError> {
    let row = devices.get(caller.tenant, device).await.map_err(of_device(device))?;
    let intent = twins.intent(caller.tenant, device).await?;
    if_match.check(&etag(&row, intent.revision))?;
    // Everything is checked before anything is written.
    let name = patch.name.as_deref().map(check_name).transpose()?;
    let edits = edits(&patch);
    if !edits.is_empty() {
        super::twin::write(&twins, &caller, device, &edits, if_match.is_given().then_some(intent.revision)).await?;
    }
    if let Some(name) = name {
        rename(&devices, &caller, &row, name, if_match.is_given()).await?;
    }
    detail(&caller, &devices, &twins, device).await
}

fn edits(patch: &PatchDevice) -> Vec<Edit> {
    let labels = patch.labels.iter().map(|(key, value)| match value.clone() {
        Some(value) => Edit::SetLabel { key: key.clone(), value },
        None => Edit::RemoveLabel { key: key.clone() },
    });
    let notes = patch.notes.iter().map(|(key, value)| match value.clone() {
        Some(value) => Edit::SetNote { key: key.clone(), value },
        None => Edit::RemoveNote { key: key.clone() },
    });
    labels.chain(notes).collect()
}

fn check_name(name: &str) -> Result<&str, ApiError> {
    let name = name.trim();
    let visible = !name.is_empty() && name.chars().all(|c| !c.is_control());
    if visible && name.chars().count() <= MAX_NAME_CHARS {
        Ok(name)
    } else {
        Err(ApiError::invalid("name", format!("a name has 1 to {MAX_NAME_CHARS} visible characters")))
    }
}

async fn rename(devices: &Devices, caller: &Caller, row: &DeviceRow, name: &str, strict: bool) -> Result<(), ApiError> {
    let mut revision = row.revision;
    loop {
        match devices.rename(caller, row.id, name, revision).await {
            Ok(()) => return Ok(()),
            Err(RenameError::Stale) if strict => {
                return Err(ApiError::precondition_failed("someone changed the device at the same moment"));
            }
            // Who does not care which state it is takes the newest; each turn is another's success.
            Err(RenameError::Stale) => {
                revision = devices.get(caller.tenant, row.id).await.map_err(of_device(row.id))?.revision;
            }
            Err(RenameError::Store(error)) => return Err(of_device(row.id)(error)),
        }
    }
}

/// Denies a device everything from now on and ends its session.
#[utoipa::path(post, path = "/api/v1/devices/{device}/revoke", tag = "devices", operation_id = "revokeDevice",
    params(("device" = DeviceId, Path, description = "The device")),
    responses((status = 200, body = DeviceView), (status = 404, body = Problem)))]
async fn revoke(
    Operator(caller): Operator,
    State(devices): State<Devices>,
    State(twins): State<Twins>,
    Path(device): Path<DeviceId>,
) -> Result<Json<DeviceView>, ApiError> {
    let row = devices.revoke(&caller, device).await.map_err(of_device(device))?;
    let labels = devices.labels(caller.tenant, &[device]).await?.remove(&device).unwrap_or_default();
    let drained = twins.drained(caller.tenant, &[device]).await?.remove(&device);
    Ok(Json(views::device(row, labels, drained)))
}

/// Removes a device with all that is stored of it, and ends its session.
#[utoipa::path(delete, path = "/api/v1/devices/{device}", tag = "devices", operation_id = "deleteDevice",
    params(("device" = DeviceId, Path, description = "The device")),
    responses((status = 204), (status = 404, body = Problem)))]
async fn remove(
    Operator(caller): Operator,
    State(devices): State<Devices>,
    Path(device): Path<DeviceId>,
) -> Result<StatusCode, ApiError> {
    devices.delete(&caller, device).await.map_err(of_device(device))?;
    Ok(StatusCode::NO_CONTENT)
}
