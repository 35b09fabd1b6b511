//! Statements about agents, tool servers and schemas.

use super::Statement;

/// A resource's columns in one of its versions, in the order of `rows::resource`.
macro_rules! resource_columns {
    () => {
        "r.tenant, r.environment, r.kind, r.name, v.number, v.digest, v.source, r.enabled, r.file, v.created_by, v.created_at, \
         r.updated_at"
    };
}
macro_rules! resource_join {
    () => {
        " FROM resources AS r JOIN resource_versions AS v \
         ON v.tenant = r.tenant AND v.environment = r.environment AND v.kind = r.kind AND v.name = r.name"
    };
}
/// One resource: $1 to $4.
macro_rules! resource_key {
    () => {
        " WHERE r.tenant = $1 AND r.environment = $2 AND r.kind = $3 AND r.name = $4"
    };
}

statements! {
    RESOURCE (4) = concat!("SELECT ", resource_columns!(), resource_join!(), resource_key!(), " AND v.number = r.current");
    RESOURCE_AT (5) = concat!("SELECT ", resource_columns!(), resource_join!(), resource_key!(), " AND v.number = $5");
    RESOURCE_VERSIONS (4) = concat!("SELECT ", resource_columns!(), resource_join!(), resource_key!(), " ORDER BY v.number DESC");
    RESOURCES (0) = concat!(
        "SELECT ", resource_columns!(), resource_join!(), " AND v.number = r.current ORDER BY r.tenant, r.environment, r.kind, r.name"
    );
    RESOURCE_NUMBER (5) = "SELECT number FROM resource_versions \
        WHERE tenant = $1 AND environment = $2 AND kind = $3 AND name = $4 AND digest = $5";
    RESOURCE_NEWEST (4) = "SELECT max(number) FROM resource_versions \
        WHERE tenant = $1 AND environment = $2 AND kind = $3 AND name = $4";
    RESOURCE_INSERT (9) = "INSERT INTO resource_versions \
        (tenant, environment, kind, name, number, digest, source, created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    /// Touches nothing that is as it should be, so that the mark stays too.
    RESOURCE_IN_FORCE (7) = "INSERT INTO resources (tenant, environment, kind, name, current, enabled, file, updated_at) \
        VALUES ($1, $2, $3, $4, $5, 1, $6, $7) ON CONFLICT (tenant, environment, kind, name) DO UPDATE SET \
        current = excluded.current, enabled = 1, file = excluded.file, updated_at = excluded.updated_at \
        WHERE resources.current <> excluded.current OR resources.enabled = 0 OR coalesce(resources.file, '') <> coalesce(excluded.file, '')";
    RESOURCE_SET (6) = "UPDATE resources SET enabled = $5, updated_at = $6 \
        WHERE tenant = $1 AND environment = $2 AND kind = $3 AND name = $4 AND enabled <> $5";
    RESOURCES_MARK (0) = "SELECT value FROM meta WHERE tenant = '' AND environment = '' AND key = 'resources'";
    RESOURCES_MARK_RAISE (0) = "INSERT INTO meta (tenant, environment, key, value) VALUES ('', '', 'resources', 1) \
        ON CONFLICT (tenant, environment, key) DO UPDATE SET value = meta.value + 1";
}
