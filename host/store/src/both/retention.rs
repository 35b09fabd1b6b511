//! What is left of finished runs: read beside the writer, erased and deleted by it, a part at a time.
//!
//! A finished run never moves again, so what was read outside of the transaction is still so within it.

use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::engine::erasure;
use caisson_core::ids::{Realm, RunId};
use caisson_core::json::{Blob, Json, sha256_hex};
use caisson_core::ports::{Pruning, RunRow, Stage, StoreError, VersionRow};
use caisson_core::time::Timestamp;

use super::read::{all, one};
use super::{Adapter, Connection, Select, commit, error, rows, writer};
use crate::encode::{Rows, payload_text, texts};

#[async_trait]
impl Pruning for Adapter {
    async fn workflows(&self, after: Option<(&Realm, &str)>, limit: u32) -> Result<Vec<VersionRow>, StoreError> {
        let (tenant, environment, id) =
            after.map_or(("", "", ""), |(realm, id)| (&*realm.tenant, &*realm.environment, id));
        rows::every(
            &all(&self.readers, query!(WORKFLOWS, tenant, environment, id, i64::from(limit))).await?,
            rows::version,
        )
    }

    async fn ended(
        &self,
        realm: &Realm,
        workflow: &str,
        stage: Stage,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<RunId>, StoreError> {
        let (tenant, environment) = (&*realm.tenant, &*realm.environment);
        let query = match stage {
            Stage::Whole => query!(ENDED_WHOLE, tenant, environment, workflow, before.0, i64::from(limit)),
            Stage::Erased => query!(ENDED_ERASED, tenant, environment, workflow, before.0, i64::from(limit)),
        };
        rows::every(&all(&self.readers, query).await?, rows::run_id)
    }

    async fn files(&self, run: &RunId, limit: u32) -> Result<Vec<Arc<str>>, StoreError> {
        let paths: Vec<String> =
            rows::every(&all(&self.readers, query!(FILES, run.as_str(), i64::from(limit))).await?, rows::name)?;
        Ok(paths.into_iter().map(Arc::from).collect())
    }

    async fn forget_files(&self, run: &RunId, paths: &[Arc<str>]) -> Result<(), StoreError> {
        let (run, paths) = (run.as_str().to_owned(), texts(paths.iter().map(AsRef::as_ref)));
        self.write(move |connection| {
            Box::pin(async move { changed(connection, query!(FILES_FORGET, run, paths)).await.map(drop) })
        })
        .await
    }

    async fn values(&self, run: &RunId, after: Option<&str>, limit: u32) -> Result<Vec<Blob>, StoreError> {
        let query = query!(BLOBS_OF_RUN, run.as_str(), after.unwrap_or_default(), i64::from(limit));
        rows::every(&all(&self.readers, query).await?, rows::blob)
    }

    async fn erase(&self, run: &RunId, after: u64, limit: u32, at: Timestamp) -> Result<Option<u64>, StoreError> {
        let Some(row) = one(&self.readers, query!(RUN, run.as_str()), rows::run).await? else { return Ok(None) };
        if !row.status.is_terminal() {
            return Err(StoreError::Invalid(format!("run {run} has not ended")));
        }
        let erased = one(&self.readers, query!(IS_ERASED, run.as_str()), rows::flag).await?;
        if erased != Some(false) {
            return Ok(None);
        }
        let part = self.part(row, after, limit).await?;
        self.write(move |connection| Box::pin(async move { part.erase(connection, limit, at).await })).await
    }

    async fn delete(&self, run: &RunId, limit: u32) -> Result<bool, StoreError> {
        match one(&self.readers, query!(IS_ERASED, run.as_str()), rows::flag).await? {
            None => return Ok(true),
            Some(false) => return Err(StoreError::Invalid(format!("the data of run {run} is not erased"))),
            Some(true) => {}
        }
        let run = run.as_str().to_owned();
        self.write(move |connection| {
            Box::pin(async move {
                let events = changed(connection, query!(DELETE_EVENTS, &*run, i64::from(limit))).await?;
                let steps = changed(connection, query!(DELETE_STEPS, &*run, i64::from(limit))).await?;
                if events >= limit.into() || steps >= limit.into() {
                    return Ok(false);
                }
                changed(connection, query!(DELETE_RUN, &*run)).await?;
                Ok(true)
            })
        })
        .await
    }
}

/// What one call erases.
struct Part {
    row: RunRow,
    /// Numbers and hashes of events.
    events: String,
    /// Hashes of large values.
    blobs: Option<String>,
    /// The event to go on after.
    after: u64,
    /// Whether there may be more events or large values.
    more: bool,
}

impl Adapter {
    async fn part(&self, row: RunRow, after: u64, limit: u32) -> Result<Part, StoreError> {
        let from = i64::try_from(after).unwrap_or(i64::MAX);
        let found = all(&self.readers, query!(EVENTS_WHOLE, row.id.as_str(), from, i64::from(limit))).await?;
        let events = rows::every(&found, |c| Ok((c.count()?, c.get::<String>()?)))?;
        let found = all(&self.readers, query!(BLOB_REFS, row.id.as_str(), i64::from(limit))).await?;
        let blobs: Vec<String> = rows::every(&found, rows::name)?;
        let mut hashes = Rows::default();
        for (seq, data) in &events {
            hashes.row(|r| {
                r.count(*seq).text(&sha256_hex(data.as_bytes()));
            });
        }
        let full = |count: usize| count >= limit as usize;
        Ok(Part {
            after: events.last().map_or(after, |(seq, _)| *seq),
            more: full(events.len()) || full(blobs.len()),
            events: hashes.finish(),
            blobs: (!blobs.is_empty()).then(|| texts(blobs.iter().map(String::as_str))),
            row,
        })
    }
}

impl Part {
    async fn erase(self, connection: &mut Connection, limit: u32, at: Timestamp) -> Result<Option<u64>, StoreError> {
        let Self { row, events, blobs, after, more } = self;
        let (run, realm) = (row.id.as_str(), &row.realm);
        writer::note_time(connection, at).await?;
        changed(connection, query!(ERASE_EVENTS, run, events)).await?;
        if let Some(blobs) = blobs {
            commit::lock_blobs(connection, realm, &blobs).await?;
            changed(connection, query!(ERASE_BLOBS, run, &*realm.tenant, &*realm.environment, blobs)).await?;
        }
        let logs = changed(connection, query!(ERASE_LOGS, run, i64::from(limit))).await?;
        let lines = changed(connection, query!(ERASE_SESSION_LINES, run, i64::from(limit))).await?;
        if more || logs >= limit.into() || lines >= limit.into() {
            return Ok(Some(after));
        }
        let input = payload_text(&erasure::payload(&row.input));
        let output = row.output.as_ref().map(|output| payload_text(&erasure::payload(output)));
        let error = row.error.as_ref().map(|error| erasure::run_error(error).get().to_owned());
        let nothing = payload_text(&caisson_core::json::Payload::Inline(erasure::nothing()));
        changed(connection, query!(ERASE_RUN, run, input, output, error, at.0, nothing)).await?;
        Ok(None)
    }
}

/// How many rows a statement changed.
async fn changed(connection: &mut Connection, query: Select<'_>) -> Result<u64, StoreError> {
    Ok(query.execute(connection).await.map_err(|e| error::of(&e))?.rows_affected())
}

/// What is stored of an event's data.
pub(super) fn data(stored: String, sha256: Option<&str>) -> Result<Json, serde_json::Error> {
    match sha256 {
        Some(sha256) => Ok(erasure::value(sha256)),
        None => Json::parse(stored),
    }
}
