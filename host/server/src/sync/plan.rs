//! What a directory's files change in what is registered. Pure: texts in, changes out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use caisson_core::definition::{self, Format};
use caisson_core::json::sha256_hex;
use caisson_core::ports::{ResourceKind, ResourceRow};
use caisson_core::schema::Validator;
use caisson_tools::ServerSpec;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::env::{Source, has_end, is_workflow, prompt};

/// A text file of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileText {
    /// Below the environment's directory, for example `agents/triage.prompt`.
    pub path: String,
    /// What it holds.
    pub text: String,
}

/// What becomes of a file, or of what came from one that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is new.
    Create,
    /// It has another text, or was disabled: a version of it is in force.
    Update,
    /// It is registered as it is.
    Unchanged,
    /// Its file is gone: it is disabled, its history stays.
    Disable,
    /// It cannot be used; what is registered stays as it is.
    Broken,
}

impl Action {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Unchanged => "unchanged",
            Self::Disable => "disable",
            Self::Broken => "broken",
        }
    }
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it is; `None` if the file's name does not say.
    pub kind: Option<ResourceKind>,
    /// Its name, as far as it is known.
    pub name: Arc<str>,
    /// The file.
    pub file: Arc<str>,
    /// What becomes of it.
    pub action: Action,
    /// Its text; `None` if its file is gone.
    pub text: Option<Arc<str>>,
    /// Why it is broken.
    pub problem: Option<String>,
}

/// What kind of thing a file holds, by its place and name.
fn kind_of(path: &str) -> Option<ResourceKind> {
    let (folder, name) = path.split_once('/')?;
    match folder {
        "agents" if has_end(name, "prompt") => Some(ResourceKind::Agent),
        "workflows" if is_workflow(name) => Some(ResourceKind::Workflow),
        "schemas" if has_end(name, "json") => Some(ResourceKind::Schema),
        "mcp-servers" if has_end(name, "json") => Some(ResourceKind::McpServer),
        _ => None,
    }
}

/// Compares files with what is registered of the same environment. What did not come from a file is left alone.
pub fn plan(files: &[FileText], registered: &[ResourceRow]) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut named: BTreeMap<(ResourceKind, Arc<str>), Arc<str>> = BTreeMap::new();
    let mut broken: BTreeSet<&str> = BTreeSet::new();
    for file in files {
        let mut change = change(file, registered);
        if let (Some(kind), Action::Create | Action::Update | Action::Unchanged) = (change.kind, change.action)
            && let Some(other) = named.insert((kind, change.name.clone()), change.file.clone())
        {
            change.action = Action::Broken;
            change.problem = Some(format!("there is another {} '{}' in {other}", kind.as_str(), change.name));
            named.insert((kind, change.name.clone()), other);
        }
        if change.action == Action::Broken {
            broken.insert(&file.path);
        }
        changes.push(change);
    }
    for row in registered.iter().filter(|row| row.enabled) {
        let Some(file) = &row.file else { continue };
        let stays = named.contains_key(&(row.key.kind, row.key.name.clone())) || broken.contains(&**file);
        if !stays {
            changes.push(Change {
                kind: Some(row.key.kind),
                name: row.key.name.clone(),
                file: file.clone(),
                action: Action::Disable,
                text: None,
                problem: None,
            });
        }
    }
    changes
}

fn change(file: &FileText, registered: &[ResourceRow]) -> Change {
    let path: Arc<str> = file.path.as_str().into();
    let kind = kind_of(&file.path);
    let named = match kind {
        Some(kind) => name(kind, file),
        None => Err("no file of an environment: expected agents/*.prompt, workflows/*.workflow.{yaml,yml,json}, schemas/*.json or \
                     mcp-servers/*.json"
            .to_owned()),
    };
    let text: Option<Arc<str>> = Some(file.text.as_str().into());
    match named {
        Err(problem) => {
            let known = registered.iter().find(|row| row.file.as_deref() == Some(&*path));
            let name = known.map_or_else(|| path.clone(), |row| row.key.name.clone());
            Change { kind, name, file: path, action: Action::Broken, text, problem: Some(problem) }
        }
        Ok(name) => {
            let digest = sha256_hex(file.text.as_bytes());
            let known = registered.iter().find(|row| Some(row.key.kind) == kind && *row.key.name == *name);
            let action = match known {
                None => Action::Create,
                Some(row) if *row.digest == *digest && row.enabled && row.file.as_deref() == Some(&*path) => {
                    Action::Unchanged
                }
                Some(_) => Action::Update,
            };
            Change { kind, name: name.into(), file: path, action, text, problem: None }
        }
    }
}

