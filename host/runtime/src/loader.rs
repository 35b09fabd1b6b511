//! From a digest to code that can run: found loaded, or in the cache, or compiled.
//!
//! Invariants:
//! - nothing is read for a plugin before it is used or prepared;
//! - uses of one digest that come together load it once;
//! - what strangers sent stays loaded only so far: the one that was unused for longest makes room. Whoever runs it
//!   keeps it until it ends.

mod loaded;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use caisson_core::error::{Category, Failure};
use caisson_core::json::sha256_hex;
use caisson_core::plugin::{Engine as Runs, Package};
use caisson_core::ports::Compilation;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use self::loaded::{Found, Loaded};
use crate::assets::{Assets, Components};
use crate::bindings::PluginPre;
use crate::builtin::BuiltIn;
use crate::cache::{self, Cache};
use crate::compile::{Refused, Treatment};
use crate::compiler::Compiler;
use crate::config::{self, RuntimeConfig};
use crate::engine::{INSTANCES_PER_SLOT, MEMORIES_PER_SLOT, TABLES_PER_SLOT};
use crate::limits::{AskedLimits, Limits};
use crate::package::{Error, Shape};
use crate::plugin::{Code, Compiled};
use crate::state::State;
use crate::threads::Spawner;

/// Loads plugins.
pub(crate) struct Loader {
    pub(crate) engine: Engine,
    linker: Linker<State>,
    cache: Option<Arc<Cache>>,
    compiler: Compiler,
    components: Arc<Components>,
    limits: Limits,
    limits_max: Limits,
    slots_max: u32,
    fuel: bool,
    /// Whatever happens to a step that waits for a plugin, the plugin goes on loading.
    spawner: Spawner,
    /// The engine of JavaScript plugins; `None` in a build without.
    javascript: Option<BuiltIn>,
    javascript_code: OnceCell<Arc<Code>>,
    loaded: Mutex<Loaded>,
    /// By digest; what is not there has not been asked for.
    progress: Mutex<HashMap<Arc<str>, Progress>>,
}

#[derive(Clone)]
enum Progress {
    Queued,
    Running(Instant),
    Ready,
    /// What the compiler said: it would say the same again.
    Failed(Error),
}

/// Why a plugin cannot be run.
#[derive(Clone, Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Package(#[from] Error),
    #[error("its bytes are gone")]
    Gone,
    /// May pass.
    #[error("{0}")]
    Host(String),
}

impl Loader {
    pub(crate) fn new(
        config: &RuntimeConfig,
        engine: Engine,
        linker: Linker<State>,
        cache: Option<Cache>,
        spawner: Spawner,
        javascript: Option<BuiltIn>,
    ) -> Self {
        if cache.is_none() && config.compiler != config::Compiler::InProcess {
            tracing::warn!(
                "plugins are compiled in this process: a child hands its code over in the cache, and there is none"
            );
        }
        Self {
            compiler: Compiler::new(config.compiler.clone(), config.fuel),
            components: Arc::new(Components::new(config.components.clone())),
            limits: config.limits,
            limits_max: config.limits_max,
            slots_max: config.slots,
            fuel: config.fuel,
            loaded: Mutex::new(Loaded::new(config.loaded)),
            progress: Mutex::default(),
            javascript_code: OnceCell::new(),
            cache: cache.map(Arc::new),
            engine,
            linker,
            spawner,
            javascript,
        }
    }

    /// The plugin, ready to run.
    pub(crate) async fn load(self: &Arc<Self>, package: &Arc<Package>) -> Result<Arc<Compiled>, Failure> {
        let mut loading = match self.loaded.lock().find(&package.digest) {
            Found::Loaded(compiled) => return Ok(compiled),
            Found::Loading(loading) => loading,
            Found::Neither(done, loading) => {
                let (this, package) = (Arc::clone(self), Arc::clone(package));
                self.spawner.spawn(async move {
                    let result = this.assemble(&package).await;
                    let result = result.map(Arc::new).map_err(|problem| failure(&package, &problem));
                    this.loaded.lock().settle(&package.digest, &result);
                    // Fails if everybody has gone.
                    let _ = done.send(Some(result));
                });
                loading
            }
        };
        let result = match loading.wait_for(Option::is_some).await {
            Ok(result) => result.clone(),
            Err(_) => None,
        };
        result.unwrap_or_else(|| {
            let problem = Problem::Host("the plugin host stopped while it was loaded".to_owned());
            Err(failure(package, &problem))
        })
    }

