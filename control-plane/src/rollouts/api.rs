//! `/deployments`. The files named `api` are the only ones of the room that know HTTP.

use super::deployments::{DeploymentError, Deployments, Made};
use super::ports::FleetError;
use super::store::{Deployment, State as Stored};
use crate::platform::http::{ApiError, Created, Json, PageQuery, Path, Query};
use crate::tenants::{Operator, Tenants, Viewer};
use aidos_protocol::api::Page;
use aidos_protocol::api::deployments::{
    CreateDeployment, DeploymentCounts, DeploymentDeviceView, DeploymentPlan, DeploymentState, DeploymentView, PlannedDevice,
};
use aidos_protocol::{DeploymentId, Subject, time::Micros};
use axum::extract::{FromRef, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Devices that a plan names.
pub(super) const PLANNED: usize = 100;

#[derive(Clone, FromRef)]
pub(super) struct ApiState {
    pub(super) deployments: Deployments,
    pub(super) tenants: Tenants,
}

/// The endpoints of deployments.
pub(crate) fn router(deployments: Deployments, tenants: Tenants) -> OpenApiRouter {
    let state = ApiState { deployments, tenants };
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, stop))
        .routes(routes!(devices))
        .with_state(state.clone())
        .merge(super::rollout_api::router(state.clone()))
        .merge(super::readings_api::router(state.clone()))
        .merge(super::updates_api::router(state))
}

impl From<DeploymentError> for ApiError {
    fn from(error: DeploymentError) -> Self {
        match error {
            DeploymentError::NotFound(id) => Self::not_found(format!("deployment {id}")),
            DeploymentError::NoDevice(id) => Self::not_found(format!("device {id}")),
            DeploymentError::Conflict(text) => Self::conflict(text),
            DeploymentError::Selector(error) => {
                Self::invalid("selector", format!("column {}: {}\n{error}", error.column(), error.message()))
                    .hint("write it as in kubectl: `site=lab,gpu!=none`, `key in (a,b)`, `!key`, or `*` for all devices")
            }
            DeploymentError::Plan(error) => Self::invalid(error.field, error.message),
            DeploymentError::Registry(error) => error.into(),
            DeploymentError::Fleet(FleetError::Refused(text)) => Self::conflict(text),
            DeploymentError::Fleet(FleetError::Store(error)) | DeploymentError::Store(error) => error.into(),
        }
    }
}

/// Which deployments.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only of this model, of `agent.release`, or of `agent.config`.
    #[param(value_type = Option<String>)]
    subject: Option<Subject>,
    /// Only in this state.
    state: Option<DeploymentState>,
}

/// List deployments, newest first
#[utoipa::path(get, path = "/api/v1/deployments", operation_id = "listDeployments", tag = "deployments", params(PageQuery, Filter),
    responses((status = 200, body = Page<DeploymentView>)))]
async fn list(
    Viewer(caller): Viewer,
    State(deployments): State<Deployments>,
    Query(page): Query<PageQuery>,
    Query(filter): Query<Filter>,
) -> Result<Json<Page<DeploymentView>>, ApiError> {
    let before = page.after()?.unwrap_or(Micros(i64::MAX));
    let limit = u32::try_from(page.limit()? + 1).unwrap_or(u32::MAX);
    let state = filter.state.map(|state| match state {
        DeploymentState::Active => "active",
        DeploymentState::Stopped => "stopped",
        DeploymentState::Superseded => "superseded",
    });
    let rows = deployments.list(caller.tenant, filter.subject.as_ref(), state, before, limit).await?;
    let rows = page.page(rows, |row| row.created)?;
    let mut items = Vec::with_capacity(rows.items.len());
    for row in rows.items {
        let counts = deployments.counts(caller.tenant, row.id).await?;
        items.push(view(row, counts));
    }
    Ok(Json(Page { items, next_cursor: rows.next_cursor }))
}

/// How a deployment is made.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct How {
    /// Make nothing; say whom it would reach.
    #[serde(default)]
    dry_run: bool,
}

/// Deploy a version of a model, of the agent or of its settings
///
/// Answers 200 with the deployment that holds already when it is the same; 200 with a plan for a dry run.
#[utoipa::path(post, path = "/api/v1/deployments", operation_id = "createDeployment", tag = "deployments", params(How), request_body = CreateDeployment,
    responses((status = 201, body = DeploymentView), (status = 200, body = DeploymentPlan),
        (status = 422, description = "The selector or the reference cannot be read")))]
