//! The endpoints of tenants, keys and activity, and of live events. The only file of this room that knows HTTP.

use super::views::{key_view, tenant_view};
use super::{Activity, ActivityQuery, Owner, Tenants, Viewer, session_api};
use crate::platform::http::{ApiError, Events, Json, Once, PageQuery, Path, Query};
use crate::platform::metrics::{self, Metrics};
use aidos_protocol::api::activity::ActivityView;
use aidos_protocol::api::events::EventView;
use aidos_protocol::api::keys::{CreateKey, KeyCreated, KeyView};
use aidos_protocol::api::tenants::{CreateTenant, TenantCreated, TenantView, WhoAmI};
use aidos_protocol::api::{Page, Problem};
use aidos_protocol::{ApiKeyId, EventId, TenantId, time::Micros};
use axum::extract::{FromRef, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(Clone, FromRef)]
struct ApiState {
    tenants: Tenants,
    activity: Activity,
    events: Events,
    metrics: Metrics,
}

/// The endpoints of this room.
pub(crate) fn router(tenants: Tenants, activity: Activity, events: Events, metrics: Metrics) -> OpenApiRouter {
    let sessions = session_api::router(tenants.clone());
    OpenApiRouter::new()
        .routes(routes!(whoami))
        .routes(routes!(list_tenants, create_tenant))
        .routes(routes!(get_tenant))
        .routes(routes!(list_keys, create_key))
        .routes(routes!(get_key, revoke_key))
        .routes(routes!(list_activity))
        .routes(routes!(stream_events))
        .routes(routes!(metrics_text))
        .with_state(ApiState { tenants, activity, events, metrics })
        .merge(sessions)
}

/// What the presented key stands for.
#[utoipa::path(get, path = "/api/v1/whoami", operation_id = "whoAmI", tag = "tenants", responses((status = 200, body = WhoAmI)))]
async fn whoami(State(tenants): State<Tenants>, Viewer(caller): Viewer) -> Result<Json<WhoAmI>, ApiError> {
    let (tenant, key) = tenants.whoami(&caller).await?;
    Ok(Json(WhoAmI { tenant: tenant_view(tenant), key_id: key.id, key_name: key.name, role: key.role, expires_at: key.expires }))
}

/// Tenants by name. An owner of the root tenant sees all, everyone else their own.
#[utoipa::path(get, path = "/api/v1/tenants", operation_id = "listTenants", tag = "tenants", params(PageQuery), responses((status = 200, body = Page<TenantView>)))]
async fn list_tenants(
    State(tenants): State<Tenants>,
    Viewer(caller): Viewer,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<TenantView>>, ApiError> {
    let after: Option<String> = page.after()?;
    let rows = tenants.list(&caller, after.as_deref(), page.limit()? + 1).await?;
    Ok(Json(page.page(rows, |row| row.name.clone())?.map(tenant_view)))
}

/// Makes a tenant and its first owner key, which is shown only in this answer. For owners of the root tenant.
#[utoipa::path(
    post, path = "/api/v1/tenants", operation_id = "createTenant", tag = "tenants", request_body = CreateTenant,
    responses((status = 201, body = TenantCreated), (status = 409, body = Problem, content_type = "application/problem+json"))
)]
async fn create_tenant(
    State(tenants): State<Tenants>,
    Owner(caller): Owner,
    Json(wish): Json<CreateTenant>,
) -> Result<Once<TenantCreated>, ApiError> {
    let (tenant, key) = tenants.create(&caller, wish.name).await?;
    Ok(Once(TenantCreated { tenant: tenant_view(tenant), owner_key: key.reveal().to_owned() }))
}

/// One tenant.
#[utoipa::path(
    get, path = "/api/v1/tenants/{tenant}", operation_id = "getTenant", tag = "tenants", params(("tenant" = TenantId, Path)),
    responses((status = 200, body = TenantView))
)]
async fn get_tenant(
    State(tenants): State<Tenants>,
    Viewer(caller): Viewer,
    Path(tenant): Path<TenantId>,
) -> Result<Json<TenantView>, ApiError> {
    Ok(Json(tenant_view(tenants.get(&caller, tenant).await?)))
}

