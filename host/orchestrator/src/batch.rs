//! What several decisions on one run write: folded into one commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use caisson_core::engine::{
    Decision, EVENT_VERSION, Event, Progress, Recorded, RunState, Step, StepNo, TimerKey, chain,
};
use caisson_core::ids::ApprovalId;
use caisson_core::json::{Blob, Json};
use caisson_core::ports::{
    Admission, ApprovalRow, Commit, EventRow, ItemRow, NewRun, OutboxRow, Place, Ready, RunLease, RunRow, StepRow,
    TimerRow,
};
use caisson_core::status::RunStatus;
use caisson_core::time::Timestamp;
use caisson_core::trace;

/// In a list, a run shows so many of the states that it is in: a foreach may be in thousands.
const CURRENT_STATES_MAX: usize = 100;

/// Decisions on one run, on their way into one commit.
#[derive(Default)]
pub(crate) struct Batch {
    events: Vec<Recorded>,
    blobs: Vec<Blob>,
    steps: BTreeMap<StepNo, StepRow>,
    approvals: BTreeMap<ApprovalId, ApprovalRow>,
    timers: BTreeMap<TimerKey, Option<Timestamp>>,
    items: Vec<ItemRow>,
    items_dropped: Vec<StepNo>,
    outbox: Vec<OutboxRow>,
    outbox_done: Vec<Arc<str>>,
    inbox_done: Vec<Arc<str>>,
    pins: Vec<Arc<str>>,
    admission: Option<Admission>,
    /// Whether the run begins that waited for room.
    admits: bool,
    pub(crate) effects: Effects,
}

/// What is to be done once the commit is durable.
#[derive(Default)]
pub(crate) struct Effects {
    /// Steps that are ready and not claimed.
    pub(crate) ready: Vec<StepNo>,
    /// The same, as they are published.
    pub(crate) published: Vec<Ready>,
    /// Steps to run.
    pub(crate) started: Vec<Arc<Step>>,
    /// Claims to stop.
    pub(crate) aborted: Vec<(StepNo, u32)>,
    /// Parked guests that may clean up.
    pub(crate) cleanups: Vec<(Arc<Step>, String)>,
    /// The earliest timer that was set.
    pub(crate) timer: Option<Timestamp>,
    /// Whether there are messages to other runs.
    pub(crate) messages: bool,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.outbox_done.is_empty() && self.inbox_done.is_empty()
    }

    pub(crate) fn add(&mut self, decision: Decision) {
        let admitted = decision.events.iter().any(|recorded| matches!(recorded.event, Event::RunAdmitted { .. }));
        self.admits |= admitted;
        self.events.extend(decision.events);
        self.blobs.extend(decision.blobs);
        self.steps.extend(decision.steps);
        self.approvals.extend(decision.approvals);
        self.timers.extend(decision.timers);
        self.items.extend(decision.items);
        self.items_dropped.extend(decision.items_dropped);
        self.outbox.extend(decision.outbox);
        let effects = &mut self.effects;
        effects.ready.extend(decision.ready);
        // What was claimed in this very batch is no longer ready; what was ended in it need not be started.
        for step in decision.started {
            effects.ready.retain(|ready| *ready != step.number);
            effects.started.push(step);
        }
        for (step, claim) in decision.aborted {
            effects.started.retain(|started| started.number != step || started.claim != claim);
            effects.aborted.push((step, claim));
        }
        effects.cleanups.extend(decision.cleanups);
    }

    /// Installed plugins that a new run has pinned.
    pub(crate) fn pinned(&mut self, digests: Vec<Arc<str>>) {
        self.pins = digests;
    }

    /// The place that a new run asks for among those that it counts with.
    pub(crate) fn asks(&mut self, admission: Option<Admission>) {
        self.admission = admission;
    }

    /// A message of another run that this batch takes in.
    pub(crate) fn took(&mut self, message: Arc<str>) {
        self.outbox_done.push(message);
    }

    /// A result that another host left, and that this batch takes in.
    pub(crate) fn took_from_inbox(&mut self, row: Arc<str>) {
        self.inbox_done.push(row);
    }

    pub(crate) fn items_of(&self, step: StepNo) -> impl Iterator<Item = &ItemRow> {
        self.items.iter().filter(move |row| row.step == step)
    }

    pub(crate) fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// The commit that makes it durable, and what follows. `row` is the run as it was; `state` as it is after all decisions.
    pub(crate) fn into_commit(
        mut self,
        row: &mut RunRow,
        state: &RunState,
        snapshot: Option<Json>,
    ) -> (Commit, Effects) {
        let expected = row.version;
        let mut prev = row.last_hash.clone();
        let mut seq = row.last_seq;
        let mut events = Vec::with_capacity(self.events.len());
        for recorded in self.events {
            seq += 1;
            let kind = recorded.event.kind();
            let data = recorded.event.encode();
            let hash = chain::hash(&prev, seq, kind, recorded.at, recorded.actor.as_deref(), data.get());
            events.push(EventRow {
                seq,
                kind: kind.into(),
                at: recorded.at,
                actor: recorded.actor,
                step_id: recorded.step_id,
                v: EVENT_VERSION,
                data,
                data_sha256: None,
                prev_hash: prev,
                hash: hash.clone(),
            });
            prev = hash;
        }
        update_row(row, state);
        if self.admits
            && let Some(slot) = &state.slot
        {
            let (key, limit) = (slot.key.clone(), slot.limit);
            self.admission = Some(Admission { key, limit, place: Place::Admit });
        }
        row.version = expected + 1;
        row.last_seq = seq;
        row.last_hash = prev;

        let (mut timers_set, mut timers_cleared) = (Vec::new(), Vec::new());
        for (key, due) in self.timers {
            let key: Arc<str> = key.to_string().into();
            match due {
                Some(due_at) => timers_set.push(TimerRow { run: row.id.clone(), key, due_at }),
                None => timers_cleared.push(key),
            }
        }
        self.effects.timer = timers_set.iter().map(|timer| timer.due_at).min();
        self.effects.messages = !self.outbox.is_empty();
        let ready = self.effects.ready.iter().filter_map(|number| self.steps.get(number));
        self.effects.published = ready.map(|step| published(state, step)).collect();
        self.items.retain(|item| !self.items_dropped.contains(&item.step));
        let commit = Commit {
            run: Some(row.clone()),
            expected,
            events,
            blobs: self.blobs,
            steps: self.steps.into_values().collect(),
            timers_set,
            timers_cleared,
            approvals: self.approvals.into_values().collect(),
            items: self.items,
            items_dropped: self.items_dropped,
            outbox: self.outbox,
            outbox_done: self.outbox_done,
            snapshot,
            idempotency: None,
            inbox_done: self.inbox_done,
            lease: RunLease::Keep,
            pins: self.pins,
            admission: self.admission,
        };
        (commit, self.effects)
    }
}

