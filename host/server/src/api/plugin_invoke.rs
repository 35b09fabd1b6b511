//! One call of an action outside of any run: to try it. Nothing of it is recorded as a run; what it does to the world, it does.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::StatusCode;
use caisson_core::engine::base64;
use caisson_core::error::Failure;
use caisson_core::ids::{Realm, RunId, StepId};
use caisson_core::json::{Json, VALUE_DEPTH_MAX, depth};
use caisson_core::ports::{ApprovalRequest, HostLogLine, Invocation, Outcome, PluginRef, Suspension};
use caisson_orchestrator::News;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::auth::Operator;
use super::error::ApiError;
use super::extract::{Fields, MaybeBody, Params};
use super::logs::show_line;
use super::steps::show_usage;
use super::wire::{Any, LogLine, RunError, StepUsage};
use super::workflows::EnvironmentQuery;
use super::{Api, AppState};

/// What the ids of runs that are none begin with. What such guests write is shown and not stored.
pub const TRIAL: &str = "trial-";

/// A call takes no longer than this: below the idle time-outs of common proxies, like every other answer.
const CALL_TIME_MAX: Duration = Duration::from_mins(1);

/// Lines that an answer holds at most.
const LINES_MAX: usize = 1000;

/// The largest input: what a step may be given.
const INPUT_BYTES_MAX: usize = 1 << 20;

/// Calls at once: they take no slot of the steps', so they get few of their own.
pub const CALLS_AT_ONCE_MAX: usize = 8;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(invoke))
}

/// What to call an action with.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct InvokeBody {
    /// Its input; `{}` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Any>,
    /// An operator's configuration for this call; the installed one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Any>,
}

/// What came of a call: an outcome or a failure.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct InvokeAnswer {
    /// How it ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<InvokeOutcome>,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<RunError>,
    /// What it used.
    pub usage: StepUsage,
    /// For example an output that does not fit its schema.
    pub warnings: Vec<RunError>,
    /// What it wrote, oldest first; the first thousand lines.
    pub logs: Vec<LogLine>,
}

/// A result, or a step that would be parked.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum InvokeOutcome {
    /// Its output.
    Done(Any),
    /// What it would wait for.
    Suspend(InvokeSuspension),
}

/// What a step would wait for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InvokeSuspension {
    /// What it keeps, in base64.
    pub state: String,
    /// Names of signals.
    pub signals: Vec<String>,
    /// A time.
    pub wake_after_ms: Option<u64>,
    /// A human's decision.
    pub approval: Any,
}

/// Calls one action of the version in force with an input and gives what comes of it. It is no run: nothing is recorded, retried or resumed. What
/// the action does to the world, its small state among it, it does. Role: operator.
#[utoipa::path(
    post, path = "/plugins/{id}/actions/{action}/invoke", tag = "plugins", request_body = Option<InvokeBody>,
    params(
        ("id" = String, Path, description = "The plugin."),
        ("action" = String, Path, description = "The action's name within the plugin."), EnvironmentQuery,
    ),
    responses((status = 200, body = InvokeAnswer))
)]
async fn invoke(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params((id, action)): Params<(String, String)>,
    Fields(query): Fields<EnvironmentQuery>,
    MaybeBody(body): MaybeBody<InvokeBody>,
) -> Result<JsonBody<InvokeAnswer>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let name: Arc<str> = format!("{id}.{action}").into();
    let Some(found) = api.service.ports().runner.resolve(&realm, &name) else {
        return Err(missing(&api, &realm, &id, &action).await);
    };
    let input = body.input.map_or_else(|| Json::of(&serde_json::Map::new()), |Any(json)| json);
    if input.get().len() > INPUT_BYTES_MAX || depth(input.get()) > VALUE_DEPTH_MAX {
        let message = format!("input is larger than {INPUT_BYTES_MAX} bytes or deeper than {VALUE_DEPTH_MAX} levels");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "VALUE_TOO_LARGE", message));
    }
    let Ok(_turn) = api.trial_turns.try_acquire() else {
        let message = format!("{CALLS_AT_ONCE_MAX} actions are being tried already");
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_TRIALS", message));
    };
    let invocation = invocation(&api, realm, name, found.plugin, input);
    let (run, mut news) = (invocation.run.clone(), api.service.live().subscribe());
    let entry = tokio::select! {
        entry = api.trials.try_action(invocation, body.config.map(|Any(config)| config)) => entry,
        () = tokio::time::sleep(CALL_TIME_MAX) => return Err(ApiError::new(
            StatusCode::GATEWAY_TIMEOUT, "TRIAL_TIMEOUT", format!("the action did not end within {} s", CALL_TIME_MAX.as_secs()),
        )),
        () = api.stop.cancelled() => return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE, "SHUTTING_DOWN", "this host is shutting down",
        )),
    };
    let (outcome, failure) = match entry.result {
        Ok(Outcome::Done(json)) => (Some(InvokeOutcome::Done(Any(json))), None),
        Ok(Outcome::Suspend(suspension)) => (Some(InvokeOutcome::Suspend(show_suspension(suspension))), None),
        Err(failure) => (None, Some(show_failure(failure))),
    };
    Ok(JsonBody(InvokeAnswer {
        outcome,
        failure,
        usage: show_usage(entry.usage),
        warnings: entry.warnings.into_iter().map(show_failure).collect(),
        logs: lines(&mut news, &run),
    }))
}

