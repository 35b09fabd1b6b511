//! What is open in a run: scopes and steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Activity, RunError, ScopeNo, ScopeRole, StepNo, TimerKey, Wake};
use crate::error::Failure;
use crate::expr::Path;
use crate::ids::{ApprovalId, StepId};
use crate::json::Payload;
use crate::ports::Usage;
use crate::status::StepStatus;
use crate::time::Timestamp;

/// A branch, an item, a section of a `try`, or the run itself: data laid over its parent's, and a place in its block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Its number.
    pub number: ScopeNo,
    /// What it is for.
    pub role: ScopeRole,
    /// The step that opened it; none for the root.
    pub owner: Option<StepNo>,
    /// The scope of that step.
    pub parent: Option<ScopeNo>,
    /// Where it is.
    pub cursor: Cursor,
    /// What was written in it, in order; a later write to the same place replaces the earlier.
    pub writes: Vec<(Path, Payload)>,
    /// How often each state was visited.
    pub visits: BTreeMap<Arc<str>, u32>,
    /// The result of the last state that had one.
    pub last: Option<Payload>,
}

/// Where a scope is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cursor {
    /// Before its first state.
    Start,
    /// In a step.
    At(StepNo),
    /// Before a state: it moves on as soon as the run may.
    Next(Arc<str>),
    /// Past its last state.
    End,
    /// Past a `return`.
    Return,
    /// Past an error that nothing in it took.
    Fail(Box<RunError>),
}

/// An open visit to a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its number.
    pub number: StepNo,
    /// Its id.
    pub id: StepId,
    /// Its scope.
    pub scope: ScopeNo,
    /// Its state.
    pub state: Arc<str>,
    /// How often the scope visited the state before.
    pub visit: u32,
    /// What it does.
    pub activity: Activity,
    /// Where it stands.
    pub status: StepStatus,
    /// The attempt, from 1.
    pub attempt: u32,
    /// How often this attempt was woken.
    pub entry: u32,
    /// How often hosts took it.
    pub claim: u32,
    /// How many claims were lost.
    pub lost: u32,
    /// The host that has it.
    pub host: Option<Arc<str>>,
    /// Since when it waits for a host.
    pub ready_at: Option<Timestamp>,
    /// When its attempt is over.
    pub deadline: Option<Timestamp>,
    /// What it waits for while no host has it.
    pub parked: Option<Parked>,
    /// What its next entry is handed.
    pub waking: Option<Waking>,
    /// When its next attempt begins.
    pub retry_at: Option<Timestamp>,
    /// What its attempts used.
    pub usage: Usage,
    /// Its last error.
    pub error: Option<Failure>,
    /// How far its branches, items or sections are.
    pub progress: Progress,
    /// The event that holds its input.
    pub input_seq: u64,
    /// The event that holds its last error.
    pub result_seq: Option<u64>,
    /// When it was entered.
    pub created_at: Timestamp,
    /// When a host first took it.
    pub started_at: Option<Timestamp>,
    /// When a host first took this entry of this attempt: another host that goes on with it starts the guest's clock here too.
    #[serde(default)]
    pub entered_at: Option<Timestamp>,
}

/// A suspended guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// What it keeps, base64 as a JSON string.
    pub state: Payload,
    /// Signals that wake it.
    pub signals: Vec<String>,
    /// When it wakes.
    pub wake_at: Option<Timestamp>,
    /// The approval that wakes it.
    pub approval: Option<ApprovalId>,
}

/// What a woken guest gets back. Kept until the entry has a result, so that a lost claim hands it out again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waking {
    /// What it kept.
    pub state: Payload,
    /// Why it wakes.
    pub wake: Wake,
}

/// How far a step with scopes of its own is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// It has none.
    #[default]
    None,
    /// A place for every branch that began.
    Branches(BTreeMap<u32, BranchEnd>),
    /// Items.
    Items(Items),
    /// Sections of a `try`.
    Sections(Sections),
}

/// Where a branch is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BranchEnd {
    /// Under way.
    Open(ScopeNo),
    /// Ended well.
    Succeeded(Payload),
    /// Ended by an error.
    Failed(Box<RunError>),
}

/// How far a foreach is. Results are rows in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Items {
    /// The next item to begin.
    pub next: u64,
    /// How many are under way.
    pub open: u64,
    /// How many ended.
    pub done: u64,
    /// Size of their results in bytes.
    pub bytes: u64,
    /// The error that ends the foreach, if one does.
    pub error: Option<Box<RunError>>,
}

