//! The decider: a working copy of the state, the events so far, and what follows from them. State changes only by [`RunState::apply`],
//! so that replaying the events gives the same state by construction.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::data::Missing;
use super::inputs::{Blobs, Inputs, Stop};
use super::open::Step;
use super::project::StepView;
use super::state::{ROOT, RunState};
use super::{ApprovalStatus, Event, Message, RunError, ScopeNo, StepNo, Then, TimerKey};
use crate::error::{Category, Failure};
use crate::ids::{ApprovalId, RunId};
use crate::json::{Blob, Json, Payload, VALUE_DEPTH_MAX};
use crate::model::{BlockId, Definition, State, StateId, StateKind};
use crate::ports::{ApprovalRow, ItemRow, OutboxRow, StepRow, Usage};
use crate::status::{RunStatus, StepStatus};
use crate::time::Timestamp;

/// Limits of a run, each with its name in the error.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `VALUE_TOO_LARGE`: one step's input or output, one signal. 1 MiB: more is a file, not data.
    pub value_bytes_max: u64,
    /// `RUN_DATA_TOO_LARGE`: what one scope holds, and what a join gathers. 16 MiB: it is loaded whole to evaluate an expression.
    pub run_bytes_max: u64,
    /// `TOO_MANY_STEPS`: a run that enters more states than this is a loop without an end.
    pub steps_max: u64,
    /// `CALL_DEPTH_EXCEEDED`: how deep child runs may nest. A workflow that calls itself ends here.
    pub call_depth_max: u32,
    /// Signals that may wait to be taken.
    pub mailbox_max: usize,
    /// States that one decision may enter before it is committed: keeps a tight loop of `inject` and `switch` from holding a decision for ever.
    pub decision_steps_max: u32,
    /// `STEP_LOST`: hosts that may die with the same attempt in hand before it is given up.
    pub lost_claims_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_bytes_max: 1 << 20,
            run_bytes_max: 16 << 20,
            steps_max: 1_000_000,
            call_depth_max: 32,
            mailbox_max: 1000,
            decision_steps_max: 200,
            lost_claims_max: 5,
        }
    }
}

/// An event and its circumstances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// When.
    pub at: Timestamp,
    /// Who caused it.
    pub actor: Option<Arc<str>>,
    /// The step it is about.
    pub step_id: Option<crate::ids::StepId>,
    /// What happened.
    pub event: Event,
}

/// What one stimulus leads to.
#[derive(Debug, Default)]
pub struct Decision {
    /// New facts.
    pub events: Vec<Recorded>,
    /// Large values that they mention.
    pub blobs: Vec<Blob>,
    /// Rows of the steps that they touch.
    pub steps: BTreeMap<StepNo, StepRow>,
    /// Rows of the approvals that they touch.
    pub approvals: BTreeMap<ApprovalId, ApprovalRow>,
    /// Timers that are set (or moved) and cleared.
    pub timers: BTreeMap<TimerKey, Option<Timestamp>>,
    /// Results of foreach items.
    pub items: Vec<ItemRow>,
    /// Foreaches whose item rows are done with.
    pub items_dropped: Vec<StepNo>,
    /// Messages to other runs.
    pub outbox: Vec<OutboxRow>,
    /// Steps that became ready.
    pub ready: Vec<StepNo>,
    /// Steps that a host has taken: run them after the commit.
    pub started: Vec<Arc<Step>>,
    /// Claims whose guest is to be stopped.
    pub aborted: Vec<(StepNo, u32)>,
    /// Parked guests that may clean up, because their step was cancelled.
    pub cleanups: Vec<(Arc<Step>, String)>,
    /// The budget is used up: a message to the run itself goes on after the commit.
    pub more: bool,
}

pub(super) struct Decider<'a> {
    pub(super) def: &'a Definition,
    pub(super) limits: &'a Limits,
    pub(super) inputs: &'a Inputs,
    pub(super) state: RunState,
    pub(super) out: Decision,
    pub(super) actor: Option<Arc<str>>,
    pub(super) asked: usize,
    pub(super) fresh_blobs: Blobs,
    pub(super) queue: VecDeque<ScopeNo>,
    entered: u32,
    /// Open steps whose rows are written.
    pub(super) touched: BTreeSet<StepNo>,
}

