//! Log lines and progress: always granted, bounded, never journaled.

use caisson_core::ports::LogLevel;

use crate::bindings::caisson::step::log::{Host, Level};
use crate::state::State;

impl Host for State {
    fn write(&mut self, level: Level, message: String, fields: Option<String>) -> wasmtime::Result<()> {
        self.count()?;
        let level = match level {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
            Level::Fatal => LogLevel::Fatal,
        };
        Ok(self.log.line(Some(level), message, fields, None)?)
    }

    fn progress(&mut self, percent: Option<u8>, message: String) -> wasmtime::Result<()> {
        self.count()?;
        Ok(self.log.line(None, message, None, percent.map(|percent| percent.min(100)))?)
    }
}
