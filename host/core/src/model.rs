//! The model of a definition: what every front end (YAML, JSON, pipelines) is read into, and all that the
//! engine knows of one.
//!
//! States and blocks live in two flat lists and refer to each other by index, so that a loop in a workflow
//! is no loop in memory. Names are unique within a block. The reader ([`crate::definition`]) builds it and guarantees that every
//! index is valid; nothing else constructs one.

use std::sync::Arc;

use serde_json::Value;

use crate::expr::{Path, Template};
use crate::plugin::Grants;
use crate::schema::Validator;

/// One immutable revision of a workflow.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The workflow's id, unique per tenant and environment.
    pub id: Arc<str>,
    /// The author's label for this revision; free text.
    pub version: Option<String>,
    /// A name for people.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// JSON Schema of the run's input.
    pub input_schema: Option<Value>,
    /// JSON Schema of the run's output.
    pub output_schema: Option<Value>,
    /// `input_schema`, compiled.
    pub input_validator: Option<Arc<Validator>>,
    /// `output_schema`, compiled.
    pub output_validator: Option<Arc<Validator>>,
    /// Phases in the order of the board's columns; empty when the author named none.
    pub phases: Vec<Arc<str>>,
    /// The run's time limit, from when it begins: waiting for room is not counted.
    pub timeout_ms: Option<u64>,
    /// How many runs may run at once; any number when absent.
    pub concurrency: Option<Concurrency>,
    /// How long its runs are kept. The version in force decides, for the runs of all versions.
    pub retention: Retention,
    /// The states at the top.
    pub root: BlockId,
    /// All blocks.
    pub blocks: Vec<Block>,
    /// All states.
    pub states: Vec<State>,
}

/// How many runs of a workflow may run at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Concurrency {
    /// So many of one key.
    pub limit: u32,
    /// Paths into the input: runs that differ in it do not count together. All runs count together when absent.
    pub key: Option<Template>,
    /// What becomes of one more.
    pub overflow: Overflow,
}

/// What becomes of a run for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// It waits its turn.
    Queue {
        /// So many may wait; the next one is refused.
        queued_max: u32,
    },
    /// It begins, and the one that was made first is cancelled.
    CancelOldest,
    /// It is not made.
    Refuse,
}

/// How long after its end what is left of a run. For ever, where absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Its data: after that its events, steps and hashes are left. Never longer than `runs_ms`.
    pub payloads_ms: Option<u64>,
    /// All of it.
    pub runs_ms: Option<u64>,
}

/// An index into [`Definition::blocks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub u32);

/// An index into [`Definition::states`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateId(pub u32);

/// States that run in one scope: the top, a branch, an iterator, a section of a `try`.
#[derive(Clone, Debug)]
pub struct Block {
    /// Where it starts.
    pub start: StateId,
    /// Its states in the order of the file.
    pub states: Vec<StateId>,
}

/// A node of the definition.
#[derive(Clone, Debug)]
pub struct State {
    /// Unique within its block.
    pub name: Arc<str>,
    /// A name for people; only pipelines have one beside the name.
    pub title: Option<Arc<str>>,
    /// The block it stands in.
    pub block: BlockId,
    /// The phase that a run enters with it.
    pub phase: Option<Arc<str>>,
    /// Bounds one attempt, suspension included. From the state, else from its input.
    pub timeout_ms: Option<u64>,
    /// How failed attempts are repeated. Only operations and calls have one.
    pub retry: Option<Retry>,
    /// Where to go when it failed for good. The error is at `error` in the scope.
    pub on_error: Option<StateId>,
    /// Where its result is written.
    pub result_path: Path,
    /// Where to go after it.
    pub next: Next,
    /// What it does.
    pub kind: StateKind,
}

/// Where to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// To a state of the same block.
    Goto(StateId),
    /// The block ends.
    End,
}

/// What a state does.
#[derive(Clone, Debug)]
pub enum StateKind {
    /// One action of one plugin.
    Operation(Operation),
    /// The first condition that holds.
    Switch(Switch),
    /// Branches, then a join.
    Parallel(Parallel),
    /// An iterator over a list.
    Foreach(Foreach),
    /// Data into the context.
    Inject {
        /// The data; may hold templates.
        data: Template,
    },
    /// A Starlark expression over the context.
    Transform {
        /// Its source.
        expression: Arc<str>,
    },
    /// Try, catch, finally.
    Try(Try),
    /// A durable timer.
    Wait(Wait),
    /// Waits for an event from outside.
    Signal(SignalWait),
    /// Another workflow as a child run.
    Call(Call),
    /// Ends the run early, from any depth.
    Return {
        /// The run's output; the last result when absent.
        output: Option<Template>,
    },
    /// Fails with an error of the author's: a `try` around it may catch it.
    Fail(Fail),
}

impl StateKind {
    /// The word that stands at `type`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Operation(_) => "operation",
            Self::Switch(_) => "switch",
            Self::Parallel(_) => "parallel",
            Self::Foreach(_) => "foreach",
            Self::Inject { .. } => "inject",
            Self::Transform { .. } => "transform",
            Self::Try(_) => "try",
            Self::Wait(_) => "wait",
            Self::Signal(_) => "signal",
            Self::Call(_) => "call",
            Self::Return { .. } => "return",
            Self::Fail(_) => "fail",
        }
    }
}

