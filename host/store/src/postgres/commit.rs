//! What of a batch is PostgreSQL's own: one statement for many tables, and locks where other hosts write too.

use std::collections::BTreeSet;
use std::sync::Arc;

use caisson_core::ids::RunId;
use caisson_core::ports::{KvScope, SlotKey, StoreError};
use caisson_core::time::Timestamp;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::error;
use super::read::one;
use super::rows::Columns;
use super::writer::execute;
use crate::encode::{Rows, Writes};

/// Rows as the database can take them: PostgreSQL has no NUL in texts, so one in a name or a message becomes U+FFFD. Values are JSON, where
/// a NUL is written as an escape: they stay as they are.
pub(super) fn fit(rows: String) -> String {
    const NUL: &str = "\\u0000";
    if !rows.contains(NUL) {
        return rows;
    }
    let mut fit = String::with_capacity(rows.len());
    let mut rest = rows.as_str();
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        fit.push_str(before);
        // An escaped backslash is a pair: what follows it is text of a value.
        let length = if escape.starts_with(NUL) { NUL.len() } else { 2 };
        fit.push_str(if length == 2 { &escape[..2] } else { "\\ufffd" });
        rest = &escape[length..];
    }
    fit + rest
}

/// A key of small state as it is stored: its bytes, since a guest may well use a NUL.
pub(super) fn kv_key(key: &str) -> &[u8] {
    key.as_bytes()
}

/// Reads one back.
pub(super) fn kv_key_of(c: &mut Columns<'_>) -> Result<String, StoreError> {
    String::from_utf8(c.get()?).map_err(|_| StoreError::Corrupt("a key of small state is not UTF-8".to_owned()))
}

/// Begins the transaction of a batch.
pub(super) async fn begin(connection: &mut PgConnection) -> Result<(), StoreError> {
    execute(connection, query!(BEGIN)).await
}

/// What is stored of these runs and idempotency keys; the runs are locked. The first look of a batch begins its transaction.
pub(super) async fn check(
    connection: &mut PgConnection,
    first: bool,
    runs: String,
    keys: String,
) -> Result<Vec<PgRow>, StoreError> {
    if first {
        begin(connection).await?;
    }
    let mut found = query!(CHECK_RUNS, runs).fetch_all(&mut *connection).await.map_err(|e| error::of(&e))?;
    if keys != "[]" {
        found.extend(query!(CHECK_KEYS, keys).fetch_all(connection).await.map_err(|e| error::of(&e))?);
    }
    Ok(found)
}

/// Runs that count together are counted by one at a time. The keys come in their order, so nobody waits in a circle.
pub(super) async fn lock_slots(connection: &mut PgConnection, slots: &BTreeSet<SlotKey>) -> Result<(), StoreError> {
    for SlotKey { realm, workflow, key } in slots {
        lock(connection, ["slots", &realm.tenant, &realm.environment, workflow, key]).await?;
    }
    Ok(())
}

/// A scope of small state is added up by one at a time.
pub(super) async fn lock_scope(connection: &mut PgConnection, scope: &KvScope) -> Result<(), StoreError> {
    let KvScope { realm, plugin, workflow } = scope;
    lock(connection, ["kv", &realm.tenant, &realm.environment, plugin, workflow]).await
}

/// Takes the advisory lock of that name until the transaction ends. Its number is the same in every release and build: hosts of two releases
/// work side by side. Two names of one number wait for each other for nothing, which is no harm.
async fn lock(connection: &mut PgConnection, name: [&str; 5]) -> Result<(), StoreError> {
    let mut hash = Sha256::new();
    for part in name {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    let number = i64::from_be_bytes(std::array::from_fn(|byte| hash[byte]));
    execute(connection, query!(LOCK, number)).await
}

/// The host that moves a run, if it is alive.
#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the method itself is not general enough over its lifetime"
)]
pub(super) async fn holder(connection: &mut PgConnection, run: &RunId) -> Result<Option<Arc<str>>, StoreError> {
    one(connection, query!(HOLDER, run.as_str()), |c| c.text()).await
}

/// Ends a batch that has no commits.
pub(super) async fn end(connection: &mut PgConnection, latest: Option<Timestamp>) -> Result<(), StoreError> {
    if latest.is_some() {
        execute(connection, query!(NOTE_TIME, latest.map(|time| time.0))).await?;
    }
    execute(connection, query!(COMMIT)).await
}

/// What follows a wave.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// Another wave, in the same transaction.
    GoOn,
    /// The end of the transaction, with the latest time in it.
    End(Option<Timestamp>),
}

/// All other rows. Statements that have nothing to do are not sent.
pub(super) async fn write_rows(connection: &mut PgConnection, writes: Writes, then: Then) -> Result<(), StoreError> {
    let (has_rest, has_kept) = (writes.has_rest() || !writes.inbox_done.is_empty(), writes.has_kept());
    let others_need_it = !writes.outbox.is_empty() || !writes.timers_set.is_empty();
    let Writes { runs_new, mut runs_moved, runs_settled, events, steps, timers_cleared, timers_set, .. } = writes;
    runs_moved.append(&runs_settled);
    if !timers_cleared.is_empty() {
        execute(connection, query!(TIMERS_CLEAR, timers_cleared.finish())).await?;
    }
    let [new, moved, events, steps, timers] =
        [runs_new, runs_moved, events, steps, timers_set].map(Rows::finish).map(fit);
    execute(connection, query!(COMMIT_RUNS, new, moved, events, steps, timers)).await?;
    if has_rest {
        let [approvals, items, outbox] = [writes.approvals, writes.items, writes.outbox].map(Rows::finish).map(fit);
        let [keys, heard, taken] =
            [writes.idempotency, writes.outbox_done, writes.inbox_done].map(Rows::finish).map(fit);
        execute(connection, query!(COMMIT_REST, approvals, items, outbox, keys, taken)).await?;
        if heard != "[]" {
            // A message may have been made in this very batch.
            execute(connection, query!(OUTBOX_DELETE, heard)).await?;
        }
        if !writes.items_dropped.is_empty() {
            execute(connection, query!(ITEMS_DROP, writes.items_dropped.finish())).await?;
        }
    }
    if has_kept {
        let [pins, admissions, steps] = [writes.pins, writes.admissions, writes.steps_ended].map(Rows::finish).map(fit);
        execute(connection, query!(COMMIT_KEPT, pins, admissions, steps)).await?;
        if !writes.runs_ended.is_empty() {
            execute(connection, query!(ENDED, writes.runs_ended.finish())).await?;
        }
    }
    if others_need_it {
        execute(connection, query!(NOTIFY)).await?;
    }
    match then {
        Then::GoOn => Ok(()),
        Then::End(latest) => end(connection, latest).await,
    }
}
