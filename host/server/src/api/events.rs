//! A run's history, page by page, with its hashes.

use axum::Json as JsonBody;
use axum::extract::State;
use caisson_core::ports::{Cursor, EventRow};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::auth::Viewer;
use super::error::ApiError;
use super::extract::{Fields, Params};
use super::paging::page;
use super::runs;
use super::wire::{Any, Event};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A part of the history.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventList {
    /// In order, without gaps.
    pub events: Vec<Event>,
    /// The next page is asked for as `cursor`, or its number as `after`; `null` when this was the last event so far.
    pub next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only events after this number.
    after: Option<u64>,
    /// Length of the page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// A run's events in order. Role: viewer.
#[utoipa::path(
    get, path = "/workflow-runs/{id}/events", tag = "runs",
    params(("id" = String, Path, description = "The run."), ListQuery), responses((status = 200, body = EventList))
)]
async fn list(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<ListQuery>,
) -> Result<JsonBody<EventList>, ApiError> {
    let run = runs::find(&api, &caller, &id).await?;
    let page = page(query.limit, query.cursor)?;
    let after = match (&page.cursor, query.after) {
        (Some(_), Some(_)) => {
            return Err(ApiError::malformed("MALFORMED_QUERY", "give either 'after' or 'cursor', not both"));
        }
        (Some(cursor), None) => Cursor::decode(cursor)?.at.cast_unsigned(),
        (None, after) => after.unwrap_or(0),
    };
    let events = api.store().events(&run.id, after, page.limit).await?;
    let last = events.last().map(|event| event.seq);
    // Against the row as it was read before: whoever asks again gets what came since.
    let next_cursor = last.filter(|seq| *seq < run.last_seq).map(|seq| Cursor::new(seq.cast_signed(), "").encode());
    Ok(JsonBody(EventList { events: events.into_iter().map(show).collect(), next_cursor }))
}

/// An event as it is shown.
pub fn show(row: EventRow) -> Event {
    Event {
        seq: row.seq,
        kind: row.kind.to_string(),
        at: row.at.to_string(),
        actor: row.actor.as_deref().map(str::to_owned),
        step_id: row.step_id.map(|id| id.to_string()),
        data: Any(row.data),
        prev_hash: row.prev_hash.to_string(),
        hash: row.hash.to_string(),
        v: row.v,
    }
}
