//! What comes in, and the typed ways of saying no.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ApprovalStatus, RunError, ScopeNo, StepNo};
use crate::ids::{ApprovalId, RunId};
use crate::json::Json;
use crate::ports::Entry;
use crate::status::RunStatus;

/// Something happened that a run should react to.
#[derive(Clone, Debug)]
pub enum Stimulus {
    /// A host wants to run a ready step.
    Claim {
        /// The step.
        step: StepNo,
        /// The host.
        host: Arc<str>,
    },
    /// An entry ended.
    Result {
        /// The step.
        step: StepNo,
        /// The attempt it belongs to.
        attempt: u32,
        /// The claim it was run under: a stale one is refused.
        claim: u32,
        /// What came of it.
        entry: Entry,
    },
    /// The host that had the step is gone.
    Lost {
        /// The step.
        step: StepNo,
        /// The claim that is over.
        claim: u32,
    },
    /// A timer is due.
    Timer {
        /// Which.
        key: TimerKey,
    },
    /// An event from outside.
    Signal(NewSignal),
    /// A human's answer.
    Decide {
        /// To which question.
        approval: ApprovalId,
        /// Yes or no.
        approve: bool,
        /// Who.
        actor: Actor,
        /// With which words.
        comment: Option<String>,
    },
    /// A child run ended, or could not be started.
    ChildEnded {
        /// The step that called it.
        step: StepNo,
        /// The child.
        child: RunId,
        /// How it ended.
        end: ChildEnd,
    },
    /// Goes on where a decision stopped at its budget.
    Continue,
    /// There is room for a run that waited.
    Admit,
    /// An operator pauses the run.
    Pause {
        /// Who.
        actor: Arc<str>,
    },
    /// An operator lets it go on.
    Resume {
        /// Who.
        actor: Arc<str>,
    },
    /// An operator, or the parent run, ends it.
    Cancel {
        /// Who.
        actor: Arc<str>,
        /// Why.
        reason: Option<String>,
    },
}

/// [`Stimulus::Result`] on its way from the host that ran the step to the one that moves the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepResult {
    /// The step.
    pub step: StepNo,
    /// The attempt it belongs to.
    pub attempt: u32,
    /// The claim it was run under.
    pub claim: u32,
    /// What came of it.
    pub entry: Entry,
}

impl From<StepResult> for Stimulus {
    fn from(StepResult { step, attempt, claim, entry }: StepResult) -> Self {
        Self::Result { step, attempt, claim, entry }
    }
}

/// A signal on its way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSignal {
    /// Unique; the same id again is taken as the same signal.
    pub id: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Which of several like it.
    pub correlation: Option<Arc<str>>,
    /// Its data.
    pub payload: Json,
    /// Who sends it.
    pub actor: Option<Arc<str>>,
}

/// Who acts: from the API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The name.
    pub name: Arc<str>,
    /// The teams.
    pub teams: Vec<String>,
}

impl Actor {
    /// Whether an approval with these approvers may be answered by this actor. An empty list means anybody whose role allows it;
    /// otherwise nobody else, administrators included.
    pub fn may_answer(&self, approvers: &[String]) -> bool {
        approvers.is_empty()
            || approvers.iter().any(|approver| match approver.split_once(':') {
                Some(("user", name)) => name == &*self.name,
                Some(("team", team)) => self.teams.iter().any(|t| t == team),
                _ => approver == &*self.name,
            })
    }
}

/// How a child run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildEnd {
    /// Its status.
    pub status: RunStatus,
    /// Its output, if completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    /// Its error otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
}

/// What one run says to another, through the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
#[allow(missing_docs, reason = "the fields are those of the stimuli")]
pub enum Message {
    /// Start a child. Its id is in the outbox row.
    StartChild {
        parent: RunId,
        step: StepNo,
        depth: u32,
        workflow: Arc<str>,
        version: Option<Arc<str>>,
        input: crate::json::Payload,
        /// Where the child's trace hangs: below the state that calls it.
        #[serde(default)]
        trace: Option<Arc<str>>,
    },
    /// The child is no longer wanted.
    CancelChild { reason: String },
    /// The child ended.
    ChildEnded { step: StepNo, child: RunId, end: ChildEnd },
    /// To the run itself: go on where a decision stopped at its budget. Durable, so that a crash in between loses nothing.
    Continue,
}

/// Names a timer within its run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerKey {
    /// The run's time limit.
    Run,
    /// The time limit of a step's attempt, a signal's or an approval's.
    Deadline(StepNo),
    /// A parked or pausing step, or a wait state, goes on.
    Wake(StepNo),
}

impl fmt::Display for TimerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run => f.write_str("run"),
            Self::Deadline(step) => write!(f, "deadline:{step}"),
            Self::Wake(step) => write!(f, "wake:{step}"),
        }
    }
}

impl TimerKey {
    /// Reads it back.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "run" => Some(Self::Run),
            Some(("deadline", step)) => step.parse().ok().map(Self::Deadline),
            Some(("wake", step)) => step.parse().ok().map(Self::Wake),
            _ => None,
        }
    }
}

/// Why a stimulus changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The run has ended and never moves again.
    #[error("run has ended: it is {0}")]
    Ended(RunStatus),
    /// It is paused already.
    #[error("run is paused already")]
    AlreadyPaused,
    /// It is not paused.
    #[error("run is not paused: it is {0}")]
    NotPaused(RunStatus),
    /// It does not wait for room.
    #[error("run does not wait for room: it is {0}")]
    NotQueued(RunStatus),
    /// No such step is open.
    #[error("step {0} is not open")]
    NoSuchStep(StepNo),
    /// The step is not ready for a claim: somebody has it, or it waits, or its run is paused.
    #[error("step {0} is not ready")]
    NotReady(StepNo),
    /// The claim, or the attempt, is not the current one.
    #[error("step {step} is not held under claim {claim}")]
    StaleClaim {
        /// The step.
        step: StepNo,
        /// The claim that came with the stimulus.
        claim: u32,
    },
    /// The timer was cleared or moved in the meantime.
    #[error("timer {0} is not set")]
    StaleTimer(TimerKey),
    /// This run never asked that.
    #[error("run has no approval {0}")]
    NoSuchApproval(ApprovalId),
    /// It was answered before.
    #[error("approval is decided already: it is {0:?}")]
    AlreadyDecided(ApprovalStatus),
    /// Not one of those who may answer.
    #[error("'{actor}' is not one of the approvers: {}", approvers.join(", "))]
    NotApprover {
        /// Who tried.
        actor: Arc<str>,
        /// Who may.
        approvers: Vec<String>,
    },
    /// That signal is known.
    #[error("signal {0} was received before")]
    DuplicateSignal(Arc<str>),
    /// Too many signals wait to be taken.
    #[error("run holds {0} signals that nothing has taken")]
    MailboxFull(usize),
    /// No step waits for that child.
    #[error("no step waits for child run {0}")]
    NoSuchChild(RunId),
    /// A limit of the run is passed; the run fails with it.
    #[error("scope {0} is not open")]
    NoSuchScope(ScopeNo),
}