impl<'a> Decider<'a> {
    pub(super) fn new(def: &'a Definition, limits: &'a Limits, inputs: &'a Inputs, state: RunState) -> Self {
        Self {
            def,
            limits,
            inputs,
            state,
            out: Decision::default(),
            actor: None,
            asked: 0,
            fresh_blobs: Blobs::default(),
            queue: VecDeque::new(),
            entered: 0,
            touched: BTreeSet::new(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.inputs.now
    }

    /// Records a fact and takes it in.
    pub(super) fn emit(&mut self, event: Event) {
        let number = event.step();
        let before = number.and_then(|n| self.state.steps.get(&n).cloned());
        self.state.apply(self.inputs.now, &event);
        let after = number.and_then(|n| self.state.steps.get(&n).cloned());
        let step_id = after.as_ref().or(before.as_ref()).map(|step| step.id.clone());
        if let Some(number) = number {
            self.timers_changed(before.as_deref(), after.as_deref());
            match (&event, before.as_deref()) {
                (Event::StepCompleted { status, error, usage, .. }, Some(step)) => {
                    if let Some(view) = self.view(step) {
                        let row = view.ended(*status, error.as_ref(), *usage, self.state.seq, self.inputs.now);
                        self.out.steps.insert(number, row);
                    }
                }
                _ => {
                    self.touched.insert(number);
                }
            }
            if let Some(step) = &after
                && step.is_ready()
                && !before.as_ref().is_some_and(|b| b.is_ready())
            {
                self.out.ready.push(number);
            }
        }
        self.out.events.push(Recorded { at: self.inputs.now, actor: self.actor.clone(), step_id, event });
    }

    fn timers_changed(&mut self, before: Option<&Step>, after: Option<&Step>) {
        let old: BTreeMap<_, _> = before.into_iter().flat_map(Step::timers).collect();
        let new: BTreeMap<_, _> = after.into_iter().flat_map(Step::timers).collect();
        for key in old.keys().filter(|key| !new.contains_key(key)) {
            self.out.timers.insert(key.clone(), None);
        }
        for (key, due) in new {
            if old.get(&key) != Some(&due) {
                self.out.timers.insert(key, Some(due));
            }
        }
    }

    fn view<'v>(&'v self, step: &'v Step) -> Option<StepView<'v>> {
        let state = self.state_of(step)?;
        Some(StepView { def: self.def, run: &self.state, step, state })
    }

    /// The decision, with the rows of all steps that were touched and are still open.
    pub(super) fn done(mut self) -> (RunState, Decision) {
        if self.out.more {
            let itself = self.state.id.clone();
            self.send(&itself, &Message::Continue);
        }
        for number in std::mem::take(&mut self.touched) {
            if let Some(step) = self.state.steps.get(&number).cloned()
                && let Some(row) = self.view(&step).map(|view| view.open())
            {
                self.out.steps.insert(number, row);
            }
        }
        (self.state, self.out)
    }

    /// Splits off what is too large to stand in place.
    pub(super) fn payload(&mut self, json: Json) -> Payload {
        let (payload, blob) = Payload::new(json);
        if let Some(blob) = blob {
            self.fresh_blobs.insert(&blob);
            self.out.blobs.push(blob);
        }
        payload
    }

    /// A step's value within its limit.
    pub(super) fn value(&mut self, what: &str, json: Json) -> Result<Payload, Failure> {
        let size = json.get().len() as u64;
        if size > self.limits.value_bytes_max {
            let message =
                format!("{what} is {size} bytes, more than the {} that a value may have", self.limits.value_bytes_max);
            return Err(Failure::new(Category::LimitError, "VALUE_TOO_LARGE", message).never_retried());
        }
        if let Some(failure) = too_deep(what, &json) {
            return Err(failure);
        }
        Ok(self.payload(json))
    }

    // ── Where things are in the definition ──

    pub(super) fn block_of(&self, scope: ScopeNo) -> Option<BlockId> {
        block_of(self.def, &self.state, scope)
    }

    pub(super) fn state_of(&self, step: &Step) -> Option<&'a State> {
        let block = self.block_of(step.scope)?;
        self.def.state_named(block, &step.state).map(|id| self.def.state(id))
    }

    pub(super) fn kind_of(&self, step: &Step) -> &'a StateKind {
        static NOTHING: StateKind = StateKind::Return { output: None };
        self.state_of(step).map_or(&NOTHING, |state| &state.kind)
    }

    // ── Moving on ──

