//! What guests wrote while they ran.

use axum::Json as JsonBody;
use axum::extract::State;
use caisson_core::ids::{RunId, StepId};
use caisson_core::json::Json;
use caisson_core::ports::{HostLogLine, LogLevel, Page, PageRequest};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Viewer;
use super::error::ApiError;
use super::extract::{Fields, Params};
use super::paging::page;
use super::runs::{self, one_of};
use super::wire::{Any, LogLine};
use super::{Api, AppState};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A part of the lines.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogList {
    /// Oldest first.
    pub logs: Vec<LogLine>,
    /// Where the next page begins; `null` at the end.
    pub next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only of this step.
    step_id: Option<String>,
    /// Only of this level and above: trace, debug, info, warn, error, fatal. A page may then hold fewer lines than its limit.
    level: Option<String>,
    /// Length of the page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Lines that a run's guests wrote, oldest first. Role: viewer.
#[utoipa::path(
    get, path = "/workflow-runs/{id}/logs", tag = "runs",
    params(("id" = String, Path, description = "The run."), ListQuery), responses((status = 200, body = LogList))
)]
async fn list(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<ListQuery>,
) -> Result<JsonBody<LogList>, ApiError> {
    let run = runs::find(&api, &caller, &id).await?;
    let level = query.level.as_deref().map(|text| one_of(text, "level", &LEVELS, level_name)).transpose()?;
    let step = query.step_id.map(StepId::new);
    let page = page(query.limit, query.cursor)?;
    let mut found = api.store().logs(&run.id, step.as_ref(), &page).await?;
    if let Some(least) = level {
        found.items.retain(|line| line.line.level.is_some_and(|level| level >= least));
    }
    Ok(JsonBody(show(found)))
}

/// The lines of one step.
pub async fn of_step(api: &Api, run: &RunId, step: &StepId, page: &PageRequest) -> Result<LogList, ApiError> {
    Ok(show(api.store().logs(run, Some(step), page).await?))
}

fn show(found: Page<HostLogLine>) -> LogList {
    LogList { logs: found.items.into_iter().map(show_line).collect(), next_cursor: found.next }
}

/// A line as it is shown.
pub fn show_line(stored: HostLogLine) -> LogLine {
    LogLine {
        at: stored.line.at.to_string(),
        step_id: stored.step.to_string(),
        level: stored.line.level.map(|level| level_name(level).to_owned()),
        message: stored.line.message,
        fields: show_fields(stored.line.fields),
        percent: stored.line.percent,
    }
}

/// What a guest gave as fields is JSON if it says so, else it is shown as the text that it is.
pub fn show_fields(fields: Option<String>) -> Any {
    let Some(text) = fields else { return Any::null() };
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(value) => Any(Json::of(&value)),
        Err(_) => Any(Json::of(&text)),
    }
}

const LEVELS: [LogLevel; 6] =
    [LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error, LogLevel::Fatal];

/// A level as it is written.
pub fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::Fatal => "fatal",
    }
}
