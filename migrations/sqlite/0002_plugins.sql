-- Installed plugins, and what their steps have seen of the world and left in it.
--
-- As in the first schema: every table has tenant and environment, times are milliseconds since 1970, JSON is text, byte for byte.

-- An author's version label may name several digests, so the digest is part of the key.
CREATE TABLE plugins (
    tenant       TEXT NOT NULL,
    environment  TEXT NOT NULL,
    id           TEXT NOT NULL,
    digest       TEXT NOT NULL,
    version      TEXT NOT NULL,
    status       TEXT NOT NULL,
    package      TEXT NOT NULL,
    grants       TEXT NOT NULL,
    config       TEXT NOT NULL,
    source       TEXT NOT NULL,
    error        TEXT,
    installed_by TEXT NOT NULL,
    installed_at INTEGER NOT NULL,
    decided_by   TEXT,
    decided_at   INTEGER,
    PRIMARY KEY (tenant, environment, id, digest)
) WITHOUT ROWID;
CREATE INDEX plugins_by_digest ON plugins (digest);

-- Code is the same whoever installed it: tenant and environment are empty.
CREATE TABLE components (
    number      INTEGER PRIMARY KEY,
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    digest      TEXT NOT NULL UNIQUE,
    size        INTEGER NOT NULL,
    bytes       BLOB NOT NULL
);

-- Which digests an open run needs. A run's rows go when it ends, so that what has ended costs nothing.
CREATE TABLE run_plugins (
    run_id      TEXT NOT NULL,
    digest      TEXT NOT NULL,
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (run_id, digest)
) WITHOUT ROWID;
CREATE INDEX run_plugins_by_digest ON run_plugins (digest, tenant, environment, created_at, run_id);

-- What the guests of open steps were answered. A step's rows go when it ends.
CREATE TABLE journal (
    run_id      TEXT NOT NULL,
    step        INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    entry       INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    call        TEXT NOT NULL,
    request     TEXT NOT NULL,
    answer      TEXT NOT NULL,
    clock_ms    INTEGER NOT NULL,
    PRIMARY KEY (run_id, step, attempt, entry, number)
) WITHOUT ROWID;

-- Keys compare by their bytes (the BINARY collation): that is the order in which they are listed.
CREATE TABLE kv (
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    plugin      TEXT NOT NULL,
    workflow    TEXT NOT NULL,
    key         TEXT NOT NULL,
    value       BLOB NOT NULL,
    PRIMARY KEY (tenant, environment, plugin, workflow, key)
) WITHOUT ROWID;

-- How much a scope of kv holds, kept with every change: adding it up for every new value would read the whole scope.
CREATE TABLE kv_totals (
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    plugin      TEXT NOT NULL,
    workflow    TEXT NOT NULL,
    keys        INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    PRIMARY KEY (tenant, environment, plugin, workflow)
) WITHOUT ROWID;

-- Newest first means by time, then by order of coming: every index ends in the number by itself.
CREATE TABLE emitted_events (
    number          INTEGER PRIMARY KEY,
    tenant          TEXT NOT NULL,
    environment     TEXT NOT NULL,
    id              TEXT NOT NULL UNIQUE,
    run_id          TEXT NOT NULL,
    step_id         TEXT NOT NULL,
    plugin          TEXT NOT NULL,
    name            TEXT NOT NULL,
    correlation_key TEXT,
    payload         TEXT NOT NULL,
    at              INTEGER NOT NULL
);
CREATE INDEX emitted_events_by_tenant ON emitted_events (tenant, at);
CREATE INDEX emitted_events_by_realm ON emitted_events (tenant, environment, at);
CREATE INDEX emitted_events_by_name ON emitted_events (tenant, name, at);
CREATE INDEX emitted_events_by_run ON emitted_events (run_id, at);

-- The files themselves lie beside the database.
CREATE TABLE artifacts (
    number      INTEGER PRIMARY KEY,
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    id          TEXT NOT NULL UNIQUE,
    run_id      TEXT NOT NULL,
    step_id     TEXT NOT NULL,
    plugin      TEXT NOT NULL,
    name        TEXT NOT NULL,
    mime_type   TEXT NOT NULL,
    size        INTEGER NOT NULL,
    sha256      TEXT NOT NULL,
    path        TEXT NOT NULL,
    at          INTEGER NOT NULL
);
CREATE INDEX artifacts_by_run ON artifacts (run_id, at);
