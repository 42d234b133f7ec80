//! `/rollouts`. The files named `api` are the only ones of the room that know HTTP.

use super::Deployments;
use super::api::{ApiState, PLANNED};
use super::course::{Command, Tally};
use super::deployments::Made;
use super::phases::Phases;
use super::rollout::{Forecast, Whole};
use super::rollout_store::{Member, Rollout, Tallies};
use super::store::{Deployment, State as Stored};
use crate::platform::http::{ApiError, Created, Json, PageQuery, Path, Query};
use crate::tenants::{ActivityQuery, Operator, Viewer};
use aidos_protocol::api::Page;
use aidos_protocol::api::activity::ActivityView;
use aidos_protocol::api::deployments::{DeploymentCounts, PlannedDevice};
use aidos_protocol::api::rollouts::{
    AbortRollout, Because, CreateRollout, ForecastWave, GateView, Outcome, PromoteRollout, RolloutCellsView, RolloutDeviceView,
    RolloutForecast, RolloutPhase, RolloutStage, RolloutView, UndoRollout, WaveView,
};
use aidos_protocol::rollout::Plan;
use aidos_protocol::{DeploymentId, DeviceId, EventId, Subject, TenantId, time::Micros};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The endpoints of rollouts.
pub(super) fn router(state: ApiState) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show))
        .routes(routes!(devices))
        .routes(routes!(cells))
        .routes(routes!(history))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(promote))
        .routes(routes!(abort))
        .routes(routes!(undo))
        .with_state(state)
}

/// Which rollouts.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only of this model, of `agent.release`, or of `agent.config`.
    #[param(value_type = Option<String>)]
    subject: Option<Subject>,
    /// Only in these phases, with commas between: `running,paused`.
    #[param(value_type = Option<String>, example = "running,paused")]
    #[serde(default)]
    phase: Phases,
}

/// List rollouts, newest first
#[utoipa::path(get, path = "/api/v1/rollouts", operation_id = "listRollouts", tag = "rollouts", params(PageQuery, Filter),
    responses((status = 200, body = Page<RolloutView>)))]
async fn list(
    Viewer(caller): Viewer,
    State(deployments): State<Deployments>,
    Query(page): Query<PageQuery>,
    Query(filter): Query<Filter>,
) -> Result<Json<Page<RolloutView>>, ApiError> {
    let before = page.after()?.unwrap_or(Micros(i64::MAX));
    let limit = u32::try_from(page.limit()? + 1).unwrap_or(u32::MAX);
    let rows = deployments.in_phases(caller.tenant, filter.subject.as_ref(), &filter.phase, before, limit).await?;
    let rows = page.page(rows, |row| row.created)?;
    let ids: Vec<DeploymentId> = rows.items.iter().map(|row| row.id).collect();
    let mut rollouts = deployments.rollouts(caller.tenant, &ids).await?;
    let mut items = Vec::with_capacity(rows.items.len());
    for row in rows.items {
        let far = match rollouts.remove(&row.id) {
            Some((rollout, tallies)) => Far::Rollout(Box::new(rollout), tallies),
            None => Far::Deployment(deployments.counts(caller.tenant, row.id).await?),
        };
        items.push(view(row, far, deployments.clock.now()));
    }
    Ok(Json(Page { items, next_cursor: rows.next_cursor }))
}

/// How a rollout is made.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct How {
    /// Make nothing; say whom it would reach, and when.
    #[serde(default)]
    dry_run: bool,
}

/// Roll out a version of a model, of the agent or of its settings
///
/// Answers 200 with the one that holds already when it is the same; 200 with a forecast for a dry run.
#[utoipa::path(post, path = "/api/v1/rollouts", operation_id = "createRollout", tag = "rollouts", params(How), request_body = CreateRollout,
    responses((status = 201, body = RolloutView), (status = 200, body = RolloutForecast),
        (status = 409, description = "One of the same subject on the same selector is under way"),
        (status = 422, description = "The selector, the reference or the plan cannot be followed")))]
async fn create(
    Operator(caller): Operator,
    State(deployments): State<Deployments>,
    Query(How { dry_run }): Query<How>,
    Json(request): Json<CreateRollout>,
) -> Result<Response, ApiError> {
    let CreateRollout { subject, selector, plan } = request;
    if dry_run {
        let forecast = deployments.forecast(caller.tenant, &subject, &selector, &plan, PLANNED).await?;
        return Ok(Json(foretold(forecast, &plan)).into_response());
    }
    let made = deployments.roll_out(&caller, &subject, &selector, plan, None).await?;
    let (Made::New(row) | Made::Existing(row)) = &made;
    let view = seen(&deployments, caller.tenant, deployments.rollout(caller.tenant, row.id).await?).await?;
    Ok(match made {
        Made::New(_) => Created(view).into_response(),
        Made::Existing(_) => Json(view).into_response(),
    })
}

