//! What an operator says of installed plugins: yes, no, how much, and back.

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::StatusCode;
use caisson_core::plugin::Grants;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::actions::Empty;
use super::auth::Admin;
use super::error::ApiError;
use super::extract::{Body, Fields, MaybeBody, Params};
use super::plugins::{PluginAnswer, answer};
use super::wire::Any;
use super::workflows::EnvironmentQuery;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(grant))
        .routes(routes!(enable))
        .routes(routes!(disable))
        .routes(routes!(rollback))
        .routes(routes!(remove))
        .routes(routes!(remove_version))
}

/// What a version is granted.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct GrantBody {
    /// All that it is granted from now on: a list like `["kv", "http:api.example.com"]`, or an object by capability.
    pub grants: Any,
    /// A version's label or digest; the one in force when absent. To a version that waits, grants are the yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The operator's configuration, an object; as it is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Any>,
}

/// Which version.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct VersionBody {
    /// A version's label or digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Sets what a version is granted, in place of what it was. To a version that waits it is the yes. Role: admin.
#[utoipa::path(
    put, path = "/plugins/{id}/grants", tag = "plugins", request_body = GrantBody,
    params(("id" = String, Path, description = "The plugin."), EnvironmentQuery),
    responses((status = 200, body = PluginAnswer))
)]
async fn grant(
    Admin(caller): Admin,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
    Body(body): Body<GrantBody>,
) -> Result<JsonBody<PluginAnswer>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let grants = read_grants(&body.grants)?;
    let (version, config) = (body.version.as_deref(), body.config.map(|Any(config)| config));
    let row = api.plugins.grant(&realm, &id, version, grants, config, caller.actor.clone()).await?;
    answer(&api, &row).await
}

/// Grants as they are written in a body.
pub fn read_grants(Any(grants): &Any) -> Result<Grants, ApiError> {
    Grants::parse(&grants.value()).map_err(|error| ApiError::invalid("PLUGIN_GRANTS_INVALID", error.to_string()))
}

/// Switches a plugin on again, or puts the named version in force: the yes to one that waits. Role: admin.
#[utoipa::path(
    post, path = "/plugins/{id}/enable", tag = "plugins", request_body = Option<VersionBody>,
    params(("id" = String, Path, description = "The plugin."), EnvironmentQuery),
    responses((status = 200, body = PluginAnswer))
)]
async fn enable(
    Admin(caller): Admin,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
    MaybeBody(body): MaybeBody<VersionBody>,
) -> Result<JsonBody<PluginAnswer>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let row = api.plugins.enable(&realm, &id, body.version.as_deref(), caller.actor.clone()).await?;
    answer(&api, &row).await
}

/// Switches a plugin off: runs that begin now do not find its actions, open ones go on. Role: admin.
#[utoipa::path(
    post, path = "/plugins/{id}/disable", tag = "plugins",
    params(("id" = String, Path, description = "The plugin."), EnvironmentQuery),
    responses((status = 200, body = PluginAnswer))
)]
async fn disable(
    Admin(caller): Admin,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
    MaybeBody(Empty {}): MaybeBody<Empty>,
) -> Result<JsonBody<PluginAnswer>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let row = api.plugins.disable(&realm, &id, caller.actor.clone()).await?;
    answer(&api, &row).await
}

/// Puts a version in force that was before: the named one, or the last. Role: admin.
#[utoipa::path(
    post, path = "/plugins/{id}/rollback", tag = "plugins", request_body = Option<VersionBody>,
    params(("id" = String, Path, description = "The plugin."), EnvironmentQuery),
    responses((status = 200, body = PluginAnswer))
)]
async fn rollback(
    Admin(caller): Admin,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
    MaybeBody(body): MaybeBody<VersionBody>,
) -> Result<JsonBody<PluginAnswer>, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    let row = api.plugins.rollback(&realm, &id, body.version.as_deref(), caller.actor.clone()).await?;
    answer(&api, &row).await
}

/// Deletes a plugin with all its versions; refused while an open run needs one. Role: admin.
#[utoipa::path(
    delete, path = "/plugins/{id}", tag = "plugins",
    params(("id" = String, Path, description = "The plugin."), EnvironmentQuery),
    responses((status = 204, description = "It is gone."))
)]
async fn remove(
    Admin(caller): Admin,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<EnvironmentQuery>,
) -> Result<StatusCode, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    api.plugins.remove(&realm, &id, None, caller.actor.clone()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes one version; refused while an open run needs it. Role: admin.
#[utoipa::path(
    delete, path = "/plugins/{id}/{version}", tag = "plugins",
    params(
        ("id" = String, Path, description = "The plugin."),
        ("version" = String, Path, description = "A version's label, or its digest."), EnvironmentQuery,
    ),
    responses((status = 204, description = "It is gone."))
)]
async fn remove_version(
    Admin(caller): Admin,
    State(api): State<AppState>,
    Params((id, version)): Params<(String, String)>,
    Fields(query): Fields<EnvironmentQuery>,
) -> Result<StatusCode, ApiError> {
    let realm = caller.realm(query.environment.as_deref())?;
    api.plugins.remove(&realm, &id, Some(&version), caller.actor.clone()).await?;
    Ok(StatusCode::NO_CONTENT)
}
