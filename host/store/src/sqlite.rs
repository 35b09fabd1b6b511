//! SQLite: one file in the data directory, one connection that writes, a few that read.
//!
//! Invariants:
//! - Only the writer's connection writes, in the order in which jobs reach its channel. What it has answered is on disk (WAL,
//!   synchronous=FULL), and every later read sees it.
//! - A job that has reached the channel is done whole, also if nobody waits for its answer any more.
//! - The lock on the data directory is held from before the file is opened until after the writer has closed it.
//!
//! Deliberately absent: a second process. SQLite could share the file, but claims and timers of an embedded store belong to one host.

#[path = "both/append.rs"]
mod append;
mod checkpoint;
mod commit;
#[path = "both/definitions.rs"]
mod definitions;
mod error;
#[path = "both/fold.rs"]
mod fold;
#[path = "both/jobs.rs"]
mod jobs;
#[path = "both/journal.rs"]
mod journal;
#[path = "both/keys.rs"]
mod keys;
mod lock;
#[path = "both/migrate.rs"]
mod migrate;
#[cfg(test)]
mod migrate_tests;
#[path = "both/plugins.rs"]
mod plugins;
#[path = "both/port.rs"]
mod port;
#[path = "both/read.rs"]
mod read;
#[path = "both/resources.rs"]
mod resources;
#[path = "both/retention.rs"]
mod retention;
#[path = "both/rows.rs"]
mod rows;
mod sql;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use caisson_core::ports::StoreError;
use sqlx::ConnectOptions;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use self::jobs::Tally;
use self::writer::{Job, Work, Writer};
use crate::Counters;

/// Name and text of every migration; the first has the number 1.
const MIGRATIONS: &[(&str, &str)] = migrations!("sqlite");

// What the files in `both` are compiled for.
type Adapter = SqliteStore;
type Connection = sqlx::SqliteConnection;
type Db = sqlx::Sqlite;
type DbRow = sqlx::sqlite::SqliteRow;
type Select<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// The database's name in the data directory.
pub const DATABASE_FILE: &str = "caisson.db";

/// Jobs that may wait for the writer: four full batches. More would only make callers wait unseen.
const JOBS_MAX: usize = 1024;

/// How long a statement waits for a lock of another connection: only checkpoints and the opening of the file ever hold one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How the store is opened.
#[derive(Clone, Copy, Debug)]
pub struct SqliteOptions {
    /// Connections that read, each with a thread of its own and up to 2 MB of cache. Three serve a host of two to four cores.
    pub readers: u32,
    /// The most bytes that the database may hold; a write past it is [`StoreError::Full`]. `None` leaves it to the disk.
    pub size_max: Option<u64>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { readers: 3, size_max: None }
    }
}

/// The store on SQLite. Dropping it without [`caisson_core::ports::Store::close`] lets the writer finish on its own.
pub struct SqliteStore {
    readers: SqlitePool,
    /// `None` once closed.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    writer: tokio::sync::Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
    tally: Arc<Tally>,
}

impl SqliteStore {
    /// Opens the store in a data directory, which is made if it is not there, and brings its schema up to date.
    pub async fn open(dir: &Path, options: SqliteOptions) -> Result<Self, StoreError> {
        let lock = lock::acquire(dir)?;
        let file = dir.join(DATABASE_FILE);
        let mut connection =
            connect_options(&file).create_if_missing(true).connect().await.map_err(|e| error::of(&e))?;
        check_durable(&mut connection).await?;
        migrate::run(&mut connection).await?;
        let marks = writer::marks(&mut connection).await?;
        if let Some(bytes) = options.size_max {
            writer::set_size_max(&mut connection, bytes).await?;
        }
        let checkpointer = checkpoint::Checkpointer::start(connect_options(&file)).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers.max(1))
            .test_before_acquire(false)
            .connect_with(connect_options(&file).pragma("query_only", "ON").pragma("cache_size", "-2000"))
            .await
            .map_err(|e| error::of(&e))?;
        let (jobs, receiver) = mpsc::channel(JOBS_MAX);
        let tally = Arc::new(Tally::default());
        let writer = Writer {
            connection,
            jobs: receiver,
            checkpointer,
            readers: readers.clone(),
            lock,
            tally: Arc::clone(&tally),
            marks,
        };
        let writer = tokio::sync::Mutex::new(Some(tokio::spawn(writer.run())));
        Ok(Self { readers, jobs: Mutex::new(Some(jobs)), writer, tally })
    }

    /// How many commits and records were made, in how many transactions.
    pub fn counters(&self) -> Counters {
        self.tally.counters()
    }

    /// Changes the most bytes that the database may hold, while it is open.
    pub async fn set_size_max(&self, bytes: u64) -> Result<(), StoreError> {
        self.write(move |connection| Box::pin(writer::set_size_max(connection, bytes))).await
    }

    /// A view of one moment.
    async fn view(&self) -> Result<sqlx::Transaction<'_, Db>, StoreError> {
        self.readers.begin().await.map_err(|e| error::of(&e))
    }

    /// Hands a job to the writer.
    async fn send(&self, job: Job) -> Result<(), StoreError> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)?;
        jobs.send(job).await.map_err(|_| closed())
    }

    /// Writes something that is no commit, in a transaction of its own.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut sqlx::SqliteConnection) -> writer::Working<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        let (answer, result) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            Box::pin(async move {
                let done = writer::transaction(connection, work).await;
                // Nobody may be waiting any more; the work is done all the same.
                drop(answer.send(done));
            })
        });
        self.send(Job::Other(work)).await?;
        result.await.map_err(|_| closed())?
    }

    /// Stops taking jobs, waits for those that were taken, and closes the file.
    async fn shut(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let Some(writer) = self.writer.lock().await.take() else { return };
        match writer.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "failed to close the store in good order"),
            Err(error) => tracing::error!(%error, "the store's writer is gone"),
        }
    }
}

/// What a commit promises rests on two settings of the connection that writes. A file system that cannot keep a WAL, or a slip in
/// [`connect_options`], would drop them without a word.
async fn check_durable(connection: &mut sqlx::SqliteConnection) -> Result<(), StoreError> {
    const FULL: i64 = 2;
    let failed = |e: sqlx::Error| error::of(&e);
    let synchronous: i64 =
        sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *connection).await.map_err(failed)?;
    let journal: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection).await.map_err(failed)?;
    if synchronous == FULL && journal == "wal" {
        return Ok(());
    }
    let message = format!("SQLite is set to synchronous={synchronous}, journal_mode={journal}; commits need 2 and wal");
    Err(StoreError::Other(message))
}

fn closed() -> StoreError {
    StoreError::Other("store is closed".to_owned())
}

/// What every connection is opened with. Memory is kept small: a few megabytes each, nothing mapped.
fn connect_options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        .busy_timeout(BUSY_TIMEOUT)
        // 8 MB for the writer and the checkpointer: the open ends of a few thousand runs.
        .pragma("cache_size", "-8000")
        .pragma("mmap_size", "0")
        // Statement journals in files were an eighth of the CPU of a batch.
        .pragma("temp_store", "MEMORY")
        .pragma("wal_autocheckpoint", "0")
        // A WAL that has grown in a burst gives the space back.
        .pragma("journal_size_limit", "67108864")
        .disable_statement_logging()
}
