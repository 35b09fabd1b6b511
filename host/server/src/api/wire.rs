//! The shapes that go over the wire. They are not the types of core: those may change, these may only grow.

mod plugins;

use caisson_core::definition::diagnostic::{Diagnostic, Validation as Findings};
use caisson_core::json::Json;
use caisson_core::ports::PluginRef;
use caisson_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

pub use plugins::{Artifact, BusinessEvent, PendingVersion, PermissionDiff, Plugin, PluginAction, PluginVersion};

/// Any JSON value, its bytes untouched.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Any(pub Json);

impl PartialSchema for Any {
    fn schema() -> RefOr<Schema> {
        serde_json::Value::schema()
    }
}

impl ToSchema for Any {}

impl Any {
    /// `null`.
    pub fn null() -> Self {
        Self(Json::null())
    }
}

/// A workflow with its version in force.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workflow {
    /// Unique per tenant and environment.
    pub id: String,
    /// The label of the version in force.
    pub version: String,
    /// The environment.
    pub environment: String,
    /// A name for people.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Whether new runs may start.
    pub enabled: bool,
    /// Whether events start no runs.
    pub paused: bool,
    /// The definition, keys in the author's order.
    pub definition: Any,
    /// SHA-256 of the definition.
    pub digest: String,
    /// When the workflow was first saved.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
    /// Numbers about its runs.
    pub stats: Stats,
}

/// Numbers about a workflow's runs.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// When the newest was made.
    pub last_run_at: Option<String>,
    /// How many there are.
    pub runs: u64,
    /// Of those that ended in the last 30 days, the part that completed, 0 to 1.
    #[serde(rename = "successRate30d")]
    pub success_rate_30d: Option<f64>,
    /// Their mean duration.
    pub avg_ms: Option<f64>,
}

/// A revision of a workflow.
#[allow(clippy::struct_field_names, reason = "the name on the wire is fixed")]
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// The workflow.
    pub workflow_id: String,
    /// The author's label; the number when there is none.
    pub version: String,
    /// From 1.
    pub number: u64,
    /// Whether it is the one in force.
    pub current: bool,
    /// SHA-256 of the definition.
    pub digest: String,
    /// A name for people.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The definition.
    pub definition: Any,
    /// Who saved it.
    pub created_by: String,
    /// When.
    pub created_at: String,
}

/// What is wrong, or odd, with a definition.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Validation {
    /// For these it is refused.
    pub errors: Vec<Finding>,
    /// These are only shown.
    pub warnings: Vec<Finding>,
}

/// One thing that is wrong or odd.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// Stable, upper snake case.
    pub code: String,
    /// Where in the definition, as `states[2].next`.
    pub path: String,
    /// Line, from 1; absent when there is no source text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column in characters, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl From<&Diagnostic> for Finding {
    fn from(diagnostic: &Diagnostic) -> Self {
        Self {
            code: diagnostic.code.to_owned(),
            path: diagnostic.path.clone(),
            line: (diagnostic.line > 0).then_some(diagnostic.line),
            column: (diagnostic.column > 0).then_some(diagnostic.column),
            message: diagnostic.message.clone(),
            suggestion: diagnostic.suggestion.clone(),
        }
    }
}

impl From<Findings> for Validation {
    fn from(findings: Findings) -> Self {
        Self {
            errors: findings.errors.iter().map(Finding::from).collect(),
            warnings: findings.warnings.iter().map(Finding::from).collect(),
        }
    }
}