fn invocation(api: &Api, realm: Realm, action: Arc<str>, plugin: PluginRef, input: Json) -> Invocation {
    let run = format!("{TRIAL}{}", Uuid::now_v7());
    Invocation {
        realm,
        action,
        plugin,
        // No workflow can be called so: its small state is nobody else's.
        workflow: "(trial)".into(),
        workflow_version: "0".into(),
        step: StepId::new(run.as_str()),
        idempotency_key: run.as_str().into(),
        run: RunId::new(run),
        number: 1,
        state: "(trial)".into(),
        attempt: 1,
        entry: 0,
        claim: None,
        narrowed: None,
        deadline_ms: u64::try_from(CALL_TIME_MAX.as_millis()).ok(),
        now: api.now(),
        traceparent: None,
        input,
        resumed: None,
    }
}

/// Why there is nothing to call.
async fn missing(api: &Api, realm: &Realm, id: &str, action: &str) -> ApiError {
    let plugin = match api.plugins.plugin(realm, id).await {
        Ok(plugin) => plugin,
        Err(error) => return error.into(),
    };
    match plugin.in_force() {
        None => ApiError::new(
            StatusCode::CONFLICT,
            "PLUGIN_NOT_IN_FORCE",
            format!("no version of plugin '{id}' is in force: enable one"),
        ),
        Some(row) if row.package.actions.iter().any(|known| known.name == action) => ApiError::new(
            StatusCode::CONFLICT,
            "PLUGIN_NOT_IN_FORCE",
            format!("plugin '{id}' is switched off: enable it"),
        ),
        Some(row) => {
            let known: Vec<&str> = row.package.actions.iter().map(|action| action.name.as_str()).collect();
            ApiError::new(
                StatusCode::NOT_FOUND,
                "ACTION_NOT_FOUND",
                format!("plugin '{id}' has no action '{action}': there are {}", known.join(", ")),
            )
        }
    }
}

/// What the guest wrote until now. Where it wrote faster than news is kept, the oldest lines are missing.
fn lines(news: &mut Receiver<News>, run: &RunId) -> Vec<LogLine> {
    let mut lines = Vec::new();
    while lines.len() < LINES_MAX {
        match news.try_recv() {
            Ok(News::Line { run: of, step, line }) if of == *run => {
                lines.push(show_line(HostLogLine { run: of, step, line }));
            }
            Ok(_) | Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    lines
}

fn show_suspension(suspension: Suspension) -> InvokeSuspension {
    let approval =
        suspension.approval.as_ref().map_or_else(Any::null, |approval: &ApprovalRequest| Any(Json::of(approval)));
    InvokeSuspension {
        state: base64(&suspension.state),
        signals: suspension.signals,
        wake_after_ms: suspension.wake_after_ms,
        approval,
    }
}

fn show_failure(failure: Failure) -> RunError {
    RunError {
        code: failure.code,
        category: failure.category.as_str().to_owned(),
        message: failure.message,
        details: failure.details.map(Any),
        state: None,
        step_id: None,
    }
}
