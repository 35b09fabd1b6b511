//! A run's state: what is open in it, and nothing of what it has done. Rebuilt from events by [`RunState::apply`], which
//! never evaluates and never refuses.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::open::{BranchEnd, Cursor, Parked, Progress, Scope, Step, Waking};
use super::{Activity, Event, ParentStep, PinnedAction, RunError, ScopeNo, ScopeRole, Signal, Slot, StepNo, Then};
use crate::error::Failure;
use crate::ids::{ApprovalId, Realm, RunId};
use crate::json::Payload;
use crate::status::{RunStatus, StepStatus};
use crate::time::Timestamp;
use crate::trace::{self, TraceId};

/// The root scope.
pub const ROOT: ScopeNo = 0;
/// So many ids of signals are remembered against a second delivery: a client that repeats one does so within moments.
const SIGNAL_IDS_REMEMBERED: usize = 1000;

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    /// The run.
    pub id: RunId,
    /// Whose.
    pub realm: Realm,
    /// The workflow's id.
    pub workflow: Arc<str>,
    /// The version's label.
    pub version: Arc<str>,
    /// The version's digest.
    pub digest: Arc<str>,
    /// The input.
    pub input: Payload,
    /// Actions and their packages, fixed for the run's life.
    pub plugins: Arc<Vec<PinnedAction>>,
    /// The step that called it.
    pub parent: Option<ParentStep>,
    /// When the run's time is up.
    pub deadline: Option<Timestamp>,
    /// What it counts under, where only so many may run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// The `traceparent` that its trace hangs below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Arc<str>>,
    /// Its status.
    pub status: RunStatus,
    /// Its phase.
    pub phase: Option<Arc<str>>,
    /// Its output, once completed.
    pub output: Option<Payload>,
    /// Its error, once ended otherwise.
    pub error: Option<RunError>,
    /// The number of its last event.
    pub seq: u64,
    /// Open scopes.
    pub scopes: BTreeMap<ScopeNo, Arc<Scope>>,
    /// Open steps.
    pub steps: BTreeMap<StepNo, Arc<Step>>,
    /// The number of the next scope.
    pub next_scope: ScopeNo,
    /// The number of the next step.
    pub next_step: StepNo,
    /// Signals that nothing has taken yet, in the order of arrival.
    pub mailbox: Vec<Signal>,
    /// Ids of the last signals.
    pub signal_ids: VecDeque<Arc<str>>,
    /// Open approvals and the steps that asked.
    pub approvals: BTreeMap<ApprovalId, OpenApproval>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it first moved.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// When it was paused, while it is.
    pub paused_at: Option<Timestamp>,
    /// How often it went on after a pause.
    #[serde(default)]
    pub resumed: u32,
}

/// An approval that nobody answered yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenApproval {
    /// The step that asked.
    pub step: StepNo,
    /// What is asked.
    pub message: String,
    /// What the decision rests on.
    pub summary: Option<Payload>,
    /// Who may answer.
    pub approvers: Vec<String>,
    /// Until when.
    pub deadline: Option<Timestamp>,
    /// Since when.
    pub created_at: Timestamp,
}

impl RunState {
    /// The state after the first event of a run; `None` if the event is no `run.created`.
    pub fn created(id: RunId, at: Timestamp, event: &Event) -> Option<Self> {
        let Event::RunCreated { realm, workflow, version, digest, input, plugins, parent, deadline, slot, trace } =
            event
        else {
            return None;
        };
        let root = Scope::new(ROOT, ScopeRole::Root, None, None);
        Some(Self {
            id,
            realm: realm.clone(),
            workflow: workflow.clone(),
            version: version.clone(),
            digest: digest.clone(),
            input: input.clone(),
            plugins: Arc::new(plugins.clone()),
            parent: parent.clone(),
            deadline: *deadline,
            slot: slot.clone(),
            trace: trace.clone(),
            status: RunStatus::Pending,
            phase: None,
            output: None,
            error: None,
            seq: 1,
            scopes: BTreeMap::from([(ROOT, Arc::new(root))]),
            steps: BTreeMap::new(),
            next_scope: ROOT + 1,
            next_step: 1,
            mailbox: Vec::new(),
            signal_ids: VecDeque::new(),
            approvals: BTreeMap::new(),
            created_at: at,
            started_at: None,
            completed_at: None,
            paused_at: None,
            resumed: 0,
        })
    }

    /// The trace that it belongs to.
    pub fn trace_id(&self) -> TraceId {
        trace::of_run(&self.id, self.trace.as_deref())
    }

