//! What SQLite and PostgreSQL agree on.

statements! {
    /// Each on its own: a megabyte of text is bound faster than it is escaped.
    SNAPSHOT_UPSERT (5) = "INSERT INTO snapshots (run_id, tenant, environment, seq, state) VALUES ($1, $2, $3, $4, $5) \
        ON CONFLICT (run_id) DO UPDATE SET seq = excluded.seq, state = excluded.state";

    RUN (1) = concat!("SELECT ", run_columns!(), " FROM runs WHERE id = $1");
    SNAPSHOT (1) = "SELECT seq, state FROM snapshots WHERE run_id = $1";
    EVENTS (3) = concat!("SELECT ", event_columns!(), " FROM events AS e WHERE e.run_id = $1 AND e.seq > $2 ORDER BY e.seq LIMIT $3");
    ITEMS (2) = "SELECT step, item_index, result FROM items WHERE run_id = $1 AND step = $2 ORDER BY item_index";
    RUN_BY_KEY (1) = "SELECT run_id, request_hash FROM idempotency_keys WHERE key = $1";
    STEPS (3) = concat!("SELECT ", step_columns!(), " FROM steps WHERE run_id = $1 AND number > $2 ORDER BY number LIMIT $3");
    STEP (2) = concat!("SELECT ", step_columns!(), " FROM steps WHERE run_id = $1 AND step_id = $2");
    /// $1 tenant, $2 environment if any, $3 to $5 time, run and number of the one before; $6 limit. By the index that says the same words.
    DEAD (6) = concat!(
        "SELECT run_id, ", step_columns!(), " FROM steps WHERE tenant = $1 AND ($2 IS NULL OR environment = $2) \
         AND status = 'FAILED' AND error LIKE '{\"code\":\"STEP_LOST\"%' AND (completed_at, run_id, number) < ($3, $4, $5) \
         ORDER BY completed_at DESC, run_id DESC, number DESC LIMIT $6"
    );
    DUE_TIMERS (2) = "SELECT run_id, key, due_at FROM timers WHERE due_at <= $1 ORDER BY due_at, run_id, key LIMIT $2";
    NEXT_TIMER (0) = "SELECT min(due_at) FROM timers";
    OUTBOX (1) = "SELECT id, target, message FROM outbox ORDER BY number LIMIT $1";

    APPROVAL (1) = concat!("SELECT ", approval_columns!(), " FROM approvals WHERE id = $1");

    DEFINITION (3) = concat!(
        "SELECT ", definition_columns!(), ", ", version_columns!(), " FROM definitions AS d JOIN definition_versions AS v \
         ON v.tenant = d.tenant AND v.environment = d.environment AND v.workflow = d.id AND v.number = d.current \
         WHERE d.tenant = $1 AND d.environment = $2 AND d.id = $3"
    );
    VERSION_CURRENT (3) = concat!(
        "SELECT ", version_columns!(), " FROM definitions AS d JOIN definition_versions AS v \
         ON v.tenant = d.tenant AND v.environment = d.environment AND v.workflow = d.id AND v.number = d.current \
         WHERE d.tenant = $1 AND d.environment = $2 AND d.id = $3"
    );
    VERSION_BY_LABEL (4) = concat!(
        "SELECT ", version_columns!(), " FROM definition_versions AS v \
         WHERE v.tenant = $1 AND v.environment = $2 AND v.workflow = $3 AND v.label = $4"
    );
    VERSION_BY_NUMBER (4) = concat!(
        "SELECT ", version_columns!(), " FROM definition_versions AS v \
         WHERE v.tenant = $1 AND v.environment = $2 AND v.workflow = $3 AND v.number = $4"
    );
    VERSION_BY_DIGEST (4) = concat!(
        "SELECT ", version_columns!(), " FROM definition_versions AS v \
         WHERE v.tenant = $1 AND v.environment = $2 AND v.workflow = $3 AND v.digest = $4 ORDER BY v.number DESC LIMIT 1"
    );
    VERSIONS (5) = concat!(
        "SELECT ", version_columns!(), " FROM definition_versions AS v \
         WHERE v.tenant = $1 AND v.environment = $2 AND v.workflow = $3 AND v.number < $4 ORDER BY v.number DESC LIMIT $5"
    );
    VERSION_NEWEST (3) = "SELECT max(number) FROM definition_versions WHERE tenant = $1 AND environment = $2 AND workflow = $3";
    VERSION_INSERT (11) = "INSERT INTO definition_versions \
        (tenant, environment, workflow, number, label, digest, name, description, definition, created_by, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    DEFINITION_IN_FORCE (5) = "INSERT INTO definitions (tenant, environment, id, current, enabled, paused, created_at, updated_at) \
        VALUES ($1, $2, $3, $4, 1, 0, $5, $5) ON CONFLICT (tenant, environment, id) \
        DO UPDATE SET current = excluded.current, updated_at = excluded.updated_at WHERE definitions.current <> excluded.current";
    DEFINITION_SET (6) = "UPDATE definitions SET enabled = coalesce($4, enabled), paused = coalesce($5, paused), updated_at = $6 \
        WHERE tenant = $1 AND environment = $2 AND id = $3";
    DEFINITION_HAS_RUNS (3) = "SELECT 1 FROM runs WHERE tenant = $1 AND environment = $2 AND workflow_id = $3 LIMIT 1";
    DEFINITION_DELETE (3) = "DELETE FROM definitions WHERE tenant = $1 AND environment = $2 AND id = $3";
    VERSIONS_DELETE (3) = "DELETE FROM definition_versions WHERE tenant = $1 AND environment = $2 AND workflow = $3";

    KEY_INSERT (9) = "INSERT INTO api_keys (id, key_hash, tenant, environment, actor, teams, role, created_at, last_used_at, revoked_at) \
        VALUES ($1, $2, $3, '', $4, $5, $6, $7, $8, $9)";
    KEY_BY_HASH (1) = concat!("SELECT ", key_columns!(), " FROM api_keys WHERE key_hash = $1");
    KEYS (1) = concat!("SELECT ", key_columns!(), " FROM api_keys WHERE tenant = $1 ORDER BY created_at DESC, id DESC");
    KEYS_COUNT (0) = "SELECT count(*) FROM api_keys";
    /// A key that is revoked stays revoked at the first time.
    KEY_REVOKE (3) = "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $3) WHERE tenant = $1 AND id = $2";
    LOGS (4) = "SELECT number, run_id, step_id, at, level, message, fields, percent FROM logs \
        WHERE run_id = $1 AND ($2 IS NULL OR step_id = $2) AND number > $3 ORDER BY number LIMIT $4";
    PING (0) = "SELECT 1";

    /// Why nothing was inserted: no row, the fence; a row, what is there under that number.
    RECORD_THERE (6) = concat!(
        "SELECT j.call, j.request, j.answer, j.clock_ms FROM steps AS s LEFT JOIN journal AS j \
         ON j.run_id = $1 AND j.step = $2 AND j.attempt = $3 AND j.entry = $4 AND j.number = $6 WHERE ", fence!()
    );
    RECORDS (4) = "SELECT call, request, answer, clock_ms FROM journal \
        WHERE run_id = $1 AND step = $2 AND attempt = $3 AND entry = $4 ORDER BY number";

    KV_GET (5) = concat!("SELECT value FROM kv WHERE ", kv_scope!(), " AND key = $5");
    /// From $5 on: keys that begin alike lie side by side.
    KV_KEYS (6) = concat!("SELECT key FROM kv WHERE ", kv_scope!(), " AND key >= $5 ORDER BY key LIMIT $6");
    /// Keys and bytes of the scope, and the length of the value that is there under $5, if any. No row: the scope is empty.
    KV_TOTALS (5) = "SELECT t.keys, t.bytes, CAST(octet_length(k.value) AS BIGINT) FROM kv_totals AS t LEFT JOIN kv AS k \
        ON k.tenant = t.tenant AND k.environment = t.environment AND k.plugin = t.plugin AND k.workflow = t.workflow AND k.key = $5 \
        WHERE t.tenant = $1 AND t.environment = $2 AND t.plugin = $3 AND t.workflow = $4";

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

    /// What a session began with stays.
    SESSION_UPSERT (17) = "INSERT INTO sessions \
        (id, tenant, environment, run_id, step_id, attempt, parent, name, agent, status, turns, lines, bytes, \
         input_tokens, output_tokens, created_at, updated_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) ON CONFLICT (id) DO UPDATE SET \
        status = excluded.status, turns = excluded.turns, lines = excluded.lines, bytes = excluded.bytes, \
        input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens, updated_at = excluded.updated_at";
    SESSION (1) = concat!("SELECT ", session_columns!(), " FROM sessions WHERE id = $1");
    SESSIONS (4) = concat!(
        "SELECT ", session_columns!(), " FROM sessions WHERE run_id = $1 AND ($2 IS NULL OR step_id = $2) AND number > $3 \
         ORDER BY number LIMIT $4"
    );
    SESSION_LINES (4) = "SELECT line, text FROM session_lines WHERE run_id = $1 AND session = $2 AND line > $3 \
        ORDER BY line LIMIT $4";

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
    PINNED_BY (4) = "SELECT run_id FROM run_plugins WHERE tenant = $1 AND environment = $2 AND digest = $3 \
        ORDER BY created_at DESC, run_id DESC LIMIT $4";

    ADMISSIBLE_OF (5) = concat!(
        "SELECT a.run_id FROM admissions AS a WHERE a.run_id = (SELECT a.run_id FROM admissions AS a WHERE ", slot!(),
        " AND a.begun = 0 ORDER BY a.created_at, a.run_id LIMIT 1) AND ", has_room!(), " LIMIT $5"
    );
    ADMITTED (5) = concat!(
        "SELECT a.run_id FROM admissions AS a WHERE ", slot!(), " AND a.begun = 1 ORDER BY a.created_at, a.run_id LIMIT $5"
    );

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

    // What is left of finished runs.
    /// $1 and $2 realm and $3 id of the one before; $4 limit.
    WORKFLOWS (4) = concat!(
        "SELECT ", version_columns!(), " FROM definitions AS d JOIN definition_versions AS v \
         ON v.tenant = d.tenant AND v.environment = d.environment AND v.workflow = d.id AND v.number = d.current \
         WHERE (d.tenant, d.environment, d.id) > ($1, $2, $3) ORDER BY d.tenant, d.environment, d.id LIMIT $4"
    );
    FILES (2) = "SELECT path FROM artifacts WHERE run_id = $1 ORDER BY at, number LIMIT $2";

    EVENTS_WHOLE (3) = "SELECT seq, data FROM events WHERE run_id = $1 AND seq > $2 AND data_sha256 IS NULL ORDER BY seq LIMIT $3";
    /// $1 run, $2 hash of the one before, $3 limit.
    BLOBS_OF_RUN (3) = "SELECT b.sha256, b.size, b.json FROM blob_refs AS r JOIN blobs AS b \
        ON b.tenant = r.tenant AND b.environment = r.environment AND b.sha256 = r.sha256 \
        WHERE r.run_id = $1 AND r.sha256 > $2 ORDER BY r.sha256 LIMIT $3";
    BLOB_REFS (2) = "SELECT sha256 FROM blob_refs WHERE run_id = $1 ORDER BY sha256 LIMIT $2";
    /// $1 run, $2 limit.
    ERASE_LOGS (2) = "DELETE FROM logs WHERE number IN (SELECT number FROM logs WHERE run_id = $1 ORDER BY number LIMIT $2)";

    /// $1 run, $2 limit.
    ERASE_SESSION_LINES (2) = "DELETE FROM session_lines WHERE number IN \
        (SELECT number FROM session_lines WHERE run_id = $1 LIMIT $2)";

    IS_ERASED (1) = "SELECT CAST(CASE WHEN erased_at IS NULL THEN 0 ELSE 1 END AS BIGINT) FROM runs WHERE id = $1";
    /// From the end, so that what is left is still a history.
    DELETE_EVENTS (2) = "DELETE FROM events WHERE run_id = $1 AND seq IN \
        (SELECT seq FROM events WHERE run_id = $1 ORDER BY seq DESC LIMIT $2)";
    DELETE_STEPS (2) = "DELETE FROM steps WHERE run_id = $1 AND number IN \
        (SELECT number FROM steps WHERE run_id = $1 ORDER BY number DESC LIMIT $2)";
}
