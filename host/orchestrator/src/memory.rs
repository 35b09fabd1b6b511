//! A store and a clock that live in memory: for tests, and for programs that embed the engine and need nothing to last.
//!
//! Invariant: the same calls give the same answers as on any other store; core's contract suite says what that means. Every method
//! holds one lock from its first look to its last write, so each is one transaction.
//!
//! Deliberately absent: durability, indexes beyond what the relay and the scheduler ask all the time.

mod cluster;
mod definitions;
mod journal;
mod plugins;
mod resources;
mod retention;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use caisson_core::engine::StepNo;
use caisson_core::ids::{ApprovalId, Realm, RunId, StepId};
use caisson_core::json::{Blob, BlobRef};
use caisson_core::ports::{
    ApiKeyRow, ApprovalFilter, ApprovalRow, Clock, Commit, CommitError, Cursor, DefinitionFilter, DefinitionRow,
    EventRow, HostLogLine, ItemRow, NewVersion, OutboxRow, Page, PageRequest, ReadyRow, RunCounts, RunFilter, RunRow,
    RunStats, SlotKey, StepRow, Store, StoreError, StoredRun, TimerRow, VersionRow, dead,
};
use caisson_core::time::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use self::state::State;

/// A clock that stands still until it is set.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at that time.
    pub fn new(at: Timestamp) -> Self {
        Self(AtomicI64::new(at.0))
    }

    /// Moves it on.
    pub fn advance_ms(&self, ms: u64) {
        self.0.fetch_add(i64::try_from(ms).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Moves it to that time; never backwards.
    pub fn set(&self, at: Timestamp) {
        self.0.fetch_max(at.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// The store in memory. Several hosts of one process may share it.
pub struct MemoryStore {
    state: Mutex<State>,
    /// Decides when leases and holds are over.
    clock: Arc<dyn Clock>,
    /// Wakes every host that waits in [`caisson_core::ports::Cluster::notified`].
    notices: Notify,
    catalog: Notify,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::with_clock(Arc::new(ManualClock::default()))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("state", &self.state).finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store for one host: its own time stands still.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store for several hosts, whose time is that clock's.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { state: Mutex::default(), clock, notices: Notify::new(), catalog: Notify::new() }
    }

    /// Whether there is no room: commits and records are refused with [`StoreError::Full`] until there is.
    pub fn set_full(&self, full: bool) {
        self.state.lock().full = full;
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state.lock();
        if state.closed { Err(StoreError::Other("store is closed".to_owned())) } else { Ok(state) }
    }

    /// For what is refused while there is no room.
    fn open_with_room(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.open()?;
        if state.full { Err(StoreError::Full("memory".to_owned())) } else { Ok(state) }
    }
}

/// At most `limit` things, as rows.
fn some<T>(things: impl Iterator<Item = T>, limit: u32) -> Vec<T> {
    things.take(limit as usize).collect()
}

/// A page of things, sorted by `key` from large to small.
fn newest_first<T>(
    mut things: Vec<T>,
    page: &PageRequest,
    key: impl Fn(&T) -> Cursor + Copy,
) -> Result<Page<T>, StoreError> {
    let after = page.after()?;
    things.retain(|thing| after.as_ref().is_none_or(|after| key(thing) < *after));
    things.sort_by_key(|thing| std::cmp::Reverse(key(thing)));
    things.truncate(page.size() as usize + 1);
    Ok(Page::cut(things, page, key))
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        commit.check()?;
        self.open_with_room()?.commit(&commit)?;
        if !commit.outbox.is_empty() || !commit.timers_set.is_empty() {
            self.notices.notify_waiters();
        }
        Ok(())
    }

    async fn load(&self, run: &RunId) -> Result<Option<StoredRun>, StoreError> {
        let state = self.open()?;
        let Some(row) = state.runs.get(run).cloned() else { return Ok(None) };
        let snapshot = state.snapshots.get(run).cloned();
        let after = snapshot.as_ref().map_or(0, |(seq, _)| *seq);
        let events = state.events(run).iter().filter(|event| event.seq > after).cloned().collect();
        let now = self.clock.now();
        let holder = state.holders.get(run).filter(|host| state.is_alive(host, now)).cloned();
        Ok(Some(StoredRun { row, snapshot, events, holder }))
    }

    async fn blobs(&self, ids: &[BlobRef]) -> Result<Vec<Blob>, StoreError> {
        let state = self.open()?;
        let mut wanted = ids.to_vec();
        wanted.sort();
        wanted.dedup();
        Ok(wanted.iter().filter_map(|id| state.blobs.get(&id.sha256).cloned()).collect())
    }

    async fn items(&self, run: &RunId, step: StepNo) -> Result<Vec<ItemRow>, StoreError> {
        let range = (run.clone(), step, 0)..=(run.clone(), step, u64::MAX);
        Ok(self.open()?.items.range(range).map(|(_, item)| item.clone()).collect())
    }

    async fn ready(&self, limit: u32) -> Result<Vec<ReadyRow>, StoreError> {
        Ok(some(self.open()?.ready(), limit))
    }

    async fn redispatch(&self, before: Timestamp, now: Timestamp, limit: u32) -> Result<Vec<ReadyRow>, StoreError> {
        Ok(self.open_with_room()?.publish_again(before, now, limit))
    }

    async fn claimed_by_others(&self, host: &str, limit: u32) -> Result<Vec<(RunId, StepNo, u32)>, StoreError> {
        let state = self.open()?;
        let steps = state.claimed.iter().filter_map(|key| state.steps.get(key).map(|step| (key, step)));
        let others = steps.filter(|(_, step)| step.host.as_deref() != Some(host));
        Ok(some(others.map(|(key, step)| (key.0.clone(), key.1, step.claim)), limit))
    }

    async fn due_timers(&self, now: Timestamp, limit: u32) -> Result<Vec<TimerRow>, StoreError> {
        let state = self.open()?;
        let due = state.due.iter().take_while(|(at, ..)| *at <= now);
        Ok(some(due.map(|(at, run, key)| TimerRow { run: run.clone(), key: Arc::clone(key), due_at: *at }), limit))
    }

    async fn next_timer(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.open()?.due.first().map(|(at, ..)| *at))
    }

    async fn outbox(&self, limit: u32) -> Result<Vec<OutboxRow>, StoreError> {
        Ok(some(self.open()?.outbox.iter().cloned(), limit))
    }

    async fn outbox_delete(&self, ids: &[Arc<str>]) -> Result<(), StoreError> {
        self.open()?.delivered(ids);
        Ok(())
    }

    async fn admissible(&self, of: Option<&SlotKey>, limit: u32) -> Result<Vec<RunId>, StoreError> {
        Ok(some(self.open()?.admissible(of).into_iter(), limit))
    }

    async fn admitted(&self, of: &SlotKey, limit: u32) -> Result<Vec<RunId>, StoreError> {
        Ok(some(self.open()?.admitted(of).into_iter(), limit))
    }

    async fn backlog(&self, limit: u64) -> Result<u64, StoreError> {
        Ok(limit.min(self.open()?.waiting.len() as u64))
    }

    async fn latest_time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.open()?.latest)
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunRow>, StoreError> {
        Ok(self.open()?.runs.get(run).cloned())
    }

    async fn run_by_key(&self, key: &str) -> Result<Option<(RunId, String)>, StoreError> {
        Ok(self.open()?.idempotency.get(key).cloned())
    }

    async fn runs(
        &self,
        tenant: &str,
        environment: Option<&str>,
        filter: &RunFilter,
        page: &PageRequest,
    ) -> Result<Page<RunRow>, StoreError> {
        let wanted = |run: &&RunRow| {
            *run.realm.tenant == *tenant
                && environment.is_none_or(|name| *run.realm.environment == *name)
                && filter.workflow.as_deref().is_none_or(|id| *run.workflow_id == *id)
                && (filter.status.is_empty() || filter.status.contains(&run.status))
                && filter.project.as_ref().is_none_or(|id| run.project_id.as_ref() == Some(id))
                && filter.parent.as_ref().is_none_or(|id| run.parent.as_ref().map(|(run, _)| run) == Some(id))
        };
        let runs = self.open()?.runs.values().filter(wanted).cloned().collect();
        newest_first(runs, page, |run: &RunRow| Cursor::new(run.created_at.0, run.id.as_str()))
    }

    async fn counts(&self, runs: &[RunId], most: u32) -> Result<BTreeMap<RunId, RunCounts>, StoreError> {
        let state = self.open()?;
        let most = u64::from(most);
        let counts = |run: &RunId| RunCounts {
            approvals: (state.approvals.values().filter(|row| row.run == *run).count() as u64).min(most),
            artifacts: (state.artifacts.iter().filter(|row| row.run == *run).count() as u64).min(most),
            sessions: (state.sessions.iter().filter(|row| row.run == *run).count() as u64).min(most),
        };
        Ok(runs.iter().map(|run| (run.clone(), counts(run))).collect())
    }

    async fn steps(&self, run: &RunId, page: &PageRequest) -> Result<Page<StepRow>, StoreError> {
        let after = page.after()?.map_or(0, |cursor| cursor.at.cast_unsigned());
        let range = (run.clone(), after.saturating_add(1))..=(run.clone(), u64::MAX);
        let steps = some(self.open()?.steps.range(range).map(|(_, step)| step.clone()), page.size() + 1);
        Ok(Page::cut(steps, page, |step| Cursor::new(step.number.cast_signed(), "")))
    }

    async fn step(&self, run: &RunId, step: &StepId) -> Result<Option<StepRow>, StoreError> {
        let state = self.open()?;
        let number = state.step_numbers.get(&(run.clone(), step.clone()));
        Ok(number.and_then(|number| state.steps.get(&(run.clone(), *number))).cloned())
    }

    async fn dead(
        &self,
        tenant: &str,
        environment: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<(RunId, StepRow)>, StoreError> {
        page.after()?.map(|cursor| dead::place(&cursor)).transpose()?;
        let state = self.open()?;
        let of = |run: &RunId| {
            state.runs.get(run).is_some_and(|run| {
                *run.realm.tenant == *tenant && environment.is_none_or(|name| *run.realm.environment == *name)
            })
        };
        let found = state.steps.iter().filter(|((run, _), step)| dead::is_dead(step) && of(run));
        let found = found.map(|((run, _), step)| (run.clone(), step.clone())).collect();
        newest_first(found, page, |(run, step): &(RunId, StepRow)| dead::cursor(run, step))
    }

    async fn events(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let state = self.open()?;
        Ok(some(state.events(run).iter().filter(|event| event.seq > after).cloned(), limit))
    }

    async fn events_at(&self, run: &RunId, seqs: &[u64]) -> Result<BTreeMap<u64, EventRow>, StoreError> {
        let state = self.open()?;
        let found = state.events(run).iter().filter(|event| seqs.contains(&event.seq));
        Ok(found.map(|event| (event.seq, event.clone())).collect())
    }

    async fn approvals(
        &self,
        tenant: &str,
        environment: Option<&str>,
        filter: &ApprovalFilter,
        page: &PageRequest,
    ) -> Result<Page<ApprovalRow>, StoreError> {
        let wanted = |row: &&ApprovalRow| {
            *row.realm.tenant == *tenant
                && environment.is_none_or(|name| *row.realm.environment == *name)
                && filter.run.as_ref().is_none_or(|run| row.run == *run)
                && filter.status.is_none_or(|status| row.status == status)
        };
        let approvals = self.open()?.approvals.values().filter(wanted).cloned().collect();
        newest_first(approvals, page, |row: &ApprovalRow| Cursor::new(row.created_at.0, row.id.as_str()))
    }

    async fn approval(&self, id: &ApprovalId) -> Result<Option<ApprovalRow>, StoreError> {
        Ok(self.open()?.approvals.get(id).cloned())
    }

    async fn save_version(&self, version: NewVersion) -> Result<(VersionRow, bool), StoreError> {
        self.open()?.save_version(version)
    }

    async fn definition(&self, realm: &Realm, id: &str) -> Result<Option<(DefinitionRow, VersionRow)>, StoreError> {
        let state = self.open()?;
        Ok(state.definition(realm, id).cloned().zip(state.version(realm, id, None).cloned()))
    }

    async fn definitions(
        &self,
        realm: &Realm,
        filter: &DefinitionFilter,
        page: &PageRequest,
    ) -> Result<Page<(DefinitionRow, VersionRow)>, StoreError> {
        let after = page.after()?.unwrap_or_default();
        let found = some(self.open()?.definitions_in_force(realm, filter, &after.id), page.size() + 1);
        Ok(Page::cut(found, page, |(definition, _)| Cursor::new(0, definition.id.as_ref())))
    }

    async fn version(&self, realm: &Realm, id: &str, version: Option<&str>) -> Result<Option<VersionRow>, StoreError> {
        Ok(self.open()?.version(realm, id, version).cloned())
    }

    async fn version_by_digest(&self, realm: &Realm, id: &str, digest: &str) -> Result<Option<VersionRow>, StoreError> {
        Ok(self.open()?.version_by_digest(realm, id, digest).cloned())
    }

    async fn versions(&self, realm: &Realm, id: &str, page: &PageRequest) -> Result<Page<VersionRow>, StoreError> {
        let versions = self.open()?.versions(realm, id).cloned().collect();
        newest_first(versions, page, |version: &VersionRow| Cursor::new(version.number.cast_signed(), ""))
    }

    async fn set_definition(
        &self,
        realm: &Realm,
        id: &str,
        enabled: Option<bool>,
        paused: Option<bool>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        Ok(self.open()?.set_definition(realm, id, enabled, paused, at))
    }

    async fn delete_definition(&self, realm: &Realm, id: &str) -> Result<bool, StoreError> {
        self.open()?.delete_definition(realm, id)
    }

    async fn run_stats(&self, realm: &Realm, id: &str, since: Timestamp) -> Result<RunStats, StoreError> {
        Ok(self.open()?.run_stats(realm, id, since))
    }

    async fn add_key(&self, key: &ApiKeyRow) -> Result<(), StoreError> {
        let mut state = self.open()?;
        if state.keys.values().any(|other| other.id == key.id || other.key_hash == key.key_hash) {
            return Err(StoreError::Conflict(format!("key {} exists already", key.id)));
        }
        state.note_time(key.created_at);
        state.keys.insert(Arc::clone(&key.id), key.clone());
        Ok(())
    }

    async fn key_by_hash(&self, key_hash: &str) -> Result<Option<ApiKeyRow>, StoreError> {
        Ok(self.open()?.keys.values().find(|key| *key.key_hash == *key_hash).cloned())
    }

    async fn keys(&self, tenant: &str) -> Result<Vec<ApiKeyRow>, StoreError> {
        let state = self.open()?;
        let mut keys: Vec<_> = state.keys.values().filter(|key| *key.tenant == *tenant).cloned().collect();
        keys.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        Ok(keys)
    }

    async fn count_keys(&self) -> Result<u64, StoreError> {
        Ok(self.open()?.keys.len() as u64)
    }

    async fn revoke_key(&self, tenant: &str, id: &str, at: Timestamp) -> Result<bool, StoreError> {
        let mut state = self.open()?;
        state.note_time(at);
        let Some(key) = state.keys.get_mut(id).filter(|key| *key.tenant == *tenant) else { return Ok(false) };
        key.revoked_at = key.revoked_at.or(Some(at));
        Ok(true)
    }

    async fn touch_keys(&self, used: &[(Arc<str>, Timestamp)]) -> Result<(), StoreError> {
        let mut state = self.open()?;
        for (id, at) in used {
            state.note_time(*at);
            if let Some(key) = state.keys.get_mut(id) {
                key.last_used_at = key.last_used_at.max(Some(*at));
            }
        }
        Ok(())
    }

    async fn append_logs(&self, lines: &[HostLogLine]) -> Result<(), StoreError> {
        let mut state = self.open()?;
        for line in lines {
            state.note_time(line.line.at);
            state.logs.push(line.clone());
        }
        Ok(())
    }

    async fn logs(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<HostLogLine>, StoreError> {
        let after = page.after()?.map_or(0, |cursor| cursor.at);
        let state = self.open()?;
        let numbered = (1_i64..).zip(&state.logs);
        let wanted = numbered
            .filter(|(number, line)| *number > after && line.run == *run && step.is_none_or(|step| line.step == *step));
        let lines = some(wanted.map(|(number, line)| (number, line.clone())), page.size() + 1);
        let page = Page::cut(lines, page, |(number, _)| Cursor::new(*number, ""));
        Ok(Page { items: page.items.into_iter().map(|(_, line)| line).collect(), next: page.next })
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.open().map(drop)
    }

    async fn close(&self) {
        self.state.lock().closed = true;
    }
}