    /// Takes in one event. Total: an event that does not fit changes nothing but the number of the last event, and the property tests
    /// show that the engine never makes one.
    pub fn apply(&mut self, at: Timestamp, event: &Event) {
        self.seq += 1;
        match event {
            Event::RunCreated { .. } => {}
            Event::RunAdmitted { deadline } => {
                self.deadline = *deadline;
                if let Some(slot) = &mut self.slot {
                    slot.queued = false;
                }
            }
            Event::RunStatusChanged { status, output, error, .. } => {
                self.status_changed(at, *status, output.as_ref(), error.as_ref());
            }
            Event::RunPhaseChanged { phase } => self.phase = Some(phase.clone()),
            Event::StepScheduled { step, step_id, scope, state, visit, activity, deadline } => {
                let opened = Step::scheduled(self.seq, at, *step, step_id, *scope, state, *visit, activity, *deadline);
                self.next_step = step + 1;
                self.steps.insert(*step, Arc::new(opened));
                self.scope_mut(*scope, |s| {
                    s.cursor = Cursor::At(*step);
                    s.visits.insert(state.clone(), visit + 1);
                });
            }
            Event::StepStarted { step, attempt, entry, claim, host } => self.step_mut(*step, |s| {
                s.status = StepStatus::Running;
                (s.attempt, s.entry, s.claim) = (*attempt, *entry, *claim);
                s.host = Some(host.clone());
                s.ready_at = None;
                s.started_at.get_or_insert(at);
                s.entered_at.get_or_insert(at);
            }),
            Event::StepLost { step, .. } => self.step_mut(*step, |s| {
                s.lost += 1;
                s.make_ready(at);
            }),
            Event::StepSuspended { step, state, signals, wake_at, approval, usage, .. } => self.step_mut(*step, |s| {
                s.host = None;
                s.waking = None;
                s.usage = s.usage.plus(*usage);
                s.status = if approval.is_some() { StepStatus::WaitingApproval } else { StepStatus::WaitingSignal };
                s.parked = Some(Parked {
                    state: state.clone(),
                    signals: signals.clone(),
                    wake_at: *wake_at,
                    approval: approval.clone(),
                });
            }),
            Event::StepWoken { step, wake } => self.step_mut(*step, |s| {
                if let Some(parked) = s.parked.take() {
                    s.waking = Some(Waking { state: parked.state, wake: wake.clone() });
                }
                s.entry += 1;
                s.entered_at = None;
                s.make_ready(at);
            }),
            Event::StepRetrying { step, error, attempt, at: due, usage } => {
                let seq = self.seq;
                self.step_mut(*step, |s| s.retrying(seq, error, *attempt, *due, *usage));
            }
            Event::StepReady { step, deadline } => self.step_mut(*step, |s| {
                s.retry_at = None;
                s.deadline = *deadline;
                if matches!(s.activity, Activity::Call { .. }) {
                    s.status = StepStatus::WaitingSignal;
                } else {
                    s.make_ready(at);
                }
            }),
            Event::StepCompleted { step, output, error, write, then, .. } => {
                self.step_completed(*step, output.as_ref(), error.as_ref(), write.as_ref(), then);
            }
            Event::ScopeOpened { scope, step, role } => self.scope_opened(*scope, *step, role),
            Event::ScopeCompleted { scope, status, result, error, returns } => {
                self.scope_completed(*scope, *status, result.as_ref(), error.as_ref(), *returns);
            }
            Event::ApprovalRequested { approval, step, message, summary, approvers, deadline } => {
                let open = OpenApproval {
                    step: *step,
                    message: message.clone(),
                    summary: summary.clone(),
                    approvers: approvers.clone(),
                    deadline: *deadline,
                    created_at: at,
                };
                self.approvals.insert(approval.clone(), open);
            }
            Event::ApprovalDecided { approval, .. } => {
                self.approvals.remove(approval);
            }
            Event::SignalReceived { signal } => {
                if self.signal_ids.len() == SIGNAL_IDS_REMEMBERED {
                    self.signal_ids.pop_front();
                }
                self.signal_ids.push_back(signal.id.clone());
                self.mailbox.push(signal.clone());
            }
            Event::SignalConsumed { id, .. } => self.mailbox.retain(|signal| signal.id != *id),
        }
    }

    fn status_changed(&mut self, at: Timestamp, status: RunStatus, output: Option<&Payload>, error: Option<&RunError>) {
        if self.status == RunStatus::Paused {
            self.resumed = self.resumed.wrapping_add(1);
        }
        self.status = status;
        self.paused_at = (status == RunStatus::Paused).then_some(at);
        if status != RunStatus::Pending && !self.waits() {
            self.started_at.get_or_insert(at);
        }
        if status.is_terminal() {
            self.output = output.cloned();
            self.error = error.cloned();
            self.completed_at = Some(at);
            self.mailbox.clear();
            self.steps.clear();
        }
    }

