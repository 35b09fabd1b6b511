//! The tasks that write: each folds the commits that wait for it into one transaction.
//!
//! Everything about one run goes to one task, so that a batch of one host holds a run's commits in their order. A connection that broke is
//! made anew for the next batch: what was in the broken one is answered with an error, and whoever asked looks again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use caisson_core::ports::{Commit, CommitError, JournalError, StoreError};
use caisson_core::time::Timestamp;
use sqlx::{PgConnection, PgPool};
use tokio::sync::mpsc;

use super::append::Append;
use super::jobs::{Answer, AppendAnswer, Batch, Tally};
use super::{Select, error, fold};
use crate::marks::Marks;

/// A server that does not answer a batch for so long is out of reach, though nobody said so: a batch takes some 10 ms.
const ANSWER_MAX: Duration = Duration::from_mins(1);

/// A future that borrows a connection.
pub(crate) type Working<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// What a writer is asked for.
pub(crate) enum Job {
    /// Fold this in.
    Commit(Box<Commit>, Answer),
    /// Fold this in.
    Append(Box<Append>, AppendAnswer),
}

impl Job {
    /// What says which task it goes to.
    pub(crate) fn run(&self) -> &str {
        match self {
            Self::Commit(commit, _) => commit.run.as_ref().map_or("", |run| run.id.as_str()),
            Self::Append(append, _) => append.place.as_ref().map_or("", |(entry, ..)| entry.run.as_str()),
        }
    }
}

/// A task's belongings.
pub(crate) struct Writer {
    pub pool: PgPool,
    pub jobs: mpsc::Receiver<Job>,
    pub tally: Arc<Tally>,
}

impl Writer {
    /// Works until the store is closed or dropped, and every job is done.
    pub(crate) async fn run(mut self) {
        // Other hosts write too: what has rows is known to nobody, and everything is cleared.
        let mut marks = Marks::everything();
        while let Some(job) = self.jobs.recv().await {
            let mut batch = Batch::default();
            take(&mut batch, job);
            // Whoever is ready to commit as well gets the chance to join.
            tokio::task::yield_now().await;
            while batch.has_room() {
                let Ok(job) = self.jobs.try_recv() else { break };
                take(&mut batch, job);
            }
            self.tally.commits.fetch_add(batch.commits.len() as u64, Ordering::Relaxed);
            self.tally.appends.fetch_add(batch.appends.len() as u64, Ordering::Relaxed);
            self.tally.batches.fetch_add(1, Ordering::Relaxed);
            match self.pool.acquire().await {
                Ok(mut connection) => {
                    let written = tokio::time::timeout(ANSWER_MAX, fold::write(&mut connection, &mut marks, batch));
                    if written.await.is_err() {
                        // Whoever waits hears that the answer is lost, and looks.
                        tracing::warn!("PostgreSQL has not answered for a minute: the connection is given up");
                        drop(connection.detach());
                    }
                }
                Err(error) => refuse(batch, &error::of(&error)),
            }
        }
    }
}

fn take(batch: &mut Batch, job: Job) {
    match job {
        Job::Commit(commit, answer) => batch.commit(commit, answer),
        Job::Append(append, answer) => batch.append(append, answer),
    }
}

fn refuse(batch: Batch, error: &StoreError) {
    // Nobody may be waiting any more.
    for (_, answer) in batch.commits {
        drop(answer.send(Err(CommitError::Store(error.clone()))));
    }
    for (_, answer) in batch.appends {
        drop(answer.send(Err(JournalError::Store(error.clone()))));
    }
}

/// Raises the latest time that is stored.
pub(crate) async fn note_time(connection: &mut PgConnection, at: Timestamp) -> Result<(), StoreError> {
    execute(connection, query!(NOTE_TIME, at.0)).await
}

/// Tells other hosts, once it is committed, that what is installed or registered has changed.
pub(crate) async fn tell_catalog(connection: &mut PgConnection) -> Result<(), StoreError> {
    execute(connection, query!(NOTIFY_CATALOG)).await
}

pub(crate) async fn execute(connection: &mut PgConnection, query: Select<'_>) -> Result<(), StoreError> {
    query.execute(connection).await.map(drop).map_err(|e| error::of(&e))
}

/// Ends a transaction that failed.
pub(crate) async fn rollback(connection: &mut PgConnection) {
    if let Err(error) = execute(connection, query!(ROLLBACK)).await {
        tracing::debug!(%error, "nothing to roll back");
    }
}
