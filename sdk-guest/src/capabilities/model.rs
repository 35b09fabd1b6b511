//! A language model, as a named agent of the run's environment. Which model that is, and its prompt, the host knows.
//!
//! ```no_run
//! # use caisson_sdk::{Failure, model};
//! # #[derive(serde::Deserialize)] struct Triage { severity: String }
//! # fn triage(report: &str) -> Result<Triage, Failure> {
//! let answer = model::agent("triager").task(report).complete()?;
//! # Ok(
//! answer.json()?
//! # )
//! # }
//! ```

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{read, write};
use crate::bindings::caisson::step::model as host;
use crate::{CapabilityError, Failure};

/// A turn of that agent.
pub fn agent(name: impl Into<String>) -> Request {
    Request { agent: name.into(), task: None, variables: Map::new(), output_schema: None }
}

/// What an agent is asked. Goes out with [`complete`](Request::complete).
#[derive(Clone, Debug, Serialize)]
#[must_use = "nothing is asked until `complete`"]
pub struct Request {
    agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    variables: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_schema: Option<Value>,
}

impl Request {
    /// What to do.
    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.task = Some(task.into());
        self
    }

    /// A value for the agent's prompt.
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Values for the agent's prompt.
    pub fn variables(mut self, variables: Map<String, Value>) -> Self {
        self.variables.extend(variables);
        self
    }

    /// The JSON Schema of the answer.
    pub fn output_schema(mut self, schema: Value) -> Self {
        self.output_schema = Some(schema);
        self
    }

    /// Waits for the answer.
    pub fn complete(&self) -> Result<Answer, CapabilityError> {
        complete(self)
    }
}

/// What an agent answered.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Text, or an object if the agent answers in JSON.
    pub content: Value,
    /// The model that answered.
    pub model: String,
    /// What it took.
    #[serde(default)]
    pub usage: Usage,
}

/// Tokens that an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Read.
    pub input_tokens: u64,
    /// Written.
    pub output_tokens: u64,
}

impl Answer {
    /// The answer as text.
    pub fn text(&self) -> String {
        match &self.content {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// The answer as JSON, also out of text with a Markdown block of JSON, which models like to write.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let read = match &self.content {
            Value::String(text) => serde_json::from_str(unfenced(text)),
            other => T::deserialize(other),
        };
        read.map_err(|error| {
            Failure::action("ANSWER_INVALID", format!("the answer of {} does not read: {error}", self.model))
                .details(&serde_json::json!({"content": self.content}))
        })
    }
}

/// Without the marks of a Markdown block.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let Some(inner) = text.strip_prefix("```").and_then(|text| text.strip_suffix("```")) else { return text };
    inner.strip_prefix("json").unwrap_or(inner).trim()
}

/// Sends a request of the documented shape, gives the response.
pub fn complete<Q: Serialize + ?Sized, R: DeserializeOwned>(request: &Q) -> Result<R, CapabilityError> {
    let answer = host::complete(&write("the request", request)?)?;
    read("the model's response", answer.as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_found_in_text() {
        let answer = |content: Value| Answer { content, model: "m".to_owned(), usage: Usage::default() };
        for content in
            [json!({"a": 1}), json!("{\"a\": 1}"), json!("```json\n{\"a\": 1}\n```"), json!("```\n{\"a\": 1}```")]
        {
            assert_eq!(answer(content.clone()).json::<Value>().expect("JSON"), json!({"a": 1}), "{content}");
        }
        let failure = answer(json!("sorry")).json::<Value>().expect_err("no JSON");
        assert_eq!(failure.code(), "ANSWER_INVALID");
    }
}
