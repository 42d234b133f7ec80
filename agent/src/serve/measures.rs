//! `POST …/metrics`: what the application measured of a version itself. A rollout's gates may speak of it as `custom.<name>`.

use super::{error::ServeError, models::Wanted};
use crate::infer::Models;
use aidos_protocol::twin::health::MAX_CUSTOM;
use axum::{
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use std::collections::BTreeMap;

/// Bytes of a body: as many names as there may be, each as long as it may be, and their numbers.
const MAX_BYTES: usize = MAX_CUSTOM * 128;
/// Bytes of a name: what a gate takes.
const MAX_NAME: usize = 64;

/// Takes a JSON map of numbers; the last number of each name counts.
pub(super) async fn custom(
    State(models): State<Models>,
    Path(wanted): Path<Wanted>,
    body: Bytes,
) -> Result<StatusCode, ServeError> {
    let (name, version) = wanted.parse(&models)?;
    let refused = |text: String| ServeError::new(StatusCode::BAD_REQUEST, text);
    if body.len() > MAX_BYTES {
        let text = format!("the body has {} bytes, the limit is {MAX_BYTES}", body.len());
        return Err(ServeError::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let values: BTreeMap<String, f64> = serde_json::from_slice(&body)
        .map_err(|error| refused(format!("the body must be a JSON map of names to numbers: {error}")))?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
    for (name, value) in &values {
        if !(1..=MAX_NAME).contains(&name.len()) || !name.chars().all(allowed) || name.starts_with("shadow.") {
            let name: String = name.chars().take(MAX_NAME).collect();
            return Err(refused(format!(
                "`{name}` cannot be a measurement: use 1 to {MAX_NAME} of a-z, 0-9, `_`, `-` and `.`, not beginning with `shadow.`"
            )));
        }
        if !value.is_finite() {
            return Err(refused(format!("`{name}` is not a number")));
        }
    }
    if models.measured(&name, version, values)? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(refused("this version has as many measurements of its own as it may; use fewer names".into()))
    }
}
