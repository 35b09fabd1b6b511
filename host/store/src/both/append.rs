//! Records of journals and their effects, as the writer writes them.
//!
//! Invariant: a record is inserted by the statement that checks the fence, in the transaction of its effects. What the fence refuses has
//! changed nothing.

use caisson_core::ports::{
    ArtifactRow, Effect, EmittedEvent, EntryKey, JournalError, KvScope, Record, SessionChange, SessionRow, StoreError,
};
use caisson_core::time::Timestamp;

use super::Select;
use super::commit;
use super::read::one;
use super::writer::execute;
use super::{Connection, error, rows};
use crate::encode::{Rows, payload_text};

/// What is written together.
pub(crate) struct Append {
    /// The record and its place. `None`: effects alone.
    pub place: Option<(EntryKey, u32, Record)>,
    pub effects: Vec<Effect>,
}

impl Append {
    /// Roughly how many bytes it writes.
    pub(crate) fn size(&self) -> usize {
        /// Ids, hashes, times and index entries.
        const ROW_BYTES: usize = 400;
        let effects = self.effects.iter().map(|effect| match effect {
            Effect::SetKey { value, .. } => value.len(),
            Effect::Emit(event) => event.payload.inline().map_or(0, |json| json.get().len()),
            Effect::Session(change) => change.lines.iter().map(|line| line.get().len() + ROW_BYTES).sum(),
            Effect::DeleteKey { .. } | Effect::Artifact(_) => 0,
        });
        let record = self.place.as_ref().map_or(0, |(_, _, record)| record.answer.get().len());
        record + effects.sum::<usize>() + ROW_BYTES * (1 + self.effects.len())
    }

    /// The latest time that it knows of.
    pub(crate) fn latest_time(&self) -> Option<Timestamp> {
        let times = self.effects.iter().filter_map(|effect| match effect {
            Effect::Emit(event) => Some(event.at),
            Effect::Artifact(file) => Some(file.at),
            Effect::Session(change) => Some(change.row.updated_at),
            Effect::SetKey { .. } | Effect::DeleteKey { .. } => None,
        });
        times.max()
    }
}

/// Writes them in a transaction that is under way; each is refused alone. An error means that the transaction is lost.
pub(crate) async fn all(
    connection: &mut Connection,
    appends: &[&Append],
) -> Result<Vec<Result<(), JournalError>>, StoreError> {
    let mut results = Vec::with_capacity(appends.len());
    for append in appends {
        match alone(connection, append).await {
            Err(JournalError::Store(error)) => return Err(error),
            done => results.push(done),
        }
    }
    Ok(results)
}

async fn alone(connection: &mut Connection, append: &Append) -> Result<(), JournalError> {
    // Nothing else can be refused after something was written.
    let may_undo = append.effects.iter().any(|effect| matches!(effect, Effect::SetKey { .. }));
    if !may_undo {
        return write(connection, append).await;
    }
    execute(connection, query!(SAVEPOINT)).await?;
    let done = write(connection, append).await;
    match &done {
        Ok(()) | Err(JournalError::Superseded) => execute(connection, query!(KEEP)).await?,
        Err(JournalError::Quota(_)) => execute(connection, query!(UNDO)).await?,
        Err(JournalError::Store(_)) => {}
    }
    done
}

async fn write(connection: &mut Connection, append: &Append) -> Result<(), JournalError> {
    if let Some((entry, number, record)) = &append.place
        && !insert(connection, entry, *number, record).await?
    {
        return Ok(());
    }
    for effect in &append.effects {
        match effect {
            Effect::SetKey { scope, key, value, max_keys, max_bytes } => {
                set_key(connection, scope, key, value, *max_keys, *max_bytes).await?;
            }
            Effect::DeleteKey { scope, key } => delete_key(connection, scope, key).await?,
            Effect::Emit(event) => execute(connection, emit(event)).await?,
            Effect::Artifact(file) => execute(connection, artifact(file)).await?,
            Effect::Session(change) => change_session(connection, change).await?,
        }
    }
    Ok(())
}

/// `false`: the very record is there already, and its effects with it.
async fn insert(
    connection: &mut Connection,
    entry: &EntryKey,
    number: u32,
    record: &Record,
) -> Result<bool, JournalError> {
    let (run, step) = (entry.run.as_str(), entry.step.cast_signed());
    let [attempt, of_entry, claim, number] = [entry.attempt, entry.entry, entry.claim, number].map(i64::from);
    let inserted = query!(
        RECORD_INSERT,
        run,
        step,
        attempt,
        of_entry,
        claim,
        number,
        record.call.as_ref(),
        record.request.as_ref(),
        record.answer.get(),
        record.clock_ms.cast_signed()
    )
    .execute(&mut *connection)
    .await
    .map_err(|e| error::of(&e))?;
    if inserted.rows_affected() > 0 {
        return Ok(true);
    }
    let query = query!(RECORD_THERE, run, step, attempt, of_entry, claim, number);
    match one(connection, query, rows::record_if_there).await? {
        Some(Some(there)) if there == *record => Ok(false),
        None | Some(Some(_)) => Err(JournalError::Superseded),
        Some(None) => {
            let message = format!("record {number} of step {step} of run {run} does not follow the last one");
            Err(StoreError::Other(message).into())
        }
    }
}

