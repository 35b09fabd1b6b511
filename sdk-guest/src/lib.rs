//! What Caisson plugins in Rust are written with.
//!
//! A plugin is a `cdylib` crate for `wasm32-wasip2` with a manifest, `caisson-plugin.toml`, beside its `Cargo.toml`, a function for
//! each action that the manifest names, and one macro:
//!
//! ```ignore
//! use caisson_sdk::{Context, Failure};
//!
//! caisson_sdk::plugin!(greet);
//!
//! #[derive(serde::Deserialize)]
//! struct Greet { name: String }
//!
//! fn greet(_: &Context, input: Greet) -> Result<String, Failure> {
//!     Ok(format!("hello, {}", input.name))
//! }
//! ```
//!
//! Input is anything that deserialises, output anything that serialises, and errors travel with `?`. A step that waits returns a
//! [`Suspend`]; when it wakes, the same function runs again in a fresh instance and finds why in [`Context::resumed`].
//!
//! Invariant: a plugin imports only what it uses. Every capability is a plain function here, and what is never called is never
//! imported, so the component's import list is its honest list of needs.
//!
//! Deliberately absent: files, sockets, environment variables, threads. A plugin reaches the world through its grants alone.

#[doc(hidden)]
pub mod bindings;
mod capabilities;
mod context;
mod failure;
mod glue;
mod outcome;

pub use bindings::caisson::step::capability::Error as CapabilityError;
pub use caisson_sdk_macros::plugin;
pub use capabilities::{artifacts, events, http, kv, log, model, secrets, tools};
pub use context::{Context, Verdict, Wake};
pub use failure::{Category, Failure, Retry};
pub use outcome::{Approval, IntoOutcome, Outcome, Suspend};
pub use serde_json;

/// JSON text that passes through unread.
pub type RawJson = Box<serde_json::value::RawValue>;

/// What [`plugin!`] expands to. Not for direct use, and not stable.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings;
    pub use crate::bindings::caisson::step::types::{Failure as WireFailure, Invocation, Outcome as WireOutcome};
    pub use crate::bindings::exports::caisson::step::executor::Guest;
    pub use crate::glue::{Answer, call, enter};
}
