-- What nearly every commit has, in one statement: a look whether the runs are where their commits expect them, and the rows. Gives whether
-- they are; if not, nothing is written. The parts write to different rows, so their order means nothing.
-- Each parameter is a JSON array of rows, each row an array of columns: the very texts that SQLite takes.
-- $1 new runs, $2 runs that were there (they begin with id and version, and end with the last event, as they must be), $3 events, $4 steps,
-- $5 timers set, $6 timers cleared, $7 what new runs have pinned, $8 runs that begin, wait or are admitted, $9 steps that ended, $10 runs that
-- ended; $11 the latest time, $12 whether other hosts are told.
-- Everything asks `ready` first: runs are locked before any other row, in the order of their ids, so that hosts never wait in a circle. The
-- latest time, a row that hosts share, comes last.
WITH heads AS MATERIALIZED (
SELECT id FROM runs
WHERE id = ANY (ARRAY(SELECT v->>0 FROM jsonb_array_elements($2::jsonb) AS j(v)))
  AND (id, version, last_seq) IN (SELECT v->>0, (v->>1)::bigint, (v->>16)::bigint FROM jsonb_array_elements($2::jsonb) AS j(v))
ORDER BY id FOR UPDATE
), ready AS MATERIALIZED (
SELECT (SELECT count(*) FROM heads) = jsonb_array_length($2::jsonb) AS yes
), new_runs AS (
INSERT INTO runs (id, tenant, environment, workflow_id, workflow_version, digest, name, project_id, created_by, status, phase,
       current_states, input, output, error, parent_run, parent_step, forked_from, steps, created_at, started_at, completed_at, paused_at,
       cancelled_at, version, last_seq, last_hash, holder)
SELECT v->>0, v->>1, v->>2, v->>3, v->>4, v->>5, v->>6, v->>7, v->>8, v->>9, v->>10, v->>11, v->>12, v->>13, v->>14, v->>15,
       (v->>16)::bigint, v->>17, (v->>18)::bigint, (v->>19)::bigint, (v->>20)::bigint, (v->>21)::bigint, (v->>22)::bigint,
       (v->>23)::bigint, (v->>24)::bigint, (v->>25)::bigint, v->>26, CASE WHEN length(v->>27) > 1 THEN v->>27 END
FROM jsonb_array_elements($1::jsonb) AS j(v) WHERE (SELECT yes FROM ready)
), moved AS (
UPDATE runs SET status = m.v->>2, phase = m.v->>3, current_states = m.v->>4, output = m.v->>5, error = m.v->>6, steps = (m.v->>7)::bigint,
       started_at = (m.v->>8)::bigint, completed_at = (m.v->>9)::bigint, paused_at = (m.v->>10)::bigint, cancelled_at = (m.v->>11)::bigint,
       version = (m.v->>12)::bigint, last_seq = (m.v->>13)::bigint, last_hash = m.v->>14,
       holder = CASE m.v->>15 WHEN '' THEN runs.holder WHEN '-' THEN NULL ELSE m.v->>15 END
FROM jsonb_array_elements($2::jsonb) AS m(v)
WHERE (SELECT yes FROM ready) AND runs.id = m.v->>0 AND runs.version = (m.v->>1)::bigint
), history AS (
INSERT INTO events (run_id, seq, tenant, environment, kind, at, actor, step_id, v, data, prev_hash, hash)
SELECT v->>0, (v->>1)::bigint, v->>2, v->>3, v->>4, (v->>5)::bigint, v->>6, v->>7, (v->>8)::bigint, v->>9, v->>10, v->>11
FROM jsonb_array_elements($3::jsonb) AS j(v) WHERE (SELECT yes FROM ready)
), visited AS (
INSERT INTO steps (run_id, number, tenant, environment, step_id, state, state_type, branch_path, item_index, phase, action, plugin, status,
       attempt, max_attempts, claim, host, ready_at, dispatch, input_seq, result_seq, error, usage, child, created_at, started_at,
       completed_at, entry, dispatched_at)
SELECT v->>0, (v->>1)::bigint, v->>2, v->>3, v->>4, v->>5, v->>6, v->>7, (v->>8)::bigint, v->>9, v->>10, v->>11, v->>12, (v->>13)::bigint,
       (v->>14)::bigint, (v->>15)::bigint, v->>16, (v->>17)::bigint, (v->>18)::bigint, (v->>19)::bigint, (v->>20)::bigint, v->>21, v->>22,
       v->>23, (v->>24)::bigint, (v->>25)::bigint, (v->>26)::bigint, (v->>27)::bigint, (v->>17)::bigint
FROM jsonb_array_elements($4::jsonb) AS j(v) WHERE (SELECT yes FROM ready)
ON CONFLICT (run_id, number) DO UPDATE SET state = excluded.state, state_type = excluded.state_type, branch_path = excluded.branch_path,
       item_index = excluded.item_index, phase = excluded.phase, action = excluded.action, plugin = excluded.plugin,
       status = excluded.status, attempt = excluded.attempt, max_attempts = excluded.max_attempts, claim = excluded.claim,
       host = excluded.host, ready_at = excluded.ready_at, dispatch = excluded.dispatch, input_seq = excluded.input_seq,
       result_seq = excluded.result_seq, error = excluded.error, usage = excluded.usage, child = excluded.child,
       created_at = excluded.created_at, started_at = excluded.started_at, completed_at = excluded.completed_at, entry = excluded.entry,
       dispatched_at = excluded.dispatched_at
RETURNING 1
), set_timers AS (
INSERT INTO timers (run_id, key, tenant, environment, due_at)
SELECT v->>0, v->>1, v->>2, v->>3, (v->>4)::bigint
FROM jsonb_array_elements($5::jsonb) AS j(v) WHERE (SELECT yes FROM ready)
ON CONFLICT (run_id, key) DO UPDATE SET due_at = excluded.due_at, held_until = 0
), cleared_timers AS (
DELETE FROM timers
WHERE (SELECT yes FROM ready) AND run_id = ANY (ARRAY(SELECT v->>0 FROM jsonb_array_elements($6::jsonb) AS j(v)))
  AND (run_id, key) IN (SELECT v->>0, v->>1 FROM jsonb_array_elements($6::jsonb) AS j(v))
), pinned AS (
INSERT INTO run_plugins (run_id, digest, tenant, environment, created_at)
SELECT v->>0, v->>1, v->>2, v->>3, (v->>4)::bigint
FROM jsonb_array_elements($7::jsonb) AS j(v) WHERE (SELECT yes FROM ready)
ON CONFLICT (run_id, digest) DO NOTHING
), counted AS (
INSERT INTO admissions (run_id, tenant, environment, workflow, key, most, begun, created_at)
SELECT v->>0, v->>1, v->>2, v->>3, v->>4, (v->>5)::bigint, (v->>6)::bigint, (v->>7)::bigint
FROM jsonb_array_elements($8::jsonb) AS j(v) WHERE (SELECT yes FROM ready)
ON CONFLICT (run_id) DO UPDATE SET begun = excluded.begun
), called AS (
DELETE FROM journal
WHERE (SELECT yes FROM ready) AND run_id = ANY (ARRAY(SELECT v->>0 FROM jsonb_array_elements($9::jsonb) AS j(v)))
  AND (run_id, step) IN (SELECT v->>0, (v->>1)::bigint FROM jsonb_array_elements($9::jsonb) AS j(v))
), unpinned AS (
DELETE FROM run_plugins
WHERE (SELECT yes FROM ready) AND run_id = ANY (ARRAY(SELECT value FROM jsonb_array_elements_text($10::jsonb) AS j(value)))
), left_off AS (
DELETE FROM admissions
WHERE (SELECT yes FROM ready) AND run_id = ANY (ARRAY(SELECT value FROM jsonb_array_elements_text($10::jsonb) AS j(value)))
), noted AS (
INSERT INTO meta (tenant, environment, key, value)
SELECT '', (pg_backend_pid() % 64)::text, 'latest_time', $11::bigint
WHERE $11::bigint IS NOT NULL AND (SELECT yes FROM ready) AND (SELECT count(*) FROM visited) >= 0
ON CONFLICT (tenant, environment, key) DO UPDATE SET value = excluded.value WHERE meta.value < excluded.value
)
SELECT yes::int::bigint, CASE WHEN yes AND $12::boolean THEN pg_notify('caisson', '')::text END FROM ready
