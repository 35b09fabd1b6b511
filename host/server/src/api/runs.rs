//! Runs: start, list, look at one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use caisson_core::engine::{Event, RunError as StoredError};
use caisson_core::ids::RunId;
use caisson_core::json::{Json, sha256_hex};
use caisson_core::ports::{IdempotencyRow, RunCounts, RunFilter, RunRow, StoreError};
use caisson_core::status::RunStatus;
use caisson_core::trace::is_traceparent;
use caisson_orchestrator::StartRun;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Operator, Viewer};
use super::error::ApiError;
use super::extract::{Body, Fields, MaybeBody, Params, nearest};
use super::paging::page;
use super::values::Values;
use super::wire::{Any, Counts, PinnedPlugin, Run, RunError, time};
use super::{Api, AppState};

/// The longest that an answer may be put off: below the idle time-outs of common proxies.
pub const WAIT_MS_MAX: u64 = 60_000;

/// The longest `Idempotency-Key`.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Names of runs and projects are for people, not for payloads.
const NAME_BYTES_MAX: usize = 1024;

/// Approvals, files and sessions of one run are counted up to here; more is shown as so many.
const COUNTED_MAX: u32 = 1000;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, start)).routes(routes!(get)).routes(routes!(start_of_workflow))
}

/// A run under its name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RunAnswer {
    /// The run.
    pub run: Run,
}

/// A part of the list of runs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunList {
    /// Newest first.
    pub runs: Vec<Run>,
    /// Where the next page begins; `null` at the end.
    pub next_cursor: Option<String>,
}

/// A run to start.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartBody {
    /// The workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<String>,
    /// A version's label or number; the one in force when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `default` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The input; `{}` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Any>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The project it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct StartQuery {
    /// Answer once the run has ended, or after so many milliseconds; 60000 at most.
    wait_ms: Option<u64>,
    /// `default` when neither this nor the body names one.
    environment: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct GetQuery {
    /// Answer once the run has ended, or after so many milliseconds; 60000 at most.
    wait_ms: Option<u64>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Of this workflow.
    workflow_id: Option<String>,
    /// With one of these statuses, separated by commas.
    status: Option<String>,
    /// Of this environment; of all when absent.
    environment: Option<String>,
    /// Of this project.
    project_id: Option<String>,
    /// Called by this run.
    parent_run_id: Option<String>,
    /// Length of the page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Lists runs, newest first. Role: viewer.
#[utoipa::path(get, path = "/workflow-runs", tag = "runs", params(ListQuery), responses((status = 200, body = RunList)))]
async fn list(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Fields(query): Fields<ListQuery>,
) -> Result<JsonBody<RunList>, ApiError> {
    let filter = RunFilter {
        workflow: query.workflow_id,
        status: query.status.as_deref().map_or_else(|| Ok(Vec::new()), statuses)?,
        project: query.project_id,
        parent: query.parent_run_id.map(RunId::new),
    };
    let page = page(query.limit, query.cursor)?;
    let found = api.store().runs(&caller.tenant, query.environment.as_deref(), &filter, &page).await?;
    let counts = count(&api, &found.items).await?;
    let values = Values::short();
    let runs = found.items.iter().map(|row| show(&api, row, &values, counts.get(&row.id))).collect();
    Ok(JsonBody(RunList { runs, next_cursor: found.next }))
}

/// Starts a run. Role: operator.
#[utoipa::path(
    post, path = "/workflow-runs", tag = "runs", request_body = StartBody,
    params(
        StartQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "The same key again gives the same run."),
        ("traceparent" = Option<String>, Header, description = "Where the run's trace hangs: W3C Trace Context."),
    ),
    responses((status = 201, body = RunAnswer))
)]
async fn start(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Fields(query): Fields<StartQuery>,
    headers: HeaderMap,
    Body(body): Body<StartBody>,
) -> Result<Response, ApiError> {
    let workflow =
        body.workflow_id.clone().ok_or_else(|| ApiError::malformed("MALFORMED_BODY", "body has no 'workflowId'"))?;
    start_run(&api, &caller, workflow, query, &headers, body).await
}

/// Starts a run of this workflow; the body's `workflowId` may be left out. Role: operator.
#[utoipa::path(
    post, path = "/workflows/{id}/runs", tag = "workflows", request_body = Option<StartBody>,
    params(
        ("id" = String, Path, description = "The workflow."), StartQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "The same key again gives the same run."),
        ("traceparent" = Option<String>, Header, description = "Where the run's trace hangs: W3C Trace Context."),
    ),
    responses((status = 201, body = RunAnswer))
)]
async fn start_of_workflow(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<StartQuery>,
    headers: HeaderMap,
    MaybeBody(body): MaybeBody<StartBody>,
) -> Result<Response, ApiError> {
    if body.workflow_id.as_ref().is_some_and(|other| *other != id) {
        return Err(ApiError::invalid("ID_MISMATCH", "the body's workflowId is not the workflow of the path"));
    }
    start_run(&api, &caller, id, query, &headers, body).await
}

