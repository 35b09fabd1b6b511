//! An environment's files against what is registered: one plan, carried out file by file.
//!
//! Invariant: a broken file stops nobody. What is registered under its name stays as it is, and the others go on.
//! Invariant: nothing is deleted. What has no file any more is disabled; its versions and runs stay.
//!
//! Deliberately absent: plugins, which are watched and installed by digest ([`crate::folder`]); and starting tool servers: only files of a
//! host's own directories are ever started, whatever is registered.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use caisson_core::definition::{self, Format, Schemas};
use caisson_core::ids::Realm;
use caisson_core::json::Json;
use caisson_core::ports::{NewResource, ResourceKey, ResourceKind, ResourceRow};
use caisson_orchestrator::SaveDefinition;

pub use plan::{Action, Change, FileText, plan};

use crate::api::error::ApiError;
use crate::api::{Api, validate_with};
use crate::env::{Environment, Source, prompt};

/// Who syncs, and how far it may go.
#[derive(Clone, Debug)]
pub struct Sync {
    /// The environment.
    pub realm: Realm,
    /// Who.
    pub actor: Arc<str>,
    /// Only says what would be done.
    pub dry_run: bool,
    /// Whether the files are the host's own: tool servers are registered from nowhere else, since they are programs.
    pub own_files: bool,
}

/// What is registered of an environment.
pub async fn registered(api: &Api, realm: &Realm) -> Result<Vec<ResourceRow>, ApiError> {
    let mut rows = api.resources.all_resources().await?;
    rows.retain(|row| row.key.realm == *realm);
    Ok(rows)
}

/// Compares and, unless it is a dry run, registers. Agents and schemas come first: workflows are checked against them.
pub async fn sync(api: &Api, sync: &Sync, files: &[FileText]) -> Result<Vec<Change>, ApiError> {
    let mut changes = plan(files, &registered(api, &sync.realm).await?);
    if !sync.own_files {
        // Those of the host's own directories are not missing here: they are not sent.
        changes.retain(|change| change.kind != Some(ResourceKind::McpServer) || change.action != Action::Disable);
    }
    changes.sort_by_key(|change| change.kind == Some(ResourceKind::Workflow));
    let agents: BTreeMap<String, Schemas> = changes
        .iter()
        .filter(|change| change.kind == Some(ResourceKind::Agent) && change.action != Action::Disable)
        .map(|change| (change.name.to_string(), change.text.as_deref().map(schemas).unwrap_or_default()))
        .collect();
    let mut refreshed = false;
    for change in &mut changes {
        if change.kind == Some(ResourceKind::Workflow) && !refreshed {
            api.catalog.refresh().await;
            refreshed = true;
        }
        if let Err(problem) = carry_out(api, sync, change, &agents).await? {
            change.action = Action::Broken;
            change.problem = Some(problem);
        }
    }
    api.catalog.refresh().await;
    Ok(changes)
}

/// What an agent takes and gives, by its file; nothing is known of one that does not read.
fn schemas(text: &str) -> Schemas {
    let source = Source { path: "agent.prompt".into(), bytes: text.as_bytes().to_vec() };
    prompt::read(&source).map(|agent| agent.schemas()).unwrap_or_default()
}

/// The inner error is about the file, the outer one about the host.
async fn carry_out(
    api: &Api,
    sync: &Sync,
    change: &Change,
    agents: &BTreeMap<String, Schemas>,
) -> Result<Result<(), String>, ApiError> {
    let Some(kind) = change.kind else { return Ok(Ok(())) };
    if kind == ResourceKind::McpServer && !sync.own_files && change.action != Action::Unchanged {
        let message = "tool servers are programs: a host takes them from its own --env directories only";
        return Ok(Err(message.to_owned()));
    }
    let key = ResourceKey { realm: sync.realm.clone(), kind, name: change.name.clone() };
    match (change.action, &change.text) {
        (Action::Unchanged | Action::Broken, _) | (Action::Create | Action::Update, None) => Ok(Ok(())),
        (Action::Disable, _) => {
            if !sync.dry_run {
                disable(api, &key).await?;
            }
            Ok(Ok(()))
        }
        (Action::Create | Action::Update, Some(text)) => {
            if kind == ResourceKind::Workflow
                && let Err(problem) = save_workflow(api, sync, text, agents).await?
            {
                return Ok(Err(problem));
            }
            if !sync.dry_run {
                let new = NewResource {
                    key,
                    source: text.clone(),
                    file: Some(change.file.clone()),
                    created_by: sync.actor.clone(),
                    at: api.now(),
                };
                api.resources.save_resource(new).await?;
            }
            Ok(Ok(()))
        }
    }
}

async fn disable(api: &Api, key: &ResourceKey) -> Result<(), ApiError> {
    if key.kind == ResourceKind::Workflow {
        api.store().set_definition(&key.realm, &key.name, Some(false), None, api.now()).await?;
    }
    api.resources.set_resource(key, false, api.now()).await?;
    Ok(())
}

async fn save_workflow(
    api: &Api,
    sync: &Sync,
    text: &str,
    agents: &BTreeMap<String, Schemas>,
) -> Result<Result<(), String>, ApiError> {
    let reading = definition::read(text.as_bytes(), Format::Detect);
    let validation = validate_with(api, &sync.realm, &reading, agents).await?;
    let (Some(definition), Some(json), None) = (&reading.definition, &reading.json, validation.errors.first()) else {
        return Ok(Err(first_error(&validation)));
    };
    if sync.dry_run {
        return Ok(Ok(()));
    }
    let id = definition.id.clone();
    let save = SaveDefinition {
        realm: sync.realm.clone(),
        definition: definition.clone(),
        json: Json::of(json),
        actor: sync.actor.clone(),
        must_exist: None,
    };
    if let Err(error) = api.service.save_definition(save).await {
        return Ok(Err(error.to_string()));
    }
    api.store().set_definition(&sync.realm, &id, Some(true), None, api.now()).await?;
    Ok(Ok(()))
}

fn first_error(validation: &crate::api::wire::Validation) -> String {
    let Some(first) = validation.errors.first() else { return "cannot be read".to_owned() };
    let place = match (first.line, first.column) {
        (Some(line), Some(column)) => format!("line {line}, column {column}: "),
        _ => String::new(),
    };
    let more = match validation.errors.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more; see `caisson validate`)", count - 1),
    };
    format!("{place}{}{more}", first.message)
}

/// An environment's text files as they are compared. One that is not UTF-8 is left to be broken by its reader.
pub fn texts(environment: &Environment) -> Vec<FileText> {
    let folders = [
        ("agents", &environment.agents),
        ("workflows", &environment.workflows),
        ("schemas", &environment.schemas),
        ("mcp-servers", &environment.mcp_servers),
    ];
    let files = folders.into_iter().flat_map(|(folder, sources)| sources.iter().map(move |source| (folder, source)));
    files
        .map(|(folder, source)| {
            let name = source.path.file_name().unwrap_or_default().to_string_lossy();
            FileText { path: format!("{folder}/{name}"), text: String::from_utf8_lossy(&source.bytes).into_owned() }
        })
        .collect()
}
