//! PostgreSQL's own statements. Rows come in as JSON texts, one a table: the very ones that SQLite takes, read as `jsonb`: parsed once.

pub(crate) use crate::statement::common::*;
use crate::statement::lists::{self, EmittedShape, RunsShape, Words};

const WORDS: Words =
    Words { off_index: "", among: "(SELECT value FROM jsonb_array_elements_text($4::jsonb) AS j(value))" };

/// See [`lists::runs`].
pub(crate) fn runs(shape: RunsShape) -> String {
    lists::runs(shape, &WORDS)
}

/// See [`lists::emitted`].
pub(crate) fn emitted(shape: EmittedShape) -> String {
    lists::emitted(shape, &WORDS)
}

/// The texts of a JSON array, as parameter `$n`, for `= ANY`. As an array: the planner takes an index for it, where it would join a list
/// of unknown length by reading all of a table.
macro_rules! texts_of {
    ($n:literal) => {
        concat!("(ARRAY(SELECT value FROM jsonb_array_elements_text($", $n, "::jsonb) AS j(value)))")
    };
}
/// Rows named by a run and a number in it, `$1` as JSON rows. The runs say it twice, for the index.
macro_rules! of_runs {
    ($column:literal, $cast:literal) => {
        concat!(
            "run_id = ANY (ARRAY(SELECT v->>0 FROM jsonb_array_elements($1::jsonb) AS j(v))) AND (run_id, ",
            $column,
            ") IN (SELECT v->>0, (v->>1)",
            $cast,
            " FROM jsonb_array_elements($1::jsonb) AS j(v))"
        )
    };
}
/// Steps whose run may go on. A subquery, and no join: what waits is nearly always of an open run, which the planner cannot know, and it
/// would sort all that waits.
macro_rules! may_go_on {
    () => {
        "(SELECT r.status FROM runs AS r WHERE r.id = s.run_id) \
         NOT IN ('PAUSED', 'COMPLETED', 'FAILED', 'CANCELLED', 'TIMED_OUT')"
    };
}
/// The store's time, in milliseconds.
macro_rules! now_ms {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}
/// Ids of hosts that are alive.
macro_rules! alive {
    () => {
        concat!("(SELECT id FROM hosts WHERE lease_until > ", now_ms!(), ")")
    };
}

