//! Plugins: what is installed, how a version differs from the one in force, and one shape for all answers about them.

use axum::Json as JsonBody;
use axum::extract::State;
use caisson_core::json::Json;
use caisson_core::plugin::{ActionSpec, Engine, PluginStatus};
use caisson_core::ports::PluginRow;
use caisson_core::time::Timestamp;
use caisson_orchestrator::Plugin as Installed;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Viewer;
use super::error::ApiError;
use super::extract::{Fields, Params};
use super::wire::{Any, PendingVersion, PermissionDiff, Plugin, PluginAction, PluginVersion, time};
use super::workflows::EnvironmentQuery;
use super::{Api, AppState};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(get_version)).routes(routes!(diff))
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
    /// By id, one entry each: the version in force, or the newest. One that waits for a yes stands in `pending`.
    pub plugins: Vec<Plugin>,
    /// Always `null`: there are never so many.
    pub next_cursor: Option<String>,
}

/// How two versions differ.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DiffAnswer {
    /// The version in force; `null` when there is none, and everything is new then.
    pub from: Option<PluginVersion>,
    /// The version that was asked about.
    pub to: PluginVersion,
    /// What it asks for beyond the other, and what no longer.
    pub permissions: PermissionDiff,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct DiffQuery {
    /// `default` when absent.
    environment: Option<String>,
    /// A version's label, or its digest.
    to: String,
}

/// Lists the plugins that an environment has. Role: viewer.
#[utoipa::path(
    get, path = "/plugins", tag = "plugins", params(EnvironmentQuery), responses((status = 200, body = PluginList))
)]
async fn list(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Fields(query): Fields<EnvironmentQuery>,
) -> Result<JsonBody<PluginList>, ApiError> {
    let installed = api.plugins.list(&caller.realm(query.environment.as_deref())?).await?;
    let shown = installed.iter().filter_map(|plugin| {
        let short = Plugin { versions: Vec::new(), ..show(&api, plugin, plugin.foremost()?) };
        Some(short)
    });
    Ok(JsonBody(PluginList { plugins: shown.collect(), next_cursor: None }))
}

/// A plugin: manifest, imports, grants, digest, versions, and the open runs that use it. Role: viewer.
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
    let plugin = api.plugins.plugin(&caller.realm(query.environment.as_deref())?, &id).await?;
    let row = plugin.foremost().ok_or_else(|| ApiError::not_found("PLUGIN_NOT_FOUND", "plugin", &id))?;
    Ok(JsonBody(PluginAnswer { plugin: with_runs(&api, &plugin, row).await? }))
}

/// One version of a plugin. Role: viewer.
#[utoipa::path(
    get, path = "/plugins/{id}/{version}", tag = "plugins",
    params(
        ("id" = String, Path, description = "The plugin."),
        ("version" = String, Path, description = "A version's label, or its digest."), EnvironmentQuery,
    ),
    responses((status = 200, body = PluginAnswer))
)]
async fn get_version(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params((id, version)): Params<(String, String)>,
    Fields(query): Fields<EnvironmentQuery>,
) -> Result<JsonBody<PluginAnswer>, ApiError> {
    let plugin = api.plugins.plugin(&caller.realm(query.environment.as_deref())?, &id).await?;
    let row = plugin.version(&version)?;
    Ok(JsonBody(PluginAnswer { plugin: with_runs(&api, &plugin, row).await? }))
}

/// How the permissions that a version asks for differ from those of the version in force. Role: viewer.
#[utoipa::path(
    get, path = "/plugins/{id}/diff", tag = "plugins",
    params(("id" = String, Path, description = "The plugin."), DiffQuery),
    responses((status = 200, body = DiffAnswer))
)]
async fn diff(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<DiffQuery>,
) -> Result<JsonBody<DiffAnswer>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let (from, to, permissions) = api.plugins.diff(&realm, &id, &query.to).await?;
    let from = from.as_ref().map(show_version);
    Ok(JsonBody(DiffAnswer { from, to: show_version(&to), permissions: permissions.into() }))
}

/// A version of a plugin after something was done to it.
pub async fn answer(api: &Api, row: &PluginRow) -> Result<JsonBody<PluginAnswer>, ApiError> {
    let plugin = api.plugins.plugin(&row.realm, &row.package.id).await?;
    let now = plugin.versions.iter().find(|other| other.package.digest == row.package.digest).unwrap_or(row);
    Ok(JsonBody(PluginAnswer { plugin: show(api, &plugin, now) }))
}

async fn with_runs(api: &Api, plugin: &Installed, row: &PluginRow) -> Result<Plugin, ApiError> {
    let mut shown = show(api, plugin, row);
    // Nothing has to be kept for a run that pins a built-in plugin, so nobody counts those.
    if !plugin.built_in {
        let runs = api.plugins.used_by(&row.realm, &row.package.digest).await?;
        shown.runs = Some(runs.iter().map(ToString::to_string).collect());
    }
    Ok(shown)
}

fn show(api: &Api, plugin: &Installed, row: &PluginRow) -> Plugin {
    let package = &row.package;
    let waits = row.status == PluginStatus::Pending;
    let pending = plugin.pending().filter(|pending| pending.package.digest != package.digest);
    Plugin {
        id: package.id.clone(),
        version: package.version.clone(),
        digest: package.digest.clone(),
        wit: package.wit.clone(),
        description: package.description.clone(),
        engine: match package.engine {
            Engine::Component => "component".to_owned(),
            Engine::JavaScript => "javascript".to_owned(),
        },
        size_bytes: package.size,
        actions: package.actions.iter().map(show_action).collect(),
        imports: package.imports.clone(),
        capabilities: Any(Json::of(&package.asks)),
        permissions: package.permissions(),
        limits: Any(Json::of(&package.limits)),
        grants: Any(Json::of(&row.grants)),
        config: Any(row.config.clone()),
        enabled: row.status == PluginStatus::Active,
        built_in: plugin.built_in,
        status: row.status.as_str().to_owned(),
        compilation: Any(Json::of(&api.plugins.compilation(&package.digest))),
        error: row.error.clone(),
        source: row.source.to_string(),
        installed_by: row.installed_by.to_string(),
        installed_at: installed_at(row),
        decided_by: row.decided_by.as_deref().map(str::to_owned),
        decided_at: time(row.decided_at),
        permission_diff: waits.then(|| plugin.diff(row).into()),
        pending: pending.map(|pending| PendingVersion {
            version: pending.package.version.clone(),
            digest: pending.package.digest.clone(),
            permission_diff: plugin.diff(pending).into(),
        }),
        versions: plugin.versions.iter().map(show_version).collect(),
        runs: None,
    }
}

fn show_action(action: &ActionSpec) -> PluginAction {
    let schema = |schema: &Option<serde_json::Value>| schema.as_ref().map(|schema| Any(Json::of(schema)));
    PluginAction {
        name: action.name.clone(),
        description: action.description.clone(),
        config_schema: schema(&action.config_schema),
        input_schema: schema(&action.input_schema),
        output_schema: schema(&action.output_schema),
    }
}

fn show_version(row: &PluginRow) -> PluginVersion {
    PluginVersion {
        version: row.package.version.clone(),
        digest: row.package.digest.clone(),
        status: row.status.as_str().to_owned(),
        size_bytes: row.package.size,
        source: row.source.to_string(),
        installed_by: row.installed_by.to_string(),
        installed_at: installed_at(row),
        error: row.error.clone(),
    }
}

/// What is part of the program was never installed.
fn installed_at(row: &PluginRow) -> Option<String> {
    (row.installed_at != Timestamp(0)).then(|| row.installed_at.to_string())
}
