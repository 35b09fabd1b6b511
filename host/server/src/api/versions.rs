//! Versions of a workflow, going back to one, and the switches.

use axum::Json as JsonBody;
use axum::extract::State;
use caisson_core::definition;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::actions::Empty;
use super::auth::{Caller, Operator, Viewer};
use super::error::ApiError;
use super::extract::{Body, Fields, MaybeBody, Params};
use super::paging::page;
use super::values::shortened;
use super::wire::{Any, Version};
use super::workflows::{EnvironmentQuery, WorkflowAnswer, not_found, save, show_version, single};
use super::{Api, AppState};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(rollback))
        .routes(routes!(enable))
        .routes(routes!(disable))
        .routes(routes!(pause))
        .routes(routes!(unpause))
}

/// A version under its name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct VersionAnswer {
    /// The version.
    pub version: Version,
}

/// A part of the list of versions.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionList {
    /// Newest first.
    pub versions: Vec<Version>,
    /// Where the next page begins; `null` at the end.
    pub next_cursor: Option<String>,
}

/// Where to go back to.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RollbackBody {
    /// A version's label or number.
    pub version: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// `default` when absent.
    environment: Option<String>,
    /// Length of the page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Lists a workflow's versions, newest first. Role: viewer.
#[utoipa::path(
    get, path = "/workflows/{id}/versions", tag = "workflows",
    params(("id" = String, Path, description = "The workflow."), ListQuery),
    responses((status = 200, body = VersionList))
)]
async fn list(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<ListQuery>,
) -> Result<JsonBody<VersionList>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let page = page(query.limit, query.cursor)?;
    let (row, _) = api.store().definition(&realm, &id).await?.ok_or_else(|| not_found(&id))?;
    let found = api.store().versions(&realm, &id, &page).await?;
    let versions = found.items.iter().map(|v| show_version(v, row.current, shortened(&v.definition))).collect();
    Ok(JsonBody(VersionList { versions, next_cursor: found.next }))
}

/// One version, by its label or its number. Role: viewer.
#[utoipa::path(
    get, path = "/workflows/{id}/versions/{version}", tag = "workflows",
    params(
        ("id" = String, Path, description = "The workflow."),
        ("version" = String, Path, description = "A label or a number."), EnvironmentQuery,
    ),
    responses((status = 200, body = VersionAnswer))
)]
async fn get(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params((id, version)): Params<(String, String)>,
    Fields(query): Fields<EnvironmentQuery>,
) -> Result<JsonBody<VersionAnswer>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let (row, _) = api.store().definition(&realm, &id).await?.ok_or_else(|| not_found(&id))?;
    let found = api.store().version(&realm, &id, Some(&version)).await?.ok_or_else(|| no_version(&version))?;
    let version = show_version(&found, row.current, Any(found.definition.clone()));
    Ok(JsonBody(VersionAnswer { version }))
}

/// Puts an older version in force again; runs that are under way keep theirs. Role: operator.
#[utoipa::path(
    post, path = "/workflows/{id}/rollback", tag = "workflows", request_body = RollbackBody,
    params(("id" = String, Path, description = "The workflow."), EnvironmentQuery),
    responses((status = 200, body = WorkflowAnswer))
)]
async fn rollback(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
    Body(body): Body<RollbackBody>,
) -> Result<JsonBody<WorkflowAnswer>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    api.store().definition(&realm, &id).await?.ok_or_else(|| not_found(&id))?;
    let old = api.store().version(&realm, &id, Some(&body.version)).await?;
    let old = old.ok_or_else(|| no_version(&body.version))?;
    // Saving content that exists already puts that version in force.
    let reading = definition::from_json(&old.definition.value());
    let version = save(&api, &caller, realm.clone(), reading, old.definition, true).await?;
    Ok(JsonBody(WorkflowAnswer { workflow: single(&api, &realm, &id, Some(version)).await? }))
}

/// Lets new runs start. Role: operator.
#[utoipa::path(
    post, path = "/workflows/{id}/enable", tag = "workflows",
    params(("id" = String, Path, description = "The workflow."), EnvironmentQuery),
    responses((status = 200, body = WorkflowAnswer))
)]
async fn enable(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
    MaybeBody(Empty {}): MaybeBody<Empty>,
) -> Result<JsonBody<WorkflowAnswer>, ApiError> {
    switch(&api, &caller, &id, query, Some(true), None).await
}

/// Starts no new runs; those under way go on. Role: operator.
#[utoipa::path(
    post, path = "/workflows/{id}/disable", tag = "workflows",
    params(("id" = String, Path, description = "The workflow."), EnvironmentQuery),
    responses((status = 200, body = WorkflowAnswer))
)]
async fn disable(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
    MaybeBody(Empty {}): MaybeBody<Empty>,
) -> Result<JsonBody<WorkflowAnswer>, ApiError> {
    switch(&api, &caller, &id, query, Some(false), None).await
}

/// Lets events start no runs. Role: operator.
#[utoipa::path(
    post, path = "/workflows/{id}/pause", tag = "workflows",
    params(("id" = String, Path, description = "The workflow."), EnvironmentQuery),
    responses((status = 200, body = WorkflowAnswer))
)]
async fn pause(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
    MaybeBody(Empty {}): MaybeBody<Empty>,
) -> Result<JsonBody<WorkflowAnswer>, ApiError> {
    switch(&api, &caller, &id, query, None, Some(true)).await
}

/// Lets events start runs again. Role: operator.
#[utoipa::path(
    post, path = "/workflows/{id}/unpause", tag = "workflows",
    params(("id" = String, Path, description = "The workflow."), EnvironmentQuery),
    responses((status = 200, body = WorkflowAnswer))
)]
async fn unpause(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
    MaybeBody(Empty {}): MaybeBody<Empty>,
) -> Result<JsonBody<WorkflowAnswer>, ApiError> {
    switch(&api, &caller, &id, query, None, Some(false)).await
}

async fn switch(
    api: &Api,
    caller: &Caller,
    id: &str,
    query: EnvironmentQuery,
    enabled: Option<bool>,
    paused: Option<bool>,
) -> Result<JsonBody<WorkflowAnswer>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    if !api.store().set_definition(&realm, id, enabled, paused, api.now()).await? {
        return Err(not_found(id));
    }
    Ok(JsonBody(WorkflowAnswer { workflow: single(api, &realm, id, None).await? }))
}

fn no_version(version: &str) -> ApiError {
    ApiError::not_found("VERSION_NOT_FOUND", "version", version)
}
