use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::engine::StepNo;
use crate::error::Failure;
use crate::ids::{Realm, RunId, StepId};
use crate::json::Json;
use crate::plugin::Grants;
use crate::time::Timestamp;

/// Which package an action comes from, exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PluginRef {
    /// The plugin's id.
    pub id: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
    /// SHA-256 of the component.
    pub digest: Arc<str>,
}

/// A callable operation.
#[derive(Clone, Debug)]
pub struct ActionInfo {
    /// Full name: plugin id, a dot, the action's name.
    pub name: Arc<str>,
    /// Where it comes from.
    pub plugin: PluginRef,
    /// JSON Schema of what it takes.
    pub input_schema: Option<Arc<serde_json::Value>>,
    /// JSON Schema of what it gives.
    pub output_schema: Option<Arc<serde_json::Value>>,
    /// Whether it is part of the program: nothing has to be kept for a run that pins it.
    pub built_in: bool,
}

/// A call that a plugin made of the host and that went out: to a model, over HTTP, to a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCall {
    /// The invocation's, which names the trace.
    pub traceparent: Arc<str>,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepNo,
    /// The claim under which it was made.
    pub claim: u32,
    /// Its place in the entry, from 0.
    pub number: u32,
    /// Interface and function, for example `model.complete`.
    pub name: &'static str,
    /// When it began.
    pub start: Timestamp,
    /// When its answer was stored.
    pub end: Timestamp,
    /// What kind of error it ended with, for example `timeout`.
    pub error: Option<String>,
    /// What is known about it, by the names of OpenTelemetry's conventions. Never what was said.
    pub attributes: Vec<(&'static str, String)>,
}

/// Is told of calls as they end. Never waits.
pub trait CallSink: Send + Sync {
    /// A call ended. One that was answered from the journal is not told again.
    fn called(&self, call: HostCall);
}

/// One entering of an attempt.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Whose run it is.
    pub realm: Realm,
    /// The action's full name.
    pub action: Arc<str>,
    /// The package that the run pinned.
    pub plugin: PluginRef,
    /// The workflow's id.
    pub workflow: Arc<str>,
    /// Its version, as the author labelled it or as it was numbered.
    pub workflow_version: Arc<str>,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepId,
    /// The step's number in the run.
    pub number: StepNo,
    /// The state's name.
    pub state: Arc<str>,
    /// From 1.
    pub attempt: u32,
    /// From 0: how often this attempt was entered before.
    pub entry: u32,
    /// The claim under which this host runs the step. `None` outside a claim: a cancelled step that cleans up, or an action that is tried
    /// without a run. Such an entry has no journal.
    pub claim: Option<u32>,
    /// What the workflow leaves of the plugin's capabilities; `None` narrows nothing.
    pub narrowed: Option<Arc<Grants>>,
    /// The same for every attempt.
    pub idempotency_key: Arc<str>,
    /// What is left of the attempt's time when this entry began.
    pub deadline_ms: Option<u64>,
    /// When this entry first began, on whatever host; the guest's clock starts here.
    pub now: Timestamp,
    /// W3C trace context.
    pub traceparent: Option<Arc<str>>,
    /// What the action is given.
    pub input: Json,
    /// Set when a suspended step wakes.
    pub resumed: Option<Resumption>,
}

/// What a woken step gets back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// What it asked to keep.
    pub state: Vec<u8>,
    /// Why it wakes.
    pub wake: crate::engine::Wake,
}

/// How an entry ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Finished with a result.
    Done(Json),
    /// Parked.
    Suspend(Suspension),
}

/// A parked step: no instance, no thread, no memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspension {
    /// Handed back when it wakes. Base64 in JSON.
    #[serde(with = "base64_text")]
    pub state: Vec<u8>,
    /// Names of signals that wake it.
    pub signals: Vec<String>,
    /// Wakes after so long.
    pub wake_after_ms: Option<u64>,
    /// A human's decision wakes it.
    pub approval: Option<ApprovalRequest>,
}

mod base64_text {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    use crate::engine::{base64, unbase64};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&base64(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        unbase64(&text).ok_or_else(|| D::Error::custom("not base64"))
    }
}

/// A request for a human's decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalRequest {
    /// What is asked.
    pub message: String,
    /// What the decision rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Json>,
    /// `user:NAME` or `team:NAME`; empty means any approver of the tenant.
    pub approvers: Vec<String>,
    /// How long the answer may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// What an entry used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// CPU time of the guest, in microseconds.
    pub cpu_us: u64,
    /// Peak of all its memories and tables.
    pub peak_memory_bytes: u64,
    /// Calls to the host, log and progress included.
    pub host_calls: u64,
    /// Tokens that language models read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub input_tokens: u64,
    /// Tokens that they wrote.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub output_tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Usage {
    /// Adds another entry's use to this one's.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu_us: self.cpu_us.saturating_add(other.cpu_us),
            peak_memory_bytes: self.peak_memory_bytes.max(other.peak_memory_bytes),
            host_calls: self.host_calls.saturating_add(other.host_calls),
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
        }
    }
}

/// What came of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its outcome. Traps and passed limits are failures too.
    pub result: Result<Outcome, Failure>,
    /// What it used.
    pub usage: Usage,
    /// Kept on the step: for example `SCHEMA_VALIDATION_OUTPUT`.
    pub warnings: Vec<Failure>,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Finest.
    Trace,
    /// For the author.
    Debug,
    /// Normal.
    Info,
    /// Odd.
    Warn,
    /// Wrong.
    Error,
    /// Over.
    Fatal,
}

/// What a guest writes while it runs: log lines and progress. Not durable by itself, never journaled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// How much it matters; `None` for progress.
    pub level: Option<LogLevel>,
    /// The text.
    pub message: String,
    /// JSON text with more.
    pub fields: Option<String>,
    /// Percent done, for progress.
    pub percent: Option<u8>,
}

/// Takes log lines as they are written. Must not block.
pub trait LogSink: Send + Sync {
    /// Takes one.
    fn write(&self, run: &RunId, step: &StepId, line: LogLine);
}

/// Runs actions: the plugin host.
#[async_trait]
pub trait ActionRunner: Send + Sync {
    /// The newest enabled plugin with that action, if there is one.
    fn resolve(&self, realm: &Realm, action: &str) -> Option<ActionInfo>;
    /// Every action that a realm can call, sorted by name.
    fn actions(&self, realm: &Realm) -> Vec<ActionInfo>;
    /// Runs one entry to its end: checks the input against the action's schema first (`SCHEMA_VALIDATION_INPUT`, never retried, the
    /// guest does not run), the output after (`SCHEMA_VALIDATION_OUTPUT`, a warning). Dropping the future ends the guest.
    async fn run(&self, invocation: Invocation) -> Entry;
}
