//! The sealed chamber: plugins as WebAssembly components under wasmtime.
//!
//! A plugin is one `.wasm` with its manifest inside. It is inspected without running, compiled once per digest, and every entry of a
//! step gets a store and an instance of its own, on threads of their own, within limits that each have a name.
//!
//! Invariants:
//! - untrusted code never shares an instance, a memory or a thread's time with anything that it could harm;
//! - an entry always ends with a result and its usage, whatever the guest does;
//! - nothing is granted that the binary does not import, the manifest does not ask for and the operator did not grant.
//!
//! Deliberately absent: durability (the orchestrator's), concurrency limits per tenant (the orchestrator's), and, until their issue,
//! every capability that has an effect, the model's apart.

mod bindings;
mod builtin;
mod cache;
mod capabilities;
mod config;
mod convert;
mod engine;
mod entry;
mod evaluator;
mod limiter;
mod limits;
mod loader;
mod logbook;
mod manifest;
mod meter;
pub mod model;
mod package;
mod plugin;
mod registry;
mod runtime;
mod schema;
mod state;
mod sys;
mod threads;
mod trap;
mod wizen;

pub use builtin::built_in_packages;
pub use config::{GrantError, Grants, RuntimeConfig, SLOTS_DEFAULT};
pub use engine::Allocation;
pub use evaluator::{EVALUATION_CPU_MS, EVALUATION_MEMORY_BYTES, SOURCE_BYTES_MAX, StarlarkEvaluator};
pub use limits::{AskedLimits, Exceeded, Limit, Limits};
pub use logbook::NoLog;
pub use manifest::{ActionSpec, Capability, Manifest, RESERVED_IDS};
pub use package::{Error as PackageError, PackageInfo, SECTION, inspect};
pub use runtime::{LoadError, Runtime, StartError};
