//! Sessions of a run's agents, and their transcripts as JSON Lines.

use axum::Json as JsonBody;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use caisson_core::ids::{RunId, StepId};
use caisson_core::ports::{PageRequest, SessionLine, SessionRow, SessionStatus};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Viewer};
use super::error::ApiError;
use super::extract::{Fields, Params};
use super::paging::{LIMIT_MAX, page};
use super::wire::{Session, SessionUsage};
use super::{Api, AppState, runs};

/// Lines that are read and sent at once: each may have a megabyte.
const LINES_AT_ONCE: u32 = 16;
/// Sessions that the answers about steps show: a run with more shows them in its list.
const SHOWN_PAGES_MAX: usize = 4;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(logs)).routes(routes!(download))
}

/// A part of the list of sessions.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionList {
    /// In the order of their beginning.
    pub sessions: Vec<Session>,
    /// Where the next page begins; `null` at the end.
    pub next_cursor: Option<String>,
}

/// A session under its name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionAnswer {
    /// The session.
    pub session: Session,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only of this step.
    step_id: Option<String>,
    /// Length of the page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// Where the page before ended.
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct LinesQuery {
    /// Only lines after the one of this number.
    after: Option<u32>,
}

/// Sessions of a run's agents, in the order of their beginning. Role: viewer.
#[utoipa::path(
    get, path = "/workflow-runs/{id}/sessions", tag = "runs",
    params(("id" = String, Path, description = "The run."), ListQuery), responses((status = 200, body = SessionList))
)]
async fn list(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<ListQuery>,
) -> Result<JsonBody<SessionList>, ApiError> {
    let run = runs::find(&api, &caller, &id).await?;
    let step = query.step_id.map(StepId::new);
    let found = api.journal.sessions(&run.id, step.as_ref(), &page(query.limit, query.cursor)?).await?;
    let mut sessions = Vec::with_capacity(found.items.len());
    for row in &found.items {
        sessions.push(show(row, status(&api, row).await?));
    }
    Ok(JsonBody(SessionList { sessions, next_cursor: found.next }))
}

/// One session. Role: viewer.
#[utoipa::path(
    get, path = "/workflow-runs/{id}/sessions/{sessionId}", tag = "runs",
    params(("id" = String, Path, description = "The run."), ("sessionId" = String, Path, description = "The session.")),
    responses((status = 200, body = SessionAnswer))
)]
async fn get(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params((id, session)): Params<(String, String)>,
) -> Result<JsonBody<SessionAnswer>, ApiError> {
    let row = find(&api, &caller, &id, &session).await?;
    Ok(JsonBody(SessionAnswer { session: show(&row, status(&api, &row).await?) }))
}

/// A session's transcript, a JSON object a line: what was said, called and answered, so far. Role: viewer.
#[utoipa::path(
    get, path = "/workflow-runs/{id}/sessions/{sessionId}/logs", tag = "runs",
    params(
        ("id" = String, Path, description = "The run."), ("sessionId" = String, Path, description = "The session."), LinesQuery,
    ),
    responses((status = 200, description = "JSON Lines.", content_type = "application/jsonl"))
)]
async fn logs(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params((id, session)): Params<(String, String)>,
    Fields(query): Fields<LinesQuery>,
) -> Result<Response, ApiError> {
    let row = find(&api, &caller, &id, &session).await?;
    transcript(api, row, query.after.unwrap_or(0)).await
}

/// The same as a file. Role: viewer.
#[utoipa::path(
    get, path = "/workflow-runs/{id}/sessions/{sessionId}/logs/download", tag = "runs",
    params(("id" = String, Path, description = "The run."), ("sessionId" = String, Path, description = "The session.")),
    responses((status = 200, description = "JSON Lines.", content_type = "application/jsonl"))
)]
async fn download(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params((id, session)): Params<(String, String)>,
) -> Result<Response, ApiError> {
    let row = find(&api, &caller, &id, &session).await?;
    let name = format!("attachment; filename=\"session-{}.jsonl\"", row.id);
    let mut response = transcript(api, row, 0).await?;
    let name = HeaderValue::try_from(name).unwrap_or_else(|_| HeaderValue::from_static("attachment"));
    response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    Ok(response)
}

async fn find(api: &Api, caller: &Caller, run: &str, id: &str) -> Result<SessionRow, ApiError> {
    let run = runs::find(api, caller, run).await?;
    let row = api.journal.session(id).await?.filter(|row| row.run == run.id);
    row.ok_or_else(|| ApiError::not_found("SESSION_NOT_FOUND", "session", id))
}

async fn transcript(api: AppState, row: SessionRow, after: u32) -> Result<Response, ApiError> {
    let first = api.journal.session_lines(&row.run, &row.id, after, LINES_AT_ONCE).await?;
    if first.is_empty() && after < row.lines {
        let message = format!("the transcript of session {} was erased with the data of its run", row.id);
        return Err(ApiError::new(StatusCode::GONE, "TRANSCRIPT_ERASED", message));
    }
    let mut response = Body::from_stream(chunks(api, row, first)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// Lines as they are stored, some at a time, to the last that is there.
fn chunks(
    api: AppState,
    row: SessionRow,
    first: Vec<SessionLine>,
) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    stream::try_unfold((api, row, first), |(api, row, lines)| async move {
        let Some(last) = lines.last() else { return Ok(None) };
        let mut chunk = String::new();
        for line in &lines {
            chunk.push_str(line.line.get());
            chunk.push('\n');
        }
        let next = api.journal.session_lines(&row.run, &row.id, last.number, LINES_AT_ONCE).await;
        let next = next.map_err(std::io::Error::other)?;
        Ok(Some((Bytes::from(chunk), (api, row, next))))
    })
}

/// What of a run's sessions is shown with its steps.
pub async fn of_steps(api: &Api, run: &RunId, step: Option<&StepId>) -> Result<Vec<SessionRow>, ApiError> {
    let mut rows = Vec::new();
    let mut page = PageRequest { limit: LIMIT_MAX, cursor: None };
    for _ in 0..SHOWN_PAGES_MAX {
        let found = api.journal.sessions(run, step, &page).await?;
        rows.extend(found.items);
        page.cursor = found.next;
        if page.cursor.is_none() {
            break;
        }
    }
    Ok(rows)
}

/// Where it stands: what nobody ended ends with its step.
async fn status(api: &Api, row: &SessionRow) -> Result<SessionStatus, ApiError> {
    if row.status != SessionStatus::Running {
        return Ok(row.status);
    }
    let step = api.store().step(&row.run, &row.step_id).await?;
    Ok(step.map_or(row.status, |step| row.status_in(step.status, step.attempt)))
}

/// A session as it is shown.
pub fn show(row: &SessionRow, status: SessionStatus) -> Session {
    Session {
        id: row.id.to_string(),
        run_id: row.run.to_string(),
        step_id: row.step_id.to_string(),
        attempt: row.attempt,
        parent_id: row.parent.as_deref().map(str::to_owned),
        name: row.name.to_string(),
        agent: row.agent.to_string(),
        status: status.as_str().to_owned(),
        usage: SessionUsage { turns: row.turns, input_tokens: row.input_tokens, output_tokens: row.output_tokens },
        lines: row.lines,
        size_bytes: row.bytes,
        created_at: row.created_at.to_string(),
        updated_at: row.updated_at.to_string(),
    }
}