    /// The first move of a run.
    pub(super) fn set_out(&mut self) {
        let (from, status) = (self.state.status, RunStatus::Running);
        self.emit(Event::RunStatusChanged { from, status, output: None, error: None, reason: None });
        self.queue.push_back(ROOT);
    }

    /// Moves every scope that can move, until nothing can, the run is paused, waits for room or has ended, or the budget is used up.
    pub(super) fn drive(&mut self) -> Result<(), Stop> {
        while let Some(scope) = self.queue.pop_front() {
            if self.state.status == RunStatus::Paused || self.state.status.is_terminal() || self.state.waits() {
                self.queue.clear();
                return Ok(());
            }
            if self.entered >= self.limits.decision_steps_max {
                self.out.more = true;
                self.queue.clear();
                return Ok(());
            }
            self.move_scope(scope)?;
        }
        Ok(())
    }

    fn move_scope(&mut self, number: ScopeNo) -> Result<(), Stop> {
        use super::open::Cursor;
        let Some(scope) = self.state.scopes.get(&number).cloned() else { return Ok(()) };
        match &scope.cursor {
            Cursor::At(_) => Ok(()),
            Cursor::Start => match self.block_of(number) {
                Some(block) => self.enter(number, self.def.block(block).start),
                None => Ok(()),
            },
            Cursor::Next(name) => match self.block_of(number).and_then(|block| self.def.state_named(block, name)) {
                Some(state) => self.enter(number, state),
                None => Ok(()),
            },
            Cursor::End => self.scope_ended(number, &scope),
            Cursor::Return => self.returned(number, &scope),
            Cursor::Fail(error) => self.scope_failed(number, &scope, error),
        }
    }

    /// Every scope that could move: after a resume, or where the budget ended.
    pub(super) fn wake_all(&mut self) {
        use super::open::Cursor;
        let open = self.state.scopes.iter();
        self.queue.extend(open.filter(|(_, scope)| !matches!(scope.cursor, Cursor::At(_))).map(|(number, _)| *number));
        // A foreach that could begin more items stands in a step, not at a cursor.
        self.resume_composites();
    }

    fn enter(&mut self, scope: ScopeNo, id: StateId) -> Result<(), Stop> {
        self.entered += 1;
        if self.state.next_step > self.limits.steps_max {
            let message = format!("run entered {} states, the most that a run may", self.limits.steps_max);
            let failure = Failure::new(Category::LimitError, "TOO_MANY_STEPS", message);
            return self.finish(RunStatus::Failed, None, Some(RunError { failure, state: None, step_id: None }), None);
        }
        let state = self.def.state(id);
        if let Some(phase) = &state.phase
            && self.state.phase.as_ref() != Some(phase)
        {
            self.emit(Event::RunPhaseChanged { phase: phase.clone() });
        }
        self.enter_state(scope, state)
    }

    // ── Ends ──

    /// The end of a step that has a state's `next` behind it.
    pub(super) fn succeed(&mut self, step: StepNo, state: &State, output: Option<Payload>) {
        self.succeed_with(step, state, output, self.next_of(state), Usage::default(), Vec::new());
    }

    pub(super) fn next_of(&self, state: &State) -> Then {
        match state.next {
            crate::model::Next::Goto(id) => Then::Next(self.def.state(id).name.clone()),
            crate::model::Next::End => Then::End,
        }
    }

    pub(super) fn succeed_with(
        &mut self,
        step: StepNo,
        state: &State,
        output: Option<Payload>,
        then: Then,
        usage: Usage,
        warnings: Vec<Failure>,
    ) {
        let scope = self.state.steps.get(&step).map(|s| s.scope);
        let target = scope.map(|scope| self.state.writing_scope(scope));
        if let (Some(output), Some(target)) = (&output, target)
            && let Some(failure) = self.over_run_limit(target, output)
        {
            return self.fail_with(step, state, &failure, usage, warnings);
        }
        let write = output.is_some().then(|| super::Write { path: state.result_path.clone(), value: None });
        self.emit(Event::StepCompleted {
            step,
            status: StepStatus::Succeeded,
            output,
            error: None,
            write,
            then,
            usage,
            warnings,
        });
        self.queue.extend(scope);
    }

