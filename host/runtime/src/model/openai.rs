//! Any service that speaks `OpenAI`'s chat completions: Ollama, vLLM, llama.cpp, gateways.

use async_trait::async_trait;
use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::partial::{Partial, wire_name};
use super::service::{Service, ServiceConfig, Wire};
use super::{Error, Message, Progress, Provider, Reply, StopReason, Tokens, Turn};

/// Speaks to one service.
#[derive(Debug)]
pub struct OpenAi(Service);

impl OpenAi {
    /// Reads the key from the environment and prepares a client.
    pub fn new(config: &ServiceConfig) -> Result<Self, Error> {
        Service::new(config, Chat::PATH).map(Self)
    }
}

#[async_trait]
impl Provider for OpenAi {
    async fn complete(&self, turn: &Turn, progress: Progress<'_>) -> Result<Reply, Error> {
        self.0.ask(&Chat, turn, progress).await
    }
}

struct Chat;

#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    /// Of a whole answer `message`, of a piece `delta`.
    #[serde(alias = "delta", default)]
    message: Said,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Said {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
struct Call {
    #[serde(default)]
    index: Option<usize>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Function,
}

#[derive(Default, Deserialize)]
struct Function {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

impl Wire for Chat {
    const PATH: &'static str = "/chat/completions";

    fn sign(&self, request: RequestBuilder, key: Option<&str>) -> RequestBuilder {
        match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    fn body(&self, turn: &Turn, stream: bool) -> Value {
        let messages: Vec<Value> = turn.messages.iter().map(message).collect();
        let mut body = json!({"model": turn.model, "messages": messages});
        if let Some(temperature) = turn.temperature {
            body["temperature"] = json!(temperature);
        }
        if let Some(max_tokens) = turn.max_tokens {
            body["max_tokens"] = json!(max_tokens);
        }
        if let Some(schema) = &turn.output_schema {
            let named = json!({"name": "answer", "schema": schema});
            body["response_format"] = json!({"type": "json_schema", "json_schema": named});
        }
        if !turn.tools.is_empty() {
            let tool = |tool: &super::Tool| json!({"type": "function", "function": {"name": wire_name(&tool.name), "description": tool.description, "parameters": tool.parameters}});
            body["tools"] = turn.tools.iter().map(tool).collect();
        }
        if stream {
            body["stream"] = json!(true);
            body["stream_options"] = json!({"include_usage": true});
        }
        body
    }

    fn whole(&self, partial: &mut Partial, answer: Value) -> Result<(), Error> {
        take(partial, Completion::deserialize(answer).map_err(|e| unreadable(&e))?, true)
    }

    fn event(&self, partial: &mut Partial, data: &str) -> Result<(), Error> {
        if data == "[DONE]" {
            partial.over = true;
            return Ok(());
        }
        take(partial, serde_json::from_str(data).map_err(|e| unreadable(&e))?, false)
    }
}

fn message(message: &Message) -> Value {
    let Message { role, content, tool_calls, tool_call_id } = message;
    let mut sent = json!({"role": role, "content": content});
    if let Some(id) = tool_call_id {
        sent["tool_call_id"] = json!(id);
    }
    if !tool_calls.is_empty() {
        let call = |call: &super::ToolCall| json!({"id": call.id, "type": "function", "function": {"name": wire_name(&call.name), "arguments": call.arguments.to_string()}});
        sent["tool_calls"] = tool_calls.iter().map(call).collect();
    }
    sent
}

fn take(partial: &mut Partial, completion: Completion, whole: bool) -> Result<(), Error> {
    if let Some(error) = completion.error.filter(|error| !error.is_null()) {
        return Err(Error::Unavailable(format!("the model's service failed: {error}")));
    }
    if let Some(usage) = completion.usage {
        partial.usage = Tokens { input_tokens: usage.prompt_tokens, output_tokens: usage.completion_tokens };
    }
    partial.model = completion.model.or(partial.model.take());
    let Some(Choice { message, finish_reason }) = completion.choices.into_iter().next() else {
        // The last piece of a stream has the usage alone.
        return if whole { Err(Error::Malformed("the model's answer has no choice".to_owned())) } else { Ok(()) };
    };
    partial.text.push_str(message.content.as_deref().unwrap_or_default());
    partial.refusal.push_str(message.refusal.as_deref().unwrap_or_default());
    for (at, call) in message.tool_calls.into_iter().flatten().enumerate() {
        let known = partial.call(call.index.unwrap_or(at))?;
        // The first piece names the call, later ones write on at its arguments.
        if known.id.is_empty() {
            known.id = call.id.unwrap_or_default();
        }
        known.name.push_str(call.function.name.as_deref().unwrap_or_default());
        known.arguments.push_str(call.function.arguments.as_deref().unwrap_or_default());
    }
    partial.stop = finish_reason.map(|reason| stop(&reason)).or(partial.stop);
    Ok(())
}

fn stop(reason: &str) -> StopReason {
    match reason {
        "tool_calls" | "function_call" => StopReason::ToolCalls,
        "length" => StopReason::MaxTokens,
        "content_filter" => StopReason::Refused,
        _ => StopReason::Done,
    }
}

fn unreadable(error: &serde_json::Error) -> Error {
    Error::Malformed(format!("the model's answer does not read: {error}"))
}