/// One action of one plugin.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Full name: plugin id, a dot, the action's name.
    pub action: Arc<str>,
    /// What it is given; without the fields that the engine reads itself (`task` naming an action, `timeoutSeconds`, `summaryPath`).
    pub input: Template,
    /// Handed to outside systems; run:step when absent.
    pub idempotency_key: Option<Template>,
    /// Where to go when a human said no.
    pub on_reject: Option<StateId>,
    /// What the state leaves of the plugin's capabilities; `None` narrows nothing.
    pub capabilities: Option<Arc<Grants>>,
}

/// The first condition that holds.
#[derive(Clone, Debug)]
pub struct Switch {
    /// Its keys are bare names in the conditions, the value itself is `result`.
    pub data_path: Option<Path>,
    /// In order.
    pub conditions: Vec<Condition>,
    /// When none holds; without it that is an error.
    pub default: Option<Next>,
}

/// One condition of a switch.
#[derive(Clone, Debug)]
pub struct Condition {
    /// A Starlark expression.
    pub expression: Arc<str>,
    /// Where to go if it holds.
    pub next: Next,
}

/// Branches, then a join.
#[derive(Clone, Debug)]
pub struct Parallel {
    /// In the order of the file; at least one.
    pub branches: Vec<Branch>,
    /// When it is over.
    pub join: Join,
    /// What a failed branch does.
    pub on_branch_error: OnError,
}

/// One branch.
#[derive(Clone, Debug)]
pub struct Branch {
    /// Unique within its state; the key of its result.
    pub name: Arc<str>,
    /// Its states.
    pub block: BlockId,
}

/// When a parallel is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Every branch succeeded.
    All,
    /// One branch succeeded; the others are cancelled and their writes dropped.
    Any,
    /// So many branches succeeded; the others are cancelled and their writes dropped.
    Count(u32),
}

/// What one failed branch or item means for the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The whole fails, what is still open in it is cancelled.
    Fail,
    /// Its place in the result holds `{"error": …}`, the others go on.
    Continue,
}

/// An iterator over a list.
#[derive(Clone, Debug)]
pub struct Foreach {
    /// Where the list is.
    pub items: Path,
    /// What the current item is called; beside it stand `_index` and `_total`.
    pub item_name: Arc<str>,
    /// How many items may be open at once; at least 1.
    pub max_concurrency: u32,
    /// The states that each item runs through.
    pub block: BlockId,
    /// What a failed item does.
    pub on_item_error: OnError,
}

/// Try, catch, finally.
#[derive(Clone, Debug)]
pub struct Try {
    /// What is tried.
    pub body: BlockId,
    /// What takes an error.
    pub catch: Option<Catch>,
    /// What runs in any case, except when the run is cancelled or out of time.
    pub finally: Option<BlockId>,
}

/// What takes an error.
#[derive(Clone, Debug)]
pub struct Catch {
    /// Categories or codes; empty takes every error.
    pub errors: Vec<String>,
    /// What the error is called in `states`.
    pub bind: Arc<str>,
    /// What runs then; absent, the error is just swallowed.
    pub block: Option<BlockId>,
}

/// A durable timer.
#[derive(Clone, Debug)]
pub enum Wait {
    /// So long: a number of seconds or text for [`crate::time::parse_duration_ms`].
    Duration(Template),
    /// Until a time in RFC 3339.
    Until(Template),
}

/// Waits for an event from outside.
#[derive(Clone, Debug)]
pub struct SignalWait {
    /// The signal's name.
    pub name: Template,
    /// Only signals with this correlation key.
    pub correlation: Option<Template>,
    /// Only signals for which this Starlark expression holds; bound are the payload's keys, `payload`, `name`
    /// and the context.
    pub filter: Option<Arc<str>>,
}

/// Another workflow as a child run.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its id.
    pub workflow: Template,
    /// Its version label or number; the newest when absent.
    pub version: Option<Template>,
    /// The child's input; `{}` when absent.
    pub input: Option<Template>,
    /// Over the child's `output`; that itself when absent.
    pub output: Option<Template>,
}

/// An error of the author's.
#[derive(Clone, Debug)]
pub struct Fail {
    /// Its code.
    pub code: Template,
    /// Its category.
    pub category: crate::error::Category,
    /// Its message.
    pub message: Template,
    /// More, for programs.
    pub details: Option<Template>,
}

/// How failed attempts are repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// All attempts, the first included; at least 1.
    pub max_attempts: u32,
    /// How the pause grows.
    pub backoff: Backoff,
    /// The first pause.
    pub delay_ms: u64,
    /// For [`Backoff::Exponential`].
    pub multiplier: f64,
    /// No pause is longer.
    pub max_delay_ms: u64,
    /// Part of the pause that is left to chance, 0 to 1: 0.2 means between 80 % and 120 %.
    pub jitter: f64,
    /// Categories or codes; empty means the default: action, transient and timeout errors.
    pub retry_on: Vec<String>,
}

/// How the pause between attempts grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// d, d, d
    Fixed,
    /// d, 2d, 3d
    Linear,
    /// d, dm, dm²
    Exponential,
}

impl Definition {
    /// The state of that index.
    pub fn state(&self, id: StateId) -> &State {
        &self.states[id.0 as usize]
    }

    /// The block of that index.
    pub fn block(&self, id: BlockId) -> &Block {
        &self.blocks[id.0 as usize]
    }

    /// The state of that name in a block.
    pub fn state_named(&self, block: BlockId, name: &str) -> Option<StateId> {
        self.block(block).states.iter().copied().find(|id| &*self.state(*id).name == name)
    }
}