/// The name that a file gives itself, if it reads.
fn name(kind: ResourceKind, file: &FileText) -> Result<String, String> {
    let stem = file.path.rsplit_once('/').map_or(&*file.path, |(_, name)| name);
    match kind {
        ResourceKind::Agent => {
            let source = Source { path: file.path.clone().into(), bytes: file.text.clone().into_bytes() };
            prompt::read(&source).map(|agent| agent.name).map_err(|problem| problem.message)
        }
        ResourceKind::Workflow => {
            let reading = definition::read(file.text.as_bytes(), Format::Detect);
            match (&reading.definition, reading.diagnostics.iter().find(|found| found.is_error())) {
                (Some(definition), None) => Ok(definition.id.to_string()),
                (_, Some(first)) => Err(format!("line {}, column {}: {}", first.line, first.column, first.message)),
                (None, None) => Err("cannot be read".to_owned()),
            }
        }
        ResourceKind::Schema => {
            let schema: serde_json::Value = serde_json::from_str(&file.text).map_err(|error| error.to_string())?;
            Validator::compile(&schema)?;
            Ok(stem.trim_end_matches(".json").to_owned())
        }
        ResourceKind::McpServer => {
            let stem = stem.trim_end_matches(".json");
            ServerSpec::read(stem, &file.text).map(|_| stem.to_owned()).map_err(|error| error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use caisson_core::ids::Realm;
    use caisson_core::ports::ResourceKey;
    use caisson_core::time::Timestamp;

    use super::*;

    const AGENT: &str = "---\nmodel: a/b\n---\nLook.";
    const WORKFLOW: &str = "id: greet\nstates:\n- {name: a, type: inject, data: 1, end: true}\n";

    fn file(path: &str, text: &str) -> FileText {
        FileText { path: path.to_owned(), text: text.to_owned() }
    }

    fn row(kind: ResourceKind, name: &str, text: &str, file: Option<&str>, enabled: bool) -> ResourceRow {
        ResourceRow {
            key: ResourceKey { realm: Realm::new("t", "e"), kind, name: name.into() },
            number: 1,
            digest: sha256_hex(text.as_bytes()).into(),
            source: text.into(),
            enabled,
            file: file.map(Into::into),
            created_by: "x".into(),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    fn lines(files: &[FileText], registered: &[ResourceRow]) -> Vec<String> {
        let changes = plan(files, registered);
        changes.iter().map(|change| format!("{} {} ({})", change.action.as_str(), change.name, change.file)).collect()
    }

    #[test]
    fn files_are_compared_with_what_is_registered() {
        let files = [file("agents/a.prompt", AGENT), file("workflows/g.workflow.yaml", WORKFLOW)];
        assert_eq!(lines(&files, &[]), ["create a (agents/a.prompt)", "create greet (workflows/g.workflow.yaml)"]);
        let same = row(ResourceKind::Agent, "a", AGENT, Some("agents/a.prompt"), true);
        assert_eq!(lines(&files[..1], std::slice::from_ref(&same)), ["unchanged a (agents/a.prompt)"]);
        for other in [
            ResourceRow { digest: "0".into(), ..same.clone() },
            ResourceRow { enabled: false, ..same.clone() },
            ResourceRow { file: Some("agents/old.prompt".into()), ..same.clone() },
            ResourceRow { file: None, ..same.clone() },
        ] {
            assert_eq!(lines(&files[..1], &[other]), ["update a (agents/a.prompt)"]);
        }
    }

    #[test]
    fn what_came_from_a_file_that_is_gone_is_disabled_and_nothing_else() {
        let registered = [
            row(ResourceKind::Agent, "a", AGENT, Some("agents/a.prompt"), true),
            row(ResourceKind::Agent, "off", AGENT, Some("agents/off.prompt"), false),
            row(ResourceKind::Agent, "api", AGENT, None, true),
        ];
        assert_eq!(lines(&[], &registered), ["disable a (agents/a.prompt)"]);
    }

    #[test]
    fn a_broken_file_stops_nobody_and_takes_nothing_away() {
        let registered = [row(ResourceKind::Agent, "named", AGENT, Some("agents/a.prompt"), true)];
        let files = [
            file("agents/a.prompt", "---\nmodel: a/b\n"),
            file("agents/b.prompt", AGENT),
            file("workflows/w.workflow.yaml", "id: 1\n"),
            file("schemas/s.json", "{"),
            file("notes.txt", "x"),
        ];
        let changes = plan(&files, &registered);
        let seen: Vec<_> = changes.iter().map(|change| (change.action, &*change.name)).collect();
        assert_eq!(
            seen,
            [
                (Action::Broken, "named"),
                (Action::Create, "b"),
                (Action::Broken, "workflows/w.workflow.yaml"),
                (Action::Broken, "schemas/s.json"),
                (Action::Broken, "notes.txt"),
            ]
        );
        assert!(changes.iter().all(|change| change.problem.is_some() == (change.action == Action::Broken)));
    }

    #[test]
    fn two_files_cannot_give_themselves_one_name() {
        let named = "---\nmodel: a/b\nmetadata: {name: same}\n---\n";
        let changes = plan(&[file("agents/a.prompt", named), file("agents/b.prompt", named)], &[]);
        assert_eq!((changes[0].action, changes[1].action), (Action::Create, Action::Broken));
        assert!(changes[1].problem.as_deref().is_some_and(|problem| problem.contains("agents/a.prompt")));
    }
}
