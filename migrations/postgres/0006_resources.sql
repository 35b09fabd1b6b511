-- Agents, tool servers and schemas: what an environment's files say beside workflows and plugins, with every version.

CREATE TABLE resources (
    tenant      TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    kind        TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    current     BIGINT NOT NULL,
    enabled     BIGINT NOT NULL,
    file        TEXT COLLATE "C",
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (tenant, environment, kind, name)
);

CREATE TABLE resource_versions (
    tenant      TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    kind        TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    number      BIGINT NOT NULL,
    digest      TEXT COLLATE "C" NOT NULL,
    source      TEXT COLLATE "C" NOT NULL,
    created_by  TEXT COLLATE "C" NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (tenant, environment, kind, name, number)
);