    fn over_run_limit(&self, scope: ScopeNo, adding: &Payload) -> Option<Failure> {
        let held: u64 = self.state.scopes.get(&scope)?.writes.iter().map(|(_, value)| value.size()).sum();
        (held + adding.size() > self.limits.run_bytes_max).then(|| {
            let message =
                format!("the run's data would pass {} bytes, the most that a run may hold", self.limits.run_bytes_max);
            Failure::new(Category::LimitError, "RUN_DATA_TOO_LARGE", message).never_retried()
        })
    }

    /// The end of a step by an error that is not tried again: to `onReject`, to `onError`, or the scope fails.
    pub(super) fn fail(&mut self, step: StepNo, state: &State, failure: &Failure) {
        self.fail_with(step, state, failure, Usage::default(), Vec::new());
    }

    pub(super) fn fail_with(
        &mut self,
        step: StepNo,
        state: &State,
        failure: &Failure,
        usage: Usage,
        warnings: Vec<Failure>,
    ) {
        let Some(open) = self.state.steps.get(&step).cloned() else { return };
        let on_reject = match &state.kind {
            StateKind::Operation(operation) if failure.code == super::APPROVAL_REJECTED => operation.on_reject,
            _ => None,
        };
        let target = on_reject.or(state.on_error).map(|id| self.def.state(id).name.clone());
        let status = if failure.category == Category::TimeoutError { StepStatus::TimedOut } else { StepStatus::Failed };
        let write = target.is_some().then(|| {
            let error =
                RunError { failure: failure.clone(), state: Some(open.state.clone()), step_id: Some(open.id.clone()) };
            let value = self.payload(Json::of(&super::error_value(&error)));
            super::Write { path: crate::expr::Path::keys(["error"]), value: Some(value) }
        });
        self.emit(Event::StepCompleted {
            step,
            status,
            output: None,
            error: Some(failure.clone()),
            write,
            then: target.map_or(Then::Fail, Then::Next),
            usage,
            warnings,
        });
        self.queue.push_back(open.scope);
    }

    /// Fails the step, or passes the question on.
    pub(super) fn missing(&mut self, step: StepNo, state: &State, missing: Missing) -> Result<(), Stop> {
        match missing {
            Missing::Stop(stop) => Err(stop),
            Missing::Failed(failure) => {
                self.fail(step, state, &failure);
                Ok(())
            }
        }
    }

    /// Ends the run: what is open in it is cancelled first.
    pub(super) fn finish(
        &mut self,
        status: RunStatus,
        output: Option<Payload>,
        error: Option<RunError>,
        reason: Option<String>,
    ) -> Result<(), Stop> {
        self.cancel_inside(ROOT, reason.as_deref().unwrap_or("the run ended"));
        if self.state.deadline.is_some() {
            self.out.timers.insert(TimerKey::Run, None);
        }
        let from = self.state.status;
        self.emit(Event::RunStatusChanged { from, status, output: output.clone(), error: error.clone(), reason });
        if let Some(parent) = self.state.parent.clone() {
            let output = output.map(|payload| self.json_of(&payload)).transpose()?;
            let child = self.state.id.clone();
            let end = super::ChildEnd { status, output, error };
            self.send(&parent.run, &Message::ChildEnded { step: parent.step, child, end });
        }
        self.queue.clear();
        Ok(())
    }

    /// Cancels the step that a scope is in, and everything in it.
    pub(super) fn cancel_inside(&mut self, scope: ScopeNo, reason: &str) {
        let open: Vec<StepNo> =
            self.state.steps.values().filter(|step| step.scope == scope).map(|step| step.number).collect();
        for step in open {
            self.cancel_step(step, reason);
        }
    }

    /// Cancels the scopes of a step, its branches or items.
    pub(super) fn cancel_scopes(&mut self, owner: StepNo, reason: &str) {
        let inside: Vec<ScopeNo> =
            self.state.scopes.values().filter(|scope| scope.owner == Some(owner)).map(|scope| scope.number).collect();
        for scope in inside {
            self.cancel_inside(scope, reason);
            let status = StepStatus::Cancelled;
            self.emit(Event::ScopeCompleted { scope, status, result: None, error: None, returns: false });
        }
    }

    fn cancel_step(&mut self, number: StepNo, reason: &str) {
        self.release(number, ApprovalStatus::Cancelled, reason);
        self.emit(Event::StepCompleted {
            step: number,
            status: StepStatus::Cancelled,
            output: None,
            error: None,
            write: None,
            then: Then::Stop,
            usage: Usage::default(),
            warnings: Vec::new(),
        });
    }

