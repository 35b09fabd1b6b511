//! What comes from outside: signals, decisions, timers, children, and the operator's hand.

use std::sync::Arc;

use serde_json::Value;

use super::data::{Locals, Missing};
use super::decide::Decider;
use super::inputs::Stop;
use super::open::Step;
use super::{
    Activity, Actor, ApprovalStatus, ChildEnd, Event, NewSignal, Refusal, RunError, Signal, StepNo, TimerKey, Wake,
};
use crate::error::{Category, Failure};
use crate::ids::{ApprovalId, RunId};
use crate::json::{Json, Payload};
use crate::model::{State, StateKind};
use crate::ports::Usage;
use crate::status::RunStatus;

impl Decider<'_> {
    pub(super) fn signal(&mut self, signal: NewSignal) -> Result<(), Stop> {
        if self.state.signal_ids.contains(&signal.id) {
            return Err(Refusal::DuplicateSignal(signal.id).into());
        }
        if self.state.mailbox.len() >= self.limits.mailbox_max {
            return Err(Refusal::MailboxFull(self.limits.mailbox_max).into());
        }
        let payload = self.payload(signal.payload);
        let signal =
            Signal { id: signal.id, name: signal.name, correlation: signal.correlation, payload, actor: signal.actor };
        self.emit(Event::SignalReceived { signal: signal.clone() });
        let waiting: Vec<StepNo> = self.state.steps.keys().copied().collect();
        for step in waiting {
            if self.offer(step, &signal)? {
                break;
            }
        }
        Ok(())
    }

    /// A step that has begun to wait takes the earliest signal that fits.
    pub(super) fn take_from_mailbox(&mut self, step: StepNo) -> Result<(), Stop> {
        for signal in self.state.mailbox.clone() {
            if self.offer(step, &signal)? {
                break;
            }
        }
        Ok(())
    }

    /// Offers a signal to a step; whether it took it.
    fn offer(&mut self, number: StepNo, signal: &Signal) -> Result<bool, Stop> {
        let Some(step) = self.state.steps.get(&number).cloned() else { return Ok(false) };
        let Some(state) = self.state_of(&step) else { return Ok(false) };
        if Self::parked_on(&step, &signal.name) {
            self.emit(Event::SignalConsumed { id: signal.id.clone(), step: number });
            self.drop_approval(step.parked.as_ref().and_then(|parked| parked.approval.as_ref()));
            let wake = Wake::Signal {
                name: signal.name.clone(),
                payload: signal.payload.clone(),
                actor: signal.actor.clone(),
            };
            self.emit(Event::StepWoken { step: number, wake });
            return Ok(true);
        }
        let (StateKind::Signal(wait), Activity::Signal { name, correlation }) = (&state.kind, &step.activity) else {
            return Ok(false);
        };
        if *name != signal.name || correlation.as_ref().is_some_and(|key| signal.correlation.as_ref() != Some(key)) {
            return Ok(false);
        }
        if let Some(filter) = &wait.filter {
            match self.passes(&step, filter, signal) {
                Ok(true) => {}
                // A signal of another shape is not the one that is waited for: whoever sends it must not be able to end the run.
                Ok(false) | Err(Missing::Failed(_)) => return Ok(false),
                Err(Missing::Stop(stop)) => return Err(stop),
            }
        }
        self.emit(Event::SignalConsumed { id: signal.id.clone(), step: number });
        self.succeed(number, state, Some(signal.payload.clone()));
        Ok(true)
    }

    fn passes(&mut self, step: &Step, filter: &str, signal: &Signal) -> Result<bool, Missing> {
        let payload = self.with_value(&signal.payload, Value::clone)?;
        let mut locals = Locals::new();
        if let Some(map) = payload.as_object() {
            locals.extend(map.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        if !locals.iter().any(|(name, _)| name == "payload") {
            locals.push(("payload".into(), payload));
        }
        if !locals.iter().any(|(name, _)| name == "name") {
            locals.push(("name".into(), Value::String(signal.name.to_string())));
        }
        let verdict = self.evaluate(step.scope, filter, &locals)?;
        Ok(verdict == Value::Bool(true))
    }

    pub(super) fn decide(
        &mut self,
        id: &ApprovalId,
        approve: bool,
        actor: &Actor,
        comment: Option<String>,
    ) -> Result<(), Stop> {
        let Some(open) = self.state.approvals.get(id).cloned() else {
            return Err(Refusal::NoSuchApproval(id.clone()).into());
        };
        if !actor.may_answer(&open.approvers) {
            let refusal = Refusal::NotApprover { actor: actor.name.clone(), approvers: open.approvers };
            return Err(refusal.into());
        }
        if open.deadline.is_some_and(|deadline| deadline <= self.now()) {
            return Err(Refusal::AlreadyDecided(ApprovalStatus::TimedOut).into());
        }
        let status = if approve { ApprovalStatus::Approved } else { ApprovalStatus::Rejected };
        self.decide_approval(id, status, Some(actor.name.clone()), comment.clone());
        let wake = Wake::Approval { status, actor: Some(actor.name.clone()), comment };
        self.emit(Event::StepWoken { step: open.step, wake });
        Ok(())
    }

    pub(super) fn timer(&mut self, key: &TimerKey) -> Result<(), Stop> {
        let stale = || Stop::Refused(Refusal::StaleTimer(key.clone()));
        let now = self.now();
        match key {
            TimerKey::Run => {
                let due = self.state.deadline.ok_or_else(stale)?;
                if due > now {
                    return Err(stale());
                }
                let ms = self.def.timeout_ms.unwrap_or_else(|| due.since_ms(self.state.created_at));
                let failure = Failure::new(
                    Category::TimeoutError,
                    "RUN_TIMEOUT",
                    format!("the run took longer than timeoutSeconds: {}", ms as f64 / 1000.0),
                );
                let error = RunError { failure, state: None, step_id: None };
                self.finish(RunStatus::TimedOut, None, Some(error), None)
            }
            TimerKey::Deadline(number) | TimerKey::Wake(number) => {
                let step = self.state.steps.get(number).cloned().ok_or_else(stale)?;
                let due = step.timers().find(|(set, _)| set == key).map(|(_, due)| due).ok_or_else(stale)?;
                if due > now {
                    return Err(stale());
                }
                let state = self.state_of(&step).ok_or_else(stale)?;
                if matches!(key, TimerKey::Deadline(_)) {
                    self.deadline(*number, &step, state);
                } else {
                    self.wake(*number, &step, state);
                }
                Ok(())
            }
        }
    }

    pub(super) fn child_ended(&mut self, number: StepNo, child: &RunId, end: ChildEnd) -> Result<(), Stop> {
        let waits = |step: &&Arc<Step>| match &step.activity {
            Activity::Call { child: expected, .. } => expected == child && step.retry_at.is_none(),
            _ => false,
        };
        let Some(step) = self.state.steps.get(&number).filter(waits).cloned() else {
            return Err(Refusal::NoSuchChild(child.clone()).into());
        };
        let Some(state) = self.state_of(&step) else { return Err(Refusal::NoSuchChild(child.clone()).into()) };
        if end.status == RunStatus::Completed {
            return match self.child_output(&step, state, end.output) {
                Ok(output) => {
                    self.succeed(number, state, Some(output));
                    Ok(())
                }
                Err(missing) => self.missing(number, state, missing),
            };
        }
        let failure = match end.error {
            Some(error) => {
                Failure { message: format!("child run {child}: {}", error.failure.message), ..error.failure }
            }
            None => Failure::new(Category::ActionError, "CHILD_CANCELLED", format!("child run {child} was cancelled")),
        };
        self.attempt_failed(&step, state, failure, Usage::default(), Vec::new());
        Ok(())
    }

    fn child_output(&mut self, step: &Step, state: &State, output: Option<Json>) -> Result<Payload, Missing> {
        let json = output.unwrap_or_else(Json::null);
        let StateKind::Call(call) = &state.kind else { return Ok(self.payload(json)) };
        match &call.output {
            None => Ok(self.payload(json)),
            Some(template) => {
                let locals = vec![("output".to_owned(), json.value())];
                let value = self.render(step.scope, template, &locals)?;
                Ok(self.value("the output", Json::of(&value))?)
            }
        }
    }

    /// There is room for a run that waited. If it is paused, it takes the room and stays paused.
    pub(super) fn admit(&mut self) -> Result<(), Stop> {
        if !self.state.waits() {
            return Err(Refusal::NotQueued(self.state.status).into());
        }
        let deadline = self.def.timeout_ms.map(|ms| self.now().plus_ms(ms));
        self.emit(Event::RunAdmitted { deadline });
        if deadline.is_some() {
            self.out.timers.insert(TimerKey::Run, deadline);
        }
        if self.state.status != RunStatus::Paused {
            self.set_out();
        }
        Ok(())
    }

    pub(super) fn pause(&mut self) -> Result<(), Stop> {
        let from = self.state.status;
        if from == RunStatus::Paused {
            return Err(Refusal::AlreadyPaused.into());
        }
        self.emit(Event::RunStatusChanged { from, status: RunStatus::Paused, output: None, error: None, reason: None });
        Ok(())
    }

    pub(super) fn resume(&mut self) -> Result<(), Stop> {
        let from = self.state.status;
        if from != RunStatus::Paused {
            return Err(Refusal::NotPaused(from).into());
        }
        let status = self.status_of_open();
        self.emit(Event::RunStatusChanged { from, status, output: None, error: None, reason: None });
        let ready = self.state.steps.values().filter(|step| step.is_ready()).map(|step| step.number);
        // What was published before may have been taken and refused since: each is published anew, and its row says so.
        let ready: Vec<_> = ready.collect();
        self.touched.extend(&ready);
        self.out.ready.extend(ready);
        self.wake_all();
        Ok(())
    }
}
