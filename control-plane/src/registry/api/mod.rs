//! The registry's REST resources. The only files of this room that know HTTP.

mod artifacts;
mod content;
mod models;
mod problems;
mod releases;
mod trust;
mod uploads;
mod versions;
mod views;

use super::{Artifacts, Models, Releases, Trust};
use crate::tenants::Tenants;
use axum::extract::{DefaultBodyLimit, FromRef};
use utoipa_axum::{router::OpenApiRouter, routes};

/// What the handlers need.
#[derive(Clone, FromRef)]
struct ApiState {
    models: Models,
    artifacts: Artifacts,
    releases: Releases,
    trust: Trust,
    tenants: Tenants,
    chunks: uploads::Chunks,
}

/// The registry's endpoints.
pub(crate) fn router(models: Models, artifacts: Artifacts, releases: Releases, trust: Trust, tenants: Tenants) -> OpenApiRouter {
    let state = ApiState { models, artifacts, releases, trust, tenants, chunks: uploads::Chunks::new() };
    // Only here: all other bodies are what a person or a script wrote.
    let signed = OpenApiRouter::new().routes(routes!(trust::show, trust::publish)).layer(DefaultBodyLimit::max(trust::MAX_BODY));
    OpenApiRouter::new()
        .merge(signed)
        .routes(routes!(uploads::begin))
        .routes(routes!(uploads::show, uploads::append, uploads::cancel))
        .routes(routes!(uploads::complete))
        .routes(routes!(artifacts::show))
        .routes(routes!(artifacts::content))
        .routes(routes!(artifacts::blob))
        .routes(routes!(models::list, models::create))
        .routes(routes!(models::show, models::edit, models::delete))
        .routes(routes!(models::put_alias, models::delete_alias))
        .routes(routes!(versions::list, versions::register))
        .routes(routes!(versions::show))
        .routes(routes!(releases::list, releases::create))
        .routes(routes!(trust::anchor))
        .routes(routes!(trust::metadata))
        .routes(routes!(trust::target))
        .with_state(state)
}
