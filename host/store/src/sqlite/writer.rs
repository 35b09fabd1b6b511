//! The one task that writes: it folds the commits that wait into one transaction.
//!
//! A batch is checked with one query and written with one text of statements, each taking all rows of its table as JSON: two
//! crossings to SQLite's thread and one fsync, however many commits there are. If that fails for a reason that may lie in one commit,
//! everything is rolled back and each commit is tried alone, so that only the bad one fails. If the disk is full, all are told so.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use caisson_core::ids::RunId;
use caisson_core::ports::{Commit, CommitError, StoreError};
use caisson_core::time::Timestamp;
use sqlx::{Connection, SqliteConnection, SqlitePool};
use tokio::sync::{mpsc, oneshot};

use super::checkpoint::{self, Checkpointer};
use super::error;
use super::lock::Lock;
use super::rows::Columns;
use super::sql::{Select, query};
use crate::batch::{self, Accepted, Head, Known};
use crate::encode::{Rows, Writes};

/// Commits in one transaction. Measured: the cost of a batch is spread thin from 50 on; 256 keep its latency under 10 ms.
const BATCH_COMMITS_MAX: usize = 256;

/// Bytes in one transaction: what a disk takes in some 20 ms, and what JSON texts of a batch may cost in memory, twice.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A future that borrows the writer's connection.
pub(crate) type Working<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// Something to do with the writer's connection; answers by itself.
pub(crate) type Work = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> Working<'c, ()> + Send>;

/// Where a commit's result goes.
pub(crate) type Answer = oneshot::Sender<Result<(), CommitError>>;

/// What the writer is asked for.
pub(crate) enum Job {
    /// Fold this in.
    Commit(Box<Commit>, Answer),
    /// Anything else, in a transaction of its own.
    Other(Work),
}

/// What was done, for whoever watches.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub commits: AtomicU64,
    pub batches: AtomicU64,
}

/// The task's belongings. The lock is let go when everything else is closed.
pub(crate) struct Writer {
    pub connection: SqliteConnection,
    pub jobs: mpsc::Receiver<Job>,
    pub checkpointer: Checkpointer,
    pub readers: SqlitePool,
    pub lock: Lock,
    pub tally: Arc<Tally>,
}

impl Writer {
    /// Works until the store is closed or dropped, and every job is done.
    pub(crate) async fn run(mut self) -> Result<(), StoreError> {
        let mut carried = None;
        loop {
            let job = match carried.take() {
                Some(job) => job,
                None => match self.jobs.recv().await {
                    Some(job) => job,
                    None => break,
                },
            };
            match job {
                Job::Other(work) => work(&mut self.connection).await,
                Job::Commit(commit, answer) => {
                    // Whoever is ready to commit as well gets the chance to join.
                    tokio::task::yield_now().await;
                    let (commits, next) = self.gather(commit, answer);
                    carried = next;
                    self.tally.commits.fetch_add(commits.len() as u64, Ordering::Relaxed);
                    self.tally.batches.fetch_add(1, Ordering::Relaxed);
                    write_batch(&mut self.connection, commits).await;
                }
            }
            if self.checkpointer.batch_done()
                && let Err(error) = checkpoint::checkpoint(&mut self.connection, "PRAGMA wal_checkpoint(PASSIVE)").await
            {
                tracing::warn!(%error, "failed to make a checkpoint");
            }
        }
        self.close().await
    }

    /// The commits that wait right behind the first one, and the job that ended the batch.
    fn gather(&mut self, commit: Box<Commit>, answer: Answer) -> (Vec<(Box<Commit>, Answer)>, Option<Job>) {
        let mut bytes = commit.size();
        let mut batch = vec![(commit, answer)];
        while batch.len() < BATCH_COMMITS_MAX && bytes < BATCH_BYTES_MAX {
            match self.jobs.try_recv() {
                Ok(Job::Commit(commit, answer)) => {
                    bytes += commit.size();
                    batch.push((commit, answer));
                }
                Ok(other) => return (batch, Some(other)),
                Err(_) => break,
            }
        }
        (batch, None)
    }

    async fn close(mut self) -> Result<(), StoreError> {
        self.checkpointer.stop().await;
        self.readers.close().await;
        let emptied = checkpoint::checkpoint(&mut self.connection, "PRAGMA wal_checkpoint(TRUNCATE)").await;
        let closed = self.connection.close().await.map_err(|e| error::of(&e));
        drop(self.lock);
        emptied?;
        closed
    }
}