    /// Compiles and links a package of which the bytes are at hand, whatever became of it before.
    pub(crate) async fn prepare(self: &Arc<Self>, package: &Package, bytes: &Bytes) -> Result<(), Failure> {
        if sha256_hex(bytes) != package.digest {
            return Err(Error::Malformed("the bytes are not those that were inspected".to_owned()).into());
        }
        if !self.components.has_store() {
            self.components.hold(&package.digest, bytes.clone());
        }
        self.progress.lock().remove(package.digest.as_str());
        self.load(&Arc::new(package.clone())).await.map(drop)
    }

    /// How far the compilation of a package is. `package` is what is known of it, if it is installed.
    pub(crate) fn compilation(&self, digest: &str, package: Option<&Package>) -> Compilation {
        let javascript = package.is_some_and(|package| package.engine == Runs::JavaScript);
        let digest = match &self.javascript {
            Some(engine) if javascript => &*engine.digest,
            _ => digest,
        };
        match self.progress.lock().get(digest) {
            Some(Progress::Queued) => Compilation::Queued,
            Some(Progress::Running(since)) => {
                let since_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                Compilation::Running { since_ms }
            }
            Some(Progress::Ready) => Compilation::Ready,
            Some(Progress::Failed(error)) => Compilation::Failed { message: error.to_string() },
            None => {
                let name = |treatment| cache::entry_name(&self.engine, digest, treatment);
                let kept = |cache: &Arc<Cache>| Treatment::NAMES.iter().any(|treatment| cache.has(&name(treatment)));
                let kept = self.cache.as_ref().is_some_and(kept);
                if kept { Compilation::Ready } else { Compilation::Unused }
            }
        }
    }

    /// Whether this build has an engine that runs JavaScript.
    pub(crate) fn has_javascript(&self) -> bool {
        self.javascript.is_some()
    }

    /// The engine that runs JavaScript, compiled at its first use.
    pub(crate) async fn javascript(&self) -> Result<Arc<Code>, Failure> {
        self.javascript_engine().await.map_err(|problem| {
            Failure::new(Category::ActionError, "PLUGIN_NOT_LOADED", format!("JavaScript cannot be run: {problem}"))
        })
    }

    async fn javascript_engine(&self) -> Result<Arc<Code>, Problem> {
        let Some(engine) = &self.javascript else {
            return Err(Problem::Host("this build of caisson has no JavaScript engine".to_owned()));
        };
        let code = self.javascript_code.get_or_try_init(async || self.built_in_code(engine).await).await?;
        Ok(Arc::clone(code))
    }

    /// A built-in plugin: it stays loaded for ever.
    pub(crate) async fn built_in(&self, one: &BuiltIn, package: &Package) -> Result<Compiled, Error> {
        let code = self.built_in_code(one).await.map_err(|problem| match problem {
            Problem::Package(error) => error,
            other => Error::Compile(other.to_string()),
        })?;
        self.compiled(package, code)
    }

    async fn built_in_code(&self, one: &BuiltIn) -> Result<Arc<Code>, Problem> {
        self.components.hold(&one.digest, Bytes::from_static(one.bytes));
        if let Some((action, input)) = one.warm_up {
            let treatment = Treatment::Warm { action: action.to_owned(), input: input.to_owned() };
            match self.component(&one.digest, treatment).await {
                Ok(code) => return Ok(code),
                Err(Attempt::WarmUp(error)) => {
                    tracing::warn!(
                        plugin = one.name,
                        error,
                        "failed to pre-initialise a plugin: every call pays for it"
                    );
                }
                Err(Attempt::Problem(problem)) => return Err(problem),
            }
        }
        self.plain(&one.digest).await
    }

    async fn assemble(&self, package: &Package) -> Result<Compiled, Problem> {
        let code = match package.engine {
            Runs::Component => self.plain(&package.digest).await?,
            Runs::JavaScript => self.javascript_engine().await?,
        };
        Ok(self.compiled(package, code)?)
    }

    fn compiled(&self, package: &Package, code: Arc<Code>) -> Result<Compiled, Error> {
        let limits = self.limits.asked(&AskedLimits::of(&package.limits), &self.limits_max);
        let assets = Assets::new(package.digest.as_str().into(), Arc::clone(&self.components));
        Compiled::new(package, code, limits, Arc::new(assets))
    }

    async fn plain(&self, digest: &str) -> Result<Arc<Code>, Problem> {
        self.component(digest, Treatment::Plain).await.map_err(|attempt| match attempt {
            Attempt::Problem(problem) => problem,
            Attempt::WarmUp(message) => Problem::Host(message),
        })
    }

