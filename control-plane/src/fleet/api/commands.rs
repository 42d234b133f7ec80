//! `/devices/{device}/commands` and `/infer/{model}`: asking a device to do something once.

use super::{ApiState, of_device};
use crate::fleet::command_request::{InferCall, RequestError};
use crate::fleet::commands::{CommandError, Commands, InferOutcome};
use crate::fleet::commands_store::{CommandRow, Payload};
use crate::fleet::views;
use crate::platform::http::{ApiError, Created, Json, PageQuery, Path, Query};
use crate::tenants::{Operator, Viewer};
use aidos_protocol::api::commands::{CommandState, CommandView, CreateCommand, MAX_WAIT_S};
use aidos_protocol::api::{Page, Problem};
use aidos_protocol::{CommandId, DeviceId, ModelName, frame, oip};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use std::time::Duration;
use utoipa_axum::{router::OpenApiRouter, routes};

/// How long `…/infer/{model}` waits when the caller does not say, in seconds: the first inference after a start may load.
const DEFAULT_INFER_S: u64 = 30;

pub(super) fn router() -> OpenApiRouter<ApiState> {
    // The link carries no more; what is a few bytes below fails with the exact count.
    let infer = OpenApiRouter::new().routes(routes!(infer)).layer(DefaultBodyLimit::max(frame::MAX_FRAME_BYTES));
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, cancel)).routes(routes!(result)).merge(infer)
}

/// Gives a command.
#[utoipa::path(post, path = "/api/v1/devices/{device}/commands", tag = "commands", operation_id = "createCommand",
    params(("device" = DeviceId, Path, description = "The device")),
    request_body = CreateCommand,
    responses((status = 201, body = CommandView), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "The device is offline, revoked or has too many open commands"),
        (status = 413, body = Problem), (status = 422, body = Problem)))]
async fn create(
    Operator(caller): Operator,
    State(commands): State<Commands>,
    Path(device): Path<DeviceId>,
    Json(asked): Json<CreateCommand>,
) -> Result<Created<CommandView>, ApiError> {
    let row = commands.create(&caller, device, &asked).await.map_err(|error| refused(device, error))?;
    Ok(Created(views::command(row)))
}

/// Commands of a device, the newest first.
#[utoipa::path(get, path = "/api/v1/devices/{device}/commands", tag = "commands", operation_id = "listCommands",
    params(("device" = DeviceId, Path, description = "The device"), PageQuery),
    responses((status = 200, body = Page<CommandView>), (status = 404, body = Problem)))]
async fn list(
    Viewer(caller): Viewer,
    State(commands): State<Commands>,
    Path(device): Path<DeviceId>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<CommandView>>, ApiError> {
    let rows = commands.list(caller.tenant, device, page.after()?, page.limit()? + 1).await.map_err(of_device(device))?;
    Ok(Json(page.page(rows, |row| row.id)?.map(views::command)))
}

/// How long to wait for a command's end.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct WaitQuery {
    /// Seconds to wait for the command to finish, at most 55; 0 answers at once.
    #[serde(default)]
    #[param(maximum = 55)]
    wait: u64,
}

/// One command with what it brought back.
#[utoipa::path(get, path = "/api/v1/devices/{device}/commands/{command}", tag = "commands", operation_id = "getCommand",
    params(("device" = DeviceId, Path, description = "The device"), ("command" = CommandId, Path, description = "The command"), WaitQuery),
    responses((status = 200, body = CommandView), (status = 404, body = Problem)))]
async fn show(
    Viewer(caller): Viewer,
    State(commands): State<Commands>,
    Path((device, command)): Path<(DeviceId, CommandId)>,
    Query(query): Query<WaitQuery>,
) -> Result<Json<CommandView>, ApiError> {
    if query.wait > MAX_WAIT_S {
        return Err(ApiError::invalid("wait", format!("wait at most {MAX_WAIT_S} seconds, then ask again")));
    }
    let patience = Duration::from_secs(query.wait);
    let row = commands.wait(caller.tenant, device, command, patience).await.map_err(of_command(command))?;
    let payload = match row.payload {
        Some(_) => commands.payload(caller.tenant, device, command).await?,
        None => None,
    };
    Ok(Json(views::command_detail(row, payload)))
}

/// The bytes that a command brought back, as the device sent them.
#[utoipa::path(get, path = "/api/v1/devices/{device}/commands/{command}/result", tag = "commands", operation_id = "getCommandResult",
    params(("device" = DeviceId, Path, description = "The device"), ("command" = CommandId, Path, description = "The command")),
    responses((status = 200, description = "The bytes, with the device's media type"), (status = 404, body = Problem)))]
async fn result(
    Viewer(caller): Viewer,
    State(commands): State<Commands>,
    Path((device, command)): Path<(DeviceId, CommandId)>,
) -> Result<Response, ApiError> {
    let payload = commands.payload(caller.tenant, device, command).await?;
    payload.map(as_sent).ok_or_else(|| {
        ApiError::not_found(format!("result of command {command}"))
            .hint("look at the command: it may not have finished, or failed")
    })
}

/// Takes back a command that was not handed over yet.
#[utoipa::path(delete, path = "/api/v1/devices/{device}/commands/{command}", tag = "commands", operation_id = "cancelCommand",
    params(("device" = DeviceId, Path, description = "The device"), ("command" = CommandId, Path, description = "The command")),
    responses((status = 200, body = CommandView), (status = 404, body = Problem), (status = 409, body = Problem, description = "It was handed over")))]