/// One that is malformed is as good as none, as W3C Trace Context says.
fn traceparent(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    is_traceparent(text).then(|| text.into())
}

async fn start_run(
    api: &Api,
    caller: &Caller,
    workflow: String,
    query: StartQuery,
    headers: &HeaderMap,
    body: StartBody,
) -> Result<Response, ApiError> {
    let wait = wait_time(query.wait_ms)?;
    if let (Some(asked), Some(named)) = (&query.environment, &body.environment)
        && asked != named
    {
        let message = format!("the query's environment is '{asked}', the body's '{named}'");
        return Err(ApiError::invalid("ENVIRONMENT_MISMATCH", message));
    }
    for (field, text) in [("name", &body.name), ("projectId", &body.project_id)] {
        if text.as_ref().is_some_and(|text| text.len() > NAME_BYTES_MAX) {
            return Err(ApiError::invalid("NAME_TOO_LONG", format!("{field} is longer than {NAME_BYTES_MAX} bytes")));
        }
    }
    let realm = caller.realm(body.environment.as_deref().or(query.environment.as_deref()))?;
    let input = body.input.map_or_else(|| Json::of(&serde_json::Map::new()), |Any(json)| json);
    let idempotency = idempotency_key(headers)?.map(|key| IdempotencyRow {
        key: Json::of(&[&*realm.tenant, &*realm.environment, key]).get().to_owned(),
        request_hash: sha256_hex(
            Json::of(&(&workflow, &body.version, &body.name, &body.project_id, &input)).get().as_bytes(),
        ),
    });
    let start = StartRun {
        realm,
        workflow,
        version: body.version,
        input,
        name: body.name,
        project_id: body.project_id,
        actor: caller.actor.clone(),
        idempotency,
        trace: traceparent(headers),
    };
    let (mut row, new, watch) = api.service.start_run_watched(start).await?;
    if let Some(limit) = wait {
        row = tokio::select! {
            ended = api.service.wait_on(&watch, row.clone(), limit) => ended?,
            () = api.stop.cancelled() => find(api, caller, row.id.as_str()).await?,
        };
    }
    let run = full(api, &row).await?;
    let mut response = (StatusCode::CREATED, JsonBody(RunAnswer { run })).into_response();
    if !new {
        response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// A run with its context and the packages that it pins. Role: viewer.
#[utoipa::path(
    get, path = "/workflow-runs/{id}", tag = "runs",
    params(("id" = String, Path, description = "The run."), GetQuery), responses((status = 200, body = RunAnswer))
)]
async fn get(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<GetQuery>,
) -> Result<JsonBody<RunAnswer>, ApiError> {
    let mut row = find(&api, &caller, &id).await?;
    if let Some(limit) = wait_time(query.wait_ms)? {
        row = wait_for_end(&api, &caller, &row.id, limit).await?;
    }
    let mut run = full(&api, &row).await?;
    run.context = Any(api.service.context(&caller.tenant, &row.id).await?);
    run.plugins = Some(pinned(&api, &row.id).await?);
    Ok(JsonBody(RunAnswer { run }))
}

/// A run's row; another tenant's is not found.
pub async fn find(api: &Api, caller: &Caller, id: &str) -> Result<RunRow, ApiError> {
    let row = api.store().run(&RunId::new(id)).await?;
    row.filter(|row| row.realm.tenant == caller.tenant).ok_or_else(|| ApiError::not_found("RUN_NOT_FOUND", "run", id))
}

/// A run with its large values, without its context.
pub async fn full(api: &Api, row: &RunRow) -> Result<Run, ApiError> {
    let values = Values::full(api.store(), std::iter::once(&row.input).chain(&row.output)).await?;
    let counts = count(api, std::slice::from_ref(row)).await?;
    Ok(show(api, row, &values, counts.get(&row.id)))
}

/// What runs have. One without a step has nothing.
async fn count(api: &Api, rows: &[RunRow]) -> Result<BTreeMap<RunId, RunCounts>, StoreError> {
    let begun: Vec<_> = rows.iter().filter(|row| row.steps > 0).map(|row| row.id.clone()).collect();
    if begun.is_empty() { Ok(BTreeMap::new()) } else { api.store().counts(&begun, COUNTED_MAX).await }
}