/// Show a rollout
#[utoipa::path(get, path = "/api/v1/rollouts/{id}", operation_id = "getRollout", tag = "rollouts", params(("id" = DeploymentId, Path)),
    responses((status = 200, body = RolloutView)))]
async fn show(
    Viewer(caller): Viewer,
    State(deployments): State<Deployments>,
    Path(id): Path<DeploymentId>,
) -> Result<Json<RolloutView>, ApiError> {
    Ok(Json(seen(&deployments, caller.tenant, deployments.rollout(caller.tenant, id).await?).await?))
}

/// Which devices of a rollout.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Only of this wave, from 1.
    wave: Option<u32>,
    /// Only in this outcome.
    outcome: Option<Outcome>,
}

/// List a rollout's devices
#[utoipa::path(get, path = "/api/v1/rollouts/{id}/devices", operation_id = "listRolloutDevices", tag = "rollouts",
    params(("id" = DeploymentId, Path), PageQuery, Which), responses((status = 200, body = Page<RolloutDeviceView>)))]
async fn devices(
    Viewer(caller): Viewer,
    State(deployments): State<Deployments>,
    Path(id): Path<DeploymentId>,
    Query(page): Query<PageQuery>,
    Query(which): Query<Which>,
) -> Result<Json<Page<RolloutDeviceView>>, ApiError> {
    let after: String = page.after()?.unwrap_or_default();
    let limit = u32::try_from(page.limit()? + 1).unwrap_or(u32::MAX);
    let filter = (which.wave.map(|wave| wave.saturating_sub(1) as usize), which.outcome);
    let rows = deployments.members(caller.tenant, id, filter, &after, limit).await?;
    let rows = page.page(rows, |row| row.device.to_string())?;
    let ids: Vec<DeviceId> = rows.items.iter().map(|row| row.device).collect();
    let mut facts = deployments.facts(caller.tenant, &ids).await?;
    let view = |row: Member| {
        let facts = facts.remove(&row.device);
        RolloutDeviceView {
            device: row.device,
            online: facts.as_ref().is_some_and(|facts| facts.online),
            name: facts.map(|facts| facts.name).unwrap_or_default(),
            wave: number(row.wave),
            outcome: row.outcome,
            reason: row.reason,
            told_at: row.told,
            updated_at: row.updated,
        }
    };
    Ok(Json(Page { items: rows.items.into_iter().map(view).collect(), next_cursor: rows.next_cursor }))
}

/// Whether cells are named.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Named {
    /// Whether to say which device each cell is; who knows that from before needs the outcomes only.
    #[serde(default = "yes")]
    #[param(default = true)]
    ids: bool,
}

fn yes() -> bool {
    true
}

/// Every device of a rollout, in as few bytes as can be
#[utoipa::path(get, path = "/api/v1/rollouts/{id}/cells", operation_id = "getRolloutCells", tag = "rollouts",
    params(("id" = DeploymentId, Path), Named), responses((status = 200, body = RolloutCellsView)))]
async fn cells(
    Viewer(caller): Viewer,
    State(deployments): State<Deployments>,
    Path(id): Path<DeploymentId>,
    Query(Named { ids }): Query<Named>,
) -> Result<Json<RolloutCellsView>, ApiError> {
    let cells = deployments.cells(caller.tenant, id).await?;
    let mut waves = Vec::new();
    for cell in &cells {
        if waves.len() <= cell.wave {
            waves.resize(cell.wave + 1, 0);
        }
        waves[cell.wave] += 1;
    }
    let outcomes: Vec<u8> = cells.iter().map(|cell| cell.outcome as u8).collect();
    let devices = ids.then(|| cells.iter().flat_map(|cell| *cell.device.as_bytes()).collect::<Vec<u8>>());
    Ok(Json(RolloutCellsView { waves, outcomes: BASE64.encode(outcomes), devices: devices.map(|ids| BASE64.encode(ids)) }))
}

/// List what was done to a rollout, newest first
#[utoipa::path(get, path = "/api/v1/rollouts/{id}/history", operation_id = "listRolloutHistory", tag = "rollouts",
    params(("id" = DeploymentId, Path), PageQuery), responses((status = 200, body = Page<ActivityView>)))]
