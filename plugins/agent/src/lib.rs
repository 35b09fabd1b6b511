//! The built-in plugin `agent`: a named agent works on a task until it is done or at a limit. Which model it has, and its prompt, the
//! host knows.
//!
//! What the step's input leaves out, the previous step's result gives: `variables` lie over `previous`, and the whole is what the host
//! checks against the agent's input schema and fills its prompt with.

mod turns;

use caisson_sdk::{Context, Failure, Retry};
use serde::Deserialize;
use serde_json::{Map, Value, json};

caisson_sdk::plugin!(run);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Run {
    agent: Option<String>,
    task: Option<Value>,
    #[serde(default)]
    variables: Map<String, Value>,
    #[serde(default)]
    previous: Value,
    session: Option<String>,
    output_schema: Option<Value>,
    #[serde(rename = "agent_id")]
    agent_id: Option<Value>,
}

fn run(_: &Context, input: Run) -> Result<Value, Failure> {
    let (agent, by_id) = name(input.agent, input.agent_id)?;
    let work = turns::Work {
        agent,
        by_id,
        task: input.task.and_then(text),
        variables: input.variables,
        previous: object(input.previous),
        session: input.session,
        parent: None,
        output_schema: input.output_schema,
        depth: 0,
    };
    turns::work(work).map(|answer| output(&answer))
}

fn name(agent: Option<String>, id: Option<Value>) -> Result<(String, bool), Failure> {
    if let Some(agent) = agent.filter(|agent| !agent.trim().is_empty()) {
        return Ok((agent, false));
    }
    match id {
        Some(Value::String(id)) if !id.trim().is_empty() => Ok((id, true)),
        Some(Value::Number(id)) => Ok((id.to_string(), true)),
        _ => Err(Failure::validation("AGENT_NAME_REQUIRED", "agent name is required").retry(Retry::Never)),
    }
}

fn text(task: Value) -> Option<String> {
    match task {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

/// A result that is no object has no names, and nothing of it is taken along.
fn object(previous: Value) -> Map<String, Value> {
    match previous {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// An object is the step's output; anything else is its `result`, so that `steps.x.result` reads it.
fn output(content: &Value) -> Value {
    let inner = match content {
        Value::String(text) => serde_json::from_str(unfenced(text)).ok(),
        _ => None,
    };
    match inner.unwrap_or_else(|| content.clone()) {
        object @ Value::Object(_) => object,
        _ => json!({"result": content}),
    }
}

/// Without the marks of a Markdown block, which models like to write.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let Some(inner) = text.strip_prefix("```").and_then(|text| text.strip_suffix("```")) else { return text };
    inner.strip_prefix("json").unwrap_or(inner).trim()
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
            assert_eq!(output(&content), expected, "{content}");
        }
    }
}
