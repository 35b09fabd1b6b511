//! The lines of an archive. These shapes may only grow; what an older program could not read raises [`FORMAT`].

use caisson_core::json::{Json, Payload};
use caisson_core::ports::{PluginRef, RunRow, SessionLine, StepRow};
use serde::{Deserialize, Serialize};

use crate::api::steps::show_usage;
use crate::api::wire::{self, Any, Package, StepUsage, time};

/// The format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Line {
    /// The first: whose archive it is.
    Archive(Box<Head>),
    /// The definition of the version that the run pinned, as it was saved.
    Definition(Any),
    /// An event, in order.
    Event(wire::Event),
    /// A step, in the order of entering. Its input and output are in the events that it names.
    Step(Box<Step>),
    /// A large value that events or the head name by its hash.
    Value(Value),
    /// What a guest wrote, oldest first.
    Log(wire::LogLine),
    /// A session of an agent.
    Session(wire::Session),
    /// A line of the session before it.
    #[serde(rename = "sessionLine")]
    Said(Transcript),
    /// A business event that a plugin emitted.
    Emitted(wire::BusinessEvent),
    /// A file that a step made: its name and hash, without its bytes.
    Artifact(wire::Artifact),
    /// The last: nothing is missing.
    End(End),
}

/// Whose archive it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT`] when it was written.
    pub format: u32,
    /// What wrote it.
    pub writer: String,
    /// The run.
    pub run: Run,
}

/// A run that has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the words are those of the API's runs; what is not, says so")]
pub struct Run {
    pub id: String,
    pub tenant: String,
    pub environment: String,
    pub workflow_id: String,
    pub workflow_version: String,
    /// SHA-256 of the definition.
    pub digest: String,
    pub name: Option<String>,
    pub project_id: Option<String>,
    pub created_by: String,
    pub status: String,
    pub phase: Option<String>,
    /// `{"json": …}`, or `{"sha256": …, "size": …}` of a value line.
    pub input: Payload,
    pub output: Option<Payload>,
    pub error: Option<Any>,
    /// The run and the number of its step that called it.
    pub parent: Option<Parent>,
    pub forked_from: Option<String>,
    pub created_at: String,
    pub started_at: Option<String>,
    pub completed_at: Option<String>,
    pub cancelled_at: Option<String>,
    /// How many events there are.
    pub last_seq: u64,
    /// The hash of the last one.
    pub last_hash: String,
}

/// What called a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    /// The run.
    pub run_id: String,
    /// Its step's number.
    pub step: u64,
}

impl From<&RunRow> for Run {
    fn from(row: &RunRow) -> Self {
        Self {
            id: row.id.to_string(),
            tenant: row.realm.tenant.to_string(),
            environment: row.realm.environment.to_string(),
            workflow_id: row.workflow_id.to_string(),
            workflow_version: row.workflow_version.to_string(),
            digest: row.digest.to_string(),
            name: row.name.clone(),
            project_id: row.project_id.clone(),
            created_by: row.created_by.to_string(),
            status: row.status.to_string(),
            phase: row.phase.as_deref().map(str::to_owned),
            input: row.input.clone(),
            output: row.output.clone(),
            error: row.error.clone().map(Any),
            parent: row.parent.as_ref().map(|(run, step)| Parent { run_id: run.to_string(), step: *step }),
            forked_from: row.forked_from.as_ref().map(ToString::to_string),
            created_at: row.created_at.to_string(),
            started_at: time(row.started_at),
            completed_at: time(row.completed_at),
            cancelled_at: time(row.cancelled_at),
            last_seq: row.last_seq,
            last_hash: row.last_hash.to_string(),
        }
    }
}

/// A step, without its values.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the words are those of the API's steps; what is not, says so")]
pub struct Step {
    pub id: String,
    pub number: u64,
    pub state: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub branch_path: String,
    pub index: Option<u64>,
    pub phase: Option<String>,
    pub action: Option<String>,
    pub plugin: Option<Package>,
    pub status: String,
    pub attempt: u32,
    pub max_attempts: u32,
    /// The number of the event with its input.
    pub input_event: u64,
    /// The number of the event with its output or its last error.
    pub result_event: Option<u64>,
    pub error: Option<Any>,
    pub usage: StepUsage,
    pub child_run_id: Option<String>,
    pub created_at: String,
    pub started_at: Option<String>,
    pub completed_at: Option<String>,
}

impl From<&StepRow> for Step {
    fn from(row: &StepRow) -> Self {
        let plugin = row.plugin.as_ref().and_then(|json| serde_json::from_str::<PluginRef>(json.get()).ok());
        Self {
            id: row.id.to_string(),
            number: row.number,
            state: row.state.to_string(),
            kind: row.state_type.to_string(),
            branch_path: row.branch_path.clone(),
            index: row.index,
            phase: row.phase.as_deref().map(str::to_owned),
            action: row.action.as_deref().map(str::to_owned),
            plugin: plugin.map(Package::from),
            status: row.status.to_string(),
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            input_event: row.input_seq,
            result_event: row.result_seq,
            error: row.error.clone().map(Any),
            usage: show_usage(serde_json::from_str(row.usage.get()).unwrap_or_default()),
            child_run_id: row.child.as_ref().map(ToString::to_string),
            created_at: row.created_at.to_string(),
            started_at: time(row.started_at),
            completed_at: time(row.completed_at),
        }
    }
}

/// A large value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Value {
    /// SHA-256 of the bytes of `json`.
    pub sha256: String,
    /// The value.
    pub json: Json,
}

/// A line of a session's transcript.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transcript {
    /// The session's id.
    pub session: String,
    /// From 1.
    pub number: u32,
    /// What was said, called or answered.
    pub line: Any,
}

impl Transcript {
    /// A stored line.
    pub fn new(session: &str, stored: SessionLine) -> Self {
        Self { session: session.to_owned(), number: stored.number, line: Any(stored.line) }
    }
}

/// What stands before it is all that was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct End {
    /// Lines before this one.
    pub lines: u64,
    /// SHA-256 of their bytes, line breaks included.
    pub sha256: String,
}
