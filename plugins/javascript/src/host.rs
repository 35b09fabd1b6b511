//! The host as the engine sees it: the interfaces of `step.wit`, or a fake one in tests.

use crate::bindings::caisson::step as wit;
pub use wit::capability::Error as Refusal;
pub use wit::http::{Request, Response};
pub use wit::log::Level;

/// What a script can reach.
pub trait Host {
    /// A log line, with JSON text as fields.
    fn log(&self, level: Level, message: &str, fields: Option<&str>);
    /// How far the step is.
    fn progress(&self, percent: Option<u8>, message: &str);
    /// A file of the package.
    fn asset(&self, name: &str) -> Option<Vec<u8>>;
    /// Sends a request.
    fn http(&self, request: &Request) -> Result<Response, Refusal>;
    /// A secret's value.
    fn secret(&self, name: &str) -> Result<String, Refusal>;
    /// A stored value.
    fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, Refusal>;
    /// Stores a value.
    fn kv_set(&self, key: &str, value: &[u8]) -> Result<(), Refusal>;
    /// Forgets a value.
    fn kv_delete(&self, key: &str) -> Result<(), Refusal>;
    /// Keys that begin so.
    fn kv_keys(&self, prefix: &str, limit: u32) -> Result<Vec<String>, Refusal>;
    /// Keeps a file and gives its id.
    fn artifact_put(&self, name: &str, mime: &str, data: &[u8]) -> Result<String, Refusal>;
    /// A file by its id.
    fn artifact_get(&self, id: &str) -> Result<Vec<u8>, Refusal>;
    /// Emits an event.
    fn emit(&self, name: &str, correlation_key: Option<&str>, payload: &str) -> Result<(), Refusal>;
    /// Asks a model: JSON text in and out.
    fn complete(&self, request: &str) -> Result<String, Refusal>;
    /// The tools there are, as JSON text.
    fn tools(&self) -> Result<String, Refusal>;
    /// Calls a tool: JSON text in and out.
    fn call_tool(&self, name: &str, arguments: &str) -> Result<String, Refusal>;
}

/// The real one.
pub struct Wit;

impl Host for Wit {
    fn log(&self, level: Level, message: &str, fields: Option<&str>) {
        wit::log::write(level, message, fields);
    }

    fn progress(&self, percent: Option<u8>, message: &str) {
        wit::log::progress(percent, message);
    }

    fn asset(&self, name: &str) -> Option<Vec<u8>> {
        wit::assets::read(name)
    }

    fn http(&self, request: &Request) -> Result<Response, Refusal> {
        wit::http::send(request)
    }

    fn secret(&self, name: &str) -> Result<String, Refusal> {
        wit::secrets::get(name)
    }

    fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, Refusal> {
        wit::kv::get(key)
    }

    fn kv_set(&self, key: &str, value: &[u8]) -> Result<(), Refusal> {
        wit::kv::set(key, value)
    }

    fn kv_delete(&self, key: &str) -> Result<(), Refusal> {
        wit::kv::delete(key)
    }

    fn kv_keys(&self, prefix: &str, limit: u32) -> Result<Vec<String>, Refusal> {
        wit::kv::keys(prefix, limit)
    }

    fn artifact_put(&self, name: &str, mime: &str, data: &[u8]) -> Result<String, Refusal> {
        wit::artifacts::put(name, mime, data)
    }

    fn artifact_get(&self, id: &str) -> Result<Vec<u8>, Refusal> {
        wit::artifacts::get(id)
    }

    fn emit(&self, name: &str, correlation_key: Option<&str>, payload: &str) -> Result<(), Refusal> {
        wit::events::emit(name, correlation_key, payload)
    }

    fn complete(&self, request: &str) -> Result<String, Refusal> {
        wit::model::complete(request)
    }

    fn tools(&self) -> Result<String, Refusal> {
        wit::tools::list_tools()
    }

    fn call_tool(&self, name: &str, arguments: &str) -> Result<String, Refusal> {
        wit::tools::call(name, arguments)
    }
}
