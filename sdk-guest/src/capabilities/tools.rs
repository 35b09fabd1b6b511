//! Tools that the operator connected.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{read, write};
use crate::CapabilityError;
use crate::bindings::caisson::step::tools as host;

/// The tools there are, as the host describes them.
pub fn list<T: DeserializeOwned>() -> Result<T, CapabilityError> {
    read("the list of tools", host::list_tools()?.as_bytes())
}

/// Calls a tool.
pub fn call<R: DeserializeOwned>(name: &str, arguments: &(impl Serialize + ?Sized)) -> Result<R, CapabilityError> {
    let arguments = write(&format!("the arguments of tool '{name}'"), arguments)?;
    read(&format!("the answer of tool '{name}'"), host::call(name, &arguments)?.as_bytes())
}
