//! Stored rows to the port's structs, column by column, in the order of the lists in `sql`. What does not read is [`StoreError::Corrupt`].

#[path = "rows/plugins.rs"]
mod plugins;

use std::sync::Arc;

use caisson_core::engine::ApprovalStatus;
use caisson_core::ids::{ApprovalId, Realm, RunId, StepId};
use caisson_core::json::{Blob, BlobRef, Json, Payload};
use caisson_core::ports::{
    ApiKeyRow, ApprovalRow, DefinitionRow, EventRow, Held, HostLogLine, ItemRow, LogLevel, LogLine, OutboxRow,
    ReadyRow, ResourceKey, ResourceKind, ResourceRow, RunCounts, RunRow, StepRow, StoreError, TimerRow, VersionRow,
};
use caisson_core::status::{RunStatus, StepStatus};
use caisson_core::time::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::{Decode, Row, Type};

pub(crate) use self::plugins::{
    artifact, bytes, emitted, name, plugin, record, record_if_there, run_id, session, session_line, totals,
};
use super::{Db, DbRow, error};

/// Reads the columns of one row from left to right.
pub(crate) struct Columns<'r> {
    row: &'r DbRow,
    at: usize,
}

impl<'r> Columns<'r> {
    pub(crate) fn of(row: &'r DbRow) -> Self {
        Self { row, at: 0 }
    }

    pub(crate) fn get<T: Decode<'r, Db> + Type<Db>>(&mut self) -> Result<T, StoreError> {
        let value = self.row.try_get(self.at).map_err(|e| error::of(&e));
        self.at += 1;
        value
    }

    pub(crate) fn text(&mut self) -> Result<Arc<str>, StoreError> {
        self.get::<&str>().map(Arc::from)
    }

    fn opt_text(&mut self) -> Result<Option<Arc<str>>, StoreError> {
        Ok(self.get::<Option<&str>>()?.map(Arc::from))
    }

    pub(crate) fn count(&mut self) -> Result<u64, StoreError> {
        self.get::<i64>().and_then(unsigned)
    }

    fn opt_count(&mut self) -> Result<Option<u64>, StoreError> {
        self.get::<Option<i64>>()?.map(unsigned).transpose()
    }

    pub(crate) fn small(&mut self) -> Result<u32, StoreError> {
        u32::try_from(self.get::<i64>()?).map_err(|_| corrupt("a count is out of range"))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, StoreError> {
        Ok(self.get::<i64>()? != 0)
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.get().map(Timestamp)
    }

    pub(crate) fn opt_time(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.get::<Option<i64>>()?.map(Timestamp))
    }

    pub(crate) fn json(&mut self) -> Result<Json, StoreError> {
        Json::parse(self.get::<String>()?).map_err(|_| corrupt("a value is not JSON"))
    }

    fn opt_json(&mut self) -> Result<Option<Json>, StoreError> {
        self.get::<Option<String>>()?.map(Json::parse).transpose().map_err(|_| corrupt("a value is not JSON"))
    }

    fn parsed<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        parse(self.get::<&str>()?)
    }

    fn opt_parsed<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StoreError> {
        self.get::<Option<&str>>()?.map(parse).transpose()
    }

    pub(crate) fn run_id(&mut self) -> Result<RunId, StoreError> {
        self.text().map(RunId::new)
    }

    fn realm(&mut self) -> Result<Realm, StoreError> {
        Ok(Realm { tenant: self.text()?, environment: self.text()? })
    }
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| corrupt("a count is negative"))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Corrupt(format!("a value does not read: {e}")))
}

