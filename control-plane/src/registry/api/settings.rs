//! `/agent-settings`.

use crate::platform::http::{ApiError, Created, Json, PageQuery, Path, Query};
use crate::registry::AgentSettings;
use crate::registry::settings::{Kept, SettingsRow};
use crate::tenants::{Operator, Viewer};
use aidos_protocol::api::Page;
use aidos_protocol::api::releases::{CreateSettings, SettingsView};
use axum::extract::State;
use axum::response::{IntoResponse, Response};

/// List the versions of the settings for agents, newest first
#[utoipa::path(get, path = "/api/v1/agent-settings", operation_id = "listAgentSettings", tag = "agents", params(PageQuery),
    responses((status = 200, body = Page<SettingsView>)))]
pub(super) async fn list(
    Viewer(caller): Viewer,
    State(settings): State<AgentSettings>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<SettingsView>>, ApiError> {
    let before: u64 = page.after()?.unwrap_or(u64::MAX);
    let limit = u32::try_from(page.limit()? + 1).unwrap_or(u32::MAX);
    let rows = settings.list(caller.tenant, before, limit).await?;
    Ok(Json(page.page(rows, |row| row.version)?.map(view)))
}

/// Make the next version of the settings for agents
///
/// What the newest version says already answers 200 with it. Nothing is sent to devices by this.
#[utoipa::path(post, path = "/api/v1/agent-settings", operation_id = "createAgentSettings", tag = "agents", request_body = CreateSettings,
    responses((status = 201, body = SettingsView), (status = 200, body = SettingsView),
        (status = 422, description = "A setting that there is not, or out of its range")))]
pub(super) async fn create(
    Operator(caller): Operator,
    State(settings): State<AgentSettings>,
    Json(request): Json<CreateSettings>,
) -> Result<Response, ApiError> {
    Ok(match settings.create(&caller, &request.settings).await? {
        Kept::New(row) => Created(view(row)).into_response(),
        Kept::Existing(row) => Json(view(row)).into_response(),
    })
}

/// Show a version of the settings for agents
#[utoipa::path(get, path = "/api/v1/agent-settings/{version}", operation_id = "getAgentSettings", tag = "agents",
    params(("version" = u64, Path)), responses((status = 200, body = SettingsView)))]
pub(super) async fn show(
    Viewer(caller): Viewer,
    State(settings): State<AgentSettings>,
    Path(version): Path<u64>,
) -> Result<Json<SettingsView>, ApiError> {
    Ok(Json(view(settings.version(caller.tenant, version).await?)))
}

fn view(row: SettingsRow) -> SettingsView {
    SettingsView { version: row.version, settings: row.settings, created_at: row.created, created_by: row.created_by }
}
