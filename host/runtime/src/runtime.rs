use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use caisson_core::error::{Category, Failure};
use caisson_core::ids::Realm;
use caisson_core::ports::{ActionInfo, ActionRunner, Entry, Invocation};
use parking_lot::RwLock;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use wasmtime::component::Linker;

use crate::cache::Cache;
use crate::config::RuntimeConfig;
use crate::engine::{self, Allocation};
use crate::entry::{self, Surroundings};
use crate::limits::Limits;
use crate::loader::Loader;
use crate::package::{self, PackageInfo};
use crate::plugin::Plugin;
use crate::registry::Registry;
use crate::threads::{Guests, Ticker};
use crate::{builtin, capabilities};

/// The plugin host.
pub struct Runtime {
    config: RuntimeConfig,
    loader: Loader,
    registry: RwLock<Registry>,
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
    BuiltIn(package::Error),
}

/// A file of a folder that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It does not read.
    #[error("failed to read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It was refused.
    #[error("failed to load {path}: {source}")]
    Refused {
        /// Which.
        path: PathBuf,
        /// Why.
        source: package::Error,
    },
}

impl Runtime {
    /// Starts the engine and its threads and loads the built-in plugins: seconds if they have to be compiled, else milliseconds.
    /// Blocks; call it off an async runtime's threads.
    pub fn new(config: RuntimeConfig) -> Result<Self, StartError> {
        let (engine, allocation) = engine::build(config.slots, config.pooled).map_err(StartError::Engine)?;
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
        let loader = Loader { engine, linker, cache };
        let registry = RwLock::new(built_in(&loader, &config).map_err(StartError::BuiltIn)?);
        let slots = Semaphore::new(config.slots as usize);
        Ok(Self { config, loader, registry, allocation, slots, guests, ticker })
    }

    /// Loads a third party's component: new runs that name its actions use it, runs that pinned an older one keep that. Compiles;
    /// call it off an async runtime's threads.
    pub fn load(&self, bytes: &[u8]) -> Result<PackageInfo, package::Error> {
        let plugin = Arc::new(self.loader.load(bytes, &self.config)?);
        let info = plugin.info.clone();
        self.registry.write().add(plugin)?;
        Ok(info)
    }

    /// Loads every `*.wasm` of a folder, by name. One that is refused does not stop the others.
    pub fn load_dir(&self, folder: &Path) -> std::io::Result<(Vec<PackageInfo>, Vec<LoadError>)> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
            .collect();
        paths.sort_unstable();
        let mut loaded = Vec::new();
        let mut refused = Vec::new();
        for path in paths {
            match std::fs::read(&path) {
                Ok(bytes) => match self.load(&bytes) {
                    Ok(info) => loaded.push(info),
                    Err(source) => refused.push(LoadError::Refused { path, source }),
                },
                Err(source) => refused.push(LoadError::Read { path, source }),
            }
        }
        Ok((loaded, refused))
    }

    /// What is loaded, the newest of every id, sorted by id.
    pub fn packages(&self) -> Vec<PackageInfo> {
        self.registry.read().packages()
    }

    /// Whether instances come from a pool.
    pub fn allocation(&self) -> Allocation {
        self.allocation
    }

    pub(crate) fn plugin_of(&self, action: &str) -> Option<Arc<Plugin>> {
        self.registry.read().plugin_of(action)
    }

    /// Runs one entry within limits that may be tighter than the plugin's own.
    pub(crate) async fn enter(
        &self,
        plugin: Arc<Plugin>,
        limits: Limits,
        call: Invocation,
        surroundings: Surroundings,
    ) -> Entry {
        let Ok(_slots) = self.slots.acquire_many(plugin.slots).await else {
            return entry::failed(stopped("the plugin host is shutting down"));
        };
        // The ticking ends with the guest and not with the caller: an aborted guest is only reached by a tick.
        let ticking = self.ticker.tick();
        let running = self.guests.run(async move {
            let entry = entry::run(plugin, limits, call, surroundings).await;
            drop(ticking);
            entry
        });
        match running.await {
            Ok(entry) => entry,
            Err(error) if error.is_cancelled() => entry::failed(stopped("the plugin host is shutting down")),
            Err(error) => {
                tracing::error!(%error, "an entry panicked in the host");
                entry::failed(stopped("the plugin host has a fault: see its log"))
            }
        }
    }
}

fn stopped(message: &str) -> Failure {
    Failure::new(Category::TransientError, "PLUGIN_HOST_STOPPED", message)
}

/// Loads the built-in plugins beside each other: one of them takes most of the time.
fn built_in(loader: &Loader, config: &RuntimeConfig) -> Result<Registry, package::Error> {
    let loaded: Vec<Result<Plugin, package::Error>> = std::thread::scope(|scope| {
        let workers: Vec<_> = builtin::ALL
            .iter()
            .map(|one| scope.spawn(|| loader.load_built_in(one.bytes, one.warm_up, config)))
            .collect();
        workers
            .into_iter()
            .map(|worker| {
                worker.join().unwrap_or_else(|_| Err(package::Error::Compile("the compiler panicked".to_owned())))
            })
            .collect()
    });
    let mut registry = Registry::default();
    for plugin in loaded {
        registry.add(Arc::new(plugin?))?;
    }
    Ok(registry)
}

#[async_trait]
impl ActionRunner for Runtime {
    fn resolve(&self, _: &Realm, action: &str) -> Option<ActionInfo> {
        self.registry.read().resolve(action)
    }

    fn actions(&self, _: &Realm) -> Vec<ActionInfo> {
        self.registry.read().actions()
    }

    async fn run(&self, invocation: Invocation) -> Entry {
        let Some(plugin) = self.registry.read().by_digest(&invocation.plugin.digest) else {
            let pinned = &invocation.plugin;
            let message = format!("plugin {}@{} (sha256 {}) is not loaded", pinned.id, pinned.version, pinned.digest);
            return entry::failed(Failure::new(Category::ActionError, "PLUGIN_NOT_LOADED", message));
        };
        let limits = plugin.limits;
        let surroundings = Surroundings {
            models: Arc::clone(&self.config.models),
            sink: Arc::clone(&self.config.log_sink),
            deadline: invocation.deadline_ms.map(|ms| Instant::now() + Duration::from_millis(ms)),
        };
        self.enter(plugin, limits, invocation, surroundings).await
    }
}
