//! Tool servers: what this host's own directories declare, and nothing else that is registered, whoever registered it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use caisson_core::ids::Realm;
use caisson_core::ports::{Clock, NewResource, ResourceKey, ResourceKind, Resources, Secrets, StoreError};
use caisson_orchestrator::FILES_ACTOR;
use caisson_tools::{Config, Guard, ServerSpec, ToolServers};
use parking_lot::Mutex;

use super::{GUARD_COMMAND, own_program};
use crate::api::api_keys::FIRST_TENANT;
use crate::env::{self, Environment, Problem};
use crate::sync::{Action, plan, texts};

/// A server and where its relative paths begin.
type Declared = Vec<(ServerSpec, PathBuf)>;

/// The servers of this host, as its files declare them.
pub(super) struct Connected {
    pub(super) servers: Arc<ToolServers>,
    clock: Arc<dyn Clock>,
    resources: Arc<dyn Resources>,
    /// Of each environment what was read last.
    seen: Mutex<Vec<Seen>>,
}

struct Seen {
    name: String,
    dirs: Vec<PathBuf>,
    sources: Vec<env::Source>,
    declared: Declared,
}

impl Connected {
    /// Declares what the environments' files say. Nothing is started.
    pub(super) fn set_up(
        environments: &[Environment],
        secrets: Arc<dyn Secrets>,
        resources: Arc<dyn Resources>,
        clock: Arc<dyn Clock>,
        problems: &mut Vec<Problem>,
    ) -> std::io::Result<Self> {
        let guard = own_program().map(|program| Guard { program, args: vec![GUARD_COMMAND.to_owned()] });
        if guard.is_none() {
            tracing::warn!(
                "this program is not found: what tool servers start themselves may outlive a host that is killed"
            );
        }
        let servers = Arc::new(ToolServers::start(Config { guard, ..Config::new(secrets) })?);
        let mut seen = Vec::new();
        for environment in environments {
            // What is wrong in a file is told where it is registered.
            let (declared, twice) = declared(&environment.mcp_servers, &Declared::new());
            problems.extend(twice);
            servers.set_servers(&realm(&environment.name), declared.clone());
            seen.push(Seen {
                name: environment.name.clone(),
                dirs: environment.dirs.clone(),
                sources: environment.mcp_servers.clone(),
                declared,
            });
        }
        Ok(Self { servers, clock, resources, seen: Mutex::new(seen) })
    }

    /// Looks at the files again. Blocks while it reads them.
    fn changed(&self) -> Vec<Environment> {
        let mut changed = Vec::new();
        for seen in self.seen.lock().iter_mut() {
            let (environment, _) = env::read_servers(&seen.name, &seen.dirs);
            if environment.mcp_servers == seen.sources {
                continue;
            }
            let (declared, problems) = declared(&environment.mcp_servers, &seen.declared);
            for problem in problems {
                tracing::warn!(file = %problem.path.display(), reason = ?problem.message, "a tool server is left out");
            }
            self.servers.set_servers(&realm(&seen.name), declared.clone());
            (seen.sources, seen.declared) = (environment.mcp_servers.clone(), declared);
            changed.push(environment);
        }
        changed
    }

    /// Takes in what was saved since, and registers it.
    pub(super) async fn look(self: &Arc<Self>) -> Result<(), StoreError> {
        let own = Arc::clone(self);
        let Ok(changed) = tokio::task::spawn_blocking(move || own.changed()).await else { return Ok(()) };
        for environment in changed {
            self.register(&environment).await?;
        }
        Ok(())
    }

    async fn register(&self, environment: &Environment) -> Result<(), StoreError> {
        let realm = realm(&environment.name);
        let mut rows = self.resources.all_resources().await?;
        rows.retain(|row| row.key.realm == realm && row.key.kind == ResourceKind::McpServer);
        for change in plan(&texts(environment), &rows) {
            let key = ResourceKey { realm: realm.clone(), kind: ResourceKind::McpServer, name: change.name };
            match (change.action, change.text) {
                (Action::Create | Action::Update, Some(source)) => {
                    let at = self.clock.now();
                    let new = NewResource { key, source, file: Some(change.file), created_by: FILES_ACTOR.into(), at };
                    self.resources.save_resource(new).await?;
                }
                (Action::Disable, _) => {
                    self.resources.set_resource(&key, false, self.clock.now()).await?;
                }
                (Action::Broken, _) => {
                    tracing::warn!(file = %change.file, reason = ?change.problem, "a file of tool servers is broken: what it declared before stays");
                }
                (Action::Create | Action::Update | Action::Unchanged, _) => {}
            }
        }
        Ok(())
    }
}

/// What files declare. A broken one declares what it did `before`; a name that is taken is a problem.
fn declared(sources: &[env::Source], before: &Declared) -> (Declared, Vec<Problem>) {
    let (mut declared, mut problems) = (Declared::new(), Vec::new());
    for source in sources {
        let stem = source.path.file_stem().unwrap_or_default().to_string_lossy();
        let dir = source.path.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        let found: Declared = match ServerSpec::read(&stem, &String::from_utf8_lossy(&source.bytes)) {
            Ok(specs) => specs.into_iter().map(|spec| (spec, dir.to_owned())).collect(),
            Err(_) => {
                let file = format!("mcp-servers/{stem}.json");
                before.iter().filter(|(spec, of)| spec.file == file && of == dir).cloned().collect()
            }
        };
        for (spec, dir) in found {
            match declared.iter().find(|(other, _)| other.name == spec.name) {
                None => declared.push((spec, dir)),
                Some((other, _)) => {
                    let message = format!("tool server '{}' is declared in {} already", spec.name, other.file);
                    problems.push(Problem::new(&source.path, message));
                }
            }
        }
    }
    (declared, problems)
}

fn realm(environment: &str) -> Realm {
    Realm::new(FIRST_TENANT, environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> env::Source {
        env::Source { path: path.into(), bytes: text.as_bytes().to_vec() }
    }

    #[test]
    fn names_are_taken_once_and_a_broken_file_keeps_what_it_declared() {
        let one =
            source("/e/mcp-servers/one.json", r#"{"mcpServers": {"a": {"command": "x"}, "b": {"command": "x"}}}"#);
        let two = source("/e/mcp-servers/two.json", r#"{"name": "a", "command": "y"}"#);
        let (first, problems) = declared(&[one, two.clone()], &Declared::new());
        let names = |declared: &Declared| declared.iter().map(|(spec, _)| spec.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&first), ["a", "b"]);
        assert_eq!(first[0].1, Path::new("/e"));
        assert!(problems[0].message.contains("'a' is declared in mcp-servers/one.json already"), "{problems:?}");
        let broken = source("/e/mcp-servers/one.json", "{");
        assert_eq!(names(&declared(&[broken, two.clone()], &first).0), ["a", "b"]);
        assert_eq!(names(&declared(&[two], &first).0), ["a"], "what has no file any more is gone");
    }
}
