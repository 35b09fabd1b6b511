//! Steps of a run, and the files of old: `logs/{input|output|events|summary}`.

use std::collections::BTreeMap;

use axum::Json as JsonBody;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use caisson_core::engine::{Activity, Event};
use caisson_core::error::Failure;
use caisson_core::ids::{RunId, StepId};
use caisson_core::json::{Json, Payload};
use caisson_core::ports::{EventRow, PluginRef, SessionRow, StepRow, Usage};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Viewer;
use super::error::ApiError;
use super::extract::{Fields, Params};
use super::logs::{self, LogList};
use super::paging::{LIMIT_MAX, page};
use super::values::Values;
use super::wire::{Any, Package, RunError, Step, StepUsage, time};
use super::{Api, AppState, runs, sessions};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(step_logs))
}

/// A step under its name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StepAnswer {
    /// The step.
    pub step: Step,
}

/// A part of the list of steps.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepList {
    /// In the order of entering.
    pub steps: Vec<Step>,
    /// Where the next page begins; `null` at the end.
    pub next_cursor: Option<String>,
}

/// A step in short, for people.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Summary {
    /// The state.
    state: String,
    /// Where the step stands.
    status: String,
    /// The attempt, from 1.
    attempt: u32,
    /// How many there may be.
    max_attempts: u32,
    /// From its start to its end, or to now.
    duration_ms: Option<u64>,
    /// Why it failed.
    error: Option<RunError>,
    /// What it used.
    usage: StepUsage,
    /// One line about it.
    text: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Length of the page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Lists a run's steps in the order of entering. Role: viewer.
#[utoipa::path(
    get, path = "/workflow-runs/{id}/steps", tag = "steps",
    params(("id" = String, Path, description = "The run."), ListQuery), responses((status = 200, body = StepList))
)]
async fn list(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<ListQuery>,
) -> Result<JsonBody<StepList>, ApiError> {
    let run = runs::find(&api, &caller, &id).await?;
    let found = api.store().steps(&run.id, &page(query.limit, query.cursor)?).await?;
    let wanted: Vec<u64> =
        found.items.iter().flat_map(|step| std::iter::once(step.input_seq).chain(step.result_seq)).collect();
    let events = api.store().events_at(&run.id, &wanted).await?;
    let values = Values::short();
    let sessions = sessions::of_steps(&api, &run.id, None).await?;
    let show = |row| Facts::of(row, &events).show(&api, &run.id, row, &values, &sessions);
    let steps = found.items.iter().map(show).collect();
    Ok(JsonBody(StepList { steps, next_cursor: found.next }))
}

/// One step with its input, output, error and what it used. Role: viewer.
#[utoipa::path(
    get, path = "/workflow-runs/{id}/steps/{stepId}", tag = "steps",
    params(("id" = String, Path, description = "The run."), ("stepId" = String, Path, description = "The step.")),
    responses((status = 200, body = StepAnswer))
)]
async fn get(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params((id, step)): Params<(String, String)>,
) -> Result<JsonBody<StepAnswer>, ApiError> {
    let run = runs::find(&api, &caller, &id).await?;
    let (_, step) = one(&api, &run.id, &step).await?;
    Ok(JsonBody(StepAnswer { step }))
}

/// A part of what is known of a step: `input`, `output`, `events` (what the guest wrote) or `summary`. Role: viewer.
#[utoipa::path(
    get, path = "/workflow-runs/{id}/steps/{stepId}/logs/{part}", tag = "steps",
    params(
        ("id" = String, Path, description = "The run."), ("stepId" = String, Path, description = "The step."),
        ("part" = String, Path, description = "`input`, `output`, `events` or `summary`."), ListQuery,
    ),
    responses((status = 200, description = "The value itself for input and output.", body = Any))
)]
async fn step_logs(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params((id, step, part)): Params<(String, String, String)>,
    Fields(query): Fields<ListQuery>,
) -> Result<Response, ApiError> {
    let run = runs::find(&api, &caller, &id).await?;
    let (row, step) = one(&api, &run.id, &step).await?;
    match part.as_str() {
        "input" => Ok(JsonBody(step.input).into_response()),
        "output" => Ok(JsonBody(step.output).into_response()),
        "events" => {
            let page = page(query.limit.or(Some(LIMIT_MAX)), query.cursor)?;
            let lines: LogList = logs::of_step(&api, &run.id, &row.id, &page).await?;
            Ok(JsonBody(lines).into_response())
        }
        "summary" => Ok(JsonBody(summary(step)).into_response()),
        _ => Err(ApiError::not_found("LOG_NOT_FOUND", "log", &part)),
    }
}

fn summary(step: Step) -> Summary {
    let duration = step.duration_ms.map(|ms| format!(" after {ms} ms")).unwrap_or_default();
    let reason = step.error.as_ref().map(|error| format!(": {}: {}", error.code, error.message)).unwrap_or_default();
    let text = format!(
        "{} is {}{duration}, attempt {} of {}{reason}",
        step.state, step.status, step.attempt, step.max_attempts
    );
    Summary {
        state: step.state,
        status: step.status,
        attempt: step.attempt,
        max_attempts: step.max_attempts,
        duration_ms: step.duration_ms,
        error: step.error,
        usage: step.usage,
        text,
    }
}

