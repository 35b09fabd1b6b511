//! The built-in plugin `agent`: one turn of a named agent. Which model that is, and its prompt, the host knows.

use caisson_sdk::model::{Answer, Usage};
use caisson_sdk::{CapabilityError, Category, Context, Failure, Retry, log, model};
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
    output_schema: Option<Value>,
    #[serde(rename = "agent_id")]
    agent_id: Option<Value>,
}

fn run(_: &Context, input: Run) -> Result<Value, Failure> {
    let agent = name(input.agent, input.agent_id)?;
    let mut request = model::agent(&agent).variables(input.variables);
    match input.task {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => request = request.task(text),
        Some(other) => request = request.task(other.to_string()),
    }
    if let Some(schema) = input.output_schema {
        request = request.output_schema(schema);
    }
    let answer = request.complete().map_err(|error| failed(&error))?;
    let Usage { input_tokens, output_tokens } = answer.usage;
    log::with(&json!({"model": answer.model, "inputTokens": input_tokens, "outputTokens": output_tokens}))
        .info(&format!("agent '{agent}' answered ({})", answer.model));
    Ok(output(&answer))
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
fn output(answer: &Answer) -> Value {
    match (&answer.content, answer.json()) {
        (_, Ok(object @ Value::Object(_))) => object,
        (content, _) => json!({"result": content}),
    }
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
            let answer = Answer { content: content.clone(), model: "m".to_owned(), usage: Usage::default() };
            assert_eq!(output(&answer), expected, "{content}");
        }
    }
}
