//! The registry's REST resources. The only files of this room that know HTTP.

mod artifacts;
mod content;
mod models;
mod problems;
mod releases;
mod settings;
mod trust;
mod uploads;
mod versions;
mod views;

use super::{AgentSettings, Artifacts, Models, Releases, Trust};
use crate::tenants::Tenants;
use axum::extract::{DefaultBodyLimit, FromRef};
use utoipa_axum::{router::OpenApiRouter, routes};

/// What this room serves.
pub(crate) struct Parts {
    pub(crate) models: Models,
    pub(crate) artifacts: Artifacts,
    pub(crate) releases: Releases,
    pub(crate) settings: AgentSettings,
    pub(crate) trust: Trust,
}

/// What the handlers need.
#[derive(Clone, FromRef)]
struct ApiState {
    models: Models,
    artifacts: Artifacts,
    releases: Releases,
    settings: AgentSettings,
    trust: Trust,
    tenants: Tenants,
    chunks: uploads::Chunks,
}

/// The registry's endpoints.
pub(crate) fn router(parts: Parts, tenants: Tenants) -> OpenApiRouter {
    let Parts { models, artifacts, releases, settings, trust } = parts;
    let state = ApiState { models, artifacts, releases, settings, trust, tenants, chunks: uploads::Chunks::new() };
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
        .routes(routes!(settings::list, settings::create))
        .routes(routes!(settings::show))
        .routes(routes!(trust::anchor))
        .routes(routes!(trust::metadata))
        .routes(routes!(trust::target))
        .with_state(state)
}