async fn cancel(
    Operator(caller): Operator,
    State(commands): State<Commands>,
    Path((device, command)): Path<(DeviceId, CommandId)>,
) -> Result<Json<CommandView>, ApiError> {
    let row = commands.cancel(&caller, device, command).await.map_err(|error| match error {
        CommandError::Store(error) => of_command(command)(error),
        other => refused(device, other),
    })?;
    Ok(Json(views::command(row)))
}

/// How to ask a model.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct InferQuery {
    /// The version; the active one when absent.
    version: Option<u64>,
    /// Seconds to wait for the answer, at most 55; 30 when absent.
    #[param(minimum = 1, maximum = 55)]
    timeout: Option<u64>,
}

/// Asks a model on a device that is online, in the Open Inference Protocol, and answers as the device does.
#[utoipa::path(post, path = "/api/v1/devices/{device}/infer/{model}", tag = "commands", operation_id = "inferOnDevice",
    params(("device" = DeviceId, Path, description = "The device"), ("model" = ModelName, Path, description = "The model"), InferQuery,
        ("Inference-Header-Content-Length" = Option<u64>, Header, description = "Length of the JSON part when raw tensors follow it")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The request as its HTTP body: JSON, or JSON and raw tensors"),
    responses((status = 200, description = "The device's answer"), (status = 404, body = Problem), (status = 409, body = Problem, description = "The device is offline or refuses"),
        (status = 413, body = Problem), (status = 422, body = Problem, description = "The device could not: its words are the detail"), (status = 504, body = Problem)))]
async fn infer(
    Operator(caller): Operator,
    State(commands): State<Commands>,
    Path((device, model)): Path<(DeviceId, ModelName)>,
    Query(query): Query<InferQuery>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = format!("the link to a device carries at most {} bytes", frame::MAX_FRAME_BYTES);
            ApiError::too_large(detail).hint("ask the device's own inference API, or send less at once")
        }
        _ => ApiError::malformed(rejection.body_text()),
    })?;
    let timeout_s = query.timeout.unwrap_or(DEFAULT_INFER_S);
    if !(1..=MAX_WAIT_S).contains(&timeout_s) {
        return Err(ApiError::invalid("timeout", format!("wait 1 to {MAX_WAIT_S} seconds")));
    }
    let header_length = match headers.get(oip::HEADER_LENGTH) {
        None => 0,
        Some(value) => value.to_str().ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
            ApiError::invalid("Inference-Header-Content-Length", "it must be the length of the JSON part in bytes")
        })?,
    };
    let call = InferCall { model, version: query.version, body, header_length, timeout_s };
    match commands.infer(&caller, device, &call).await.map_err(|error| refused(device, error))? {
        InferOutcome::Answer(payload) => Ok(as_sent(payload)),
        InferOutcome::NoAnswer(row) => Err(no_answer(&row)),
    }
}

/// The bytes as the device sent them.
fn as_sent(payload: Payload) -> Response {
    let content_type =
        HeaderValue::try_from(payload.content_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let mut response = payload.bytes.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    // A device's bytes are no page of this origin, whatever it says that they are.
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    if payload.header_length > 0 {
        response.headers_mut().insert(HeaderName::from_static(oip::HEADER_LENGTH), HeaderValue::from(payload.header_length));
    }
    response
}

/// Why a device gave no answer.
fn no_answer(row: &CommandRow) -> ApiError {
    let said = |otherwise: &str| if row.message.is_empty() { otherwise.to_owned() } else { row.message.clone() };
    match row.state {
        CommandState::Ok => {
            ApiError::other(StatusCode::BAD_GATEWAY, "empty_answer", "Empty answer", "the device answered nothing")
        }
        CommandState::Failed if row.delivered.is_none() => offline(row.device),
        CommandState::Failed => {
            let detail = said("the device did not say why");
            ApiError::other(StatusCode::UNPROCESSABLE_ENTITY, "device_failed", "The device could not", detail)
        }
        CommandState::Refused => {
            ApiError::other(StatusCode::CONFLICT, "device_refused", "The device refuses", said("the device did not say why"))
        }
        CommandState::Cancelled => ApiError::conflict(said("it was cancelled")),
        CommandState::Queued | CommandState::Delivered | CommandState::Expired => {
            let detail = format!("device {} did not answer in time", row.device);
            ApiError::other(StatusCode::GATEWAY_TIMEOUT, "device_timeout", "No answer in time", detail)
                .hint("try again with a longer `timeout`, or look at the device's link")
        }
    }
}

fn offline(device: DeviceId) -> ApiError {
    ApiError::other(StatusCode::CONFLICT, "device_offline", "The device is offline", format!("device {device} is offline"))
        .hint("wait until it is back, or give the command with `\"offline\": \"queue\"`")
}

fn of_command(command: CommandId) -> impl Fn(crate::platform::db::StoreError) -> ApiError {
    move |error| match error {
        crate::platform::db::StoreError::NotFound => ApiError::not_found(format!("command {command} of this device")),
        other => other.into(),
    }
}

fn refused(device: DeviceId, error: CommandError) -> ApiError {
    let text = error.to_string();
    match error {
        CommandError::Request(RequestError::Invalid { field, problem }) => ApiError::invalid(field, problem),
        CommandError::Request(RequestError::TooLarge { .. }) => ApiError::too_large(text),
        CommandError::Offline => offline(device),
        CommandError::Revoked => ApiError::conflict(text),
        CommandError::Full => {
            ApiError::conflict(text).hint("wait for some to finish, or cancel them with `aidos command cancel`")
        }
        CommandError::NotQueued(_) => ApiError::conflict(text),
        CommandError::Busy => ApiError::unavailable(text, 2),
        CommandError::Store(error) => of_device(device)(error),
    }
}
