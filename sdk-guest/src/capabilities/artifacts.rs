//! Files that belong to the step and outlive it. The same name again is the same file.

use serde::Serialize;

use super::write;
use crate::CapabilityError;
use crate::bindings::caisson::step::artifacts as host;

/// Keeps a file, gives its id. A name is one name, not a path.
pub fn put(name: &str, mime: &str, data: impl AsRef<[u8]>) -> Result<String, CapabilityError> {
    host::put(name, mime, data.as_ref())
}

/// Keeps a value as a JSON file, gives its id.
pub fn put_json(name: &str, value: &(impl Serialize + ?Sized)) -> Result<String, CapabilityError> {
    put(name, "application/json", write(&format!("artifact '{name}'"), value)?)
}

/// Reads a file of this run by its id.
pub fn get(id: &str) -> Result<Vec<u8>, CapabilityError> {
    host::get(id)
}
