use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Admission, RunLease, SlotKey};
use crate::engine::{ApprovalStatus, StepNo};
use crate::ids::{ApprovalId, Realm, RunId, StepId};
use crate::json::{Blob, BlobRef, Json, Payload};
use crate::status::{RunStatus, StepStatus};
use crate::time::Timestamp;

/// Everything that one decision writes: one transaction, all or nothing.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The run as it stands after it; inserted when `expected` is 0. What a run is made with (realm, workflow, version, name, project,
    /// creator, input, parent, origin, time) is written then and never again. A commit without a run only takes `outbox_done`.
    pub run: Option<RunRow>,
    /// The run's `version` that the decision was made on; 0 for a new run.
    pub expected: u64,
    /// New events, in order, `seq` without gaps.
    pub events: Vec<EventRow>,
    /// Large values that the events mention. Stored once per hash.
    pub blobs: Vec<Blob>,
    /// Steps as they stand after it: inserted, or replaced by (run, number). A step keeps its id.
    pub steps: Vec<StepRow>,
    /// Timers set, or moved, by (run, key).
    pub timers_set: Vec<TimerRow>,
    /// Keys of timers that are over. Cleared before `timers_set` are set.
    pub timers_cleared: Vec<Arc<str>>,
    /// Approvals as they stand after it: inserted, or replaced by id.
    pub approvals: Vec<ApprovalRow>,
    /// Results of foreach items, rows until the join.
    pub items: Vec<ItemRow>,
    /// Steps whose item rows are no longer needed. Dropped after `items` are stored.
    pub items_dropped: Vec<StepNo>,
    /// Messages to other runs. One whose id is stored already is not stored again.
    pub outbox: Vec<OutboxRow>,
    /// Ids of messages of *other* runs that this commit has taken in: deleted in the same transaction.
    pub outbox_done: Vec<Arc<str>>,
    /// The state after these events, if it is time to keep one.
    pub snapshot: Option<Json>,
    /// For a new run started with an `Idempotency-Key`.
    pub idempotency: Option<IdempotencyRow>,
    /// Ids of inbox rows that this commit has taken in: deleted in the same transaction.
    pub inbox_done: Vec<Arc<str>>,
    /// Who moves the run from now on. Stores of one host ignore it.
    pub lease: RunLease,
    /// For a new run: digests of the installed plugins that it has pinned, built-in ones left out. They are kept while it is open.
    pub pins: Vec<Arc<str>>,
    /// For a run that counts with others of its workflow: its place among them, decided with this commit. It is given back by the commit
    /// that ends the run.
    pub admission: Option<Admission>,
}

/// A used `Idempotency-Key`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdempotencyRow {
    /// Tenant, environment and key, joined.
    pub key: String,
    /// SHA-256 of the request it came with: the same key with another request is refused.
    pub request_hash: String,
}

/// Why a commit did not happen. Nothing of it is stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else moved the run first: load it again and decide again.
    #[error("run was moved by somebody else")]
    Conflict,
    /// A run of that id, or with that idempotency key, exists already.
    #[error("run exists already: {0}")]
    Exists(RunId),
    /// The same idempotency key came with another request.
    #[error("idempotency key was used with another request")]
    KeyReused,
    /// As many runs of its key run as may.
    #[error("as many runs of this key run as may")]
    NoRoom,
    /// As many runs of its key wait as may.
    #[error("as many runs of this key wait as may")]
    QueueFull,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the store could not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full: nothing was stored.
    #[error("store is out of space: {0}")]
    Full(String),
    /// Somebody else holds the data directory.
    #[error("data directory is in use: {0}")]
    Locked(String),
    /// Written by a newer version of the program.
    #[error("data was written by a newer version: {0}")]
    Newer(String),
    /// What is stored cannot be read.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
    /// A thing of that name is in the way, for example other content under the same version label.
    #[error("conflict: {0}")]
    Conflict(String),
    /// A thing that had to be there is not, for example the workflow of a revision that must replace one.
    #[error("not found: {0}")]
    NotFound(String),
    /// What was asked makes no sense, for example a cursor that no list gave.
    #[error("invalid: {0}")]
    Invalid(String),
    /// Anything else.
    #[error("store failed: {0}")]
    Other(String),
}

