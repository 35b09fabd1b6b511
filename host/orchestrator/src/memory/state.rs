//! What the store in memory holds, and how a commit changes it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use caisson_core::engine::StepNo;
use caisson_core::ids::{ApprovalId, Realm, RunId, StepId};
use caisson_core::json::{Blob, Json};
use caisson_core::ports::{
    self, ApiKeyRow, ApprovalRow, ArtifactRow, Commit, CommitError, DefinitionRow, EmittedEvent, EventRow, Held,
    HostLogLine, HostRow, InboxRow, ItemRow, KvScope, OutboxRow, PluginRow, ReadyRow, Record, ResourceKey, RunLease,
    RunRow, SessionRow, SlotKey, StepRow, StoreError, TimerRow, VersionRow,
};
use caisson_core::status::RunStatus;
use caisson_core::time::Timestamp;

use super::resources::Kept;

/// A run among those that it counts with.
#[derive(Debug)]
pub(super) struct Place {
    pub key: SlotKey,
    pub most: u32,
    pub begun: bool,
    pub created_at: Timestamp,
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct State {
    pub runs: BTreeMap<RunId, RunRow>,
    pub histories: BTreeMap<RunId, Vec<EventRow>>,
    pub snapshots: BTreeMap<RunId, (u64, Json)>,
    pub steps: BTreeMap<(RunId, StepNo), StepRow>,
    pub step_numbers: BTreeMap<(RunId, StepId), StepNo>,
    /// Steps with a `ready_at`, longest first.
    pub waiting: BTreeSet<(Timestamp, RunId, StepNo)>,
    /// When ready steps were last published, if it was after they became ready.
    pub published: BTreeMap<(RunId, StepNo), Timestamp>,
    /// Steps with a host.
    pub claimed: BTreeSet<(RunId, StepNo)>,
    pub items: BTreeMap<(RunId, StepNo, u64), ItemRow>,
    pub timers: BTreeMap<(RunId, Arc<str>), Timestamp>,
    /// The same timers, earliest first.
    pub due: BTreeSet<(Timestamp, RunId, Arc<str>)>,
    pub approvals: BTreeMap<ApprovalId, ApprovalRow>,
    pub outbox: Vec<OutboxRow>,
    pub blobs: BTreeMap<Arc<str>, Blob>,
    /// Which run has which large values.
    pub blob_refs: BTreeMap<RunId, BTreeSet<Arc<str>>>,
    /// Runs whose data is erased.
    pub erased: BTreeSet<RunId>,
    pub idempotency: BTreeMap<String, (RunId, String)>,
    pub definitions: BTreeMap<(Realm, Arc<str>), DefinitionRow>,
    pub versions: BTreeMap<(Realm, Arc<str>, u64), VersionRow>,
    pub keys: BTreeMap<Arc<str>, ApiKeyRow>,
    pub logs: Vec<HostLogLine>,
    /// Attempt, entry and number come after the step.
    pub journal: BTreeMap<(RunId, StepNo, u32, u32, u32), Record>,
    pub kv: HashMap<KvScope, BTreeMap<String, Vec<u8>>>,
    /// In the order of their coming.
    pub emitted: Vec<EmittedEvent>,
    pub artifacts: Vec<ArtifactRow>,
    /// In the order of their beginning.
    pub sessions: Vec<SessionRow>,
    /// By run, session and number.
    pub session_lines: BTreeMap<(RunId, Arc<str>, u32), Json>,
    /// By realm, id and digest.
    pub plugins: BTreeMap<(Realm, String, String), PluginRow>,
    pub components: BTreeMap<String, Bytes>,
    /// What open runs need.
    pub pins: BTreeMap<RunId, Vec<Arc<str>>>,
    /// Open runs that count with others: whether they have begun, and how many of their key may.
    pub admissions: BTreeMap<RunId, Place>,
    pub resources: BTreeMap<ResourceKey, Kept>,
    pub resources_mark: u64,
    pub hosts: BTreeMap<Arc<str>, HostRow>,
    /// Who moves which open run; counts only while that host is alive.
    pub holders: BTreeMap<RunId, Arc<str>>,
    /// In the order of their coming.
    pub inbox: Vec<InboxRow>,
    /// Until when timers are kept from others than those who took them.
    pub timers_held: BTreeMap<(RunId, Arc<str>), Timestamp>,
    /// The same of messages, by id.
    pub messages_held: BTreeMap<Arc<str>, Timestamp>,
    pub shared_keys: BTreeMap<String, [u8; 32]>,
    pub latest: Option<Timestamp>,
    pub closed: bool,
    pub full: bool,
}

impl State {
    pub(super) fn note_time(&mut self, at: Timestamp) {
        self.latest = self.latest.max(Some(at));
    }

