//! Workflows and their versions.

use axum::Json as JsonBody;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use caisson_core::definition;
use caisson_core::ids::Realm;
use caisson_core::json::Json;
use caisson_core::ports::{DefinitionFilter, DefinitionRow, RunStats, StoreError, VersionRow};
use caisson_orchestrator::{Kind, SaveDefinition};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Operator, Viewer};
use super::definitions::{self, accept};
use super::error::ApiError;
use super::extract::{Fields, Params};
use super::paging::page;
use super::runs::idempotency_key;
use super::values::shortened;
use super::wire::{Any, Stats, Validation, Version, Workflow, time};
use super::{Api, AppState};

/// Success is counted over so many days.
const STATS_DAYS: u64 = 30;

/// The longest text to search for.
const SEARCH_BYTES_MAX: usize = 256;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(validate)).routes(routes!(get, update, delete))
}

/// A workflow under its name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WorkflowAnswer {
    /// The workflow.
    pub workflow: Workflow,
}

/// A saved workflow and what was found in it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SavedAnswer {
    /// The workflow.
    pub workflow: Workflow,
    /// Warnings; a definition with errors is not saved.
    pub validation: Validation,
}

/// A part of the list of workflows.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowList {
    /// By id.
    pub workflows: Vec<Workflow>,
    /// Where the next page begins; `null` at the end.
    pub next_cursor: Option<String>,
}

/// A definition, as JSON or as YAML text. Or send YAML itself with content type `application/yaml`.
#[derive(Debug, Serialize, ToSchema)]
pub struct DefinitionBody {
    /// The definition.
    pub definition: Any,
}

/// Which environment.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EnvironmentQuery {
    /// `default` when absent.
    pub environment: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// `default` when absent.
    environment: Option<String>,
    /// Only workflows whose id or name holds this text.
    search: Option<String>,
    /// Only enabled, or only disabled ones.
    enabled: Option<bool>,
    /// Length of the page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Lists workflows by id. Role: viewer.
#[utoipa::path(
    get, path = "/workflows", tag = "workflows", params(ListQuery), responses((status = 200, body = WorkflowList))
)]
async fn list(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Fields(query): Fields<ListQuery>,
) -> Result<JsonBody<WorkflowList>, ApiError> {
    if query.search.as_ref().is_some_and(|text| text.len() > SEARCH_BYTES_MAX) {
        return Err(ApiError::malformed("MALFORMED_QUERY", format!("search is longer than {SEARCH_BYTES_MAX} bytes")));
    }
    let realm = caller.realm(query.environment.as_deref())?;
    let filter = DefinitionFilter { search: query.search, enabled: query.enabled };
    let found = api.store().definitions(&realm, &filter, &page(query.limit, query.cursor)?).await?;
    let mut workflows = Vec::with_capacity(found.items.len());
    for (row, version) in &found.items {
        let definition = shortened(&version.definition);
        workflows.push(show(row, version, definition, stats(&api, &realm, &row.id).await?));
    }
    Ok(JsonBody(WorkflowList { workflows, next_cursor: found.next }))
}

/// Saves a new workflow. Role: operator.
#[utoipa::path(
    post, path = "/workflows", tag = "workflows",
    params(EnvironmentQuery, ("Idempotency-Key" = Option<String>, Header, description = "The same definition again is then no conflict.")),
    request_body(content((DefinitionBody = "application/json"), (String = "application/yaml"))),
    responses((status = 201, body = SavedAnswer))
)]
async fn create(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Fields(query): Fields<EnvironmentQuery>,
    headers: HeaderMap,
    request: Request,
) -> Result<(StatusCode, JsonBody<SavedAnswer>), ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let repeatable = idempotency_key(&headers)?.is_some();
    let reading = definitions::of_request(request).await?;
    let (json, validation) = accept(&api, &realm, &reading).await?;
    let id = reading.definition.as_ref().map(|d| d.id.to_string()).unwrap_or_default();
    if repeatable {
        let digest = definition::digest(json.get());
        let version = api.store().version(&realm, &id, None).await?;
        if let Some(version) = version.filter(|version| *version.digest == *digest) {
            let workflow = single(&api, &realm, &id, Some(version)).await?;
            return Ok((StatusCode::CREATED, JsonBody(SavedAnswer { workflow, validation })));
        }
    }
    let version = save(&api, &caller, realm.clone(), reading, json, false).await?;
    let workflow = single(&api, &realm, &id, Some(version)).await?;
    Ok((StatusCode::CREATED, JsonBody(SavedAnswer { workflow, validation })))
}

/// Says what is wrong or odd with a definition; saves nothing. Role: viewer.
#[utoipa::path(
    post, path = "/workflows/validate", tag = "workflows", params(EnvironmentQuery),
    request_body(content((DefinitionBody = "application/json"), (String = "application/yaml"))),
    responses((status = 200, body = Validation))
)]
async fn validate(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Fields(query): Fields<EnvironmentQuery>,
    request: Request,
) -> Result<JsonBody<Validation>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let reading = definitions::of_request(request).await?;
    Ok(JsonBody(definitions::validate(&api, &realm, &reading).await?))
}

/// A workflow with its definition and numbers about its runs. Role: viewer.
#[utoipa::path(
    get, path = "/workflows/{id}", tag = "workflows",
    params(("id" = String, Path, description = "The workflow."), EnvironmentQuery),
    responses((status = 200, body = WorkflowAnswer))
)]
async fn get(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
) -> Result<JsonBody<WorkflowAnswer>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    Ok(JsonBody(WorkflowAnswer { workflow: single(&api, &realm, &id, None).await? }))
}