fn published(state: &RunState, step: &StepRow) -> Ready {
    let span = trace::step(&state.id, step.number, step.attempt);
    Ready {
        run: state.id.clone(),
        step: step.number,
        attempt: step.attempt,
        entry: step.entry,
        dispatch: step.dispatch,
        traceparent: Some(trace::traceparent(state.trace_id(), span)),
    }
}

/// The row of a run that does not exist yet.
pub(crate) fn new_row(state: &RunState, new: &NewRun, actor: Arc<str>) -> RunRow {
    RunRow {
        id: state.id.clone(),
        realm: state.realm.clone(),
        workflow_id: state.workflow.clone(),
        workflow_version: state.version.clone(),
        digest: state.digest.clone(),
        name: new.name.clone(),
        project_id: new.project_id.clone(),
        created_by: actor,
        status: RunStatus::Pending,
        phase: None,
        current_states: Vec::new(),
        input: state.input.clone(),
        output: None,
        error: None,
        parent: state.parent.as_ref().map(|parent| (parent.run.clone(), parent.step)),
        forked_from: new.forked_from.clone(),
        steps: 0,
        created_at: state.created_at,
        started_at: None,
        completed_at: None,
        paused_at: None,
        cancelled_at: None,
        version: 0,
        last_seq: 0,
        last_hash: chain::GENESIS.into(),
    }
}

fn update_row(row: &mut RunRow, state: &RunState) {
    row.status = state.status;
    row.phase.clone_from(&state.phase);
    row.current_states = state
        .steps
        .values()
        .filter(|step| matches!(step.progress, Progress::None))
        .take(CURRENT_STATES_MAX)
        .map(|step| step.state.clone())
        .collect();
    row.output.clone_from(&state.output);
    row.error = state.error.as_ref().map(Json::of);
    row.steps = state.next_step - 1;
    row.started_at = state.started_at;
    row.completed_at = state.completed_at;
    row.paused_at = state.paused_at;
    row.cancelled_at = if state.status == RunStatus::Cancelled { state.completed_at } else { None };
}