    fn step_completed(
        &mut self,
        number: StepNo,
        output: Option<&Payload>,
        error: Option<&Failure>,
        write: Option<&super::Write>,
        then: &Then,
    ) {
        let Some(step) = self.steps.remove(&number) else { return };
        if let Some(write) = write
            && let Some(value) = write.value.as_ref().or(output)
        {
            let target = self.writing_scope(step.scope);
            self.scope_mut(target, |s| s.write(write.path.clone(), value.clone()));
        }
        self.scope_mut(step.scope, |s| {
            if let Some(output) = output {
                s.last = Some(output.clone());
            }
            s.cursor = match then {
                Then::Next(state) => Cursor::Next(state.clone()),
                Then::End => Cursor::End,
                Then::Return => Cursor::Return,
                Then::Fail => Cursor::Fail(Box::new(RunError {
                    failure: error.cloned().unwrap_or_else(Failure::unknown),
                    state: Some(step.state.clone()),
                    step_id: Some(step.id.clone()),
                })),
                Then::Stop => s.cursor.clone(),
            };
        });
    }

    fn scope_opened(&mut self, scope: ScopeNo, owner: StepNo, role: &ScopeRole) {
        let parent = self.steps.get(&owner).map(|step| step.scope);
        self.next_scope = scope + 1;
        self.scopes.insert(scope, Arc::new(Scope::new(scope, role.clone(), Some(owner), parent)));
        self.step_mut(owner, |step| match (&mut step.progress, role) {
            (Progress::Branches(branches), ScopeRole::Branch(at)) => {
                branches.insert(*at, BranchEnd::Open(scope));
            }
            (Progress::Items(items), ScopeRole::Item(at)) => {
                items.next = at + 1;
                items.open += 1;
            }
            (Progress::Sections(sections), _) => sections.open = Some(scope),
            _ => {}
        });
    }

    fn scope_completed(
        &mut self,
        number: ScopeNo,
        status: StepStatus,
        result: Option<&Payload>,
        error: Option<&RunError>,
        returns: bool,
    ) {
        let Some(scope) = self.scopes.remove(&number) else { return };
        let Some(owner) = scope.owner else { return };
        let error = error.cloned().map(Box::new);
        self.step_mut(owner, |step| match (&mut step.progress, &scope.role) {
            (Progress::Branches(branches), ScopeRole::Branch(at)) => match (status, result, error) {
                (StepStatus::Succeeded, Some(result), _) => {
                    branches.insert(*at, BranchEnd::Succeeded(result.clone()));
                }
                (_, _, Some(error)) => {
                    branches.insert(*at, BranchEnd::Failed(error));
                }
                _ => {
                    branches.remove(at);
                }
            },
            (Progress::Items(items), ScopeRole::Item(_)) => {
                items.open = items.open.saturating_sub(1);
                items.done += 1;
                items.bytes += result.map_or(0, Payload::size);
                if result.is_none() && error.is_some() {
                    items.error = error;
                }
            }
            (Progress::Sections(sections), role) => {
                sections.open = None;
                sections.ended = Some(role.clone());
                match (role, status) {
                    // A finally that ends well changes nothing of what was before it.
                    (ScopeRole::Finally, StepStatus::Succeeded) => {}
                    (_, StepStatus::Succeeded) => {
                        sections.error = None;
                        sections.result = result.cloned();
                        sections.returns = returns;
                    }
                    _ => {
                        sections.finally_failed = *role == ScopeRole::Finally;
                        sections.error = error;
                    }
                }
            }
            _ => {}
        });
    }

    /// The scope that a write in this one goes to: sections of a `try` write through to what is around them.
    pub fn writing_scope(&self, mut number: ScopeNo) -> ScopeNo {
        while let Some(scope) = self.scopes.get(&number)
            && matches!(scope.role, ScopeRole::Try | ScopeRole::Catch | ScopeRole::Finally)
            && let Some(parent) = scope.parent
        {
            number = parent;
        }
        number
    }

    /// Whether it waits for room among the runs of its workflow: nothing in it moves.
    pub fn waits(&self) -> bool {
        self.slot.as_ref().is_some_and(|slot| slot.queued)
    }

    /// The package that an action means for this run.
    pub fn pinned(&self, action: &str) -> Option<&PinnedAction> {
        self.plugins.iter().find(|pinned| &*pinned.action == action)
    }

    fn step_mut(&mut self, number: StepNo, change: impl FnOnce(&mut Step)) {
        if let Some(step) = self.steps.get_mut(&number) {
            change(Arc::make_mut(step));
        }
    }

    fn scope_mut(&mut self, number: ScopeNo, change: impl FnOnce(&mut Scope)) {
        if let Some(scope) = self.scopes.get_mut(&number) {
            change(Arc::make_mut(scope));
        }
    }
}

impl Failure {
    fn unknown() -> Self {
        Self::new(crate::error::Category::ActionError, "UNKNOWN", "failed without an error")
    }
}
