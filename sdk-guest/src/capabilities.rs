//! What a plugin can ask of its host, one module per capability. A capability that the manifest does not ask for is refused when
//! the plugin is loaded; one that the operator did not grant answers `denied`, and the message names the grant.

/// Log lines and progress: always granted, bounded, never journaled.
pub mod log {
    use crate::bindings::caisson::step::log as host;
    pub use crate::bindings::caisson::step::log::Level;

    /// Writes a line, with JSON text as fields.
    pub fn write(level: Level, message: &str, fields: Option<&str>) {
        host::write(level, message, fields);
    }

    /// For the author.
    pub fn debug(message: &str) {
        write(Level::Debug, message, None);
    }

    /// Normal.
    pub fn info(message: &str) {
        write(Level::Info, message, None);
    }

    /// Odd.
    pub fn warn(message: &str) {
        write(Level::Warn, message, None);
    }

    /// Wrong.
    pub fn error(message: &str) {
        write(Level::Error, message, None);
    }

    /// How far the step is.
    pub fn progress(percent: Option<u8>, message: &str) {
        host::progress(percent, message);
    }
}

/// Outgoing HTTP to granted hosts.
pub mod http {
    pub use crate::bindings::caisson::step::http::{Request, Response, send};
}

/// Named secrets.
pub mod secrets {
    pub use crate::bindings::caisson::step::secrets::get;
}

/// Small state per tenant, plugin and workflow.
pub mod kv {
    pub use crate::bindings::caisson::step::kv::{delete, get, keys, set};
}

/// Files that belong to the step and outlive it.
pub mod artifacts {
    pub use crate::bindings::caisson::step::artifacts::{get, put};
}

/// Business events.
pub mod events {
    pub use crate::bindings::caisson::step::events::emit;
}

/// A language model.
pub mod model {
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use crate::CapabilityError;
    use crate::bindings::caisson::step::model as host;

    /// Sends a request, gives the response.
    pub fn complete<Q: Serialize, R: DeserializeOwned>(request: &Q) -> Result<R, CapabilityError> {
        let text = serde_json::to_string(request).map_err(|e| CapabilityError::Invalid(e.to_string()))?;
        let answer = host::complete(&text)?;
        serde_json::from_str(&answer)
            .map_err(|e| CapabilityError::Other(format!("the model's response does not read: {e}")))
    }
}

/// Tools that the operator connected.
pub mod tools {
    pub use crate::bindings::caisson::step::tools::{call, list_tools};
}
