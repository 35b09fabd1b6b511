-- Agents, tool servers and schemas: what an environment's files say beside workflows and plugins, with every version.

CREATE TABLE resources (
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    kind        TEXT NOT NULL,
    name        TEXT NOT NULL,
    current     INTEGER NOT NULL,
    enabled     INTEGER NOT NULL,
    file        TEXT,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant, environment, kind, name)
) WITHOUT ROWID;

CREATE TABLE resource_versions (
    tenant      TEXT NOT NULL,
    environment TEXT NOT NULL,
    kind        TEXT NOT NULL,
    name        TEXT NOT NULL,
    number      INTEGER NOT NULL,
    digest      TEXT NOT NULL,
    source      TEXT NOT NULL,
    created_by  TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant, environment, kind, name, number)
) WITHOUT ROWID;
