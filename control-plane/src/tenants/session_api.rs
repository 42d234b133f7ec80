//! The endpoints of browsers' sessions. They answer with the one cookie that this control plane sets.

use super::sessions::Session;
use super::views::tenant_view;
use super::{Tenants, Viewer};
use crate::platform::http::{ApiError, Json};
use aidos_protocol::api::Problem;
use aidos_protocol::api::sessions::{CreateSession, LoginLinkView, SIGN_IN_PATH, SessionView};
use axum::extract::{ConnectInfo, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The endpoints of sessions.
pub(super) fn router(tenants: Tenants) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(create_session, get_session, end_session))
        .routes(routes!(create_login_link))
        .with_state(tenants)
}

/// Where a request comes from.
struct From(Option<IpAddr>);

impl<S: Sync> FromRequestParts<S> for From {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())))
    }
}

/// Nothing of a session is for a cache.
fn headers(cookie: Option<&str>) -> Result<HeaderMap, ApiError> {
    let mut headers = HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]);
    if let Some(cookie) = cookie {
        headers.insert(header::SET_COOKIE, HeaderValue::try_from(cookie).map_err(ApiError::internal)?);
    }
    Ok(headers)
}

async fn view(tenants: &Tenants, session: Session) -> Result<SessionView, ApiError> {
    let tenant = tenants.of_key(&session.key).await?;
    Ok(SessionView {
        tenant: tenant_view(tenant),
        key_id: session.key.id,
        key_name: session.key.name,
        role: session.key.role,
        csrf_token: session.csrf,
        expires_at: session.expires,
    })
}

/// Signs a browser in, by an API key or a one-time link. The answer sets a cookie.
#[utoipa::path(
    post, path = "/api/v1/session", operation_id = "createSession", tag = "sessions", request_body = CreateSession, security(()),
    responses((status = 201, body = SessionView), (status = 401, body = Problem, content_type = "application/problem+json"))
)]
async fn create_session(
    State(tenants): State<Tenants>,
    From(from): From,
    Json(request): Json<CreateSession>,
) -> Result<(StatusCode, HeaderMap, Json<SessionView>), ApiError> {
    let (session, cookie) = match (request.api_key, request.code) {
        (Some(key), None) => tenants.sessions().begin(tenants.presented(key.trim()).await?, from).await?,
        (None, Some(code)) => tenants.sessions().redeem(code.trim(), from).await?,
        _ => return Err(ApiError::malformed("give either `api_key` or `code`")),
    };
    Ok((StatusCode::CREATED, headers(Some(&cookie))?, Json(view(&tenants, session).await?)))
}

/// The session of this browser.
#[utoipa::path(get, path = "/api/v1/session", operation_id = "getSession", tag = "sessions", security(()),
    responses((status = 200, body = SessionView), (status = 401, body = Problem, content_type = "application/problem+json")))]
async fn get_session(State(tenants): State<Tenants>, request: HeaderMap) -> Result<(HeaderMap, Json<SessionView>), ApiError> {
    let session = tenants.sessions().of(&request).await?;
    let session = session.ok_or_else(|| ApiError::unauthorized("this browser has not signed in"))?;
    Ok((headers(None)?, Json(view(&tenants, session).await?)))
}

/// Signs this browser out. Another site's page cannot: it does not have the cookie sent along.
#[utoipa::path(delete, path = "/api/v1/session", operation_id = "endSession", tag = "sessions", security(()),
    responses((status = 204, description = "it is signed out")))]
async fn end_session(State(tenants): State<Tenants>, request: HeaderMap) -> Result<(StatusCode, HeaderMap), ApiError> {
    let cookie = tenants.sessions().end(&request).await?;
    Ok((StatusCode::NO_CONTENT, headers(Some(&cookie))?))
}

/// Makes a link by which the holder of this key signs a browser in, once.
#[utoipa::path(post, path = "/api/v1/login-links", operation_id = "createLoginLink", tag = "sessions",
    responses((status = 201, body = LoginLinkView)))]
async fn create_login_link(
    State(tenants): State<Tenants>,
    Viewer(caller): Viewer,
) -> Result<(StatusCode, HeaderMap, Json<LoginLinkView>), ApiError> {
    let (_, key) = tenants.whoami(&caller).await?;
    let (code, expires_at) = tenants.sessions().link(&caller, &key).await?;
    Ok((StatusCode::CREATED, headers(None)?, Json(LoginLinkView { path: format!("{SIGN_IN_PATH}#code={code}"), expires_at })))
}