async fn history(
    Viewer(caller): Viewer,
    State(deployments): State<Deployments>,
    Path(id): Path<DeploymentId>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ActivityView>>, ApiError> {
    deployments.get(caller.tenant, id).await?;
    let query = ActivityQuery { target: Some(id.to_string()), ..ActivityQuery::default() };
    let after: Option<(Micros, EventId)> = page.after()?;
    let rows = deployments.activity.list(caller.tenant, &query, after, page.limit()? + 1).await?;
    Ok(Json(page.page(rows, |row| (row.at, row.id))?))
}

/// Pause a rollout
///
/// No further device is told anything; those that were told go on.
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/pause", operation_id = "pauseRollout", tag = "rollouts",
    params(("id" = DeploymentId, Path)), request_body = Because,
    responses((status = 200, body = RolloutView), (status = 409, description = "It is not running")))]
async fn pause(
    Operator(caller): Operator,
    State(deployments): State<Deployments>,
    Path(id): Path<DeploymentId>,
    Json(Because { reason }): Json<Because>,
) -> Result<Json<RolloutView>, ApiError> {
    let whole = deployments.steer(&caller, id, &Command::Pause { reason: reason.clone() }, &reason).await?;
    Ok(Json(seen(&deployments, caller.tenant, whole).await?))
}

/// Resume a paused rollout
///
/// What paused it is judged anew, over what is measured from now on.
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/resume", operation_id = "resumeRollout", tag = "rollouts",
    params(("id" = DeploymentId, Path)), request_body = Because,
    responses((status = 200, body = RolloutView), (status = 409, description = "It is not paused")))]
async fn resume(
    Operator(caller): Operator,
    State(deployments): State<Deployments>,
    Path(id): Path<DeploymentId>,
    Json(Because { reason }): Json<Because>,
) -> Result<Json<RolloutView>, ApiError> {
    let whole = deployments.steer(&caller, id, &Command::Resume, &reason).await?;
    Ok(Json(seen(&deployments, caller.tenant, whole).await?))
}

/// Promote a rollout
///
/// Approves the next wave, or goes on with the open one in spite of failures and gates; with `all`, to everyone now.
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/promote", operation_id = "promoteRollout", tag = "rollouts",
    params(("id" = DeploymentId, Path)), request_body = PromoteRollout,
    responses((status = 200, body = RolloutView), (status = 409, description = "It is over")))]
async fn promote(
    Operator(caller): Operator,
    State(deployments): State<Deployments>,
    Path(id): Path<DeploymentId>,
    Json(PromoteRollout { all, reason }): Json<PromoteRollout>,
) -> Result<Json<RolloutView>, ApiError> {
    let whole = deployments.steer(&caller, id, &Command::Promote { all }, &reason).await?;
    Ok(Json(seen(&deployments, caller.tenant, whole).await?))
}

/// Abort a rollout
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/abort", operation_id = "abortRollout", tag = "rollouts",
    params(("id" = DeploymentId, Path)), request_body = AbortRollout,
    responses((status = 200, body = RolloutView), (status = 409, description = "It is over")))]
async fn abort(
    Operator(caller): Operator,
    State(deployments): State<Deployments>,
    Path(id): Path<DeploymentId>,
    Json(AbortRollout { revert, reason }): Json<AbortRollout>,
) -> Result<Json<RolloutView>, ApiError> {
    let command = Command::Abort { revert, reason: reason.clone() };
    let whole = deployments.steer(&caller, id, &command, &reason).await?;
    Ok(Json(seen(&deployments, caller.tenant, whole).await?))
}

/// Undo a rollout
///
/// One that is under way is aborted and its devices go back; one that is finished gives way to the version before it, by a new
/// rollout, which is the answer.
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/undo", operation_id = "undoRollout", tag = "rollouts",
    params(("id" = DeploymentId, Path)), request_body = UndoRollout,
    responses((status = 200, body = RolloutView), (status = 409, description = "There is nothing to go back to")))]
async fn undo(
    Operator(caller): Operator,
    State(deployments): State<Deployments>,
    Path(id): Path<DeploymentId>,
    Json(UndoRollout { to, reason }): Json<UndoRollout>,
) -> Result<Json<RolloutView>, ApiError> {
    let whole = deployments.undo(&caller, id, to.as_deref(), &reason).await?;
    Ok(Json(seen(&deployments, caller.tenant, whole).await?))
}

fn foretold(forecast: Forecast, plan: &Plan) -> RolloutForecast {
    let Forecast { reach, waves, present, unfit, reasons, members } = forecast;
    let devices = reach.first.into_iter().map(|(device, current_version)| PlannedDevice {
        device: device.id,
        name: device.name,
        online: device.online,
        current_version,
    });
    let each = u64::from(plan.soak_s.max(plan.watch_s.unwrap_or(0))) + u64::from(plan.experiment_s);
    RolloutForecast {
        version: reach.candidate.desired.version(),
        subject: reach.candidate.subject,
        selector: reach.selector,
        matching: reach.matching,
        unfit,
        unfit_reasons: reasons,
        present,
        bytes_at_most: members.saturating_sub(present).saturating_mul(reach.candidate.desired.size()),
        seconds_at_least: each * waves.len() as u64,
        waves: waves.into_iter().map(|(share, devices)| ForecastWave { share, devices }).collect(),
        devices: devices.collect(),
    }
}

