//! `/agent-releases`.

use super::views;
use crate::platform::http::{ApiError, Created, Json, PageQuery, Query};
use crate::registry::Releases;
use crate::registry::releases::Released;
use crate::tenants::{Operator, Viewer};
use aidos_protocol::api::Page;
use aidos_protocol::api::releases::{CreateRelease, ReleaseView};
use axum::extract::State;
use axum::response::{IntoResponse, Response};

/// List releases of the agent, newest first
#[utoipa::path(get, path = "/api/v1/agent-releases", operation_id = "listAgentReleases", tag = "agents", params(PageQuery),
    responses((status = 200, body = Page<ReleaseView>)))]
pub(super) async fn list(
    Viewer(caller): Viewer,
    State(releases): State<Releases>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ReleaseView>>, ApiError> {
    let (counter, arch): (u64, String) = page.after()?.unwrap_or((u64::MAX, String::new()));
    let limit = u32::try_from(page.limit()? + 1).unwrap_or(u32::MAX);
    let rows = releases.list(caller.tenant, (counter, &arch), limit).await?;
    Ok(Json(page.page(rows, |row| (row.counter, row.arch.clone()))?.map(views::release)))
}

/// Register an uploaded binary as a release of the agent
///
/// A version's first binary gives it the next counter. The same binary again answers 200 with what there is.
#[utoipa::path(post, path = "/api/v1/agent-releases", operation_id = "createAgentRelease", tag = "agents", request_body = CreateRelease,
    responses((status = 201, body = ReleaseView), (status = 200, body = ReleaseView),
        (status = 409, description = "The version has another binary for this architecture"),
        (status = 422, description = "The binary is for another architecture")))]
pub(super) async fn create(
    Operator(caller): Operator,
    State(releases): State<Releases>,
    Json(request): Json<CreateRelease>,
) -> Result<Response, ApiError> {
    Ok(match releases.create(&caller, request).await? {
        Released::New(row) => Created(views::release(row)).into_response(),
        Released::Existing(row) => Json(views::release(row)).into_response(),
    })
}
