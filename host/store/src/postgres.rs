//! PostgreSQL: one database for many hosts.
//!
//! Invariants:
//! - What was answered is committed at the server's `synchronous_commit`, which may not be off.
//! - Commits of several hosts on one run are ordered by the lock on its row; who decided on an older version is refused.
//! - Leases and holds are measured by the database's clock alone.
//!
//! Deliberately absent: a pool that grows without bound, retries of what a caller asked (it looks again by itself), a leader.

#[path = "both/append.rs"]
mod append;
mod cluster;
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
#[path = "both/migrate.rs"]
mod migrate;
mod notices;
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
mod scratch;
mod sql;
mod writer;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use caisson_core::ports::StoreError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::jobs::Tally;
use self::notices::Notices;
use self::writer::{Job, Writer};
use crate::Counters;

pub use self::scratch::{ScratchDatabase, ServerWork};

/// Name and text of every migration; the first has the number 1.
const MIGRATIONS: &[(&str, &str)] = migrations!("postgres");

// What the files in `both` are compiled for.
type Adapter = PostgresStore;
type Connection = PgConnection;
type Db = sqlx::Postgres;
type DbRow = sqlx::postgres::PgRow;
type Select<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// Jobs that may wait for a writer: four full batches. More would only make callers wait unseen.
const JOBS_MAX: usize = 1024;

/// A connection that was used within this time is taken to be there still: a test before every use would cost as much as a small statement.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How long a caller waits for a connection before it is told that there is none.
const ACQUIRE_MAX: Duration = Duration::from_secs(10);

/// How long the server waits within a transaction for the host's next word before it ends it and lets go of its locks. A host says it at
/// once; one that does not was stopped or cut off, and others may need what it locked (rows, the outbox). Half a lease, so that a
/// paused host holds nobody up for longer than a dead one.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Between two tries to reach a server at the start.
const CONNECT_PAUSE: Duration = Duration::from_millis(500);

/// How the store is opened.
#[derive(Clone, Copy, Debug)]
pub struct PostgresOptions {
    /// Tasks that write, each with a connection while it does. Two keep one batch on its way while the next is gathered; more would make
    /// batches smaller.
    pub writers: u32,
    /// Connections of this host at most, the writers' among them. PostgreSQL's default allows 100 in all: five hosts.
    pub connections: u32,
    /// How long opening waits for a server that is out of reach or starts up.
    pub patience: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { writers: 2, connections: 16, patience: Duration::ZERO }
    }
}

/// The store on PostgreSQL.
pub struct PostgresStore {
    readers: PgPool,
    writers: PgPool,
    /// Empty once closed.
    jobs: Mutex<Vec<mpsc::Sender<Job>>>,
    tasks: tokio::sync::Mutex<Vec<JoinHandle<()>>>,
    notices: Notices,
    tally: Arc<Tally>,
}

/// Brings a database's schema up to date, and nothing else.
pub async fn migrate(url: &str) -> Result<(), StoreError> {
    let failed = |e: sqlx::Error| error::of(&e);
    let mut connection = PgConnection::connect_with(&options(url)?).await.map_err(failed)?;
    migrate::run(&mut connection).await?;
    connection.close().await.map_err(failed)
}