/// A run's row: what lists and filters need. The whole truth is in its events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRow {
    /// Its id.
    pub id: RunId,
    /// Whose.
    pub realm: Realm,
    /// The workflow's id.
    pub workflow_id: Arc<str>,
    /// The label of the version it pins.
    pub workflow_version: Arc<str>,
    /// The digest of the version it pins.
    pub digest: Arc<str>,
    /// A name for people.
    pub name: Option<String>,
    /// The project it belongs to.
    pub project_id: Option<String>,
    /// Who started it.
    pub created_by: Arc<str>,
    /// Where it stands.
    pub status: RunStatus,
    /// The phase it is in.
    pub phase: Option<Arc<str>>,
    /// Names of the states it is in, in the order of entering; at most 100.
    pub current_states: Vec<Arc<str>>,
    /// Its input.
    pub input: Payload,
    /// Its output, once completed.
    pub output: Option<Payload>,
    /// Why it ended otherwise: JSON of [`crate::engine::RunError`].
    pub error: Option<Json>,
    /// The run and step that called it.
    pub parent: Option<(RunId, StepNo)>,
    /// The run it was forked from.
    pub forked_from: Option<RunId>,
    /// How many steps were entered.
    pub steps: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it first moved.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// When it was paused last, while it is.
    pub paused_at: Option<Timestamp>,
    /// When it was cancelled.
    pub cancelled_at: Option<Timestamp>,
    /// Raised by every commit.
    pub version: u64,
    /// The number of its last event.
    pub last_seq: u64,
    /// The hash of its last event.
    pub last_hash: Arc<str>,
}

/// A stored event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// From 1, without gaps.
    pub seq: u64,
    /// [`crate::engine::Event::kind`].
    pub kind: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// Who caused it, if a person or a program did.
    pub actor: Option<Arc<str>>,
    /// The step it is about.
    pub step_id: Option<StepId>,
    /// [`crate::engine::EVENT_VERSION`] when it was written.
    pub v: u32,
    /// [`crate::engine::Event::encode`], byte for byte; or, once it is erased, what [`crate::engine::erasure`] puts there.
    pub data: Json,
    /// The SHA-256 of the data, once that is erased.
    pub data_sha256: Option<Arc<str>>,
    /// Hash of the event before; 64 zeros for the first.
    pub prev_hash: Arc<str>,
    /// Its own hash: see [`crate::engine::chain`].
    pub hash: Arc<str>,
}

/// A step's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRow {
    /// Its number in the run.
    pub number: StepNo,
    /// Its id.
    pub id: StepId,
    /// The state.
    pub state: Arc<str>,
    /// The definition's word for it: `operation`, `switch`, …
    pub state_type: Arc<str>,
    /// Where: `diagnostics.pods`, `check_all[3]`; empty at the top.
    pub branch_path: String,
    /// The place of the innermost foreach item around it.
    pub index: Option<u64>,
    /// Its phase.
    pub phase: Option<Arc<str>>,
    /// The action, of an operation.
    pub action: Option<Arc<str>>,
    /// The package, of an operation: JSON of [`crate::ports::PluginRef`].
    pub plugin: Option<Json>,
    /// Where it stands.
    pub status: StepStatus,
    /// The attempt, from 1.
    pub attempt: u32,
    /// How often this attempt was woken: the entry, from 0.
    pub entry: u32,
    /// How many there may be.
    pub max_attempts: u32,
    /// How often hosts took it.
    pub claim: u32,
    /// The host that has it now.
    pub host: Option<Arc<str>>,
    /// Whether it waits for a host, and since when.
    pub ready_at: Option<Timestamp>,
    /// Tells one publication from another: the claim that is to come and how often the run was resumed, times 65,536, plus how often
    /// the step was published again since ([`Store::redispatch`]). Raised for every publication of one entry.
    pub dispatch: u32,
    /// The event that holds its input (`step.scheduled`).
    pub input_seq: u64,
    /// The event that holds its output or its last error (`step.completed`, `step.retrying`).
    pub result_seq: Option<u64>,
    /// The last error, for lists.
    pub error: Option<Json>,
    /// What it used: JSON of [`crate::ports::Usage`].
    pub usage: Json,
    /// The child run it waits for.
    pub child: Option<RunId>,
    /// When it was entered.
    pub created_at: Timestamp,
    /// When a host first took it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
}

/// A durable timer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerRow {
    /// Its run.
    pub run: RunId,
    /// Unique in the run: see [`crate::engine::TimerKey`].
    pub key: Arc<str>,
    /// When it is due.
    pub due_at: Timestamp,
}

