-- Sessions of agents, and their transcripts: one row a line.

CREATE TABLE sessions (
    number        INTEGER PRIMARY KEY,
    tenant        TEXT NOT NULL,
    environment   TEXT NOT NULL,
    id            TEXT NOT NULL UNIQUE,
    run_id        TEXT NOT NULL,
    step_id       TEXT NOT NULL,
    attempt       INTEGER NOT NULL,
    parent        TEXT,
    name          TEXT NOT NULL,
    agent         TEXT NOT NULL,
    status        TEXT NOT NULL,
    turns         INTEGER NOT NULL,
    lines         INTEGER NOT NULL,
    bytes         INTEGER NOT NULL,
    input_tokens  INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
);
CREATE INDEX sessions_by_run ON sessions (run_id, number);

-- A line may have a megabyte: the index finds it, the table holds it.
CREATE TABLE session_lines (
    number      INTEGER PRIMARY KEY,
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    run_id      TEXT NOT NULL,
    session     TEXT NOT NULL,
    line        INTEGER NOT NULL,
    text        TEXT NOT NULL
);
CREATE UNIQUE INDEX session_lines_by_place ON session_lines (run_id, session, line);
