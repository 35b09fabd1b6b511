//! Log lines and progress: always granted, bounded, never journaled.
//!
//! ```no_run
//! use caisson_sdk::log;
//!
//! log::info("three pages left");
//! log::with(&serde_json::json!({"page": 7})).warn("an empty page");
//! log::progress(Some(70), "seven of ten pages");
//! ```

use serde::Serialize;

#[cfg(target_arch = "wasm32")]
use crate::bindings::caisson::step::log as host;

pub use crate::bindings::caisson::step::log::Level;

/// Writes a line, with JSON text as fields.
pub fn write(level: Level, message: &str, fields: Option<&str>) {
    #[cfg(target_arch = "wasm32")]
    host::write(level, message, fields);
    // There is no host in a unit test.
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?} {message} {}", fields.unwrap_or_default());
}

/// Finest.
pub fn trace(message: &str) {
    write(Level::Trace, message, None);
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

/// Data for the line that follows. What cannot be serialised is left out.
pub fn with(fields: &impl Serialize) -> Fields {
    Fields(serde_json::to_string(fields).ok())
}

/// Data of a line that is not written yet.
#[derive(Clone, Debug)]
#[must_use = "nothing is logged until a level is chosen"]
pub struct Fields(Option<String>);

impl Fields {
    /// Finest.
    pub fn trace(&self, message: &str) {
        self.write(Level::Trace, message);
    }

    /// For the author.
    pub fn debug(&self, message: &str) {
        self.write(Level::Debug, message);
    }

    /// Normal.
    pub fn info(&self, message: &str) {
        self.write(Level::Info, message);
    }

    /// Odd.
    pub fn warn(&self, message: &str) {
        self.write(Level::Warn, message);
    }

    /// Wrong.
    pub fn error(&self, message: &str) {
        self.write(Level::Error, message);
    }

    fn write(&self, level: Level, message: &str) {
        write(level, message, self.0.as_deref());
    }
}

/// How far the step is, in percent if that is known.
pub fn progress(percent: Option<u8>, message: &str) {
    #[cfg(target_arch = "wasm32")]
    host::progress(percent, message);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{percent:?} % {message}");
}
