//! Installed plugins, records, and what guests leave behind.

use caisson_core::ids::{RunId, StepId};
use caisson_core::json::Payload;
use caisson_core::plugin::PluginStatus;
use caisson_core::ports::{
    ArtifactRow, EmittedEvent, PluginRow, Record, SessionLine, SessionRow, SessionStatus, StoreError,
};

use super::{Columns, corrupt};

/// A single value or component.
pub(crate) fn bytes(c: &mut Columns<'_>) -> Result<Vec<u8>, StoreError> {
    c.get()
}

/// A single name.
pub(crate) fn name(c: &mut Columns<'_>) -> Result<String, StoreError> {
    c.get()
}

/// A single run.
pub(crate) fn run_id(c: &mut Columns<'_>) -> Result<RunId, StoreError> {
    c.run_id()
}

pub(crate) fn record(c: &mut Columns<'_>) -> Result<Record, StoreError> {
    Ok(Record { call: c.text()?, request: c.text()?, answer: c.json()?, clock_ms: c.get::<i64>()?.cast_unsigned() })
}

/// A record of which every column is absent, or none.
pub(crate) fn record_if_there(c: &mut Columns<'_>) -> Result<Option<Record>, StoreError> {
    let there = c.get::<Option<&str>>()?.is_some();
    c.at = 0;
    there.then(|| record(c)).transpose()
}

/// Keys, bytes, and the length of one value.
pub(crate) fn totals(c: &mut Columns<'_>) -> Result<(u64, u64, Option<u64>), StoreError> {
    Ok((c.count()?, c.count()?, c.opt_count()?))
}

/// An event and its number.
pub(crate) fn emitted(c: &mut Columns<'_>) -> Result<(i64, EmittedEvent), StoreError> {
    Ok((
        c.get()?,
        EmittedEvent {
            id: c.text()?,
            realm: c.realm()?,
            run: c.run_id()?,
            step_id: c.text().map(StepId::new)?,
            plugin: c.text()?,
            name: c.text()?,
            correlation_key: c.opt_text()?,
            payload: c.parsed::<Payload>()?,
            at: c.time()?,
        },
    ))
}

/// A file and its number.
pub(crate) fn artifact(c: &mut Columns<'_>) -> Result<(i64, ArtifactRow), StoreError> {
    Ok((
        c.get()?,
        ArtifactRow {
            id: c.text()?,
            realm: c.realm()?,
            run: c.run_id()?,
            step_id: c.text().map(StepId::new)?,
            plugin: c.text()?,
            name: c.text()?,
            mime_type: c.text()?,
            size: c.count()?,
            sha256: c.text()?,
            path: c.text()?,
            at: c.time()?,
        },
    ))
}

/// A session of an agent and its number.
pub(crate) fn session(c: &mut Columns<'_>) -> Result<(i64, SessionRow), StoreError> {
    Ok((
        c.get()?,
        SessionRow {
            id: c.text()?,
            realm: c.realm()?,
            run: c.run_id()?,
            step_id: c.text().map(StepId::new)?,
            attempt: c.small()?,
            parent: c.opt_text()?,
            name: c.text()?,
            agent: c.text()?,
            status: SessionStatus::parse(c.get()?).ok_or_else(|| corrupt("a session's status is unknown"))?,
            turns: c.small()?,
            lines: c.small()?,
            bytes: c.count()?,
            input_tokens: c.count()?,
            output_tokens: c.count()?,
            created_at: c.time()?,
            updated_at: c.time()?,
        },
    ))
}

pub(crate) fn session_line(c: &mut Columns<'_>) -> Result<SessionLine, StoreError> {
    Ok(SessionLine { number: c.small()?, line: c.json()? })
}

/// Id, digest and version stand in the package as well; their columns are for finding rows.
pub(crate) fn plugin(c: &mut Columns<'_>) -> Result<PluginRow, StoreError> {
    let realm = c.realm()?;
    for _ in ["id", "digest", "version"] {
        c.get::<&str>()?;
    }
    Ok(PluginRow {
        realm,
        status: PluginStatus::parse(c.get()?).ok_or_else(|| corrupt("a plugin's status is unknown"))?,
        package: c.parsed()?,
        grants: c.parsed()?,
        config: c.json()?,
        source: c.text()?,
        error: c.get()?,
        installed_by: c.text()?,
        installed_at: c.time()?,
        decided_by: c.opt_text()?,
        decided_at: c.opt_time()?,
    })
}
