//! Plugins: what is installed.

use axum::Json as JsonBody;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::auth::Viewer;
use super::error::ApiError;
use super::extract::{Fields, Params};
use super::wire::Plugin;
use super::workflows::EnvironmentQuery;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(get_version))
}

/// A plugin under its name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PluginAnswer {
    /// The plugin.
    pub plugin: Plugin,
}

/// The list of plugins.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginList {
    /// By id; of one id the newest first.
    pub plugins: Vec<Plugin>,
    /// Always `null`: there are never so many.
    pub next_cursor: Option<String>,
}

/// Lists the plugins that an environment can use. Role: viewer.
#[utoipa::path(
    get, path = "/plugins", tag = "plugins", params(EnvironmentQuery), responses((status = 200, body = PluginList))
)]
async fn list(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Fields(query): Fields<EnvironmentQuery>,
) -> Result<JsonBody<PluginList>, ApiError> {
    let plugins = api.catalog.plugins(&caller.realm(query.environment.as_deref())?);
    Ok(JsonBody(PluginList { plugins, next_cursor: None }))
}

/// The newest version of a plugin: manifest, imports, digest. Role: viewer.
#[utoipa::path(
    get, path = "/plugins/{id}", tag = "plugins",
    params(("id" = String, Path, description = "The plugin."), EnvironmentQuery),
    responses((status = 200, body = PluginAnswer))
)]
async fn get(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
) -> Result<JsonBody<PluginAnswer>, ApiError> {
    let plugins = api.catalog.plugins(&caller.realm(query.environment.as_deref())?);
    let plugin = plugins.into_iter().find(|plugin| plugin.id == id);
    plugin
        .map(|plugin| JsonBody(PluginAnswer { plugin }))
        .ok_or_else(|| ApiError::not_found("PLUGIN_NOT_FOUND", "plugin", &id))
}

/// One version of a plugin. Role: viewer.
#[utoipa::path(
    get, path = "/plugins/{id}/{version}", tag = "plugins",
    params(
        ("id" = String, Path, description = "The plugin."), ("version" = String, Path, description = "Its version."),
        EnvironmentQuery,
    ),
    responses((status = 200, body = PluginAnswer))
)]
async fn get_version(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params((id, version)): Params<(String, String)>,
    Fields(query): Fields<EnvironmentQuery>,
) -> Result<JsonBody<PluginAnswer>, ApiError> {
    let plugins = api.catalog.plugins(&caller.realm(query.environment.as_deref())?);
    let plugin = plugins.into_iter().find(|plugin| plugin.id == id && plugin.version == version);
    plugin
        .map(|plugin| JsonBody(PluginAnswer { plugin }))
        .ok_or_else(|| ApiError::not_found("PLUGIN_NOT_FOUND", "plugin", &format!("{id} {version}")))
}
