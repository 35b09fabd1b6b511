//! A journal in memory: for authors who try an action without a server, and for tests.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::ids::{RunId, StepId};
use caisson_core::ports::{
    ArtifactRow, Cursor, Effect, EmittedEvent, EntryKey, Journal, JournalError, KvScope, Page, PageRequest, Record,
    SessionChange, SessionLine, SessionRow, StoreError,
};
use parking_lot::Mutex;

/// Keeps everything until it is dropped. Fences nothing: there is one host, and it runs an entry at a time.
#[derive(Default)]
pub struct MemoryJournal(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// By run, step, attempt and entry: whoever has the claim.
    records: HashMap<(RunId, u64, u32, u32), Vec<Record>>,
    values: HashMap<KvScope, BTreeMap<String, Vec<u8>>>,
    /// Oldest first.
    events: Vec<EmittedEvent>,
    artifacts: BTreeMap<Arc<str>, ArtifactRow>,
    /// In the order of their beginning, each with its lines.
    sessions: Vec<(SessionRow, Vec<SessionLine>)>,
}

impl MemoryJournal {
    /// The business events so far, oldest first.
    pub fn events(&self) -> Vec<EmittedEvent> {
        self.0.lock().events.clone()
    }
}

fn place(entry: &EntryKey) -> (RunId, u64, u32, u32) {
    (entry.run.clone(), entry.step, entry.attempt, entry.entry)
}

impl Kept {
    /// All or nothing.
    fn apply(&mut self, effects: &[Effect]) -> Result<(), JournalError> {
        for effect in effects {
            if let Effect::SetKey { scope, key, value, max_keys, max_bytes } = effect {
                self.check_quota(scope, key, value, *max_keys, *max_bytes)?;
            }
        }
        for effect in effects.iter().cloned() {
            match effect {
                Effect::SetKey { scope, key, value, .. } => {
                    self.values.entry(scope).or_default().insert(key, value);
                }
                Effect::DeleteKey { scope, key } => {
                    if let Some(values) = self.values.get_mut(&scope) {
                        values.remove(&key);
                    }
                }
                Effect::Emit(event) => {
                    if self.events.iter().all(|known| known.id != event.id) {
                        self.events.push(event);
                    }
                }
                Effect::Artifact(row) => {
                    self.artifacts.insert(Arc::clone(&row.id), row);
                }
                Effect::Session(change) => {
                    let SessionChange { row, first, lines } = *change;
                    let lines = (first..).zip(lines).map(|(number, line)| SessionLine { number, line });
                    match self.sessions.iter_mut().find(|(known, _)| known.id == row.id) {
                        Some((known, kept)) => {
                            *known = row;
                            kept.extend(lines);
                        }
                        None => self.sessions.push((row, lines.collect())),
                    }
                }
            }
        }
        Ok(())
    }

    fn check_quota(
        &self,
        scope: &KvScope,
        key: &str,
        value: &[u8],
        max_keys: u64,
        max_bytes: u64,
    ) -> Result<(), JournalError> {
        let others = || self.values.get(scope).into_iter().flatten().filter(|(other, _)| *other != key);
        if others().count() as u64 + 1 > max_keys {
            return Err(JournalError::Quota(format!("there would be more than {max_keys} keys")));
        }
        let bytes: usize = others().map(|(key, value)| key.len() + value.len()).sum();
        if (bytes + key.len() + value.len()) as u64 > max_bytes {
            return Err(JournalError::Quota(format!("keys and values would have more than {max_bytes} bytes")));
        }
        Ok(())
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn records(&self, entry: &EntryKey) -> Result<Vec<Record>, StoreError> {
        Ok(self.0.lock().records.get(&place(entry)).cloned().unwrap_or_default())
    }

    async fn append(
        &self,
        entry: &EntryKey,
        number: u32,
        record: &Record,
        effects: &[Effect],
    ) -> Result<(), JournalError> {
        let mut kept = self.0.lock();
        let there = kept.records.get(&place(entry)).map_or(0, Vec::len);
        match usize::try_from(number) {
            Ok(number) if number == there => {}
            // The same once more.
            Ok(number) if number < there => return Ok(()),
            _ => return Err(JournalError::Store(StoreError::Invalid(format!("record {number} has none before it")))),
        }
        kept.apply(effects)?;
        kept.records.entry(place(entry)).or_default().push(record.clone());
        Ok(())
    }

    async fn apply(&self, effects: &[Effect]) -> Result<(), JournalError> {
        self.0.lock().apply(effects)
    }

    async fn kv_get(&self, scope: &KvScope, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.lock().values.get(scope).and_then(|values| values.get(key)).cloned())
    }

    async fn kv_keys(&self, scope: &KvScope, prefix: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        let kept = self.0.lock();
        let keys = kept.values.get(scope).into_iter().flat_map(|values| values.keys());
        Ok(keys.filter(|key| key.starts_with(prefix)).take(limit as usize).cloned().collect())
    }

    async fn artifact(&self, id: &str) -> Result<Option<ArtifactRow>, StoreError> {
        Ok(self.0.lock().artifacts.get(id).cloned())
    }

    async fn artifacts(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<ArtifactRow>, StoreError> {
        let rows = self.0.lock().artifacts.values().filter(|row| row.run == *run).cloned().collect::<Vec<_>>();
        let rows = rows.into_iter().filter(|row| step.is_none_or(|step| row.step_id == *step)).collect();
        newest(rows, page, |row| Cursor::new(row.at.0, &*row.id))
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
            &*event.realm.tenant == tenant
                && environment.is_none_or(|environment| &*event.realm.environment == environment)
                && run.is_none_or(|run| event.run == *run)
                && name.is_none_or(|name| &*event.name == name)
        };
        let rows = self.0.lock().events.iter().filter(|event| wanted(event)).cloned().collect();
        newest(rows, page, |event| Cursor::new(event.at.0, &*event.id))
    }

    async fn session(&self, id: &str) -> Result<Option<SessionRow>, StoreError> {
        let kept = self.0.lock();
        Ok(kept.sessions.iter().map(|(row, _)| row).find(|row| *row.id == *id).cloned())
    }

    async fn sessions(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<SessionRow>, StoreError> {
        let after = page.after()?.map_or(0, |cursor| cursor.at);
        let kept = self.0.lock();
        let wanted = |row: &SessionRow| row.run == *run && step.is_none_or(|step| row.step_id == *step);
        let rows = (1_i64..).zip(&kept.sessions).filter(|(number, (row, _))| *number > after && wanted(row));
        let page = Page::cut(rows.collect::<Vec<_>>(), page, |(number, _)| Cursor::new(*number, ""));
        Ok(Page { items: page.items.into_iter().map(|(_, (row, _))| row.clone()).collect(), next: page.next })
    }

    async fn session_lines(
        &self,
        _: &RunId,
        session: &str,
        after: u32,
        limit: u32,
    ) -> Result<Vec<SessionLine>, StoreError> {
        let kept = self.0.lock();
        let lines = kept.sessions.iter().filter(|(row, _)| *row.id == *session).flat_map(|(_, lines)| lines);
        Ok(lines.filter(|line| line.number > after).take(limit as usize).cloned().collect())
    }
}

/// A page, newest first.
fn newest<T>(mut rows: Vec<T>, page: &PageRequest, key: impl Fn(&T) -> Cursor) -> Result<Page<T>, StoreError> {
    let after = page.after()?;
    rows.sort_by_key(|row| std::cmp::Reverse(key(row)));
    rows.retain(|row| after.as_ref().is_none_or(|after| key(row) < *after));
    Ok(Page::cut(rows, page, key))
}
