-- Load: which runs count together, and which of them wait; and what of finished runs is erased or may go.
--
-- A row for each run that counts with others of its workflow and has not ended: most runs have none.
-- most: how many of its key may run. begun: 0 while it waits.

CREATE TABLE admissions (
    run_id      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    tenant      TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    workflow    TEXT COLLATE "C" NOT NULL,
    key         TEXT COLLATE "C" NOT NULL,
    most        BIGINT NOT NULL,
    begun       BIGINT NOT NULL,
    created_at  BIGINT NOT NULL
);
CREATE INDEX admissions_by_key ON admissions (tenant, environment, workflow, key, begun, created_at, run_id);
CREATE INDEX admissions_waiting ON admissions (created_at, run_id) WHERE begun = 0;

-- The SHA-256 of data that is erased. The data is empty then.
ALTER TABLE events ADD COLUMN data_sha256 TEXT COLLATE "C";
-- When the last of a run's data was erased.
ALTER TABLE runs ADD COLUMN erased_at BIGINT;
CREATE INDEX runs_whole ON runs (tenant, environment, workflow_id, completed_at, id)
    WHERE completed_at IS NOT NULL AND erased_at IS NULL;
CREATE INDEX runs_erased ON runs (tenant, environment, workflow_id, completed_at, id) WHERE erased_at IS NOT NULL;
CREATE INDEX idempotency_keys_by_run ON idempotency_keys (run_id);

-- Which run has which large value: one goes with the last run that has it. What was stored before this table is kept.
CREATE TABLE blob_refs (
    sha256      TEXT COLLATE "C" NOT NULL,
    tenant      TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    run_id      TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (sha256, tenant, environment, run_id)
);
CREATE INDEX blob_refs_by_run ON blob_refs (run_id, sha256);
INSERT INTO blob_refs (sha256, tenant, environment, run_id) SELECT sha256, tenant, environment, '' FROM blobs;