/// How far a `try` is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sections {
    /// The section under way.
    pub open: Option<ScopeNo>,
    /// The section that ended last.
    pub ended: Option<ScopeRole>,
    /// The result so far.
    pub result: Option<Payload>,
    /// The error that is not taken (yet).
    pub error: Option<Box<RunError>>,
    /// Whether that error is the finally's own.
    pub finally_failed: bool,
    /// Whether the run ends with the result, by a `return`.
    #[serde(default)]
    pub returns: bool,
}

impl Scope {
    pub(super) fn new(number: ScopeNo, role: ScopeRole, owner: Option<StepNo>, parent: Option<ScopeNo>) -> Self {
        Self {
            number,
            role,
            owner,
            parent,
            cursor: Cursor::Start,
            writes: Vec::new(),
            visits: BTreeMap::new(),
            last: None,
        }
    }

    /// A write replaces what it covers, so that a loop does not grow the scope.
    pub(super) fn write(&mut self, path: Path, value: Payload) {
        self.writes.retain(|(earlier, _)| earlier.strip_prefix(&path).is_none());
        self.writes.push((path, value));
    }
}

impl Step {
    #[expect(clippy::too_many_arguments, reason = "these are the fields of one event, taken apart once")]
    pub(super) fn scheduled(
        seq: u64,
        at: Timestamp,
        number: StepNo,
        id: &StepId,
        scope: ScopeNo,
        state: &Arc<str>,
        visit: u32,
        activity: &Activity,
        deadline: Option<Timestamp>,
    ) -> Self {
        let (status, progress) = match activity {
            Activity::Operation { .. } => (StepStatus::Pending, Progress::None),
            Activity::Instant => (StepStatus::Running, Progress::None),
            Activity::Parallel => (StepStatus::Running, Progress::Branches(BTreeMap::new())),
            Activity::Foreach { .. } => (StepStatus::Running, Progress::Items(Items::default())),
            Activity::Try => (StepStatus::Running, Progress::Sections(Sections::default())),
            Activity::Wait { .. } | Activity::Signal { .. } | Activity::Call { .. } => {
                (StepStatus::WaitingSignal, Progress::None)
            }
        };
        Self {
            number,
            id: id.clone(),
            scope,
            state: state.clone(),
            visit,
            activity: activity.clone(),
            status,
            attempt: 1,
            entry: 0,
            claim: 0,
            lost: 0,
            host: None,
            ready_at: (status == StepStatus::Pending).then_some(at),
            deadline,
            parked: None,
            waking: None,
            retry_at: None,
            usage: Usage::default(),
            error: None,
            progress,
            input_seq: seq,
            result_seq: None,
            created_at: at,
            started_at: (status != StepStatus::Pending).then_some(at),
            entered_at: None,
        }
    }

    pub(super) fn make_ready(&mut self, at: Timestamp) {
        self.host = None;
        self.status = StepStatus::Pending;
        self.ready_at = Some(at);
    }

    pub(super) fn retrying(&mut self, seq: u64, error: &Failure, attempt: u32, due: Timestamp, usage: Usage) {
        self.status = StepStatus::Retrying;
        self.host = None;
        self.ready_at = None;
        self.parked = None;
        self.waking = None;
        self.deadline = None;
        self.attempt = attempt;
        self.entry = 0;
        self.entered_at = None;
        self.lost = 0;
        self.retry_at = Some(due);
        self.usage = self.usage.plus(usage);
        self.error = Some(error.clone());
        self.result_seq = Some(seq);
        if let Activity::Call { child, .. } = &mut self.activity {
            *child = super::ids::child_run(&self.id, attempt, due);
        }
    }

    /// Whether an executor may claim it.
    pub fn is_ready(&self) -> bool {
        self.ready_at.is_some()
    }

    /// The timers that it has set.
    pub fn timers(&self) -> impl Iterator<Item = (TimerKey, Timestamp)> {
        let wake = match &self.activity {
            Activity::Wait { until } => Some(*until),
            _ => self.retry_at.or(self.parked.as_ref().and_then(|parked| parked.wake_at)),
        };
        let deadline = self.deadline.map(|due| (TimerKey::Deadline(self.number), due));
        wake.map(|due| (TimerKey::Wake(self.number), due)).into_iter().chain(deadline)
    }

    /// How many attempts it may have.
    pub fn max_attempts(&self) -> u32 {
        match &self.activity {
            Activity::Operation { max_attempts, .. } | Activity::Call { max_attempts, .. } => *max_attempts,
            Activity::Instant
            | Activity::Parallel
            | Activity::Foreach { .. }
            | Activity::Try
            | Activity::Wait { .. }
            | Activity::Signal { .. } => 1,
        }
    }
}