/// What a scope holds.
struct Totals {
    keys: u64,
    bytes: u64,
    /// Length of the value that is there under the key.
    there: Option<u64>,
}

async fn totals(connection: &mut Connection, scope: &KvScope, key: &str) -> Result<Totals, StoreError> {
    commit::lock_scope(connection, scope).await?;
    let query = query!(
        KV_TOTALS,
        scope.realm.tenant.as_ref(),
        scope.realm.environment.as_ref(),
        scope.plugin.as_ref(),
        scope.workflow.as_ref(),
        commit::kv_key(key)
    );
    let (keys, bytes, there) = one(connection, query, rows::totals).await?.unwrap_or_default();
    Ok(Totals { keys, bytes, there })
}

async fn set_key(
    connection: &mut Connection,
    scope: &KvScope,
    key: &str,
    value: &[u8],
    max_keys: u64,
    max_bytes: u64,
) -> Result<(), JournalError> {
    let Totals { keys, bytes, there } = totals(connection, scope, key).await?;
    let (key_bytes, value_bytes) = (key.len() as u64, value.len() as u64);
    let (keys, bytes) = match there {
        Some(before) => (keys, bytes.saturating_sub(before) + value_bytes),
        None => (keys + 1, bytes + key_bytes + value_bytes),
    };
    if keys > max_keys {
        let message = format!(
            "kv: {keys} keys would pass the quota of {max_keys}; delete some, or have an operator raise kv.maxKeys"
        );
        return Err(JournalError::Quota(message));
    }
    if bytes > max_bytes {
        let message = format!(
            "kv: {bytes} bytes of keys and values would pass the quota of {max_bytes}; delete some, or have an operator raise kv.maxBytes"
        );
        return Err(JournalError::Quota(message));
    }
    let query = query!(
        KV_SET,
        scope.realm.tenant.as_ref(),
        scope.realm.environment.as_ref(),
        scope.plugin.as_ref(),
        scope.workflow.as_ref(),
        commit::kv_key(key),
        value,
        keys.cast_signed(),
        bytes.cast_signed()
    );
    Ok(execute(connection, query).await?)
}

async fn delete_key(connection: &mut Connection, scope: &KvScope, key: &str) -> Result<(), StoreError> {
    let Totals { keys, bytes, there } = totals(connection, scope, key).await?;
    let Some(value_bytes) = there else { return Ok(()) };
    let query = query!(
        KV_DELETE,
        scope.realm.tenant.as_ref(),
        scope.realm.environment.as_ref(),
        scope.plugin.as_ref(),
        scope.workflow.as_ref(),
        commit::kv_key(key),
        keys.saturating_sub(1).cast_signed(),
        bytes.saturating_sub(key.len() as u64 + value_bytes).cast_signed()
    );
    execute(connection, query).await
}

fn emit(event: &EmittedEvent) -> Select<'_> {
    query!(
        EMITTED_INSERT,
        event.id.as_ref(),
        event.realm.tenant.as_ref(),
        event.realm.environment.as_ref(),
        event.run.as_str(),
        event.step_id.as_str(),
        event.plugin.as_ref(),
        event.name.as_ref(),
        event.correlation_key.as_deref(),
        payload_text(&event.payload),
        event.at.0
    )
}

/// The row, then the lines: one statement for all of them.
async fn change_session(connection: &mut Connection, change: &SessionChange) -> Result<(), StoreError> {
    let SessionChange { row, first, lines } = change;
    execute(connection, session(row)).await?;
    if lines.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::default();
    for (number, line) in (*first..).zip(lines) {
        rows.row(|r| {
            r.count(number.into()).text(line.get());
        });
    }
    let (tenant, environment) = (row.realm.tenant.as_ref(), row.realm.environment.as_ref());
    let query = query!(SESSION_LINES_INSERT, row.run.as_str(), row.id.as_ref(), tenant, environment, rows.finish());
    execute(connection, query).await
}

fn session(row: &SessionRow) -> Select<'_> {
    query!(
        SESSION_UPSERT,
        row.id.as_ref(),
        row.realm.tenant.as_ref(),
        row.realm.environment.as_ref(),
        row.run.as_str(),
        row.step_id.as_str(),
        i64::from(row.attempt),
        row.parent.as_deref(),
        row.name.as_ref(),
        row.agent.as_ref(),
        row.status.as_str(),
        i64::from(row.turns),
        i64::from(row.lines),
        row.bytes.cast_signed(),
        row.input_tokens.cast_signed(),
        row.output_tokens.cast_signed(),
        row.created_at.0,
        row.updated_at.0
    )
}

fn artifact(file: &ArtifactRow) -> Select<'_> {
    query!(
        ARTIFACT_UPSERT,
        file.id.as_ref(),
        file.realm.tenant.as_ref(),
        file.realm.environment.as_ref(),
        file.run.as_str(),
        file.step_id.as_str(),
        file.plugin.as_ref(),
        file.name.as_ref(),
        file.mime_type.as_ref(),
        file.size.cast_signed(),
        file.sha256.as_ref(),
        file.path.as_ref(),
        file.at.0
    )
}
