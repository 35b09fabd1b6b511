//! Business events that plugins emitted.

use axum::Json as JsonBody;
use axum::extract::State;
use caisson_core::ids::RunId;
use caisson_core::ports::EmittedEvent;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::auth::Viewer;
use super::error::ApiError;
use super::extract::Fields;
use super::paging::page;
use super::values::Values;
use super::wire::BusinessEvent;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A part of the list of business events.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BusinessEventList {
    /// Newest first.
    pub events: Vec<BusinessEvent>,
    /// Where the next page begins; `null` at the end.
    pub next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Of this environment; of all when absent.
    environment: Option<String>,
    /// From this run.
    run: Option<String>,
    /// Of this name.
    name: Option<String>,
    /// Length of the page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Business events that plugins emitted, newest first. Role: viewer.
#[utoipa::path(
    get, path = "/events", tag = "events", params(ListQuery), responses((status = 200, body = BusinessEventList))
)]
async fn list(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Fields(query): Fields<ListQuery>,
) -> Result<JsonBody<BusinessEventList>, ApiError> {
    let page = page(query.limit, query.cursor)?;
    let run = query.run.map(RunId::new);
    let found = api
        .journal
        .emitted(&caller.tenant, query.environment.as_deref(), run.as_ref(), query.name.as_deref(), &page)
        .await?;
    let values = Values::full(api.store(), found.items.iter().map(|event| &event.payload)).await?;
    let events = found.items.iter().map(|event| show(event, &values)).collect();
    Ok(JsonBody(BusinessEventList { events, next_cursor: found.next }))
}

/// An event as it is shown.
pub fn show(event: &EmittedEvent, values: &Values) -> BusinessEvent {
    BusinessEvent {
        id: event.id.to_string(),
        environment: event.realm.environment.to_string(),
        run_id: event.run.to_string(),
        step_id: event.step_id.to_string(),
        plugin: event.plugin.to_string(),
        name: event.name.to_string(),
        correlation_key: event.correlation_key.as_deref().map(str::to_owned),
        payload: values.show(&event.payload),
        at: event.at.to_string(),
    }
}
