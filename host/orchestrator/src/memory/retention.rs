//! What is left of finished runs, in memory: all that a call would do part by part is done at once.

use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::engine::erasure;
use caisson_core::ids::{Realm, RunId};
use caisson_core::json::{Blob, Payload, sha256_hex};
use caisson_core::ports::{Pruning, RunRow, Stage, StoreError, VersionRow};
use caisson_core::time::Timestamp;

use super::state::State;
use super::{MemoryStore, some};

#[async_trait]
impl Pruning for MemoryStore {
    async fn workflows(&self, after: Option<(&Realm, &str)>, limit: u32) -> Result<Vec<VersionRow>, StoreError> {
        let state = self.open()?;
        let rows = state.definitions.iter();
        let rest = rows.filter(|((realm, id), _)| after.is_none_or(|after| (realm, &**id) > after));
        let in_force = rest.filter_map(|((realm, id), _)| state.version(realm, id, None));
        Ok(some(in_force.cloned(), limit))
    }

    async fn ended(
        &self,
        realm: &Realm,
        workflow: &str,
        stage: Stage,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<RunId>, StoreError> {
        let state = self.open()?;
        let wanted = |run: &&RunRow| {
            let erased = state.erased.contains(&run.id);
            run.realm == *realm && *run.workflow_id == *workflow && erased == (stage == Stage::Erased)
        };
        let runs = state.runs.values().filter(wanted);
        let mut ended: Vec<_> = runs.filter_map(|run| Some((run.completed_at?, &run.id))).collect();
        ended.retain(|(at, _)| *at < before);
        ended.sort();
        Ok(some(ended.into_iter().map(|(_, id)| id.clone()), limit))
    }

    async fn files(&self, run: &RunId, limit: u32) -> Result<Vec<Arc<str>>, StoreError> {
        let state = self.open()?;
        let files = state.artifacts.iter().filter(|file| file.run == *run);
        Ok(some(files.map(|file| file.path.clone()), limit))
    }

    async fn forget_files(&self, run: &RunId, paths: &[Arc<str>]) -> Result<(), StoreError> {
        self.open()?.artifacts.retain(|file| file.run != *run || !paths.contains(&file.path));
        Ok(())
    }

    async fn values(&self, run: &RunId, after: Option<&str>, limit: u32) -> Result<Vec<Blob>, StoreError> {
        let state = self.open()?;
        let hashes = state.blob_refs.get(run).into_iter().flatten();
        let rest = hashes.filter(|sha256| after.is_none_or(|after| ***sha256 > *after));
        Ok(some(rest.filter_map(|sha256| state.blobs.get(sha256).cloned()), limit))
    }

    async fn erase(&self, run: &RunId, _after: u64, _limit: u32, at: Timestamp) -> Result<Option<u64>, StoreError> {
        let mut state = self.open()?;
        if let Some(row) = state.runs.get(run) {
            if !row.status.is_terminal() {
                return Err(StoreError::Invalid(format!("run {run} has not ended")));
            }
            state.note_time(at);
            state.erase(run);
        }
        Ok(None)
    }

    async fn delete(&self, run: &RunId, limit: u32) -> Result<bool, StoreError> {
        let mut state = self.open()?;
        if !state.runs.contains_key(run) {
            return Ok(true);
        }
        if !state.erased.contains(run) {
            return Err(StoreError::Invalid(format!("the data of run {run} is not erased")));
        }
        if let Some(events) = state.histories.get_mut(run)
            && events.len() > limit as usize
        {
            events.truncate(events.len() - limit as usize);
            return Ok(false);
        }
        state.delete(run);
        Ok(true)
    }
}

impl State {
    fn erase(&mut self, run: &RunId) {
        if !self.erased.insert(run.clone()) {
            return;
        }
        for event in self.histories.get_mut(run).into_iter().flatten() {
            let sha256 = sha256_hex(event.data.get().as_bytes());
            event.data = erasure::value(&sha256);
            event.data_sha256 = Some(sha256.into());
        }
        if let Some(row) = self.runs.get_mut(run) {
            row.input = erasure::payload(&row.input);
            row.output = row.output.as_ref().map(erasure::payload);
            row.error = row.error.as_ref().map(erasure::run_error);
        }
        for (_, step) in self.steps.range_mut((run.clone(), 0)..=(run.clone(), u64::MAX)) {
            step.error = step.error.as_ref().map(erasure::failure);
        }
        for approval in self.approvals.values_mut().filter(|approval| approval.run == *run) {
            erasure::ERASED.clone_into(&mut approval.message);
            approval.summary = None;
            approval.comment = None;
        }
        for event in self.emitted.iter_mut().filter(|event| event.run == *run) {
            event.payload = Payload::Inline(erasure::nothing());
        }
        for session in self.sessions.iter_mut().filter(|session| session.run == *run) {
            session.name = session.agent.clone();
        }
        self.session_lines.retain(|(id, ..), _| id != run);
        self.snapshots.remove(run);
        self.items.retain(|(id, ..), _| id != run);
        self.logs.retain(|line| line.run != *run);
        for sha256 in self.blob_refs.remove(run).unwrap_or_default() {
            if !self.blob_refs.values().any(|others| others.contains(&sha256)) {
                self.blobs.remove(&sha256);
            }
        }
    }

    fn delete(&mut self, run: &RunId) {
        self.runs.remove(run);
        self.erased.remove(run);
        self.histories.remove(run);
        self.steps.retain(|(id, _), _| id != run);
        self.step_numbers.retain(|(id, _), _| id != run);
        self.approvals.retain(|_, approval| approval.run != *run);
        self.emitted.retain(|event| event.run != *run);
        self.artifacts.retain(|file| file.run != *run);
        self.sessions.retain(|session| session.run != *run);
        self.session_lines.retain(|(id, ..), _| id != run);
        self.idempotency.retain(|_, (id, _)| id != run);
        // What a finished run has none of goes as well, if there is any.
        self.items.retain(|(id, ..), _| id != run);
        self.snapshots.remove(run);
        self.logs.retain(|line| line.run != *run);
        self.timers.retain(|(id, _), _| id != run);
        self.due.retain(|(_, id, _)| id != run);
        self.waiting.retain(|(_, id, _)| id != run);
        self.claimed.retain(|(id, _)| id != run);
        self.published.retain(|(id, _), _| id != run);
        self.journal.retain(|(id, ..), _| id != run);
        self.pins.remove(run);
        self.admissions.remove(run);
    }
}
