//! What a guest has seen of the world, and what it did to it: durable before the guest sees it.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Page, PageRequest, SessionChange, SessionLine, SessionRow, StoreError};
use crate::engine::StepNo;
use crate::ids::{Realm, RunId, StepId};
use crate::json::{Json, Payload};
use crate::time::Timestamp;

/// One entering of an attempt, by one host. `attempt` and `claim` are the fence: once the step has others, nothing is appended any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EntryKey {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepNo,
    /// From 1.
    pub attempt: u32,
    /// From 0.
    pub entry: u32,
    /// The claim under which this host runs it. Not part of a record's key: another host goes on from the same records.
    pub claim: u32,
}

/// One call of the host and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Interface and function, for example `http.send`.
    pub call: Arc<str>,
    /// SHA-256 of the arguments: a guest that asks for something else when it is run again has lost its way.
    pub request: Arc<str>,
    /// What the guest was answered. Never holds a secret's value.
    pub answer: Json,
    /// What the guest's clock had advanced by since the entry began, in milliseconds, once it had the answer.
    pub clock_ms: u64,
}

/// A change that commits with its record, or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Stores a value. Refused with [`JournalError::Quota`] when it would pass the quota.
    SetKey {
        /// Where.
        scope: KvScope,
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// Keys that the scope may have.
        max_keys: u64,
        /// Bytes of keys and values that the scope may have.
        max_bytes: u64,
    },
    /// Removes a key; fine if it is not there.
    DeleteKey {
        /// Where.
        scope: KvScope,
        /// The key.
        key: String,
    },
    /// Records a business event. The same id again changes nothing.
    Emit(EmittedEvent),
    /// Records a file that is written already; replaces the row of the same id.
    Artifact(ArtifactRow),
    /// Begins a session of an agent, or adds lines to it. Lines that are there stay as they are.
    Session(Box<SessionChange>),
}

/// Whose small state it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KvScope {
    /// Tenant and environment.
    pub realm: Realm,
    /// The plugin's id.
    pub plugin: Arc<str>,
    /// The workflow's id.
    pub workflow: Arc<str>,
}

/// A business event that a plugin emitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmittedEvent {
    /// Unique; a hash of the place in the journal, so that a repeated call is the same event.
    pub id: Arc<str>,
    /// Whose.
    pub realm: Realm,
    /// The run it came from.
    pub run: RunId,
    /// The step it came from.
    pub step_id: StepId,
    /// The plugin it came from.
    pub plugin: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// What it is about.
    pub correlation_key: Option<Arc<str>>,
    /// What it says.
    pub payload: Payload,
    /// When.
    pub at: Timestamp,
}

/// A file that a step made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactRow {
    /// Unique; a hash of the step and the name.
    pub id: Arc<str>,
    /// Whose.
    pub realm: Realm,
    /// The run it belongs to.
    pub run: RunId,
    /// The step that made it.
    pub step_id: StepId,
    /// The plugin that made it: no other may read it.
    pub plugin: Arc<str>,
    /// Its name within the step.
    pub name: Arc<str>,
    /// Its media type.
    pub mime_type: Arc<str>,
    /// Its length in bytes.
    pub size: u64,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: Arc<str>,
    /// Where it lies, below the directory of artifacts.
    pub path: Arc<str>,
    /// When it was made.
    pub at: Timestamp,
}

/// Why nothing was appended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// Another host has the step, or another attempt runs, or it is over.
    #[error("the step was taken by somebody else")]
    Superseded,
    /// An effect would pass its quota.
    #[error("{0}")]
    Quota(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The journal of steps, and what it makes durable. Every method is one transaction. The records of a step are dropped with the commit that
/// ends it.
#[async_trait]
pub trait Journal: Send + Sync {
    /// The records of an entry, in order, whoever appended them.
    async fn records(&self, entry: &EntryKey) -> Result<Vec<Record>, StoreError>;
    /// Appends record `number` (from 0) and its effects, if attempt and claim are the step's own and it runs. The same record again under the
    /// same number is fine.
    async fn append(
        &self,
        entry: &EntryKey,
        number: u32,
        record: &Record,
        effects: &[Effect],
    ) -> Result<(), JournalError>;
    /// Effects of an entry without a journal: a cancelled step that cleans up, or an action that is tried outside any run.
    async fn apply(&self, effects: &[Effect]) -> Result<(), JournalError>;

    /// A value.
    async fn kv_get(&self, scope: &KvScope, key: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// Keys that begin so, sorted by bytes.
    async fn kv_keys(&self, scope: &KvScope, prefix: &str, limit: u32) -> Result<Vec<String>, StoreError>;

    /// A file's row.
    async fn artifact(&self, id: &str) -> Result<Option<ArtifactRow>, StoreError>;
    /// Files of a run, newest first, of one step if given.
    async fn artifacts(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<ArtifactRow>, StoreError>;
    /// Business events, newest first, of one run or name if given.
    async fn emitted(
        &self,
        tenant: &str,
        environment: Option<&str>,
        run: Option<&RunId>,
        name: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<EmittedEvent>, StoreError>;

    /// A session of an agent.
    async fn session(&self, id: &str) -> Result<Option<SessionRow>, StoreError>;
    /// Sessions of a run, in the order in which they began, of one step if given.
    async fn sessions(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<SessionRow>, StoreError>;
    /// Lines of a session after the one of that number, in order, at most so many.
    async fn session_lines(
        &self,
        run: &RunId,
        session: &str,
        after: u32,
        limit: u32,
    ) -> Result<Vec<SessionLine>, StoreError>;
}
