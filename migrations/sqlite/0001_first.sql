-- The first schema.
--
-- Every table has tenant and environment. Times are milliseconds since 1970. JSON is text, byte for byte as it came in, never parsed here.
-- A payload is the text of core's Payload: {"json": ...} or {"sha256": ..., "size": ...}.
-- Tables whose rows are read by their whole key are WITHOUT ROWID: one tree instead of two, and the rows of a run lie side by side.
-- Partial indexes hold only what is open, so that what has ended costs nothing.
-- No foreign keys: every write is one commit of one writer, and checking them would cost a look-up per row.

CREATE TABLE meta (
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    key         TEXT NOT NULL,
    value       INTEGER NOT NULL,
    PRIMARY KEY (tenant, environment, key)
) WITHOUT ROWID;

CREATE TABLE definitions (
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    id          TEXT NOT NULL,
    current     INTEGER NOT NULL,
    enabled     INTEGER NOT NULL,
    paused      INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant, environment, id)
) WITHOUT ROWID;

CREATE TABLE definition_versions (
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    workflow    TEXT NOT NULL,
    number      INTEGER NOT NULL,
    label       TEXT NOT NULL,
    digest      TEXT NOT NULL,
    name        TEXT,
    description TEXT,
    definition  TEXT NOT NULL,
    created_by  TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant, environment, workflow, number)
);
CREATE UNIQUE INDEX definition_versions_by_label ON definition_versions (tenant, environment, workflow, label);
CREATE INDEX definition_versions_by_digest ON definition_versions (tenant, environment, workflow, digest);

