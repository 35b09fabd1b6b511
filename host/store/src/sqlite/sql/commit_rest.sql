-- A row that fails rolls everything back: what the writer would do next.
-- What most commits do not have; sent only if one does.
-- $1 approvals, $2 items, $3 items dropped, $4 outbox, $5 ids of messages taken in, $6 idempotency keys.
INSERT OR ROLLBACK INTO approvals (
    id, tenant, environment, run_id, step_id, step, status, message, summary, approvers, deadline, decided_by,
    comment, created_at, decided_at
)
SELECT value->>'$[0]', value->>'$[1]', value->>'$[2]', value->>'$[3]', value->>'$[4]', value->>'$[5]',
       value->>'$[6]', value->>'$[7]', value->>'$[8]', value->>'$[9]', value->>'$[10]', value->>'$[11]',
       value->>'$[12]', value->>'$[13]', value->>'$[14]'
FROM jsonb_each($1) WHERE true
ON CONFLICT (id) DO UPDATE SET
    status = excluded.status, message = excluded.message, summary = excluded.summary,
    approvers = excluded.approvers, deadline = excluded.deadline, decided_by = excluded.decided_by,
    comment = excluded.comment, decided_at = excluded.decided_at;
INSERT OR ROLLBACK INTO items (
    run_id, step, item_index, tenant, environment, result
)
SELECT value->>'$[0]', value->>'$[1]', value->>'$[2]', value->>'$[3]', value->>'$[4]', value->>'$[5]'
FROM jsonb_each($2) WHERE true
ON CONFLICT (run_id, step, item_index) DO UPDATE SET
    result = excluded.result;
DELETE FROM items WHERE (run_id, step) IN (SELECT value->>'$[0]', value->>'$[1]' FROM jsonb_each($3));
INSERT OR ROLLBACK INTO outbox (
    tenant, environment, id, target, message
)
SELECT value->>'$[0]', value->>'$[1]', value->>'$[2]', value->>'$[3]', value->>'$[4]'
FROM jsonb_each($4) WHERE true
ON CONFLICT (id) DO NOTHING;
DELETE FROM outbox WHERE id IN (SELECT value FROM json_each($5));
INSERT OR ROLLBACK INTO idempotency_keys (
    key, tenant, environment, request_hash, run_id, created_at
)
SELECT value->>'$[0]', value->>'$[1]', value->>'$[2]', value->>'$[3]', value->>'$[4]', value->>'$[5]'
FROM jsonb_each($6) WHERE true;
