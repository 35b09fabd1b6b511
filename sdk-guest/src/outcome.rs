use std::time::Duration;

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

    /// Keeps a value for when the step wakes: [`Context::wake`](crate::Context::wake) gives it back. Secrets do not belong in it.
    pub fn keep(mut self, state: &(impl Serialize + ?Sized)) -> Result<Self, Failure> {
        self.state = serde_json::to_vec(state).map_err(|error| {
            Failure::action("STATE_INVALID", format!("the state cannot be written as JSON: {error}"))
        })?;
        Ok(self)
    }

    /// Wakes on a signal of that name. More than one name may be given.
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

    /// Wakes after so long, to the millisecond.
    #[must_use]
    pub fn after(self, pause: Duration) -> Self {
        self.after_ms(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX))
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
        let text = serde_json::to_string(&self).map_err(|error| {
            Failure::action("OUTPUT_INVALID", format!("the output cannot be written as JSON: {error}"))
        })?;
        Ok(wire::Outcome::Done(text))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_suspension_says_all_reasons_to_wake() {
        let approval = Approval { message: "ship it?".to_owned(), ..Approval::default() };
        let suspend = Suspend::new()
            .keep("state")
            .expect("a state")
            .on_signal("a")
            .on_signal("b")
            .after(Duration::from_secs(2))
            .on_approval(approval);
        let Ok(wire::Outcome::Suspend(wire)) = Outcome::<()>::from(suspend).into_wire() else {
            panic!("no suspension")
        };
        assert_eq!(wire.state, b"\"state\"");
        assert_eq!(wire.signals, ["a", "b"]);
        assert_eq!(wire.wake_after_ms, Some(2_000));
        assert_eq!(wire.approval.map(|approval| approval.message).as_deref(), Some("ship it?"));
    }

    #[test]
    fn output_that_is_no_json_is_named() {
        let no_text_as_key = BTreeMap::from([((1, 2), 3)]);
        assert_eq!(no_text_as_key.into_wire().expect_err("no JSON").code(), "OUTPUT_INVALID");
    }
}