/// Saves a version of a workflow that exists. The same content again changes nothing. Role: operator.
#[utoipa::path(
    put, path = "/workflows/{id}", tag = "workflows",
    params(("id" = String, Path, description = "The workflow."), EnvironmentQuery),
    request_body(content((DefinitionBody = "application/json"), (String = "application/yaml"))),
    responses((status = 200, body = SavedAnswer))
)]
async fn update(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
    request: Request,
) -> Result<JsonBody<SavedAnswer>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let reading = definitions::of_request(request).await?;
    let (json, validation) = accept(&api, &realm, &reading).await?;
    if let Some(other) = reading.definition.as_ref().filter(|definition| *definition.id != *id) {
        return Err(ApiError::invalid(
            "ID_MISMATCH",
            format!("the definition's id is '{}', the path's is '{id}'", other.id),
        ));
    }
    let version = save(&api, &caller, realm.clone(), reading, json, true).await?;
    let workflow = single(&api, &realm, &id, Some(version)).await?;
    Ok(JsonBody(SavedAnswer { workflow, validation }))
}

/// Deletes a workflow that has no runs. Role: operator.
#[utoipa::path(
    delete, path = "/workflows/{id}", tag = "workflows",
    params(("id" = String, Path, description = "The workflow."), EnvironmentQuery),
    responses((status = 204, description = "It is gone."))
)]
async fn delete(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
) -> Result<StatusCode, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    match api.store().delete_definition(&realm, &id).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => Err(not_found(&id)),
        Err(StoreError::Conflict(_)) => Err(ApiError::new(
            StatusCode::CONFLICT,
            "WORKFLOW_HAS_RUNS",
            format!("workflow '{id}' has runs, which would lose their definition: disable it instead"),
        )),
        Err(error) => Err(error.into()),
    }
}

/// Saves a definition that has no errors.
pub async fn save(
    api: &Api,
    caller: &Caller,
    realm: Realm,
    reading: definition::Reading,
    json: Json,
    must_exist: bool,
) -> Result<VersionRow, ApiError> {
    let definition = reading.definition.ok_or_else(|| ApiError::internal("a definition without errors is missing"))?;
    let id = definition.id.clone();
    let label = definition.version.clone();
    let save = SaveDefinition { realm, definition, json, actor: caller.actor.clone(), must_exist: Some(must_exist) };
    match api.service.save_definition(save).await {
        Ok((version, _new)) => Ok(version),
        Err(error) if must_exist && error.kind == Kind::NotFound => Err(not_found(&id)),
        Err(error) if error.code == "CONFLICT" => Err(conflict(&id, must_exist, label.as_deref())),
        Err(error) => Err(error.into()),
    }
}

/// The store refuses a workflow that exists, or other content under a label that is taken.
fn conflict(id: &str, must_exist: bool, label: Option<&str>) -> ApiError {
    if must_exist {
        let label = label.unwrap_or_default();
        let message =
            format!("version '{label}' of workflow '{id}' exists with other content: give this one another label");
        return ApiError::new(StatusCode::CONFLICT, "VERSION_EXISTS", message);
    }
    let message = format!("workflow '{id}' exists: PUT saves a version of it");
    ApiError::new(StatusCode::CONFLICT, "WORKFLOW_EXISTS", message)
}

/// A workflow with the version in force, or with the one given.
pub async fn single(api: &Api, realm: &Realm, id: &str, version: Option<VersionRow>) -> Result<Workflow, ApiError> {
    let (row, in_force) = api.store().definition(realm, id).await?.ok_or_else(|| not_found(id))?;
    let version = version.unwrap_or(in_force);
    let definition = Any(version.definition.clone());
    Ok(show(&row, &version, definition, stats(api, realm, id).await?))
}

/// There is no such workflow here.
pub fn not_found(id: &str) -> ApiError {
    ApiError::not_found("WORKFLOW_NOT_FOUND", "workflow", id)
}

async fn stats(api: &Api, realm: &Realm, id: &str) -> Result<RunStats, ApiError> {
    const DAY_MS: u64 = 86_400_000;
    let since = caisson_core::time::Timestamp(api.now().0 - i64::try_from(STATS_DAYS * DAY_MS).unwrap_or(i64::MAX));
    Ok(api.store().run_stats(realm, id, since).await?)
}

fn show(row: &DefinitionRow, version: &VersionRow, definition: Any, stats: RunStats) -> Workflow {
    Workflow {
        id: row.id.to_string(),
        version: version.label.to_string(),
        environment: row.realm.environment.to_string(),
        name: version.name.clone(),
        description: version.description.clone(),
        enabled: row.enabled,
        paused: row.paused,
        definition,
        digest: version.digest.to_string(),
        created_at: row.created_at.to_string(),
        updated_at: row.updated_at.to_string(),
        stats: Stats {
            last_run_at: time(stats.last_run_at),
            runs: stats.runs,
            success_rate_30d: stats.success_rate,
            avg_ms: stats.avg_ms,
        },
    }
}

/// A version as it is shown.
pub fn show_version(version: &VersionRow, current: u64, definition: Any) -> Version {
    Version {
        workflow_id: version.workflow.to_string(),
        version: version.label.to_string(),
        number: version.number,
        current: version.number == current,
        digest: version.digest.to_string(),
        name: version.name.clone(),
        description: version.description.clone(),
        definition,
        created_by: version.created_by.to_string(),
        created_at: version.created_at.to_string(),
    }
}
