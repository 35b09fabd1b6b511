//! The journal, and word of what was written into it for those who watch, here and at other hosts.

use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::ids::{RunId, StepId};
use caisson_core::ports::{
    ArtifactRow, Effect, EmittedEvent, EntryKey, EventSink, Journal, JournalError, KvScope, Page, PageRequest, Record,
    Said, SessionLine, SessionRow, StoreError,
};
use caisson_orchestrator::Live;

/// Tells those who watch a run, here and at other hosts.
#[derive(Clone)]
pub struct Teller {
    /// Who watches here.
    pub live: Live,
    /// Other hosts, if there are any.
    pub elsewhere: Option<Arc<dyn EventSink>>,
}

impl Teller {
    /// A guest wrote or emitted something.
    pub fn said(&self, run: &RunId, said: Said) {
        if let Some(sink) = &self.elsewhere {
            sink.said(run, &said);
        }
        self.live.said(run, said);
    }

    fn session(&self, session: &SessionRow) {
        if let Some(sink) = &self.elsewhere {
            sink.session(session);
        }
        self.live.session(session);
    }
}

/// Tells of business events and of sessions once they are stored.
pub struct Announcing {
    journal: Arc<dyn Journal>,
    teller: Teller,
}

impl Announcing {
    /// Around a journal.
    pub fn new(journal: Arc<dyn Journal>, teller: Teller) -> Self {
        Self { journal, teller }
    }

    fn announce(&self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Emit(event) => self.teller.said(&event.run, Said::Emitted(Box::new(event.clone()))),
                Effect::Session(change) => self.teller.session(&change.row),
                Effect::SetKey { .. } | Effect::DeleteKey { .. } | Effect::Artifact(_) => {}
            }
        }
    }
}

#[async_trait]
impl Journal for Announcing {
    async fn records(&self, entry: &EntryKey) -> Result<Vec<Record>, StoreError> {
        self.journal.records(entry).await
    }

    async fn append(
        &self,
        entry: &EntryKey,
        number: u32,
        record: &Record,
        effects: &[Effect],
    ) -> Result<(), JournalError> {
        self.journal.append(entry, number, record, effects).await?;
        self.announce(effects);
        Ok(())
    }

    async fn apply(&self, effects: &[Effect]) -> Result<(), JournalError> {
        self.journal.apply(effects).await?;
        self.announce(effects);
        Ok(())
    }

    async fn kv_get(&self, scope: &KvScope, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.journal.kv_get(scope, key).await
    }

    async fn kv_keys(&self, scope: &KvScope, prefix: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        self.journal.kv_keys(scope, prefix, limit).await
    }

    async fn artifact(&self, id: &str) -> Result<Option<ArtifactRow>, StoreError> {
        self.journal.artifact(id).await
    }

    async fn artifacts(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<ArtifactRow>, StoreError> {
        self.journal.artifacts(run, step, page).await
    }

    async fn emitted(
        &self,
        tenant: &str,
        environment: Option<&str>,
        run: Option<&RunId>,
        name: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<EmittedEvent>, StoreError> {
        self.journal.emitted(tenant, environment, run, name, page).await
    }

    async fn session(&self, id: &str) -> Result<Option<SessionRow>, StoreError> {
        self.journal.session(id).await
    }

    async fn sessions(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<SessionRow>, StoreError> {
        self.journal.sessions(run, step, page).await
    }

    async fn session_lines(
        &self,
        run: &RunId,
        session: &str,
        after: u32,
        limit: u32,
    ) -> Result<Vec<SessionLine>, StoreError> {
        self.journal.session_lines(run, session, after, limit).await
    }
}
