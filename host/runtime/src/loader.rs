//! From bytes to a loaded plugin: inspect, pre-initialise, compile or take from the cache, link.

use std::collections::BTreeSet;
use std::sync::Arc;

use caisson_core::json::Json;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::bindings::caisson::step::types as wire;
use crate::cache::{self, Cache};
use crate::capabilities;
use crate::config::RuntimeConfig;
use crate::engine::{INSTANCES_PER_SLOT, MEMORIES_PER_SLOT, TABLES_PER_SLOT};
use crate::limits::Limits;
use crate::logbook::{LogBook, NoLog};
use crate::package::{Error, PackageInfo, Shape, check_reserved, inspect};
use crate::plugin::{self, Plugin};
use crate::state::{Identity, State};
use crate::sys::release_memory;
use crate::wizen;

/// What loading needs.
pub(crate) struct Loader {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
    pub(crate) cache: Option<Cache>,
}

impl Loader {
    /// Loads a third party's component.
    pub(crate) fn load(&self, bytes: &[u8], config: &RuntimeConfig) -> Result<Plugin, Error> {
        let info = inspect(bytes)?;
        check_reserved(&info.id)?;
        let grants = plugin::grants(&info, |capability| config.grants.has(&info.id, capability));
        let component = self.component(&info, "plain", || Ok(bytes.into()))?;
        self.assemble(info, grants, &component, config)
    }

    /// Loads one of the built-in components; with a warm-up it is pre-initialised first.
    pub(crate) fn load_built_in(
        &self,
        bytes: &[u8],
        warm_up: Option<(&str, &str)>,
        config: &RuntimeConfig,
    ) -> Result<Plugin, Error> {
        let info = inspect(bytes)?;
        let grants = info.capabilities.clone();
        let component = match warm_up {
            Some((action, input)) => self.component(&info, "warm", || {
                warm(bytes, &info, action, input).map(Into::into).or_else(|error| {
                    tracing::warn!(plugin = info.id, %error, "failed to pre-initialise the plugin: every call pays for it");
                    Ok(bytes.into())
                })
            })?,
            None => self.component(&info, "plain", || Ok(bytes.into()))?,
        };
        self.assemble(info, grants, &component, config)
    }

    fn component<'a>(
        &self,
        info: &PackageInfo,
        treatment: &str,
        bytes: impl FnOnce() -> Result<std::borrow::Cow<'a, [u8]>, Error>,
    ) -> Result<Component, Error> {
        let name = cache::entry_name(&self.engine, &info.digest, treatment);
        if let Some(component) = self.cache.as_ref().and_then(|cache| cache.load(&self.engine, &name)) {
            return Ok(component);
        }
        let component = self.compile(&name, bytes);
        release_memory();
        component
    }

    fn compile<'a>(
        &self,
        name: &str,
        bytes: impl FnOnce() -> Result<std::borrow::Cow<'a, [u8]>, Error>,
    ) -> Result<Component, Error> {
        let compile = |e: wasmtime::Error| Error::Compile(format!("the component does not compile: {e:#}"));
        let bytes = bytes()?;
        let Some(cache) = &self.cache else {
            return Component::new(&self.engine, &bytes).map_err(compile);
        };
        let compiled = self.engine.precompile_component(&bytes).map_err(compile)?;
        if let Err(error) = cache.store(name, &compiled) {
            tracing::warn!(%error, "failed to keep compiled code: it is compiled again at the next start");
            return Component::new(&self.engine, &bytes).map_err(compile);
        }
        match cache.load(&self.engine, name) {
            Some(component) => Ok(component),
            None => Component::new(&self.engine, &bytes).map_err(compile),
        }
    }

    fn assemble(
        &self,
        info: PackageInfo,
        grants: BTreeSet<crate::manifest::Capability>,
        component: &Component,
        config: &RuntimeConfig,
    ) -> Result<Plugin, Error> {
        let identity = Identity {
            id: info.id.as_str().into(),
            version: info.version.as_str().into(),
            digest: info.digest.as_str().into(),
            grants,
        };
        let actions = plugin::actions(&info, &identity)?;
        let pre = plugin::link(&self.linker, component)?;
        let operator = config.plugin_config.get(&info.id).map_or_else(|| "{}".to_owned(), ToString::to_string);
        Ok(Plugin {
            limits: config.limits.asked(&info.limits, &config.limits_max),
            slots: slots(info.shape).min(config.slots),
            identity: Arc::new(identity),
            actions,
            pre,
            config: operator,
            info,
        })
    }
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

/// Runs the warm-up. On a thread and a runtime of its own, because loading is synchronous and may be called from anywhere.
fn warm(bytes: &[u8], info: &PackageInfo, action: &str, input: &str) -> Result<Vec<u8>, String> {
    let input = Json::parse(input).map_err(|e| e.to_string())?;
    let state = warm_state(info);
    let call = warm_call(action, &input);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| e.to_string())?
                .block_on(wizen::pre_initialise(bytes, capabilities::link, state, call))
                .map_err(|e| e.to_string())
        });
        worker.join().unwrap_or_else(|_| Err("the warm-up panicked".to_owned()))
    })
}

fn warm_state(info: &PackageInfo) -> State {
    use caisson_core::ids::{Realm, RunId, StepId};
    use caisson_core::time::Timestamp;
    let limits = Limits::default();
    let log = Arc::new(LogBook::new(RunId::new(""), StepId::new(""), Arc::new(NoLog), &limits));
    State {
        wasi: capabilities::wasi_context(Timestamp::default(), &log),
        handles: wasmtime::component::ResourceTable::new(),
        limiter: crate::limiter::Limiter::new(limits.memory_bytes, limits.table_elements),
        limits,
        log,
        host_calls: 0,
        random: capabilities::Random::new("warm-up", 0, 0),
        realm: Realm::new("", ""),
        plugin: Arc::new(Identity {
            id: info.id.as_str().into(),
            version: info.version.as_str().into(),
            digest: info.digest.as_str().into(),
            grants: BTreeSet::new(),
        }),
        models: Arc::default(),
    }
}

fn warm_call(action: &str, input: &Json) -> wire::Invocation {
    wire::Invocation {
        action: action.to_owned(),
        config: "{}".to_owned(),
        input: input.get().to_owned(),
        context: wire::Context {
            tenant: String::new(),
            environment: String::new(),
            workflow: String::new(),
            workflow_version: String::new(),
            run_id: String::new(),
            step_id: String::new(),
            state: String::new(),
            attempt: 1,
            entry: 0,
            idempotency_key: String::new(),
            deadline_ms: None,
            traceparent: None,
        },
        resumed: None,
    }
}
