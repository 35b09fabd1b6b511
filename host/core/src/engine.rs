//! The engine: decides, never does.
//!
//! [`create`] and [`transition`] take a definition, a state, a stimulus and [`Inputs`] (the time, values of expressions, large values) and
//! give a [`Decision`]: new events, the rows that follow from them, and effects to carry out after the commit. Or a typed
//! [`Refusal`]; or a [`Question`], to be answered outside and asked again. The same inputs give the same decision.
//!
//! Invariant: state changes only by [`RunState::apply`] of an event, so replaying the events gives the stored state.
//! Invariant: a step that has ended is no longer in the state, so nothing can end it twice or run it again.
//! Deliberately absent: input and output, a clock, randomness, evaluation of expressions.

pub mod chain;
mod data;
mod decide;
mod enter;
pub mod erasure;
mod event;
mod ids;
mod inputs;
mod join;
mod open;
mod operate;
mod outside;
mod project;
mod slot;
mod state;
mod stimulus;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::json::Json;
use crate::model::Definition;
use crate::status::RunStatus;

pub use decide::{Decision, Limits, Recorded};
pub use event::{
    Activity, ApprovalStatus, EVENT_VERSION, Event, ParentStep, PinnedAction, RunError, ScopeNo, ScopeRole, Signal,
    StepNo, Then, Wake, Write,
};
pub use inputs::{Blobs, Inputs, Loaded, Question, Stop};
pub use open::{BranchEnd, Cursor, Items, Parked, Progress, Scope, Sections, Step, Waking};
pub use operate::{base64, unbase64};
pub use slot::{NoKey, Slot};
pub use state::{OpenApproval, ROOT, RunState};
pub use stimulus::{Actor, ChildEnd, Message, NewSignal, Refusal, StepResult, Stimulus, TimerKey};

use decide::Decider;

/// A human said no.
pub const APPROVAL_REJECTED: &str = "APPROVAL_REJECTED";
/// No human answered in time.
pub const APPROVAL_TIMED_OUT: &str = "APPROVAL_TIMED_OUT";

/// What a run is created with.
#[derive(Clone, Debug)]
pub struct Creation {
    /// The run's id.
    pub id: crate::ids::RunId,
    /// Whose.
    pub realm: crate::ids::Realm,
    /// The version's label.
    pub version: Arc<str>,
    /// The version's digest.
    pub digest: Arc<str>,
    /// The input; checked against inputSchema by the caller.
    pub input: Json,
    /// Who starts it.
    pub actor: Option<Arc<str>>,
    /// The packages that its actions mean.
    pub plugins: Vec<PinnedAction>,
    /// The step that calls it.
    pub parent: Option<ParentStep>,
    /// What it counts under, where only so many may run at once. One that waits does nothing until it is admitted.
    pub slot: Option<Slot>,
    /// The `traceparent` that its trace hangs below: a client's, or of the state that calls it.
    pub trace: Option<Arc<str>>,
}

/// Creates a run and moves it as far as it goes.
pub fn create(
    def: &Definition,
    limits: &Limits,
    creation: Creation,
    inputs: &Inputs,
) -> Result<(RunState, Decision), Stop> {
    let now = inputs.now;
    let waits = creation.slot.as_ref().is_some_and(|slot| slot.queued);
    // The time of a run that waits is counted from its admission.
    let deadline = def.timeout_ms.filter(|_| !waits).map(|ms| now.plus_ms(ms));
    let (input, blob) = crate::json::Payload::new(creation.input);
    let created = Event::RunCreated {
        realm: creation.realm,
        workflow: def.id.clone(),
        version: creation.version,
        digest: creation.digest,
        input,
        plugins: creation.plugins,
        parent: creation.parent,
        deadline,
        slot: creation.slot,
        trace: creation.trace,
    };
    let Some(state) = RunState::created(creation.id, now, &created) else {
        unreachable!("the event was made three lines above")
    };
    let mut decider = Decider::new(def, limits, inputs, state);
    decider.actor.clone_from(&creation.actor);
    if let Some(blob) = blob {
        decider.fresh_blobs.insert(&blob);
        decider.out.blobs.push(blob);
    }
    decider.out.events.push(Recorded { at: now, actor: creation.actor, step_id: None, event: created });
    if let Some(due) = deadline {
        decider.out.timers.insert(TimerKey::Run, Some(due));
    }
    if !waits {
        decider.set_out();
    }
    decider.drive()?;
    decider.settle();
    Ok(decider.done())
}

/// Decides what a stimulus means for a run. Total: whatever the stimulus, the answer is a decision, a refusal or a question.
pub fn transition(
    def: &Definition,
    limits: &Limits,
    state: &RunState,
    stimulus: Stimulus,
    inputs: &Inputs,
) -> Result<(RunState, Decision), Stop> {
    if state.status.is_terminal() {
        // Who did not hear that a signal was taken sends it again, and it may be what ended the run.
        if let Stimulus::Signal(signal) = &stimulus
            && state.signal_ids.contains(&signal.id)
        {
            return Err(Refusal::DuplicateSignal(signal.id.clone()).into());
        }
        return Err(Refusal::Ended(state.status).into());
    }
    let mut decider = Decider::new(def, limits, inputs, state.clone());
    match stimulus {
        Stimulus::Claim { step, host } => decider.claim(step, host)?,
        Stimulus::Result { step, attempt, claim, entry } => decider.result(step, attempt, claim, entry)?,
        Stimulus::Lost { step, claim } => decider.lost(step, claim)?,
        Stimulus::Timer { key } => decider.timer(&key)?,
        Stimulus::Signal(signal) => {
            decider.actor.clone_from(&signal.actor);
            decider.signal(signal)?;
        }
        Stimulus::Decide { approval, approve, actor, comment } => {
            decider.actor = Some(actor.name.clone());
            decider.decide(&approval, approve, &actor, comment)?;
        }
        Stimulus::ChildEnded { step, child, end } => decider.child_ended(step, &child, end)?,
        Stimulus::Continue => decider.wake_all(),
        Stimulus::Admit => decider.admit()?,
        Stimulus::Pause { actor } => {
            decider.actor = Some(actor);
            decider.pause()?;
        }
        Stimulus::Resume { actor } => {
            decider.actor = Some(actor);
            decider.resume()?;
        }
        Stimulus::Cancel { actor, reason } => {
            decider.actor = Some(actor);
            decider.finish(RunStatus::Cancelled, None, None, Some(reason.unwrap_or_else(|| "cancelled".to_owned())))?;
        }
    }
    decider.drive()?;
    decider.settle();
    Ok(decider.done())
}

/// The context of a run's root scope as one value: its input, then everything written. Needs the blobs that it mentions.
pub fn context(def: &Definition, state: &RunState, inputs: &Inputs) -> Result<Value, Stop> {
    let limits = Limits::default();
    let decider = Decider::new(def, &limits, inputs, state.clone());
    Ok(decider.value_at(ROOT, &crate::expr::Path::root())?.unwrap_or_default())
}

/// An error as expressions and templates see it.
pub fn error_value(error: &RunError) -> Value {
    json!({
        "code": error.failure.code,
        "category": error.failure.category.as_str(),
        "message": error.failure.message,
        "details": error.failure.details.as_ref().map(Json::value),
        "state": error.state,
        "stepId": error.step_id,
    })
}
