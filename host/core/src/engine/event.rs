//! The facts of a run, in the past tense. `apply` rebuilds a state from them alone, so each carries
//! everything that was decided: rendered input, where to go next, values of expressions.
//!
//! A live event has the same name with `workflow.` before it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Slot;
use crate::error::Failure;
use crate::expr::Path;
use crate::ids::{ApprovalId, Realm, RunId, StepId};
use crate::json::{Json, Payload};
use crate::plugin::Grants;
use crate::ports::{PluginRef, Usage};
use crate::status::{RunStatus, StepStatus};
use crate::time::Timestamp;

/// A step within its run: counted from 1, in the order of entering.
pub type StepNo = u64;
/// A scope within its run: 0 is the root.
pub type ScopeNo = u64;

/// The version of the events' shape that this code writes. Golden files hold older ones readable.
pub const EVENT_VERSION: u32 = 1;

/// A fact in the history of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all_fields = "camelCase")]
#[allow(missing_docs, reason = "fields are named after the words of the glossary; the variants say the rest")]
pub enum Event {
    /// The run exists.
    #[serde(rename = "run.created")]
    RunCreated {
        realm: Realm,
        workflow: Arc<str>,
        version: Arc<str>,
        digest: Arc<str>,
        input: Payload,
        /// Every action of the definition and the package that it means for this run.
        plugins: Vec<PinnedAction>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<ParentStep>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
        /// What it counts under, where only so many may run at once, and whether it waits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<Slot>,
        /// The client's `traceparent`, as W3C Trace Context writes it: where the run's trace hangs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace: Option<Arc<str>>,
    },
    /// There is room: a run that waited begins.
    #[serde(rename = "run.admitted")]
    RunAdmitted {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// The status changed. With an end comes its output or its error.
    #[serde(rename = "run.status_changed")]
    RunStatusChanged {
        from: RunStatus,
        status: RunStatus,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Payload>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<RunError>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A state of another phase was entered.
    #[serde(rename = "run.phase_changed")]
    RunPhaseChanged { phase: Arc<str> },
    /// A state was entered. An operation is ready from now on.
    #[serde(rename = "step.scheduled")]
    StepScheduled {
        step: StepNo,
        step_id: StepId,
        scope: ScopeNo,
        state: Arc<str>,
        /// How often the scope visited this state before.
        visit: u32,
        activity: Activity,
        /// When the first attempt is over, if it is bounded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// A host has taken the step and enters it.
    #[serde(rename = "step.started")]
    StepStarted { step: StepNo, attempt: u32, entry: u32, claim: u32, host: Arc<str> },
    /// The claim is over without a result: the host died. Uses up no attempt.
    #[serde(rename = "step.lost")]
    StepLost { step: StepNo, claim: u32 },
    /// The guest parked the step.
    #[serde(rename = "step.suspended")]
    StepSuspended {
        step: StepNo,
        claim: u32,
        /// Base64: what the guest keeps.
        state: Payload,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        signals: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wake_at: Option<Timestamp>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        approval: Option<ApprovalId>,
        usage: Usage,
    },
    /// Something woke a parked step: it is ready again.
    #[serde(rename = "step.woken")]
    StepWoken { step: StepNo, wake: Wake },
    /// An attempt failed; another follows.
    #[serde(rename = "step.retrying")]
    StepRetrying {
        step: StepNo,
        error: Failure,
        /// The attempt that comes.
        attempt: u32,
        at: Timestamp,
        usage: Usage,
    },
    /// The pause is over: the next attempt is ready.
    #[serde(rename = "step.ready")]
    StepReady {
        step: StepNo,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// A step ended.
    #[serde(rename = "step.completed")]
    StepCompleted {
        step: StepNo,
        status: StepStatus,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Payload>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Failure>,
        /// Where something is written, and what: the output at the result path, or the error for `onError`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        write: Option<Write>,
        then: Then,
        #[serde(default, skip_serializing_if = "Usage::is_zero")]
        usage: Usage,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<Failure>,
    },
    /// A branch, an item or a section of a `try` began.
    #[serde(rename = "scope.opened")]
    ScopeOpened { scope: ScopeNo, step: StepNo, role: ScopeRole },
    /// It ended. Its writes are its result, or are dropped with it.
    #[serde(rename = "scope.completed")]
    ScopeCompleted {
        scope: ScopeNo,
        status: StepStatus,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<Payload>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<RunError>,
        /// A section of a `try` that ended by a `return`: the whole run ends with its result once `finally` has run.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        returns: bool,
    },
    /// A human is asked.
    #[serde(rename = "approval.requested")]
    ApprovalRequested {
        approval: ApprovalId,
        step: StepNo,
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        summary: Option<Payload>,
        approvers: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// The human answered, or time or the run ran out.
    #[serde(rename = "approval.decided")]
    ApprovalDecided {
        approval: ApprovalId,
        step: StepNo,
        status: ApprovalStatus,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actor: Option<Arc<str>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comment: Option<String>,
    },
    /// A signal came in. It is kept until something waits for it.
    #[serde(rename = "signal.received")]
    SignalReceived { signal: Signal },
    /// Something took it.
    #[serde(rename = "signal.consumed")]
    SignalConsumed { id: Arc<str>, step: StepNo },
}

/// An action of the definition and its package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedAction {
    /// The action's full name.
    pub action: Arc<str>,
    /// The package.
    pub plugin: PluginRef,
}

/// The step that called a child run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentStep {
    /// Its run.
    pub run: RunId,
    /// Its number.
    pub step: StepNo,
    /// How many runs are above this one.
    pub depth: u32,
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunError {
    /// The error.
    #[serde(rename = "error")]
    pub failure: Failure,
    /// The state it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Arc<str>>,
    /// The step it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_id: Option<StepId>,
}

/// What a step is doing, decided when it was entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all_fields = "camelCase")]
#[allow(missing_docs, reason = "the fields are those of the definition, rendered")]
pub enum Activity {
    /// Ended in the same breath: switch, inject, transform, return, fail.
    #[serde(rename = "instant")]
    Instant,
    /// An action of a plugin.
    #[serde(rename = "operation")]
    Operation {
        action: Arc<str>,
        plugin: PluginRef,
        input: Payload,
        idempotency_key: Arc<str>,
        max_attempts: u32,
        /// What the workflow leaves of the plugin's capabilities.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        narrowed: Option<Arc<Grants>>,
    },
    /// Branches.
    #[serde(rename = "parallel")]
    Parallel,
    /// Items.
    #[serde(rename = "foreach")]
    Foreach { items: Payload, total: u64 },
    /// Try, catch, finally.
    #[serde(rename = "try")]
    Try,
    /// A timer.
    #[serde(rename = "wait")]
    Wait { until: Timestamp },
    /// A signal.
    #[serde(rename = "signal")]
    Signal {
        name: Arc<str>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        correlation: Option<Arc<str>>,
    },
    /// A child run.
    #[serde(rename = "call")]
    Call {
        workflow: Arc<str>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Arc<str>>,
        input: Payload,
        child: RunId,
        max_attempts: u32,
    },
}

/// Where a scope goes after a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    /// To a state of the same block.
    #[serde(rename = "next")]
    Next(Arc<str>),
    /// The scope ends well.
    #[serde(rename = "end")]
    End,
    /// The whole run ends well: `return`.
    #[serde(rename = "return")]
    Return,
    /// The scope fails with the step's error.
    #[serde(rename = "fail")]
    Fail,
    /// Nowhere: the step was cancelled with everything around it.
    #[serde(rename = "stop")]
    Stop,
}

/// What a scope is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScopeRole {
    /// The run itself.
    #[serde(rename = "root")]
    Root,
    /// A branch of a parallel, by its place.
    #[serde(rename = "branch")]
    Branch(u32),
    /// An item of a foreach, by its place.
    #[serde(rename = "item")]
    Item(u64),
    /// What is tried.
    #[serde(rename = "try")]
    Try,
    /// What takes the error.
    #[serde(rename = "catch")]
    Catch,
    /// What runs in any case.
    #[serde(rename = "finally")]
    Finally,
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Where.
    pub path: Path,
    /// What; absent means the step's output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Payload>,
}

/// Why a parked step wakes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all_fields = "camelCase")]
#[allow(missing_docs, reason = "the fields are those of the WIT records of the same name")]
pub enum Wake {
    /// A signal that it named.
    #[serde(rename = "signal")]
    Signal { name: Arc<str>, payload: Payload, actor: Option<Arc<str>> },
    /// The decision that it asked for.
    #[serde(rename = "approval")]
    Approval { status: ApprovalStatus, actor: Option<Arc<str>>, comment: Option<String> },
    /// Its time came.
    #[serde(rename = "timer")]
    Timer,
    /// The run is being cancelled; what the guest answers is ignored.
    #[serde(rename = "cancelled")]
    Cancelled { reason: String },
}

/// An event from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signal {
    /// Unique: the same id again is the same signal.
    pub id: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Which of several like it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Arc<str>>,
    /// Its data.
    pub payload: Payload,
    /// Who sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Arc<str>>,
}

/// Where an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ApprovalStatus {
    /// Nobody answered yet.
    #[serde(rename = "PENDING")]
    Pending,
    /// Yes.
    #[serde(rename = "APPROVED")]
    Approved,
    /// No.
    #[serde(rename = "REJECTED")]
    Rejected,
    /// Nobody answered in time.
    #[serde(rename = "TIMED_OUT")]
    TimedOut,
    /// The run or the branch ended first.
    #[serde(rename = "CANCELLED")]
    Cancelled,
}