fn show(api: &Api, row: &RunRow, values: &Values, counts: Option<&RunCounts>) -> Run {
    let counts = counts.copied().unwrap_or_default();
    Run {
        id: row.id.to_string(),
        workflow_id: row.workflow_id.to_string(),
        workflow_version: row.workflow_version.to_string(),
        environment: row.realm.environment.to_string(),
        project_id: row.project_id.clone(),
        name: row.name.clone(),
        created_by: row.created_by.to_string(),
        status: row.status.to_string(),
        phase: row.phase.as_deref().map(str::to_owned),
        current_states: row.current_states.iter().map(ToString::to_string).collect(),
        input: values.show(&row.input),
        context: Any::null(),
        output: values.show_optional(row.output.as_ref()),
        error: row.error.as_ref().and_then(show_error),
        parent_run_id: row.parent.as_ref().map(|(run, _)| run.to_string()),
        forked_from: row.forked_from.as_ref().map(ToString::to_string),
        counts: Counts {
            steps: row.steps,
            comments: 0,
            artifacts: counts.artifacts,
            approvals: counts.approvals,
            sessions: counts.sessions,
        },
        branch_name: None,
        commit_sha: None,
        pr_url: None,
        created_at: row.created_at.to_string(),
        started_at: time(row.started_at),
        completed_at: time(row.completed_at),
        paused_at: time(row.paused_at),
        cancelled_at: time(row.cancelled_at),
        duration_ms: row.started_at.map(|start| row.completed_at.unwrap_or_else(|| api.now()).since_ms(start)),
        plugins: None,
    }
}

fn show_error(stored: &Json) -> Option<RunError> {
    let error: StoredError = serde_json::from_str(stored.get()).ok()?;
    Some(RunError {
        code: error.failure.code,
        category: error.failure.category.as_str().to_owned(),
        message: error.failure.message,
        details: error.failure.details.map(Any),
        state: error.state.as_deref().map(str::to_owned),
        step_id: error.step_id.map(|id| id.to_string()),
    })
}

/// The packages are named by the run's first event.
async fn pinned(api: &Api, run: &RunId) -> Result<Vec<PinnedPlugin>, ApiError> {
    let first = api.store().events(run, 0, 1).await?;
    let Some(Ok(Event::RunCreated { plugins, .. })) =
        first.first().map(|event| Event::decode(&event.kind, event.data.get()))
    else {
        return Ok(Vec::new());
    };
    Ok(plugins
        .into_iter()
        .map(|pin| PinnedPlugin {
            action: pin.action.to_string(),
            id: pin.plugin.id.to_string(),
            version: pin.plugin.version.to_string(),
            digest: pin.plugin.digest.to_string(),
        })
        .collect())
}

/// Waits for the end of a run, but not longer than the host lives.
async fn wait_for_end(api: &Api, caller: &Caller, run: &RunId, limit: Duration) -> Result<RunRow, ApiError> {
    tokio::select! {
        row = api.service.wait(&caller.tenant, run, limit) => Ok(row?),
        () = api.stop.cancelled() => find(api, caller, run.as_str()).await,
    }
}

fn wait_time(wait_ms: Option<u64>) -> Result<Option<Duration>, ApiError> {
    match wait_ms {
        None | Some(0) => Ok(None),
        Some(ms) if ms <= WAIT_MS_MAX => Ok(Some(Duration::from_millis(ms))),
        Some(ms) => {
            Err(ApiError::malformed("MALFORMED_QUERY", format!("waitMs is {ms}, expected at most {WAIT_MS_MAX}")))
        }
    }
}

/// The client's `Idempotency-Key`, if it sent one.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= IDEMPOTENCY_KEY_BYTES_MAX => Ok(Some(key)),
        _ => Err(ApiError::malformed(
            "MALFORMED_IDEMPOTENCY_KEY",
            format!("Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"),
        )),
    }
}

fn statuses(text: &str) -> Result<Vec<RunStatus>, ApiError> {
    text.split(',').map(|name| one_of(name.trim(), "status", RunStatus::ALL, RunStatus::as_str)).collect()
}

/// A value of a closed set, or an error that names the nearest one.
pub fn one_of<T: Copy>(text: &str, what: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, ApiError> {
    let known: Vec<_> = all.iter().map(|value| name(*value)).collect();
    all.iter().copied().find(|value| name(*value) == text).ok_or_else(|| {
        let hint = nearest(text, &known).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        ApiError::malformed("MALFORMED_QUERY", format!("unknown {what} '{text}'{hint}"))
            .with_details(&serde_json::json!({"known": known}))
    })
}
