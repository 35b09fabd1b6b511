//! A plugin in this process: the real runtime with its limits and grants, and a stage instead of a host.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use caisson_core::error::{Category, Failure};
use caisson_core::ids::{Realm, RunId, StepId};
use caisson_core::json::Json;
use caisson_core::plugin::{Grants, Package};
use caisson_core::ports::{ActionRunner, Entry, Invocation, KvScope, Outcome, PluginRef, Resumption};
use caisson_core::time::Timestamp;
use caisson_runtime::model::Models;
use caisson_runtime::{Compiler, Runtime, RuntimeConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::stage::Current;
use crate::app::default_cache_dir;
use crate::cli::output::note;

/// Instances at once: an entry, and what it may need beside it.
const SLOTS: u32 = 4;
/// Who waits for longer wants to know what for.
const PATIENCE: Duration = Duration::from_secs(1);
const RANDOM_KEY: [u8; 32] = *b"the same random numbers each run";

/// How it is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// Whether HTTP and tools are answered by the stage, and nothing leaves this machine.
    pub mocked: bool,
    /// Whether fuel is counted.
    pub fuel: bool,
}

/// A plugin in this process.
pub struct Local {
    /// What it says of itself.
    pub package: Arc<Package>,
    /// What is around it.
    pub current: Arc<Current>,
    /// Models and agents.
    pub models: Arc<Models>,
    runtime: Arc<Runtime>,
    bytes: Bytes,
    files: TempDir,
}

/// What stands around a call, as the plugin sees it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The workflow's id.
    pub workflow: String,
    /// Its version.
    pub workflow_version: String,
    /// The run.
    pub run: String,
    /// The step.
    pub step: String,
    /// The state.
    pub state: String,
    /// From 1.
    pub attempt: u32,
    /// For outside systems.
    pub idempotency_key: String,
    /// The attempt's time.
    pub deadline_ms: Option<u64>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            workflow: "local".to_owned(),
            workflow_version: "1".to_owned(),
            run: "run-1".to_owned(),
            step: "step-1".to_owned(),
            state: "state-1".to_owned(),
            attempt: 1,
            idempotency_key: "run-1:step-1".to_owned(),
            deadline_ms: None,
        }
    }
}

/// Which entry of a call.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// From 0.
    pub entry: u32,
    /// The guest's clock.
    pub now: Timestamp,
    /// Why it runs again.
    pub resumed: Option<Resumption>,
}

/// What came of an entry.
pub struct Ran {
    /// Outcome and use.
    pub entry: Entry,
    /// What it executed, if that is counted.
    pub fuel: Option<u64>,
}

impl Local {
    /// Starts a runtime for one component; code that was compiled before is taken from where hosts keep it.
    pub async fn start(bytes: Vec<u8>, current: Arc<Current>, setup: Setup) -> anyhow::Result<Self> {
        let package = Arc::new(caisson_runtime::inspect(&bytes)?);
        let files = tempfile::tempdir().context("failed to make a temporary directory")?;
        let models = Arc::new(Models::new());
        let runtime = runtime(config(files.path(), &current, Arc::clone(&models), setup)).await?;
        Ok(Self { package, current, models, runtime, bytes: bytes.into(), files })
    }

    /// Installs it with those grants and that configuration, instead of those before.
    pub async fn place(&self, grants: Grants, config: Json) -> anyhow::Result<()> {
        let realm = realm();
        let loading = self.runtime.load(&realm, &self.bytes, grants, config);
        let loaded = or_say(loading, "compiling: what comes of it is kept for the next time").await;
        loaded.map(drop).map_err(|failure| anyhow::anyhow!("{} ({})", failure.message, failure.code))
    }

    /// An action of its by its name, with the plugin's id or without.
    pub fn action(&self, name: &str) -> anyhow::Result<Arc<str>> {
        let id = &self.package.id;
        let own = name.strip_prefix(id.as_str()).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name);
        if self.package.actions.iter().any(|action| action.name == own) {
            return Ok(format!("{id}.{own}").into());
        }
        let names: Vec<_> = self.package.actions.iter().map(|action| action.name.as_str()).collect();
        bail!("plugin '{id}' has no action '{name}': it has {}", names.join(", "))
    }

    /// Runs one entry of a step.
    pub async fn enter(&self, action: &Arc<str>, input: &Json, place: &Place, turn: Turn) -> anyhow::Result<Ran> {
        let info = self.runtime.resolve(&realm(), action).with_context(|| format!("'{action}' is not installed"))?;
        let invocation = invocation(Arc::clone(action), info.plugin, input, place, turn);
        let measured = self.runtime.run_measured(invocation).await;
        Ok(Ran { entry: measured.entry, fuel: measured.fuel })
    }

    /// Where its small state is kept.
    pub fn kv_scope(&self, place: &Place) -> KvScope {
        KvScope { realm: realm(), plugin: self.package.id.as_str().into(), workflow: place.workflow.as_str().into() }
    }

    /// Where its files lie.
    pub fn artifacts_dir(&self) -> PathBuf {
        artifacts_dir(self.files.path())
    }
}

