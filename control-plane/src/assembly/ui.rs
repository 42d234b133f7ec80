//! The dashboard at every address that is nobody else's. It is the same for everyone: what a person sees comes from the API.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// Bytes of a nonce.
const NONCE: usize = 16;
/// First parts of paths below which everything is the API's.
const OTHERS: [&str; 4] = ["api", "docs", "metrics", "v2"];

/// The dashboard.
pub(super) fn router() -> Router {
    Router::new().route("/", get(page)).route("/{*path}", any(anything))
}

/// Scripts from here only, none inline; styles with the nonce of this answer. Attributes may style: charts place their labels so,
/// and text that came from elsewhere is never read as HTML.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; style-src-elem 'self' 'nonce-{nonce}'; \
         style-src-attr 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
}

async fn page() -> Response {
    let nonce = URL_SAFE_NO_PAD.encode(rand::random::<[u8; NONCE]>());
    let policy = HeaderValue::try_from(policy(&nonce)).expect("a policy is plain text");
    // Asked for each time: it names the files, whose names change with what is in them.
    let about = [(header::CONTENT_SECURITY_POLICY, policy), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    (about, Html(aidos_fleet_ui::page(&nonce))).into_response()
}

async fn anything(method: Method, Path(path): Path<String>, headers: HeaderMap) -> Response {
    let first = path.split('/').next().unwrap_or_default();
    if method != Method::GET && method != Method::HEAD || OTHERS.contains(&first) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let gzip =
        headers.get(header::ACCEPT_ENCODING).and_then(|names| names.to_str().ok()).is_some_and(|names| names.contains("gzip"));
    if let Some(asset) = aidos_fleet_ui::asset(&path, gzip) {
        let cache = if asset.immutable { "public, max-age=31536000, immutable" } else { "public, max-age=3600" };
        let mut response = Response::new(Body::from(asset.bytes.into_owned()));
        let about = response.headers_mut();
        about.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
        about.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        about.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if asset.gzip {
            about.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        return response;
    }
    // An address within the dashboard has no ending; a file that is not there has.
    if first == "assets" || path.rsplit('/').next().is_some_and(|name| name.contains('.')) && !wants_page(&headers) {
        return StatusCode::NOT_FOUND.into_response();
    }
    page().await
}

/// Whether a person's browser asks, which says that it takes a page.
fn wants_page(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|kinds| kinds.to_str().ok()).is_some_and(|kinds| kinds.contains("text/html"))
}
