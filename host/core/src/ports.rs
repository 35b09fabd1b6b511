//! What the engine needs of the world, as traits. Adapters fill them; nothing here does anything.

mod action;
mod admission;
mod clock;
mod cluster;
mod commit;
#[cfg(feature = "contract")]
pub mod contract;
pub mod dead;
mod evaluator;
mod events;
mod journal;
mod paging;
mod plugins;
mod queue;
mod resources;
mod retention;
mod secrets;
mod sessions;
mod store;
mod tools;

pub use action::{
    ActionInfo, ActionRunner, ApprovalRequest, CallSink, Entry, HostCall, Invocation, LogLevel, LogLine, LogSink,
    Outcome, PluginRef, Resumption, Suspension, Usage,
};
pub use admission::{Admission, Held, Place, SlotKey};
pub use clock::Clock;
pub use cluster::{Beat, Claim, Cluster, HostRow, InboxRow, Pulse, RunLease};
pub use evaluator::{Bindings, Evaluation, Evaluator};
pub use events::{CommittedElsewhere, EventSink, Said, SessionElsewhere};
pub use journal::{ArtifactRow, Effect, EmittedEvent, EntryKey, Journal, JournalError, KvScope, Record};
pub use paging::{Cursor, PAGE_LIMIT_MAX};
pub use plugins::{Compilation, PluginHost, PluginRow, PluginStore};
pub use queue::{Delivery, Horizon, Ready, Receipt, TaskQueue};
pub use resources::{NewResource, ResourceKey, ResourceKind, ResourceRow, Resources};
pub use retention::{Archive, Pruning, RunFiles, Stage};
pub use secrets::{Secret, Secrets};
pub use sessions::{SessionChange, SessionLine, SessionRow, SessionStatus};
pub use store::{
    ApiKeyRow, ApprovalFilter, ApprovalRow, Commit, CommitError, DefinitionFilter, DefinitionRow, EventRow,
    HostLogLine, IdempotencyRow, ItemRow, NewRun, NewVersion, OutboxRow, Page, PageRequest, ReadyRow, RunCounts,
    RunFilter, RunRow, RunStats, StepRow, Store, StoreError, StoredRun, TimerRow, VersionRow,
};
pub use tools::{NoTools, ServerState, ServerStatus, Tool, ToolAnswer, ToolCall, ToolError, Tools};
