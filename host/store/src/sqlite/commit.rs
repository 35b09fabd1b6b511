//! What of a batch is SQLite's own: one text of statements for many tables, one crossing to its thread.

use std::collections::BTreeSet;
use std::sync::Arc;

use caisson_core::ids::{Realm, RunId};
use caisson_core::ports::{Commit, KvScope, SlotKey, StoreError};
use caisson_core::time::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::error;
use super::rows::Columns;
use super::writer::execute;
use crate::encode::{Rows, Writes};
use crate::marks::Marks;

/// Rows as the database can take them: SQLite takes any text.
pub(super) fn fit(rows: String) -> String {
    rows
}

/// A key of small state as it is stored: SQLite compares texts by their bytes.
pub(super) fn kv_key(key: &str) -> &str {
    key
}

/// Reads one back.
pub(super) fn kv_key_of(c: &mut Columns<'_>) -> Result<String, StoreError> {
    c.get()
}

/// Begins the transaction of a batch.
pub(super) async fn begin(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    execute(connection, query!(BEGIN)).await
}

/// What is stored of these runs and idempotency keys. The first look of a batch begins its transaction.
pub(super) async fn check(
    connection: &mut SqliteConnection,
    first: bool,
    runs: String,
    keys: String,
) -> Result<Vec<SqliteRow>, StoreError> {
    let query = if first { query!(BEGIN_CHECK, runs, keys) } else { query!(CHECK, runs, keys) };
    query.fetch_all(connection).await.map_err(|e| error::of(&e))
}

/// Round trips are short here.
#[expect(clippy::unused_async, reason = "other databases are far away")]
pub(super) async fn at_once(_: &mut SqliteConnection, _: &Marks, _: &[&Commit]) -> Result<bool, StoreError> {
    Ok(false)
}

/// Nobody else writes.
#[expect(clippy::unused_async, reason = "other databases have to lock")]
pub(super) async fn lock_slots(_: &mut SqliteConnection, _: &BTreeSet<SlotKey>) -> Result<(), StoreError> {
    Ok(())
}

/// Nobody else writes.
#[expect(clippy::unused_async, reason = "other databases have to lock")]
pub(super) async fn lock_scope(_: &mut SqliteConnection, _: &KvScope) -> Result<(), StoreError> {
    Ok(())
}

/// Nobody else writes.
#[expect(clippy::unused_async, reason = "other databases have to lock")]
pub(super) async fn lock_name(_: &mut SqliteConnection, _: &Realm, _: [&str; 2]) -> Result<(), StoreError> {
    Ok(())
}

/// Nobody else writes.
#[expect(clippy::unused_async, reason = "other databases have to lock")]
pub(super) async fn lock_blobs(_: &mut SqliteConnection, _: &Realm, _: &str) -> Result<(), StoreError> {
    Ok(())
}

/// A store of one host has no need to say who moves a run.
#[expect(clippy::unused_async, reason = "other databases have to look")]
pub(super) async fn holder(_: &mut SqliteConnection, _: &RunId) -> Result<Option<Arc<str>>, StoreError> {
    Ok(None)
}

/// Ends a batch that has no commits.
pub(super) async fn end(connection: &mut SqliteConnection, latest: Option<Timestamp>) -> Result<(), StoreError> {
    execute(connection, query!(BATCH_END, latest.map(|time| time.0))).await
}

/// What follows a wave.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// Another wave, in the same transaction.
    GoOn,
    /// The end of the transaction, with the latest time in it.
    End(Option<Timestamp>),
}

/// All other rows.
pub(super) async fn write_rows(
    connection: &mut SqliteConnection,
    writes: Writes,
    then: Then,
) -> Result<(), StoreError> {
    let (has_rest, has_kept) = (writes.has_rest(), writes.has_kept());
    if has_rest {
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
    if has_kept {
        query!(
            COMMIT_PLUGINS,
            writes.pins.finish(),
            writes.runs_ended.finish(),
            writes.steps_ended.finish(),
            writes.admissions.finish()
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
