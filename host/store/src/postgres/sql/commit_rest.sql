-- What most commits do not have; sent only if one does.
-- $1 approvals, $2 items, $3 outbox, $4 idempotency keys, $5 ids of inbox rows taken in.
WITH asked AS (
INSERT INTO approvals (id, tenant, environment, run_id, step_id, step, status, message, summary, approvers, deadline, decided_by, comment,
       created_at, decided_at)
SELECT v->>0, v->>1, v->>2, v->>3, v->>4, (v->>5)::bigint, v->>6, v->>7, v->>8, v->>9, (v->>10)::bigint, v->>11, v->>12, (v->>13)::bigint,
       (v->>14)::bigint
FROM jsonb_array_elements($1::jsonb) AS j(v)
ON CONFLICT (id) DO UPDATE SET status = excluded.status, message = excluded.message, summary = excluded.summary,
       approvers = excluded.approvers, deadline = excluded.deadline, decided_by = excluded.decided_by, comment = excluded.comment,
       decided_at = excluded.decided_at
), results AS (
INSERT INTO items (run_id, step, item_index, tenant, environment, result)
SELECT v->>0, (v->>1)::bigint, (v->>2)::bigint, v->>3, v->>4, v->>5
FROM jsonb_array_elements($2::jsonb) AS j(v)
ON CONFLICT (run_id, step, item_index) DO UPDATE SET result = excluded.result
), said AS (
INSERT INTO outbox (tenant, environment, id, target, message)
SELECT v->>0, v->>1, v->>2, v->>3, v->>4
FROM jsonb_array_elements($3::jsonb) WITH ORDINALITY AS j(v, ord)
ORDER BY ord
ON CONFLICT (id) DO NOTHING
), keyed AS (
INSERT INTO idempotency_keys (key, tenant, environment, request_hash, run_id, created_at)
SELECT v->>0, v->>1, v->>2, v->>3, v->>4, (v->>5)::bigint
FROM jsonb_array_elements($4::jsonb) AS j(v)
)
DELETE FROM inbox WHERE id = ANY (ARRAY(SELECT value FROM jsonb_array_elements_text($5::jsonb) AS j(value)))
