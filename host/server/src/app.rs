//! The one place that wires adapters to ports: what a host is made of, the order in which it starts, and the order in which it stops.

mod catalog;
mod fresh;
mod plugins;
mod providers;
mod queues;
mod stores;
mod tools;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use caisson_core::ids::Realm;
use caisson_core::model::Retention;
use caisson_core::ports::{
    ActionRunner, Archive, CallSink, Clock, EventSink, Journal, ResourceKind, Store, StoreError,
};
use caisson_orchestrator::{FILES_ACTOR, Keep, Live, Load, Options, Plugins, Ports, Service, Sweeper};
use caisson_runtime::model::Models;
use caisson_runtime::{Compiler, Runtime, RuntimeConfig, StarlarkEvaluator};
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::announce::{Announcing, Teller};
use crate::api::api_keys::FIRST_TENANT;
use crate::api::auth::Role;
use crate::api::{self, Api, AppState, Files, Parts};
use crate::archive::ArchiveDir;
use crate::env::{Environment, Problem};
use crate::files::ArtifactDir;
use crate::folder::{self, Folder};
use crate::keys::{self, First};
use crate::logkeeper::LogKeeper;
use crate::observe::Observe;
use crate::observe::logs::Logs;
use crate::observe::metrics::{self, Metrics};
use crate::observe::traces::Exporter;
use crate::sync::{self, Action, Sync};
use crate::{secrets, serve};
use catalog::Around;
use fresh::Fresh;
use plugins::Looking;
use providers::Providers;
use queues::Queue;
pub use queues::{NatsAt, NatsConfig};
use stores::Stores;
use tools::Connected;

/// How long a host waits at its start for PostgreSQL and NATS, which may be starting too.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// Steps may take so long to end after the host was told to stop; what still runs then is attempted again at the next start.
const STEPS_DRAIN_TIME_MAX: Duration = Duration::from_secs(20);

/// Uses of keys are stored so often: they are kept to the minute.
const KEY_USES_FLUSH: Duration = Duration::from_mins(1);

/// What the files begin with in which is kept what was seen in folders of plugins.
const SEEN_FILE: &str = "plugins-seen";

/// The hidden command by which a host starts itself to compile a plugin.
pub const COMPILE_COMMAND: &str = "compile-component";

/// The hidden command by which a host starts itself to guard a tool server.
pub const GUARD_COMMAND: &str = "guard-tool-server";

/// How a host is set up.
#[derive(Debug)]
pub struct Config {
    /// Where everything is stored that is not in another database.
    pub data_dir: PathBuf,
    /// Where compiled code is kept; see [`default_cache_dir`] when absent.
    pub cache_dir: Option<PathBuf>,
    /// What is registered at the start.
    pub environments: Vec<Environment>,
    /// A file with an admin's key.
    pub admin_key_file: Option<PathBuf>,
    /// Steps that may run at once.
    pub slots: usize,
    /// The most bytes that the database may hold.
    pub store_bytes_max: Option<u64>,
    /// Where secrets come from, beside the variables of this process.
    pub secrets: secrets::Paths,
    /// Where plugins may be taken from by a path.
    pub plugin_dirs: Vec<PathBuf>,
    /// The collector of traces.
    pub otlp_endpoint: Option<Url>,
    /// PostgreSQL; SQLite in the data directory when absent.
    pub database_url: Option<String>,
    /// NATS; the queue is in this process when absent.
    pub nats: Option<NatsConfig>,
    /// Where files of steps are kept; in the data directory when absent.
    pub artifacts_dir: Option<PathBuf>,
    /// How long other hosts count this one as alive after a beat.
    pub lease: Duration,
    /// How long runs are kept whose workflows do not say it.
    pub retention: Retention,
    /// Where runs are written down before their data is erased; nowhere when absent.
    pub archive_dir: Option<PathBuf>,
    /// How much work may wait.
    pub load: Load,
}

