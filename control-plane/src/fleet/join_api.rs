//! REST for joining: `/tokens` for operators; `/enrol`, `/enrol/renew` and `/ca.pem` for machines that have no key yet.
//!
//! The three open endpoints take no API key: a join token or the possession of a device's key is the credential. Failures
//! are counted by address, successes are not, so that a whole site can enrol at once from behind one.

use super::attempts::Attempts;
use super::devices::Denied;
use super::enrol::{EnrolError, Enrolment};
use super::ports::TwinFault;
use super::renew::{RenewError, Renewal};
use super::tokens::{TokenError, Tokens};
use crate::platform::http::{ApiError, Json, Once, PageQuery, Path, Query};
use crate::platform::pki::PkiError;
use crate::tenants::{Operator, Tenants, Viewer};
use aidos_protocol::TokenId;
use aidos_protocol::api::{
    Page, Problem,
    tokens::{CreateToken, CreatedToken, TokenView},
};
use aidos_protocol::enrol::{EnrolRequest, EnrolResponse, RenewalRequest, RenewalResponse};
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRef, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
use utoipa_axum::{router::OpenApiRouter, routes};

/// A token, a request of 300 bytes and labels; enrolment reads no more of a stranger.
const MAX_BODY: usize = 32 * 1024;
/// Enrolments at a time: each signs and verifies, about 1 ms of CPU; the rest come again.
const AT_ONCE: usize = 64;

#[derive(Clone, FromRef)]
struct JoinState {
    tenants: Tenants,
    tokens: Tokens,
    enrolment: Enrolment,
    renewal: Renewal,
    door: Door,
}

/// What bounds strangers.
#[derive(Clone)]
struct Door {
    attempts: Attempts,
    room: Arc<Semaphore>,
}

/// The endpoints of tokens and enrolment.
pub(crate) fn router(tenants: Tenants, tokens: Tokens, enrolment: Enrolment, renewal: Renewal) -> OpenApiRouter {
    let door = Door { attempts: Attempts::default(), room: Arc::new(Semaphore::new(AT_ONCE)) };
    let open = OpenApiRouter::new()
        .routes(routes!(enrol))
        .routes(routes!(renew))
        .routes(routes!(ca))
        .layer(DefaultBodyLimit::max(MAX_BODY));
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(delete)).merge(open).with_state(JoinState {
        tenants,
        tokens,
        enrolment,
        renewal,
        door,
    })
}

/// Join tokens, newest first.
#[utoipa::path(get, path = "/api/v1/tokens", operation_id = "listTokens", tag = "tokens", params(PageQuery),
    responses((status = 200, body = Page<TokenView>)))]
async fn list(
    Viewer(caller): Viewer,
    State(tokens): State<Tokens>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<TokenView>>, ApiError> {
    let views = tokens.list(&caller, page.after()?, page.limit()? + 1).await?;
    Ok(Json(page.page(views, |view| view.id)?))
}

/// Makes a join token. Its text is in this answer and cannot be shown again.
#[utoipa::path(post, path = "/api/v1/tokens", operation_id = "createToken", tag = "tokens", request_body = CreateToken,
    responses((status = 201, body = CreatedToken), (status = 422, body = Problem, content_type = "application/problem+json")))]
async fn create(
    Operator(caller): Operator,
    State(tokens): State<Tokens>,
    Json(new): Json<CreateToken>,
) -> Result<Once<CreatedToken>, ApiError> {
    Ok(Once(tokens.create(&caller, new).await?))
}

/// Deletes a join token. Devices that joined with it stay.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", operation_id = "deleteToken", tag = "tokens", params(("id" = TokenId, Path)),
    responses((status = 204), (status = 404, body = Problem, content_type = "application/problem+json")))]
async fn delete(
    Operator(caller): Operator,
    State(tokens): State<Tokens>,
    Path(id): Path<TokenId>,
) -> Result<StatusCode, ApiError> {
    match tokens.delete(&caller, id).await {
        Err(TokenError::Store(crate::platform::db::StoreError::NotFound)) => Err(ApiError::not_found(format!("token {id}"))),
        done => Ok(done.map(|()| StatusCode::NO_CONTENT)?),
    }
}

