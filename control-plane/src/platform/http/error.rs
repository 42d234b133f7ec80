//! The one place where errors become HTTP: problem details (RFC 9457). A caller reads the public message; the source of an
//! internal error goes to the log only.

use crate::platform::db::StoreError;
use crate::platform::objects::ObjectError;
use aidos_protocol::api::problem::{MEDIA_TYPE, Problem};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::error::Error as StdError;
use std::fmt;

type Source = Box<dyn StdError + Send + Sync>;

/// An error as a caller sees it.
pub(crate) struct ApiError(Box<Inner>);

struct Inner {
    status: StatusCode,
    problem: Problem,
    retry_after_s: Option<u64>,
    source: Option<Source>,
}

impl ApiError {
    fn new(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Self {
        let problem = Problem {
            kind: format!("/problems/{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            ..Problem::default()
        };
        Self(Box::new(Inner { status, problem, retry_after_s: None, source: None }))
    }

    /// 404: `what` is not there, or is not this tenant's. Name it as people do: "device dev_…".
    pub(crate) fn not_found(what: impl fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", format!("there is no {what}"))
    }

    /// 409: the state of things forbids it.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail)
    }

    /// 422: a value is out of its range or has no meaning; `field` names it as the caller wrote it.
    pub(crate) fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid value", detail);
        error.0.problem.field = Some(field.into());
        error
    }

    /// 400: the request cannot be read at all.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "Malformed request", detail)
    }

    /// 412: someone else changed it since the caller read it.
    pub(crate) fn precondition_failed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", "Changed in the meantime", detail)
            .hint("read it again, apply your change to what you then see, and send it with the new ETag in If-Match")
    }

    /// 401: no key, or none that is valid.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Not authenticated", detail)
            .hint("send an API key as `Authorization: Bearer aidos_…`; `aidos key create` makes one")
    }

    /// 403: the key is valid and may not do this.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    /// 413: too many bytes.
    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Too large", detail)
    }

    /// 503: not now; the caller is told to come again in `retry_after_s` seconds.
    pub(crate) fn unavailable(detail: impl Into<String>, retry_after_s: u64) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not available now", detail);
        error.0.retry_after_s = Some(retry_after_s);
        error
    }

    /// 429: this caller asks too often; it is told to come again in `retry_after_s` seconds.
    pub(crate) fn too_many(detail: impl Into<String>, retry_after_s: u64) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", "Too many at once", detail);
        error.0.retry_after_s = Some(retry_after_s);
        error
    }

    /// 500: a defect. `source` goes to the log.
    pub(crate) fn internal(source: impl Into<Source>) -> Self {
        let detail = "the control plane failed; its log says why under this request's id";
        let mut error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail);
        error.0.source = Some(source.into());
        error
    }

    /// An error with a status of its own, where no other constructor fits.
    pub(crate) fn other(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self::new(status, code, title, detail)
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.problem.hint = Some(hint.into());
        self
    }

    /// The status it is answered with.
    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.0.status
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.problem.detail)
    }
}
impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} ({:?})", self.0.status, self.0.problem, self.0.source)
    }
}
impl StdError for ApiError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::not_found("such thing"),
            StoreError::Conflict(detail) => Self::conflict(detail),
            // A writer holds the lock for seconds at most.
            StoreError::Unavailable(detail) => Self::unavailable(detail, 2),
            error @ (StoreError::Corrupt(_) | StoreError::Sql(_)) => Self::internal(error),
        }
    }
}

impl From<ObjectError> for ApiError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::NotFound(_) | ObjectError::Range { .. } => Self::not_found(error),
            ObjectError::Digest { .. } => Self::invalid("digest", error.to_string()),
            ObjectError::Unavailable { .. } => {
                let unavailable = Self::unavailable(error.to_string(), 5);
                tracing::warn!(error = &error as &dyn StdError, "objects are not available");
                unavailable
            }
            error @ ObjectError::Setup(_) => Self::internal(error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Inner { status, problem, retry_after_s, source } = *self.0;
        if let Some(source) = source {
            tracing::error!(error = &*source as &dyn StdError, status = status.as_u16(), "request failed");
        }
        let mut response = problem_response(status, problem);
        let headers = response.headers_mut();
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"aidos\""));
        }
        response
    }
}

/// The answer that shows `problem`; the problem stays beside it, so that a layer can add the request's id.
pub(super) fn problem_response(status: StatusCode, problem: Problem) -> Response {
    let body = serde_json::to_vec(&problem).expect("a struct of strings serialises");
    let mut response = (status, [(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE))], body).into_response();
    response.extensions_mut().insert(problem);
    response
}

/// The problem for an answer that a router or a layer gave without one.
pub(super) fn of_status(status: StatusCode) -> ApiError {
    match status {
        StatusCode::NOT_FOUND => ApiError::not_found("such path").hint("see /docs for the paths that there are"),
        StatusCode::METHOD_NOT_ALLOWED => {
            let detail = "this path does not take this method; `Allow` names those that it takes";
            ApiError::other(status, "method_not_allowed", "Method not allowed", detail)
        }
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large("the body is over the limit of this endpoint"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ApiError::other(status, "unsupported_media_type", "Unsupported media type", "the body's type is not taken here")
        }
        StatusCode::INTERNAL_SERVER_ERROR => ApiError::internal("an answer without a problem"),
        _ => ApiError::other(status, "failed", status.canonical_reason().unwrap_or("Failed"), "the request was not served"),
    }
}
