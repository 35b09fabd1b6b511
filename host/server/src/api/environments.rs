//! Environments: what is registered from files, and bringing it up to date with them.

use axum::Json as JsonBody;
use axum::extract::State;
use caisson_core::ports::ResourceRow;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::auth::{Operator, Viewer};
use super::error::ApiError;
use super::extract::{Fields, LargeBody, Params};
use crate::sync::{self, Change, FileText, Sync};

/// Files of one request: what an environment's directory may hold.
const FILES_MAX: usize = 10_000;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(synchronise))
}

/// The environments of a tenant that files were registered in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentList {
    /// By name.
    pub environments: Vec<EnvironmentSummary>,
}

/// One environment in a list.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentSummary {
    /// Its name.
    pub name: String,
    /// How many things are registered and enabled.
    pub registered: u64,
}

/// One environment.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentAnswer {
    /// The environment.
    pub environment: EnvironmentView,
}

/// What is registered of an environment, and how this host's files compare.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentView {
    /// Its name.
    pub name: String,
    /// By kind and name.
    pub registered: Vec<Registered>,
}

/// One registered thing.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// `agent`, `mcp-server`, `schema` or `workflow`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The number of the version in force.
    pub version: u64,
    /// SHA-256 of its text.
    pub digest: String,
    /// Whether it may be used.
    pub enabled: bool,
    /// The file that it came from, below the environment's directory.
    pub file: Option<String>,
    /// This host's file against the database: `same`, `changed`, `missing`; absent where this host has no directory for the environment, or the
    /// thing came from no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_disk: Option<String>,
    /// Who saved the version in force.
    pub created_by: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// The files of an environment, all of them.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SyncBody {
    /// What the directory holds. What came from a file that is not among them is disabled.
    pub files: Vec<FileText>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct SyncQuery {
    /// Only says what would be done.
    dry_run: Option<bool>,
}

/// What was done, or would be.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncAnswer {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// By file.
    pub changes: Vec<ChangeView>,
}

/// What becomes of a file.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// `create`, `update`, `unchanged`, `disable` or `broken`.
    pub action: String,
    /// What it is, if its name says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its name.
    pub name: String,
    /// The file.
    pub file: String,
    /// Why it is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Lists environments in which something is registered. Role: viewer.
#[utoipa::path(get, path = "/environments", tag = "environments", responses((status = 200, body = EnvironmentList)))]
async fn list(Viewer(caller): Viewer, State(api): State<AppState>) -> Result<JsonBody<EnvironmentList>, ApiError> {
    let mut environments: Vec<EnvironmentSummary> = Vec::new();
    for row in api.resources.all_resources().await?.iter().filter(|row| row.key.realm.tenant == caller.tenant) {
        let name = &*row.key.realm.environment;
        if environments.last().is_none_or(|last| last.name != name) {
            environments.push(EnvironmentSummary { name: name.to_owned(), registered: 0 });
        }
        if let Some(last) = environments.last_mut() {
            last.registered += u64::from(row.enabled);
        }
    }
    Ok(JsonBody(EnvironmentList { environments }))
}

/// What is registered of an environment, and how this host's files compare with it. Role: viewer.
#[utoipa::path(
    get, path = "/environments/{name}", tag = "environments",
    params(("name" = String, Path, description = "The environment.")),
    responses((status = 200, body = EnvironmentAnswer))
)]
async fn get(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params(name): Params<String>,
) -> Result<JsonBody<EnvironmentAnswer>, ApiError> {
    let realm = caller.realm(Some(&name))?;
    let files = api.catalog.files(&realm).await;
    let registered = sync::registered(&api, &realm).await?.iter().map(|row| show(row, files.as_deref())).collect();
    Ok(JsonBody(EnvironmentAnswer { environment: EnvironmentView { name, registered } }))
}

/// Registers an environment's files: new and changed ones get a version, what has no file any more is disabled, a broken file is reported and
/// stops nobody. Role: operator.
#[utoipa::path(
    post, path = "/environments/{name}/sync", tag = "environments", request_body = SyncBody,
    params(("name" = String, Path, description = "The environment."), SyncQuery),
    responses((status = 200, body = SyncAnswer))
)]
async fn synchronise(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params(name): Params<String>,
    Fields(query): Fields<SyncQuery>,
    LargeBody(body): LargeBody<SyncBody>,
) -> Result<JsonBody<SyncAnswer>, ApiError> {
    if body.files.len() > FILES_MAX {
        return Err(ApiError::invalid("TOO_MANY_FILES", format!("more than {FILES_MAX} files")));
    }
    let realm = caller.realm(Some(&name))?;
    let dry_run = query.dry_run.unwrap_or(false);
    let how = Sync { realm, actor: caller.actor.clone(), dry_run, own_files: false };
    let changes = sync::sync(&api, &how, &body.files).await?;
    Ok(JsonBody(SyncAnswer { dry_run, changes: changes.into_iter().map(show_change).collect() }))
}

fn show_change(change: Change) -> ChangeView {
    ChangeView {
        action: change.action.as_str().to_owned(),
        kind: change.kind.map(|kind| kind.as_str().to_owned()),
        name: change.name.to_string(),
        file: change.file.to_string(),
        problem: change.problem,
    }
}

fn show(row: &ResourceRow, files: Option<&[FileText]>) -> Registered {
    let on_disk = files.zip(row.file.as_ref()).map(|(files, file)| {
        let found = files.iter().find(|candidate| candidate.path == **file);
        match found {
            None => "missing",
            Some(found) if found.text == *row.source => "same",
            Some(_) => "changed",
        }
    });
    Registered {
        kind: row.key.kind.as_str().to_owned(),
        name: row.key.name.to_string(),
        version: row.number,
        digest: row.digest.to_string(),
        enabled: row.enabled,
        file: row.file.as_ref().map(ToString::to_string),
        on_disk: on_disk.map(str::to_owned),
        created_by: row.created_by.to_string(),
        updated_at: row.updated_at.to_string(),
    }
}
