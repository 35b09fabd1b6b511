//! Every statement, in one place: a test prepares each and counts its arguments, since sqlx binds a missing `$n` as NULL without a word.
//!
//! Columns of one kind of row are listed once and read by `rows` in that order. What SQLite and PostgreSQL agree on is written
//! for both (`$1` binds); `json_each` and multi-statement texts are SQLite's own.

/// A run's columns, in the order of `rows::run`.
macro_rules! run_columns {
    () => {
        "id, tenant, environment, workflow_id, workflow_version, digest, name, project_id, created_by, status, phase, current_states, \
         input, output, error, parent_run, parent_step, forked_from, steps, created_at, started_at, completed_at, paused_at, \
         cancelled_at, version, last_seq, last_hash"
    };
}
/// An event's columns, in the order of `rows::event`.
macro_rules! event_columns {
    () => {
        "e.seq, e.kind, e.at, e.actor, e.step_id, e.v, e.data, e.data_sha256, e.prev_hash, e.hash"
    };
}
/// A step's columns, in the order of `rows::step`.
macro_rules! step_columns {
    () => {
        "number, step_id, state, state_type, branch_path, item_index, phase, action, plugin, status, attempt, max_attempts, claim, \
         host, ready_at, dispatch, input_seq, result_seq, error, usage, child, created_at, started_at, completed_at, entry"
    };
}
/// An approval's columns, in the order of `rows::approval`.
macro_rules! approval_columns {
    () => {
        "id, tenant, environment, run_id, step_id, step, status, message, summary, approvers, deadline, decided_by, comment, \
         created_at, decided_at"
    };
}
/// A workflow's columns, in the order of `rows::definition`.
macro_rules! definition_columns {
    () => {
        "d.tenant, d.environment, d.id, d.current, d.enabled, d.paused, d.created_at, d.updated_at"
    };
}
/// A revision's columns, in the order of `rows::version`.
macro_rules! version_columns {
    () => {
        "v.tenant, v.environment, v.workflow, v.number, v.label, v.digest, v.name, v.description, v.definition, v.created_by, \
         v.created_at"
    };
}
/// A key's columns, in the order of `rows::key`.
macro_rules! key_columns {
    () => {
        "id, key_hash, tenant, actor, teams, role, created_at, last_used_at, revoked_at"
    };
}
/// What is stored of the runs ($1) and of the idempotency keys ($2) of a batch, both JSON arrays of text.
macro_rules! check_statement {
    () => {
        "SELECT 0, r.id, r.status, r.version, r.last_seq FROM json_each($1) AS j CROSS JOIN runs AS r ON r.id = j.value \
         UNION ALL \
         SELECT 1, k.key, k.run_id, k.request_hash, 0 FROM json_each($2) AS j CROSS JOIN idempotency_keys AS k ON k.key = j.value;"
    };
}
/// Raises the latest time that is stored, as parameter `$n`.
macro_rules! note_time_statement {
    ($n:literal) => {
        concat!(
            "INSERT INTO meta (tenant, environment, key, value) SELECT '', '', 'latest_time', $",
            $n,
            " WHERE $",
            $n,
            " IS NOT NULL ON CONFLICT (tenant, environment, key) DO UPDATE SET value = excluded.value WHERE value < excluded.value;"
        )
    };
}

/// A statement and how many arguments it takes.
pub(crate) struct Statement {
    pub sql: &'static str,
    pub arguments: usize,
}

/// A statement with its arguments.
pub(crate) type Select<'q> = sqlx::query::Query<'q, sqlx::sqlite::Sqlite, sqlx::sqlite::SqliteArguments>;

