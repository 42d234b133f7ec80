//! `/models` and their aliases.

use super::views;
use crate::platform::http::{ApiError, Created, ETag, IfMatch, Json, PageQuery, Path, Query};
use crate::registry::Models;
use crate::registry::models::ModelRow;
use crate::tenants::{Operator, Viewer};
use aidos_protocol::ModelName;
use aidos_protocol::api::Page;
use aidos_protocol::api::models::{Alias, CreateModel, ModelView, PatchModel, PutAlias, RefError};
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The longest search text, in bytes.
const MAX_SEARCH_BYTES: usize = 200;

/// Which models.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Search {
    /// Part of the name or description, in any case.
    #[serde(default)]
    search: String,
}

/// List models
#[utoipa::path(get, path = "/api/v1/models", operation_id = "listModels", tag = "models", params(PageQuery, Search),
    responses((status = 200, body = Page<ModelView>)))]
pub(super) async fn list(
    Viewer(caller): Viewer,
    State(models): State<Models>,
    Query(page): Query<PageQuery>,
    Query(Search { search }): Query<Search>,
) -> Result<Json<Page<ModelView>>, ApiError> {
    if search.len() > MAX_SEARCH_BYTES {
        return Err(ApiError::invalid("search", format!("search has at most {MAX_SEARCH_BYTES} bytes")));
    }
    let after: String = page.after()?.unwrap_or_default();
    let limit = u32::try_from(page.limit()? + 1).unwrap_or(u32::MAX);
    let rows = models.list(caller.tenant, &search, &after, limit).await?;
    let mut aliases = models.aliases(caller.tenant, &rows).await?;
    let rows = page.page(rows, |row| row.name.to_string())?;
    Ok(Json(rows.map(|row| {
        let aliases = aliases.remove(&row.name).unwrap_or_default();
        views::model(row, aliases)
    })))
}

/// Make a model
#[utoipa::path(post, path = "/api/v1/models", operation_id = "createModel", tag = "models", request_body = CreateModel,
    responses((status = 201, body = ModelView), (status = 409, description = "There is one of this name")))]
pub(super) async fn create(
    Operator(caller): Operator,
    State(models): State<Models>,
    Json(request): Json<CreateModel>,
) -> Result<(ETag, Created<ModelView>), ApiError> {
    let row = models.create(&caller, request).await?;
    Ok((ETag::revision(row.revision), Created(views::model(row, BTreeMap::new()))))
}

/// Show a model
#[utoipa::path(get, path = "/api/v1/models/{name}", operation_id = "getModel", tag = "models", params(("name" = ModelName, Path)),
    responses((status = 200, body = ModelView)))]
pub(super) async fn show(
    Viewer(caller): Viewer,
    State(models): State<Models>,
    Path(name): Path<ModelName>,
) -> Result<(ETag, Json<ModelView>), ApiError> {
    let row = models.get(caller.tenant, &name).await?;
    let aliases = models.aliases(caller.tenant, std::slice::from_ref(&row)).await?.remove(&name).unwrap_or_default();
    Ok((ETag::revision(row.revision), Json(views::model(row, aliases))))
}

/// Edit a model
///
/// What is absent stays; a label set to `null` goes. With `If-Match` only the state that was seen is edited.
#[utoipa::path(patch, path = "/api/v1/models/{name}", operation_id = "editModel", tag = "models",
    params(("name" = ModelName, Path), ("If-Match" = Option<String>, Header)), request_body = PatchModel,
    responses((status = 200, body = ModelView), (status = 412, description = "Someone else edited it meanwhile")))]
pub(super) async fn edit(
    Operator(caller): Operator,
    State(models): State<Models>,
    Path(name): Path<ModelName>,
    if_match: IfMatch,
    Json(patch): Json<PatchModel>,
) -> Result<(ETag, Json<ModelView>), ApiError> {
    let seen = |row: &ModelRow| if_match.check(&ETag::revision(row.revision)).is_ok();
    let row = models.edit(&caller, &name, patch, seen).await?;
    let aliases = models.aliases(caller.tenant, std::slice::from_ref(&row)).await?.remove(&name).unwrap_or_default();
    Ok((ETag::revision(row.revision), Json(views::model(row, aliases))))
}

/// Delete a model
///
/// With all its versions; refused while a deployment needs one.
#[utoipa::path(delete, path = "/api/v1/models/{name}", operation_id = "deleteModel", tag = "models", params(("name" = ModelName, Path)),
    responses((status = 204), (status = 409, description = "A deployment needs it")))]
pub(super) async fn delete(
    Operator(caller): Operator,
    State(models): State<Models>,
    Path(name): Path<ModelName>,
) -> Result<StatusCode, ApiError> {
    models.delete(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Point an alias at a version
#[utoipa::path(put, path = "/api/v1/models/{name}/aliases/{alias}", operation_id = "putAlias", tag = "models",
    params(("name" = ModelName, Path), ("alias" = String, Path)), request_body = PutAlias, responses((status = 204)))]
pub(super) async fn put_alias(
    Operator(caller): Operator,
    State(models): State<Models>,
    Path((name, alias)): Path<(ModelName, String)>,
    Json(request): Json<PutAlias>,
) -> Result<StatusCode, ApiError> {
    models.put_alias(&caller, &name, &read(&alias)?, request.version).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove an alias
#[utoipa::path(delete, path = "/api/v1/models/{name}/aliases/{alias}", operation_id = "deleteAlias", tag = "models",
    params(("name" = ModelName, Path), ("alias" = String, Path)), responses((status = 204)))]
pub(super) async fn delete_alias(
    Operator(caller): Operator,
    State(models): State<Models>,
    Path((name, alias)): Path<(ModelName, String)>,
) -> Result<StatusCode, ApiError> {
    models.delete_alias(&caller, &name, &read(&alias)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn read(alias: &str) -> Result<Alias, ApiError> {
    alias.parse().map_err(|error: RefError| ApiError::invalid("alias", error.to_string()))
}
