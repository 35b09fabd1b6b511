//! What one entry logs: bounded, without secrets, sent on as it comes, the last lines kept for when it traps.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use caisson_core::ids::{RunId, StepId};
use caisson_core::json::Json;
use caisson_core::ports::{LogLevel, LogLine, LogSink};
use caisson_core::time::Timestamp;
use parking_lot::Mutex;

use crate::limits::{Exceeded, Limit, Limits};
use crate::redact::Redactor;

/// Lines that a trap's report shows.
const TAIL_LINES: usize = 5;
/// Of each, so many characters.
const TAIL_CHARS: usize = 400;

pub(crate) struct LogBook {
    run: RunId,
    step: StepId,
    sink: Arc<dyn LogSink>,
    redactor: Arc<Redactor>,
    bytes_max: u64,
    lines_max: u64,
    state: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    bytes: u64,
    lines: u64,
    tail: VecDeque<String>,
    /// The last fatal line: what a panic said.
    fatal: Option<String>,
}

impl LogBook {
    pub(crate) fn new(
        run: RunId,
        step: StepId,
        sink: Arc<dyn LogSink>,
        redactor: Arc<Redactor>,
        limits: &Limits,
    ) -> Self {
        let state = Mutex::default();
        Self { run, step, sink, redactor, bytes_max: limits.log_bytes, lines_max: limits.log_lines, state }
    }

    /// Takes a line, or says which limit it passes. `level` is `None` for progress.
    pub(crate) fn line(
        &self,
        level: Option<LogLevel>,
        message: String,
        fields: Option<String>,
        percent: Option<u8>,
    ) -> Result<(), Exceeded> {
        let size = (message.len() + fields.as_ref().map_or(0, String::len)) as u64;
        // Cut only after it is redacted, or half of a secret could be left.
        let hidden = match self.redactor.text(&message) {
            Cow::Owned(hidden) => Some(hidden),
            Cow::Borrowed(_) => None,
        };
        let message = hidden.unwrap_or(message);
        let fields = fields.map(|fields| match Json::parse(fields.as_str()) {
            Ok(json) => self.redactor.json(json).get().to_owned(),
            Err(_) => self.redactor.text(&fields).into_owned(),
        });
        {
            let mut state = self.state.lock();
            state.lines += 1;
            state.bytes += size;
            if state.lines > self.lines_max {
                return Err(Exceeded { limit: Limit::LogLines, max: self.lines_max });
            }
            if state.bytes > self.bytes_max {
                return Err(Exceeded { limit: Limit::LogBytes, max: self.bytes_max });
            }
            if level.is_some() {
                let short: String = message.chars().take(TAIL_CHARS).collect();
                if level == Some(LogLevel::Fatal) {
                    state.fatal = Some(short.clone());
                }
                if state.tail.len() == TAIL_LINES {
                    state.tail.pop_front();
                }
                state.tail.push_back(short);
            }
        }
        self.sink.write(&self.run, &self.step, LogLine { at: now(), level, message, fields, percent });
        Ok(())
    }

    /// The last lines, oldest first.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.state.lock().tail.iter().cloned().collect()
    }

    /// What a panic said.
    pub(crate) fn fatal(&self) -> Option<String> {
        self.state.lock().fatal.clone()
    }
}

/// A line is stamped when the host sees it.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Throws lines away: for evaluations, and where nobody listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLog;

impl LogSink for NoLog {
    fn write(&self, _: &RunId, _: &StepId, _: LogLine) {}
}
