//! The one task that writes: it folds the commits that wait into one transaction.
//!
//! A batch is checked with one query and written with one text of statements, each taking all rows of its table as JSON: two
//! crossings to SQLite's thread and one fsync, however many commits there are. If that fails for a reason that may lie in one commit,
//! everything is rolled back and each commit is tried alone, so that only the bad one fails. If the disk is full, all are told so.
//!
//! Records of journals that wait are folded into the same transaction. They are written before its commits: nobody in a batch has an
//! answer yet, so any order is right, and in this one a commit that ends a step clears the records that came in with it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use caisson_core::ports::{Commit, StoreError};
use caisson_core::time::Timestamp;
use sqlx::{Connection, SqliteConnection, SqlitePool};
use tokio::sync::mpsc;

use super::Select;
use super::append::Append;
use super::checkpoint::{self, Checkpointer};
use super::error;
use super::fold;
use super::jobs::{Answer, AppendAnswer, Batch, Tally};
use super::lock::Lock;
use super::read::{all, one};
use super::rows;
use crate::marks::Marks;

/// A future that borrows the writer's connection.
pub(crate) type Working<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// Something to do with the writer's connection; answers by itself.
pub(crate) type Work = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> Working<'c, ()> + Send>;

/// What the writer is asked for.
pub(crate) enum Job {
    /// Fold this in.
    Commit(Box<Commit>, Answer),
    /// Fold this in.
    Append(Box<Append>, AppendAnswer),
    /// Anything else, in a transaction of its own.
    Other(Work),
}

/// The task's belongings. The lock is let go when everything else is closed.
pub(crate) struct Writer {
    pub connection: SqliteConnection,
    pub jobs: mpsc::Receiver<Job>,
    pub checkpointer: Checkpointer,
    pub readers: SqlitePool,
    pub lock: Lock,
    pub tally: Arc<Tally>,
    pub marks: Marks,
}

/// Takes a job into a batch, or gives back one that needs a transaction of its own.
fn take(batch: &mut Batch, job: Job) -> Result<(), Work> {
    match job {
        Job::Commit(commit, answer) => batch.commit(commit, answer),
        Job::Append(append, answer) => batch.append(append, answer),
        Job::Other(work) => return Err(work),
    }
    Ok(())
}

impl Writer {
    /// Works until the store is closed or dropped, and every job is done.
    pub(crate) async fn run(mut self) -> Result<(), StoreError> {
        let mut carried = None;
        loop {
            let job = match carried.take() {
                Some(work) => Job::Other(work),
                None => match self.jobs.recv().await {
                    Some(job) => job,
                    None => break,
                },
            };
            let mut batch = Batch::default();
            match take(&mut batch, job) {
                Err(work) => work(&mut self.connection).await,
                Ok(()) => {
                    // Whoever is ready to commit as well gets the chance to join.
                    tokio::task::yield_now().await;
                    carried = self.gather(&mut batch);
                    self.tally.commits.fetch_add(batch.commits.len() as u64, Ordering::Relaxed);
                    self.tally.appends.fetch_add(batch.appends.len() as u64, Ordering::Relaxed);
                    self.tally.batches.fetch_add(1, Ordering::Relaxed);
                    fold::write(&mut self.connection, &mut self.marks, batch).await;
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

    /// Takes in what waits right behind, up to the first job that needs a transaction of its own, which is given back.
    fn gather(&mut self, batch: &mut Batch) -> Option<Work> {
        while batch.has_room() {
            let Ok(job) = self.jobs.try_recv() else { break };
            if let Err(work) = take(batch, job) {
                return Some(work);
            }
        }
        None
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

/// There is nobody to be told that what is installed or registered has changed: no other host has the file.
#[expect(clippy::unused_async, reason = "the files in `both` are written once")]
pub(crate) async fn tell_catalog(_: &mut SqliteConnection) -> Result<(), StoreError> {
    Ok(())
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

/// What the tables that few runs use hold already.
pub(crate) async fn marks(connection: &mut SqliteConnection) -> Result<Marks, StoreError> {
    let mut marks = Marks::default();
    for (run, step) in rows::every(&all(&mut *connection, query!(JOURNALED)).await?, |c| Ok((c.run_id()?, c.count()?)))?
    {
        marks.mark_journal(&run, step);
    }
    if one(&mut *connection, query!(PINNED), rows::run_id).await?.is_some() {
        marks.mark_pins();
    }
    if one(&mut *connection, query!(ADMISSIONS), rows::run_id).await?.is_some() {
        marks.mark_admissions();
    }
    Ok(marks)
}

pub(crate) async fn execute(connection: &mut SqliteConnection, query: Select<'_>) -> Result<(), StoreError> {
    query.execute(connection).await.map(drop).map_err(|e| error::of(&e))
}

/// Ends a transaction that failed. SQLite may have done so by itself, which is no error here.
pub(crate) async fn rollback(connection: &mut SqliteConnection) {
    if let Err(error) = execute(connection, query!(ROLLBACK)).await {
        tracing::debug!(%error, "nothing to roll back");
    }
}
