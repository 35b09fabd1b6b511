//! Where runs live: the `Store`, `Journal`, `PluginStore` and `Resources` ports of caisson-core on SQLite and on PostgreSQL, and on PostgreSQL
//! the `Cluster` port.
//!
//! Layout: `encode` (rows to JSON), `batch` (which commits of a batch may be written), `marks` (what need not be cleared) and `statement`
//! (texts that both agree on) know no database. `sqlite` and `postgres` each hold what is one's own: connections, transactions, statements,
//! errors. The files in `both` are written once and compiled for each: a query of sqlx has a database in its type, and a file that names the
//! adapter's own types is shorter to read than one that is generic over all of them. The contract suite of core decides whether they agree.
//!
//! Deliberately absent: any rule about runs. The store checks versions and keys, and writes what the engine decided.

#![allow(clippy::duplicate_mod, reason = "the files in `both` are compiled for each database")]

// First: its macros are for everything below.
#[macro_use]
mod statement;

/// Name and text of every migration, in their order: the same for every database.
macro_rules! migrations {
    ($database:literal) => {
        migrations!(
            $database: "0001_first", "0002_plugins", "0003_hosts", "0004_load", "0005_dead", "0006_resources", "0007_sessions"
        )
    };
    ($database:literal: $($name:literal),*) => {
        &[$(($name, include_str!(concat!("../../../migrations/", $database, "/", $name, ".sql")))),*]
    };
}

mod batch;
mod encode;
mod marks;
mod postgres;
mod sqlite;

pub use postgres::{PostgresOptions, PostgresStore, ScratchDatabase, ServerWork, migrate};
pub use sqlite::{DATABASE_FILE, SqliteOptions, SqliteStore};

/// What the writer has done since the store was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Commits that were answered.
    pub commits: u64,
    /// Records of journals, and effects without one, that were answered.
    pub appends: u64,
    /// Transactions that both were folded into.
    pub batches: u64,
}