    pub(super) fn events(&self, run: &RunId) -> &[EventRow] {
        self.histories.get(run).map_or(&[], Vec::as_slice)
    }

    /// Steps that may be taken.
    pub(super) fn ready(&self) -> impl Iterator<Item = ReadyRow> {
        self.waiting.iter().filter_map(|(_, run, number)| {
            let may_move = match self.runs.get(run)?.status {
                RunStatus::Pending | RunStatus::Running | RunStatus::WaitingApproval | RunStatus::WaitingSignal => true,
                RunStatus::Paused
                | RunStatus::Completed
                | RunStatus::Failed
                | RunStatus::Cancelled
                | RunStatus::TimedOut => false,
            };
            let row = self.steps.get(&(run.clone(), *number))?;
            let StepRow { attempt, entry, dispatch, .. } = *row;
            may_move.then(|| ReadyRow { run: run.clone(), step: *number, attempt, entry, dispatch })
        })
    }

    /// Raises the numbers of those that were published before a time, and gives them.
    pub(super) fn publish_again(&mut self, before: Timestamp, now: Timestamp, limit: u32) -> Vec<ReadyRow> {
        let published = |step: &ReadyRow| {
            let key = (step.run.clone(), step.step);
            self.published.get(&key).copied().or_else(|| self.steps.get(&key)?.ready_at)
        };
        let old = self.ready().filter(|step| published(step).is_some_and(|at| at < before));
        let mut steps: Vec<ReadyRow> = old.take(limit as usize).collect();
        for step in &mut steps {
            let key = (step.run.clone(), step.step);
            if let Some(row) = self.steps.get_mut(&key) {
                row.dispatch += 1;
                step.dispatch = row.dispatch;
            }
            self.published.insert(key, now);
        }
        steps
    }

    /// All or nothing: everything that can be refused is refused before the first write.
    pub(super) fn commit(&mut self, commit: &Commit) -> Result<(), CommitError> {
        self.refuse(commit)?;
        if let Some(at) = commit.latest_time() {
            self.note_time(at);
        }
        if let Some(run) = commit.run.clone() {
            self.write_run(&run, commit.expected == 0);
            self.write_things(&run, commit);
        }
        self.delivered(&commit.outbox_done);
        self.inbox.retain(|row| !commit.inbox_done.contains(&row.id));
        Ok(())
    }

    fn refuse(&self, commit: &Commit) -> Result<(), CommitError> {
        let Some(run) = &commit.run else { return Ok(()) };
        if let Some(key) = &commit.idempotency
            && let Some((holder, request)) = self.idempotency.get(&key.key)
        {
            let same = *request == key.request_hash;
            return Err(if same { CommitError::Exists(holder.clone()) } else { CommitError::KeyReused });
        }
        let stored = self.runs.get(&run.id);
        match (commit.expected, stored) {
            (0, Some(_)) => return Err(CommitError::Exists(run.id.clone())),
            (0, None) => {}
            (expected, Some(stored)) if expected == stored.version => {}
            (_, Some(_) | None) => return Err(CommitError::Conflict),
        }
        commit.follows(stored.map_or(0, |row| row.last_seq))?;
        for step in &commit.steps {
            let known = self.step_numbers.get(&(run.id.clone(), step.id.clone()));
            if known.is_some_and(|number| *number != step.number) {
                return Err(StoreError::Other(format!("step id {} is taken", step.id)).into());
            }
        }
        if let Some(admission) = &commit.admission {
            self.held(&SlotKey::of(run, &admission.key)).take(admission)?;
        }
        Ok(())
    }

    fn held(&self, key: &SlotKey) -> Held {
        let mut held = Held::default();
        for place in self.admissions.values().filter(|place| place.key == *key) {
            if place.begun { held.begun += 1 } else { held.waiting += 1 }
        }
        held
    }

    /// Runs that wait, those first that were made first, and of each key the first alone.
    pub(super) fn admissible(&self, of: Option<&SlotKey>) -> Vec<RunId> {
        let mut waiting: Vec<_> = self
            .admissions
            .iter()
            .filter(|(_, place)| !place.begun && of.is_none_or(|key| place.key == *key))
            .map(|(run, place)| (place.created_at, run, place))
            .collect();
        waiting.sort_by_key(|(at, run, _)| (*at, *run));
        let mut seen = BTreeSet::new();
        waiting.retain(|(_, _, place)| seen.insert(&place.key) && self.held(&place.key).begun < place.most.into());
        waiting.into_iter().map(|(_, run, _)| run.clone()).collect()
    }

