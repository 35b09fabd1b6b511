//! Agents: texts with versions, by name within an environment.

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::StatusCode;
use caisson_core::ids::Realm;
use caisson_core::ports::{NewResource, ResourceKey, ResourceKind, ResourceRow};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Operator, Viewer};
use super::error::ApiError;
use super::extract::{Body, Fields, Params};
use super::wire::Any;
use super::workflows::EnvironmentQuery;
use super::{Api, AppState};
use crate::env::{Source, prompt};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, update, disable)).routes(routes!(versions))
}

/// An agent in its version in force.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// Unique within its environment.
    pub name: String,
    /// The number of this version.
    pub version: u64,
    /// The environment.
    pub environment: String,
    /// Whether workflows may use it.
    pub enabled: bool,
    /// `PROVIDER/MODEL`.
    pub model: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// JSON Schema of what it takes.
    pub input_schema: Option<Any>,
    /// JSON Schema of what it gives.
    pub output_schema: Option<Any>,
    /// Tools that it may call.
    pub tools: Vec<String>,
    /// The file that it came from.
    pub file: Option<String>,
    /// SHA-256 of its text.
    pub digest: String,
    /// The whole text: front matter and template.
    pub source: String,
    /// Who saved this version.
    pub created_by: String,
    /// When this version was saved.
    pub created_at: String,
    /// When the agent was last changed.
    pub updated_at: String,
}

/// An agent under its name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentAnswer {
    /// The agent.
    pub agent: Agent,
}

/// Agents.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentList {
    /// By name.
    pub agents: Vec<Agent>,
    /// Always `null`: an environment's agents are one page.
    pub next_cursor: Option<String>,
}

/// Versions of an agent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentVersions {
    /// Newest first.
    pub versions: Vec<Agent>,
}

/// An agent's text: YAML front matter between two lines of `---`, then the template.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentBody {
    /// The text.
    pub source: String,
}

/// Lists an environment's agents by name, disabled ones too. Role: viewer.
#[utoipa::path(get, path = "/agents", tag = "agents", params(EnvironmentQuery), responses((status = 200, body = AgentList)))]
async fn list(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Fields(query): Fields<EnvironmentQuery>,
) -> Result<JsonBody<AgentList>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let rows = api.resources.all_resources().await?;
    let agents =
        rows.iter().filter(|row| row.key.realm == realm && row.key.kind == ResourceKind::Agent).map(show).collect();
    Ok(JsonBody(AgentList { agents, next_cursor: None }))
}

/// Saves a new agent. Role: operator.
#[utoipa::path(
    post, path = "/agents", tag = "agents", params(EnvironmentQuery), request_body = AgentBody,
    responses((status = 201, body = AgentAnswer))
)]
async fn create(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Fields(query): Fields<EnvironmentQuery>,
    Body(body): Body<AgentBody>,
) -> Result<(StatusCode, JsonBody<AgentAnswer>), ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let name = read("agent", &body.source)?;
    if !is_named(&body.source) {
        let message = "agent has no name: write 'name: NAME' in its front matter, or PUT it under its name";
        return Err(ApiError::malformed("AGENT_INVALID", message));
    }
    let there = api.resources.resource(&key(&realm, &name), None).await?;
    if there.is_some_and(|row| row.enabled && *row.source != *body.source) {
        let message = format!("agent '{name}' exists: PUT saves a version of it");
        return Err(ApiError::new(StatusCode::CONFLICT, "AGENT_EXISTS", message));
    }
    let row = save(&api, &realm, &name, body.source, caller.actor.clone()).await?;
    Ok((StatusCode::CREATED, JsonBody(AgentAnswer { agent: show(&row) })))
}

/// One agent. Role: viewer.
#[utoipa::path(
    get, path = "/agents/{name}", tag = "agents",
    params(("name" = String, Path, description = "The agent."), EnvironmentQuery),
    responses((status = 200, body = AgentAnswer))
)]
async fn get(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params(name): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
) -> Result<JsonBody<AgentAnswer>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    Ok(JsonBody(AgentAnswer { agent: show(&find(&api, &realm, &name).await?) }))
}

/// Saves a version of an agent. The same text again changes nothing. Role: operator.
#[utoipa::path(
    put, path = "/agents/{name}", tag = "agents", request_body = AgentBody,
    params(("name" = String, Path, description = "The agent."), EnvironmentQuery),
    responses((status = 200, body = AgentAnswer))
)]
async fn update(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params(name): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
    Body(body): Body<AgentBody>,
) -> Result<JsonBody<AgentAnswer>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let own = read(&name, &body.source)?;
    if own != name {
        let message = format!("the agent calls itself '{own}', the path's is '{name}'");
        return Err(ApiError::invalid("NAME_MISMATCH", message));
    }
    find(&api, &realm, &name).await?;
    let row = save(&api, &realm, &name, body.source, caller.actor.clone()).await?;
    Ok(JsonBody(AgentAnswer { agent: show(&row) }))
}