statements! {
    NOW (0) = concat!("SELECT ", now_ms!());
    BEGIN (0) = "BEGIN";
    COMMIT (0) = "COMMIT";
    ROLLBACK (0) = "ROLLBACK";
    /// Locks the runs of a batch, in the order of their ids, so that batches of several hosts never wait for each other in a circle.
    CHECK_RUNS (1) = concat!(
        "SELECT 0::bigint, id, status, version, last_seq FROM runs WHERE id = ANY ", texts_of!("1"), " ORDER BY id FOR UPDATE"
    );
    CHECK_KEYS (1) = concat!("SELECT 1::bigint, key, run_id, request_hash FROM idempotency_keys WHERE key = ANY ", texts_of!("1"));
    COMMIT_RUNS (12) = include_str!("sql/commit_runs.sql");
    COMMIT_REST (5) = include_str!("sql/commit_rest.sql");
    /// What was recorded of steps that ended.
    CALLS_DELETE (1) = concat!("DELETE FROM journal WHERE ", of_runs!("step", "::bigint"));
    ITEMS_DROP (1) = concat!("DELETE FROM items WHERE ", of_runs!("step", "::bigint"));
    /// Wakes the other hosts once the transaction is committed.
    NOTIFY (0) = "SELECT pg_notify('caisson', '')";
    /// The same for what is installed and registered.
    NOTIFY_CATALOG (0) = "SELECT pg_notify('caisson_catalog', '')";
    /// Who counts under a key is counted by one at a time: $1 a number for the key.
    LOCK (1) = "SELECT pg_advisory_xact_lock($1)";

    /// One row for each of a few groups of connections: a single one would let all hosts wait for each other.
    NOTE_TIME (1) = "INSERT INTO meta (tenant, environment, key, value) \
        SELECT '', (pg_backend_pid() % 64)::text, 'latest_time', $1::bigint WHERE $1::bigint IS NOT NULL \
        ON CONFLICT (tenant, environment, key) DO UPDATE SET value = excluded.value WHERE meta.value < excluded.value";
    LATEST_TIME (0) = "SELECT max(value) FROM meta WHERE tenant = '' AND key = 'latest_time'";
    /// $1 runs, $2 how far to count.
    COUNTS (2) = "SELECT run, (SELECT count(*) FROM (SELECT 1 FROM approvals WHERE run_id = run LIMIT $2) AS a), \
        (SELECT count(*) FROM (SELECT 1 FROM artifacts WHERE run_id = run LIMIT $2) AS a), \
        (SELECT count(*) FROM (SELECT 1 FROM sessions WHERE run_id = run LIMIT $2) AS a) \
        FROM jsonb_array_elements_text($1::jsonb) AS j(run)";
    EVENTS_AT (2) = concat!(
        "SELECT ", event_columns!(), " FROM events AS e WHERE e.run_id = $1 AND e.seq IN \
         (SELECT value::bigint FROM jsonb_array_elements_text($2::jsonb) AS j(value))"
    );
    /// A value that is there is held until the end of the transaction, or made again if it has just gone: the last run that had it may be
    /// erased at this moment.
    BLOB_INSERT (6) = "WITH value AS (INSERT INTO blobs (tenant, environment, sha256, size, json) VALUES ($1, $2, $3, $4, $5) \
        ON CONFLICT (sha256, tenant, environment) DO UPDATE SET size = excluded.size) \
        INSERT INTO blob_refs (sha256, tenant, environment, run_id) VALUES ($3, $1, $2, $6) \
        ON CONFLICT (sha256, tenant, environment, run_id) DO NOTHING";
    BLOBS (1) = concat!("SELECT sha256, size, json FROM blobs WHERE sha256 = ANY ", texts_of!("1"));
    READY (1) = concat!(
        "SELECT s.run_id, s.number, s.attempt, s.entry, s.dispatch FROM steps AS s WHERE s.ready_at IS NOT NULL AND ", may_go_on!(),
        " ORDER BY s.ready_at, s.run_id, s.number LIMIT $1"
    );
    /// $1 published before, $2 now, $3 limit. What another host is about to publish is left to it.
    REDISPATCH (3) = concat!(
        "UPDATE steps SET dispatch = dispatch + 1, dispatched_at = $2 WHERE ctid = ANY (ARRAY( \
         SELECT s.ctid FROM steps AS s WHERE s.ready_at IS NOT NULL AND s.dispatched_at < $1 AND ", may_go_on!(),
        " ORDER BY s.ready_at, s.run_id, s.number LIMIT $3 FOR UPDATE SKIP LOCKED)) \
         RETURNING run_id, number, attempt, entry, dispatch, ready_at"
    );
    CLAIMED_BY_OTHERS (2) = "SELECT run_id, number, claim FROM steps \
        WHERE host IS NOT NULL AND host <> $1 ORDER BY run_id, number LIMIT $2";
    OUTBOX_DELETE (1) = concat!("DELETE FROM outbox WHERE id = ANY ", texts_of!("1"));
    DEFINITIONS (6) = concat!(
        "SELECT ", definition_columns!(), ", ", version_columns!(), " FROM definitions AS d JOIN definition_versions AS v \
         ON v.tenant = d.tenant AND v.environment = d.environment AND v.workflow = d.id AND v.number = d.current \
         WHERE d.tenant = $1 AND d.environment = $2 AND d.id > $3 AND ($4 IS NULL OR d.enabled = $4) \
         AND ($5 IS NULL OR strpos(lower(d.id), lower($5)) > 0 OR strpos(lower(v.name), lower($5)) > 0) ORDER BY d.id LIMIT $6"
    );
    RUN_STATS (4) = "SELECT max(created_at), count(*), \
        avg(CASE WHEN completed_at >= $4 THEN (status = 'COMPLETED')::int::float8 END), \
        avg(CASE WHEN completed_at >= $4 THEN greatest(0, completed_at - coalesce(started_at, created_at))::float8 END) \
        FROM runs WHERE tenant = $1 AND environment = $2 AND workflow_id = $3";
    KEYS_TOUCH (1) = "UPDATE api_keys SET last_used_at = greatest(coalesce(last_used_at, 0), (j.v->>1)::bigint) \
        FROM jsonb_array_elements($1::jsonb) AS j(v) WHERE api_keys.id = j.v->>0";
    LOGS_INSERT (1) = "INSERT INTO logs (tenant, environment, run_id, step_id, at, level, message, fields, percent) \
        SELECT coalesce(r.tenant, ''), coalesce(r.environment, ''), j.v->>0, j.v->>1, (j.v->>2)::bigint, \
        j.v->>3, j.v->>4, j.v->>5, (j.v->>6)::bigint \
        FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS j(v, ord) LEFT JOIN runs AS r ON r.id = j.v->>0 ORDER BY j.ord";

    /// Nothing is inserted if the fence does not hold, if the record is there already, or if the one before it is not. The step's row is
    /// held until the end of the transaction: nobody takes it away in between.
    RECORD_INSERT (10) = concat!(
        "INSERT INTO journal (run_id, step, attempt, entry, number, tenant, environment, call, request, answer, clock_ms) \
         SELECT s.run_id, s.number, s.attempt, $4, $6, s.tenant, s.environment, $7, $8, $9, $10 FROM steps AS s WHERE ", fence!(),
        " AND ($6 = 0 OR EXISTS (SELECT 1 FROM journal AS j WHERE j.run_id = $1 AND j.step = $2 AND j.attempt = $3 AND j.entry = $4 \
         AND j.number = $6 - 1)) FOR SHARE OF s ON CONFLICT (run_id, step, attempt, entry, number) DO NOTHING"
    );
    /// Around a record whose effects may still be refused.
    SAVEPOINT (0) = "SAVEPOINT append";
    KEEP (0) = "RELEASE SAVEPOINT append";
    UNDO (0) = "ROLLBACK TO SAVEPOINT append";
    /// $1 run, $2 session, $3 and $4 its realm, $5 numbers and texts.
    SESSION_LINES_INSERT (5) = "INSERT INTO session_lines (tenant, environment, run_id, session, line, text) \
        SELECT $3, $4, $1, $2, (v->>0)::bigint, v->>1 FROM json_array_elements($5::json) AS j(v) \
        ON CONFLICT (run_id, session, line) DO NOTHING";
    KV_SET (8) = "WITH kept AS (INSERT INTO kv (tenant, environment, plugin, workflow, key, value) VALUES ($1, $2, $3, $4, $5, $6) \
        ON CONFLICT (tenant, environment, plugin, workflow, key) DO UPDATE SET value = excluded.value) \
        INSERT INTO kv_totals (tenant, environment, plugin, workflow, keys, bytes) VALUES ($1, $2, $3, $4, $7, $8) \
        ON CONFLICT (tenant, environment, plugin, workflow) DO UPDATE SET keys = excluded.keys, bytes = excluded.bytes";
    KV_DELETE (7) = concat!(
        "WITH gone AS (DELETE FROM kv WHERE ", kv_scope!(), " AND key = $5), \
         less AS (UPDATE kv_totals SET keys = $6, bytes = $7 WHERE ", kv_scope!(), " AND $6 > 0) \
         DELETE FROM kv_totals WHERE ", kv_scope!(), " AND $6 = 0"
    );
    PLUGIN_USERS (4) = concat!(
        "SELECT DISTINCT p.run_id FROM run_plugins AS p WHERE p.digest = ANY ", texts_of!("3"),
        " AND p.tenant = $1 AND p.environment = $2 LIMIT $4"
    );
    PLUGIN_DELETE (4) = concat!(
        "DELETE FROM plugins WHERE tenant = $1 AND environment = $2 AND id = $3 AND digest = ANY ", texts_of!("4")
    );
    /// Of these digests alone: a component that was put a moment ago, and has no row yet, is somebody's installation under way.
    COMPONENTS_DELETE (1) = concat!(
        "DELETE FROM components WHERE digest = ANY ", texts_of!("1"),
        " AND NOT EXISTS (SELECT 1 FROM plugins AS p WHERE p.digest = components.digest) \
         AND NOT EXISTS (SELECT 1 FROM run_plugins AS r WHERE r.digest = components.digest)"
    );

    /// $1 keys as JSON rows: the place of each, how many of it run and how many wait.
    HELD (1) = "SELECT j.ord - 1, \
        (SELECT count(*) FROM admissions AS a WHERE a.tenant = j.v->>0 AND a.environment = j.v->>1 \
         AND a.workflow = j.v->>2 AND a.key = j.v->>3 AND a.begun = 1), \
        (SELECT count(*) FROM admissions AS a WHERE a.tenant = j.v->>0 AND a.environment = j.v->>1 \
         AND a.workflow = j.v->>2 AND a.key = j.v->>3 AND a.begun = 0) \
        FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS j(v, ord)";
    ADMISSIBLE (1) = concat!(
        "SELECT a.run_id FROM admissions AS a WHERE a.begun = 0 AND ", has_room!(),
        " AND NOT EXISTS (SELECT 1 FROM admissions AS c WHERE c.tenant = a.tenant AND c.environment = a.environment \
         AND c.workflow = a.workflow AND c.key = a.key AND c.begun = 0 AND (c.created_at, c.run_id) < (a.created_at, a.run_id)) \
         ORDER BY a.created_at, a.run_id LIMIT $1"
    );
    BACKLOG (1) = "SELECT count(*) FROM (SELECT 1 FROM steps WHERE ready_at IS NOT NULL LIMIT $1) AS waiting";

    ENDED_WHOLE (5) = "SELECT id FROM runs WHERE tenant = $1 AND environment = $2 AND workflow_id = $3 \
        AND completed_at IS NOT NULL AND erased_at IS NULL AND completed_at < $4 ORDER BY completed_at, id LIMIT $5";
    ENDED_ERASED (5) = "SELECT id FROM runs WHERE tenant = $1 AND environment = $2 AND workflow_id = $3 \
        AND erased_at IS NOT NULL AND completed_at < $4 ORDER BY completed_at, id LIMIT $5";
    FILES_FORGET (2) = concat!("DELETE FROM artifacts WHERE run_id = $1 AND path = ANY ", texts_of!("2"));
    ERASE_EVENTS (2) = "UPDATE events SET data = '', data_sha256 = j.v->>1 FROM jsonb_array_elements($2::jsonb) AS j(v) \
        WHERE events.run_id = $1 AND events.seq = (j.v->>0)::bigint";
    /// $1 and $2 the realm, $3 hashes. Before the look that no other run has them: whoever refers to one now is waited for and then seen.
    BLOBS_LOCK (3) = concat!(
        "SELECT 1::bigint FROM blobs WHERE tenant = $1 AND environment = $2 AND sha256 = ANY ", texts_of!("3"),
        " ORDER BY sha256 FOR UPDATE"
    );
    ERASE_BLOBS (4) = concat!(
        "WITH gone AS (DELETE FROM blob_refs WHERE run_id = $1 AND sha256 = ANY ", texts_of!("4"), ") \
         DELETE FROM blobs WHERE tenant = $2 AND environment = $3 AND sha256 = ANY ", texts_of!("4"),
        " AND NOT EXISTS (SELECT 1 FROM blob_refs AS r WHERE r.sha256 = blobs.sha256 AND r.tenant = $2 AND r.environment = $3 \
         AND r.run_id <> $1)"
    );
    ERASE_RUN (6) = "WITH visited AS (UPDATE steps SET error = '{\"code\":' || to_json(error::json->>'code')::text || \
        ',\"category\":' || to_json(error::json->>'category')::text || ',\"message\":\"erased\"}' WHERE run_id = $1 AND error IS NOT NULL), \
        asked AS (UPDATE approvals SET message = 'erased', summary = NULL, comment = NULL WHERE run_id = $1), \
        said AS (UPDATE emitted_events SET payload = $6 WHERE run_id = $1), \
        worked AS (UPDATE sessions SET name = agent WHERE run_id = $1), \
        results AS (DELETE FROM items WHERE run_id = $1), \
        kept AS (DELETE FROM snapshots WHERE run_id = $1) \
        UPDATE runs SET input = $2, output = $3, error = $4, erased_at = $5 WHERE id = $1";
    /// What a finished run has none of goes as well, if there is any.
    DELETE_RUN (1) = "WITH d1 AS (DELETE FROM approvals WHERE run_id = $1), d2 AS (DELETE FROM items WHERE run_id = $1), \
        d3 AS (DELETE FROM snapshots WHERE run_id = $1), d4 AS (DELETE FROM logs WHERE run_id = $1), \
        d5 AS (DELETE FROM timers WHERE run_id = $1), d6 AS (DELETE FROM journal WHERE run_id = $1), \
        d7 AS (DELETE FROM run_plugins WHERE run_id = $1), d8 AS (DELETE FROM admissions WHERE run_id = $1), \
        d9 AS (DELETE FROM emitted_events WHERE run_id = $1), d10 AS (DELETE FROM artifacts WHERE run_id = $1), \
        d11 AS (DELETE FROM idempotency_keys WHERE run_id = $1), d12 AS (DELETE FROM sessions WHERE run_id = $1), \
        d13 AS (DELETE FROM session_lines WHERE run_id = $1) DELETE FROM runs WHERE id = $1";

    /// A lease that is over is not renewed: then there is no row. $7 whether it is the host's first beat, $8 the lease in milliseconds.
    BEAT (8) = concat!(
        "INSERT INTO hosts (id, tenant, environment, name, version, slots, running, draining, started_at, seen_at, lease_until) \
         SELECT $1, '', '', $2, $3, $4, $5, $6, t.now, t.now, t.now + $8 FROM (SELECT ", now_ms!(), " AS now) AS t \
         WHERE $7 OR EXISTS (SELECT 1 FROM hosts AS h WHERE h.id = $1 AND h.lease_until > t.now) \
         ON CONFLICT (id) DO UPDATE SET slots = excluded.slots, running = excluded.running, draining = excluded.draining, seen_at = excluded.seen_at, \
         lease_until = excluded.lease_until WHERE hosts.lease_until > excluded.seen_at RETURNING seen_at"
    );
    HELD_BY (1) = "SELECT run_id, number, claim FROM steps WHERE host = $1 ORDER BY run_id, number";
    LEAVE (1) = concat!("UPDATE hosts SET lease_until = least(lease_until, ", now_ms!(), ") WHERE id = $1");
    /// Those that are long gone are forgotten.
    HOSTS_FORGET (0) = concat!("DELETE FROM hosts WHERE lease_until < ", now_ms!(), " - 86400000");
    HOSTS (0) = concat!(
        "SELECT id, name, version, slots, running, draining, started_at, seen_at, lease_until FROM hosts \
         WHERE lease_until > ", now_ms!(), " - 86400000 ORDER BY id"
    );
    LOST_CLAIMS (1) = concat!(
        "SELECT run_id, number, claim FROM steps WHERE host IS NOT NULL AND host NOT IN ", alive!(),
        " ORDER BY run_id, number LIMIT $1"
    );
    HOLDER (1) = concat!("SELECT holder FROM runs WHERE id = $1 AND holder IN ", alive!());
    INBOX_PUT (1) = "INSERT INTO inbox (tenant, environment, id, run_id, host, stimulus) \
        SELECT '', '', v->>0, v->>1, v->>2, v->>3 FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS j(v, ord) ORDER BY ord \
        ON CONFLICT (id) DO NOTHING";
    INBOX (2) = concat!(
        "SELECT id, run_id, host, stimulus FROM inbox WHERE host = $1 OR host NOT IN ", alive!(), " ORDER BY number LIMIT $2"
    );
    INBOX_DELETE (1) = concat!("DELETE FROM inbox WHERE id = ANY ", texts_of!("1"));
    /// $1 now, $2 limit, $3 for how long they are held.
    TAKE_TIMERS (3) = concat!(
        "UPDATE timers SET held_until = ", now_ms!(), " + $3 WHERE ctid = ANY (ARRAY( \
         SELECT ctid FROM timers WHERE due_at <= $1 AND held_until <= ", now_ms!(),
        " ORDER BY due_at, run_id, key LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING run_id, key, due_at"
    );
    /// $1 limit, $2 for how long they are held. A target of which another host holds a message waits, so that messages arrive in order; who
    /// looks at the same time looks in turn.
    TAKE_OUTBOX_LOCK (0) = "SELECT pg_advisory_xact_lock(7226435512)";
    TAKE_OUTBOX (2) = concat!(
        "UPDATE outbox SET held_until = ", now_ms!(), " + $2 WHERE number = ANY (ARRAY( \
         SELECT o.number FROM outbox AS o WHERE NOT EXISTS ( \
         SELECT 1 FROM outbox AS h WHERE h.target = o.target AND h.held_until > ", now_ms!(), ") \
         ORDER BY o.number LIMIT $1)) RETURNING number, id, target, message"
    );
    SECRET_PUT (2) = "INSERT INTO secrets (name, tenant, environment, value) VALUES ($1, '', '', $2) ON CONFLICT (name) DO NOTHING";
    SECRET (1) = "SELECT value FROM secrets WHERE name = $1";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::common;

    /// The largest n of the `$n` in it.
    fn arguments(sql: &str) -> usize {
        let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
        sql.split('$').skip(1).filter_map(|rest| digits(rest).parse().ok()).max().unwrap_or(0)
    }

    #[test]
    fn every_statement_takes_as_many_arguments_as_it_says() {
        for (name, statement) in ALL.iter().chain(common::ALL) {
            let code: Vec<&str> = statement.sql.lines().filter(|line| !line.starts_with("--")).collect();
            assert_eq!(arguments(&code.join("\n")), statement.arguments, "{name}");
        }
    }
}