/// Connects; a server that is out of reach or starts up is asked again for a while.
async fn connect(options: &PgConnectOptions, patience: Duration) -> Result<PgConnection, sqlx::Error> {
    let began = Instant::now();
    loop {
        match PgConnection::connect_with(options).await {
            Err(error) if error::may_pass(&error) && began.elapsed() < patience => {
                tracing::warn!(%error, "PostgreSQL cannot be reached yet");
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
            answer => return answer,
        }
    }
}

impl PostgresStore {
    /// Connects, and brings the schema up to date: one host does, others that open at the same time wait for it.
    pub async fn open(url: &str, settings: PostgresOptions) -> Result<Self, StoreError> {
        let failed = |e: sqlx::Error| error::of(&e);
        let options = options(url)?;
        let mut connection = connect(&options, settings.patience).await.map_err(failed)?;
        check_durable(&mut connection).await?;
        migrate::run(&mut connection).await?;
        connection.close().await.map_err(failed)?;
        let pool = |connections: u32| {
            PgPoolOptions::new()
                .max_connections(connections.max(1))
                .acquire_timeout(ACQUIRE_MAX)
                .test_before_acquire(false)
                .before_acquire(|connection, about| Box::pin(test_if_idle(connection, about.idle_for)))
                .connect_lazy_with(options.clone())
        };
        let writing = settings.writers.max(1);
        // One more listens.
        let (readers, writers) = (pool(settings.connections.saturating_sub(writing + 1)), pool(writing));
        let tally = Arc::new(Tally::default());
        let (mut jobs, mut tasks) = (Vec::new(), Vec::new());
        for _ in 0..writing {
            let (sender, receiver) = mpsc::channel(JOBS_MAX);
            let writer = Writer { pool: writers.clone(), jobs: receiver, tally: Arc::clone(&tally) };
            jobs.push(sender);
            tasks.push(tokio::spawn(writer.run()));
        }
        let notices = Notices::listen(options.clone());
        Ok(Self { readers, writers, jobs: Mutex::new(jobs), tasks: tokio::sync::Mutex::new(tasks), notices, tally })
    }

    /// How many commits and records were made, in how many transactions.
    pub fn counters(&self) -> Counters {
        self.tally.counters()
    }

    /// A view of one moment.
    async fn view(&self) -> Result<sqlx::Transaction<'_, Db>, StoreError> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
        self.readers.begin_with(begin).await.map_err(|e| error::of(&e))
    }

    /// Hands a job to the writer of its run.
    async fn send(&self, job: Job) -> Result<(), StoreError> {
        let sender = {
            let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let mut hasher = DefaultHasher::new();
            job.run().hash(&mut hasher);
            let place = usize::try_from(hasher.finish() % (jobs.len().max(1) as u64)).unwrap_or(0);
            jobs.get(place).cloned().ok_or_else(closed)?
        };
        sender.send(job).await.map_err(|_| closed())
    }

    /// Writes something that is no commit, in a transaction of its own.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> writer::Working<'c, Result<T, StoreError>> + Send + 'static,
    {
        let failed = |e: sqlx::Error| error::of(&e);
        let mut transaction = self.readers.begin().await.map_err(failed)?;
        let done = work(&mut transaction).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(done)
    }

    /// Stops taking jobs, waits for those that were taken, and closes the connections.
    async fn shut(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for task in self.tasks.lock().await.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(%error, "a writer of the store is gone");
            }
        }
        self.notices.stop();
        self.writers.close().await;
        self.readers.close().await;
    }
}

/// An error makes the pool let go of the connection and take another.
async fn test_if_idle(connection: &mut PgConnection, idle_for: Duration) -> Result<bool, sqlx::Error> {
    if idle_for >= TRUSTED_FOR {
        connection.ping().await?;
    }
    Ok(true)
}

fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(|_| {
        // The address may hold a password, so it is not repeated.
        StoreError::Invalid("database address is not like postgres://USER:PASSWORD@HOST:5432/DATABASE".to_owned())
    })?;
    let silence = SILENCE_MAX.as_millis().to_string();
    Ok(options.application_name("caisson").options([("idle_in_transaction_session_timeout", silence)]))
}

/// What a commit promises rests on a setting of the server.
async fn check_durable(connection: &mut PgConnection) -> Result<(), StoreError> {
    let setting: String =
        sqlx::query_scalar("SHOW synchronous_commit").fetch_one(connection).await.map_err(|e| error::of(&e))?;
    if setting == "off" {
        let message = "PostgreSQL has synchronous_commit=off: commits would be lost with the server; set it to on";
        return Err(StoreError::Invalid(message.to_owned()));
    }
    Ok(())
}

fn closed() -> StoreError {
    StoreError::Other("store is closed".to_owned())
}