/// A step with its values.
pub async fn one(api: &Api, run: &RunId, id: &str) -> Result<(StepRow, Step), ApiError> {
    let row = api
        .store()
        .step(run, &StepId::new(id))
        .await?
        .ok_or_else(|| ApiError::not_found("STEP_NOT_FOUND", "step", id))?;
    let wanted: Vec<u64> = std::iter::once(row.input_seq).chain(row.result_seq).collect();
    let events = api.store().events_at(run, &wanted).await?;
    let facts = Facts::of(&row, &events);
    let values = Values::full(api.store(), facts.input.iter().chain(&facts.output)).await?;
    let sessions = sessions::of_steps(api, run, Some(&row.id)).await?;
    let step = facts.show(api, run, &row, &values, &sessions);
    Ok((row, step))
}

/// What the events say about a step and its row does not.
#[derive(Default)]
struct Facts {
    input: Option<Payload>,
    output: Option<Payload>,
    error: Option<Failure>,
    warnings: Vec<Failure>,
}

impl Facts {
    fn of(row: &StepRow, events: &BTreeMap<u64, EventRow>) -> Self {
        if let Some(facts) = Self::of_erased(row, events) {
            return facts;
        }
        let decode = |seq: u64| events.get(&seq).and_then(|event| Event::decode(&event.kind, event.data.get()).ok());
        let mut facts = Self::default();
        if let Some(Event::StepScheduled { activity, .. }) = decode(row.input_seq) {
            facts.input = input_of(activity);
        }
        match row.result_seq.and_then(decode) {
            Some(Event::StepCompleted { output, error, warnings, .. }) => {
                facts.output = output;
                facts.error = error;
                facts.warnings = warnings;
            }
            Some(Event::StepRetrying { error, .. }) => facts.error = Some(error),
            _ => {}
        }
        facts
    }

    /// What stands for the values of a step whose run's data is erased.
    fn of_erased(row: &StepRow, events: &BTreeMap<u64, EventRow>) -> Option<Self> {
        let erased = |seq: u64| events.get(&seq).filter(|event| event.data_sha256.is_some());
        let shown = |event: &EventRow| Payload::Inline(event.data.clone());
        let input = erased(row.input_seq).map(shown)?;
        Some(Self { input: Some(input), output: row.result_seq.and_then(erased).map(shown), ..Self::default() })
    }

    fn show(self, api: &Api, run: &RunId, row: &StepRow, values: &Values, sessions: &[SessionRow]) -> Step {
        let own = sessions.iter().filter(|session| session.step_id == row.id);
        let usage: Usage = serde_json::from_str(row.usage.get()).unwrap_or_default();
        let plugin = row.plugin.as_ref().and_then(|json| serde_json::from_str::<PluginRef>(json.get()).ok());
        let place = (row.state.to_string(), row.id.to_string());
        Step {
            id: row.id.to_string(),
            run_id: run.to_string(),
            state: row.state.to_string(),
            kind: row.state_type.to_string(),
            branch_path: row.branch_path.clone(),
            index: row.index,
            number: row.number,
            phase: row.phase.as_deref().map(str::to_owned),
            action: row.action.as_deref().map(str::to_owned),
            plugin: plugin.map(Package::from),
            status: row.status.to_string(),
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            input: values.show_optional(self.input.as_ref()),
            output: values.show_optional(self.output.as_ref()),
            error: self.error.or_else(|| stored_failure(row.error.as_ref())).map(|error| show_failure(error, &place)),
            warnings: self.warnings.into_iter().map(|warning| show_failure(warning, &place)).collect(),
            sessions: own.map(|one| sessions::show(one, one.status_in(row.status, row.attempt))).collect(),
            usage: show_usage(usage),
            started_at: time(row.started_at),
            completed_at: time(row.completed_at),
            duration_ms: row
                .started_at
                .or(row.completed_at.map(|_| row.created_at))
                .map(|start| row.completed_at.unwrap_or_else(|| api.now()).since_ms(start)),
            child_run_id: row.child.as_ref().map(ToString::to_string),
        }
    }
}

fn input_of(activity: Activity) -> Option<Payload> {
    match activity {
        Activity::Operation { input, .. } | Activity::Call { input, .. } => Some(input),
        Activity::Foreach { items, .. } => Some(items),
        Activity::Instant | Activity::Parallel | Activity::Try | Activity::Wait { .. } | Activity::Signal { .. } => {
            None
        }
    }
}

fn stored_failure(json: Option<&Json>) -> Option<Failure> {
    serde_json::from_str(json?.get()).ok()
}

fn show_failure(failure: Failure, (state, step): &(String, String)) -> RunError {
    RunError {
        code: failure.code,
        category: failure.category.as_str().to_owned(),
        message: failure.message,
        details: failure.details.map(Any),
        state: Some(state.clone()),
        step_id: Some(step.clone()),
    }
}

/// What was used, as it is shown.
#[expect(clippy::cast_precision_loss, reason = "microseconds of CPU time stay far below 2^53")]
pub fn show_usage(usage: Usage) -> StepUsage {
    StepUsage {
        cpu_ms: usage.cpu_us as f64 / 1000.0,
        peak_memory_bytes: usage.peak_memory_bytes,
        host_calls: usage.host_calls,
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
    }
}