    async fn component(&self, digest: &str, treatment: Treatment) -> Result<Arc<Code>, Attempt> {
        if let Some(Progress::Failed(error)) = self.progress.lock().get(digest) {
            return Err(Problem::Package(error.clone()).into());
        }
        let name = cache::entry_name(&self.engine, digest, treatment.name());
        let shaped = match self.cached(&name).await? {
            Some(shaped) => shaped,
            None => self.compile(digest, &name, treatment).await?,
        };
        let code = self.link(&shaped.0, shaped.1);
        let code = code.map_err(|error| self.failed(digest, Error::Link(format!("{error:#}"))))?;
        self.set(digest, Progress::Ready);
        Ok(Arc::new(code))
    }

    async fn cached(&self, name: &str) -> Result<Option<(Component, Shape)>, Problem> {
        let Some(cache) = &self.cache else { return Ok(None) };
        let (cache, engine, name) = (Arc::clone(cache), self.engine.clone(), name.to_owned());
        let loaded =
            tokio::task::spawn_blocking(move || cache.has(&name).then(|| cache.load(&engine, &name)).flatten());
        loaded.await.map_err(|e| Problem::Host(e.to_string()))
    }

    async fn compile(&self, digest: &str, name: &str, treatment: Treatment) -> Result<(Component, Shape), Attempt> {
        let bytes = match self.components.get(digest).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(Problem::Gone.into()),
            Err(error) => return Err(Problem::Host(error.to_string()).into()),
        };
        if sha256_hex(&bytes) != *digest {
            return Err(Problem::Host("its bytes are damaged".to_owned()).into());
        }
        self.set(digest, Progress::Queued);
        // If this is dropped, or fails by no fault of the component, it is as if nobody had asked.
        let mut unsettled = Unsettled { loader: self, digest: Some(digest) };
        let began = || self.set(digest, Progress::Running(Instant::now()));
        let compiled = self.compiler.compile(&self.engine, self.cache.as_ref(), name, bytes, treatment, began).await;
        match compiled {
            Ok(shaped) => {
                unsettled.digest = None;
                Ok(shaped)
            }
            Err(Refused::Compiler(message)) => {
                unsettled.digest = None;
                Err(self.failed(digest, Error::Compile(message)).into())
            }
            Err(Refused::WarmUp(message)) => Err(Attempt::WarmUp(message)),
            Err(Refused::Broken(message)) => Err(Problem::Host(message).into()),
        }
    }

    fn link(&self, component: &Component, shape: Shape) -> wasmtime::Result<Code> {
        let pre = self.linker.instantiate_pre(component).and_then(PluginPre::new)?;
        Ok(Code { pre, slots: slots(shape).min(self.slots_max), fuel: self.fuel })
    }

    fn failed(&self, digest: &str, error: Error) -> Problem {
        self.set(digest, Progress::Failed(error.clone()));
        Problem::Package(error)
    }

    fn set(&self, digest: &str, progress: Progress) {
        self.progress.lock().insert(digest.into(), progress);
    }
}

/// Why one way to get code did not work.
enum Attempt {
    Problem(Problem),
    WarmUp(String),
}

impl From<Problem> for Attempt {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

struct Unsettled<'a> {
    loader: &'a Loader,
    digest: Option<&'a str>,
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if let Some(digest) = self.digest {
            self.loader.progress.lock().remove(digest);
        }
    }
}

fn failure(package: &Package, problem: &Problem) -> Failure {
    let Package { id, version, digest, .. } = package;
    let (category, code) = match problem {
        Problem::Package(error) => (Category::ActionError, error.code()),
        Problem::Gone => (Category::ActionError, "PLUGIN_NOT_LOADED"),
        Problem::Host(_) => (Category::TransientError, "PLUGIN_NOT_LOADED"),
    };
    let failure =
        Failure::new(category, code, format!("plugin {id}@{version} (sha256 {digest}) cannot be run: {problem}"));
    if category == Category::ActionError { failure.never_retried() } else { failure }
}

/// How many slots of the pool an instance of that shape takes.
fn slots(shape: Shape) -> u32 {
    let Shape { instances, memories, tables } = shape;
    instances
        .div_ceil(INSTANCES_PER_SLOT)
        .max(memories.div_ceil(MEMORIES_PER_SLOT))
        .max(tables.div_ceil(TABLES_PER_SLOT))
        .max(1)
}
