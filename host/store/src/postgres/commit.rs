//! What of a batch is PostgreSQL's own: one statement for many tables, and locks where other hosts write too.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use caisson_core::ids::{Realm, RunId};
use caisson_core::ports::{Commit, KvScope, SlotKey, StepRow, StoreError};
use caisson_core::status::StepStatus;
use caisson_core::time::Timestamp;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::error;
use super::read::one;
use super::rows::{self, Columns};
use super::writer::execute;
use crate::encode::{Rows, Writes};
use crate::marks::Marks;

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

/// What is saved under a name is saved by one at a time: hosts that start together save the same things.
pub(super) async fn lock_name(connection: &mut PgConnection, realm: &Realm, name: [&str; 2]) -> Result<(), StoreError> {
    lock(connection, ["name", &realm.tenant, &realm.environment, name[0], name[1]]).await
}

/// Large values that are about to go are held, so that nobody refers to them from now on.
pub(super) async fn lock_blobs(connection: &mut PgConnection, realm: &Realm, hashes: &str) -> Result<(), StoreError> {
    execute(connection, query!(BLOBS_LOCK, &*realm.tenant, &*realm.environment, hashes)).await
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

/// Writes a batch in one round trip instead of six, if nothing in it needs more and everything stands where its commits expect it. Nearly
/// every batch is of this kind. `false`: nothing is written, and what is in the way has to be looked at.
pub(super) async fn at_once(
    connection: &mut PgConnection,
    marks: &Marks,
    commits: &[&Commit],
) -> Result<bool, StoreError> {
    let runs: HashSet<_> = commits.iter().filter_map(|commit| Some(&commit.run.as_ref()?.id)).collect();
    if runs.len() < commits.len() || !commits.iter().all(|commit| is_plain(commit)) {
        return Ok(false);
    }
    let mut writes = Writes::default();
    for commit in commits {
        writes.add(commit, false, marks);
    }
    let latest = commits.iter().filter_map(|commit| commit.latest_time()).max();
    let tell = others_need_it(&writes);
    match write_runs(connection, writes, latest, tell).await {
        // Such as a new run that is there already.
        Err(StoreError::Locked(_)) => Ok(false),
        written => written,
    }
}

/// Whether one statement writes all of it, and needs no other look than that at its run.
fn is_plain(commit: &Commit) -> bool {
    // Without `..`: whoever adds a field has to think of it here.
    let Commit {
        run: _,
        expected: _,
        events: _,
        timers_set: _,
        timers_cleared: _,
        lease: _,
        pins: _,
        blobs,
        steps,
        approvals,
        items,
        items_dropped,
        outbox,
        outbox_done,
        snapshot,
        idempotency,
        inbox_done,
        admission,
    } = commit;
    blobs.is_empty()
        && approvals.is_empty()
        && items.is_empty()
        && items_dropped.is_empty()
        && outbox.is_empty()
        && outbox_done.is_empty()
        && inbox_done.is_empty()
        && snapshot.is_none()
        && idempotency.is_none()
        && admission.is_none()
        && steps.iter().all(ended_by_itself)
}

/// A step that is stopped may be recording a call at this moment; one that gave its result has recorded all of its calls.
fn ended_by_itself(step: &StepRow) -> bool {
    !step.status.is_terminal() || step.status == StepStatus::Succeeded
}

/// All other rows. Statements that have nothing to do are not sent.
pub(super) async fn write_rows(
    connection: &mut PgConnection,
    mut writes: Writes,
    then: Then,
) -> Result<(), StoreError> {
    let tell = others_need_it(&writes);
    if writes.has_rest() || !writes.inbox_done.is_empty() {
        write_rest(connection, &mut writes).await?;
    }
    let ended = std::mem::take(&mut writes.steps_ended);
    let latest = match then {
        Then::GoOn => None,
        Then::End(latest) => latest,
    };
    if !write_runs(connection, writes, latest, tell).await? {
        return Err(StoreError::Other("a run was moved while it was locked".to_owned()));
    }
    if !ended.is_empty() {
        // What a step recorded while it was stopped is seen only now that its row is held.
        execute(connection, query!(CALLS_DELETE, ended.finish())).await?;
    }
    match then {
        Then::GoOn => Ok(()),
        Then::End(_) => execute(connection, query!(COMMIT)).await,
    }
}

/// Whether other hosts have to look: for a message to deliver, or a timer that is due before those they know of.
fn others_need_it(writes: &Writes) -> bool {
    !writes.outbox.is_empty() || !writes.timers_set.is_empty()
}

async fn write_rest(connection: &mut PgConnection, writes: &mut Writes) -> Result<(), StoreError> {
    let finish = |rows: &mut Rows| fit(std::mem::take(rows).finish());
    let Writes { approvals, items, items_dropped, outbox, outbox_done, idempotency, inbox_done, .. } = writes;
    let [approvals, items, outbox, keys, taken] = [approvals, items, outbox, idempotency, inbox_done].map(finish);
    execute(connection, query!(COMMIT_REST, approvals, items, outbox, keys, taken)).await?;
    if !outbox_done.is_empty() {
        // A message may have been made in this very batch.
        execute(connection, query!(OUTBOX_DELETE, finish(outbox_done))).await?;
    }
    if !items_dropped.is_empty() {
        execute(connection, query!(ITEMS_DROP, finish(items_dropped))).await?;
    }
    Ok(())
}

/// What nearly every commit has. False if the runs are not where they are expected: then nothing is written.
async fn write_runs(
    connection: &mut PgConnection,
    writes: Writes,
    latest: Option<Timestamp>,
    tell: bool,
) -> Result<bool, StoreError> {
    let Writes { runs_new, mut runs_moved, runs_settled, events, steps, timers_set, timers_cleared, .. } = writes;
    runs_moved.append(&runs_settled);
    let [new, moved, events, steps, set, cleared] =
        [runs_new, runs_moved, events, steps, timers_set, timers_cleared].map(Rows::finish).map(fit);
    let [pins, admissions, steps_ended, runs_ended] =
        [writes.pins, writes.admissions, writes.steps_ended, writes.runs_ended].map(Rows::finish).map(fit);
    let latest = latest.map(|time| time.0);
    let query = query!(
        COMMIT_RUNS,
        new,
        moved,
        events,
        steps,
        set,
        cleared,
        pins,
        admissions,
        steps_ended,
        runs_ended,
        latest,
        tell
    );
    Ok(one(connection, query, rows::flag).await?.unwrap_or(false))
}
