//! A prompt's body: Handlebars, as dotprompt has it, over an agent's input.
//!
//! The crate `handlebars` reads and renders. What is ours: a body is checked as a whole when its file is read, what it may do is bounded
//! by steps and bytes, a value that is no text is written as JSON, and `{{role}}` begins a message.
//!
//! Invariant: what comes from the input is written and never read: neither a tag nor a role in it means anything, since messages are
//! begun by the helper and not by a mark in the text. Deliberately absent: partials, decorators, sub-expressions and escaping for HTML.

mod check;
mod helpers;
mod scan;

use std::fmt;
use std::sync::Arc;

use handlebars::{
    Context, Handlebars, Output, RenderContext, RenderError, RenderErrorReason, Renderable, TemplateError,
    TemplateErrorReason, no_escape,
};
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::Message;

/// The longest body: a prompt of ten thousand words, and room.
const SOURCE_BYTES_MAX: usize = 256 << 10;
/// What a prompt may become: as long as a value may be.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Turns of loops and values that are written, in one rendering: a tenth of a second at most.
const STEPS_MAX: u32 = 100_000;

/// A body that was read and found good.
pub(crate) struct Template(handlebars::Template);

/// What is wrong with a body, or with the input that was to fill it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line in the body, from 1. 0 if it is about the whole.
    pub line: usize,
    /// Character in the line, from 1.
    pub column: usize,
    /// What it is.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        f.write_str(&self.message)
    }
}

impl Template {
    /// Reads a body.
    pub(crate) fn read(source: &str) -> Result<Self, Fault> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(whole(format!("a prompt may have {SOURCE_BYTES_MAX} bytes, not {}", source.len())));
        }
        scan::scan(source)?;
        let mut template = handlebars::Template::compile(source).map_err(|error| unread(&error))?;
        check::check(&mut template)?;
        Ok(Self(template))
    }

    /// The messages that the body becomes with an input. Text before the first role has none.
    pub(crate) fn render(&self, input: Map<String, Value>) -> Result<Vec<Said>, Fault> {
        let written = Arc::new(Mutex::new(Written::default()));
        let mut registry = Handlebars::new();
        registry.set_strict_mode(true);
        registry.register_escape_fn(no_escape);
        helpers::register(&mut registry, &written);
        let context = Context::from(Value::Object(input));
        let mut out = Pieces(Arc::clone(&written));
        let done = self.0.render(&registry, &context, &mut RenderContext::new(None), &mut out);
        if let Err(error) = done {
            return Err(failed(&error, context.data()));
        }
        let said = std::mem::take(&mut written.lock().said);
        Ok(said.into_iter().filter(|said| !said.text.trim().is_empty()).collect())
    }
}

/// A part of the prompt, said in a role if the body gives one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) role: Option<&'static str>,
    pub(crate) text: String,
}

impl Said {
    /// As a message; what has no role is said by `role`.
    pub(crate) fn message(self, role: &str) -> Message {
        Message {
            role: self.role.unwrap_or(role).to_owned(),
            content: self.text.trim().to_owned(),
            ..Message::default()
        }
    }
}

/// What a rendering has written and used so far.
#[derive(Default)]
struct Written {
    said: Vec<Said>,
    bytes: usize,
    steps: u32,
}

impl Written {
    /// Counts one turn of a loop, or one value.
    fn step(&mut self) -> Result<(), RenderError> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(RenderErrorReason::Other(format!("the prompt takes more than {STEPS_MAX} steps")).into());
        }
        Ok(())
    }

    fn push(&mut self, text: &str) -> Result<(), String> {
        self.bytes += text.len();
        if self.bytes > OUTPUT_BYTES_MAX {
            return Err(format!("the prompt becomes longer than {OUTPUT_BYTES_MAX} bytes"));
        }
        if self.said.is_empty() {
            self.said.push(Said::default());
        }
        if let Some(last) = self.said.last_mut() {
            last.text.push_str(text);
        }
        Ok(())
    }
}

/// Where the library writes to.
struct Pieces(Arc<Mutex<Written>>);

impl Output for Pieces {
    fn write(&mut self, text: &str) -> Result<(), std::io::Error> {
        self.0.lock().push(text).map_err(std::io::Error::other)
    }
}

fn whole(message: String) -> Fault {
    Fault { line: 0, column: 0, message }
}

fn unread(error: &TemplateError) -> Fault {
    let (line, column) = error.pos().unwrap_or_default();
    let message = match error.reason() {
        // It lists what the grammar has, by the names of its rules.
        TemplateErrorReason::InvalidSyntax(_) => "the tag does not read".to_owned(),
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    };
    Fault { line, column, message }
}

fn failed(error: &RenderError, input: &Value) -> Fault {
    let message = match error.reason() {
        RenderErrorReason::MissingVariable(path) => helpers::missing(path.as_deref().unwrap_or_default(), input),
        RenderErrorReason::IOError(error) => error.to_string(),
        other => other.to_string(),
    };
    Fault { line: error.line_no.unwrap_or_default(), column: error.column_no.unwrap_or_default(), message }
}

#[cfg(test)]
mod tests;