/// Disables an agent: workflows that name it fail at its step. Its versions stay. Role: operator.
#[utoipa::path(
    delete, path = "/agents/{name}", tag = "agents",
    params(("name" = String, Path, description = "The agent."), EnvironmentQuery),
    responses((status = 204, description = "It is disabled."))
)]
async fn disable(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params(name): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
) -> Result<StatusCode, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    if !api.resources.set_resource(&key(&realm, &name), false, api.now()).await? {
        return Err(not_found(&realm, &name));
    }
    api.catalog.refresh().await;
    Ok(StatusCode::NO_CONTENT)
}

/// Every version of an agent, newest first. Role: viewer.
#[utoipa::path(
    get, path = "/agents/{name}/versions", tag = "agents",
    params(("name" = String, Path, description = "The agent."), EnvironmentQuery),
    responses((status = 200, body = AgentVersions))
)]
async fn versions(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params(name): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
) -> Result<JsonBody<AgentVersions>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let rows = api.resources.resource_versions(&key(&realm, &name)).await?;
    if rows.is_empty() {
        return Err(not_found(&realm, &name));
    }
    Ok(JsonBody(AgentVersions { versions: rows.iter().map(show).collect() }))
}

fn key(realm: &Realm, name: &str) -> ResourceKey {
    ResourceKey { realm: realm.clone(), kind: ResourceKind::Agent, name: name.into() }
}

async fn find(api: &Api, realm: &Realm, name: &str) -> Result<ResourceRow, ApiError> {
    api.resources.resource(&key(realm, name), None).await?.ok_or_else(|| not_found(realm, name))
}

fn not_found(realm: &Realm, name: &str) -> ApiError {
    let message = format!("agent '{name}' is not found in environment '{}'", realm.environment);
    ApiError::new(StatusCode::NOT_FOUND, "AGENT_NOT_FOUND", message)
}

/// The name that a text gives its agent; `name` if it gives none.
fn read(name: &str, source: &str) -> Result<String, ApiError> {
    let source = Source { path: format!("agents/{name}.prompt").into(), bytes: source.as_bytes().to_vec() };
    match prompt::read(&source) {
        Ok(agent) => Ok(agent.name),
        Err(problem) => Err(ApiError::malformed("AGENT_INVALID", problem.message)),
    }
}

/// Whether a text names its agent.
fn is_named(source: &str) -> bool {
    let source = Source { path: "agent.prompt".into(), bytes: source.as_bytes().to_vec() };
    let front = prompt::front_matter(&source).unwrap_or_default();
    front.pointer("/metadata/name").or_else(|| front.get("name")).is_some()
}

async fn save(
    api: &Api,
    realm: &Realm,
    name: &str,
    source: String,
    actor: std::sync::Arc<str>,
) -> Result<ResourceRow, ApiError> {
    let new =
        NewResource { key: key(realm, name), source: source.into(), file: None, created_by: actor, at: api.now() };
    let (row, _) = api.resources.save_resource(new).await?;
    api.catalog.refresh().await;
    Ok(row)
}

fn show(row: &ResourceRow) -> Agent {
    let source = Source { path: "agent.prompt".into(), bytes: row.source.as_bytes().to_vec() };
    // What is stored was read before; an older text that reads no longer is shown without its fields.
    let front = prompt::front_matter(&source).unwrap_or_default();
    let text = |pointer: &str| front.pointer(pointer).and_then(|value| value.as_str()).map(str::to_owned);
    let schema = |pointer: &str| front.pointer(pointer).map(|schema| Any(caisson_core::json::Json::of(schema)));
    let tools = front.pointer("/tools").and_then(|tools| tools.as_array()).cloned().unwrap_or_default();
    Agent {
        name: row.key.name.to_string(),
        version: row.number,
        environment: row.key.realm.environment.to_string(),
        enabled: row.enabled,
        model: text("/model"),
        description: text("/metadata/description").or_else(|| text("/description")),
        input_schema: schema("/input/schema"),
        output_schema: schema("/output/schema"),
        tools: tools.iter().filter_map(|tool| tool.as_str().map(str::to_owned)).collect(),
        file: row.file.as_ref().map(ToString::to_string),
        digest: row.digest.to_string(),
        source: row.source.to_string(),
        created_by: row.created_by.to_string(),
        created_at: row.created_at.to_string(),
        updated_at: row.updated_at.to_string(),
    }
}
