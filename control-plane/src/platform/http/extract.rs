//! axum's extractors with problem details as their rejections, and the answers of endpoints that create.

use super::error::ApiError;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::error::Error;

/// A JSON body, or a JSON answer.
#[derive(Debug, Clone, FromRequest)]
#[from_request(via(axum::Json), rejection(ApiError))]
pub(crate) struct Json<T>(pub(crate) T);

/// The query string.
#[derive(Debug, Clone, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub(crate) struct Query<T>(pub(crate) T);

/// The parameters in the path. What does not parse names nothing: 404.
#[derive(Debug, Clone, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub(crate) struct Path<T>(pub(crate) T);

impl<T: serde::Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// 201 with a JSON body.
#[derive(Debug, Clone)]
pub(crate) struct Created<T>(pub(crate) T);

impl<T: serde::Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, axum::Json(self.0)).into_response()
    }
}

/// 201 with a JSON body that holds a secret: it is shown once, and no cache or idempotency record may keep it.
#[derive(Debug, Clone)]
pub(crate) struct Once<T>(pub(crate) T);

impl<T: serde::Serialize> IntoResponse for Once<T> {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::CREATED, axum::Json(self.0)).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let text = rejection.body_text();
        match rejection {
            JsonRejection::JsonDataError(error) => misfit(&error).unwrap_or_else(|| ApiError::invalid("body", text)),
            JsonRejection::JsonSyntaxError(_) => ApiError::malformed(text),
            JsonRejection::MissingJsonContentType(_) => {
                ApiError::other(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "Unsupported media type", text)
                    .hint("send JSON with `Content-Type: application/json`")
            }
            other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large("the body is over the limit"),
            _ => ApiError::malformed(text),
        }
    }
}
/// Names the value of a body that does not fit, as its place is written: `plan.gates[0]`.
fn misfit(error: &(dyn Error + 'static)) -> Option<ApiError> {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    let at = causes.find_map(|error| error.downcast_ref::<serde_path_to_error::Error<serde_json::Error>>())?;
    let (place, inner) = (at.path().to_string(), at.inner());
    let text = inner.to_string();
    // Where in the JSON it was is of no use to who filled in a form.
    let reason = text.strip_suffix(&format!(" at line {} column {}", inner.line(), inner.column())).unwrap_or(&text);
    Some(ApiError::invalid(if place == "." { "body".into() } else { place }, reason))
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        ApiError::invalid("query", rejection.body_text())
    }
}
impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        ApiError::not_found(format!("such resource: {}", rejection.body_text()))
    }
}