/// Writes a batch and answers everyone in it.
async fn write_batch(connection: &mut SqliteConnection, batch: Vec<(Box<Commit>, Answer)>) {
    let (commits, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    let commits: Vec<&Commit> = commits.iter().map(AsRef::as_ref).collect();
    let results = match try_batch(connection, &commits).await {
        Ok(results) => results,
        Err(StoreError::Full(text)) => vec![Err(CommitError::Store(StoreError::Full(text))); commits.len()],
        Err(error) if commits.len() == 1 => vec![Err(CommitError::Store(error))],
        Err(error) => {
            tracing::warn!(%error, commits = commits.len(), "a batch failed; its commits are tried one by one");
            let mut results = Vec::with_capacity(commits.len());
            for commit in &commits {
                let alone = try_batch(connection, &[*commit]).await;
                results.push(alone.map_or_else(|e| Err(CommitError::Store(e)), |mut one| one.pop().unwrap_or(Ok(()))));
            }
            results
        }
    };
    for (answer, result) in answers.into_iter().zip(results) {
        // Nobody may be waiting any more; the commit stands all the same.
        drop(answer.send(result));
    }
}

/// Writes a batch in one transaction. An error means that nothing of it is stored.
async fn try_batch(
    connection: &mut SqliteConnection,
    commits: &[&Commit],
) -> Result<Vec<Result<(), CommitError>>, StoreError> {
    let done = write_waves(connection, commits).await;
    // Without a single commit that may be written there is no transaction to end well.
    if done.as_ref().map_or(true, |results| results.iter().all(Result::is_err)) {
        rollback(connection).await;
    }
    done
}

async fn write_waves(
    connection: &mut SqliteConnection,
    commits: &[&Commit],
) -> Result<Vec<Result<(), CommitError>>, StoreError> {
    let mut results: Vec<Result<(), CommitError>> = vec![Ok(()); commits.len()];
    let waves = batch::waves(commits);
    let last = waves.len() - 1;
    let mut latest = None;
    let mut any = false;
    for (number, wave) in waves.iter().enumerate() {
        let mut known = known(connection, number == 0, wave.iter().map(|place| commits[*place])).await?;
        let mut writes = Writes::default();
        let mut accepted = Vec::with_capacity(wave.len());
        for place in wave {
            match known.check(commits[*place]) {
                Ok(Accepted { settled }) => {
                    writes.add(commits[*place], settled);
                    accepted.push(commits[*place]);
                }
                Err(refusal) => results[*place] = Err(refusal),
            }
        }
        any |= !accepted.is_empty();
        if !any {
            continue;
        }
        latest = latest.max(accepted.iter().filter_map(|commit| commit.latest_time()).max());
        write_large(connection, &accepted).await?;
        let then = if number == last { Then::End(latest) } else { Then::GoOn };
        write_rows(connection, writes, then).await?;
    }
    Ok(results)
}

/// What is stored of the runs and keys that these commits name.
async fn known(
    connection: &mut SqliteConnection,
    first: bool,
    commits: impl Iterator<Item = &Commit>,
) -> Result<Known, StoreError> {
    let (mut runs, mut keys) = (Rows::default(), Rows::default());
    for commit in commits {
        if let Some(run) = &commit.run {
            runs.text(run.id.as_str());
        }
        if let Some(key) = &commit.idempotency {
            keys.text(&key.key);
        }
    }
    let (runs, keys) = (runs.finish(), keys.finish());
    // The first look begins the transaction.
    let query = if first { query!(BEGIN_CHECK, runs, keys) } else { query!(CHECK, runs, keys) };
    let rows = query.fetch_all(connection).await.map_err(|e| error::of(&e))?;
    let mut known = Known { runs: HashMap::with_capacity(rows.len()), keys: HashMap::new() };
    for row in &rows {
        let mut columns = Columns::of(row);
        let is_run = columns.get::<i64>()? == 0;
        let (name, text): (String, String) = (columns.get()?, columns.get()?);
        if is_run {
            known.runs.insert(name, Head { status: text, version: columns.count()?, last_seq: columns.count()? });
        } else {
            known.keys.insert(name, (RunId::new(text), columns.get()?));
        }
    }
    Ok(known)
}

/// Large values and snapshots, each bound as it is.
async fn write_large(connection: &mut SqliteConnection, commits: &[&Commit]) -> Result<(), StoreError> {
    for commit in commits {
        let Some(run) = &commit.run else { continue };
        for blob in &commit.blobs {
            query!(
                BLOB_INSERT,
                run.realm.tenant.as_ref(),
                run.realm.environment.as_ref(),
                blob.id.sha256.as_ref(),
                blob.id.size.cast_signed(),
                blob.json.get()
            )
            .execute(&mut *connection)
            .await
            .map_err(|e| error::of(&e))?;
        }
        if let Some(state) = &commit.snapshot {
            query!(
                SNAPSHOT_UPSERT,
                run.id.as_str(),
                run.realm.tenant.as_ref(),
                run.realm.environment.as_ref(),
                run.last_seq.cast_signed(),
                state.get()
            )
            .execute(&mut *connection)
            .await
            .map_err(|e| error::of(&e))?;
        }
    }
    Ok(())
}

/// What follows a wave.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Another wave, in the same transaction.
    GoOn,
    /// The end of the transaction, with the latest time in it.
    End(Option<Timestamp>),
}

