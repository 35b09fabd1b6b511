//! An answer as it comes in, whatever the service calls its parts.

use serde_json::Value;

use super::{Error, Reply, StopReason, Tokens, ToolCall, Turn};

/// More than this at once is no plan but a fault; a stream names the place of each.
const CALLS_MAX: usize = 128;

/// What has come so far.
#[derive(Debug, Default)]
pub(super) struct Partial {
    pub(super) text: String,
    pub(super) refusal: String,
    pub(super) calls: Vec<PartialCall>,
    pub(super) model: Option<String>,
    pub(super) usage: Tokens,
    pub(super) stop: Option<StopReason>,
    /// The service said that it is done.
    pub(super) over: bool,
}

/// A call of a tool as it comes in.
#[derive(Debug, Default)]
pub(super) struct PartialCall {
    pub(super) id: String,
    pub(super) name: String,
    /// JSON text.
    pub(super) arguments: String,
}

impl Partial {
    /// The call at that place.
    pub(super) fn call(&mut self, at: usize) -> Result<&mut PartialCall, Error> {
        if at >= CALLS_MAX {
            return Err(Error::Malformed(format!("the model's answer calls more than {CALLS_MAX} tools")));
        }
        if self.calls.len() <= at {
            self.calls.resize_with(at + 1, PartialCall::default);
        }
        Ok(&mut self.calls[at])
    }

    /// The size of what the model wrote.
    pub(super) fn bytes(&self) -> usize {
        let calls: usize = self.calls.iter().map(|call| call.name.len() + call.arguments.len()).sum();
        self.text.len() + self.refusal.len() + calls
    }

    /// The answer under our own names.
    pub(super) fn into_reply(self, turn: &Turn) -> Result<Reply, Error> {
        if self.text.is_empty() && self.calls.is_empty() && !self.refusal.is_empty() {
            return Err(Error::Other(format!("the model refused: {}", self.refusal)));
        }
        let tool_calls: Vec<ToolCall> = self
            .calls
            .into_iter()
            // Places that a stream left out.
            .filter(|call| !call.name.is_empty())
            .enumerate()
            .map(|(at, call)| call.into_call(at, turn))
            .collect();
        if self.text.is_empty() && tool_calls.is_empty() {
            return Err(Error::Malformed("the model's answer has no content".to_owned()));
        }
        let content = match &turn.output_schema {
            Some(_) => serde_json::from_str(&self.text).unwrap_or(Value::String(self.text)),
            None => Value::String(self.text),
        };
        let stop = if tool_calls.is_empty() { StopReason::Done } else { StopReason::ToolCalls };
        Ok(Reply {
            content,
            model: self.model.unwrap_or_else(|| turn.model.clone()),
            usage: self.usage,
            tool_calls,
            stop_reason: self.stop.unwrap_or(stop),
        })
    }
}

impl PartialCall {
    fn into_call(self, at: usize, turn: &Turn) -> ToolCall {
        let name = turn.tools.iter().find(|tool| wire_name(&tool.name) == self.name);
        let arguments = match self.arguments.trim() {
            "" => Value::Object(serde_json::Map::new()),
            // The model's own mistake, which whoever runs the loop can tell it.
            text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
        };
        ToolCall {
            id: if self.id.is_empty() { format!("call_{at}") } else { self.id },
            name: name.map_or(self.name, |tool| tool.name.clone()),
            arguments,
        }
    }
}

/// A tool's name as services take it: letters, digits, `_` and `-`. `git.log` is `git__log`.
pub(super) fn wire_name(name: &str) -> String {
    let mut wire = String::with_capacity(name.len() + 2);
    for c in name.chars() {
        match c {
            '.' => wire.push_str("__"),
            c if c.is_ascii_alphanumeric() || c == '-' || c == '_' => wire.push(c),
            _ => wire.push('_'),
        }
    }
    wire
}