/// A request for a human's decision, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRow {
    /// Its id.
    pub id: ApprovalId,
    /// Whose.
    pub realm: Realm,
    /// Its run.
    pub run: RunId,
    /// Its step.
    pub step_id: StepId,
    /// Its step's number.
    pub step: StepNo,
    /// Where it stands.
    pub status: ApprovalStatus,
    /// What is asked.
    pub message: String,
    /// What the decision rests on.
    pub summary: Option<Payload>,
    /// Who may answer.
    pub approvers: Vec<String>,
    /// Until when.
    pub deadline: Option<Timestamp>,
    /// Who answered.
    pub decided_by: Option<Arc<str>>,
    /// With which words.
    pub comment: Option<String>,
    /// When it was asked.
    pub created_at: Timestamp,
    /// When it was answered.
    pub decided_at: Option<Timestamp>,
}

/// The result of one foreach item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemRow {
    /// The foreach step.
    pub step: StepNo,
    /// The item's place.
    pub index: u64,
    /// Its result.
    pub result: Payload,
}

/// A message to another run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// Unique.
    pub id: Arc<str>,
    /// The run it goes to; for a new child, the child's id.
    pub target: RunId,
    /// JSON of [`crate::engine::Message`].
    pub message: Json,
}

/// A step that waits for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyRow {
    /// Its run.
    pub run: RunId,
    /// Its number.
    pub step: StepNo,
    /// The attempt that comes.
    pub attempt: u32,
    /// The entry that comes.
    pub entry: u32,
    /// [`StepRow::dispatch`].
    pub dispatch: u32,
}

/// A run as the engine needs it: the newest snapshot and the events after it.
#[derive(Clone, Debug)]
pub struct StoredRun {
    /// Its row.
    pub row: RunRow,
    /// The newest snapshot and the number of the last event in it.
    pub snapshot: Option<(u64, Json)>,
    /// The events after it, in order.
    pub events: Vec<EventRow>,
    /// The host that moves it, if it is alive. Always `None` on a store of one host.
    pub holder: Option<Arc<str>>,
}

/// A workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionRow {
    /// Whose.
    pub realm: Realm,
    /// Its id.
    pub id: Arc<str>,
    /// The number of the version in force.
    pub current: u64,
    /// Whether new runs may start.
    pub enabled: bool,
    /// Whether it is paused: events start no runs.
    pub paused: bool,
    /// When it was first saved.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A revision of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRow {
    /// Whose.
    pub realm: Realm,
    /// The workflow's id.
    pub workflow: Arc<str>,
    /// From 1.
    pub number: u64,
    /// The author's label; the number as text when there is none.
    pub label: Arc<str>,
    /// SHA-256 of `definition`.
    pub digest: Arc<str>,
    /// A name for people.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The definition as JSON, keys in the author's order.
    pub definition: Json,
    /// Who saved it.
    pub created_by: Arc<str>,
    /// When.
    pub created_at: Timestamp,
}

/// A revision on its way in.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// Whose.
    pub realm: Realm,
    /// The workflow's id.
    pub workflow: Arc<str>,
    /// The author's label.
    pub label: Option<Arc<str>>,
    /// A name for people.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The definition as JSON.
    pub definition: Json,
    /// Who saves it.
    pub created_by: Arc<str>,
    /// Now.
    pub at: Timestamp,
    /// `Some(false)`: it must not exist yet; `Some(true)`: it must; `None`: either.
    pub must_exist: Option<bool>,
}

/// What a run is made with, beside its first events.
#[derive(Clone, Debug, Default)]
pub struct NewRun {
    /// A name for people.
    pub name: Option<String>,
    /// The project it belongs to.
    pub project_id: Option<String>,
    /// The run it is forked from.
    pub forked_from: Option<RunId>,
    /// The client's `Idempotency-Key`.
    pub idempotency: Option<IdempotencyRow>,
}

/// Numbers about a workflow's runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunStats {
    /// When the newest was made.
    pub last_run_at: Option<Timestamp>,
    /// How many there are.
    pub runs: u64,
    /// Of those that ended in the last 30 days, the part that completed, 0 to 1.
    pub success_rate: Option<f64>,
    /// Their mean duration.
    pub avg_ms: Option<f64>,
}

/// An API key. The key itself is not stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyRow {
    /// Its id.
    pub id: Arc<str>,
    /// SHA-256 of the key.
    pub key_hash: Arc<str>,
    /// Whose.
    pub tenant: Arc<str>,
    /// Who acts with it.
    pub actor: Arc<str>,
    /// The teams the actor is in.
    pub teams: Vec<String>,
    /// `viewer`, `operator`, `approver` or `admin`.
    pub role: Arc<str>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A line that a guest wrote, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLogLine {
    /// Its run.
    pub run: RunId,
    /// Its step.
    pub step: StepId,
    /// The line.
    pub line: super::LogLine,
}

