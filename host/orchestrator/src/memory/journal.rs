//! Journals and what guests leave behind, in memory.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::engine::StepNo;
use caisson_core::ids::{RunId, StepId};
use caisson_core::ports::{
    ArtifactRow, Cursor, Effect, EmittedEvent, EntryKey, Journal, JournalError, KvScope, Page, PageRequest, Record,
    SessionChange, SessionLine, SessionRow, StoreError,
};
use caisson_core::status::StepStatus;

use super::state::State;
use super::{MemoryStore, some};

#[async_trait]
impl Journal for MemoryStore {
    async fn records(&self, entry: &EntryKey) -> Result<Vec<Record>, StoreError> {
        let range = place(entry, 0)..=place(entry, u32::MAX);
        Ok(self.open()?.journal.range(range).map(|(_, record)| record.clone()).collect())
    }

    async fn append(
        &self,
        entry: &EntryKey,
        number: u32,
        record: &Record,
        effects: &[Effect],
    ) -> Result<(), JournalError> {
        let mut state = self.open_with_room()?;
        if !state.holds(entry) {
            return Err(JournalError::Superseded);
        }
        if let Some(there) = state.journal.get(&place(entry, number)) {
            return if there == record { Ok(()) } else { Err(JournalError::Superseded) };
        }
        if number > 0 && !state.journal.contains_key(&place(entry, number - 1)) {
            let message =
                format!("record {number} of step {} of run {} does not follow the last one", entry.step, entry.run);
            return Err(StoreError::Other(message).into());
        }
        state.apply(effects)?;
        state.journal.insert(place(entry, number), record.clone());
        Ok(())
    }

    async fn apply(&self, effects: &[Effect]) -> Result<(), JournalError> {
        self.open_with_room()?.apply(effects)
    }