/// Reads every row the same way.
pub(crate) fn every<T>(
    rows: &[DbRow],
    read: impl Fn(&mut Columns<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    rows.iter().map(|row| read(&mut Columns::of(row))).collect()
}

/// A single count.
pub(crate) fn count(c: &mut Columns<'_>) -> Result<u64, StoreError> {
    c.count()
}

/// A single count that may be absent.
pub(crate) fn number(c: &mut Columns<'_>) -> Result<Option<u64>, StoreError> {
    c.opt_count()
}

/// The place of a key, and what runs and waits of it.
pub(crate) fn held(c: &mut Columns<'_>) -> Result<(u64, Held), StoreError> {
    Ok((c.count()?, Held { begun: c.count()?, waiting: c.count()? }))
}

/// A single truth.
pub(crate) fn flag(c: &mut Columns<'_>) -> Result<bool, StoreError> {
    c.flag()
}

/// A single time that may be absent.
pub(crate) fn time(c: &mut Columns<'_>) -> Result<Option<Timestamp>, StoreError> {
    c.opt_time()
}

pub(crate) fn run(c: &mut Columns<'_>) -> Result<RunRow, StoreError> {
    Ok(RunRow {
        id: c.run_id()?,
        realm: c.realm()?,
        workflow_id: c.text()?,
        workflow_version: c.text()?,
        digest: c.text()?,
        name: c.get()?,
        project_id: c.get()?,
        created_by: c.text()?,
        status: RunStatus::parse(c.get()?).ok_or_else(|| corrupt("a run's status is unknown"))?,
        phase: c.opt_text()?,
        current_states: c.parsed()?,
        input: c.parsed()?,
        output: c.opt_parsed()?,
        error: c.opt_json()?,
        parent: match (c.opt_text()?, c.opt_count()?) {
            (Some(run), Some(step)) => Some((RunId::new(run), step)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(corrupt("a run's parent is half there")),
        },
        forked_from: c.opt_text()?.map(RunId::new),
        steps: c.count()?,
        created_at: c.time()?,
        started_at: c.opt_time()?,
        completed_at: c.opt_time()?,
        paused_at: c.opt_time()?,
        cancelled_at: c.opt_time()?,
        version: c.count()?,
        last_seq: c.count()?,
        last_hash: c.text()?,
    })
}

pub(crate) fn event(c: &mut Columns<'_>) -> Result<EventRow, StoreError> {
    let (seq, kind, at, actor) = (c.count()?, c.text()?, c.time()?, c.opt_text()?);
    let (step_id, v) = (c.opt_text()?.map(StepId::new), c.small()?);
    let (data, data_sha256): (String, _) = (c.get()?, c.opt_text()?);
    let data = super::retention::data(data, data_sha256.as_deref()).map_err(|_| corrupt("a value is not JSON"))?;
    Ok(EventRow { seq, kind, at, actor, step_id, v, data, data_sha256, prev_hash: c.text()?, hash: c.text()? })
}

pub(crate) fn counts(c: &mut Columns<'_>) -> Result<(RunId, RunCounts), StoreError> {
    Ok((c.run_id()?, RunCounts { approvals: c.count()?, artifacts: c.count()?, sessions: c.count()? }))
}

pub(crate) fn step(c: &mut Columns<'_>) -> Result<StepRow, StoreError> {
    Ok(StepRow {
        number: c.count()?,
        id: c.text().map(StepId::new)?,
        state: c.text()?,
        state_type: c.text()?,
        branch_path: c.get()?,
        index: c.opt_count()?,
        phase: c.opt_text()?,
        action: c.opt_text()?,
        plugin: c.opt_json()?,
        status: StepStatus::parse(c.get()?).ok_or_else(|| corrupt("a step's status is unknown"))?,
        attempt: c.small()?,
        max_attempts: c.small()?,
        claim: c.small()?,
        host: c.opt_text()?,
        ready_at: c.opt_time()?,
        dispatch: c.small()?,
        input_seq: c.count()?,
        result_seq: c.opt_count()?,
        error: c.opt_json()?,
        usage: c.json()?,
        child: c.opt_text()?.map(RunId::new),
        created_at: c.time()?,
        started_at: c.opt_time()?,
        completed_at: c.opt_time()?,
        entry: c.small()?,
    })
}

/// With its run.
pub(crate) fn dead(c: &mut Columns<'_>) -> Result<(RunId, StepRow), StoreError> {
    Ok((c.run_id()?, step(c)?))
}

pub(crate) fn resource(c: &mut Columns<'_>) -> Result<ResourceRow, StoreError> {
    Ok(ResourceRow {
        key: ResourceKey {
            realm: c.realm()?,
            kind: ResourceKind::parse(c.get()?).ok_or_else(|| corrupt("a resource's kind is unknown"))?,
            name: c.text()?,
        },
        number: c.count()?,
        digest: c.text()?,
        source: c.text()?,
        enabled: c.flag()?,
        file: c.opt_text()?,
        created_by: c.text()?,
        created_at: c.time()?,
        updated_at: c.time()?,
    })
}

pub(crate) fn approval(c: &mut Columns<'_>) -> Result<ApprovalRow, StoreError> {
    Ok(ApprovalRow {
        id: c.text().map(ApprovalId::new)?,
        realm: c.realm()?,
        run: c.run_id()?,
        step_id: c.text().map(StepId::new)?,
        step: c.count()?,
        status: ApprovalStatus::parse(c.get()?).ok_or_else(|| corrupt("an approval's status is unknown"))?,
        message: c.get()?,
        summary: c.opt_parsed()?,
        approvers: c.parsed()?,
        deadline: c.opt_time()?,
        decided_by: c.opt_text()?,
        comment: c.get()?,
        created_at: c.time()?,
        decided_at: c.opt_time()?,
    })
}

pub(crate) fn item(c: &mut Columns<'_>) -> Result<ItemRow, StoreError> {
    Ok(ItemRow { step: c.count()?, index: c.count()?, result: c.parsed::<Payload>()? })
}

pub(crate) fn blob(c: &mut Columns<'_>) -> Result<Blob, StoreError> {
    Ok(Blob { id: BlobRef { sha256: c.text()?, size: c.count()? }, json: c.json()? })
}

pub(crate) fn snapshot(c: &mut Columns<'_>) -> Result<(u64, Json), StoreError> {
    Ok((c.count()?, c.json()?))
}

pub(crate) fn ready(c: &mut Columns<'_>) -> Result<ReadyRow, StoreError> {
    Ok(ReadyRow { run: c.run_id()?, step: c.count()?, attempt: c.small()?, entry: c.small()?, dispatch: c.small()? })
}

/// With the time since when it waits.
pub(crate) fn redispatched(c: &mut Columns<'_>) -> Result<(ReadyRow, Timestamp), StoreError> {
    Ok((ready(c)?, c.time()?))
}

pub(crate) fn claimed(c: &mut Columns<'_>) -> Result<(RunId, u64, u32), StoreError> {
    Ok((c.run_id()?, c.count()?, c.small()?))
}

pub(crate) fn timer(c: &mut Columns<'_>) -> Result<TimerRow, StoreError> {
    Ok(TimerRow { run: c.run_id()?, key: c.text()?, due_at: c.time()? })
}

pub(crate) fn message(c: &mut Columns<'_>) -> Result<OutboxRow, StoreError> {
    Ok(OutboxRow { id: c.text()?, target: c.run_id()?, message: c.json()? })
}

pub(crate) fn keyed_run(c: &mut Columns<'_>) -> Result<(RunId, String), StoreError> {
    Ok((c.run_id()?, c.get()?))
}

pub(crate) fn definition(c: &mut Columns<'_>) -> Result<DefinitionRow, StoreError> {
    Ok(DefinitionRow {
        realm: c.realm()?,
        id: c.text()?,
        current: c.count()?,
        enabled: c.flag()?,
        paused: c.flag()?,
        created_at: c.time()?,
        updated_at: c.time()?,
    })
}

pub(crate) fn version(c: &mut Columns<'_>) -> Result<VersionRow, StoreError> {
    Ok(VersionRow {
        realm: c.realm()?,
        workflow: c.text()?,
        number: c.count()?,
        label: c.text()?,
        digest: c.text()?,
        name: c.get()?,
        description: c.get()?,
        definition: c.json()?,
        created_by: c.text()?,
        created_at: c.time()?,
    })
}

pub(crate) fn definition_in_force(c: &mut Columns<'_>) -> Result<(DefinitionRow, VersionRow), StoreError> {
    Ok((definition(c)?, version(c)?))
}

pub(crate) fn key(c: &mut Columns<'_>) -> Result<ApiKeyRow, StoreError> {
    Ok(ApiKeyRow {
        id: c.text()?,
        key_hash: c.text()?,
        tenant: c.text()?,
        actor: c.text()?,
        teams: c.parsed()?,
        role: c.text()?,
        created_at: c.time()?,
        last_used_at: c.opt_time()?,
        revoked_at: c.opt_time()?,
    })
}

/// A line and its number.
pub(crate) fn log(c: &mut Columns<'_>) -> Result<(i64, HostLogLine), StoreError> {
    Ok((
        c.get()?,
        HostLogLine {
            run: c.run_id()?,
            step: c.text().map(StepId::new)?,
            line: LogLine {
                at: c.time()?,
                level: c.get::<Option<&str>>()?.map(log_level).transpose()?,
                message: c.get()?,
                fields: c.get()?,
                percent: c.opt_count()?.and_then(|percent| u8::try_from(percent).ok()),
            },
        },
    ))
}

/// The stored word for a level.
pub(crate) fn log_level_text(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::Fatal => "fatal",
    }
}

fn log_level(text: &str) -> Result<LogLevel, StoreError> {
    use LogLevel::{Debug, Error, Fatal, Info, Trace, Warn};
    [Trace, Debug, Info, Warn, Error, Fatal]
        .into_iter()
        .find(|level| log_level_text(*level) == text)
        .ok_or_else(|| corrupt("a log level is unknown"))
}
