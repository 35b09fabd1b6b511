use serde::Serialize;

use crate::bindings::caisson::step::types as wire;
use crate::failure::Failure;

/// How an action's function ended, when it may also wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Finished with a result.
    Done(T),
    /// Parked: this instance goes away; the first wake calls the same function again.
    Suspend(Suspend),
}

impl<T> From<Suspend> for Outcome<T> {
    fn from(suspend: Suspend) -> Self {
        Self::Suspend(suspend)
    }
}

/// How to park a step. Without any reason to wake, the host refuses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspend {
    state: Vec<u8>,
    signals: Vec<String>,
    wake_after_ms: Option<u64>,
    approval: Option<Approval>,
}

impl Suspend {
    /// Nothing kept, no reason to wake yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps a value for when the step wakes: [`Context::kept_as`](crate::Context::kept_as) reads it.
    pub fn keep(mut self, state: &impl Serialize) -> Result<Self, Failure> {
        self.state = serde_json::to_vec(state)?;
        Ok(self)
    }

    /// Wakes on a signal of that name.
    #[must_use]
    pub fn on_signal(mut self, name: impl Into<String>) -> Self {
        self.signals.push(name.into());
        self
    }

    /// Wakes after so many milliseconds.
    #[must_use]
    pub fn after_ms(mut self, ms: u64) -> Self {
        self.wake_after_ms = Some(ms);
        self
    }

    /// Wakes on a human's decision. Needs the `approval` capability.
    #[must_use]
    pub fn on_approval(mut self, approval: Approval) -> Self {
        self.approval = Some(approval);
        self
    }
}

/// A request for a human's decision. The host writes the record, checks who may answer and keeps the deadline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Approval {
    /// What is asked.
    pub message: String,
    /// JSON text: what the decision rests on.
    pub summary: Option<String>,
    /// `user:NAME` or `team:NAME`; empty means any approver of the tenant.
    pub approvers: Vec<String>,
    /// How long the answer may take.
    pub deadline_ms: Option<u64>,
}

/// What an action's function may return in its `Ok`: anything that serialises, or an [`Outcome`] of it.
pub trait IntoOutcome {
    /// As the wire has it.
    #[doc(hidden)]
    fn into_wire(self) -> Result<wire::Outcome, Failure>;
}

impl<T: Serialize> IntoOutcome for T {
    fn into_wire(self) -> Result<wire::Outcome, Failure> {
        Ok(wire::Outcome::Done(serde_json::to_string(&self)?))
    }
}

impl<T: Serialize> IntoOutcome for Outcome<T> {
    fn into_wire(self) -> Result<wire::Outcome, Failure> {
        match self {
            Self::Done(value) => value.into_wire(),
            Self::Suspend(Suspend { state, signals, wake_after_ms, approval }) => {
                let approval = approval.map(|Approval { message, summary, approvers, deadline_ms }| {
                    wire::ApprovalRequest { message, summary, approvers, deadline_ms }
                });
                Ok(wire::Outcome::Suspend(wire::Suspension { state, signals, wake_after_ms, approval }))
            }
        }
    }
}
