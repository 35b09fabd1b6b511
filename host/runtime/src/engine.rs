//! The wasmtime engine: how guests are compiled and where their memory comes from.

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits::{INSTANCES_MAX, MEMORIES_MAX, STACK_BYTES, TABLES_MAX};

/// Wasm's stack and as much again for the host functions that it calls, which run on the same fiber.
const FIBER_STACK_BYTES: usize = STACK_BYTES + (512 << 10);
/// Core instances per slot: a Rust guest has three.
pub(crate) const INSTANCES_PER_SLOT: u32 = 4;
/// Memories per slot: nearly every guest has one.
pub(crate) const MEMORIES_PER_SLOT: u32 = 1;
/// Tables per slot: a Rust guest has two.
pub(crate) const TABLES_PER_SLOT: u32 = 2;
/// Elements of one pooled table: Starlark has some five thousand, Python ten.
const TABLE_ELEMENTS: usize = 20_000;
/// Pages that a guest touched and that its slot keeps, reset, for the next one: the whole working set of a small Rust
/// guest, and 50 slots after a burst keep no more than 13 MB.
const MEMORY_KEEP_RESIDENT_BYTES: usize = 256 << 10;
/// The same for tables.
const TABLE_KEEP_RESIDENT_BYTES: usize = 64 << 10;
/// Slots that stay warm for a component though nothing runs in them.
const WARM_SLOTS: u32 = 16;
/// What the host keeps per core instance and per component; the largest component seen (Python) needs a third.
const INSTANCE_BYTES: usize = 4 << 20;

/// Where instances come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// From a pool with so many slots: an instance costs tens of microseconds.
    Pooled {
        /// How many.
        slots: u32,
    },
    /// Mapped for each: a few times slower, but needs no large reservation of address space.
    OnDemand,
}

/// How full the pool is. What the engine counts itself, at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Component instances that are alive: guests at work, and those that wait for a host call.
    pub instances: u64,
    /// How many there may be.
    pub instances_max: u64,
    /// Their linear memories.
    pub memories: u64,
    /// How many there may be.
    pub memories_max: u64,
}

/// How full the engine's pool is; `None` if it has none.
pub(crate) fn pool_of(engine: &Engine, allocation: Allocation) -> Option<Pool> {
    let Allocation::Pooled { slots } = allocation else { return None };
    let metrics = engine.pooling_allocator_metrics()?;
    Some(Pool {
        instances: metrics.component_instances(),
        instances_max: slots.into(),
        memories: metrics.memories() as u64,
        memories_max: memories(slots).into(),
    })
}

fn memories(slots: u32) -> u32 {
    (slots * MEMORIES_PER_SLOT).max(MEMORIES_MAX)
}

/// Makes the engine: pooled if the system has the address space for it (tried, not guessed), else on demand.
pub(crate) fn build(slots: u32, pooled: bool, fuel: bool) -> wasmtime::Result<(Engine, Allocation)> {
    if pooled {
        match Engine::new(&config(Some(slots), fuel)) {
            Ok(engine) => return Ok((engine, Allocation::Pooled { slots })),
            Err(error) => {
                tracing::warn!(%error, slots, "no room for a pool of instances, mapping memory for each instead");
            }
        }
    }
    Ok((Engine::new(&config(None, fuel))?, Allocation::OnDemand))
}

/// An engine that only compiles, for the other one: where instances come from is no part of the code.
pub(crate) fn compiler(fuel: bool) -> wasmtime::Result<Engine> {
    Engine::new(&config(None, fuel))
}

fn config(pool_slots: Option<u32>, fuel: bool) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // No toolchain makes components with it yet, and what is not there cannot be attacked.
        .wasm_memory64(false)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .memory_init_cow(true)
        .consume_fuel(fuel)
        .parallel_compilation(true);
    if let Some(slots) = pool_slots {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(slots)));
    }
    config
}

fn pool(slots: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_stacks(slots)
        .total_core_instances(slots * INSTANCES_PER_SLOT)
        .total_memories(memories(slots))
        .total_tables((slots * TABLES_PER_SLOT).max(TABLES_MAX))
        .max_core_instances_per_component(INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .max_memories_per_module(MEMORIES_MAX)
        .max_core_instance_size(INSTANCE_BYTES)
        .max_component_instance_size(INSTANCE_BYTES)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT_BYTES)
        .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES)
        .max_unused_warm_slots(WARM_SLOTS)
        .pagemap_scan(Enabled::Auto);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_engine_compiles_the_other_runs() {
        let (pooled, allocation) = build(2, true, false).expect("an engine");
        assert_eq!(allocation, Allocation::Pooled { slots: 2 });
        let name = |engine: &Engine| crate::cache::entry_name(engine, "digest", "plain");
        assert_eq!(name(&pooled), name(&compiler(false).expect("an engine")));
        assert_ne!(name(&pooled), name(&compiler(true).expect("an engine")), "fuel changes the code");
    }
}
