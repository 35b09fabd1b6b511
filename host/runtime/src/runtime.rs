use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use caisson_core::error::{Category, Failure};
use caisson_core::ids::Realm;
use caisson_core::json::Json;
use caisson_core::plugin::{Grants, Installed, Package};
use caisson_core::ports::{ActionInfo, ActionRunner, Compilation, Entry, Invocation, PluginHost};
use parking_lot::RwLock;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use wasmtime::component::Linker;

use crate::builtin::{self, BuiltIn};
use crate::cache::Cache;
use crate::capabilities;
use crate::config::RuntimeConfig;
use crate::engine::{self, Allocation, Pool};
use crate::entry::{self, BRIEF_BYTES_MAX, Call, Measured};
use crate::loader::Loader;
use crate::package::{self, Error};
use crate::plugin::{Code, Compiled, Version};
use crate::registry::Registry;
use crate::state::Shared;
use crate::threads::{Guests, Lost, Ticker};

/// The plugin host.
pub struct Runtime {
    loader: Arc<Loader>,
    registry: RwLock<Registry>,
    /// Built-in plugins by id: always loaded.
    built_in: HashMap<String, Arc<Compiled>>,
    shared: Arc<Shared>,
    allocation: Allocation,
    slots: Semaphore,
    // Before the engine's last handle goes: guests first, then what ticks for them.
    guests: Guests,
    ticker: Arc<Ticker>,
}

/// Why the runtime did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The engine cannot be made.
    #[error("failed to start wasmtime: {0}")]
    Engine(wasmtime::Error),
    /// Threads cannot be started.
    #[error("failed to start the guests' threads: {0}")]
    Threads(std::io::Error),
    /// A built-in plugin does not load.
    #[error("failed to load a built-in plugin: {0}")]
    BuiltIn(Error),
}

impl Runtime {
    /// Starts the engine and its threads and loads the built-in plugins: seconds if they have to be compiled, else
    /// milliseconds. Blocks; call it off an async runtime's threads.
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is used once, and this is where it ends")]
    pub fn new(config: RuntimeConfig) -> Result<Self, StartError> {
        let (engine, allocation) =
            engine::build(config.slots, config.pooled, config.fuel).map_err(StartError::Engine)?;
        tracing::info!(?allocation, "wasmtime is ready");
        let mut linker = Linker::new(&engine);
        capabilities::link(&mut linker).map_err(StartError::Engine)?;
        let cache = config.cache_dir.as_ref().and_then(|directory| {
            Cache::open(directory)
                .inspect_err(|error| {
                    tracing::warn!(%error, directory = %directory.display(), "no cache of compiled code: plugins are compiled at every start");
                })
                .ok()
        });
        let ticker = Arc::new(Ticker::start(&engine).map_err(StartError::Threads)?);
        let guests = Guests::start(config.guest_threads).map_err(StartError::Threads)?;
        let javascript = builtin::javascript();
        let loader = Arc::new(Loader::new(&config, engine, linker, cache, guests.spawner(), javascript));
        let built_in =
            if config.built_ins { load_built_in(&loader, &guests).map_err(StartError::BuiltIn)? } else { Vec::new() };
        let registry = RwLock::new(Registry::new(built_in.iter().map(|(package, _)| Arc::clone(package))));
        Ok(Self {
            built_in: built_in.into_iter().map(|(package, compiled)| (package.id.clone(), compiled)).collect(),
            slots: Semaphore::new(config.slots as usize),
            shared: Arc::new(Shared::new(&config)),
            loader,
            registry,
            allocation,
            guests,
            ticker,
        })
    }

    /// Inspects a package, compiles it and puts it in force in a realm: what a tool or a test does that has no service
    /// for plugins. The versions before it stay callable for whoever names their digest.
    pub async fn load(
        &self,
        realm: &Realm,
        bytes: &Bytes,
        grants: Grants,
        config: Json,
    ) -> Result<Arc<Package>, Failure> {
        let package = Arc::new(PluginHost::inspect(self, bytes)?);
        self.prepare(&package, bytes).await?;
        self.registry.write().add(realm, Arc::clone(&package), grants, config)?;
        Ok(package)
    }

