-- The first schema: that of SQLite, in PostgreSQL's words.
--
-- Every table has tenant and environment. Times are milliseconds since 1970. JSON is text, byte for byte as it came in, never parsed here
-- and never jsonb, which loses the order of keys. Text is compared by its bytes (COLLATE "C"), as in SQLite.
-- Partial indexes hold only what is open, so that what has ended costs nothing. No foreign keys: every write is one commit of one decision.

CREATE TABLE meta (
    tenant      TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    key         TEXT COLLATE "C" NOT NULL,
    value       BIGINT NOT NULL,
    PRIMARY KEY (tenant, environment, key)
);

CREATE TABLE definitions (
    tenant      TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    id          TEXT COLLATE "C" NOT NULL,
    current     BIGINT NOT NULL,
    enabled     BIGINT NOT NULL,
    paused      BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (tenant, environment, id)
);

CREATE TABLE definition_versions (
    tenant      TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    workflow    TEXT COLLATE "C" NOT NULL,
    number      BIGINT NOT NULL,
    label       TEXT COLLATE "C" NOT NULL,
    digest      TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C",
    description TEXT COLLATE "C",
    definition  TEXT COLLATE "C" NOT NULL,
    created_by  TEXT COLLATE "C" NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (tenant, environment, workflow, number)
);
CREATE UNIQUE INDEX definition_versions_by_label ON definition_versions (tenant, environment, workflow, label);
CREATE INDEX definition_versions_by_digest ON definition_versions (tenant, environment, workflow, digest);

CREATE TABLE runs (
    id               TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    tenant           TEXT COLLATE "C" NOT NULL,
    environment      TEXT COLLATE "C" NOT NULL,
    workflow_id      TEXT COLLATE "C" NOT NULL,
    workflow_version TEXT COLLATE "C" NOT NULL,
    digest           TEXT COLLATE "C" NOT NULL,
    name             TEXT COLLATE "C",
    project_id       TEXT COLLATE "C",
    created_by       TEXT COLLATE "C" NOT NULL,
    status           TEXT COLLATE "C" NOT NULL,
    phase            TEXT COLLATE "C",
    current_states   TEXT COLLATE "C" NOT NULL,
    input            TEXT COLLATE "C" NOT NULL,
    output           TEXT COLLATE "C",
    error            TEXT COLLATE "C",
    parent_run       TEXT COLLATE "C",
    parent_step      BIGINT,
    forked_from      TEXT COLLATE "C",
    steps            BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    started_at       BIGINT,
    completed_at     BIGINT,
    paused_at        BIGINT,
    cancelled_at     BIGINT,
    version          BIGINT NOT NULL,
    last_seq         BIGINT NOT NULL,
    last_hash        TEXT COLLATE "C" NOT NULL
);
CREATE INDEX runs_by_tenant ON runs (tenant, created_at, id);
CREATE INDEX runs_by_realm ON runs (tenant, environment, created_at, id);
CREATE INDEX runs_by_workflow ON runs (tenant, environment, workflow_id, created_at, id);
CREATE INDEX runs_by_status ON runs (tenant, environment, status, created_at, id);
CREATE INDEX runs_by_project ON runs (tenant, project_id, created_at, id) WHERE project_id IS NOT NULL;
CREATE INDEX runs_by_parent ON runs (parent_run, created_at, id) WHERE parent_run IS NOT NULL;

CREATE TABLE events (
    run_id      TEXT COLLATE "C" NOT NULL,
    seq         BIGINT NOT NULL,
    tenant      TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    kind        TEXT COLLATE "C" NOT NULL,
    at          BIGINT NOT NULL,
    actor       TEXT COLLATE "C",
    step_id     TEXT COLLATE "C",
    v           BIGINT NOT NULL,
    data        TEXT COLLATE "C" NOT NULL,
    prev_hash   TEXT COLLATE "C" NOT NULL,
    hash        TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, seq)
);

CREATE TABLE snapshots (
    run_id      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    tenant      TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    seq         BIGINT NOT NULL,
    state       TEXT COLLATE "C" NOT NULL
);

