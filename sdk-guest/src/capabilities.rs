//! What a plugin can ask of its host, one module per capability. A capability that the manifest does not ask for is refused when
//! the plugin is loaded; one that the operator did not grant answers `denied`, and the message names the grant.

pub mod artifacts;
pub mod assets;
pub mod events;
pub mod http;
pub mod kv;
pub mod log;
pub mod model;
pub mod secrets;
pub mod tools;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::CapabilityError;

/// JSON text of what goes to the host.
fn write(what: &str, value: &(impl Serialize + ?Sized)) -> Result<String, CapabilityError> {
    serde_json::to_string(value)
        .map_err(|error| CapabilityError::Invalid(format!("{what} cannot be written as JSON: {error}")))
}

/// Reads what came from the host.
fn read<T: DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, CapabilityError> {
    serde_json::from_slice(text).map_err(|error| CapabilityError::Other(format!("{what} does not read: {error}")))
}