/// Steps that run at once when nothing else is said: agents mostly wait for their models, and a waiting guest costs its memory only.
pub const SLOTS_DEFAULT: usize = 128;

/// Why there is no host.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store does not open.
    #[error("open the store at {at}: {source}")]
    Store {
        /// Where.
        at: String,
        /// Why.
        source: StoreError,
    },
    /// The plugin host does not start.
    #[error("start the plugin host: {0}")]
    Runtime(#[from] caisson_runtime::StartError),
    /// The service does not start.
    #[error("start the service: {0}")]
    Service(#[from] caisson_orchestrator::Error),
    /// There is no first key.
    #[error("{0}")]
    Keys(#[from] keys::Error),
    /// A directory cannot be made.
    #[error("make the directory {dir}: {source}")]
    Directory {
        /// Which.
        dir: String,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing can be sent to the collector of traces.
    #[error("set up traces: {0}")]
    Traces(#[from] reqwest::Error),
    /// Tool servers have no thread.
    #[error("start the thread of the tool servers: {0}")]
    Tools(std::io::Error),
    /// The queue does not open.
    #[error("open the queue: {0}")]
    Queue(#[from] caisson_queue::jetstream::Error),
    /// The own nats-server does not start.
    #[error("start nats-server: {0}")]
    Managed(#[from] caisson_queue::ManagedError),
    /// The token for NATS cannot be read.
    #[error("read the token for NATS in {file}: {source}")]
    TokenFile {
        /// Where.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// A task broke.
    #[error("start the plugin host: {0}")]
    Join(#[from] tokio::task::JoinError),
}

/// A running host.
pub struct Host {
    /// What the API works with.
    pub api: AppState,
    /// How the first key came about.
    pub first_key: First,
    /// What could not be registered.
    pub problems: Vec<Problem>,
    /// The workflows that were registered, as `environment/id`.
    pub registered: Vec<String>,
    store: Arc<dyn Store>,
    queue: Queue,
    logs: Arc<LogKeeper>,
    sweeper: Sweeper,
    exporter: Option<Exporter>,
    tools: Arc<Connected>,
    background: Vec<JoinHandle<()>>,
}

impl Host {
    /// Opens the store, loads plugins and agents, starts the service, looks at the folders of plugins, and registers the workflows, in this order:
    /// runs that were under way go on as soon as the service starts, and need their plugins; new workflows need new plugins.
    pub async fn start(config: Config, stop: CancellationToken) -> Result<Self, Error> {
        let failed = |source| Error::Store { at: stores::place(&config), source };
        let files = make_dirs(&config)?;
        let stores = Stores::open(&config).await?;
        let store = stores.runs.clone();
        let clock: Arc<dyn Clock> = Arc::new(stores.clock().await.map_err(failed)?);
        let first_key = keys::first(&*store, config.admin_key_file.as_deref(), clock.now()).await?;
        let live = Live::default();
        let models = Arc::new(Models::new());
        let mut problems = Vec::new();
        let providers = Providers::set_up(&models, &config.environments, &mut problems);
        let (secrets, found) = secrets::Sources::open(config.secrets.clone(), std::env::vars());
        problems.extend(found);
        let secrets: Arc<dyn caisson_core::ports::Secrets> = Arc::new(secrets);
        let tools = Connected::set_up(
            &config.environments,
            secrets.clone(),
            stores.resources.clone(),
            clock.clone(),
            &mut problems,
        );
        let tools = Arc::new(tools.map_err(Error::Tools)?);
        let host: Arc<str> = Uuid::now_v7().to_string().into();
        let queue = Queue::open(config.nats.as_ref(), &config.data_dir, &host, &clock).await?;
        let teller = Teller { live: live.clone(), elsewhere: queue.events() };
        let logs = LogKeeper::start(teller.clone(), store.clone());
        let journal: Arc<dyn Journal> = Arc::new(Announcing::new(stores.journal.clone(), teller));
        let metrics = Arc::new(Metrics::default());
        metrics.add_source(stores.counters.clone());
        let mut sinks: Vec<Arc<dyn EventSink>> = vec![Arc::new(Logs), metrics.clone()];
        let (mut exporter, mut call_sink): (_, Option<Arc<dyn CallSink>>) = (None, None);
        if let Some(endpoint) = &config.otlp_endpoint {
            let (traces, sending) = Exporter::start(endpoint.clone(), store.clone(), &host)?;
            let counted = traces.clone();
            metrics.add_source(Arc::new(move || vec![metrics::traces(counted.lost())]));
            call_sink = Some(traces.clone());
            sinks.push(traces);
            exporter = Some(sending);
        }
        let runtime = start_runtime(RuntimeConfig {
            cache_dir: Some(config.cache_dir.clone().unwrap_or_else(|| default_cache_dir(&config.data_dir))),
            compiler: compiler(),
            components: Some(stores.plugins.clone()),
            journal: journal.clone(),
            tools: tools.servers.clone(),
            secrets,
            artifacts_dir: Some(files.artifacts.clone()),
            random_key: stores.random_key(&config.data_dir).await?,
            models: models.clone(),
            log_sink: logs.clone(),
            call_sink,
            ..RuntimeConfig::default()
        })
        .await?;
        // After the runtime has opened its own page map, which nobody may from here on, and before a tool server can be started.
        if let Err(error) = caisson_tools::hide_process() {
            tracing::warn!(%error, "tool servers may read what is in this process: it cannot be hidden from them");
        }
        let plugins = Plugins::start(stores.plugins.clone(), runtime.clone(), clock.clone()).await?;
        // A store of one host knows no others that could install something.
        let looking = Arc::new(Looking { runtime: runtime.clone(), plugins: plugins.clone() });
        let shared = stores.cluster.is_some();
        let runner: Arc<dyn ActionRunner> = if shared { looking.clone() } else { runtime.clone() };
        sinks.extend(queue.events());
        metrics.add_source(queue.waiting.clone());
        let pooled = runtime.clone();
        metrics.add_source(Arc::new(move || pooled.pool().map(metrics::pool).unwrap_or_default()));
        let ports = Ports {
            store: store.clone(),
            queue: queue.port.clone(),
            runner,
            evaluator: Arc::new(StarlarkEvaluator::new(runtime.clone())),
            clock,
            cluster: stores.cluster.clone(),
            events: sinks,
        };
        let around = Arc::new(Around {
            runtime: runtime.clone(),
            models,
            resources: stores.resources.clone(),
            providers,
            tools: tools.clone(),
            dirs: config.environments.iter().map(|one| (one.name.clone(), one.dirs.clone())).collect(),
            taken: tokio::sync::Mutex::default(),
        });
        around.take_in().await.map_err(failed)?;
        let options = Options {
            host,
            name: machine().into(),
            version: env!("CARGO_PKG_VERSION").into(),
            lease: config.lease,
            slots: config.slots,
            limits: caisson_core::engine::Limits::default(),
            load: config.load.clone(),
        };
        let archive = config.archive_dir.clone().map(|dir| archive(dir, &stores, &metrics));
        let keep = Keep {
            store: stores.pruning.clone(),
            files: Arc::new(ArtifactDir(files.artifacts.clone())),
            archive,
            clock: ports.clock.clone(),
            default: config.retention,
        };
        let service = Service::start(ports, options, live.clone()).await?;
        let listening = queue.listen(live, journal.clone(), stop.clone());
        let sweeper = Sweeper::start(keep);
        let api = Api::new(Parts {
            service,
            plugins,
            journal,
            resources: stores.resources,
            catalog: around.clone(),
            trials: around.clone(),
            tools: tools.servers.clone(),
            files,
            observe: Observe { probes: queue.probe().into_iter().collect(), cluster: stores.cluster.clone(), metrics },
            stop: stop.clone(),
        });
        let mut background = vec![tokio::spawn(flush_key_uses(api.clone(), stop.clone()))];
        background.push(tokio::spawn(listening));
        let fresh = Fresh { plugins: shared.then_some(looking), around, cluster: stores.cluster };
        background.push(tokio::spawn(fresh.keep(stop.clone())));
        background.extend(open_folders(&api, &config, &mut problems).await);
        let registered = register(&api, &config.environments, &mut problems).await;
        Ok(Self { api, first_key, problems, registered, store, queue, logs, sweeper, exporter, tools, background })
    }

    /// A key for this process's own use; whoever has it revokes it.
    pub async fn temporary_key(
        &self,
        actor: &str,
        role: Role,
        teams: Vec<String>,
    ) -> Result<TemporaryKey, keys::Error> {
        let made = keys::make(actor, role, teams, FIRST_TENANT.into(), self.api.now())?;
        self.store.add_key(&made.row).await?;
        Ok(TemporaryKey { key: made.key, id: made.row.id })
    }

    /// Serves until told to stop, then stops in good order.
    pub async fn serve(self, listener: TcpListener) {
        // The sockets stay open while steps end: readiness says why nothing is taken, and what runs can be watched to its end.
        let closing = CancellationToken::new();
        let serving = serve::serve(listener, api::router(self.api.clone()), closing.clone());
        let draining = async {
            self.api.stop.cancelled().await;
            self.api.service.shutdown(STEPS_DRAIN_TIME_MAX).await;
            closing.cancel();
        };
        tokio::join!(serving, draining);
        self.shut_down().await;
    }

    /// Lets steps end, stores what waits, and lets go of the files.
    pub async fn shut_down(self) {
        self.api.stop.cancel();
        self.sweeper.shutdown().await;
        self.api.service.shutdown(STEPS_DRAIN_TIME_MAX).await;
        self.api.plugins.shutdown().await;
        for task in self.background {
            if let Err(error) = task.await {
                tracing::error!(%error, "a background task is gone");
            }
        }
        if let Some(exporter) = self.exporter {
            exporter.close().await;
        }
        let tools = self.tools.servers.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || tools.stop()).await {
            tracing::error!(%error, "the tool servers were not stopped");
        }
        self.logs.close().await;
        self.queue.close().await;
        self.store.close().await;
    }
}

/// A key that lives no longer than its process.
pub struct TemporaryKey {
    /// The key itself.
    pub key: String,
    id: Arc<str>,
}

impl TemporaryKey {
    /// Ends it.
    pub async fn revoke(self, api: &Api) -> Result<(), StoreError> {
        api.store().revoke_key(FIRST_TENANT, &self.id, api.now()).await?;
        api.keys.forget(&self.id);
        Ok(())
    }
}

async fn flush_key_uses(api: AppState, stop: CancellationToken) {
    loop {
        let stopped = tokio::time::timeout(KEY_USES_FLUSH, stop.cancelled()).await.is_ok();
        if let Err(error) = api.keys.flush_uses().await {
            tracing::warn!(%error, "the times of use of keys could not be stored");
        }
        if stopped {
            return;
        }
    }
}

/// Compiled code is kept for all hosts of a user, under `$XDG_CACHE_HOME` or `~/.cache`, so that a new data directory does not compile the same
/// plugins again; in the data directory where there is no such place or it cannot be written.
pub fn default_cache_dir(data_dir: &Path) -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    base.filter(|base| base.is_absolute())
        .map(|base| base.join("caisson"))
        .filter(|dir| std::fs::create_dir_all(dir).is_ok())
        .unwrap_or_else(|| data_dir.join("cache"))
}

/// Who compiles: this program in a process of its own, so that a component that is made to exhaust the compiler exhausts nothing else.
pub fn compiler() -> Compiler {
    match own_program() {
        Some(program) => Compiler::Child { program, args: vec![COMPILE_COMMAND.to_owned()] },
        None => {
            tracing::warn!("this program is not found: plugins are compiled in its own process");
            Compiler::InProcess
        }
    }
}

/// This program, to be started once more: on Linux as it runs, even if its file was replaced since.
fn own_program() -> Option<PathBuf> {
    const SELF: &str = "/proc/self/exe";
    if Path::new(SELF).exists() { Some(SELF.into()) } else { std::env::current_exe().ok() }
}

/// Starting takes seconds when built-in plugins have to be compiled: never on a thread that others wait for.
async fn start_runtime(config: RuntimeConfig) -> Result<Arc<Runtime>, Error> {
    Ok(tokio::task::spawn_blocking(move || Runtime::new(config).map(Arc::new)).await??)
}

/// The directories for what is not in the database, for this user only.
fn make_dirs(config: &Config) -> Result<Files, Error> {
    use std::os::unix::fs::DirBuilderExt;
    let make = |dir: PathBuf| {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map(|()| dir.clone()).map_err(|source| Error::Directory { dir: dir.display().to_string(), source })
    };
    if let Some(archive) = &config.archive_dir {
        make(archive.clone())?;
    }
    let artifacts = config.artifacts_dir.clone().unwrap_or_else(|| config.data_dir.join("artifacts"));
    Ok(Files {
        uploads: make(config.data_dir.join("uploads"))?,
        artifacts: make(artifacts)?,
        plugin_dirs: config.plugin_dirs.clone(),
    })
}

/// Where runs are kept, and the numbers of how that goes.
fn archive(dir: PathBuf, stores: &Stores, metrics: &Metrics) -> Arc<dyn Archive> {
    let archive = ArchiveDir::new(dir, stores.runs.clone(), stores.journal.clone(), stores.pruning.clone());
    let archive = Arc::new(archive);
    let counted = archive.clone();
    metrics.add_source(Arc::new(move || counted.readings()));
    archive
}

/// Installs what lies in the folders of plugins, and goes on watching them.
async fn open_folders(api: &AppState, config: &Config, problems: &mut Vec<Problem>) -> Vec<JoinHandle<()>> {
    let mut watching = Vec::new();
    for environment in config.environments.iter().filter(|environment| !environment.plugins.is_empty()) {
        let realm = Realm::new(FIRST_TENANT, environment.name.as_str());
        let memory = config.data_dir.join(format!("{SEEN_FILE}-{}.json", environment.name));
        let mut folder = Folder::new(realm, environment.plugins.clone(), api.plugins.clone(), memory);
        let found = folder.scan().await;
        problems.extend(found.clone());
        watching.push(tokio::spawn(folder::watch(folder, found, api.stop.clone())));
    }
    watching
}

/// The machine's name, for people who look at hosts.
fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unnamed".to_owned() } else { name.trim().to_owned() }
}

/// Registers the files of the environments. A file that has errors is reported and does not stop the others.
async fn register(api: &Api, environments: &[Environment], problems: &mut Vec<Problem>) -> Vec<String> {
    let mut registered = Vec::new();
    for environment in environments {
        let realm = Realm::new(FIRST_TENANT, environment.name.as_str());
        let how = Sync { realm, actor: FILES_ACTOR.into(), dry_run: false, own_files: true };
        let changes = match sync::sync(api, &how, &sync::texts(environment)).await {
            Ok(changes) => changes,
            Err(error) => {
                let place = environment.dir.clone().unwrap_or_else(|| environment.name.clone().into());
                problems.push(Problem::new(&place, error.message().to_owned()));
                continue;
            }
        };
        for change in changes {
            let place = environment.dir.as_deref().unwrap_or(Path::new("")).join(&*change.file);
            match (change.problem, change.action, change.kind) {
                (Some(problem), ..) => problems.push(Problem::new(&place, problem)),
                (None, Action::Create | Action::Update | Action::Unchanged, Some(ResourceKind::Workflow)) => {
                    registered.push(format!("{}/{}", environment.name, change.name));
                }
                (None, ..) => {}
            }
        }
    }
    registered
}
