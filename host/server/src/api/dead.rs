//! Dead steps: given up because every host that took them was lost. They are looked at, and their runs are replayed.

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::StatusCode;
use caisson_core::ids::{RunId, StepId};
use caisson_core::ports::{StepRow, dead};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Operator, Viewer};
use super::error::ApiError;
use super::extract::{Fields, Params};
use super::paging::page;
use super::runs::{self, RunAnswer};
use super::steps::{self, StepAnswer};
use super::wire::time;
use super::{Api, AppState};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(replay))
}

/// A dead step in short.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadStep {
    /// Its run.
    pub run_id: String,
    /// Its id.
    pub step_id: String,
    /// The state.
    pub state: String,
    /// Where in the run; empty at the top.
    pub branch_path: String,
    /// The action.
    pub action: Option<String>,
    /// The attempt that was given up, from 1.
    pub attempt: u32,
    /// How often hosts took the step.
    pub claims: u32,
    /// When it was given up.
    pub failed_at: Option<String>,
}

/// A part of the list of dead steps.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadList {
    /// Newest first.
    pub dead: Vec<DeadStep>,
    /// Where the next page begins; `null` at the end.
    pub next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Of this environment; of all when absent.
    environment: Option<String>,
    /// Length of the page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Steps that were given up because every host that took them was lost, newest first. Role: viewer.
#[utoipa::path(get, path = "/dead", tag = "dead", params(ListQuery), responses((status = 200, body = DeadList)))]
async fn list(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Fields(query): Fields<ListQuery>,
) -> Result<JsonBody<DeadList>, ApiError> {
    let page = page(query.limit, query.cursor)?;
    let found = api.store().dead(&caller.tenant, query.environment.as_deref(), &page).await?;
    let dead = found.items.into_iter().map(|(run, step)| show(&run, step)).collect();
    Ok(JsonBody(DeadList { dead, next_cursor: found.next }))
}

/// A dead step with its input and its error. Role: viewer.
#[utoipa::path(
    get, path = "/dead/{runId}/{stepId}", tag = "dead",
    params(("runId" = String, Path, description = "The run."), ("stepId" = String, Path, description = "The step.")),
    responses((status = 200, body = StepAnswer))
)]
async fn get(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params((run, step)): Params<(String, String)>,
) -> Result<JsonBody<StepAnswer>, ApiError> {
    let run = find(&api, &caller, &run, &step).await?;
    let (_, step) = steps::one(&api, &run, &step).await?;
    Ok(JsonBody(StepAnswer { step }))
}

/// Starts a new run of the same version with the same input, which uses again what succeeded in the old one. Role: operator.
#[utoipa::path(
    post, path = "/dead/{runId}/{stepId}/replay", tag = "dead",
    params(("runId" = String, Path, description = "The run."), ("stepId" = String, Path, description = "The step.")),
    responses((status = 201, body = RunAnswer))
)]
async fn replay(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params((run, step)): Params<(String, String)>,
) -> Result<(StatusCode, JsonBody<RunAnswer>), ApiError> {
    let run = find(&api, &caller, &run, &step).await?;
    let new = api.service.replay(&caller.tenant, &run, caller.actor.clone()).await?;
    let run = runs::full(&api, &new).await?;
    Ok((StatusCode::CREATED, JsonBody(RunAnswer { run })))
}

/// The run of a dead step; a step that is not dead is not found here.
async fn find(api: &Api, caller: &Caller, run: &str, step: &str) -> Result<RunId, ApiError> {
    let run = runs::find(api, caller, run).await?.id;
    let row = api.store().step(&run, &StepId::new(step)).await?.filter(dead::is_dead);
    row.map(|_| run).ok_or_else(|| ApiError::not_found("DEAD_STEP_NOT_FOUND", "dead step", step))
}

fn show(run: &RunId, step: StepRow) -> DeadStep {
    DeadStep {
        run_id: run.to_string(),
        step_id: step.id.to_string(),
        state: step.state.to_string(),
        branch_path: step.branch_path,
        action: step.action.as_deref().map(str::to_owned),
        attempt: step.attempt,
        claims: step.claim,
        failed_at: time(step.completed_at),
    }
}
