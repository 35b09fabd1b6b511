-- Load: which runs count together, and which of them wait.
--
-- A row for each run that counts with others of its workflow and has not ended: most runs have none.
-- most: how many of its key may run. begun: 0 while it waits.

CREATE TABLE admissions (
    run_id      TEXT NOT NULL PRIMARY KEY,
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    workflow    TEXT NOT NULL,
    key         TEXT NOT NULL,
    most        INTEGER NOT NULL,
    begun       INTEGER NOT NULL,
    created_at  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX admissions_by_key ON admissions (tenant, environment, workflow, key, begun, created_at, run_id);
CREATE INDEX admissions_waiting ON admissions (created_at, run_id) WHERE begun = 0;
