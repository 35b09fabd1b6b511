//! Tools that the operator connected, each of a server with a name of its own in its environment.
//!
//! What a tool says is text from a stranger: it is handed on as data and decides nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Secret;
use crate::ids::Realm;
use crate::json::Json;

/// Something that can be called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name, without its server's.
    pub name: String,
    /// What it is for, as its server says.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// A call on its way.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// Whose server.
    pub realm: Realm,
    /// The server.
    pub server: String,
    /// The tool, without its server's name.
    pub tool: String,
    /// A JSON object.
    pub arguments: Json,
    /// The same when the call goes out again after a host died.
    pub idempotency_key: String,
    /// How long the server may take. Its start has a limit of its own.
    pub timeout: Duration,
    /// The largest result.
    pub result_bytes_max: u64,
}

/// What came of a call, and what must not be seen in it.
#[derive(Debug)]
pub struct ToolAnswer {
    /// A text, or an object where there is more than text.
    pub result: Result<Json, ToolError>,
    /// Secrets that the server was given, by name: whoever hands the answer on hides them.
    pub secrets: Vec<(String, Secret)>,
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// No such server or tool.
    #[error("{0}")]
    NotFound(String),
    /// The server refuses the arguments.
    #[error("{0}")]
    Invalid(String),
    /// The result has more than so many bytes.
    #[error("the tool's result has more than {0} bytes")]
    TooLarge(u64),
    /// No answer in time.
    #[error("the tool did not answer in time")]
    Timeout,
    /// The server does not start, or ended. May work later.
    #[error("{0}")]
    Unavailable(String),
    /// The tool says that it failed.
    #[error("{0}")]
    Failed(String),
}

/// Whether a server runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// Nobody needs it.
    #[default]
    Stopped,
    /// It has been started and has not answered yet.
    Starting,
    /// It answers.
    Running,
    /// It ended by itself, or does not start.
    Failed,
}

impl ServerState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Failed => "failed",
        }
    }
}

/// How a server stands, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerStatus {
    /// Its name.
    pub name: Arc<str>,
    /// The file that declares it.
    pub file: Arc<str>,
    /// The program.
    pub command: String,
    /// Whether it runs.
    pub state: ServerState,
    /// Its process, while there is one.
    pub pid: Option<u32>,
    /// Which version of the protocol it speaks, once it was asked.
    pub protocol: Option<String>,
    /// How many tools it has, once it was asked.
    pub tools: Option<usize>,
    /// Calls since this host began.
    pub calls: u64,
    /// Why it does not run, and the last that it wrote on standard error.
    pub problem: Option<String>,
}

/// The tool servers of this host.
#[async_trait]
pub trait Tools: Send + Sync {
    /// The servers of a realm as they stand, by name. Starts nothing.
    fn servers(&self, realm: &Realm) -> Vec<ServerStatus>;
    /// What a server offers. Starts it if it does not run.
    async fn tools(&self, realm: &Realm, server: &str) -> Result<Vec<Tool>, ToolError>;
    /// Calls a tool. Starts its server if it does not run. Dropping the future tells the server that nobody waits.
    async fn call(&self, call: ToolCall) -> ToolAnswer;
}

/// There are no tools.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTools;

#[async_trait]
impl Tools for NoTools {
    fn servers(&self, _: &Realm) -> Vec<ServerStatus> {
        Vec::new()
    }

    async fn tools(&self, _: &Realm, server: &str) -> Result<Vec<Tool>, ToolError> {
        Err(ToolError::NotFound(format!("there is no tool server '{server}': there are none here")))
    }

    async fn call(&self, call: ToolCall) -> ToolAnswer {
        let result = self.tools(&call.realm, &call.server).await.map(|_| Json::of(&Value::Null));
        ToolAnswer { result, secrets: Vec::new() }
    }
}
