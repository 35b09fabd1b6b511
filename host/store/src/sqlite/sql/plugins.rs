//! Statements about installed plugins, journals, and what guests leave behind.

use super::Statement;

/// A plugin's columns, in the order of `rows::plugin`.
macro_rules! plugin_columns {
    () => {
        "tenant, environment, id, digest, version, status, package, grants, config, source, error, installed_by, installed_at, \
         decided_by, decided_at"
    };
}
/// A business event's columns, in the order of `rows::emitted`.
macro_rules! emitted_columns {
    () => {
        "number, id, tenant, environment, run_id, step_id, plugin, name, correlation_key, payload, at"
    };
}
/// A file's columns, in the order of `rows::artifact`.
macro_rules! artifact_columns {
    () => {
        "number, id, tenant, environment, run_id, step_id, plugin, name, mime_type, size, sha256, path, at"
    };
}
/// The step ($1 run, $2 number), if it runs its attempt $3 under claim $5: who asks under another may not write.
macro_rules! fence {
    () => {
        "s.run_id = $1 AND s.number = $2 AND s.attempt = $3 AND s.claim = $5 AND s.status = 'RUNNING'"
    };
}
/// A scope of small state: $1 to $4.
macro_rules! kv_scope {
    () => {
        "tenant = $1 AND environment = $2 AND plugin = $3 AND workflow = $4"
    };
}