/// Binds a statement of this module: a wrong number of arguments does not compile.
macro_rules! query {
    (@unit $argument:expr) => { () };
    ($name:ident $(, $argument:expr)* $(,)?) => {{
        const { assert!($crate::sqlite::sql::$name.arguments == <[()]>::len(&[$($crate::sqlite::sql::query!(@unit $argument)),*])) };
        sqlx::query($crate::sqlite::sql::$name.sql)$(.bind($argument))*
    }};
}
pub(crate) use query;

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident ($arguments:literal) = $sql:expr;)*) => {
        $($(#[$doc])* pub(crate) const $name: Statement = Statement { sql: $sql, arguments: $arguments };)*
        /// All of them, by name.
        #[cfg(test)]
        pub(super) const ALL: &[(&str, Statement)] = &[$((stringify!($name), $name),)*];
    };
}

mod load;
mod plugins;
mod resources;
mod retention;

pub(crate) use self::load::*;
pub(crate) use self::plugins::*;
pub(crate) use self::resources::*;
pub(crate) use self::retention::*;

statements! {
    /// Begins a batch: one crossing to SQLite's thread.
    BEGIN_CHECK (2) = concat!("BEGIN IMMEDIATE; ", check_statement!());
    /// Checks a later wave of the same batch.
    CHECK (2) = check_statement!();
    BEGIN (0) = "BEGIN IMMEDIATE";
    COMMIT (0) = "COMMIT";
    ROLLBACK (0) = "ROLLBACK";
    /// What nearly every commit has.
    COMMIT_RUNS (7) = include_str!("sql/commit_runs.sql");
    /// The same, as the last of a batch: $8 is the latest time in it.
    COMMIT_RUNS_END (8) = concat!(include_str!("sql/commit_runs.sql"), note_time_statement!("8"), " COMMIT;");
    /// What only some have.
    COMMIT_REST (6) = include_str!("sql/commit_rest.sql");
    /// What only runs with installed plugins, with journals, or with a limit on how many run at once, have.
    COMMIT_PLUGINS (4) = include_str!("sql/commit_plugins.sql");
    /// Each on its own: a megabyte of text is bound faster than it is escaped.
    BLOB_INSERT (6) = "INSERT INTO blobs (tenant, environment, sha256, size, json) VALUES ($1, $2, $3, $4, $5) \
        ON CONFLICT (sha256, tenant, environment) DO NOTHING; \
        INSERT INTO blob_refs (sha256, tenant, environment, run_id) VALUES ($3, $1, $2, $6) \
        ON CONFLICT (sha256, tenant, environment, run_id) DO NOTHING;";
    SNAPSHOT_UPSERT (5) = "INSERT INTO snapshots (run_id, tenant, environment, seq, state) VALUES ($1, $2, $3, $4, $5) \
        ON CONFLICT (run_id) DO UPDATE SET seq = excluded.seq, state = excluded.state";
    NOTE_TIME (1) = note_time_statement!("1");
    /// The end of a batch without commits: $1 is the latest time in it, if it has any.
    BATCH_END (1) = concat!(note_time_statement!("1"), " COMMIT;");
    LATEST_TIME (0) = "SELECT value FROM meta WHERE tenant = '' AND environment = '' AND key = 'latest_time'";

    RUN (1) = concat!("SELECT ", run_columns!(), " FROM runs WHERE id = $1");
    SNAPSHOT (1) = "SELECT seq, state FROM snapshots WHERE run_id = $1";
    EVENTS (3) = concat!("SELECT ", event_columns!(), " FROM events AS e WHERE e.run_id = $1 AND e.seq > $2 ORDER BY e.seq LIMIT $3");
    EVENTS_AT (2) = concat!(
        "SELECT ", event_columns!(), " FROM json_each($2) AS j CROSS JOIN events AS e ON e.run_id = $1 AND e.seq = j.value"
    );
    BLOBS (1) = "SELECT sha256, size, json FROM blobs WHERE sha256 IN (SELECT value FROM json_each($1))";
    ITEMS (2) = "SELECT step, item_index, result FROM items WHERE run_id = $1 AND step = $2 ORDER BY item_index";
    RUN_BY_KEY (1) = "SELECT run_id, request_hash FROM idempotency_keys WHERE key = $1";
    STEPS (3) = concat!("SELECT ", step_columns!(), " FROM steps WHERE run_id = $1 AND number > $2 ORDER BY number LIMIT $3");
    STEP (2) = concat!("SELECT ", step_columns!(), " FROM steps WHERE run_id = $1 AND step_id = $2");

    /// The index on what is ready gives the order; the run says whether it may move.
    READY (1) = "SELECT s.run_id, s.number, s.attempt, s.entry, s.dispatch FROM steps AS s INDEXED BY steps_ready CROSS JOIN runs AS r ON r.id = s.run_id \
        WHERE s.ready_at IS NOT NULL AND r.status NOT IN ('PAUSED', 'COMPLETED', 'FAILED', 'CANCELLED', 'TIMED_OUT') \
        ORDER BY s.ready_at, s.run_id, s.number LIMIT $1";
    /// $1 published before, $2 now, $3 limit. The last column is for sorting: what is returned has no order.
    REDISPATCH (3) = "UPDATE steps SET dispatch = dispatch + 1, dispatched_at = $2 WHERE (run_id, number) IN ( \
        SELECT s.run_id, s.number FROM steps AS s INDEXED BY steps_ready CROSS JOIN runs AS r ON r.id = s.run_id \
        WHERE s.ready_at IS NOT NULL AND s.dispatched_at < $1 \
        AND r.status NOT IN ('PAUSED', 'COMPLETED', 'FAILED', 'CANCELLED', 'TIMED_OUT') \
        ORDER BY s.ready_at, s.run_id, s.number LIMIT $3) \
        RETURNING run_id, number, attempt, entry, dispatch, ready_at";
    CLAIMED_BY_OTHERS (2) = "SELECT run_id, number, claim FROM steps INDEXED BY steps_claimed \
        WHERE host IS NOT NULL AND host <> $1 ORDER BY run_id, number LIMIT $2";
    DUE_TIMERS (2) = "SELECT run_id, key, due_at FROM timers WHERE due_at <= $1 ORDER BY due_at, run_id, key LIMIT $2";
    NEXT_TIMER (0) = "SELECT min(due_at) FROM timers";
    OUTBOX (1) = "SELECT id, target, message FROM outbox ORDER BY number LIMIT $1";
    OUTBOX_DELETE (1) = "DELETE FROM outbox WHERE id IN (SELECT value FROM json_each($1))";

    APPROVAL (1) = concat!("SELECT ", approval_columns!(), " FROM approvals WHERE id = $1");

    DEFINITION (3) = concat!(
        "SELECT ", definition_columns!(), " FROM definitions AS d WHERE d.tenant = $1 AND d.environment = $2 AND d.id = $3"
    );
    DEFINITIONS (6) = concat!(
        "SELECT ", definition_columns!(), ", ", version_columns!(), " FROM definitions AS d JOIN definition_versions AS v \
         ON v.tenant = d.tenant AND v.environment = d.environment AND v.workflow = d.id AND v.number = d.current \
         WHERE d.tenant = $1 AND d.environment = $2 AND d.id > $3 AND ($4 IS NULL OR d.enabled = $4) \
         AND ($5 IS NULL OR instr(lower(d.id), lower($5)) > 0 OR instr(lower(v.name), lower($5)) > 0) ORDER BY d.id LIMIT $6"
    );
    VERSION_CURRENT (3) = concat!(
        "SELECT ", version_columns!(), " FROM definitions AS d JOIN definition_versions AS v \
         ON v.tenant = d.tenant AND v.environment = d.environment AND v.workflow = d.id AND v.number = d.current \
         WHERE d.tenant = $1 AND d.environment = $2 AND d.id = $3"
    );
    VERSION_BY_LABEL (4) = concat!(
        "SELECT ", version_columns!(), " FROM definition_versions AS v \
         WHERE v.tenant = $1 AND v.environment = $2 AND v.workflow = $3 AND v.label = $4"
    );
    VERSION_BY_NUMBER (4) = concat!(
        "SELECT ", version_columns!(), " FROM definition_versions AS v \
         WHERE v.tenant = $1 AND v.environment = $2 AND v.workflow = $3 AND v.number = $4"
    );
    VERSION_BY_DIGEST (4) = concat!(
        "SELECT ", version_columns!(), " FROM definition_versions AS v \
         WHERE v.tenant = $1 AND v.environment = $2 AND v.workflow = $3 AND v.digest = $4 ORDER BY v.number DESC LIMIT 1"
    );
    VERSIONS (5) = concat!(
        "SELECT ", version_columns!(), " FROM definition_versions AS v \
         WHERE v.tenant = $1 AND v.environment = $2 AND v.workflow = $3 AND v.number < $4 ORDER BY v.number DESC LIMIT $5"
    );
    VERSION_NEWEST (3) = "SELECT max(number) FROM definition_versions WHERE tenant = $1 AND environment = $2 AND workflow = $3";
    VERSION_INSERT (11) = "INSERT INTO definition_versions \
        (tenant, environment, workflow, number, label, digest, name, description, definition, created_by, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    DEFINITION_IN_FORCE (5) = "INSERT INTO definitions (tenant, environment, id, current, enabled, paused, created_at, updated_at) \
        VALUES ($1, $2, $3, $4, 1, 0, $5, $5) ON CONFLICT (tenant, environment, id) \
        DO UPDATE SET current = excluded.current, updated_at = excluded.updated_at WHERE current <> excluded.current";
    DEFINITION_SET (6) = "UPDATE definitions SET enabled = coalesce($4, enabled), paused = coalesce($5, paused), updated_at = $6 \
        WHERE tenant = $1 AND environment = $2 AND id = $3";
    DEFINITION_HAS_RUNS (3) = "SELECT 1 FROM runs WHERE tenant = $1 AND environment = $2 AND workflow_id = $3 LIMIT 1";
    DEFINITION_DELETE (3) = "DELETE FROM definitions WHERE tenant = $1 AND environment = $2 AND id = $3";
    VERSIONS_DELETE (3) = "DELETE FROM definition_versions WHERE tenant = $1 AND environment = $2 AND workflow = $3";
    RUN_STATS (4) = "SELECT max(created_at), count(*), \
        avg(CASE WHEN completed_at >= $4 THEN status = 'COMPLETED' END), \
        avg(CASE WHEN completed_at >= $4 THEN max(0, completed_at - coalesce(started_at, created_at)) END) \
        FROM runs WHERE tenant = $1 AND environment = $2 AND workflow_id = $3";

    KEY_INSERT (9) = "INSERT INTO api_keys (id, key_hash, tenant, environment, actor, teams, role, created_at, last_used_at, revoked_at) \
        VALUES ($1, $2, $3, '', $4, $5, $6, $7, $8, $9)";
    KEY_BY_HASH (1) = concat!("SELECT ", key_columns!(), " FROM api_keys WHERE key_hash = $1");
    KEYS (1) = concat!("SELECT ", key_columns!(), " FROM api_keys WHERE tenant = $1 ORDER BY created_at DESC, id DESC");
    KEYS_COUNT (0) = "SELECT count(*) FROM api_keys";
    /// A key that is revoked stays revoked at the first time.
    KEY_REVOKE (3) = "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $3) WHERE tenant = $1 AND id = $2";
    KEYS_TOUCH (1) = "UPDATE api_keys SET last_used_at = max(coalesce(last_used_at, 0), j.value->>'$[1]') \
        FROM jsonb_each($1) AS j WHERE api_keys.id = j.value->>'$[0]'";

    LOGS_INSERT (1) = "INSERT INTO logs (tenant, environment, run_id, step_id, at, level, message, fields, percent) \
        SELECT coalesce(r.tenant, ''), coalesce(r.environment, ''), j.value->>'$[0]', j.value->>'$[1]', j.value->>'$[2]', \
        j.value->>'$[3]', j.value->>'$[4]', j.value->>'$[5]', j.value->>'$[6]' \
        FROM jsonb_each($1) AS j LEFT JOIN runs AS r ON r.id = j.value->>'$[0]' ORDER BY j.key";
    LOGS (4) = "SELECT number, run_id, step_id, at, level, message, fields, percent FROM logs \
        WHERE run_id = $1 AND ($2 IS NULL OR step_id = $2) AND number > $3 ORDER BY number LIMIT $4";
    PING (0) = "SELECT 1";
}

/// Which filters a list of runs has. Each combination is a text of its own, so that the planner sees what it may use; the numbers of the
/// parameters are always the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunsShape {
    pub environment: bool,
    pub workflow: bool,
    pub statuses: Statuses,
    pub project: bool,
    pub parent: bool,
    pub cursor: bool,
}

