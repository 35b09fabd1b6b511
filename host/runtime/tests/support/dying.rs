//! A journal of a host that dies.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use caisson_core::ids::{RunId, StepId};
use caisson_core::ports::{
    ArtifactRow, Effect, EmittedEvent, EntryKey, Journal, JournalError, KvScope, Page, PageRequest, Record,
    SessionLine, SessionRow, StoreError,
};
use caisson_runtime::MemoryJournal;
use parking_lot::Mutex;

/// Stores records, counts them, and after so many never answers again, as a host does that died.
pub struct Dying {
    pub kept: MemoryJournal,
    pub appended: Mutex<Vec<u32>>,
    pub left: AtomicU32,
    pub superseded_at: u32,
    pub died: tokio::sync::Notify,
}

impl Dying {
    pub fn after(appends: u32) -> Self {
        Self {
            kept: MemoryJournal::default(),
            appended: Mutex::default(),
            left: AtomicU32::new(appends),
            superseded_at: u32::MAX,
            died: tokio::sync::Notify::new(),
        }
    }
}

#[async_trait]
impl Journal for Dying {
    async fn records(&self, entry: &EntryKey) -> Result<Vec<Record>, StoreError> {
        self.kept.records(entry).await
    }

    async fn append(
        &self,
        entry: &EntryKey,
        number: u32,
        record: &Record,
        effects: &[Effect],
    ) -> Result<(), JournalError> {
        if number == self.superseded_at {
            return Err(JournalError::Superseded);
        }
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
        self.appended.lock().push(number);
        self.kept.append(entry, number, record, effects).await
    }

    async fn apply(&self, effects: &[Effect]) -> Result<(), JournalError> {
        self.kept.apply(effects).await
    }

    async fn kv_get(&self, scope: &KvScope, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.kept.kv_get(scope, key).await
    }

    async fn kv_keys(&self, scope: &KvScope, prefix: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        self.kept.kv_keys(scope, prefix, limit).await
    }

    async fn artifact(&self, id: &str) -> Result<Option<ArtifactRow>, StoreError> {
        self.kept.artifact(id).await
    }

    async fn artifacts(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<ArtifactRow>, StoreError> {
        self.kept.artifacts(run, step, page).await
    }

    async fn emitted(
        &self,
        tenant: &str,
        environment: Option<&str>,
        run: Option<&RunId>,
        name: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<EmittedEvent>, StoreError> {
        self.kept.emitted(tenant, environment, run, name, page).await
    }

    async fn session(&self, id: &str) -> Result<Option<SessionRow>, StoreError> {
        self.kept.session(id).await
    }

    async fn sessions(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<SessionRow>, StoreError> {
        self.kept.sessions(run, step, page).await
    }

    async fn session_lines(
        &self,
        run: &RunId,
        session: &str,
        after: u32,
        limit: u32,
    ) -> Result<Vec<SessionLine>, StoreError> {
        self.kept.session_lines(run, session, after, limit).await
    }
}