    /// Runs one entry as [`ActionRunner::run`] does, and says how many instructions of wasm it took if the runtime
    /// counts them.
    pub async fn run_measured(&self, invocation: Invocation) -> Measured {
        self.run_configured(invocation, None).await
    }

    /// Runs one entry as [`ActionRunner::run`] does, with another configuration than the operator's: for an action that
    /// is tried.
    pub async fn run_with(&self, invocation: Invocation, config: Option<Json>) -> Entry {
        self.run_configured(invocation, config).await.entry
    }

    async fn run_configured(&self, invocation: Invocation, config: Option<Json>) -> Measured {
        let deadline = invocation.deadline_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
        let Some(version) = self.registry.read().pinned(&invocation.realm, &invocation.plugin) else {
            let pinned = &invocation.plugin;
            let message = format!(
                "plugin {}@{} (sha256 {}) is not installed in environment '{}'",
                pinned.id, pinned.version, pinned.digest, invocation.realm.environment
            );
            return entry::failed(Failure::new(Category::ActionError, "PLUGIN_NOT_LOADED", message)).into();
        };
        let loading = self.ready(&version, &invocation);
        let (compiled, code) = match timeout_at(deadline, loading).await {
            Some(Ok(ready)) => ready,
            Some(Err(failure)) => return entry::failed(failure).into(),
            None => return entry::failed(entry::timed_out(&version.package)).into(),
        };
        let call = Call {
            effective: version.effective(invocation.narrowed.clone()),
            limits: compiled.limits,
            shared: Arc::clone(&self.shared),
            invocation,
            deadline,
        };
        let config = config.unwrap_or_else(|| version.config.clone());
        self.enter(compiled, code, config, call).await
    }

    /// The version's schemas and limits, and the code that the call runs.
    async fn ready(&self, version: &Version, call: &Invocation) -> Result<(Arc<Compiled>, Arc<Code>), Failure> {
        if let Some(compiled) = self.built_in.get(&version.package.id).filter(|_| version.built_in) {
            // In a build without the engine the script plugin itself says so.
            let code = if runs_javascript(call) && self.loader.has_javascript() {
                self.loader.javascript().await?
            } else {
                Arc::clone(&compiled.code)
            };
            return Ok((Arc::clone(compiled), code));
        }
        let compiled = self.loader.load(&version.package).await?;
        let code = Arc::clone(&compiled.code);
        Ok((compiled, code))
    }

    /// Whether instances come from a pool.
    pub fn allocation(&self) -> Allocation {
        self.allocation
    }

    /// How full the pool of instances is; `None` where there is none.
    pub fn pool(&self) -> Option<Pool> {
        engine::pool_of(&self.loader.engine, self.allocation)
    }

    /// What the evaluator calls.
    pub(crate) fn script(&self) -> Option<(Arc<Package>, Arc<Compiled>)> {
        let package = self.registry.read().built_in().into_iter().find(|package| package.id == builtin::SCRIPT)?;
        Some((package, Arc::clone(self.built_in.get(builtin::SCRIPT)?)))
    }

