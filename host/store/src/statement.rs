//! Statements as data: their text and how many arguments they take, since sqlx binds a missing `$n` as NULL without a word.
//!
//! Columns of one kind of row are listed once and read by `rows` in that order. What SQLite and PostgreSQL agree on is written once, in
//! [`common`]; the rest is in each one's `sql`.

/// A statement and how many arguments it takes.
pub(crate) struct Statement {
    pub sql: &'static str,
    pub arguments: usize,
}

/// Binds a statement of the adapter's own `sql`: a wrong number of arguments does not compile. For the adapter's children alone.
macro_rules! query {
    (@unit $argument:expr) => { () };
    ($name:ident $(, $argument:expr)* $(,)?) => {{
        const { assert!(super::sql::$name.arguments == <[()]>::len(&[$(query!(@unit $argument)),*])) };
        sqlx::query(super::sql::$name.sql)$(.bind($argument))*
    }};
}

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident ($arguments:literal) = $sql:expr;)*) => {
        $($(#[$doc])* pub(crate) const $name: $crate::statement::Statement = $crate::statement::Statement { sql: $sql, arguments: $arguments };)*
        /// All of them, by name.
        #[cfg(test)]
        pub(crate) const ALL: &[(&str, $crate::statement::Statement)] = &[$((stringify!($name), $name),)*];
    };
}

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
/// A plugin's columns, in the order of `rows::plugin`.
macro_rules! plugin_columns {
    () => {
        "tenant, environment, id, digest, version, status, package, grants, config, source, error, installed_by, installed_at, \
         decided_by, decided_at"
    };
}
/// A business event's columns, in the order of `rows::emitted`.
macro_rules! emitted_columns {
    () => {
        "number, id, tenant, environment, run_id, step_id, plugin, name, correlation_key, payload, at"
    };
}
/// A file's columns, in the order of `rows::artifact`.
macro_rules! artifact_columns {
    () => {
        "number, id, tenant, environment, run_id, step_id, plugin, name, mime_type, size, sha256, path, at"
    };
}
/// A session's columns, in the order of `rows::session`.
macro_rules! session_columns {
    () => {
        "number, id, tenant, environment, run_id, step_id, attempt, parent, name, agent, status, turns, lines, bytes, \
         input_tokens, output_tokens, created_at, updated_at"
    };
}
/// The step ($1 run, $2 number), if it runs its attempt $3 under claim $5: who asks under another may not write.
macro_rules! fence {
    () => {
        "s.run_id = $1 AND s.number = $2 AND s.attempt = $3 AND s.claim = $5 AND s.status = 'RUNNING'"
    };
}
/// A scope of small state: $1 to $4.
macro_rules! kv_scope {
    () => {
        "tenant = $1 AND environment = $2 AND plugin = $3 AND workflow = $4"
    };
}

/// Runs of a key: $1 to $4.
macro_rules! slot {
    () => {
        "a.tenant = $1 AND a.environment = $2 AND a.workflow = $3 AND a.key = $4"
    };
}
/// Whether fewer of the same key run than may.
macro_rules! has_room {
    () => {
        "(SELECT count(*) FROM admissions AS b WHERE b.tenant = a.tenant AND b.environment = a.environment \
         AND b.workflow = a.workflow AND b.key = a.key AND b.begun = 1) < a.most"
    };
}

/// A resource's columns in one of its versions, in the order of `rows::resource`.
macro_rules! resource_columns {
    () => {
        "r.tenant, r.environment, r.kind, r.name, v.number, v.digest, v.source, r.enabled, r.file, v.created_by, v.created_at, \
         r.updated_at"
    };
}
macro_rules! resource_join {
    () => {
        " FROM resources AS r JOIN resource_versions AS v \
         ON v.tenant = r.tenant AND v.environment = r.environment AND v.kind = r.kind AND v.name = r.name"
    };
}
/// One resource: $1 to $4.
macro_rules! resource_key {
    () => {
        " WHERE r.tenant = $1 AND r.environment = $2 AND r.kind = $3 AND r.name = $4"
    };
}

pub(crate) mod common;
pub(crate) mod lists;