/// The tenant's API keys, oldest first.
#[utoipa::path(get, path = "/api/v1/keys", operation_id = "listKeys", tag = "keys", params(PageQuery), responses((status = 200, body = Page<KeyView>)))]
async fn list_keys(
    State(tenants): State<Tenants>,
    Owner(caller): Owner,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<KeyView>>, ApiError> {
    let after: Option<ApiKeyId> = page.after()?;
    let rows = tenants.list_keys(caller.tenant, after, page.limit()? + 1).await?;
    Ok(Json(page.page(rows, |row| row.id)?.map(key_view)))
}

/// Makes an API key. Its text is shown only in this answer.
#[utoipa::path(
    post, path = "/api/v1/keys", operation_id = "createKey", tag = "keys", request_body = CreateKey,
    responses((status = 201, body = KeyCreated))
)]
async fn create_key(
    State(tenants): State<Tenants>,
    Owner(caller): Owner,
    Json(wish): Json<CreateKey>,
) -> Result<Once<KeyCreated>, ApiError> {
    let (row, text) = tenants.create_key(&caller, wish).await?;
    Ok(Once(KeyCreated { key: key_view(row), secret: text.reveal().to_owned() }))
}

/// One API key.
#[utoipa::path(
    get, path = "/api/v1/keys/{key}", operation_id = "getKey", tag = "keys", params(("key" = ApiKeyId, Path)),
    responses((status = 200, body = KeyView))
)]
async fn get_key(
    State(tenants): State<Tenants>,
    Owner(caller): Owner,
    Path(key): Path<ApiKeyId>,
) -> Result<Json<KeyView>, ApiError> {
    Ok(Json(key_view(tenants.get_key(caller.tenant, key).await?)))
}

/// Revokes an API key at once. The tenant's last owner key that does not expire stays.
#[utoipa::path(
    delete, path = "/api/v1/keys/{key}", operation_id = "revokeKey", tag = "keys", params(("key" = ApiKeyId, Path)),
    responses((status = 204, description = "it is revoked"), (status = 409, body = Problem, content_type = "application/problem+json"))
)]
async fn revoke_key(
    State(tenants): State<Tenants>,
    Owner(caller): Owner,
    Path(key): Path<ApiKeyId>,
) -> Result<StatusCode, ApiError> {
    tenants.revoke_key(&caller, key).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who did what to what, newest first.
#[utoipa::path(
    get, path = "/api/v1/activity", operation_id = "listActivity", tag = "activity", params(PageQuery, ActivityQuery),
    responses((status = 200, body = Page<ActivityView>))
)]
async fn list_activity(
    State(activity): State<Activity>,
    Viewer(caller): Viewer,
    Query(page): Query<PageQuery>,
    Query(query): Query<ActivityQuery>,
) -> Result<Json<Page<ActivityView>>, ApiError> {
    let after: Option<(Micros, EventId)> = page.after()?;
    let items = activity.list(caller.tenant, &query, after, page.limit()? + 1).await?;
    Ok(Json(page.page(items, |entry| (entry.at, entry.id))?))
}

/// Which events.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Only these kinds, with commas between: `device.online,device.offline`. All when absent.
    kinds: Option<String>,
}

/// What happens in the tenant, live, as server-sent events. `Last-Event-ID` resumes; an event `reset` says that some were missed.
#[utoipa::path(
    get, path = "/api/v1/events", operation_id = "streamEvents", tag = "events", params(EventsQuery),
    responses((status = 200, body = EventView, content_type = "text/event-stream"))
)]
async fn stream_events(
    State(events): State<Events>,
    Viewer(caller): Viewer,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let kinds = query.kinds.as_deref().unwrap_or_default().split(',').map(str::trim).filter(|kind| !kind.is_empty());
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    events.stream(caller.tenant, last, kinds.map(str::to_owned).collect())
}

/// The control plane's own metrics in Prometheus' text form. For keys of the root tenant: they tell of all tenants.
#[utoipa::path(get, path = "/metrics", operation_id = "getMetrics", tag = "operations", responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics_text(
    State(tenants): State<Tenants>,
    State(metrics): State<Metrics>,
    Viewer(caller): Viewer,
) -> Result<impl IntoResponse, ApiError> {
    if !tenants.is_of_root(&caller).await? {
        return Err(ApiError::forbidden("only keys of the root tenant read the metrics"));
    }
    Ok(([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], metrics.text()))
}
