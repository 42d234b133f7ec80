//! `Idempotency-Key`: whoever creates something and hears no answer sends the same request again, and it is done once.
//!
//! The flow: the key is claimed in the database, the request runs to its end even if its client leaves, and a success is
//! kept with the key for [`KEPT`]; the same request then gets the kept answer. A failure frees the key. An answer that holds a
//! secret (`Cache-Control: no-store`) is not kept: a repeat is told that it was done. What crashed half-way may be claimed
//! again after [`ABANDONED_S`].

use super::idempotency_store::{self as store, Kept};
use super::{Caller, Tenants};
use crate::platform::clock::Clock;
use crate::platform::db::{Db, StoreError};
use crate::platform::http::ApiError;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest as _, Sha256};
use std::net::SocketAddr;
use std::time::Duration;

const HEADER: &str = "idempotency-key";
/// Tells that an answer is a kept one.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// How long an answer is kept: a client that retries for longer begins something new.
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// After how many seconds a claim without an answer is taken to be of a process that died; no request runs that long.
const ABANDONED_S: i64 = 120;
/// The longest key: a UUID has 36 characters.
const MAX_KEY: usize = 128;
/// The longest request that may carry a key, and the longest answer that is kept.
const MAX_BODY: usize = 1 << 20;
/// The most keys of a tenant within [`KEPT`].
const MAX_KEYS: i64 = 20_000;

/// Answers kept for repeated requests; a clone shares them.
#[derive(Clone)]
pub(crate) struct Idempotency {
    db: Db,
    clock: Clock,
    tenants: Tenants,
}

impl Idempotency {
    /// Answers kept in `db`.
    pub(crate) fn new(db: Db, clock: Clock, tenants: Tenants) -> Self {
        Self { db, clock, tenants }
    }

    /// Removes what is older than a day. For a background task.
    pub(crate) async fn sweep(&self) -> Result<u64, StoreError> {
        let before = self.clock.now().plus_seconds(-(KEPT.as_secs() as i64));
        store::remove_before(&self.db, before).await
    }

    async fn run(self, caller: Caller, key: String, request: Request, next: Next) -> Result<Response, ApiError> {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, MAX_BODY).await;
        let body =
            body.map_err(|_| ApiError::too_large(format!("a request with Idempotency-Key has at most {MAX_BODY} bytes")))?;
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let hash = Sha256::new().chain_update(target).chain_update([0]).chain_update(&body).finalize().to_vec();
        if let Some(kept) = self.claim(&caller, &key, &hash).await? {
            return replay(kept, &hash);
        }
        let response = next.run(Request::from_parts(parts, Body::from(body))).await;
        let (parts, body) = response.into_parts();
        let secret = parts.headers.get(header::CACHE_CONTROL).is_some_and(|value| value.as_bytes() == b"no-store");
        let body = to_bytes(body, MAX_BODY).await.map_err(ApiError::internal);
        match (&body, parts.status.is_success()) {
            (Ok(body), true) => {
                let headers = kept_headers(&parts.headers);
                let body = if secret { None } else { Some(body.to_vec()) };
                store::keep(&self.db, &caller, &key, parts.status.as_u16(), headers, body).await?;
            }
            _ => store::free(&self.db, &caller, &key).await?,
        }
        Ok(Response::from_parts(parts, Body::from(body?)))
    }

    /// Claims the key, or says what is kept under it.
    async fn claim(&self, caller: &Caller, key: &str, hash: &[u8]) -> Result<Option<Kept>, ApiError> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        if store::count(&mut tx, caller.tenant).await? >= MAX_KEYS {
            return Err(ApiError::unavailable(format!("{MAX_KEYS} idempotency keys were used within a day"), 600));
        }
        let kept = if store::claim(&mut tx, caller, key, hash, now, now.plus_seconds(-ABANDONED_S)).await? {
            None
        } else {
            Some(store::get(&mut tx, caller, key).await?)
        };
        tx.commit().await?;
        Ok(kept)
    }
}

/// The layer around all endpoints: acts on each POST that carries the header.
pub(crate) async fn layer(
    State(idempotency): State<Idempotency>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(key) = request.headers().get(HEADER) else { return Ok(next.run(request).await) };
    if request.method() != Method::POST {
        return Ok(next.run(request).await);
    }
    let key = key.to_str().ok().filter(|key| (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()));
    let key = key.ok_or_else(|| ApiError::invalid("Idempotency-Key", format!("a key is 1 to {MAX_KEY} visible characters")))?;
    let key = key.to_owned();
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let caller = idempotency.tenants.authenticate(request.method(), request.headers(), from).await?;
    request.extensions_mut().insert(caller.clone());
    // A task of its own: the client may leave, what it asked for and the note of it belong together.
    match tokio::spawn(idempotency.clone().run(caller.clone(), key.clone(), request, next)).await {
        Ok(answer) => answer,
        Err(panic) => {
            store::free(&idempotency.db, &caller, &key).await?;
            Err(ApiError::internal(panic))
        }
    }
}

fn replay(kept: Kept, hash: &[u8]) -> Result<Response, ApiError> {
    if kept.request_hash != hash {
        let refused = ApiError::invalid("Idempotency-Key", "this Idempotency-Key was used for another request");
        return Err(refused.hint("take a new key for each thing that you create"));
    }
    let Some(status) = kept.status else {
        return Err(ApiError::unavailable("the same request is still under way", 1));
    };
    let Some(body) = kept.body else {
        let refused = ApiError::conflict("this request was done before, and its answer held a secret that is not kept");
        return Err(refused.hint("remove what it made and make another, with a new Idempotency-Key"));
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).map_err(ApiError::internal)?;
    for line in kept.headers.lines() {
        if let Some((name, value)) = line.split_once(": ")
            && let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// The headers that belong to the answer and not to the connection, one per line.
fn kept_headers(headers: &HeaderMap) -> String {
    let kept = [header::CONTENT_TYPE, header::LOCATION, header::ETAG];
    let lines = kept.iter().filter_map(|name| Some(format!("{name}: {}", headers.get(name)?.to_str().ok()?)));
    lines.collect::<Vec<_>>().join("\n")
}