impl ApprovalStatus {
    /// As the API and the database write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Approved => "APPROVED",
            Self::Rejected => "REJECTED",
            Self::TimedOut => "TIMED_OUT",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Reads it back.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Approved, Self::Rejected, Self::TimedOut, Self::Cancelled]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

impl Usage {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl Event {
    /// Its type, as it is stored and shown: `step.completed`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RunCreated { .. } => "run.created",
            Self::RunAdmitted { .. } => "run.admitted",
            Self::RunStatusChanged { .. } => "run.status_changed",
            Self::RunPhaseChanged { .. } => "run.phase_changed",
            Self::StepScheduled { .. } => "step.scheduled",
            Self::StepStarted { .. } => "step.started",
            Self::StepLost { .. } => "step.lost",
            Self::StepSuspended { .. } => "step.suspended",
            Self::StepWoken { .. } => "step.woken",
            Self::StepRetrying { .. } => "step.retrying",
            Self::StepReady { .. } => "step.ready",
            Self::StepCompleted { .. } => "step.completed",
            Self::ScopeOpened { .. } => "scope.opened",
            Self::ScopeCompleted { .. } => "scope.completed",
            Self::ApprovalRequested { .. } => "approval.requested",
            Self::ApprovalDecided { .. } => "approval.decided",
            Self::SignalReceived { .. } => "signal.received",
            Self::SignalConsumed { .. } => "signal.consumed",
        }
    }

    /// The step it is about.
    pub fn step(&self) -> Option<StepNo> {
        match self {
            Self::StepScheduled { step, .. }
            | Self::StepStarted { step, .. }
            | Self::StepLost { step, .. }
            | Self::StepSuspended { step, .. }
            | Self::StepWoken { step, .. }
            | Self::StepRetrying { step, .. }
            | Self::StepReady { step, .. }
            | Self::StepCompleted { step, .. }
            | Self::ScopeOpened { step, .. }
            | Self::ApprovalRequested { step, .. }
            | Self::ApprovalDecided { step, .. }
            | Self::SignalConsumed { step, .. } => Some(*step),
            Self::RunCreated { .. }
            | Self::RunAdmitted { .. }
            | Self::RunStatusChanged { .. }
            | Self::RunPhaseChanged { .. }
            | Self::ScopeCompleted { .. }
            | Self::SignalReceived { .. } => None,
        }
    }

    /// The data as it is stored: the JSON of the variant's fields.
    ///
    /// # Panics
    /// Never: every part of an event serialises.
    pub fn encode(&self) -> Json {
        let text = serde_json::to_string(self).expect("events serialise");
        // {"step.completed":{…}} without the outer object.
        Json::own(text[self.kind().len() + 4..text.len() - 1].to_owned())
    }

    /// Reads a stored event.
    pub fn decode(kind: &str, data: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(&format!("{{\"{kind}\":{data}}}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_back_as_it_was_written() {
        let event = Event::StepCompleted {
            step: 7,
            status: StepStatus::Succeeded,
            output: Some(Payload::Inline(Json::parse("{\"b\":1,\"a\":null}").expect("json"))),
            error: None,
            write: Some(Write { path: Path::keys(["steps", "x"]), value: None }),
            then: Then::Next("y".into()),
            usage: Usage::default(),
            warnings: Vec::new(),
        };
        let data = event.encode();
        assert_eq!(
            data.get(),
            r#"{"step":7,"status":"SUCCEEDED","output":{"json":{"b":1,"a":null}},"write":{"path":"steps.x"},"then":{"next":"y"}}"#
        );
        assert_eq!(Event::decode("step.completed", data.get()).expect("reads"), event);
    }
}
