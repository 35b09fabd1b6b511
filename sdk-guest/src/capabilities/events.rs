//! Business events, as if posted to the event endpoint. Each is emitted once, even if the host dies in the middle of the step.

use serde::Serialize;

use super::write;
use crate::CapabilityError;
use crate::bindings::caisson::step::events as host;

/// Emits an event.
pub fn emit(name: &str, payload: &(impl Serialize + ?Sized)) -> Result<(), CapabilityError> {
    host::emit(name, None, &write(&format!("event '{name}'"), payload)?)
}

/// Emits an event for whoever waits for that correlation key.
pub fn emit_for(name: &str, correlation_key: &str, payload: &(impl Serialize + ?Sized)) -> Result<(), CapabilityError> {
    host::emit(name, Some(correlation_key), &write(&format!("event '{name}'"), payload)?)
}
