//! Whether the server is there, and what it is.

use super::{ServeContext, error::ServeError};
use aidos_protocol::oip::views::ServerMetadata;
use axum::{Json, extract::State, http::StatusCode};
use std::time::Duration;

/// Loading a model takes seconds, so that is when to look again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

pub(super) async fn server() -> Json<ServerMetadata> {
    let extensions = ["binary_tensor_data", "model_configuration", "model_repository", "statistics"];
    Json(ServerMetadata {
        name: "aidos".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        extensions: extensions.map(String::from).into(),
    })
}

pub(super) async fn live() -> StatusCode {
    StatusCode::OK
}

pub(super) async fn ready(State(context): State<ServeContext>) -> Result<StatusCode, ServeError> {
    if let Some(why) = (context.not_ready)() {
        return Err(ServeError::retry(why, LOOK_AGAIN));
    }
    if context.traffic.closed().is_some() { Err(ServeError::drained()) } else { Ok(StatusCode::OK) }
}