    /// Lets go of what a step holds outside: its guest, its approval, its child, its scopes.
    pub(super) fn release(&mut self, number: StepNo, approval: ApprovalStatus, reason: &str) {
        let Some(step) = self.state.steps.get(&number).cloned() else { return };
        self.cancel_scopes(number, reason);
        if step.host.is_some() {
            self.out.aborted.push((number, step.claim));
        }
        if let Some(parked) = &step.parked {
            self.out.cleanups.push((step.clone(), reason.to_owned()));
            if let Some(id) = &parked.approval {
                self.decide_approval(id, approval, None, None);
            }
        }
        if let super::Activity::Call { child, .. } = &step.activity
            && step.status == StepStatus::WaitingSignal
        {
            self.send(child, &Message::CancelChild { reason: reason.to_owned() });
        }
    }

    pub(super) fn decide_approval(
        &mut self,
        id: &ApprovalId,
        status: ApprovalStatus,
        actor: Option<Arc<str>>,
        comment: Option<String>,
    ) {
        let Some(open) = self.state.approvals.get(id).cloned() else { return };
        let row = super::project::approval_row(
            &self.state,
            id,
            &open,
            Some(super::project::Decided {
                status,
                actor: actor.clone(),
                comment: comment.clone(),
                at: self.inputs.now,
            }),
        );
        self.out.approvals.insert(id.clone(), row);
        self.emit(Event::ApprovalDecided { approval: id.clone(), step: open.step, status, actor, comment });
    }

    pub(super) fn send(&mut self, target: &RunId, message: &Message) {
        let id = format!("{}:{}:{}", self.state.id, self.state.seq, self.out.outbox.len());
        self.out.outbox.push(OutboxRow { id: id.into(), target: target.clone(), message: Json::of(message) });
    }

    /// Sets the status that follows from what is open. A paused or ended run keeps its own.
    pub(super) fn settle(&mut self) {
        let from = self.state.status;
        if from.is_terminal() || from == RunStatus::Paused {
            return;
        }
        let status = self.status_of_open();
        if status != from {
            self.emit(Event::RunStatusChanged { from, status, output: None, error: None, reason: None });
        }
    }

    pub(super) fn status_of_open(&self) -> RunStatus {
        if self.state.waits() {
            return RunStatus::Pending;
        }
        let mut waiting = RunStatus::WaitingSignal;
        let mut leaves = 0u32;
        for step in self.state.steps.values() {
            if !matches!(step.progress, super::open::Progress::None) {
                continue;
            }
            leaves += 1;
            match step.status {
                StepStatus::WaitingApproval => waiting = RunStatus::WaitingApproval,
                StepStatus::WaitingSignal => {}
                _ => return RunStatus::Running,
            }
        }
        if leaves == 0 || self.out.more { RunStatus::Running } else { waiting }
    }
}

/// A value nested so deeply that it could not be read back from inside an event.
pub(super) fn too_deep(what: &str, json: &Json) -> Option<Failure> {
    (crate::json::depth(json.get()) > VALUE_DEPTH_MAX).then(|| {
        let message = format!("{what} is nested more than {VALUE_DEPTH_MAX} deep");
        Failure::new(Category::LimitError, "VALUE_TOO_DEEP", message).never_retried()
    })
}

/// The block that a scope runs through.
pub(super) fn block_of(def: &Definition, run: &RunState, scope: ScopeNo) -> Option<BlockId> {
    use super::ScopeRole;
    let scope = run.scopes.get(&scope)?;
    let Some(owner) = scope.owner else { return Some(def.root) };
    let owner = run.steps.get(&owner)?;
    let outer = block_of(def, run, owner.scope)?;
    let state = def.state(def.state_named(outer, &owner.state)?);
    match (&scope.role, &state.kind) {
        (ScopeRole::Branch(at), StateKind::Parallel(parallel)) => parallel.branches.get(*at as usize).map(|b| b.block),
        (ScopeRole::Item(_), StateKind::Foreach(foreach)) => Some(foreach.block),
        (ScopeRole::Try, StateKind::Try(section)) => Some(section.body),
        (ScopeRole::Catch, StateKind::Try(section)) => section.catch.as_ref().and_then(|catch| catch.block),
        (ScopeRole::Finally, StateKind::Try(section)) => section.finally,
        _ => None,
    }
}
