//! What happens around every handler: a request id, a log line, counts, a caught panic, problem details for whatever error,
//! what no cache may keep, and a bound on the body.

use super::error::{ApiError, of_status, problem_response};
use crate::platform::metrics::Metrics;
use aidos_protocol::api::Problem;
use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::time::Instant;
use tracing::Instrument as _;

/// The largest body of an endpoint that sets no limit of its own: JSON that a person or a script wrote.
pub(crate) const MAX_BODY: usize = 1 << 20;
/// Names a request in the answer and in the log. Ours, never the client's: it must be unique.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Puts the layers around `app`. Call it once, after all routes are merged.
pub(crate) fn layered(app: Router, metrics: Metrics) -> Router {
    app.fallback(|| async { of_status(StatusCode::NOT_FOUND) })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(metrics, around))
}

async fn around(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let id = uuid::Uuid::now_v7().simple().to_string();
    let begun = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("none".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!("request", %id, %method, path = request.uri().path());
    // Handlers hold no locks over an await and keep their state in the database, so a panic leaves nothing half done.
    let outcome = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let _entered = span.enter();
    let response = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
        ApiError::internal(format!("a handler panicked: {text}")).into_response()
    });
    let mut response = as_problem(response, &id);
    let took = begun.elapsed();
    metrics.request(method.as_str(), &route, response.status().as_u16(), took);
    tracing::debug!(status = response.status().as_u16(), ?took, "answered");
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::try_from(id).expect("hexadecimal digits make a header"));
    // An ETag here is that of what may be edited, and less than all that an answer shows: nobody may take an old answer for it.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Gives an error the request's id, and problem details where it has no JSON body of its own.
fn as_problem(mut response: Response, id: &str) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let known = response.extensions_mut().remove::<Problem>();
    let own = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let problem = match known {
        Some(problem) => problem,
        None if own.is_some_and(|own| own.contains("json")) => return response,
        None => match of_status(status).into_response().extensions_mut().remove::<Problem>() {
            Some(problem) => problem,
            None => return response,
        },
    };
    let mut made = problem_response(status, Problem { request_id: Some(id.to_owned()), ..problem });
    for (name, value) in response.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            made.headers_mut().append(name, value.clone());
        }
    }
    made
}
