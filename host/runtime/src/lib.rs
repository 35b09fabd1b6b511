//! The sealed chamber: plugins as WebAssembly components under wasmtime.
//!
//! A plugin is one `.wasm` with its manifest inside. It is inspected without running, compiled once per digest, and
//! every entry of a step gets a store and an instance of its own, on threads of their own, within limits that each have
//! a name.
//!
//! ```text
//! bytes ─► package (inspect) ─► registry: realm, id ─► version, in force or pinned
//!                                                        │ at the first use, by digest
//!                                                        ▼
//!          cache ◄─ compiler (a child process) ◄─ loader ─► code + schemas ─► entry ─► capabilities ─► journal
//! ```
//!
//! Invariants:
//! - untrusted code never shares an instance, a memory or a thread's time with anything that it could harm;
//! - an entry always ends with a result and its usage, whatever the guest does;
//! - nothing is done that the binary does not import, the manifest does not ask for, the operator did not grant or the
//!   workflow took away;
//! - what a guest was answered is durable before it sees it, and the same when it is run again.
//!
//! Deliberately absent: deciding who may install what (the orchestrator's), concurrency limits per tenant (the
//! orchestrator's), and speaking to tool servers (another adapter's).

mod assets;
mod bindings;
mod builtin;
mod cache;
mod capabilities;
mod clock;
mod compile;
mod compiler;
mod config;
mod convert;
mod engine;
mod entry;
mod evaluator;
mod journal;
mod limiter;
mod limits;
mod loader;
mod logbook;
mod manifest;
mod memory;
mod meter;
pub mod model;
mod net;
mod package;
mod plugin;
mod random;
mod redact;
mod registry;
mod runtime;
mod schema;
mod sessions;
mod state;
mod sys;
mod threads;
mod trap;
mod wizen;

pub use builtin::built_in_packages;
pub use compile::compile_main;
pub use config::{Compiler, LOADED_DEFAULT, NoSecrets, RuntimeConfig, SLOTS_DEFAULT};
pub use engine::{Allocation, Pool};
pub use entry::Measured;
pub use evaluator::{EVALUATION_CPU_MS, EVALUATION_MEMORY_BYTES, SOURCE_BYTES_MAX, StarlarkEvaluator};
pub use limits::{AskedLimits, Exceeded, Limit, Limits};
pub use logbook::NoLog;
pub use manifest::{Error as ManifestError, Manifest};
pub use memory::MemoryJournal;
pub use net::{Resolver, SystemResolver, Transport, TransportError, TransportReply, TransportRequest};
pub use package::{
    ASSET_BYTES_MAX, ASSET_SECTION, ASSETS_MAX, COMPONENT_BYTES_MAX, Error as PackageError, MANIFEST_SECTION,
    PLUGIN_JS, SCHEMAS_SECTION, assets, embed, inspect, javascript_package,
};
pub use runtime::{Runtime, StartError};
