//! Language models and the agents that use them.
//!
//! An agent is a name with a model, a system prompt and settings, per environment; a provider is what answers. Both come from the
//! server and can be replaced while runs go on: a request that has begun keeps what it found.
//!
//! Deliberately absent: conversations, and what tools do. A request is one turn; what happens before and after it is the plugin's.

mod agent;
mod anthropic;
mod openai;
mod opened;
mod partial;
mod scripted;
mod service;
mod sse;
mod template;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::definition::Schemas;
use caisson_core::ids::Realm;
use caisson_core::schema::Problem;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use agent::{AgentError, AgentLimits, AgentSpec};
pub use anthropic::Anthropic;
pub use openai::OpenAi;
pub use scripted::{ScriptError, Scripted};
pub use service::{CallLimits, ServiceConfig};
pub use template::Fault;

use template::{Said, Template};

/// One request to a provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// The agent's name.
    pub agent: String,
    /// The model's name as the provider knows it.
    pub model: String,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// From 0 to 2; the provider's default if absent.
    pub temperature: Option<f64>,
    /// The longest answer.
    pub max_tokens: Option<u64>,
    /// JSON Schema of the answer, if it has to be an object.
    pub output_schema: Option<Value>,
    /// What the model may call.
    pub tools: Vec<Tool>,
}

impl Turn {
    /// Two tools that a service could not tell apart are refused.
    fn check(&self) -> Result<(), Error> {
        let mut seen = BTreeMap::new();
        for Tool { name, .. } in &self.tools {
            if let Some(other) = seen.insert(partial::wire_name(name), name) {
                return Err(Error::Invalid(format!("the tools '{other}' and '{name}' have the same name for a model")));
            }
        }
        Ok(())
    }
}

/// Something that a model may call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of its arguments.
    #[serde(default = "any_object")]
    pub parameters: Value,
}

fn any_object() -> Value {
    serde_json::json!({"type": "object"})
}

/// A call that a model wants made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Which call it is: its result names it.
    pub id: String,
    /// The tool; a model may name one that there is not.
    pub name: String,
    /// An object. Text, where the model wrote no JSON.
    pub arguments: Value,
}

/// One message of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text; of a tool its result.
    #[serde(default)]
    pub content: String,
    /// What the assistant called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Whose result it is, of a tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// A provider's answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// Text, or the object that was asked for.
    pub content: Value,
    /// The model that answered.
    pub model: String,
    /// What it took.
    pub usage: Tokens,
    /// What it wants called before it goes on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Why it stopped there.
    pub stop_reason: StopReason,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StopReason {
    /// It has said what it had to.
    Done,
    /// It waits for results of tools.
    ToolCalls,
    /// Its answer is as long as it may be.
    MaxTokens,
    /// It will not answer.
    Refused,
}

/// Is told, while an answer comes in, how many bytes of it there are.
pub type Progress<'a> = &'a (dyn Fn(usize) + Send + Sync);

/// Tokens that a turn took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    /// Of the request.
    pub input_tokens: u64,
    /// Of the answer.
    pub output_tokens: u64,
}

/// What answers.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Answers one request. Dropping the future ends it.
    async fn complete(&self, turn: &Turn, progress: Progress<'_>) -> Result<Reply, Error>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// No such agent in the environment.
    #[error("{0}")]
    AgentNotFound(String),
    /// No answer in time.
    #[error("the model did not answer in time")]
    Timeout,
    /// May work later.
    #[error("{0}")]
    Unavailable(String),
    /// The answer has more than so many bytes.
    #[error("the model's answer has more than {0} bytes")]
    TooLarge(u64),
    /// The answer is none.
    #[error("{0}")]
    Malformed(String),
    /// Will not work later.
    #[error("{0}")]
    Other(String),
}

/// The agents of one environment, by name.
type Agents = BTreeMap<String, Agent>;

/// An agent and its prompt, read. It is read when the agents are set and not when it is used: a guest's call runs on a stack that the parser
/// does not know.
struct Agent {
    spec: AgentSpec,
    prompt: Result<Template, AgentError>,
}

impl Agent {
    fn new(spec: AgentSpec) -> Self {
        Self { prompt: spec.template(), spec }
    }

    /// What the prompt becomes with an input, the defaults below it.
    fn render(&self, variables: &Map<String, Value>) -> Result<Vec<Said>, Error> {
        let invalid = |error: &AgentError| Error::Invalid(error.to_string());
        let mut input = self.spec.defaults.clone();
        input.extend(variables.clone());
        let prompt = self.prompt.as_ref().map_err(invalid)?;
        prompt.render(input).map_err(|fault| invalid(&self.spec.fault(fault)))
    }
}

/// Providers by name, and agents by environment and name.
#[derive(Default)]
pub struct Models(RwLock<Known>);

#[derive(Default)]
struct Known {
    providers: BTreeMap<String, Arc<dyn Provider>>,
    environments: BTreeMap<String, Agents>,
}

#[derive(Deserialize)]
struct Request {
    agent: String,
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    tools: Vec<Tool>,
    #[serde(default)]
    task: Option<String>,
    #[serde(default)]
    variables: Map<String, Value>,
    #[serde(default, alias = "outputSchema")]
    output_schema: Option<Value>,
    /// The conversation begins with the agent's prompt already.
    #[serde(default)]
    prepared: bool,
}

