//! Tool servers: what this host's own directories declare, whether it runs, and what it offers.

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::StatusCode;
use caisson_core::json::Json;
use caisson_core::ports::{ServerStatus, Tool, ToolError};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::auth::{Operator, Viewer};
use super::error::ApiError;
use super::extract::{Fields, Params};
use super::wire::Any;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(check))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct EnvironmentQuery {
    /// `default` when absent.
    environment: Option<String>,
}

/// The tool servers of an environment.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ToolServerList {
    /// By name.
    pub servers: Vec<ToolServerView>,
}

/// A tool server as it stands on this host.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolServerView {
    /// Its name: what its tools' names begin with.
    pub name: String,
    /// The file that declares it, below the environment's directory.
    pub file: String,
    /// The program.
    pub command: String,
    /// `stopped`, `starting`, `running` or `failed`.
    pub state: String,
    /// Its process, while it runs.
    pub pid: Option<u32>,
    /// The version of the protocol that was agreed on.
    pub protocol: Option<String>,
    /// How many tools it has, once it was asked.
    pub tools: Option<u64>,
    /// Calls since this host began.
    pub calls: u64,
    /// Why it does not run, and the last lines of its standard error.
    pub problem: Option<String>,
}

/// What a tool server offers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ToolServerAnswer {
    /// The server.
    pub server: ToolServerView,
    /// Its tools, in its own order. What models could not call is left out.
    pub tools: Vec<ToolView>,
}

/// A tool, in its server's words.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ToolView {
    /// `SERVER.TOOL`: as agents and grants name it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Any,
}

/// Lists the tool servers that this host's directories declare. Starts none. Role: viewer.
#[utoipa::path(
    get, path = "/tool-servers", tag = "environments", params(EnvironmentQuery),
    responses((status = 200, body = ToolServerList))
)]
async fn list(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Fields(query): Fields<EnvironmentQuery>,
) -> Result<JsonBody<ToolServerList>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    Ok(JsonBody(ToolServerList { servers: api.tools.servers(&realm).into_iter().map(show).collect() }))
}

/// Asks a tool server what it offers, starting it if it does not run. Role: operator.
#[utoipa::path(
    post, path = "/tool-servers/{name}/check", tag = "environments",
    params(("name" = String, Path, description = "The server."), EnvironmentQuery),
    responses((status = 200, body = ToolServerAnswer))
)]
async fn check(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params(name): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
) -> Result<JsonBody<ToolServerAnswer>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let asked = api.tools.tools(&realm, &name).await;
    let status = api.tools.servers(&realm).into_iter().find(|server| *server.name == *name);
    let tools = asked.map_err(|error| refused(&error, status.as_ref()))?;
    let gone = || ToolError::NotFound(format!("tool server '{name}' is declared no more"));
    let server = status.ok_or_else(|| refused(&gone(), None))?;
    Ok(JsonBody(ToolServerAnswer {
        tools: tools.into_iter().map(|tool| show_tool(&name, tool)).collect(),
        server: show(server),
    }))
}

fn refused(error: &ToolError, status: Option<&ServerStatus>) -> ApiError {
    match error {
        ToolError::NotFound(message) => ApiError::new(StatusCode::NOT_FOUND, "TOOL_SERVER_NOT_FOUND", message.clone()),
        other => {
            let said = status.and_then(|status| status.problem.clone()).unwrap_or_else(|| other.to_string());
            ApiError::new(StatusCode::BAD_GATEWAY, "TOOL_SERVER_UNAVAILABLE", said)
        }
    }
}

fn show(status: ServerStatus) -> ToolServerView {
    ToolServerView {
        name: status.name.to_string(),
        file: status.file.to_string(),
        command: status.command,
        state: status.state.as_str().to_owned(),
        pid: status.pid,
        protocol: status.protocol,
        tools: status.tools.map(|tools| tools as u64),
        calls: status.calls,
        problem: status.problem,
    }
}

fn show_tool(server: &str, tool: Tool) -> ToolView {
    ToolView {
        name: format!("{server}.{}", tool.name),
        description: tool.description,
        parameters: Any(Json::of(&tool.parameters)),
    }
}
