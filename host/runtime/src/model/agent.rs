use caisson_core::definition::Schemas;
use caisson_core::schema::picoschema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::template::{Fault, Template};

/// A named agent: which model, with which prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSpec {
    /// Its name.
    pub name: String,
    /// `PROVIDER/MODEL`, for example `openai/gpt-4o`; a name alone is provider and model.
    pub model: String,
    /// The prompt: a Handlebars template over the input.
    pub prompt: String,
    /// The line of its file in which the prompt begins, from 1.
    pub prompt_line: usize,
    /// Values for variables that a request leaves out.
    pub defaults: Map<String, Value>,
    /// From 0 to 2.
    pub temperature: Option<f64>,
    /// The longest answer.
    pub max_tokens: Option<u64>,
    /// JSON Schema of its answer, if it is an object.
    pub output_schema: Option<Value>,
    /// What it is for: other agents see it.
    pub description: String,
    /// JSON Schema of its variables.
    pub input_schema: Option<Value>,
    /// What it may call: `SERVER.TOOL`, `SERVER.*` or `agent.NAME`.
    pub tools: Vec<String>,
    /// How far it may go.
    pub limits: AgentLimits,
}

/// How far an agent may go in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AgentLimits {
    /// Answers of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// Tokens of all turns, read and written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// From the first turn on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

/// What front matter may say, and what each of its parts may. What nobody reads here other programs do: a misspelt key is what matters.
const KEYS: &[(&str, &[&str])] = &[
    ("", &["name", "variant", "description", "model", "config", "input", "output", "tools", "limits", "metadata"]),
    ("config", &["temperature", "maxOutputTokens", "max_tokens"]),
    ("input", &["schema", "default"]),
    ("output", &["schema", "format"]),
    ("limits", &["maxTurns", "maxTokens", "timeoutSeconds"]),
];

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
    /// A key that front matter does not have.
    #[error("agent '{agent}': unknown key '{key}' in its front matter{hint}")]
    Key {
        /// The agent.
        agent: String,
        /// The key, with the part that it stands in.
        key: String,
        /// What may be meant.
        hint: String,
    },
    /// The prompt does not read, or the input does not fill it.
    #[error("agent '{agent}': {fault}")]
    Prompt {
        /// The agent.
        agent: String,
        /// What is wrong, and where.
        fault: Fault,
    },
    /// A schema that is none.
    #[error("agent '{agent}': {field}: {problem}")]
    Schema {
        /// The agent.
        agent: String,
        /// The field.
        field: &'static str,
        /// What is wrong.
        problem: picoschema::Error,
    },
}

