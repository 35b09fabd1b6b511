//! The journal's port: appends go to the writer, everything else is read.

use async_trait::async_trait;
use caisson_core::ids::{RunId, StepId};
use caisson_core::ports::{
    ArtifactRow, Cursor, Effect, EmittedEvent, EntryKey, Journal, JournalError, KvScope, Page, PageRequest, Record,
    SessionLine, SessionRow, StoreError,
};
use sqlx::AssertSqlSafe;
use tokio::sync::oneshot;

use super::append::Append;
use super::commit;
use super::read::{all, fetch_size, one};
use super::sql;
use super::writer::Job;
use super::{Adapter, closed, rows};
use crate::statement::lists::EmittedShape;

#[async_trait]
impl Journal for Adapter {
    async fn records(&self, entry: &EntryKey) -> Result<Vec<Record>, StoreError> {
        let query = query!(
            RECORDS,
            entry.run.as_str(),
            entry.step.cast_signed(),
            i64::from(entry.attempt),
            i64::from(entry.entry)
        );
        rows::every(&all(&self.readers, query).await?, rows::record)
    }

    async fn append(
        &self,
        entry: &EntryKey,
        number: u32,
        record: &Record,
        effects: &[Effect],
    ) -> Result<(), JournalError> {
        let place = Some((entry.clone(), number, record.clone()));
        self.hand_in(Append { place, effects: effects.to_vec() }).await
    }

    async fn apply(&self, effects: &[Effect]) -> Result<(), JournalError> {
        self.hand_in(Append { place: None, effects: effects.to_vec() }).await
    }

    async fn kv_get(&self, scope: &KvScope, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let query = query!(
            KV_GET,
            &*scope.realm.tenant,
            &*scope.realm.environment,
            &*scope.plugin,
            &*scope.workflow,
            commit::kv_key(key)
        );
        one(&self.readers, query, rows::bytes).await
    }

    async fn kv_keys(&self, scope: &KvScope, prefix: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        let query = query!(
            KV_KEYS,
            &*scope.realm.tenant,
            &*scope.realm.environment,
            &*scope.plugin,
            &*scope.workflow,
            commit::kv_key(prefix),
            i64::from(limit)
        );
        let mut keys = rows::every(&all(&self.readers, query).await?, commit::kv_key_of)?;
        // They are sorted: those that begin so come first.
        keys.truncate(keys.iter().take_while(|key| key.starts_with(prefix)).count());
        Ok(keys)
    }

    async fn artifact(&self, id: &str) -> Result<Option<ArtifactRow>, StoreError> {
        Ok(one(&self.readers, query!(ARTIFACT, id), rows::artifact).await?.map(|(_, file)| file))
    }

    async fn artifacts(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<ArtifactRow>, StoreError> {
        let (at, number) = before(page)?;
        let query = query!(ARTIFACTS, run.as_str(), step.map(StepId::as_str), at, number, fetch_size(page));
        let files = rows::every(&all(&self.readers, query).await?, rows::artifact)?;
        Ok(cut(files, page, |file| file.at.0))
    }

    async fn emitted(
        &self,
        tenant: &str,
        environment: Option<&str>,
        run: Option<&RunId>,
        name: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<EmittedEvent>, StoreError> {
        let (at, number) = before(page)?;
        let shape = EmittedShape { environment: environment.is_some(), run: run.is_some(), name: name.is_some() };
        let query = sqlx::query(AssertSqlSafe(sql::emitted(shape)))
            .bind(tenant)
            .bind(environment)
            .bind(run.map(RunId::as_str))
            .bind(name)
            .bind(at)
            .bind(number)
            .bind(fetch_size(page));
        let events = rows::every(&all(&self.readers, query).await?, rows::emitted)?;
        Ok(cut(events, page, |event| event.at.0))
    }

    async fn session(&self, id: &str) -> Result<Option<SessionRow>, StoreError> {
        Ok(one(&self.readers, query!(SESSION, id), rows::session).await?.map(|(_, session)| session))
    }

    async fn sessions(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<SessionRow>, StoreError> {
        let after = page.after()?.map_or(0, |cursor| cursor.at);
        let query = query!(SESSIONS, run.as_str(), step.map(StepId::as_str), after, fetch_size(page));
        let sessions = rows::every(&all(&self.readers, query).await?, rows::session)?;
        let page = Page::cut(sessions, page, |(number, _)| Cursor::new(*number, ""));
        Ok(Page { items: page.items.into_iter().map(|(_, session)| session).collect(), next: page.next })
    }

    async fn session_lines(
        &self,
        run: &RunId,
        session: &str,
        after: u32,
        limit: u32,
    ) -> Result<Vec<SessionLine>, StoreError> {
        let query = query!(SESSION_LINES, run.as_str(), session, i64::from(after), i64::from(limit));
        rows::every(&all(&self.readers, query).await?, rows::session_line)
    }
}

impl Adapter {
    async fn hand_in(&self, append: Append) -> Result<(), JournalError> {
        let (answer, result) = oneshot::channel();
        self.send(Job::Append(Box::new(append), answer)).await?;
        result.await.map_err(|_| JournalError::Store(closed()))?
    }
}

/// Time and number of the last item of the page before: the list goes on below them.
fn before(page: &PageRequest) -> Result<(i64, i64), StoreError> {
    let Some(cursor) = page.after()? else { return Ok((i64::MAX, i64::MAX)) };
    let number = cursor.id.parse();
    let number = number.map_err(|_| StoreError::Invalid("cursor is not one that this list gave".to_owned()))?;
    Ok((cursor.at, number))
}

/// A page of numbered rows.
fn cut<T>(rows: Vec<(i64, T)>, page: &PageRequest, at: impl Fn(&T) -> i64) -> Page<T> {
    let page = Page::cut(rows, page, |(number, row)| Cursor::new(at(row), number.to_string()));
    Page { items: page.items.into_iter().map(|(_, row)| row).collect(), next: page.next }
}
