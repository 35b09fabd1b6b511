//! API keys, and the lines that guests wrote.

use std::sync::Arc;

use caisson_core::ids::{RunId, StepId};
use caisson_core::ports::{ApiKeyRow, Cursor, HostLogLine, Page, PageRequest, StoreError};
use caisson_core::time::Timestamp;

use super::commit;
use super::read::{all, fetch_size};
use super::{Adapter, error, rows, writer};
use crate::encode::{Rows, texts};

impl Adapter {
    pub(super) async fn insert_key(&self, key: ApiKeyRow) -> Result<(), StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                writer::note_time(connection, key.created_at).await?;
                let done = query!(
                    KEY_INSERT,
                    key.id.as_ref(),
                    key.key_hash.as_ref(),
                    key.tenant.as_ref(),
                    key.actor.as_ref(),
                    texts(key.teams.iter().map(String::as_str)),
                    key.role.as_ref(),
                    key.created_at.0,
                    key.last_used_at.map(|at| at.0),
                    key.revoked_at.map(|at| at.0)
                )
                .execute(connection)
                .await;
                match done {
                    Ok(_) => Ok(()),
                    Err(e) if error::is_duplicate(&e) => {
                        Err(StoreError::Conflict(format!("key {} exists already", key.id)))
                    }
                    Err(e) => Err(error::of(&e)),
                }
            })
        })
        .await
    }

    pub(super) async fn end_key(&self, tenant: &str, id: &str, at: Timestamp) -> Result<bool, StoreError> {
        let (tenant, id) = (tenant.to_owned(), id.to_owned());
        self.write(move |connection| {
            Box::pin(async move {
                writer::note_time(connection, at).await?;
                let query = query!(KEY_REVOKE, tenant, id, at.0);
                Ok(query.execute(connection).await.map_err(|e| error::of(&e))?.rows_affected() > 0)
            })
        })
        .await
    }

    pub(super) async fn note_key_use(&self, used: &[(Arc<str>, Timestamp)]) -> Result<(), StoreError> {
        let Some(latest) = used.iter().map(|(_, at)| *at).max() else { return Ok(()) };
        let mut list = Rows::default();
        for (id, at) in used {
            list.row(|r| {
                r.text(id).int(at.0);
            });
        }
        let list = list.finish();
        self.write(move |connection| {
            Box::pin(async move {
                writer::note_time(connection, latest).await?;
                let done = query!(KEYS_TOUCH, list).execute(connection).await;
                done.map(drop).map_err(|e| error::of(&e))
            })
        })
        .await
    }

    pub(super) async fn insert_logs(&self, lines: &[HostLogLine]) -> Result<(), StoreError> {
        let Some(latest) = lines.iter().map(|line| line.line.at).max() else { return Ok(()) };
        let mut list = Rows::default();
        for HostLogLine { run, step, line } in lines {
            list.row(|r| {
                r.text(run.as_str()).text(step.as_str()).int(line.at.0).opt(line.level.map(rows::log_level_text));
                r.text(&line.message).opt(line.fields.as_deref()).opt_count(line.percent.map(u64::from));
            });
        }
        let list = commit::fit(list.finish());
        self.write(move |connection| {
            Box::pin(async move {
                writer::note_time(connection, latest).await?;
                let done = query!(LOGS_INSERT, list).execute(connection).await;
                done.map(drop).map_err(|e| error::of(&e))
            })
        })
        .await
    }

    pub(super) async fn list_logs(
        &self,
        run: &RunId,
        step: Option<&StepId>,
        page: &PageRequest,
    ) -> Result<Page<HostLogLine>, StoreError> {
        let after = page.after()?.map_or(0, |cursor| cursor.at);
        let query = query!(LOGS, run.as_str(), step.map(StepId::as_str), after, fetch_size(page));
        let lines = rows::every(&all(&self.readers, query).await?, rows::log)?;
        let page = Page::cut(lines, page, |(number, _)| Cursor::new(*number, ""));
        Ok(Page { items: page.items.into_iter().map(|(_, line)| line).collect(), next: page.next })
    }
}
