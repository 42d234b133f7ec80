//! Errors as HTTP: a status, `{"error": "…"}`, and `Retry-After` where trying again helps. This is the one place where that is decided.

use crate::infer::{InferError, NotLoaded, RunError};
use aidos_protocol::oip::{OipError, views::ErrorBody};
use axum::{
    Json,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::time::Duration;

/// When to look again at a drained device: people undrain it, whose work takes minutes; a load balancer looks more often anyway.
const DRAINED: Duration = Duration::from_secs(30);

/// An answer that says what is wrong.
#[derive(Debug)]
pub(super) struct ServeError {
    status: StatusCode,
    error: String,
    retry_after: Option<Duration>,
}

impl ServeError {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), retry_after: None }
    }
    pub(super) fn retry(error: impl Into<String>, after: Duration) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, error: error.into(), retry_after: Some(after) }
    }
    /// No new request is taken, until an operator says otherwise.
    pub(super) fn drained() -> Self {
        Self::retry(
            "this device is drained: it takes no requests until an operator undrains it (`aidos device undrain`)",
            DRAINED,
        )
    }
    pub(super) fn no_route(path: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format!("there is nothing at {path}; this is the Open Inference Protocol v2, begin at /v2"),
        )
    }
    pub(super) fn wrong_method(method: &Method, path: &str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("{path} does not take {method}"))
    }
}

impl IntoResponse for ServeError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.error })).into_response();
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        response
    }
}

impl From<NotLoaded> for ServeError {
    fn from(error: NotLoaded) -> Self {
        match error {
            NotLoaded::Model { .. } | NotLoaded::Version { .. } => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            NotLoaded::Inactive { .. } => Self::retry(error.to_string(), Duration::from_secs(1)),
        }
    }
}

impl From<OipError> for ServeError {
    fn from(error: OipError) -> Self {
        let status = if matches!(error, OipError::TooLarge(_)) { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
        Self::new(status, error.to_string())
    }
}

impl From<InferError> for ServeError {
    fn from(error: InferError) -> Self {
        let text = error.to_string();
        match error {
            InferError::NotLoaded(error) => error.into(),
            InferError::Message(error) => error.into(),
            InferError::Busy { retry_after, .. } | InferError::Stuck { retry_after, .. } => Self::retry(text, retry_after),
            InferError::TimedOut { .. } => Self::new(StatusCode::GATEWAY_TIMEOUT, text),
            InferError::Run(RunError::Engine(_) | RunError::FileChanged) | InferError::Panicked(_) => {
                tracing::warn!(error = text, "inference failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
            InferError::UnknownInput { .. }
            | InferError::MissingInput { .. }
            | InferError::UnknownOutput { .. }
            | InferError::WrongType { .. }
            | InferError::WrongShape { .. }
            | InferError::Run(RunError::Shapes { .. } | RunError::Memory { .. }) => Self::new(StatusCode::BAD_REQUEST, text),
        }
    }
}