/// One execution of a version.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Time-ordered.
    pub id: String,
    /// The workflow.
    pub workflow_id: String,
    /// The label of the version that it pins.
    pub workflow_version: String,
    /// The environment.
    pub environment: String,
    /// The project it belongs to.
    pub project_id: Option<String>,
    /// A name for people.
    pub name: Option<String>,
    /// Who started it.
    pub created_by: String,
    /// PENDING, RUNNING, `WAITING_APPROVAL`, `WAITING_SIGNAL`, PAUSED, COMPLETED, FAILED, CANCELLED or `TIMED_OUT`.
    pub status: String,
    /// The phase it is in.
    pub phase: Option<String>,
    /// Names of the states it is in, in the order of entering.
    pub current_states: Vec<String>,
    /// What it was started with.
    pub input: Any,
    /// Its data; `null` in lists and in the answer to an action.
    pub context: Any,
    /// What came of it, once completed.
    pub output: Any,
    /// Why it ended otherwise.
    pub error: Option<RunError>,
    /// The run that called it.
    pub parent_run_id: Option<String>,
    /// The run it was forked from.
    pub forked_from: Option<String>,
    /// How many things belong to it.
    pub counts: Counts,
    /// A branch that a step named.
    pub branch_name: Option<String>,
    /// A commit that a step named.
    pub commit_sha: Option<String>,
    /// A pull request that a step named.
    pub pr_url: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it first moved.
    pub started_at: Option<String>,
    /// When it ended.
    pub completed_at: Option<String>,
    /// Since when it is paused.
    pub paused_at: Option<String>,
    /// When it was cancelled.
    pub cancelled_at: Option<String>,
    /// From its start to its end, or to now.
    pub duration_ms: Option<u64>,
    /// The packages that it pins; only in the answer to a single GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugins: Option<Vec<PinnedPlugin>>,
}

/// Why a run ended, or a step failed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunError {
    /// Stable, upper snake case.
    pub code: String,
    /// `ValidationError`, `ExpressionError`, `ActionError`, `TransientError`, `TimeoutError`, `PolicyError` or `LimitError`.
    pub category: String,
    /// What a person should know.
    pub message: String,
    /// More, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Any>,
    /// The state it came from.
    pub state: Option<String>,
    /// The step it came from.
    pub step_id: Option<String>,
}

/// How many things belong to a run.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Steps entered.
    pub steps: u64,
    /// Comments.
    pub comments: u64,
    /// Artifacts.
    pub artifacts: u64,
    /// Sessions of agents.
    #[serde(default)]
    pub sessions: u64,
    /// Approvals asked for.
    pub approvals: u64,
}

/// An action and the package that it means for this run.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PinnedPlugin {
    /// The action's full name.
    pub action: String,
    /// The plugin.
    pub id: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: String,
}

/// A package.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Package {
    /// The plugin.
    pub id: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: String,
}

impl From<PluginRef> for Package {
    fn from(plugin: PluginRef) -> Self {
        Self { id: plugin.id.to_string(), version: plugin.version.to_string(), digest: plugin.digest.to_string() }
    }
}

/// One visit of a run to a state.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The same on every host and after every crash.
    pub id: String,
    /// Its run.
    pub run_id: String,
    /// The state.
    pub state: String,
    /// The definition's word for it: `operation`, `switch`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Where: `diagnostics.pods`, `check_all[3]`; empty at the top.
    pub branch_path: String,
    /// The place of the innermost foreach item around it.
    pub index: Option<u64>,
    /// Its number in the run, from 1.
    pub number: u64,
    /// Its phase.
    pub phase: Option<String>,
    /// The action, of an operation.
    pub action: Option<String>,
    /// The package, of an operation.
    pub plugin: Option<Package>,
    /// PENDING, RUNNING, `WAITING_APPROVAL`, `WAITING_SIGNAL`, RETRYING, SUCCEEDED, FAILED, SKIPPED, CANCELLED or `TIMED_OUT`.
    pub status: String,
    /// The attempt, from 1.
    pub attempt: u32,
    /// How many there may be.
    pub max_attempts: u32,
    /// What it was given.
    pub input: Any,
    /// What came of it.
    pub output: Any,
    /// Why it failed, or why its last attempt did.
    pub error: Option<RunError>,
    /// For example an output that does not fit its schema.
    pub warnings: Vec<RunError>,
    /// Sessions of its agents, in the order of their beginning; of a run with thousands, the first.
    pub sessions: Vec<Session>,
    /// What it used.
    pub usage: StepUsage,
    /// When a host first took it.
    pub started_at: Option<String>,
    /// When it ended.
    pub completed_at: Option<String>,
    /// From its start to its end, or to now.
    pub duration_ms: Option<u64>,
    /// The child run, of a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child_run_id: Option<String>,
}

