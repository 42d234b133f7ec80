//! `/models/{name}/versions`.

use super::views;
use crate::platform::http::{ApiError, Created, Json, PageQuery, Path, Query};
use crate::registry::Models;
use crate::registry::versions::Registered;
use crate::tenants::{Operator, Viewer};
use aidos_protocol::api::Page;
use aidos_protocol::api::models::{CreateVersion, ModelVersionView};
use aidos_protocol::{ModelName, TenantId};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;

/// List a model's versions, newest first
#[utoipa::path(get, path = "/api/v1/models/{name}/versions", operation_id = "listVersions", tag = "models", params(("name" = ModelName, Path), PageQuery),
    responses((status = 200, body = Page<ModelVersionView>)))]
pub(super) async fn list(
    Viewer(caller): Viewer,
    State(models): State<Models>,
    Path(name): Path<ModelName>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ModelVersionView>>, ApiError> {
    let before: u64 = page.after()?.unwrap_or(u64::MAX);
    let limit = u32::try_from(page.limit()? + 1).unwrap_or(u32::MAX);
    let rows = models.versions(caller.tenant, &name, before, limit).await?;
    let aliases = aliases(&models, caller.tenant, &name).await?;
    Ok(Json(page.page(rows, |row| row.version)?.map(|row| views::version(row, &aliases))))
}

/// Register an uploaded artifact as the next version
///
/// The file is read first; what is not a model is refused with the reason. The same file again answers 200 with the version
/// that it has.
#[utoipa::path(post, path = "/api/v1/models/{name}/versions", operation_id = "createVersion", tag = "models", params(("name" = ModelName, Path)),
    request_body = CreateVersion, responses((status = 201, body = ModelVersionView), (status = 200, body = ModelVersionView),
        (status = 422, description = "The file is not a model that can be taken")))]
pub(super) async fn register(
    Operator(caller): Operator,
    State(models): State<Models>,
    Path(name): Path<ModelName>,
    Json(request): Json<CreateVersion>,
) -> Result<Response, ApiError> {
    Ok(match models.register(&caller, &name, request).await? {
        Registered::New(row) => Created(views::version(row, &BTreeMap::new())).into_response(),
        Registered::Existing(row) => {
            let aliases = aliases(&models, caller.tenant, &name).await?;
            Json(views::version(row, &aliases)).into_response()
        }
    })
}

/// Show a version
///
/// `version` is a number, an alias or `latest`.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}", operation_id = "getVersion", tag = "models",
    params(("name" = ModelName, Path), ("version" = String, Path)), responses((status = 200, body = ModelVersionView)))]
pub(super) async fn show(
    Viewer(caller): Viewer,
    State(models): State<Models>,
    Path((name, version)): Path<(ModelName, String)>,
) -> Result<Json<ModelVersionView>, ApiError> {
    let row = models.resolve(caller.tenant, &format!("{name}@{version}")).await?;
    let aliases = aliases(&models, caller.tenant, &name).await?;
    Ok(Json(views::version(row, &aliases)))
}

async fn aliases(models: &Models, tenant: TenantId, name: &ModelName) -> Result<BTreeMap<String, u64>, ApiError> {
    let row = models.get(tenant, name).await?;
    Ok(models.aliases(tenant, std::slice::from_ref(&row)).await?.remove(name).unwrap_or_default())
}
