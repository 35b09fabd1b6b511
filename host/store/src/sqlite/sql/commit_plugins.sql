-- A row that fails rolls everything back: what the writer would do next.
-- Sent only if a commit has any of it.
-- $1 what new runs have pinned, $2 ids of runs that ended, $3 steps that ended.
INSERT OR ROLLBACK INTO run_plugins (
    run_id, digest, tenant, environment, created_at
)
SELECT value->>'$[0]', value->>'$[1]', value->>'$[2]', value->>'$[3]', value->>'$[4]'
FROM jsonb_each($1) WHERE true
ON CONFLICT (run_id, digest) DO NOTHING;
DELETE FROM run_plugins WHERE run_id IN (SELECT value FROM json_each($2));
DELETE FROM journal WHERE (run_id, step) IN (SELECT value->>'$[0]', value->>'$[1]' FROM jsonb_each($3));
