-- A row that fails rolls everything back: what the writer would do next.
-- Sent only if a commit has any of it.
-- $1 what new runs have pinned, $2 ids of runs that ended, $3 steps that ended, $4 runs that begin, wait or are admitted.
INSERT OR ROLLBACK INTO run_plugins (
    run_id, digest, tenant, environment, created_at
)
SELECT value->>'$[0]', value->>'$[1]', value->>'$[2]', value->>'$[3]', value->>'$[4]'
FROM jsonb_each($1) WHERE true
ON CONFLICT (run_id, digest) DO NOTHING;
INSERT OR ROLLBACK INTO admissions (
    run_id, tenant, environment, workflow, key, most, begun, created_at
)
SELECT value->>'$[0]', value->>'$[1]', value->>'$[2]', value->>'$[3]', value->>'$[4]', value->>'$[5]', value->>'$[6]',
       value->>'$[7]'
FROM jsonb_each($4) WHERE true
ON CONFLICT (run_id) DO UPDATE SET
    begun = excluded.begun;
DELETE FROM run_plugins WHERE run_id IN (SELECT value FROM json_each($2));
DELETE FROM admissions WHERE run_id IN (SELECT value FROM json_each($2));
DELETE FROM journal WHERE (run_id, step) IN (SELECT value->>'$[0]', value->>'$[1]' FROM jsonb_each($3));
