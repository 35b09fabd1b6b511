//! How a plugin begins with an agent: its input is checked, its prompt rendered, and everything that the loop goes by handed over.
//!
//! It is one answer of the journal, so that a file that changes while a step runs does not change what the step goes by. Live are only
//! the model and its settings, which each turn looks up by the agent's name.

use caisson_core::schema::{Problem, Validator, taken};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{AgentLimits, AgentSpec, Agents, Error, Message, Tool, converse, not_found};

/// What stands before the name of an agent that is another one's tool.
const AGENT_TOOL: &str = "agent.";

/// Which agent, and its input.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Open {
    pub(super) agent: String,
    #[serde(default)]
    task: Option<String>,
    /// What the agent is given.
    #[serde(default)]
    variables: Map<String, Value>,
    /// What the variables are laid over, of which a closed input schema takes only what it names.
    #[serde(default)]
    previous: Map<String, Value>,
}

/// What the loop goes by.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Opened {
    /// Why the input does not fit; then there is nothing else to go by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Problem>,
    messages: Vec<Message>,
    /// Patterns of the tools that the agent may call.
    tools: Vec<String>,
    /// The agents that it may call, as tools.
    agents: Vec<Tool>,
    output_schema: Option<Value>,
    limits: AgentLimits,
}

pub(super) fn open(environment: &str, agents: &Agents, open: Open) -> Result<Opened, Error> {
    let known = agents.get(&open.agent).ok_or_else(|| not_found(&open.agent, environment, agents))?;
    let agent = &known.spec;
    let mut opened = Opened {
        problems: Vec::new(),
        messages: Vec::new(),
        tools: Vec::new(),
        agents: Vec::new(),
        output_schema: agent.output_schema.clone(),
        limits: agent.limits,
    };
    let mut given = match &agent.input_schema {
        Some(schema) => taken(schema, open.previous),
        None => open.previous,
    };
    given.extend(open.variables);
    if let Some(schema) = &agent.input_schema {
        let mut input = agent.defaults.clone();
        input.extend(given.clone());
        opened.problems = problems(schema, &Value::Object(input))?;
        if !opened.problems.is_empty() {
            return Ok(opened);
        }
    }
    let prompt = known.render(&given)?;
    opened.messages = converse(&agent.name, prompt, Vec::new(), open.task)?;
    for tool in &agent.tools {
        match tool.strip_prefix(AGENT_TOOL) {
            Some(name) => {
                let other = agents.get(name).ok_or_else(|| not_found(name, environment, agents))?;
                opened.agents.push(as_tool(&other.spec));
            }
            None => opened.tools.push(tool.clone()),
        }
    }
    Ok(opened)
}

/// An agent as another one sees it. Without an input schema it takes a task.
fn as_tool(agent: &AgentSpec) -> Tool {
    let task = json!({"type": "object", "properties": {"task": {"type": "string"}}, "required": ["task"]});
    Tool {
        name: format!("{AGENT_TOOL}{}", agent.name),
        description: agent.description.clone(),
        parameters: agent.input_schema.clone().unwrap_or(task),
    }
}

/// Where a value does not fit a schema.
pub(super) fn problems(schema: &Value, value: &Value) -> Result<Vec<Problem>, Error> {
    let validator = Validator::compile(schema).map_err(|e| Error::Invalid(format!("the schema does not read: {e}")))?;
    Ok(validator.validate(value).err().unwrap_or_default())
}

/// An answer in JSON, also out of a Markdown block, which models like to write.
pub(super) fn in_json(content: Value) -> Value {
    let Value::String(text) = &content else { return content };
    let inner = text.trim();
    let inner = match inner.strip_prefix("```").and_then(|text| text.strip_suffix("```")) {
        Some(block) => block.strip_prefix("json").unwrap_or(block).trim(),
        None => inner,
    };
    serde_json::from_str(inner).unwrap_or(content)
}
