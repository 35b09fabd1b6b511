//! Checkpoints: copying what is in the write-ahead log into the database file, off the writer.
//!
//! A passive checkpoint waits for nobody and nobody waits for it. But a log is begun anew only when all of it has been copied, which
//! under steady writing never happens by itself: past [`LOG_PAGES_MAX`] the writer is asked to make the last, small step between
//! two batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use caisson_core::ports::StoreError;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::error;

/// Pages in the log that a checkpoint is worth: 8 MiB, so that a page that is written again and again is copied once.
const LOG_PAGES_WORTH: i64 = 2_000;

/// Pages in the log above which the writer helps: 64 MiB, what is kept of the file between bursts.
const LOG_PAGES_MAX: i64 = 16_000;

/// Batches between two looks at the log.
const BATCHES_PER_LOOK: u32 = 32;

/// A task that looks after the log, owned by the writer.
pub(crate) struct Checkpointer {
    looks: mpsc::Sender<()>,
    help: Arc<AtomicBool>,
    task: JoinHandle<()>,
    batches: u32,
}

impl Checkpointer {
    /// Starts it with a connection of its own.
    pub(crate) async fn start(options: SqliteConnectOptions) -> Result<Self, StoreError> {
        let connection = options.connect().await.map_err(|e| error::of(&e))?;
        // One look that waits is enough: it sees everything that came before it.
        let (looks, receiver) = mpsc::channel(1);
        let help = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(watch(connection, receiver, Arc::clone(&help)));
        Ok(Self { looks, help, task, batches: 0 })
    }

    /// The writer has committed a batch. `true` asks it to make a checkpoint itself, now.
    pub(crate) fn batch_done(&mut self) -> bool {
        self.batches += 1;
        if self.batches >= BATCHES_PER_LOOK {
            self.batches = 0;
            // If it is full, a look is due already.
            let _full = self.looks.try_send(());
        }
        self.help.swap(false, Ordering::Relaxed)
    }

    /// Ends it and closes its connection.
    pub(crate) async fn stop(self) {
        drop(self.looks);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the store's checkpoint task is gone");
        }
    }
}

async fn watch(mut connection: SqliteConnection, mut looks: mpsc::Receiver<()>, help: Arc<AtomicBool>) {
    while looks.recv().await.is_some() {
        match look(&mut connection).await {
            Ok(ask) => help.store(ask, Ordering::Relaxed),
            // The log stays, nothing is lost; the next look tries again.
            Err(error) => tracing::warn!(%error, "failed to make a checkpoint"),
        }
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "failed to close the checkpoint connection");
    }
}

/// Copies what is worth it; says whether the writer should make the last step.
async fn look(connection: &mut SqliteConnection) -> Result<bool, StoreError> {
    let (pages, copied) = checkpoint(connection, "PRAGMA wal_checkpoint(NOOP)").await?;
    if pages - copied < LOG_PAGES_WORTH {
        return Ok(false);
    }
    let (pages, _) = checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)").await?;
    Ok(pages > LOG_PAGES_MAX)
}

/// Runs a checkpoint; gives the pages in the log and how many of them are copied.
pub(crate) async fn checkpoint(
    connection: &mut SqliteConnection,
    pragma: &'static str,
) -> Result<(i64, i64), StoreError> {
    let row = sqlx::query(pragma).fetch_one(connection).await.map_err(|e| error::of(&e))?;
    let column = |at: usize| row.try_get::<i64, _>(at).map_err(|e| error::of(&e));
    Ok((column(1)?, column(2)?))
}
