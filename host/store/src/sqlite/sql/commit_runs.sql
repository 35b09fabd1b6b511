-- A row that fails rolls everything back: what the writer would do next.
-- One crossing to SQLite's thread. Each parameter is a JSON array of rows, each row an array of columns.
-- $1 new runs, $2 runs whose status changed, $3 runs whose status did not (leaves the index on it alone), $4 events, $5 steps,
-- $6 timers cleared, $7 timers set. Rows of $2 and $3 begin with the run's id and the version that it must have.
INSERT OR ROLLBACK INTO runs (
    id, tenant, environment, workflow_id, workflow_version, digest, name, project_id, created_by, status, phase,
    current_states, input, output, error, parent_run, parent_step, forked_from, steps, created_at, started_at,
    completed_at, paused_at, cancelled_at, version, last_seq, last_hash
)
SELECT value->>'$[0]', value->>'$[1]', value->>'$[2]', value->>'$[3]', value->>'$[4]', value->>'$[5]',
       value->>'$[6]', value->>'$[7]', value->>'$[8]', value->>'$[9]', value->>'$[10]', value->>'$[11]',
       value->>'$[12]', value->>'$[13]', value->>'$[14]', value->>'$[15]', value->>'$[16]', value->>'$[17]',
       value->>'$[18]', value->>'$[19]', value->>'$[20]', value->>'$[21]', value->>'$[22]', value->>'$[23]',
       value->>'$[24]', value->>'$[25]', value->>'$[26]'
FROM jsonb_each($1) WHERE true;
UPDATE OR ROLLBACK runs SET
    status = m.value->>'$[2]', phase = m.value->>'$[3]', current_states = m.value->>'$[4]',
    output = m.value->>'$[5]', error = m.value->>'$[6]', steps = m.value->>'$[7]',
    started_at = m.value->>'$[8]', completed_at = m.value->>'$[9]', paused_at = m.value->>'$[10]',
    cancelled_at = m.value->>'$[11]', version = m.value->>'$[12]', last_seq = m.value->>'$[13]',
    last_hash = m.value->>'$[14]'
FROM jsonb_each($2) AS m
WHERE runs.id = m.value->>'$[0]' AND runs.version = m.value->>'$[1]';
UPDATE OR ROLLBACK runs SET
    phase = m.value->>'$[3]', current_states = m.value->>'$[4]', output = m.value->>'$[5]',
    error = m.value->>'$[6]', steps = m.value->>'$[7]', started_at = m.value->>'$[8]',
    completed_at = m.value->>'$[9]', paused_at = m.value->>'$[10]', cancelled_at = m.value->>'$[11]',
    version = m.value->>'$[12]', last_seq = m.value->>'$[13]', last_hash = m.value->>'$[14]'
FROM jsonb_each($3) AS m
WHERE runs.id = m.value->>'$[0]' AND runs.version = m.value->>'$[1]';
INSERT OR ROLLBACK INTO events (
    run_id, seq, tenant, environment, kind, at, actor, step_id, v, data, prev_hash, hash
)
SELECT value->>'$[0]', value->>'$[1]', value->>'$[2]', value->>'$[3]', value->>'$[4]', value->>'$[5]',
       value->>'$[6]', value->>'$[7]', value->>'$[8]', value->>'$[9]', value->>'$[10]', value->>'$[11]'
FROM jsonb_each($4) WHERE true;
INSERT OR ROLLBACK INTO steps (
    run_id, number, tenant, environment, step_id, state, state_type, branch_path, item_index, phase, action,
    plugin, status, attempt, max_attempts, claim, host, ready_at, dispatch, input_seq, result_seq, error, usage,
    child, created_at, started_at, completed_at, entry, dispatched_at
)
SELECT value->>'$[0]', value->>'$[1]', value->>'$[2]', value->>'$[3]', value->>'$[4]', value->>'$[5]',
       value->>'$[6]', value->>'$[7]', value->>'$[8]', value->>'$[9]', value->>'$[10]', value->>'$[11]',
       value->>'$[12]', value->>'$[13]', value->>'$[14]', value->>'$[15]', value->>'$[16]', value->>'$[17]',
       value->>'$[18]', value->>'$[19]', value->>'$[20]', value->>'$[21]', value->>'$[22]', value->>'$[23]',
       value->>'$[24]', value->>'$[25]', value->>'$[26]', value->>'$[27]', value->>'$[17]'
FROM jsonb_each($5) WHERE true
ON CONFLICT (run_id, number) DO UPDATE SET
    state = excluded.state, state_type = excluded.state_type, branch_path = excluded.branch_path,
    item_index = excluded.item_index, phase = excluded.phase, action = excluded.action,
    plugin = excluded.plugin, status = excluded.status, attempt = excluded.attempt,
    max_attempts = excluded.max_attempts, claim = excluded.claim, host = excluded.host,
    ready_at = excluded.ready_at, dispatch = excluded.dispatch, input_seq = excluded.input_seq,
    result_seq = excluded.result_seq, error = excluded.error, usage = excluded.usage, child = excluded.child,
    created_at = excluded.created_at, started_at = excluded.started_at, completed_at = excluded.completed_at,
    entry = excluded.entry, dispatched_at = excluded.dispatched_at;
DELETE FROM timers WHERE (run_id, key) IN (SELECT value->>'$[0]', value->>'$[1]' FROM jsonb_each($6));
INSERT OR ROLLBACK INTO timers (
    run_id, key, tenant, environment, due_at
)
SELECT value->>'$[0]', value->>'$[1]', value->>'$[2]', value->>'$[3]', value->>'$[4]'
FROM jsonb_each($7) WHERE true
ON CONFLICT (run_id, key) DO UPDATE SET
    due_at = excluded.due_at;
