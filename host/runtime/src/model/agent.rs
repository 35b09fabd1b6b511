use serde_json::{Map, Value};

/// A named agent: which model, with which prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSpec {
    /// Its name.
    pub name: String,
    /// `PROVIDER/MODEL`, for example `openai/gpt-4o`; a name alone is provider and model.
    pub model: String,
    /// The prompt: text with `{{name}}` for variables.
    pub prompt: String,
    /// Values for variables that a request leaves out.
    pub defaults: Map<String, Value>,
    /// From 0 to 2.
    pub temperature: Option<f64>,
    /// The longest answer.
    pub max_tokens: Option<u64>,
    /// JSON Schema of its answer, if it is an object.
    pub output_schema: Option<Value>,
}

/// Why an agent's file or a prompt's variables do not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// No model.
    #[error("agent '{0}' has no model: add `model: PROVIDER/NAME` to its front matter")]
    NoModel(String),
    /// A field of another type.
    #[error("agent '{agent}': {field} has to be {expected}")]
    Type {
        /// The agent.
        agent: String,
        /// The field.
        field: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// A template feature that is not built.
    #[error("agent '{agent}': '{{{{{tag}}}}}' is not supported in prompts, only variables are")]
    Tag {
        /// The agent.
        agent: String,
        /// What stands between the braces.
        tag: String,
    },
    /// Braces that do not close.
    #[error("agent '{0}': '{{{{' without '}}}}' in the prompt")]
    Open(String),
    /// A variable without value.
    #[error("agent '{agent}' needs the variable '{variable}' (given: {given})")]
    Variable {
        /// The agent.
        agent: String,
        /// The variable.
        variable: String,
        /// The names there are.
        given: String,
    },
}

impl AgentSpec {
    /// An agent with a model and a prompt, nothing else.
    pub fn new(name: impl Into<String>, model: impl Into<String>, prompt: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            model: model.into(),
            prompt: prompt.into(),
            defaults: Map::new(),
            temperature: None,
            max_tokens: None,
            output_schema: None,
        }
    }

    /// Reads a dotprompt file (`agents/NAME.prompt`): its front matter, already parsed from YAML, and the template below it.
    /// `name` is the file's; the front matter's `metadata.name` or `name` wins. Read are `model`, `config` (`temperature`,
    /// `maxOutputTokens` or `max_tokens`), `input.default` and `output.schema`.
    pub fn from_front_matter(name: &str, front: &Value, body: &str) -> Result<Self, AgentError> {
        let name = front
            .pointer("/metadata/name")
            .or_else(|| front.get("name"))
            .and_then(Value::as_str)
            .unwrap_or(name)
            .to_owned();
        let wrong = |field, expected| AgentError::Type { agent: name.clone(), field, expected };
        let model = match front.get("model") {
            Some(Value::String(model)) if !model.is_empty() => model.clone(),
            Some(Value::Null) | None => return Err(AgentError::NoModel(name)),
            Some(_) => return Err(wrong("model", "text")),
        };
        let config =
            |key: &str| front.get("config").and_then(|config| config.get(key)).filter(|value| !value.is_null());
        let temperature = match config("temperature") {
            Some(value) => Some(value.as_f64().ok_or_else(|| wrong("config.temperature", "a number"))?),
            None => None,
        };
        let max_tokens = match config("maxOutputTokens").or_else(|| config("max_tokens")) {
            Some(value) => Some(value.as_u64().ok_or_else(|| wrong("config.maxOutputTokens", "a whole number"))?),
            None => None,
        };
        let defaults = match front.pointer("/input/default") {
            Some(Value::Object(defaults)) => defaults.clone(),
            Some(Value::Null) | None => Map::new(),
            Some(_) => return Err(wrong("input.default", "an object")),
        };
        // Picoschema, dotprompt's short form, has no `type`: it is not a JSON Schema and stays a hint to people.
        let output_schema =
            front.pointer("/output/schema").filter(|schema| schema.get("type").is_some_and(Value::is_string)).cloned();
        let agent =
            Self { name, model, prompt: body.trim().to_owned(), defaults, temperature, max_tokens, output_schema };
        agent.check()?;
        Ok(agent)
    }

    fn check(&self) -> Result<(), AgentError> {
        self.walk(|_, _| Ok(()))
    }

    /// The prompt with its variables filled in: text as it is, anything else as JSON. A variable may be a dotted path.
    pub(crate) fn render(&self, variables: &Map<String, Value>) -> Result<String, AgentError> {
        let mut text = String::with_capacity(self.prompt.len());
        self.walk(|literal, variable| {
            text.push_str(literal);
            let Some(variable) = variable else { return Ok(()) };
            match lookup(variables, variable).or_else(|| lookup(&self.defaults, variable)) {
                Some(Value::String(value)) => text.push_str(value),
                Some(value) => text.push_str(&value.to_string()),
                None => {
                    let given: Vec<&str> = variables.keys().map(String::as_str).collect();
                    return Err(AgentError::Variable {
                        agent: self.name.clone(),
                        variable: variable.to_owned(),
                        given: if given.is_empty() { "none".to_owned() } else { given.join(", ") },
                    });
                }
            }
            Ok(())
        })?;
        Ok(text)
    }

    /// Visits each piece of text and the variable after it.
    fn walk(&self, mut visit: impl FnMut(&str, Option<&str>) -> Result<(), AgentError>) -> Result<(), AgentError> {
        let mut rest = self.prompt.as_str();
        while let Some((literal, tail)) = rest.split_once("{{") {
            let (tag, tail) = tail.split_once("}}").ok_or_else(|| AgentError::Open(self.name.clone()))?;
            let variable = tag.trim();
            let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
            if variable.is_empty() || !variable.chars().all(plain) {
                return Err(AgentError::Tag { agent: self.name.clone(), tag: tag.to_owned() });
            }
            visit(literal, Some(variable))?;
            rest = tail;
        }
        visit(rest, None)
    }
}

fn lookup<'a>(variables: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let mut value = variables.get(parts.next()?)?;
    for part in parts {
        value = value.get(part)?;
    }
    Some(value)
}