/// Makes a device of whoever holds a join token.
#[utoipa::path(post, path = "/api/v1/enrol", operation_id = "enrol", tag = "enrolment", security(()), request_body = EnrolRequest,
    responses((status = 200, body = EnrolResponse), (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json")))]
async fn enrol(
    from: From,
    State(door): State<Door>,
    State(enrolment): State<Enrolment>,
    Json(request): Json<EnrolRequest>,
) -> Result<Json<EnrolResponse>, ApiError> {
    let _room = door.enter(&from)?;
    match enrolment.enrol(request, from.0).await {
        Ok(response) => Ok(Json(response)),
        Err(error) => {
            if !matches!(error, EnrolError::Store(_) | EnrolError::Token(TokenError::Store(_))) {
                door.attempts.failed(from.0, Instant::now());
            }
            Err(error.into())
        }
    }
}

/// Renews a device's certificate, also one that has expired within the last 400 days.
#[utoipa::path(post, path = "/api/v1/enrol/renew", operation_id = "renewCertificate", tag = "enrolment", security(()), request_body = RenewalRequest,
    responses((status = 200, body = RenewalResponse), (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json")))]
async fn renew(
    from: From,
    State(door): State<Door>,
    State(renewal): State<Renewal>,
    Json(request): Json<RenewalRequest>,
) -> Result<Json<RenewalResponse>, ApiError> {
    let _room = door.enter(&from)?;
    match renewal.renew(&request).await {
        Ok(response) => Ok(Json(response)),
        Err(error) => {
            if !matches!(error, RenewError::Denied(Denied::Store(_))) {
                door.attempts.failed(from.0, Instant::now());
            }
            Err(error.into())
        }
    }
}

/// The CA certificate of this deployment, PEM. Check it against the pin in a join token before trusting it.
#[utoipa::path(get, path = "/api/v1/ca.pem", operation_id = "getCaCertificate", tag = "enrolment", security(()),
    responses((status = 200, body = String, content_type = "application/x-pem-file")))]
async fn ca(State(enrolment): State<Enrolment>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/x-pem-file")], enrolment.ca_pem())
}

/// The address a request came from, where the listener knows it.
struct From(Option<IpAddr>);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for From {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(parts: &mut axum::http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())))
    }
}

impl Door {
    fn enter(&self, from: &From) -> Result<tokio::sync::OwnedSemaphorePermit, ApiError> {
        if let Some(wait) = self.attempts.wait(from.0, Instant::now()) {
            let detail = "too many failed attempts from this address";
            return Err(ApiError::too_many(detail, wait.as_secs().max(1)));
        }
        let full = |_| ApiError::unavailable("many devices are enrolling now", 1);
        self.room.clone().try_acquire_owned().map_err(full)
    }
}

impl std::convert::From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let refused = |code: &str| ApiError::other(StatusCode::FORBIDDEN, code, "Token refused", error.to_string());
        match error {
            TokenError::Malformed(_) => ApiError::invalid("token", error.to_string()),
            TokenError::Foreign => refused("token_foreign"),
            TokenError::Unknown => refused("token_unknown"),
            TokenError::UsedUp { .. } => refused("token_used_up"),
            TokenError::Expired => refused("token_expired"),
            TokenError::Invalid { field, .. } => ApiError::invalid(field, error.to_string()),
            TokenError::Store(error) => error.into(),
        }
    }
}

impl std::convert::From<PkiError> for ApiError {
    fn from(error: PkiError) -> Self {
        match error {
            PkiError::Request(_) => ApiError::invalid("csr_pem", error.to_string()),
            other => ApiError::internal(other),
        }
    }
}

impl std::convert::From<EnrolError> for ApiError {
    fn from(error: EnrolError) -> Self {
        match error {
            EnrolError::Token(error) => error.into(),
            EnrolError::Name => ApiError::invalid("name", error.to_string()),
            EnrolError::Twin(TwinFault::Store(error)) | EnrolError::Store(error) => error.into(),
            EnrolError::Twin(error) => ApiError::invalid("labels", error.to_string()),
            EnrolError::Certificate(error) => error.into(),
        }
    }
}

impl std::convert::From<RenewError> for ApiError {
    fn from(error: RenewError) -> Self {
        let forbidden = |code: &str| ApiError::other(StatusCode::FORBIDDEN, code, "Renewal refused", error.to_string());
        match error {
            RenewError::Certificate(_) => forbidden("certificate"),
            RenewError::Signature => forbidden("signature"),
            RenewError::Denied(Denied::Revoked) => forbidden("revoked"),
            RenewError::Denied(Denied::Unknown) => forbidden("unknown_device"),
            RenewError::Denied(Denied::Store(error)) => error.into(),
            RenewError::Request(error) => error.into(),
        }
    }
}