    /// Runs one entry: see [`Guests::run`] for where.
    pub(crate) async fn enter(&self, compiled: Arc<Compiled>, code: Arc<Code>, config: Json, call: Call) -> Measured {
        let Ok(_slots) = self.slots.acquire_many(code.slots).await else {
            return entry::failed(stopped("the plugin host is shutting down")).into();
        };
        let entered = Arc::clone(&compiled);
        let action = entered.named(&call.effective.package().id, &call.invocation.action);
        // What is large takes the host long to check, before any tick.
        let habit = action.map(|action| &action.habit).filter(|_| call.invocation.input.get().len() <= BRIEF_BYTES_MAX);
        // The ticking ends with the guest and not with the caller: an aborted guest is only reached by a tick.
        let ticking = self.ticker.tick();
        let running = Box::pin(async move {
            let entry = entry::run(&compiled, &code, &config, call).await;
            drop(ticking);
            entry
        });
        match self.guests.run(habit, running).await {
            Ok(measured) => measured,
            Err(Lost::Stopped) => entry::failed(stopped("the plugin host is shutting down")).into(),
            Err(error @ Lost::Panicked(_)) => {
                tracing::error!(%error, "an entry panicked in the host");
                entry::failed(stopped("the plugin host has a fault: see its log")).into()
            }
        }
    }
}

async fn timeout_at<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, work).await.ok(),
        None => Some(work.await),
    }
}

fn stopped(message: &str) -> Failure {
    Failure::new(Category::TransientError, "PLUGIN_HOST_STOPPED", message)
}

/// Whether it is a script step in JavaScript, which another component runs than those in Starlark. The step's identity,
/// grants and limits are those of the script plugin all the same.
fn runs_javascript(call: &Invocation) -> bool {
    #[derive(serde::Deserialize)]
    struct Input {
        language: Option<String>,
    }
    let script = call.action.split_once('.') == Some((builtin::SCRIPT, builtin::RUN));
    script
        && serde_json::from_str::<Input>(call.input.get())
            .is_ok_and(|input| input.language.is_some_and(|language| language.eq_ignore_ascii_case("javascript")))
}

type Loaded = (Arc<Package>, Arc<Compiled>);

/// Loads the built-in plugins beside each other: one of them takes most of the time.
fn load_built_in(loader: &Loader, guests: &Guests) -> Result<Vec<Loaded>, Error> {
    let load = async |one: BuiltIn| -> Result<Loaded, Error> {
        let package = Arc::new(package::inspect(one.bytes)?);
        let compiled = loader.built_in(&one, &package).await?;
        Ok((package, Arc::new(compiled)))
    };
    let all = async || futures_util::future::join_all(builtin::plugins().into_iter().map(load)).await;
    let spawner = guests.spawner();
    // On a thread of its own, because nobody may wait on one of an async runtime.
    let loaded = std::thread::scope(|scope| scope.spawn(|| spawner.block_on(all())).join());
    match loaded {
        Ok(loaded) => loaded.into_iter().collect(),
        Err(_) => Err(Error::Compile("the loader panicked".to_owned())),
    }
}

#[async_trait]
impl ActionRunner for Runtime {
    fn resolve(&self, realm: &Realm, action: &str) -> Option<ActionInfo> {
        self.registry.read().resolve(realm, action)
    }

    fn actions(&self, realm: &Realm) -> Vec<ActionInfo> {
        self.registry.read().actions(realm)
    }

    async fn run(&self, invocation: Invocation) -> Entry {
        self.run_measured(invocation).await.entry
    }
}

#[async_trait]
impl PluginHost for Runtime {
    fn inspect(&self, bytes: &[u8]) -> Result<Package, Failure> {
        let package = package::inspect(bytes)?;
        package::check_reserved(&package.id)?;
        Ok(package)
    }

    async fn prepare(&self, package: &Package, bytes: &Bytes) -> Result<(), Failure> {
        self.loader.prepare(package, bytes).await
    }

    fn compilation(&self, digest: &str) -> Compilation {
        let package = self.registry.read().package(digest);
        self.loader.compilation(digest, package.as_deref())
    }

    fn install(&self, realm: &Realm, id: &str, versions: Vec<Installed>) -> Result<(), Failure> {
        Ok(self.registry.write().install(realm, id, versions)?)
    }

    fn built_in(&self) -> Vec<Arc<Package>> {
        self.registry.read().built_in()
    }
}