    async fn kv_get(&self, scope: &KvScope, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.open()?.kv.get(scope).and_then(|keys| keys.get(key)).cloned())
    }

    async fn kv_keys(&self, scope: &KvScope, prefix: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        let state = self.open()?;
        let Some(keys) = state.kv.get(scope) else { return Ok(Vec::new()) };
        Ok(some(keys.keys().filter(|key| key.starts_with(prefix)).cloned(), limit))
    }

    async fn artifact(&self, id: &str) -> Result<Option<ArtifactRow>, StoreError> {
        Ok(self.open()?.artifacts.iter().find(|file| *file.id == *id).cloned())
    }

    async fn artifacts(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<ArtifactRow>, StoreError> {
        let wanted = |file: &ArtifactRow| file.run == *run && step.is_none_or(|step| file.step_id == *step);
        latest_first(&self.open()?.artifacts, page, wanted, |file| file.at.0)
    }

    async fn emitted(
        &self,
        tenant: &str,
        environment: Option<&str>,
        run: Option<&RunId>,
        name: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<EmittedEvent>, StoreError> {
        let wanted = |event: &EmittedEvent| {
            *event.realm.tenant == *tenant
                && environment.is_none_or(|environment| *event.realm.environment == *environment)
                && run.is_none_or(|run| event.run == *run)
                && name.is_none_or(|name| *event.name == *name)
        };
        latest_first(&self.open()?.emitted, page, wanted, |event| event.at.0)
    }

    async fn session(&self, id: &str) -> Result<Option<SessionRow>, StoreError> {
        Ok(self.open()?.sessions.iter().find(|session| *session.id == *id).cloned())
    }

    async fn sessions(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<SessionRow>, StoreError> {
        let after = page.after()?.map_or(0, |cursor| cursor.at);
        let state = self.open()?;
        let wanted = |session: &SessionRow| session.run == *run && step.is_none_or(|step| session.step_id == *step);
        let rows = (1_i64..).zip(&state.sessions).filter(|(number, session)| *number > after && wanted(session));
        let page = Page::cut(rows.collect::<Vec<_>>(), page, |(number, _)| Cursor::new(*number, ""));
        Ok(Page { items: page.items.into_iter().map(|(_, session)| session.clone()).collect(), next: page.next })
    }

    async fn session_lines(
        &self,
        run: &RunId,
        session: &str,
        after: u32,
        limit: u32,
    ) -> Result<Vec<SessionLine>, StoreError> {
        let (first, last) = (after.saturating_add(1), u32::MAX);
        let range = (run.clone(), Arc::from(session), first)..=(run.clone(), Arc::from(session), last);
        let state = self.open()?;
        let lines = state.session_lines.range(range);
        Ok(some(lines.map(|((.., number), line)| SessionLine { number: *number, line: line.clone() }), limit))
    }
}

fn place(entry: &EntryKey, number: u32) -> (RunId, StepNo, u32, u32, u32) {
    (entry.run.clone(), entry.step, entry.attempt, entry.entry, number)
}

/// By time, then by the order of coming.
fn latest_first<T: Clone>(
    rows: &[T],
    page: &PageRequest,
    wanted: impl Fn(&T) -> bool,
    at: impl Fn(&T) -> i64,
) -> Result<Page<T>, StoreError> {
    let before = match page.after()? {
        None => (i64::MAX, i64::MAX),
        Some(cursor) => {
            let number = cursor.id.parse();
            let number = number.map_err(|_| StoreError::Invalid("cursor is not one that this list gave".to_owned()))?;
            (cursor.at, number)
        }
    };
    let numbered = (1_i64..).zip(rows).filter(|(_, row)| wanted(row));
    let mut rows: Vec<(i64, &T)> = numbered.filter(|(number, row)| (at(row), *number) < before).collect();
    rows.sort_by_key(|(number, row)| Reverse((at(row), *number)));
    let page = Page::cut(rows, page, |(number, row)| Cursor::new(at(row), number.to_string()));
    Ok(Page { items: page.items.into_iter().map(|(_, row)| row.clone()).collect(), next: page.next })
}

impl State {
    /// Whether the step runs that attempt under that claim.
    fn holds(&self, entry: &EntryKey) -> bool {
        self.steps.get(&(entry.run.clone(), entry.step)).is_some_and(|step| {
            step.status == StepStatus::Running && step.attempt == entry.attempt && step.claim == entry.claim
        })
    }

    /// All or nothing: what was set before a quota was passed is put back.
    fn apply(&mut self, effects: &[Effect]) -> Result<(), JournalError> {
        let mut before = Vec::new();
        for effect in effects {
            match effect {
                Effect::SetKey { scope, key, value, max_keys, max_bytes } => {
                    let keys = self.kv.entry(scope.clone()).or_default();
                    if let Err(refused) = fits(keys, key, value, *max_keys, *max_bytes) {
                        self.put_back(before);
                        return Err(JournalError::Quota(refused));
                    }
                    before.push((scope, key, keys.insert(key.clone(), value.clone())));
                }
                Effect::DeleteKey { scope, key } => {
                    let keys = self.kv.entry(scope.clone()).or_default();
                    before.push((scope, key, keys.remove(key)));
                }
                Effect::Emit(_) | Effect::Artifact(_) | Effect::Session(_) => {}
            }
        }
        for effect in effects {
            match effect {
                Effect::Emit(event) => {
                    self.note_time(event.at);
                    if !self.emitted.iter().any(|known| known.id == event.id) {
                        self.emitted.push(event.clone());
                    }
                }
                Effect::Artifact(file) => {
                    self.note_time(file.at);
                    match self.artifacts.iter_mut().find(|known| known.id == file.id) {
                        Some(known) => known.clone_from(file),
                        None => self.artifacts.push(file.clone()),
                    }
                }
                Effect::Session(change) => self.put_session(change),
                Effect::SetKey { .. } | Effect::DeleteKey { .. } => {}
            }
        }
        Ok(())
    }

    fn put_session(&mut self, change: &SessionChange) {
        let SessionChange { row, first, lines } = change;
        self.note_time(row.updated_at);
        match self.sessions.iter_mut().find(|known| known.id == row.id) {
            Some(known) => {
                *known = SessionRow { created_at: known.created_at, name: known.name.clone(), ..row.clone() }
            }
            None => self.sessions.push(row.clone()),
        }
        for (number, line) in (*first..).zip(lines) {
            self.session_lines.entry((row.run.clone(), row.id.clone(), number)).or_insert_with(|| line.clone());
        }
    }

    fn put_back(&mut self, before: Vec<(&KvScope, &String, Option<Vec<u8>>)>) {
        for (scope, key, value) in before.into_iter().rev() {
            let keys = self.kv.entry(scope.clone()).or_default();
            match value {
                Some(value) => keys.insert(key.clone(), value),
                None => keys.remove(key),
            };
        }
    }

    /// The records of a step that has ended.
    pub(super) fn drop_records(&mut self, run: &RunId, step: StepNo) {
        let first = (run.clone(), step, 0, 0, 0);
        let last = (run.clone(), step, u32::MAX, u32::MAX, u32::MAX);
        let keys: Vec<_> = self.journal.range(first..=last).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.journal.remove(&key);
        }
    }
}

/// Whether a value may be set; else what to tell the guest.
fn fits(
    there: &BTreeMap<String, Vec<u8>>,
    key: &str,
    value: &[u8],
    max_keys: u64,
    max_bytes: u64,
) -> Result<(), String> {
    let others = || there.iter().filter(|(name, _)| *name != key);
    let keys = others().count() as u64 + 1;
    let bytes = others().map(|(name, value)| name.len() + value.len()).sum::<usize>() + key.len() + value.len();
    if keys > max_keys {
        return Err(format!(
            "kv: {keys} keys would pass the quota of {max_keys}; delete some, or have an operator raise kv.maxKeys"
        ));
    }
    if bytes as u64 > max_bytes {
        return Err(format!(
            "kv: {bytes} bytes of keys and values would pass the quota of {max_bytes}; delete some, or have an operator raise kv.maxBytes"
        ));
    }
    Ok(())
}