/// Which runs.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Of this workflow.
    pub workflow: Option<String>,
    /// With one of these statuses; empty means any.
    pub status: Vec<RunStatus>,
    /// Of this project.
    pub project: Option<String>,
    /// Called by this run.
    pub parent: Option<RunId>,
}

/// How many things a run has, each counted up to a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunCounts {
    /// Approvals that were asked for.
    pub approvals: u64,
    /// Files that its guests have put.
    pub artifacts: u64,
    /// Sessions of agents.
    pub sessions: u64,
}

/// Which approvals.
#[derive(Clone, Debug, Default)]
pub struct ApprovalFilter {
    /// Of this run.
    pub run: Option<RunId>,
    /// With this status.
    pub status: Option<ApprovalStatus>,
}

/// Which workflows.
#[derive(Clone, Debug, Default)]
pub struct DefinitionFilter {
    /// Whose id or name holds this text.
    pub search: Option<String>,
    /// Only enabled, or only disabled ones.
    pub enabled: Option<bool>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// At most so many.
    pub limit: u32,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// A part of a list, newest first.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The things.
    pub items: Vec<T>,
    /// Where this page ended; `None` at the end of the list.
    pub next: Option<String>,
}

/// Where runs live. Every method is one transaction; SQLite and PostgreSQL pass the same contract suite.
#[async_trait]
pub trait Store: Send + Sync {
    /// Stores one decision. Concurrent calls are folded into one transaction; each succeeds or fails alone.
    async fn commit(&self, commit: Commit) -> Result<(), CommitError>;
    /// A run for the engine; whoever asks checks the realm.
    async fn load(&self, run: &RunId) -> Result<Option<StoredRun>, StoreError>;
    /// Large values by hash; those that are not there are left out.
    async fn blobs(&self, ids: &[BlobRef]) -> Result<Vec<Blob>, StoreError>;
    /// Results of a foreach, in the order of the items.
    async fn items(&self, run: &RunId, step: StepNo) -> Result<Vec<ItemRow>, StoreError>;

    /// Steps that wait for a host, longest first, leaving out those whose run is paused.
    async fn ready(&self, limit: u32) -> Result<Vec<ReadyRow>, StoreError>;
    /// The same steps, those alone that were last published before a time: raises their `dispatch` and notes that they are published
    /// `now`. No step is given to two hosts under the same `dispatch`.
    async fn redispatch(&self, before: Timestamp, now: Timestamp, limit: u32) -> Result<Vec<ReadyRow>, StoreError>;
    /// Steps claimed by other hosts than this one: `(run, step, claim)`. On an embedded store they are dead.
    async fn claimed_by_others(&self, host: &str, limit: u32) -> Result<Vec<(RunId, StepNo, u32)>, StoreError>;
    /// Timers that are due, earliest first.
    async fn due_timers(&self, now: Timestamp, limit: u32) -> Result<Vec<TimerRow>, StoreError>;
    /// When the next timer is due.
    async fn next_timer(&self) -> Result<Option<Timestamp>, StoreError>;
    /// Messages between runs that are not delivered, oldest first.
    async fn outbox(&self, limit: u32) -> Result<Vec<OutboxRow>, StoreError>;
    /// Removes messages that need no commit of their target.
    async fn outbox_delete(&self, ids: &[Arc<str>]) -> Result<(), StoreError>;
    /// Runs that wait and could begin: the first of each queue of which fewer than its limit run, or of that one queue; longest first.
    async fn admissible(&self, of: Option<&SlotKey>, limit: u32) -> Result<Vec<RunId>, StoreError>;
    /// Runs of a key that have begun and not ended, in the order of their making.
    async fn admitted(&self, of: &SlotKey, limit: u32) -> Result<Vec<RunId>, StoreError>;
    /// How many steps wait for a host, those of paused runs included; counts no further than `limit`.
    async fn backlog(&self, limit: u64) -> Result<u64, StoreError>;
    /// The latest time that is stored anywhere: the clock never goes behind it.
    async fn latest_time(&self) -> Result<Option<Timestamp>, StoreError>;

