//! The bytes of an artifact as an HTTP answer: whole, a part, unchanged, or elsewhere.

use crate::platform::http::ApiError;
use crate::registry::Artifacts;
use crate::registry::range::{self, Wanted};
use aidos_protocol::{TenantId, artifact::Digest};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A year: what is named by its digest never changes. `private`: it belongs to a tenant.
const CACHE: &str = "private, max-age=31536000, immutable";

pub(super) async fn respond(
    artifacts: &Artifacts,
    tenant: TenantId,
    digest: &Digest,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let size = artifacts.get(tenant, digest).await?.size;
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let etag = format!("\"{digest}\"");
    let always = [(header::ETAG, etag.clone()), (header::CACHE_CONTROL, CACHE.into()), (header::ACCEPT_RANGES, "bytes".into())];
    if text(header::IF_NONE_MATCH).is_some_and(|tags| range::names(tags, &etag)) {
        return Ok((StatusCode::NOT_MODIFIED, always).into_response());
    }
    // An address is signed for one method.
    if method == Method::GET
        && let Some(address) = artifacts.address(tenant, digest).await?
    {
        // Not kept: the address expires.
        let elsewhere = [(header::LOCATION, address), (header::CACHE_CONTROL, "no-store".into())];
        return Ok((StatusCode::TEMPORARY_REDIRECT, elsewhere).into_response());
    }
    let asked = text(header::RANGE).filter(|_| text(header::IF_RANGE).is_none_or(|tag| tag == etag));
    let (status, part) = match range::wanted(asked, size) {
        Wanted::Whole => (StatusCode::OK, 0..size),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Outside => {
            let detail = format!("the artifact has {size} bytes");
            let problem = ApiError::other(StatusCode::RANGE_NOT_SATISFIABLE, "range", "Range not satisfiable", detail);
            return Ok(([(header::CONTENT_RANGE, format!("bytes */{size}"))], problem).into_response());
        }
    };
    let about = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, (part.end - part.start).to_string()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".into()),
    ];
    let place = format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1));
    let body =
        if method == Method::HEAD { Body::empty() } else { Body::from_stream(artifacts.bytes(tenant, digest, part).await?) };
    let mut response = (status, always, about, body).into_response();
    if status == StatusCode::PARTIAL_CONTENT {
        let place = place.parse().expect("digits and punctuation make a header");
        response.headers_mut().insert(header::CONTENT_RANGE, place);
    }
    Ok(response)
}
