//! Anthropic's messages.
//!
//! An answer in JSON is asked for in words, after the system prompt: whoever asks checks it.

use async_trait::async_trait;
use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::partial::{Partial, wire_name};
use super::service::{Service, ServiceConfig, Wire};
use super::{Error, Message, Progress, Provider, Reply, StopReason, Tool, ToolCall, Turn};

/// The version of the interface that this file knows.
const VERSION: &str = "2023-06-01";
/// The service wants a limit with every request; every model of it can write this much.
const MAX_TOKENS_DEFAULT: u64 = 4096;

/// Speaks to one service.
#[derive(Debug)]
pub struct Anthropic(Service);

impl Anthropic {
    /// Reads the key from the environment and prepares a client.
    pub fn new(config: &ServiceConfig) -> Result<Self, Error> {
        Service::new(config, Messages::PATH).map(Self)
    }
}

#[async_trait]
impl Provider for Anthropic {
    async fn complete(&self, turn: &Turn, progress: Progress<'_>) -> Result<Reply, Error> {
        self.0.ask(&Messages, turn, progress).await
    }
}

struct Messages;

/// A whole answer, also the beginning of one.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    content: Vec<Block>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    usage: Usage,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        #[serde(default)]
        text: String,
    },
    ToolUse {
        id: String,
        name: String,
        #[serde(default)]
        input: Value,
    },
    /// Thoughts, and what is yet to come.
    #[serde(other)]
    Other,
}

#[derive(Default, Deserialize)]
struct Usage {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: Answer,
    },
    ContentBlockStart {
        index: usize,
        content_block: Block,
    },
    ContentBlockDelta {
        index: usize,
        delta: Delta,
    },
    MessageDelta {
        delta: Stopped,
        #[serde(default)]
        usage: Usage,
    },
    MessageStop,
    Error {
        error: Value,
    },
    /// Signs of life, and what is yet to come.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "input_json_delta")]
    Json { partial_json: String },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Stopped {
    #[serde(default)]
    stop_reason: Option<String>,
}

impl Wire for Messages {
    const PATH: &'static str = "/v1/messages";

    fn sign(&self, request: RequestBuilder, key: Option<&str>) -> RequestBuilder {
        let request = request.header("anthropic-version", VERSION);
        match key {
            Some(key) => request.header("x-api-key", key),
            None => request,
        }
    }

    fn body(&self, turn: &Turn, stream: bool) -> Value {
        let mut body = json!({
            "model": turn.model,
            "max_tokens": turn.max_tokens.unwrap_or(MAX_TOKENS_DEFAULT),
            "messages": conversation(&turn.messages),
        });
        let system = system(turn);
        if !system.is_empty() {
            body["system"] = json!(system);
        }
        if let Some(temperature) = turn.temperature {
            body["temperature"] = json!(temperature);
        }
        if !turn.tools.is_empty() {
            let tool = |tool: &Tool| json!({"name": wire_name(&tool.name), "description": tool.description, "input_schema": tool.parameters});
            body["tools"] = turn.tools.iter().map(tool).collect();
        }
        if stream {
            body["stream"] = json!(true);
        }
        body
    }

    fn whole(&self, partial: &mut Partial, answer: Value) -> Result<(), Error> {
        let answer = Answer::deserialize(answer).map_err(|e| unreadable(&e))?;
        if answer.content.is_empty() {
            return Err(Error::Malformed("the model's answer has no content".to_owned()));
        }
        begin(partial, answer)
    }

    fn event(&self, partial: &mut Partial, data: &str) -> Result<(), Error> {
        match serde_json::from_str(data).map_err(|e| unreadable(&e))? {
            Event::MessageStart { message } => begin(partial, message),
            Event::ContentBlockStart { index, content_block } => block(partial, index, content_block, true),
            Event::ContentBlockDelta { index, delta } => {
                match delta {
                    Delta::Text { text } => partial.text.push_str(&text),
                    Delta::Json { partial_json } => partial.call(index)?.arguments.push_str(&partial_json),
                    Delta::Other => {}
                }
                Ok(())
            }
            Event::MessageDelta { delta, usage } => {
                count(partial, &usage);
                partial.stop = delta.stop_reason.map(|reason| stop(&reason)).or(partial.stop);
                Ok(())
            }
            Event::MessageStop => {
                partial.over = true;
                Ok(())
            }
            Event::Error { error } => Err(Error::Unavailable(format!("the model's service failed: {error}"))),
            Event::Other => Ok(()),
        }
    }
}

fn begin(partial: &mut Partial, answer: Answer) -> Result<(), Error> {
    partial.model = answer.model;
    count(partial, &answer.usage);
    partial.stop = answer.stop_reason.map(|reason| stop(&reason));
    answer.content.into_iter().enumerate().try_for_each(|(at, one)| block(partial, at, one, false))
}

/// The input of a block that only begins is a placeholder.
fn block(partial: &mut Partial, at: usize, block: Block, begins: bool) -> Result<(), Error> {
    match block {
        Block::Text { text } => partial.text.push_str(&text),
        Block::ToolUse { id, name, input } => {
            let call = partial.call(at)?;
            (call.id, call.name) = (id, name);
            if !begins {
                call.arguments = input.to_string();
            }
        }
        Block::Other => {}
    }
    Ok(())
}

fn count(partial: &mut Partial, usage: &Usage) {
    partial.usage.input_tokens = usage.input_tokens.unwrap_or(partial.usage.input_tokens);
    partial.usage.output_tokens = usage.output_tokens.unwrap_or(partial.usage.output_tokens);
}

fn system(turn: &Turn) -> String {
    let mut parts: Vec<String> = turn
        .messages
        .iter()
        .filter(|message| message.role == "system")
        .map(|message| message.content.clone())
        .collect();
    if let Some(schema) = &turn.output_schema {
        parts.push(format!("Answer with JSON alone, without any other text, that fits this JSON Schema: {schema}"));
    }
    parts.join("\n\n")
}

/// Tools' results are the user's words here, and whoever speaks twice says it in one message.
fn conversation(messages: &[Message]) -> Vec<Value> {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages.iter().filter(|message| message.role != "system") {
        let role = if message.role == "assistant" { "assistant" } else { "user" };
        let blocks = blocks(message);
        match turns.last_mut() {
            Some((last, said)) if *last == role => said.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    turns.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect()
}

fn blocks(message: &Message) -> Vec<Value> {
    if let Some(id) = &message.tool_call_id {
        return vec![json!({"type": "tool_result", "tool_use_id": id, "content": message.content})];
    }
    // An empty text is refused.
    let text = (!message.content.is_empty()).then(|| json!({"type": "text", "text": message.content}));
    let call = |call: &ToolCall| {
        let empty = json!({});
        let input = if call.arguments.is_object() { &call.arguments } else { &empty };
        json!({"type": "tool_use", "id": call.id, "name": wire_name(&call.name), "input": input})
    };
    text.into_iter().chain(message.tool_calls.iter().map(call)).collect()
}

fn stop(reason: &str) -> StopReason {
    match reason {
        "tool_use" => StopReason::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => StopReason::MaxTokens,
        "refusal" => StopReason::Refused,
        _ => StopReason::Done,
    }
}

fn unreadable(error: &serde_json::Error) -> Error {
    Error::Malformed(format!("the model's answer does not read: {error}"))
}