    /// A run's row.
    async fn run(&self, run: &RunId) -> Result<Option<RunRow>, StoreError>;
    /// The run made with that idempotency key, and the hash of its request.
    async fn run_by_key(&self, key: &str) -> Result<Option<(RunId, String)>, StoreError>;
    /// Runs, newest first.
    async fn runs(
        &self,
        tenant: &str,
        environment: Option<&str>,
        filter: &RunFilter,
        page: &PageRequest,
    ) -> Result<Page<RunRow>, StoreError>;
    /// What these runs have, each counted no further than `most`.
    async fn counts(&self, runs: &[RunId], most: u32) -> Result<BTreeMap<RunId, RunCounts>, StoreError>;
    /// A run's steps, in the order of entering.
    async fn steps(&self, run: &RunId, page: &PageRequest) -> Result<Page<StepRow>, StoreError>;
    /// One step.
    async fn step(&self, run: &RunId, step: &StepId) -> Result<Option<StepRow>, StoreError>;
    /// Steps that failed because every host that took them was lost (see [`super::dead`]), with their runs; the newest end first.
    async fn dead(
        &self,
        tenant: &str,
        environment: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<(RunId, StepRow)>, StoreError>;
    /// A run's events after `after`, in order.
    async fn events(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<EventRow>, StoreError>;
    /// Single events of a run by number.
    async fn events_at(&self, run: &RunId, seqs: &[u64]) -> Result<BTreeMap<u64, EventRow>, StoreError>;
    /// Approvals, newest first.
    async fn approvals(
        &self,
        tenant: &str,
        environment: Option<&str>,
        filter: &ApprovalFilter,
        page: &PageRequest,
    ) -> Result<Page<ApprovalRow>, StoreError>;
    /// One approval.
    async fn approval(&self, id: &ApprovalId) -> Result<Option<ApprovalRow>, StoreError>;

    /// Saves a revision and puts it in force. The same content again (under the same label, or under none) gives the version that
    /// exists; other content under a used label is [`StoreError::Conflict`]. The boolean says whether it is new. `must_exist` that does
    /// not hold is [`StoreError::NotFound`] or [`StoreError::Conflict`].
    async fn save_version(&self, version: NewVersion) -> Result<(VersionRow, bool), StoreError>;
    /// A workflow with its version in force.
    async fn definition(&self, realm: &Realm, id: &str) -> Result<Option<(DefinitionRow, VersionRow)>, StoreError>;
    /// Workflows with their versions in force, by id.
    async fn definitions(
        &self,
        realm: &Realm,
        filter: &DefinitionFilter,
        page: &PageRequest,
    ) -> Result<Page<(DefinitionRow, VersionRow)>, StoreError>;
    /// A revision: the one in force, or by label, or by number.
    async fn version(&self, realm: &Realm, id: &str, version: Option<&str>) -> Result<Option<VersionRow>, StoreError>;
    /// A revision by its digest.
    async fn version_by_digest(&self, realm: &Realm, id: &str, digest: &str) -> Result<Option<VersionRow>, StoreError>;
    /// All revisions, newest first.
    async fn versions(&self, realm: &Realm, id: &str, page: &PageRequest) -> Result<Page<VersionRow>, StoreError>;
    /// Enables, disables, pauses or unpauses; `None` leaves a switch as it is. `false` if there is no such workflow.
    async fn set_definition(
        &self,
        realm: &Realm,
        id: &str,
        enabled: Option<bool>,
        paused: Option<bool>,
        at: Timestamp,
    ) -> Result<bool, StoreError>;
    /// Deletes a workflow and its versions. `Conflict` while it has runs; `false` if there is none.
    async fn delete_definition(&self, realm: &Realm, id: &str) -> Result<bool, StoreError>;
    /// Numbers about its runs; `since` begins the 30 days.
    async fn run_stats(&self, realm: &Realm, id: &str, since: Timestamp) -> Result<RunStats, StoreError>;

    /// Adds a key.
    async fn add_key(&self, key: &ApiKeyRow) -> Result<(), StoreError>;
    /// The key with that hash, also if it is revoked.
    async fn key_by_hash(&self, key_hash: &str) -> Result<Option<ApiKeyRow>, StoreError>;
    /// A tenant's keys, newest first.
    async fn keys(&self, tenant: &str) -> Result<Vec<ApiKeyRow>, StoreError>;
    /// How many keys there are at all.
    async fn count_keys(&self) -> Result<u64, StoreError>;
    /// Revokes one; `false` if there is none.
    async fn revoke_key(&self, tenant: &str, id: &str, at: Timestamp) -> Result<bool, StoreError>;
    /// Notes that keys were used.
    async fn touch_keys(&self, used: &[(Arc<str>, Timestamp)]) -> Result<(), StoreError>;

    /// Stores lines that guests wrote.
    async fn append_logs(&self, lines: &[HostLogLine]) -> Result<(), StoreError>;
    /// A run's lines, oldest first, of one step if given.
    async fn logs(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<HostLogLine>, StoreError>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<(), StoreError>;
    /// Finishes what is under way and lets go of the files.
    async fn close(&self);
}
