//! Small state, kept per tenant, plugin and workflow. A write is durable when the call returns, and is made once even if the host dies
//! in the middle of the step.
//!
//! ```no_run
//! # use caisson_sdk::{Failure, kv};
//! # fn count() -> Result<u64, Failure> {
//! let count = kv::get_json::<u64>("count")?.unwrap_or(0) + 1;
//! kv::set_json("count", &count)?;
//! # Ok(count)
//! # }
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{read, write};
use crate::CapabilityError;
use crate::bindings::caisson::step::kv as host;

pub use host::{delete, get, keys};

/// Writes a value.
pub fn set(key: &str, value: impl AsRef<[u8]>) -> Result<(), CapabilityError> {
    host::set(key, value.as_ref())
}

/// Reads a value that was written with [`set_json`]; `None` if the key is not there.
pub fn get_json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, CapabilityError> {
    get(key)?.map(|value| read(&format!("the value of key '{key}'"), &value)).transpose()
}

/// Writes a value as JSON.
pub fn set_json(key: &str, value: &(impl Serialize + ?Sized)) -> Result<(), CapabilityError> {
    set(key, write(&format!("the value of key '{key}'"), value)?)
}