impl AgentSpec {
    /// An agent with a model and a prompt, nothing else.
    pub fn new(name: impl Into<String>, model: impl Into<String>, prompt: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            model: model.into(),
            prompt: prompt.into(),
            prompt_line: 1,
            defaults: Map::new(),
            temperature: None,
            max_tokens: None,
            output_schema: None,
            description: String::new(),
            input_schema: None,
            tools: Vec::new(),
            limits: AgentLimits::default(),
        }
    }

    /// Reads a dotprompt file (`agents/NAME.prompt`): its front matter, already parsed from YAML, and the template below it.
    /// `name` is the file's; the front matter's `metadata.name` or `name` wins. Read are `model`, `config` (`temperature`,
    /// `maxOutputTokens` or `max_tokens`), `input` (`schema`, `default`), `output` (`schema`, `format`), `tools`, `limits` and `metadata`.
    /// Schemas are JSON Schema or Picoschema. A key that it does not have is an error, but for keys with a dot, which are other programs'.
    /// Lines in errors are those of `body`.
    pub fn from_front_matter(name: &str, front: &Value, body: &str) -> Result<Self, AgentError> {
        let name = front
            .pointer("/metadata/name")
            .or_else(|| front.get("name"))
            .and_then(Value::as_str)
            .unwrap_or(name)
            .to_owned();
        let wrong = |field, expected| AgentError::Type { agent: name.clone(), field, expected };
        known_keys(&name, front)?;
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
        let schema = |at: &str, field| match front.pointer(at) {
            Some(Value::Null) | None => Ok(None),
            Some(schema) => picoschema::to_json_schema(schema).map(Some).map_err(|problem| AgentError::Schema {
                agent: name.clone(),
                field,
                problem,
            }),
        };
        let input_schema = schema("/input/schema", "input.schema")?;
        let output_schema = match (schema("/output/schema", "output.schema")?, front.pointer("/output/format")) {
            (schema, Some(Value::Null) | None) => schema,
            (schema, Some(Value::String(format))) if format == "json" => {
                Some(schema.unwrap_or_else(|| json!({"type": "object"})))
            }
            (None, Some(Value::String(format))) if format == "text" => None,
            (Some(_), Some(Value::String(format))) if format == "text" => {
                return Err(wrong("output.format", "'json', as there is an output.schema"));
            }
            _ => return Err(wrong("output.format", "'json' or 'text'")),
        };
        let texts = |list: &Value| -> Option<Vec<String>> {
            list.as_array()?.iter().map(|one| one.as_str().map(str::to_owned)).collect()
        };
        let tools = match front.get("tools") {
            Some(Value::Null) | None => Vec::new(),
            Some(list) => texts(list).ok_or_else(|| wrong("tools", "a list of names"))?,
        };
        let limits = match front.get("limits") {
            Some(Value::Null) | None => AgentLimits::default(),
            Some(limits) => {
                AgentLimits::deserialize(limits).map_err(|_| wrong("limits", "an object of whole numbers"))?
            }
        };
        let description = front.pointer("/metadata/description").or_else(|| front.get("description"));
        let agent = Self {
            prompt: body.trim().to_owned(),
            prompt_line: 1 + body[..body.len() - body.trim_start().len()].matches('\n').count(),
            defaults,
            temperature,
            max_tokens,
            output_schema,
            description: description.and_then(Value::as_str).unwrap_or_default().to_owned(),
            input_schema,
            tools,
            limits,
            model,
            name: name.clone(),
        };
        agent.template()?;
        Ok(agent)
    }

    /// What it takes and gives. What it has a default for nobody has to give.
    pub fn schemas(&self) -> Schemas {
        let mut input = self.input_schema.clone();
        if let Some(required) = input.as_mut().and_then(|input| input.get_mut("required")).and_then(Value::as_array_mut)
        {
            required.retain(|name| name.as_str().is_none_or(|name| !self.defaults.contains_key(name)));
        }
        Schemas { input, output: self.output_schema.clone() }
    }

    /// The prompt, read.
    pub(super) fn template(&self) -> Result<Template, AgentError> {
        Template::read(&self.prompt).map_err(|fault| self.fault(fault))
    }

    /// With its line in the agent's file.
    pub(super) fn fault(&self, mut fault: Fault) -> AgentError {
        if fault.line > 0 {
            fault.line += self.prompt_line - 1;
        }
        AgentError::Prompt { agent: self.name.clone(), fault }
    }
}

fn known_keys(agent: &str, front: &Value) -> Result<(), AgentError> {
    for (part, known) in KEYS {
        let found = if part.is_empty() { Some(front) } else { front.get(part) };
        for key in found.and_then(Value::as_object).into_iter().flat_map(Map::keys) {
            if known.contains(&key.as_str()) || (part.is_empty() && key.contains('.')) {
                continue;
            }
            let nearest = known.iter().map(|one| (strsim::damerau_levenshtein(key, one), one)).min();
            let hint = match nearest {
                Some((distance, one)) if distance <= 2.max(one.len() / 3) => format!(": did you mean '{one}'?"),
                _ => format!(" (there are: {})", known.join(", ")),
            };
            let key = if part.is_empty() { key.clone() } else { format!("{part}.{key}") };
            return Err(AgentError::Key { agent: agent.to_owned(), key, hint });
        }
    }
    Ok(())
}
