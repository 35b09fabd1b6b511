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
//! Input is anything that deserialises, output anything that serialises, and errors travel with `?` ([`Failure`] says what becomes of
//! them). What the operator configured is read with [`Context::config`].
//!
//! # The world
//!
//! There are no files, sockets, environment variables or threads. A plugin reaches the world through the modules here, one for each
//! capability, and each has to be asked for in the manifest and granted by the operator:
//!
//! ```no_run
//! # use caisson_sdk::{Failure, http, kv, log};
//! # #[derive(serde::Deserialize)] struct Rates { eur: f64 }
//! # fn rates() -> Result<f64, Failure> {
//! let answer = http::get("https://api.example.com/rates")
//!     .query("base", "USD")
//!     .bearer_secret("RATES_TOKEN") // filled in by the host, this code never sees it
//!     .send()?
//!     .error_for_status()?;
//! let rates: Rates = answer.json()?;
//! kv::set_json("last", &rates.eur)?;
//! log::with(&serde_json::json!({"eur": rates.eur})).info("fetched");
//! # Ok(rates.eur)
//! # }
//! ```
//!
//! # Waiting
//!
//! A step that waits returns a [`Suspend`] with a typed state: the instance goes away, the step takes no memory, and may sleep for a
//! year and through restarts. When it wakes, the same function runs again in a fresh instance and finds state and reason in
//! [`Context::wake`].
//!
//! # Schemas
//!
//! With the feature `schemas` every input and output type implements [`schemars::JsonSchema`](https://docs.rs/schemars), and
//! `caisson plugin build` writes the schemas that follow from the types into the component. `plugin!(config = Settings, greet)` adds
//! the configuration's. Without the feature the manifest's own schemas are all there is.
//!
//! Invariant: a plugin imports only what it uses. Every capability is a plain function here, and what is never called is never
//! imported, so the component's import list is its honest list of needs.

#[doc(hidden)]
#[rustfmt::skip]
pub mod bindings;
mod capabilities;
mod context;
mod failure;
mod glue;
mod outcome;
mod schema;

pub use bindings::caisson::step::capability::Error as CapabilityError;
pub use caisson_sdk_macros::plugin;
pub use capabilities::{artifacts, assets, events, http, kv, log, model, secrets, tools};
pub use context::{Context, Verdict, Wake};
pub use failure::{Category, Failure, Retry};
pub use outcome::{Approval, IntoOutcome, Outcome, Suspend};
#[cfg(feature = "schemas")]
pub use schemars;
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
    pub use crate::schema::{Schemas, describe};
}
