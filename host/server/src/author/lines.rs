//! Log lines as authors see them.

use caisson_core::ports::{LogLevel, LogLine};

use crate::api::wire::LogLine as HostLine;
use crate::cli::output::{clean, note};

/// A line's level in so many columns.
const LEVEL_WIDTH: usize = 5;

/// One line: level, message, fields.
pub fn text(line: &LogLine) -> String {
    let level = match (line.level, line.percent) {
        (None, Some(percent)) => format!("{percent:>3} %"),
        (None, None) => "…".to_owned(),
        (Some(level), _) => name(level).to_owned(),
    };
    let fields = line.fields.as_deref().map_or_else(String::new, |fields| format!(" {fields}"));
    clean(&format!("{level:<LEVEL_WIDTH$} {}{fields}", line.message)).into_owned()
}

fn name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::Fatal => "fatal",
    }
}

/// One line as a host gives it.
pub fn of_host(line: &HostLine) -> String {
    let level = match (&line.level, line.percent) {
        (Some(level), _) => level.clone(),
        (None, Some(percent)) => format!("{percent:>3} %"),
        (None, None) => "…".to_owned(),
    };
    let fields = Some(line.fields.0.get()).filter(|fields| *fields != "null");
    let fields = fields.map_or_else(String::new, |fields| format!(" {fields}"));
    clean(&format!("{level:<LEVEL_WIDTH$} {}{fields}", line.message)).into_owned()
}

/// To standard error, as it comes.
pub fn show(line: &LogLine) {
    note(&text(line));
}