CREATE TABLE runs (
    id               TEXT NOT NULL PRIMARY KEY,
    tenant           TEXT NOT NULL,
    environment      TEXT NOT NULL,
    workflow_id      TEXT NOT NULL,
    workflow_version TEXT NOT NULL,
    digest           TEXT NOT NULL,
    name             TEXT,
    project_id       TEXT,
    created_by       TEXT NOT NULL,
    status           TEXT NOT NULL,
    phase            TEXT,
    current_states   TEXT NOT NULL,
    input            TEXT NOT NULL,
    output           TEXT,
    error            TEXT,
    parent_run       TEXT,
    parent_step      INTEGER,
    forked_from      TEXT,
    steps            INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    started_at       INTEGER,
    completed_at     INTEGER,
    paused_at        INTEGER,
    cancelled_at     INTEGER,
    version          INTEGER NOT NULL,
    last_seq         INTEGER NOT NULL,
    last_hash        TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX runs_by_tenant ON runs (tenant, created_at, id);
CREATE INDEX runs_by_realm ON runs (tenant, environment, created_at, id);
CREATE INDEX runs_by_workflow ON runs (tenant, environment, workflow_id, created_at, id);
CREATE INDEX runs_by_status ON runs (tenant, environment, status, created_at, id);
CREATE INDEX runs_by_project ON runs (tenant, project_id, created_at, id) WHERE project_id IS NOT NULL;
CREATE INDEX runs_by_parent ON runs (parent_run, created_at, id) WHERE parent_run IS NOT NULL;

CREATE TABLE events (
    run_id      TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    kind        TEXT NOT NULL,
    at          INTEGER NOT NULL,
    actor       TEXT,
    step_id     TEXT,
    v           INTEGER NOT NULL,
    data        TEXT NOT NULL,
    prev_hash   TEXT NOT NULL,
    hash        TEXT NOT NULL,
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;

CREATE TABLE snapshots (
    run_id      TEXT NOT NULL PRIMARY KEY,
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    state       TEXT NOT NULL
);

CREATE TABLE steps (
    run_id       TEXT NOT NULL,
    number       INTEGER NOT NULL,
    tenant       TEXT NOT NULL,
    environment  TEXT NOT NULL,
    step_id      TEXT NOT NULL,
    state        TEXT NOT NULL,
    state_type   TEXT NOT NULL,
    branch_path  TEXT NOT NULL,
    item_index   INTEGER,
    phase        TEXT,
    action       TEXT,
    plugin       TEXT,
    status       TEXT NOT NULL,
    attempt      INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    claim        INTEGER NOT NULL,
    host         TEXT,
    ready_at     INTEGER,
    dispatch     INTEGER NOT NULL,
    input_seq    INTEGER NOT NULL,
    result_seq   INTEGER,
    error        TEXT,
    usage        TEXT NOT NULL,
    child        TEXT,
    created_at   INTEGER NOT NULL,
    started_at   INTEGER,
    completed_at INTEGER,
    PRIMARY KEY (run_id, number)
) WITHOUT ROWID;
CREATE UNIQUE INDEX steps_by_id ON steps (run_id, step_id);
CREATE INDEX steps_ready ON steps (ready_at, run_id, number) WHERE ready_at IS NOT NULL;
CREATE INDEX steps_claimed ON steps (run_id, number, host) WHERE host IS NOT NULL;

CREATE TABLE items (
    run_id      TEXT NOT NULL,
    step        INTEGER NOT NULL,
    item_index  INTEGER NOT NULL,
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    result      TEXT NOT NULL,
    PRIMARY KEY (run_id, step, item_index)
) WITHOUT ROWID;

CREATE TABLE timers (
    run_id      TEXT NOT NULL,
    key         TEXT NOT NULL,
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    due_at      INTEGER NOT NULL,
    PRIMARY KEY (run_id, key)
) WITHOUT ROWID;
CREATE INDEX timers_by_due ON timers (due_at, run_id, key);

CREATE TABLE approvals (
    id          TEXT NOT NULL PRIMARY KEY,
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    run_id      TEXT NOT NULL,
    step_id     TEXT NOT NULL,
    step        INTEGER NOT NULL,
    status      TEXT NOT NULL,
    message     TEXT NOT NULL,
    summary     TEXT,
    approvers   TEXT NOT NULL,
    deadline    INTEGER,
    decided_by  TEXT,
    comment     TEXT,
    created_at  INTEGER NOT NULL,
    decided_at  INTEGER
) WITHOUT ROWID;
CREATE INDEX approvals_by_tenant ON approvals (tenant, created_at, id);
CREATE INDEX approvals_by_realm ON approvals (tenant, environment, created_at, id);
CREATE INDEX approvals_by_status ON approvals (tenant, environment, status, created_at, id);
CREATE INDEX approvals_by_run ON approvals (run_id, created_at, id);

-- Messages between runs, in the order of their making.
CREATE TABLE outbox (
    number      INTEGER PRIMARY KEY,
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    id          TEXT NOT NULL UNIQUE,
    target      TEXT NOT NULL,
    message     TEXT NOT NULL
);

-- Large values, once per realm and hash: so that a realm can be erased, and tells nothing about another.
CREATE TABLE blobs (
    number      INTEGER PRIMARY KEY,
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    sha256      TEXT NOT NULL,
    size        INTEGER NOT NULL,
    json        TEXT NOT NULL
);
CREATE UNIQUE INDEX blobs_by_hash ON blobs (sha256, tenant, environment);

CREATE TABLE idempotency_keys (
    key          TEXT NOT NULL PRIMARY KEY,
    tenant       TEXT NOT NULL,
    environment  TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    run_id       TEXT NOT NULL,
    created_at   INTEGER NOT NULL
) WITHOUT ROWID;

-- A key is the tenant's, for all its environments: environment is empty.
CREATE TABLE api_keys (
    id           TEXT NOT NULL PRIMARY KEY,
    tenant       TEXT NOT NULL,
    environment  TEXT NOT NULL,
    key_hash     TEXT NOT NULL UNIQUE,
    actor        TEXT NOT NULL,
    teams        TEXT NOT NULL,
    role         TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    revoked_at   INTEGER
) WITHOUT ROWID;
CREATE INDEX api_keys_by_tenant ON api_keys (tenant, created_at, id);

-- Lines that guests wrote, in the order in which they came.
CREATE TABLE logs (
    number      INTEGER PRIMARY KEY,
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    run_id      TEXT NOT NULL,
    step_id     TEXT NOT NULL,
    at          INTEGER NOT NULL,
    level       TEXT,
    message     TEXT NOT NULL,
    fields      TEXT,
    percent     INTEGER
);
CREATE INDEX logs_by_run ON logs (run_id, number);
