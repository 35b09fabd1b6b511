//! SQLite's own statements: `json_each`, named indexes and texts of several statements.

pub(crate) use crate::statement::common::*;
use crate::statement::lists::{self, EmittedShape, RunsShape, Words};

const WORDS: Words = Words { off_index: "+", among: "(SELECT value FROM json_each($4))" };

/// See [`lists::runs`].
pub(crate) fn runs(shape: RunsShape) -> String {
    lists::runs(shape, &WORDS)
}

/// See [`lists::emitted`].
pub(crate) fn emitted(shape: EmittedShape) -> String {
    lists::emitted(shape, &WORDS)
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
    NOTE_TIME (1) = note_time_statement!("1");
    /// The end of a batch without commits: $1 is the latest time in it, if it has any.
    BATCH_END (1) = concat!(note_time_statement!("1"), " COMMIT;");
    LATEST_TIME (0) = "SELECT value FROM meta WHERE tenant = '' AND environment = '' AND key = 'latest_time'";
    /// Each on its own: a megabyte of text is bound faster than it is escaped.
    BLOB_INSERT (6) = "INSERT INTO blobs (tenant, environment, sha256, size, json) VALUES ($1, $2, $3, $4, $5) \
        ON CONFLICT (sha256, tenant, environment) DO NOTHING; \
        INSERT INTO blob_refs (sha256, tenant, environment, run_id) VALUES ($3, $1, $2, $6) \
        ON CONFLICT (sha256, tenant, environment, run_id) DO NOTHING;";
    /// $1 runs, $2 how far to count.
    COUNTS (2) = "SELECT j.value, (SELECT count(*) FROM (SELECT 1 FROM approvals WHERE run_id = j.value LIMIT $2)), \
        (SELECT count(*) FROM (SELECT 1 FROM artifacts WHERE run_id = j.value LIMIT $2)), \
        (SELECT count(*) FROM (SELECT 1 FROM sessions WHERE run_id = j.value LIMIT $2)) FROM json_each($1) AS j";
    EVENTS_AT (2) = concat!(
        "SELECT ", event_columns!(), " FROM json_each($2) AS j CROSS JOIN events AS e ON e.run_id = $1 AND e.seq = j.value"
    );
    BLOBS (1) = "SELECT sha256, size, json FROM blobs WHERE sha256 IN (SELECT value FROM json_each($1))";

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
    OUTBOX_DELETE (1) = "DELETE FROM outbox WHERE id IN (SELECT value FROM json_each($1))";
    DEFINITIONS (6) = concat!(
        "SELECT ", definition_columns!(), ", ", version_columns!(), " FROM definitions AS d JOIN definition_versions AS v \
         ON v.tenant = d.tenant AND v.environment = d.environment AND v.workflow = d.id AND v.number = d.current \
         WHERE d.tenant = $1 AND d.environment = $2 AND d.id > $3 AND ($4 IS NULL OR d.enabled = $4) \
         AND ($5 IS NULL OR instr(lower(d.id), lower($5)) > 0 OR instr(lower(v.name), lower($5)) > 0) ORDER BY d.id LIMIT $6"
    );
    RUN_STATS (4) = "SELECT max(created_at), count(*), \
        avg(CASE WHEN completed_at >= $4 THEN status = 'COMPLETED' END), \
        avg(CASE WHEN completed_at >= $4 THEN max(0, completed_at - coalesce(started_at, created_at)) END) \
        FROM runs WHERE tenant = $1 AND environment = $2 AND workflow_id = $3";
    KEYS_TOUCH (1) = "UPDATE api_keys SET last_used_at = max(coalesce(last_used_at, 0), j.value->>'$[1]') \
        FROM jsonb_each($1) AS j WHERE api_keys.id = j.value->>'$[0]'";

    LOGS_INSERT (1) = "INSERT INTO logs (tenant, environment, run_id, step_id, at, level, message, fields, percent) \
        SELECT coalesce(r.tenant, ''), coalesce(r.environment, ''), j.value->>'$[0]', j.value->>'$[1]', j.value->>'$[2]', \
        j.value->>'$[3]', j.value->>'$[4]', j.value->>'$[5]', j.value->>'$[6]' \
        FROM jsonb_each($1) AS j LEFT JOIN runs AS r ON r.id = j.value->>'$[0]' ORDER BY j.key";

    /// Read once, when the store is opened.
    JOURNALED (0) = "SELECT DISTINCT run_id, step FROM journal";
    PINNED (0) = "SELECT run_id FROM run_plugins LIMIT 1";

    /// Nothing is inserted if the fence does not hold, if the record is there already, or if the one before it is not.
    RECORD_INSERT (10) = concat!(
        "INSERT INTO journal (run_id, step, attempt, entry, number, tenant, environment, call, request, answer, clock_ms) \
         SELECT s.run_id, s.number, s.attempt, $4, $6, s.tenant, s.environment, $7, $8, $9, $10 FROM steps AS s WHERE ", fence!(),
        " AND ($6 = 0 OR EXISTS (SELECT 1 FROM journal AS j WHERE j.run_id = $1 AND j.step = $2 AND j.attempt = $3 AND j.entry = $4 \
         AND j.number = $6 - 1)) ON CONFLICT (run_id, step, attempt, entry, number) DO NOTHING"
    );
    /// Around a record whose effects may still be refused.
    SAVEPOINT (0) = "SAVEPOINT append";
    KEEP (0) = "RELEASE append";
    UNDO (0) = "ROLLBACK TO append; RELEASE append";
    /// $1 run, $2 session, $3 and $4 its realm, $5 numbers and texts.
    SESSION_LINES_INSERT (5) = "INSERT INTO session_lines (tenant, environment, run_id, session, line, text) \
        SELECT $3, $4, $1, $2, j.value->>'$[0]', j.value->>'$[1]' FROM json_each($5) AS j WHERE true \
        ON CONFLICT (run_id, session, line) DO NOTHING";
    KV_SET (8) = "INSERT INTO kv (tenant, environment, plugin, workflow, key, value) VALUES ($1, $2, $3, $4, $5, $6) \
        ON CONFLICT (tenant, environment, plugin, workflow, key) DO UPDATE SET value = excluded.value; \
        INSERT INTO kv_totals (tenant, environment, plugin, workflow, keys, bytes) VALUES ($1, $2, $3, $4, $7, $8) \
        ON CONFLICT (tenant, environment, plugin, workflow) DO UPDATE SET keys = excluded.keys, bytes = excluded.bytes;";
    KV_DELETE (7) = concat!(
        "DELETE FROM kv WHERE ", kv_scope!(), " AND key = $5; \
         UPDATE kv_totals SET keys = $6, bytes = $7 WHERE ", kv_scope!(), "; \
         DELETE FROM kv_totals WHERE ", kv_scope!(), " AND keys = 0;"
    );
    /// Open runs of the realm ($1, $2) that need one of the digests ($3, a JSON array), at most $4.
    PLUGIN_USERS (4) = "SELECT DISTINCT p.run_id FROM json_each($3) AS j CROSS JOIN run_plugins AS p \
        ON p.digest = j.value AND p.tenant = $1 AND p.environment = $2 LIMIT $4";
    PLUGIN_DELETE (4) = "DELETE FROM plugins WHERE tenant = $1 AND environment = $2 AND id = $3 \
        AND digest IN (SELECT value FROM json_each($4))";
    /// Of these digests alone: a component that was put a moment ago, and has no row yet, is somebody's installation under way.
    COMPONENTS_DELETE (1) = "DELETE FROM components WHERE digest IN (SELECT value FROM json_each($1)) \
        AND NOT EXISTS (SELECT 1 FROM plugins AS p WHERE p.digest = components.digest) \
        AND NOT EXISTS (SELECT 1 FROM run_plugins AS r WHERE r.digest = components.digest)";

    /// Read once, when the store is opened.
    ADMISSIONS (0) = "SELECT run_id FROM admissions LIMIT 1";
    /// $1 keys as JSON rows: the place of each, how many of it run and how many wait.
    HELD (1) = "SELECT j.key, \
        (SELECT count(*) FROM admissions AS a WHERE a.tenant = j.value->>'$[0]' AND a.environment = j.value->>'$[1]' \
         AND a.workflow = j.value->>'$[2]' AND a.key = j.value->>'$[3]' AND a.begun = 1), \
        (SELECT count(*) FROM admissions AS a WHERE a.tenant = j.value->>'$[0]' AND a.environment = j.value->>'$[1]' \
         AND a.workflow = j.value->>'$[2]' AND a.key = j.value->>'$[3]' AND a.begun = 0) \
        FROM jsonb_each($1) AS j";
    ADMISSIBLE (1) = concat!(
        "SELECT a.run_id FROM admissions AS a INDEXED BY admissions_waiting WHERE a.begun = 0 AND ", has_room!(),
        " AND NOT EXISTS (SELECT 1 FROM admissions AS c WHERE c.tenant = a.tenant AND c.environment = a.environment \
         AND c.workflow = a.workflow AND c.key = a.key AND c.begun = 0 AND (c.created_at, c.run_id) < (a.created_at, a.run_id)) \
         ORDER BY a.created_at, a.run_id LIMIT $1"
    );
    BACKLOG (1) = "SELECT count(*) FROM (SELECT 1 FROM steps INDEXED BY steps_ready WHERE ready_at IS NOT NULL LIMIT $1)";

    // What is left of finished runs.
    ENDED_WHOLE (5) = "SELECT id FROM runs INDEXED BY runs_whole WHERE tenant = $1 AND environment = $2 AND workflow_id = $3 \
        AND completed_at IS NOT NULL AND erased_at IS NULL AND completed_at < $4 ORDER BY completed_at, id LIMIT $5";
    ENDED_ERASED (5) = "SELECT id FROM runs INDEXED BY runs_erased WHERE tenant = $1 AND environment = $2 AND workflow_id = $3 \
        AND erased_at IS NOT NULL AND completed_at < $4 ORDER BY completed_at, id LIMIT $5";
    FILES_FORGET (2) = "DELETE FROM artifacts WHERE run_id = $1 AND path IN (SELECT value FROM json_each($2))";
    /// $1 run, $2 numbers and hashes of events without gaps. Joined with the list, every event of the run would be held against all of it.
    ERASE_EVENTS (2) = "UPDATE events SET data = '', \
        data_sha256 = json_extract($2, '$[' || (seq - json_extract($2, '$[0][0]')) || '][1]') \
        WHERE run_id = $1 AND seq IN (SELECT value->>'$[0]' FROM json_each($2)) \
        AND json_extract($2, '$[' || (seq - json_extract($2, '$[0][0]')) || '][0]') = seq";
    /// $1 run, $2 and $3 its realm, $4 hashes.
    ERASE_BLOBS (4) = "DELETE FROM blob_refs WHERE run_id = $1 AND sha256 IN (SELECT value FROM json_each($4)); \
        DELETE FROM blobs WHERE tenant = $2 AND environment = $3 AND sha256 IN (SELECT value FROM json_each($4)) \
        AND NOT EXISTS (SELECT 1 FROM blob_refs AS r WHERE r.sha256 = blobs.sha256 AND r.tenant = $2 AND r.environment = $3);";
    /// $1 run, $2 input, $3 output, $4 error, $5 when, $6 what a payload without a hash becomes.
    ERASE_RUN (6) = "UPDATE steps SET error = json_object('code', error->>'$.code', 'category', error->>'$.category', 'message', 'erased') \
        WHERE run_id = $1 AND error IS NOT NULL; \
        UPDATE approvals SET message = 'erased', summary = NULL, comment = NULL WHERE run_id = $1; \
        UPDATE emitted_events SET payload = $6 WHERE run_id = $1; \
        UPDATE sessions SET name = agent WHERE run_id = $1; \
        DELETE FROM items WHERE run_id = $1; \
        DELETE FROM snapshots WHERE run_id = $1; \
        UPDATE runs SET input = $2, output = $3, error = $4, erased_at = $5 WHERE id = $1;";
    /// What a finished run has none of goes as well, if there is any.
    DELETE_RUN (1) = "DELETE FROM approvals WHERE run_id = $1; \
        DELETE FROM items WHERE run_id = $1; \
        DELETE FROM snapshots WHERE run_id = $1; \
        DELETE FROM logs WHERE run_id = $1; \
        DELETE FROM timers WHERE run_id = $1; \
        DELETE FROM journal WHERE run_id = $1; \
        DELETE FROM run_plugins WHERE run_id = $1; \
        DELETE FROM admissions WHERE run_id = $1; \
        DELETE FROM emitted_events WHERE run_id = $1; \
        DELETE FROM artifacts WHERE run_id = $1; \
        DELETE FROM sessions WHERE run_id = $1; \
        DELETE FROM session_lines WHERE run_id = $1; \
        DELETE FROM idempotency_keys WHERE run_id = $1; \
        DELETE FROM runs WHERE id = $1;";
}

#[cfg(test)]
mod tests;
