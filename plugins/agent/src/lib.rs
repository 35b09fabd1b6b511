//! The built-in plugin `agent`: one turn of a named agent. Which model that is, and its prompt, the host knows.

use caisson_sdk::{CapabilityError, Category, Context, Failure, Retry, log, model};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

caisson_sdk::plugin!(run);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Run {
    agent: Option<String>,
    task: Option<Value>,
    #[serde(default)]
    variables: Map<String, Value>,
    output_schema: Option<Value>,
    #[serde(rename = "agent_id")]
    agent_id: Option<Value>,
}

#[derive(Serialize)]
struct Request {
    agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    variables: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_schema: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    content: Value,
    model: String,
    #[serde(default)]
    usage: Tokens,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tokens {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
}

fn run(_: &Context, input: Run) -> Result<Value, Failure> {
    let agent = name(input.agent, input.agent_id)?;
    let task = match input.task {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(other) => Some(other.to_string()),
    };
    let request = Request { agent, task, variables: input.variables, output_schema: input.output_schema };
    let response: Response = model::complete(&request).map_err(|error| failed(&error))?;
    let Tokens { input_tokens, output_tokens } = response.usage;
    log::write(
        log::Level::Info,
        &format!("agent '{}' answered ({})", request.agent, response.model),
        Some(&json!({"model": response.model, "inputTokens": input_tokens, "outputTokens": output_tokens}).to_string()),
    );
    Ok(output(response.content))
}

fn name(agent: Option<String>, id: Option<Value>) -> Result<String, Failure> {
    if let Some(agent) = agent.filter(|agent| !agent.trim().is_empty()) {
        return Ok(agent);
    }
    let id = match id {
        Some(Value::String(id)) if !id.trim().is_empty() => id,
        Some(Value::Number(id)) => id.to_string(),
        _ => return Err(Failure::validation("AGENT_NAME_REQUIRED", "agent name is required").retry(Retry::Never)),
    };
    log::warn(&format!("agent_id is deprecated: write `agent: NAME` instead of `agent_id: {id}`"));
    Ok(id)
}

/// An object is the step's output; anything else is its `result`, so that `steps.x.result` reads it.
fn output(content: Value) -> Value {
    match content {
        Value::Object(_) => content,
        Value::String(text) => match serde_json::from_str(unfenced(&text)) {
            Ok(object @ Value::Object(_)) => object,
            _ => json!({"result": text}),
        },
        other => json!({"result": other}),
    }
}

/// Models like to put JSON into a Markdown block.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let Some(inner) = text.strip_prefix("```").and_then(|text| text.strip_suffix("```")) else { return text };
    inner.strip_prefix("json").unwrap_or(inner).trim()
}

fn failed(error: &CapabilityError) -> Failure {
    match error {
        CapabilityError::NotFound(message) => Failure::action("AGENT_NOT_FOUND", message).retry(Retry::Never),
        CapabilityError::Invalid(message) => Failure::validation("AGENT_REQUEST_INVALID", message).retry(Retry::Never),
        CapabilityError::Unavailable(message) => Failure::transient("MODEL_UNAVAILABLE", message),
        CapabilityError::Timeout => {
            Failure::new(Category::Transient, "MODEL_TIMEOUT", "the model did not answer in time")
        }
        CapabilityError::Other(message) => Failure::action("MODEL_FAILED", message),
        CapabilityError::Denied(_) | CapabilityError::TooLarge(_) | CapabilityError::Quota(_) => {
            Failure::of_capability(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_an_object_or_a_result() {
        for (content, expected) in [
            (json!("plain"), json!({"result": "plain"})),
            (json!("{\"a\": 1}"), json!({"a": 1})),
            (json!("```json\n{\"a\": 1}\n```"), json!({"a": 1})),
            (json!("[1]"), json!({"result": "[1]"})),
            (json!({"a": 1}), json!({"a": 1})),
            (json!([1]), json!({"result": [1]})),
            (Value::Null, json!({"result": null})),
        ] {
            assert_eq!(output(content.clone()), expected, "{content}");
        }
    }
}
