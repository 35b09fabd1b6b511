-- What is kept while a run or a step is open.
-- $1 what new runs have pinned, $2 runs that begin, wait or are admitted, $3 steps that ended. What a run that ended leaves is taken
-- away afterwards (ENDED): it may have begun in the same batch.
WITH pinned AS (
INSERT INTO run_plugins (run_id, digest, tenant, environment, created_at)
SELECT v->>0, v->>1, v->>2, v->>3, (v->>4)::bigint
FROM jsonb_array_elements($1::jsonb) AS j(v)
ON CONFLICT (run_id, digest) DO NOTHING
), counted AS (
INSERT INTO admissions (run_id, tenant, environment, workflow, key, most, begun, created_at)
SELECT v->>0, v->>1, v->>2, v->>3, v->>4, (v->>5)::bigint, (v->>6)::bigint, (v->>7)::bigint
FROM jsonb_array_elements($2::jsonb) AS j(v)
ON CONFLICT (run_id) DO UPDATE SET begun = excluded.begun
)
DELETE FROM journal WHERE run_id = ANY (ARRAY(SELECT v->>0 FROM jsonb_array_elements($3::jsonb) AS j(v)))
  AND (run_id, step) IN (SELECT v->>0, (v->>1)::bigint FROM jsonb_array_elements($3::jsonb) AS j(v))
