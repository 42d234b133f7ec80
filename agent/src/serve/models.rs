//! What models there are, what they take and give, and what they have done.

use super::error::ServeError;
use crate::infer::{ModelInfo, Models, NotLoaded, Place, Port};
use aidos_protocol::{
    ModelName,
    oip::views::{ModelConfig, ModelMetadata, RepositoryEntry, RepositoryIndexRequest, Statistics, TensorConfig, TensorMetadata},
};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;

/// The model, and the version where the path names one.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    model: String,
    version: Option<String>,
}

impl Wanted {
    /// The name and number; what cannot be either is not loaded, and is told so in the same words.
    pub(super) fn parse(&self, models: &Models) -> Result<(ModelName, Option<u64>), ServeError> {
        let name: ModelName = self
            .model
            .parse()
            .map_err(|error: aidos_protocol::NameError| ServeError::new(StatusCode::NOT_FOUND, error.to_string()))?;
        let Some(version) = self.version.as_deref().filter(|version| !version.is_empty()) else { return Ok((name, None)) };
        let number = version.parse().map_err(|_| {
            let known = versions(models, &name).join(", ");
            NotLoaded::Version { model: name.clone(), version: version.chars().take(80).collect(), known }
        })?;
        Ok((name, Some(number)))
    }
}

fn versions(models: &Models, name: &ModelName) -> Vec<String> {
    models.list().into_iter().filter(|info| info.name == *name).map(|info| info.version.to_string()).collect()
}

fn find(models: &Models, wanted: &Wanted) -> Result<ModelInfo, ServeError> {
    let (name, version) = wanted.parse(models)?;
    Ok(models.get(&name, version)?)
}

pub(super) async fn metadata(
    State(models): State<Models>,
    Path(wanted): Path<Wanted>,
) -> Result<Json<ModelMetadata>, ServeError> {
    let info = find(&models, &wanted)?;
    Ok(Json(ModelMetadata {
        versions: versions(&models, &info.name),
        name: info.name.to_string(),
        platform: info.platform.into(),
        inputs: info.signature.inputs.iter().map(Into::into).collect(),
        outputs: info.signature.outputs.iter().map(Into::into).collect(),
        manifest: Some((*info.manifest).clone()),
    }))
}

pub(super) async fn config(State(models): State<Models>, Path(wanted): Path<Wanted>) -> Result<Json<ModelConfig>, ServeError> {
    let info = find(&models, &wanted)?;
    let tensors = |ports: &[Port]| ports.iter().map(|port| TensorConfig::from(&TensorMetadata::from(port))).collect();
    Ok(Json(ModelConfig {
        name: info.name.to_string(),
        platform: info.platform.into(),
        backend: info.engine.into(),
        max_batch_size: 0,
        input: tensors(&info.signature.inputs),
        output: tensors(&info.signature.outputs),
    }))
}

pub(super) async fn ready(State(models): State<Models>, Path(wanted): Path<Wanted>) -> Result<StatusCode, ServeError> {
    find(&models, &wanted).map(|_| StatusCode::OK)
}

pub(super) async fn statistics(State(models): State<Models>) -> Json<Statistics> {
    Json(Statistics { model_stats: models.statistics() })
}

pub(super) async fn statistics_of(
    State(models): State<Models>,
    Path(wanted): Path<Wanted>,
) -> Result<Json<Statistics>, ServeError> {
    let (name, version) = wanted.parse(&models)?;
    Ok(Json(Statistics { model_stats: vec![models.statistics_of(&name, version)?] }))
}

/// The body is optional; whatever is not a request for ready ones only asks for all.
pub(super) async fn repository_index(
    State(models): State<Models>,
    body: Bytes,
) -> Result<Json<Vec<RepositoryEntry>>, ServeError> {
    let wanted: RepositoryIndexRequest = match body.iter().all(u8::is_ascii_whitespace) {
        true => RepositoryIndexRequest::default(),
        false => serde_json::from_slice(&body)
            .map_err(|error| ServeError::new(StatusCode::BAD_REQUEST, format!("the request is not valid: {error}")))?,
    };
    let entry = |info: ModelInfo| {
        let active = info.place == Place::Active;
        let (state, reason) = if active { ("READY", "") } else { ("UNAVAILABLE", "loaded beside the active version") };
        RepositoryEntry {
            name: info.name.to_string(),
            version: info.version.to_string(),
            state: state.into(),
            reason: reason.into(),
        }
    };
    let entries = models.list().into_iter().map(entry).filter(|entry| !wanted.ready || entry.state == "READY");
    Ok(Json(entries.collect()))
}

pub(super) async fn no_loading(Path(wanted): Path<Wanted>) -> ServeError {
    let hint = format!("models come by deployment: `aidos deploy {}@VERSION --to SELECTOR`", wanted.model);
    ServeError::new(StatusCode::METHOD_NOT_ALLOWED, hint)
}