    /// Runs of a key that have begun, those first that were made first.
    pub(super) fn admitted(&self, of: &SlotKey) -> Vec<RunId> {
        let mut begun: Vec<_> = self.admissions.iter().filter(|(_, place)| place.begun && place.key == *of).collect();
        begun.sort_by_key(|(run, place)| (place.created_at, *run));
        begun.into_iter().map(|(run, _)| run.clone()).collect()
    }

    /// What a run is made with stays as it was.
    fn write_run(&mut self, new: &RunRow, made: bool) {
        let mut row = new.clone();
        if !made && let Some(old) = self.runs.remove(&new.id) {
            row = RunRow {
                status: row.status,
                phase: row.phase,
                current_states: row.current_states,
                output: row.output,
                error: row.error,
                steps: row.steps,
                started_at: row.started_at,
                completed_at: row.completed_at,
                paused_at: row.paused_at,
                cancelled_at: row.cancelled_at,
                version: row.version,
                last_seq: row.last_seq,
                last_hash: row.last_hash,
                ..old
            };
        }
        self.runs.insert(row.id.clone(), row);
    }

    fn write_things(&mut self, run: &RunRow, commit: &Commit) {
        self.histories.entry(run.id.clone()).or_default().extend(commit.events.iter().cloned());
        for blob in &commit.blobs {
            self.blobs.entry(Arc::clone(&blob.id.sha256)).or_insert_with(|| blob.clone());
            self.blob_refs.entry(run.id.clone()).or_default().insert(Arc::clone(&blob.id.sha256));
        }
        if let Some(state) = &commit.snapshot {
            self.snapshots.insert(run.id.clone(), (run.last_seq, state.clone()));
        }
        for step in &commit.steps {
            self.write_step(&run.id, step);
            if step.status.is_terminal() {
                self.drop_records(&run.id, step.number);
            }
        }
        if !commit.pins.is_empty() {
            self.pins.insert(run.id.clone(), commit.pins.clone());
        }
        if let Some(admission) = &commit.admission {
            let begun = !matches!(admission.place, ports::Place::Wait { .. });
            let (key, most) = (SlotKey::of(run, &admission.key), admission.limit);
            self.admissions.insert(run.id.clone(), Place { key, most, begun, created_at: run.created_at });
        }
        match &commit.lease {
            RunLease::Keep => {}
            RunLease::Hold(host) => drop(self.holders.insert(run.id.clone(), Arc::clone(host))),
            RunLease::Release => drop(self.holders.remove(&run.id)),
        }
        if run.status.is_terminal() {
            self.holders.remove(&run.id);
            self.pins.remove(&run.id);
            self.admissions.remove(&run.id);
        }
        for key in &commit.timers_cleared {
            self.clear_timer(&run.id, key);
        }
        for TimerRow { run, key, due_at } in &commit.timers_set {
            self.clear_timer(run, key);
            self.timers.insert((run.clone(), Arc::clone(key)), *due_at);
            self.due.insert((*due_at, run.clone(), Arc::clone(key)));
        }
        for approval in &commit.approvals {
            self.approvals.insert(approval.id.clone(), approval.clone());
        }
        for item in &commit.items {
            self.items.insert((run.id.clone(), item.step, item.index), item.clone());
        }
        for step in &commit.items_dropped {
            self.items.retain(|(id, number, _), _| *id != run.id || number != step);
        }
        for message in &commit.outbox {
            if !self.outbox.iter().any(|known| known.id == message.id) {
                self.outbox.push(message.clone());
            }
        }
        if let Some(key) = &commit.idempotency {
            self.idempotency.insert(key.key.clone(), (run.id.clone(), key.request_hash.clone()));
        }
    }

    fn write_step(&mut self, run: &RunId, step: &StepRow) {
        let key = (run.clone(), step.number);
        if let Some(old) = self.steps.get(&key)
            && let Some(at) = old.ready_at
        {
            self.waiting.remove(&(at, run.clone(), step.number));
        }
        if let Some(at) = step.ready_at {
            self.waiting.insert((at, run.clone(), step.number));
        }
        if step.host.is_some() {
            self.claimed.insert(key.clone());
        } else {
            self.claimed.remove(&key);
        }
        self.step_numbers.insert((run.clone(), step.id.clone()), step.number);
        self.published.remove(&key);
        self.steps.insert(key, step.clone());
    }

    fn clear_timer(&mut self, run: &RunId, key: &Arc<str>) {
        if let Some(at) = self.timers.remove(&(run.clone(), Arc::clone(key))) {
            self.due.remove(&(at, run.clone(), Arc::clone(key)));
        }
        self.timers_held.remove(&(run.clone(), Arc::clone(key)));
    }

    /// Messages that nobody needs any more.
    pub(super) fn delivered(&mut self, ids: &[Arc<str>]) {
        self.outbox.retain(|message| !ids.contains(&message.id));
        for id in ids {
            self.messages_held.remove(id);
        }
    }
}
