//! Pre-initialisation: runs a component once and makes what its memory then holds the new component's image.
//!
//! Starlark spends milliseconds on its globals; after this, a fresh copy-on-write instance has them. The warm-up is an
//! ordinary call of an ordinary action, so that a plugin needs no special export for it.

use caisson_core::error::Failure;
use wasmtime::component::{Component, ComponentNamedList, Instance, Lift, Linker, WasmList};
use wasmtime::{Config, Engine, OptLevel, RegallocAlgorithm, Store};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

use crate::bindings::Plugin;
use crate::bindings::caisson::step::types as wire;
use crate::limits::STACK_BYTES;
use crate::state::State;

/// Why a component could not be pre-initialised. It works without.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Wasmtime(#[from] wasmtime::Error),
    #[error("the warm-up failed: {}", .0.message)]
    Failed(Failure),
}

/// The component after one call.
pub(crate) async fn pre_initialise(
    bytes: &[u8],
    link: impl FnOnce(&mut Linker<State>) -> wasmtime::Result<()>,
    state: State,
    call: wire::Invocation,
) -> Result<Vec<u8>, Error> {
    // Compiled for this one call: as fast as possible, not as well.
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .cranelift_opt_level(OptLevel::None)
        .cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass)
        .max_wasm_stack(STACK_BYTES)
        // A compiling child has less address space than the 4 GiB that a memory reserves otherwise.
        .memory_reservation(0)
        .memory_guard_size(0);
    let engine = Engine::new(&config)?;
    let mut wizer = Wizer::new();
    wizer.keep_init_func(true);
    let (context, instrumented) = wizer.instrument_component(bytes)?;
    let component = Component::new(&engine, &instrumented)?;
    let mut linker = Linker::new(&engine);
    link(&mut linker)?;
    let mut store = Store::new(&engine, state);
    let instance = linker.instantiate_async(&mut store, &component).await?;
    let plugin = Plugin::new(&mut store, &instance)?;
    if let Err(failure) = plugin.caisson_step_executor().call_execute(&mut store, &call).await? {
        return Err(Error::Failed(crate::convert::failure(failure)));
    }
    Ok(wizer.snapshot_component(&context, &mut Warm { store, instance }).await?)
}

/// Wizer's own adapter comes with features of wasmtime that we do not want.
struct Warm {
    store: Store<State>,
    instance: Instance,
}

impl Warm {
    /// Calls an accessor that wizer's instrumentation added.
    async fn get<R, T>(&mut self, instance: &str, name: &str, read: impl FnOnce(&mut Store<State>, R) -> T) -> T
    where
        R: Lift + Send + Sync + 'static,
        (R,): ComponentNamedList + Lift,
    {
        let function = self
            .instance
            .get_export_index(&mut self.store, None, instance)
            .and_then(|accessors| self.instance.get_export_index(&mut self.store, Some(&accessors), name))
            .expect("wizer's instrumentation has the accessor");
        let function = self
            .instance
            .get_typed_func::<(), (R,)>(&mut self.store, function)
            .expect("wizer's accessor has the type that wizer asks for");
        let (value,) = function.call_async(&mut self.store, ()).await.expect("wizer's accessor only reads");
        read(&mut self.store, value)
    }
}

impl ComponentInstanceState for Warm {
    async fn call_func_ret_list_u8(&mut self, instance: &str, func: &str, contents: impl FnOnce(&[u8]) + Send) {
        self.get(instance, func, |store, list: WasmList<u8>| contents(list.as_le_slice(&*store))).await;
    }

    async fn call_func_ret_s32(&mut self, instance: &str, func: &str) -> i32 {
        self.get(instance, func, |_, value| value).await
    }

    async fn call_func_ret_s64(&mut self, instance: &str, func: &str) -> i64 {
        self.get(instance, func, |_, value| value).await
    }

    async fn call_func_ret_f32(&mut self, instance: &str, func: &str) -> u32 {
        self.get(instance, func, |_, value: f32| value.to_bits()).await
    }

    async fn call_func_ret_f64(&mut self, instance: &str, func: &str) -> u64 {
        self.get(instance, func, |_, value: f64| value.to_bits()).await
    }
}
