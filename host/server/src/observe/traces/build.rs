//! From a run's history to its spans.

use std::collections::HashMap;
use std::sync::Arc;

use caisson_core::engine::{Activity, Event, ScopeNo, StepNo};
use caisson_core::ids::{RunId, StepId};
use caisson_core::ports::{EventRow, HostCall, StoreError};
use caisson_core::status::{RunStatus, StepStatus};
use caisson_core::time::Timestamp;
use caisson_core::trace::{self as ids, SpanId, TraceId};

use super::otlp::Span;

/// Takes in the events of one run, in order.
pub struct Builder {
    run: RunId,
    trace: TraceId,
    parent: Option<SpanId>,
    workflow: Arc<str>,
    start: Timestamp,
    /// By scope, the step that opened it; not the root.
    owners: HashMap<ScopeNo, StepNo>,
    open: HashMap<StepNo, Open>,
}

/// A step that has not ended.
struct Open {
    id: StepId,
    state: Arc<str>,
    scope: ScopeNo,
    start: Timestamp,
    /// Of an operation.
    action: Option<Arc<str>>,
    attempt: Option<(u32, Timestamp)>,
    call: Option<Call>,
}

/// An entry under way.
struct Call {
    attempt: u32,
    entry: u32,
    claim: u32,
    host: Arc<str>,
    start: Timestamp,
}

impl Builder {
    /// Begins with a run's first event.
    pub fn new(run: &RunId, first: &EventRow) -> Result<Self, StoreError> {
        let Event::RunCreated { workflow, trace, .. } = decode(first)? else {
            return Err(StoreError::Corrupt(format!("run {run} does not begin with its making")));
        };
        let (trace, parent) = match trace.as_deref().and_then(ids::parse) {
            Some((trace, span)) => (trace, Some(span)),
            None => (ids::trace(run), None),
        };
        let (owners, open) = (HashMap::new(), HashMap::new());
        Ok(Self { run: run.clone(), trace, parent, workflow, start: first.at, owners, open })
    }

    /// Takes in the next event. One that cannot be read ends nothing that is seen.
    pub fn add(&mut self, row: &EventRow, spans: &mut Vec<Span>) {
        let Ok(event) = decode(row) else { return };
        match event {
            Event::StepScheduled { step, step_id, scope, state, activity, .. } => {
                let action = match activity {
                    Activity::Operation { action, .. } => Some(action),
                    _ => None,
                };
                let open = Open { id: step_id, state, scope, start: row.at, action, attempt: None, call: None };
                self.open.insert(step, open);
            }
            Event::ScopeOpened { scope, step, .. } => {
                self.owners.insert(scope, step);
            }
            Event::StepStarted { step, attempt, entry, claim, host } => {
                let Some(open) = self.open.get_mut(&step) else { return };
                if open.attempt.is_none_or(|(known, _)| known != attempt) {
                    open.attempt = Some((attempt, row.at));
                }
                open.call = Some(Call { attempt, entry, claim, host, start: row.at });
            }
            Event::StepSuspended { step, .. } => self.end_call(step, row.at, None, spans),
            Event::StepLost { step, .. } => self.end_call(step, row.at, Some("CLAIM_LOST"), spans),
            Event::StepRetrying { step, error, .. } => {
                self.end_call(step, row.at, Some(&error.code), spans);
                self.end_attempt(step, row.at, Some(&error.code), spans);
            }
            Event::StepCompleted { step, status, error, .. } => {
                let code = error.map(|error| error.code).or_else(|| bad(status));
                self.end_call(step, row.at, code.as_deref(), spans);
                self.end_attempt(step, row.at, code.as_deref(), spans);
                self.end_state(step, row.at, status, code, spans);
            }
            Event::RunStatusChanged { status, error, .. } if status.is_terminal() => {
                let code = error.map(|error| error.failure.code);
                let code = code.or_else(|| (status != RunStatus::Completed).then(|| status.to_string()));
                let attributes = vec![
                    ("caisson.run_id", self.run.to_string()),
                    ("caisson.workflow", self.workflow.to_string()),
                    ("caisson.status", status.to_string()),
                ];
                let name = format!("run {}", self.workflow);
                let (id, parent, start) = (ids::run(&self.run), self.parent, self.start);
                spans.push(Span { trace: self.trace, id, parent, name, start, end: row.at, attributes, error: code });
            }
            _ => {}
        }
    }