/// An agent at work in a step. Its transcript is at `/workflow-runs/{runId}/sessions/{id}/logs`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The same on every host and after every crash.
    pub id: String,
    /// Its run.
    pub run_id: String,
    /// Its step.
    pub step_id: String,
    /// The step's attempt, from 1: each begins sessions of its own.
    pub attempt: u32,
    /// The session of the agent that called this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// As the workflow calls it, else the agent's name; unlike any other of the attempt.
    pub name: String,
    /// The agent.
    pub agent: String,
    /// RUNNING, COMPLETED or FAILED.
    pub status: String,
    /// What it took.
    pub usage: SessionUsage,
    /// Lines of its transcript.
    pub lines: u32,
    /// Their bytes.
    pub size_bytes: u64,
    /// When it began.
    pub created_at: String,
    /// When its last line came.
    pub updated_at: String,
}

/// What a session took.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionUsage {
    /// Answers of the model.
    pub turns: u32,
    /// Tokens that it read.
    pub input_tokens: u64,
    /// Tokens that it wrote.
    pub output_tokens: u64,
}

/// What a step used, over all its attempts.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepUsage {
    /// CPU time of the guest.
    pub cpu_ms: f64,
    /// Peak of all its memories and tables.
    pub peak_memory_bytes: u64,
    /// Calls to the host.
    pub host_calls: u64,
    /// Tokens that language models read.
    #[serde(default)]
    pub input_tokens: u64,
    /// Tokens that they wrote.
    #[serde(default)]
    pub output_tokens: u64,
}

/// A fact in the history of a run. Its hash is made over exactly the bytes of `data`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// From 1, without gaps.
    pub seq: u64,
    /// As `step.completed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When.
    pub at: String,
    /// Who caused it, if a person or a program did.
    pub actor: Option<String>,
    /// The step it is about.
    pub step_id: Option<String>,
    /// What happened, as it is stored. Values stand as `{"json": …}`, large ones as `{"sha256": …, "size": …}`.
    pub data: Any,
    /// Hash of the event before; 64 zeros for the first.
    pub prev_hash: String,
    /// Its own hash.
    pub hash: String,
    /// The version of the shape of `data`.
    pub v: u32,
}

/// A request for a human's decision.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Its id.
    pub id: String,
    /// Its run.
    pub run_id: String,
    /// Its step.
    pub step_id: String,
    /// The environment.
    pub environment: String,
    /// PENDING, APPROVED, REJECTED, `TIMED_OUT` or CANCELLED.
    pub status: String,
    /// What is asked.
    pub message: String,
    /// What the decision rests on.
    pub summary: Any,
    /// `user:NAME` or `team:NAME`; empty means any approver.
    pub approvers: Vec<String>,
    /// Until when.
    pub deadline: Option<String>,
    /// Who answered.
    pub decided_by: Option<String>,
    /// With which words.
    pub comment: Option<String>,
    /// When it was asked.
    pub created_at: String,
    /// When it was answered.
    pub decided_at: Option<String>,
}

/// A line that a guest wrote, or progress.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// When.
    pub at: String,
    /// The step.
    pub step_id: String,
    /// trace, debug, info, warn, error or fatal; absent for progress.
    pub level: Option<String>,
    /// The text, as the guest wrote it.
    pub message: String,
    /// More, for programs.
    pub fields: Any,
    /// Percent done, for progress.
    pub percent: Option<u8>,
}

/// An API key; never the key itself.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// Its id.
    pub id: String,
    /// Who acts with it.
    pub actor: String,
    /// The actor's teams.
    pub teams: Vec<String>,
    /// viewer, operator, approver or admin.
    pub role: String,
    /// Whose.
    pub tenant: String,
    /// When it was made.
    pub created_at: String,
    /// When it was last used, to the minute.
    pub last_used_at: Option<String>,
    /// When it was revoked.
    pub revoked_at: Option<String>,
}

/// RFC 3339 with milliseconds, if there is a time.
pub fn time(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}