/// A request is a turn, or opens an agent.
#[derive(Deserialize)]
#[serde(untagged)]
enum Asked {
    Open { open: opened::Open },
    Turn(Request),
}

/// A turn's answer, and where it does not fit the schema that was asked for.
#[derive(Serialize)]
struct Checked {
    #[serde(flatten)]
    reply: Reply,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Problem>,
}

impl Models {
    /// No provider, no agent.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a provider; agents name it before the slash of their `model`.
    pub fn set_provider(&self, name: impl Into<String>, provider: Arc<dyn Provider>) {
        self.0.write().providers.insert(name.into(), provider);
    }

    /// Replaces all agents of an environment.
    pub fn set_agents(&self, environment: impl Into<String>, agents: impl IntoIterator<Item = AgentSpec>) {
        let agents = agents.into_iter().map(|agent| (agent.name.clone(), Agent::new(agent))).collect();
        self.0.write().environments.insert(environment.into(), agents);
    }

    /// An environment's agents by name: what each takes and gives.
    pub fn agents(&self, environment: &str) -> BTreeMap<String, Schemas> {
        let known = self.0.read();
        let agents = known.environments.get(environment).into_iter().flatten();
        agents.map(|(name, agent)| (name.clone(), agent.spec.schemas())).collect()
    }

    /// Answers a guest's request, JSON in and out. What a turn sends to its model is left in `sent`.
    pub(crate) async fn complete(
        &self,
        realm: &Realm,
        request: &str,
        progress: Progress<'_>,
        sent: &mut Vec<Message>,
    ) -> Result<String, Error> {
        let asked = serde_json::from_str(request)
            .map_err(|e| Error::Invalid(format!("the model request does not read: {e}")))?;
        let request = match asked {
            Asked::Turn(request) => request,
            Asked::Open { open } => {
                let empty = Agents::new();
                let known = self.0.read();
                let agents = known.environments.get(&*realm.environment).unwrap_or(&empty);
                return written(&opened::open(&realm.environment, agents, open)?);
            }
        };
        let (turn, provider) = self.prepare(realm, request)?;
        sent.clone_from(&turn.messages);
        let mut reply = provider.complete(&turn, progress).await?;
        let mut problems = Vec::new();
        if let Some(schema) = turn.output_schema.as_ref().filter(|_| reply.tool_calls.is_empty()) {
            reply.content = opened::in_json(reply.content);
            problems = opened::problems(schema, &reply.content)?;
        }
        written(&Checked { reply, problems })
    }

    fn prepare(&self, realm: &Realm, request: Request) -> Result<(Turn, Arc<dyn Provider>), Error> {
        let known = self.0.read();
        let empty = Agents::new();
        let agents = known.environments.get(&*realm.environment).unwrap_or(&empty);
        let known_agent = agents.get(&request.agent);
        let known_agent = known_agent.ok_or_else(|| not_found(&request.agent, &realm.environment, agents))?;
        let agent = &known_agent.spec;
        let (provider, model) = agent.model.split_once('/').unwrap_or((&agent.model, &agent.model));
        let provider = known.providers.get(provider).cloned().ok_or_else(|| {
            let names: Vec<&str> = known.providers.keys().map(String::as_str).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Error::Other(format!(
                "agent '{}' uses the model '{}', but there is no provider '{provider}' (there are: {names})",
                agent.name, agent.model
            ))
        })?;
        let prompt = if request.prepared { Vec::new() } else { known_agent.render(&request.variables)? };
        let turn = Turn {
            agent: agent.name.clone(),
            model: model.to_owned(),
            messages: converse(&agent.name, prompt, request.messages, request.task)?,
            temperature: agent.temperature,
            max_tokens: agent.max_tokens,
            output_schema: request.output_schema.or_else(|| agent.output_schema.clone()),
            tools: request.tools,
        };
        Ok((turn, provider))
    }
}

fn written(answer: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(answer).map_err(|e| Error::Other(e.to_string()))
}

/// The prompt says how to behave, the task what to do; without a task the prompt is the task. A prompt with roles says itself what is what.
fn converse(agent: &str, prompt: Vec<Said>, given: Vec<Message>, task: Option<String>) -> Result<Vec<Message>, Error> {
    let task = task.filter(|task| !task.is_empty());
    let alone = given.is_empty() && task.is_none();
    let has_roles = prompt.iter().any(|said| said.role.is_some());
    let role = if alone || has_roles { "user" } else { "system" };
    let mut messages: Vec<Message> = prompt.into_iter().map(|said| said.message(role)).collect();
    messages.extend(given);
    messages.extend(task.map(|task| Message { role: "user".to_owned(), content: task, ..Message::default() }));
    if messages.is_empty() {
        return Err(Error::Invalid(format!("agent '{agent}' has neither a prompt nor a task")));
    }
    if messages.iter().all(|message| message.role == "system") {
        return Err(Error::Invalid(format!("agent '{agent}' has only a system prompt and no task")));
    }
    Ok(messages)
}

fn not_found(name: &str, environment: &str, agents: &Agents) -> Error {
    let mut message = format!("agent '{name}' not found in environment '{environment}'");
    let nearest = agents
        .keys()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .min()
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 3));
    if let Some((_, known)) = nearest {
        // Writing to a String cannot fail.
        let _ = write!(message, ": did you mean '{known}'?");
    }
    Error::AgentNotFound(message)
}