    fn end_call(&mut self, step: StepNo, end: Timestamp, error: Option<&str>, spans: &mut Vec<Span>) {
        let Some(call) = self.open.get_mut(&step).and_then(|open| open.call.take()) else { return };
        let Some(open) = self.open.get(&step) else { return };
        let name = format!("call {}", open.action.as_deref().unwrap_or(&open.state));
        let attributes = vec![
            ("caisson.step_id", open.id.to_string()),
            ("caisson.attempt", call.attempt.to_string()),
            ("caisson.entry", call.entry.to_string()),
            ("caisson.host", call.host.to_string()),
        ];
        let parent = Some(ids::step(&self.run, step, call.attempt));
        let id = ids::call(&self.run, step, call.claim);
        let (start, error) = (call.start, error.map(str::to_owned));
        spans.push(Span { trace: self.trace, id, parent, name, start, end, attributes, error });
    }

    fn end_attempt(&mut self, step: StepNo, end: Timestamp, error: Option<&str>, spans: &mut Vec<Span>) {
        let Some((attempt, start)) = self.open.get_mut(&step).and_then(|open| open.attempt.take()) else { return };
        let Some(open) = self.open.get(&step) else { return };
        let name = format!("step {} attempt {attempt}", open.state);
        let attributes = vec![
            ("caisson.step_id", open.id.to_string()),
            ("caisson.attempt", attempt.to_string()),
            ("caisson.action", open.action.as_deref().unwrap_or_default().to_owned()),
        ];
        let (id, parent) = (ids::step(&self.run, step, attempt), Some(ids::state(&self.run, step)));
        let error = error.map(str::to_owned);
        spans.push(Span { trace: self.trace, id, parent, name, start, end, attributes, error });
    }

    fn end_state(
        &mut self,
        step: StepNo,
        end: Timestamp,
        status: StepStatus,
        error: Option<String>,
        spans: &mut Vec<Span>,
    ) {
        let Some(open) = self.open.remove(&step) else { return };
        let owner = self.owners.get(&open.scope).map(|owner| ids::state(&self.run, *owner));
        let parent = Some(owner.unwrap_or_else(|| ids::run(&self.run)));
        let attributes = vec![("caisson.step_id", open.id.to_string()), ("caisson.status", status.to_string())];
        let name = format!("state {}", open.state);
        let (id, start) = (ids::state(&self.run, step), open.start);
        spans.push(Span { trace: self.trace, id, parent, name, start, end, attributes, error });
    }
}

/// A step that was cancelled is no error of its own; one that ran out of time is.
fn bad(status: StepStatus) -> Option<String> {
    matches!(status, StepStatus::Failed | StepStatus::TimedOut).then(|| status.to_string())
}

/// A call that a plugin made of the host, below the entry that made it.
pub fn host_call(call: HostCall) -> Option<Span> {
    let HostCall { traceparent, run, step, claim, number, name, start, end, error, attributes } = call;
    let (trace, _) = ids::parse(&traceparent)?;
    let (id, parent) = (ids::host_call(&run, step, claim, number), Some(ids::call(&run, step, claim)));
    Some(Span { trace, id, parent, name: name.to_owned(), start, end, attributes, error })
}

fn decode(row: &EventRow) -> Result<Event, StoreError> {
    Event::decode(&row.kind, row.data.get()).map_err(|error| StoreError::Corrupt(error.to_string()))
}