CREATE TABLE steps (
    run_id       TEXT COLLATE "C" NOT NULL,
    number       BIGINT NOT NULL,
    tenant       TEXT COLLATE "C" NOT NULL,
    environment  TEXT COLLATE "C" NOT NULL,
    step_id      TEXT COLLATE "C" NOT NULL,
    state        TEXT COLLATE "C" NOT NULL,
    state_type   TEXT COLLATE "C" NOT NULL,
    branch_path  TEXT COLLATE "C" NOT NULL,
    item_index   BIGINT,
    phase        TEXT COLLATE "C",
    action       TEXT COLLATE "C",
    plugin       TEXT COLLATE "C",
    status       TEXT COLLATE "C" NOT NULL,
    attempt      BIGINT NOT NULL,
    max_attempts BIGINT NOT NULL,
    claim        BIGINT NOT NULL,
    host         TEXT COLLATE "C",
    ready_at     BIGINT,
    dispatch     BIGINT NOT NULL,
    input_seq    BIGINT NOT NULL,
    result_seq   BIGINT,
    error        TEXT COLLATE "C",
    usage        TEXT COLLATE "C" NOT NULL,
    child        TEXT COLLATE "C",
    created_at   BIGINT NOT NULL,
    started_at   BIGINT,
    completed_at BIGINT,
    PRIMARY KEY (run_id, number)
);
CREATE UNIQUE INDEX steps_by_id ON steps (run_id, step_id);
CREATE INDEX steps_ready ON steps (ready_at, run_id, number) WHERE ready_at IS NOT NULL;
CREATE INDEX steps_claimed ON steps (run_id, number, host) WHERE host IS NOT NULL;

CREATE TABLE items (
    run_id      TEXT COLLATE "C" NOT NULL,
    step        BIGINT NOT NULL,
    item_index  BIGINT NOT NULL,
    tenant      TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    result      TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, step, item_index)
);

CREATE TABLE timers (
    run_id      TEXT COLLATE "C" NOT NULL,
    key         TEXT COLLATE "C" NOT NULL,
    tenant      TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    due_at      BIGINT NOT NULL,
    PRIMARY KEY (run_id, key)
);
CREATE INDEX timers_by_due ON timers (due_at, run_id, key);

CREATE TABLE approvals (
    id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    tenant      TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    run_id      TEXT COLLATE "C" NOT NULL,
    step_id     TEXT COLLATE "C" NOT NULL,
    step        BIGINT NOT NULL,
    status      TEXT COLLATE "C" NOT NULL,
    message     TEXT COLLATE "C" NOT NULL,
    summary     TEXT COLLATE "C",
    approvers   TEXT COLLATE "C" NOT NULL,
    deadline    BIGINT,
    decided_by  TEXT COLLATE "C",
    comment     TEXT COLLATE "C",
    created_at  BIGINT NOT NULL,
    decided_at  BIGINT
);
CREATE INDEX approvals_by_tenant ON approvals (tenant, created_at, id);
CREATE INDEX approvals_by_realm ON approvals (tenant, environment, created_at, id);
CREATE INDEX approvals_by_status ON approvals (tenant, environment, status, created_at, id);
CREATE INDEX approvals_by_run ON approvals (run_id, created_at, id);

-- Messages between runs, in the order of their making.
CREATE TABLE outbox (
    number      BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    tenant      TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    id          TEXT COLLATE "C" NOT NULL UNIQUE,
    target      TEXT COLLATE "C" NOT NULL,
    message     TEXT COLLATE "C" NOT NULL
);

-- Large values, once per realm and hash: so that a realm can be erased, and tells nothing about another.
CREATE TABLE blobs (
    number      BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    tenant      TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    sha256      TEXT COLLATE "C" NOT NULL,
    size        BIGINT NOT NULL,
    json        TEXT COLLATE "C" NOT NULL
);
CREATE UNIQUE INDEX blobs_by_hash ON blobs (sha256, tenant, environment);

CREATE TABLE idempotency_keys (
    key          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    tenant       TEXT COLLATE "C" NOT NULL,
    environment  TEXT COLLATE "C" NOT NULL,
    request_hash TEXT COLLATE "C" NOT NULL,
    run_id       TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT NOT NULL
);

-- A key is the tenant's, for all its environments: environment is empty.
CREATE TABLE api_keys (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    tenant       TEXT COLLATE "C" NOT NULL,
    environment  TEXT COLLATE "C" NOT NULL,
    key_hash     TEXT COLLATE "C" NOT NULL UNIQUE,
    actor        TEXT COLLATE "C" NOT NULL,
    teams        TEXT COLLATE "C" NOT NULL,
    role         TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT NOT NULL,
    last_used_at BIGINT,
    revoked_at   BIGINT
);
CREATE INDEX api_keys_by_tenant ON api_keys (tenant, created_at, id);

-- Lines that guests wrote, in the order in which they came.
CREATE TABLE logs (
    number      BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    tenant      TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    run_id      TEXT COLLATE "C" NOT NULL,
    step_id     TEXT COLLATE "C" NOT NULL,
    at          BIGINT NOT NULL,
    level       TEXT COLLATE "C",
    message     TEXT COLLATE "C" NOT NULL,
    fields      TEXT COLLATE "C",
    percent     BIGINT
);
CREATE INDEX logs_by_run ON logs (run_id, number);