/// All other rows.
async fn write_rows(connection: &mut SqliteConnection, writes: Writes, then: Then) -> Result<(), StoreError> {
    if writes.has_rest() {
        query!(
            COMMIT_REST,
            writes.approvals.finish(),
            writes.items.finish(),
            writes.items_dropped.finish(),
            writes.outbox.finish(),
            writes.outbox_done.finish(),
            writes.idempotency.finish()
        )
        .execute(&mut *connection)
        .await
        .map_err(|e| error::of(&e))?;
    }
    let Writes { runs_new, runs_moved, runs_settled, events, steps, timers_cleared, timers_set, .. } = writes;
    let [new, moved, settled] = [runs_new, runs_moved, runs_settled].map(Rows::finish);
    let [events, steps, cleared, set] = [events, steps, timers_cleared, timers_set].map(Rows::finish);
    let query = match then {
        Then::GoOn => query!(COMMIT_RUNS, new, moved, settled, events, steps, cleared, set),
        Then::End(latest) => {
            query!(COMMIT_RUNS_END, new, moved, settled, events, steps, cleared, set, latest.map(|time| time.0))
        }
    };
    query.execute(connection).await.map(drop).map_err(|e| error::of(&e))
}

/// Runs other work in a transaction. An error means that nothing of it is stored.
pub(crate) async fn transaction<T, F>(connection: &mut SqliteConnection, work: F) -> Result<T, StoreError>
where
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> Working<'c, Result<T, StoreError>>,
{
    execute(connection, query!(BEGIN)).await?;
    let done = match work(connection).await {
        Ok(value) => execute(connection, query!(COMMIT)).await.map(|()| value),
        Err(error) => Err(error),
    };
    if done.is_err() {
        rollback(connection).await;
    }
    done
}

/// Raises the latest time that is stored.
pub(crate) async fn note_time(connection: &mut SqliteConnection, at: Timestamp) -> Result<(), StoreError> {
    execute(connection, query!(NOTE_TIME, at.0)).await
}

/// Limits the size of the file.
pub(crate) async fn set_size_max(connection: &mut SqliteConnection, bytes: u64) -> Result<(), StoreError> {
    let page: i64 =
        sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut *connection).await.map_err(|e| error::of(&e))?;
    // SQLite counts pages in 32 bits.
    let pages = (bytes / page.cast_unsigned().max(1)).clamp(1, u64::from(u32::MAX - 1));
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}")))
        .execute(connection)
        .await
        .map(drop)
        .map_err(|e| error::of(&e))
}

async fn execute(connection: &mut SqliteConnection, query: Select<'_>) -> Result<(), StoreError> {
    query.execute(connection).await.map(drop).map_err(|e| error::of(&e))
}

/// Ends a transaction that failed. SQLite may have done so by itself, which is no error here.
async fn rollback(connection: &mut SqliteConnection) {
    if let Err(error) = execute(connection, query!(ROLLBACK)).await {
        tracing::debug!(%error, "nothing to roll back");
    }
}