/// The realm that everything here happens in.
pub fn realm() -> Realm {
    Realm::new("local", "default")
}

/// An entry of a step as a host would make it, under a claim, so that it has a journal.
fn invocation(action: Arc<str>, plugin: PluginRef, input: &Json, place: &Place, turn: Turn) -> Invocation {
    Invocation {
        realm: realm(),
        action,
        plugin,
        workflow: place.workflow.as_str().into(),
        workflow_version: place.workflow_version.as_str().into(),
        run: RunId::new(place.run.as_str()),
        step: StepId::new(place.step.as_str()),
        number: 1,
        state: place.state.as_str().into(),
        attempt: place.attempt,
        entry: turn.entry,
        claim: Some(1),
        narrowed: None,
        idempotency_key: place.idempotency_key.as_str().into(),
        deadline_ms: place.deadline_ms,
        now: turn.now,
        traceparent: None,
        input: input.clone(),
        resumed: turn.resumed,
    }
}

fn artifacts_dir(files: &Path) -> PathBuf {
    files.join("artifacts")
}

fn config(files: &Path, current: &Arc<Current>, models: Arc<Models>, setup: Setup) -> RuntimeConfig {
    let config = RuntimeConfig {
        cache_dir: Some(default_cache_dir(files)),
        compiler: Compiler::InProcess,
        slots: SLOTS,
        guest_threads: 1,
        fuel: setup.fuel,
        built_ins: false,
        journal: current.clone(),
        secrets: current.clone(),
        artifacts_dir: Some(artifacts_dir(files)),
        random_key: RANDOM_KEY,
        models,
        log_sink: current.clone(),
        ..RuntimeConfig::default()
    };
    if setup.mocked {
        return RuntimeConfig {
            resolver: current.clone(),
            transport: Some(current.clone()),
            tools: current.clone(),
            ..config
        };
    }
    config
}

/// Waits, and says what for if that takes a while.
async fn or_say<T>(what: impl Future<Output = T>, words: &str) -> T {
    let mut what = std::pin::pin!(what);
    match tokio::time::timeout(PATIENCE, &mut what).await {
        Ok(done) => done,
        Err(_) => {
            note(words);
            what.await
        }
    }
}

/// Starting an engine blocks.
async fn runtime(config: RuntimeConfig) -> anyhow::Result<Arc<Runtime>> {
    let runtime = tokio::task::spawn_blocking(move || Runtime::new(config)).await??;
    Ok(Arc::new(runtime))
}

/// The action that an SDK answers with schemas; no manifest names it.
const SCHEMAS: &str = "caisson:schemas";
/// What the engines of scripts answer.
const UNKNOWN_ACTION: &str = "UNKNOWN_ACTION";

/// Whether a script starts at all: it is asked for an action that it does not have.
pub async fn starts(bytes: &[u8]) -> anyhow::Result<()> {
    match asked_for_schemas(bytes).await? {
        Ok(_) => Ok(()),
        Err(failure) if failure.code == UNKNOWN_ACTION => Ok(()),
        Err(failure) => Err(does_not_start(&failure)),
    }
}

/// What a plugin says its types look like, run without any grant; `None` if it says nothing. Also shows whether it starts at all.
pub async fn derived_schemas(bytes: &[u8]) -> anyhow::Result<Option<Value>> {
    match asked_for_schemas(bytes).await? {
        Ok(Outcome::Done(answer)) => Ok(Some(answer.value()).filter(describes)),
        Err(failure) if failure.category == Category::LimitError || failure.code.starts_with("PLUGIN_") => {
            Err(does_not_start(&failure))
        }
        Ok(Outcome::Suspend(_)) | Err(_) => Ok(None),
    }
}

async fn asked_for_schemas(bytes: &[u8]) -> anyhow::Result<Result<Outcome, Failure>> {
    let local = Local::start(bytes.to_vec(), Arc::default(), Setup { mocked: true, fuel: false }).await?;
    local.place(Grants::default(), Json::of(&json!({}))).await?;
    let id = &local.package.id;
    let named = local.package.actions.first().context("a plugin has actions")?;
    let plugin = local.runtime.resolve(&realm(), &format!("{id}.{}", named.name)).context("it is installed")?.plugin;
    let action: Arc<str> = format!("{id}.{SCHEMAS}").into();
    let invocation = invocation(action, plugin, &Json::null(), &Place::default(), Turn::default());
    Ok(local.runtime.run(invocation).await.result)
}

fn does_not_start(failure: &Failure) -> anyhow::Error {
    anyhow::anyhow!("the plugin does not start: {} ({})", failure.message, failure.code)
}

/// Whether an answer is schemas by action, as the SDK gives them. One who did not use it answers what they like to an action that they do not
/// have.
fn describes(answer: &Value) -> bool {
    let schemas = |value: &Value| {
        let Some(map) = value.as_object() else { return false };
        let known = |key: &String| matches!(key.as_str(), "input" | "output" | "config");
        map.contains_key("input") && map.contains_key("output") && map.keys().all(known)
    };
    answer.as_object().is_some_and(|map| map.values().all(schemas))
}