statements! {
    /// Read once, when the store is opened.
    JOURNALED (0) = "SELECT DISTINCT run_id, step FROM journal";
    PINNED (0) = "SELECT run_id FROM run_plugins LIMIT 1";

    /// Nothing is inserted if the fence does not hold, if the record is there already, or if the one before it is not.
    RECORD_INSERT (10) = concat!(
        "INSERT INTO journal (run_id, step, attempt, entry, number, tenant, environment, call, request, answer, clock_ms) \
         SELECT s.run_id, s.number, s.attempt, $4, $6, s.tenant, s.environment, $7, $8, $9, $10 FROM steps AS s WHERE ", fence!(),
        " AND ($6 = 0 OR EXISTS (SELECT 1 FROM journal AS j WHERE j.run_id = $1 AND j.step = $2 AND j.attempt = $3 AND j.entry = $4 \
         AND j.number = $6 - 1)) ON CONFLICT (run_id, step, attempt, entry, number) DO NOTHING"
    );
    /// Why nothing was inserted: no row, the fence; a row, what is there under that number.
    RECORD_THERE (6) = concat!(
        "SELECT j.call, j.request, j.answer, j.clock_ms FROM steps AS s LEFT JOIN journal AS j \
         ON j.run_id = $1 AND j.step = $2 AND j.attempt = $3 AND j.entry = $4 AND j.number = $6 WHERE ", fence!()
    );
    RECORDS (4) = "SELECT call, request, answer, clock_ms FROM journal \
        WHERE run_id = $1 AND step = $2 AND attempt = $3 AND entry = $4 ORDER BY number";
    /// Around a record whose effects may still be refused.
    SAVEPOINT (0) = "SAVEPOINT append";
    KEEP (0) = "RELEASE append";
    UNDO (0) = "ROLLBACK TO append; RELEASE append";

    KV_GET (5) = concat!("SELECT value FROM kv WHERE ", kv_scope!(), " AND key = $5");
    /// From $5 on: keys that begin alike lie side by side.
    KV_KEYS (6) = concat!("SELECT key FROM kv WHERE ", kv_scope!(), " AND key >= $5 ORDER BY key LIMIT $6");
    /// Keys and bytes of the scope, and the length of the value that is there under $5, if any. No row: the scope is empty.
    KV_TOTALS (5) = "SELECT t.keys, t.bytes, octet_length(k.value) FROM kv_totals AS t LEFT JOIN kv AS k \
        ON k.tenant = t.tenant AND k.environment = t.environment AND k.plugin = t.plugin AND k.workflow = t.workflow AND k.key = $5 \
        WHERE t.tenant = $1 AND t.environment = $2 AND t.plugin = $3 AND t.workflow = $4";
    KV_SET (8) = "INSERT INTO kv (tenant, environment, plugin, workflow, key, value) VALUES ($1, $2, $3, $4, $5, $6) \
        ON CONFLICT (tenant, environment, plugin, workflow, key) DO UPDATE SET value = excluded.value; \
        INSERT INTO kv_totals (tenant, environment, plugin, workflow, keys, bytes) VALUES ($1, $2, $3, $4, $7, $8) \
        ON CONFLICT (tenant, environment, plugin, workflow) DO UPDATE SET keys = excluded.keys, bytes = excluded.bytes;";
    KV_DELETE (7) = concat!(
        "DELETE FROM kv WHERE ", kv_scope!(), " AND key = $5; \
         UPDATE kv_totals SET keys = $6, bytes = $7 WHERE ", kv_scope!(), "; \
         DELETE FROM kv_totals WHERE ", kv_scope!(), " AND keys = 0;"
    );

    EMITTED_INSERT (10) = "INSERT INTO emitted_events \
        (id, tenant, environment, run_id, step_id, plugin, name, correlation_key, payload, at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING";
    ARTIFACT_UPSERT (12) = "INSERT INTO artifacts \
        (id, tenant, environment, run_id, step_id, plugin, name, mime_type, size, sha256, path, at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (id) DO UPDATE SET \
        tenant = excluded.tenant, environment = excluded.environment, run_id = excluded.run_id, step_id = excluded.step_id, \
        plugin = excluded.plugin, name = excluded.name, mime_type = excluded.mime_type, size = excluded.size, \
        sha256 = excluded.sha256, path = excluded.path, at = excluded.at";
    ARTIFACT (1) = concat!("SELECT ", artifact_columns!(), " FROM artifacts WHERE id = $1");
    ARTIFACTS (5) = concat!(
        "SELECT ", artifact_columns!(), " FROM artifacts WHERE run_id = $1 AND ($2 IS NULL OR step_id = $2) \
         AND (at, number) < ($3, $4) ORDER BY at DESC, number DESC LIMIT $5"
    );

    COMPONENT_INSERT (3) = "INSERT INTO components (tenant, environment, digest, size, bytes) VALUES ('', '', $1, $2, $3) \
        ON CONFLICT (digest) DO NOTHING";
    COMPONENT (1) = "SELECT bytes FROM components WHERE digest = $1";
    PLUGIN_UPSERT (15) = concat!(
        "INSERT INTO plugins (", plugin_columns!(), ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
         ON CONFLICT (tenant, environment, id, digest) DO UPDATE SET version = excluded.version, status = excluded.status, \
         package = excluded.package, grants = excluded.grants, config = excluded.config, source = excluded.source, \
         error = excluded.error, installed_by = excluded.installed_by, installed_at = excluded.installed_at, \
         decided_by = excluded.decided_by, decided_at = excluded.decided_at"
    );
    PLUGIN (3) = concat!(
        "SELECT ", plugin_columns!(), " FROM plugins WHERE tenant = $1 AND environment = $2 AND id = $3 \
         ORDER BY installed_at DESC, digest DESC"
    );
    PLUGINS (0) = concat!("SELECT ", plugin_columns!(), " FROM plugins");
    /// Open runs of the realm ($1, $2) that need one of the digests ($3, a JSON array), at most $4.
    PLUGIN_USERS (4) = "SELECT DISTINCT p.run_id FROM json_each($3) AS j CROSS JOIN run_plugins AS p \
        ON p.digest = j.value AND p.tenant = $1 AND p.environment = $2 LIMIT $4";
    PLUGIN_DELETE (4) = "DELETE FROM plugins WHERE tenant = $1 AND environment = $2 AND id = $3 \
        AND digest IN (SELECT value FROM json_each($4))";
    /// Of these digests alone: a component that was put a moment ago, and has no row yet, is somebody's installation under way.
    COMPONENTS_DELETE (1) = "DELETE FROM components WHERE digest IN (SELECT value FROM json_each($1)) \
        AND NOT EXISTS (SELECT 1 FROM plugins AS p WHERE p.digest = components.digest) \
        AND NOT EXISTS (SELECT 1 FROM run_plugins AS r WHERE r.digest = components.digest)";
    PINNED_BY (4) = "SELECT run_id FROM run_plugins WHERE tenant = $1 AND environment = $2 AND digest = $3 \
        ORDER BY created_at DESC, run_id DESC LIMIT $4";
}

/// Which filters a list of business events has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EmittedShape {
    pub environment: bool,
    pub run: bool,
    pub name: bool,
}

/// $1 tenant, $2 environment, $3 run, $4 name, $5 and $6 the cursor, $7 limit. A plus keeps a column off the indexes: the narrowest filter
/// chooses.
pub(crate) fn emitted(shape: EmittedShape) -> String {
    let EmittedShape { environment, run, name } = shape;
    let mut sql = String::from(concat!("SELECT ", emitted_columns!(), " FROM emitted_events WHERE "));
    sql.push_str(if run { "run_id = $3 AND +tenant = $1" } else { "tenant = $1" });
    for (used, chooses, text) in [(name, !run, "name = $4"), (environment, !run && !name, "environment = $2")] {
        if used {
            sql.push_str(if chooses { " AND " } else { " AND +" });
            sql.push_str(text);
        }
    }
    sql.push_str(" AND (at, number) < ($5, $6) ORDER BY at DESC, number DESC LIMIT $7");
    sql
}