async fn create(
    Operator(caller): Operator,
    State(deployments): State<Deployments>,
    Query(How { dry_run }): Query<How>,
    Json(request): Json<CreateDeployment>,
) -> Result<Response, ApiError> {
    if dry_run {
        let plan = deployments.plan(caller.tenant, &request.subject, &request.selector, PLANNED).await?;
        let devices = plan.first.into_iter().map(|(device, current_version)| PlannedDevice {
            device: device.id,
            name: device.name,
            online: device.online,
            current_version,
        });
        let view = DeploymentPlan {
            version: plan.candidate.desired.version(),
            subject: plan.candidate.subject,
            selector: plan.selector,
            matching: plan.matching,
            devices: devices.collect(),
        };
        return Ok(Json(view).into_response());
    }
    Ok(match deployments.create(&caller, &request.subject, &request.selector).await? {
        Made::New(row) => Created(view(row, DeploymentCounts::default())).into_response(),
        Made::Existing(row) => {
            let counts = deployments.counts(caller.tenant, row.id).await?;
            Json(view(row, counts)).into_response()
        }
    })
}

/// Show a deployment
#[utoipa::path(get, path = "/api/v1/deployments/{id}", operation_id = "getDeployment", tag = "deployments", params(("id" = DeploymentId, Path)),
    responses((status = 200, body = DeploymentView)))]
async fn show(
    Viewer(caller): Viewer,
    State(deployments): State<Deployments>,
    Path(id): Path<DeploymentId>,
) -> Result<Json<DeploymentView>, ApiError> {
    let row = deployments.get(caller.tenant, id).await?;
    let counts = deployments.counts(caller.tenant, id).await?;
    Ok(Json(view(row, counts)))
}

/// List a deployment's devices
#[utoipa::path(get, path = "/api/v1/deployments/{id}/devices", operation_id = "listDeploymentDevices", tag = "deployments",
    params(("id" = DeploymentId, Path), PageQuery), responses((status = 200, body = Page<DeploymentDeviceView>)))]
async fn devices(
    Viewer(caller): Viewer,
    State(deployments): State<Deployments>,
    Path(id): Path<DeploymentId>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<DeploymentDeviceView>>, ApiError> {
    let after: String = page.after()?.unwrap_or_default();
    let limit = u32::try_from(page.limit()? + 1).unwrap_or(u32::MAX);
    let rows = deployments.devices(caller.tenant, id, &after, limit).await?;
    let rows = page.page(rows, |row| row.device.to_string())?;
    Ok(Json(rows.map(|row| DeploymentDeviceView {
        device: row.device,
        name: row.name,
        progress: row.progress,
        step: row.step,
        active_version: row.active_version,
        error: row.error,
        online: row.online,
        told_at: row.told,
        updated_at: row.updated,
    })))
}

/// How a deployment is stopped.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Ending {
    /// Take it off the devices; otherwise they keep it.
    #[serde(default)]
    remove: bool,
}

/// Stop a deployment
///
/// Late joiners no longer get it. The removal may be added by a second call.
#[utoipa::path(delete, path = "/api/v1/deployments/{id}", operation_id = "stopDeployment", tag = "deployments", params(("id" = DeploymentId, Path), Ending),
    responses((status = 200, body = DeploymentView), (status = 409, description = "Another one holds in its place")))]
async fn stop(
    Operator(caller): Operator,
    State(deployments): State<Deployments>,
    Path(id): Path<DeploymentId>,
    Query(Ending { remove }): Query<Ending>,
) -> Result<Json<DeploymentView>, ApiError> {
    let row = deployments.stop(&caller, id, remove).await?;
    let counts = deployments.counts(caller.tenant, id).await?;
    Ok(Json(view(row, counts)))
}

fn view(row: Deployment, counts: DeploymentCounts) -> DeploymentView {
    let (state, superseded_by, removed) = match row.state {
        Stored::Active => (DeploymentState::Active, None, false),
        Stored::Reverted => (DeploymentState::Stopped, None, false),
        Stored::Stopped { removed } => (DeploymentState::Stopped, None, removed),
        Stored::Superseded { by } => (DeploymentState::Superseded, Some(by), false),
    };
    DeploymentView {
        id: row.id,
        version: row.desired.version(),
        subject: row.subject,
        selector: row.selector,
        state,
        counts,
        created_at: row.created,
        created_by: row.created_by,
        ended_at: row.ended,
        superseded_by,
        removed,
    }
}