/// How many statuses a filter names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Statuses {
    #[default]
    Any,
    One,
    Several,
}

/// $1 tenant, $2 environment, $3 workflow, $4 status or JSON array of statuses, $5 project, $6 parent, $7 and $8 the cursor, $9 limit.
pub(crate) fn runs(shape: RunsShape) -> String {
    let mut sql = String::from(concat!("SELECT ", run_columns!(), " FROM runs WHERE tenant = $1"));
    for (used, text) in [
        (shape.environment, " AND environment = $2"),
        (shape.workflow, " AND workflow_id = $3"),
        (shape.statuses == Statuses::One, " AND status = $4"),
        // The plus keeps it off the index on the status, whose order would be that of several lists.
        (shape.statuses == Statuses::Several, " AND +status IN (SELECT value FROM json_each($4))"),
        (shape.project, " AND project_id = $5"),
        (shape.parent, " AND parent_run = $6"),
        (shape.cursor, " AND (created_at, id) < ($7, $8)"),
    ] {
        if used {
            sql.push_str(text);
        }
    }
    sql.push_str(" ORDER BY created_at DESC, id DESC LIMIT $9");
    sql
}

/// Which filters a list of approvals has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ApprovalsShape {
    pub environment: bool,
    pub run: bool,
    pub status: bool,
    pub cursor: bool,
}

/// $1 tenant, $2 environment, $3 run, $4 status, $5 and $6 the cursor, $7 limit.
pub(crate) fn approvals(shape: ApprovalsShape) -> String {
    let mut sql = String::from(concat!("SELECT ", approval_columns!(), " FROM approvals WHERE tenant = $1"));
    for (used, text) in [
        (shape.environment, " AND environment = $2"),
        (shape.run, " AND run_id = $3"),
        (shape.status, " AND status = $4"),
        (shape.cursor, " AND (created_at, id) < ($5, $6)"),
    ] {
        if used {
            sql.push_str(text);
        }
    }
    sql.push_str(" ORDER BY created_at DESC, id DESC LIMIT $7");
    sql
}

#[cfg(test)]
mod tests;
