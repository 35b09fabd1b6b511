//! Where runs live: the `Store`, `Journal` and `PluginStore` ports of caisson-core on SQLite.
//!
//! Layout: `encode` (rows to JSON), `batch` (which commits of a batch may be written) and `marks` (what need not be cleared) know no
//! database; `sqlite` holds the adapter, with its statements in `sqlite/sql`. PostgreSQL comes in beside it, and the contract suite of core
//! decides whether they agree.
//!
//! Deliberately absent: any rule about runs. The store checks versions and keys, and writes what the engine decided.

mod batch;
mod encode;
mod marks;
mod sqlite;

pub use sqlite::{Counters, DATABASE_FILE, SqliteOptions, SqliteStore};
