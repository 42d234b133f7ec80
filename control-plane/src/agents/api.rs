//! `/agent-releases/{version}/deploy` and `/agent-settings`. The only file of this room that knows HTTP.

use super::send::{Agents, SendError};
use super::settings::{Kept, SettingsRow};
use crate::fleet::TwinError;
use crate::platform::http::{ApiError, Created, Json, PageQuery, Path, Query};
use crate::tenants::{Operator, Tenants, Viewer};
use aidos_protocol::api::Page;
use aidos_protocol::api::releases::{ApplySettings, CreateSettings, DeployRelease, SentView, SettingsView};
use axum::extract::{FromRef, State};
use axum::response::{IntoResponse, Response};
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(Clone, FromRef)]
struct ApiState {
    agents: Agents,
    tenants: Tenants,
}

/// The endpoints of what agents should be.
pub(crate) fn router(agents: Agents, tenants: Tenants) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(deploy))
        .routes(routes!(list, create))
        .routes(routes!(show))
        .routes(routes!(apply))
        .with_state(ApiState { agents, tenants })
}

impl From<SendError> for ApiError {
    fn from(error: SendError) -> Self {
        let text = error.to_string();
        match error {
            SendError::Selector(error) => {
                Self::invalid("selector", format!("column {}: {}\n{error}", error.column(), error.message()))
                    .hint("write it as in kubectl: `site=lab,gpu!=none`, `key in (a,b)`, `!key`, or `*` for all devices")
            }
            SendError::Many => Self::invalid("selector", text),
            SendError::NoSettings(version) => Self::not_found(format!("version {version} of the settings")),
            SendError::Settings(_) => Self::invalid("settings", text),
            SendError::Invalid { field, message } => Self::invalid(field, message),
            SendError::Registry(error) => error.into(),
            SendError::Twin(TwinError::Store(error)) | SendError::Store(error) => error.into(),
            SendError::Twin(TwinError::Stale { .. }) => Self::conflict(text),
            SendError::Twin(error) => Self::internal(error),
        }
    }
}

/// Ask devices for a release of the agent
///
/// Those that match now are asked, each for its own architecture; those that match later are not.
#[utoipa::path(post, path = "/api/v1/agent-releases/{version}/deploy", operation_id = "deployAgentRelease", tag = "agents",
    params(("version" = String, Path)), request_body = DeployRelease,
    responses((status = 200, body = SentView), (status = 404, description = "There is no such release"),
        (status = 422, description = "The selector cannot be read, or too many devices match")))]
async fn deploy(
    Operator(caller): Operator,
    State(agents): State<Agents>,
    Path(version): Path<String>,
    Json(request): Json<DeployRelease>,
) -> Result<Json<SentView>, ApiError> {
    Ok(Json(agents.deploy(&caller, &version, request).await?))
}

/// List the versions of the settings for agents, newest first
#[utoipa::path(get, path = "/api/v1/agent-settings", operation_id = "listAgentSettings", tag = "agents", params(PageQuery),
    responses((status = 200, body = Page<SettingsView>)))]
async fn list(
    Viewer(caller): Viewer,
    State(agents): State<Agents>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<SettingsView>>, ApiError> {
    let before: u64 = page.after()?.unwrap_or(u64::MAX);
    let limit = u32::try_from(page.limit()? + 1).unwrap_or(u32::MAX);
    let rows = agents.all_settings(caller.tenant, before, limit).await?;
    Ok(Json(page.page(rows, |row| row.version)?.map(view)))
}

/// Make the next version of the settings for agents
///
/// What the newest version says already answers 200 with it. Nothing is sent to devices by this.
#[utoipa::path(post, path = "/api/v1/agent-settings", operation_id = "createAgentSettings", tag = "agents", request_body = CreateSettings,
    responses((status = 201, body = SettingsView), (status = 200, body = SettingsView),
        (status = 422, description = "A setting that there is not, or out of its range")))]
async fn create(
    Operator(caller): Operator,
    State(agents): State<Agents>,
    Json(request): Json<CreateSettings>,
) -> Result<Response, ApiError> {
    Ok(match agents.keep(&caller, &request.settings).await? {
        Kept::New(row) => Created(view(row)).into_response(),
        Kept::Existing(row) => Json(view(row)).into_response(),
    })
}

/// Show a version of the settings for agents
#[utoipa::path(get, path = "/api/v1/agent-settings/{version}", operation_id = "getAgentSettings", tag = "agents",
    params(("version" = u64, Path)), responses((status = 200, body = SettingsView)))]
async fn show(
    Viewer(caller): Viewer,
    State(agents): State<Agents>,
    Path(version): Path<u64>,
) -> Result<Json<SettingsView>, ApiError> {
    Ok(Json(view(agents.settings(caller.tenant, version).await?)))
}

/// Send a version of the settings to devices
///
/// Those that match now get it. An earlier version takes a later one back.
#[utoipa::path(post, path = "/api/v1/agent-settings/{version}/apply", operation_id = "applyAgentSettings", tag = "agents",
    params(("version" = u64, Path)), request_body = ApplySettings,
    responses((status = 200, body = SentView), (status = 404, description = "There is no such version")))]
async fn apply(
    Operator(caller): Operator,
    State(agents): State<Agents>,
    Path(version): Path<u64>,
    Json(request): Json<ApplySettings>,
) -> Result<Json<SentView>, ApiError> {
    Ok(Json(agents.apply(&caller, version, &request.selector).await?))
}

fn view(row: SettingsRow) -> SettingsView {
    SettingsView { version: row.version, settings: row.settings, created_at: row.created, created_by: row.created_by }
}