/// How far something that was rolled out is.
enum Far {
    Rollout(Box<Rollout>, Tallies),
    /// It was made as a deployment, and has no course of its own.
    Deployment(DeploymentCounts),
}

/// As people see it, after a look at how far it is.
async fn seen(deployments: &Deployments, tenant: TenantId, whole: Whole) -> Result<RolloutView, ApiError> {
    let Whole { deployment, rollout } = whole;
    let far = match rollout {
        Some(rollout) => {
            let tallies = deployments.tallies(tenant, rollout.id).await?;
            Far::Rollout(Box::new(rollout), tallies)
        }
        None => Far::Deployment(deployments.counts(tenant, deployment.id).await?),
    };
    Ok(view(deployment, far, deployments.clock.now()))
}

fn view(deployment: Deployment, far: Far, now: Micros) -> RolloutView {
    let superseded_by = match deployment.state {
        Stored::Superseded { by } => Some(by),
        Stored::Active | Stored::Stopped { .. } | Stored::Reverted => None,
    };
    let mut view = RolloutView {
        id: deployment.id,
        version: deployment.desired.version(),
        subject: deployment.subject,
        selector: deployment.selector,
        plan: Plan::default(),
        phase: RolloutPhase::Running,
        reason: String::new(),
        wave: 1,
        stage: RolloutStage::Change,
        soak_until: None,
        reverted: deployment.state == Stored::Reverted,
        waves: Vec::new(),
        gates: Vec::new(),
        bytes_fetched: 0,
        bytes_saved: 0,
        undoes: None,
        created_at: deployment.created,
        created_by: deployment.created_by,
        updated_at: deployment.ended.unwrap_or(deployment.created),
        superseded_by,
    };
    match far {
        Far::Rollout(rollout, mut tallies) => {
            // It may have been aborted since the deployment was read.
            view.reverted |= rollout.course.reverted;
            let shares = rollout.plan.waves.shares();
            tallies.waves.resize(shares.len(), Tally::default());
            view.waves = shares.iter().zip(tallies.waves).map(|(share, tally)| wave(share.to_string(), tally)).collect();
            view.bytes_fetched = tallies.bytes;
            view.bytes_saved = tallies.told.saturating_mul(deployment.desired.size()).saturating_sub(tallies.bytes);
            view.soak_until = rollout.course.due(&rollout.plan, now);
            view.wave = number(rollout.course.wave);
            view.gates = rollout.readings.into_iter().map(gate).collect();
            view.updated_at = rollout.updated;
            (view.phase, view.reason, view.stage) = (rollout.course.phase, rollout.course.reason, rollout.course.stage);
            (view.plan, view.undoes) = (rollout.plan, rollout.undoes);
        }
        Far::Deployment(counts) => {
            let DeploymentCounts { total, pending, downloading, ready, failed, offline } = counts;
            let changing = pending + downloading + offline;
            let of = WaveView { devices: total, changing, succeeded: ready, failed, ..WaveView::default() };
            view.waves = vec![WaveView { share: "100%".into(), ..of }];
            view.phase = if changing == 0 { RolloutPhase::Finished } else { RolloutPhase::Running };
        }
    }
    match deployment.state {
        Stored::Superseded { .. } => view.phase = RolloutPhase::Superseded,
        Stored::Stopped { .. } | Stored::Reverted if view.phase != RolloutPhase::Aborted => {
            (view.phase, view.reason) = (RolloutPhase::Aborted, "a person stopped it".into());
        }
        Stored::Active | Stored::Stopped { .. } | Stored::Reverted => {}
    }
    view
}

/// A wave as people count them.
pub(super) fn number(wave: usize) -> u32 {
    u32::try_from(wave + 1).unwrap_or(u32::MAX)
}

fn wave(share: String, tally: Tally) -> WaveView {
    WaveView {
        share,
        devices: tally.total(),
        waiting: tally.waiting,
        changing: tally.changing + tally.entering,
        trying: tally.trying,
        running: tally.running,
        succeeded: tally.succeeded,
        failed: tally.failed,
        silent: tally.silent,
    }
}

fn gate(reading: super::course::Reading) -> GateView {
    let super::course::Reading { gate, candidate, baseline, devices, verdict } = reading;
    GateView { gate: gate.to_string(), candidate, baseline, devices, verdict }
}
