//! Language models and the agents that use them.
//!
//! An agent is a name with a model, a system prompt and settings, per environment; a provider is what answers. Both come from the
//! server and can be replaced while runs go on: a request that has begun keeps what it found.
//!
//! Deliberately absent: conversations, tools and retries. A request is one turn; what happens before and after it is the plugin's.

mod agent;
mod openai;
mod scripted;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::ids::Realm;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use agent::{AgentError, AgentSpec};
pub use openai::{OpenAi, OpenAiConfig};
pub use scripted::{ScriptError, Scripted};

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
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

/// A provider's answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reply {
    /// Text, or the object that was asked for.
    pub content: Value,
    /// The model that answered.
    pub model: String,
    /// What it took.
    pub usage: Tokens,
}

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
    async fn complete(&self, turn: &Turn) -> Result<Reply, Error>;
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
    /// Will not work later.
    #[error("{0}")]
    Other(String),
}

/// The agents of one environment, by name.
pub type Agents = BTreeMap<String, AgentSpec>;

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
    task: Option<String>,
    #[serde(default)]
    variables: serde_json::Map<String, Value>,
    #[serde(default)]
    output_schema: Option<Value>,
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
        let agents = agents.into_iter().map(|agent| (agent.name.clone(), agent)).collect();
        self.0.write().environments.insert(environment.into(), agents);
    }

    /// The names of an environment's agents, sorted.
    pub fn agents(&self, environment: &str) -> Vec<String> {
        self.0.read().environments.get(environment).map(|agents| agents.keys().cloned().collect()).unwrap_or_default()
    }

    /// Answers a guest's request, JSON in and out.
    pub(crate) async fn complete(&self, realm: &Realm, request: &str) -> Result<String, Error> {
        let request: Request = serde_json::from_str(request)
            .map_err(|e| Error::Invalid(format!("the model request does not read: {e}")))?;
        let (turn, provider) = self.prepare(realm, request)?;
        let reply = provider.complete(&turn).await?;
        serde_json::to_string(&reply).map_err(|e| Error::Other(e.to_string()))
    }

    fn prepare(&self, realm: &Realm, request: Request) -> Result<(Turn, Arc<dyn Provider>), Error> {
        let known = self.0.read();
        let empty = Agents::new();
        let agents = known.environments.get(&*realm.environment).unwrap_or(&empty);
        let agent = agents.get(&request.agent).ok_or_else(|| not_found(&request.agent, &realm.environment, agents))?;
        let (provider, model) = agent.model.split_once('/').unwrap_or((&agent.model, &agent.model));
        let provider = known.providers.get(provider).cloned().ok_or_else(|| {
            let names: Vec<&str> = known.providers.keys().map(String::as_str).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Error::Other(format!(
                "agent '{}' uses the model '{}', but there is no provider '{provider}' (there are: {names})",
                agent.name, agent.model
            ))
        })?;
        let prompt = agent.render(&request.variables).map_err(|e| Error::Invalid(e.to_string()))?;
        let turn = Turn {
            agent: agent.name.clone(),
            model: model.to_owned(),
            messages: converse(prompt, request.messages, request.task)
                .ok_or_else(|| Error::Invalid(format!("agent '{}' has neither a prompt nor a task", agent.name)))?,
            temperature: agent.temperature,
            max_tokens: agent.max_tokens,
            output_schema: request.output_schema.or_else(|| agent.output_schema.clone()),
        };
        Ok((turn, provider))
    }
}

/// The prompt says how to behave, the task what to do; without a task the prompt is the task. `None` if there is nothing to say.
fn converse(prompt: String, given: Vec<Message>, task: Option<String>) -> Option<Vec<Message>> {
    let message = |role: &str, content: String| Message { role: role.to_owned(), content };
    let task = task.filter(|task| !task.is_empty());
    let alone = given.is_empty() && task.is_none();
    let mut messages = Vec::with_capacity(given.len() + 2);
    if !prompt.is_empty() {
        messages.push(message(if alone { "user" } else { "system" }, prompt));
    }
    messages.extend(given);
    messages.extend(task.map(|task| message("user", task)));
    (!messages.is_empty()).then_some(messages)
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
