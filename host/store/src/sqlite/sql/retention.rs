//! Statements about what is left of finished runs.

use super::Statement;

statements! {
    /// $1 and $2 realm and $3 id of the one before; $4 limit.
    WORKFLOWS (4) = concat!(
        "SELECT ", version_columns!(), " FROM definitions AS d JOIN definition_versions AS v \
         ON v.tenant = d.tenant AND v.environment = d.environment AND v.workflow = d.id AND v.number = d.current \
         WHERE (d.tenant, d.environment, d.id) > ($1, $2, $3) ORDER BY d.tenant, d.environment, d.id LIMIT $4"
    );
    ENDED_WHOLE (5) = "SELECT id FROM runs INDEXED BY runs_whole WHERE tenant = $1 AND environment = $2 AND workflow_id = $3 \
        AND completed_at IS NOT NULL AND erased_at IS NULL AND completed_at < $4 ORDER BY completed_at, id LIMIT $5";
    ENDED_ERASED (5) = "SELECT id FROM runs INDEXED BY runs_erased WHERE tenant = $1 AND environment = $2 AND workflow_id = $3 \
        AND erased_at IS NOT NULL AND completed_at < $4 ORDER BY completed_at, id LIMIT $5";
    FILES (2) = "SELECT path FROM artifacts WHERE run_id = $1 ORDER BY at, number LIMIT $2";
    FILES_FORGET (2) = "DELETE FROM artifacts WHERE run_id = $1 AND path IN (SELECT value FROM json_each($2))";

    EVENTS_WHOLE (3) = "SELECT seq, data FROM events WHERE run_id = $1 AND seq > $2 AND data_sha256 IS NULL ORDER BY seq LIMIT $3";
    BLOB_REFS (2) = "SELECT sha256 FROM blob_refs WHERE run_id = $1 ORDER BY sha256 LIMIT $2";
    /// $1 run, $2 numbers and hashes of events.
    ERASE_EVENTS (2) = "UPDATE events SET data = '', data_sha256 = j.value->>'$[1]' FROM jsonb_each($2) AS j \
        WHERE events.run_id = $1 AND events.seq = j.value->>'$[0]'";
    /// $1 run, $2 and $3 its realm, $4 hashes.
    ERASE_BLOBS (4) = "DELETE FROM blob_refs WHERE run_id = $1 AND sha256 IN (SELECT value FROM json_each($4)); \
        DELETE FROM blobs WHERE tenant = $2 AND environment = $3 AND sha256 IN (SELECT value FROM json_each($4)) \
        AND NOT EXISTS (SELECT 1 FROM blob_refs AS r WHERE r.sha256 = blobs.sha256 AND r.tenant = $2 AND r.environment = $3);";
    /// $1 run, $2 limit.
    ERASE_LOGS (2) = "DELETE FROM logs WHERE number IN (SELECT number FROM logs WHERE run_id = $1 ORDER BY number LIMIT $2)";
    /// $1 run, $2 input, $3 output, $4 error, $5 when, $6 what a payload without a hash becomes.
    ERASE_RUN (6) = "UPDATE steps SET error = json_object('code', error->>'$.code', 'category', error->>'$.category', 'message', 'erased') \
        WHERE run_id = $1 AND error IS NOT NULL; \
        UPDATE approvals SET message = 'erased', summary = NULL, comment = NULL WHERE run_id = $1; \
        UPDATE emitted_events SET payload = $6 WHERE run_id = $1; \
        DELETE FROM items WHERE run_id = $1; \
        DELETE FROM snapshots WHERE run_id = $1; \
        UPDATE runs SET input = $2, output = $3, error = $4, erased_at = $5 WHERE id = $1;";

    IS_ERASED (1) = "SELECT erased_at IS NOT NULL FROM runs WHERE id = $1";
    /// From the end, so that what is left is still a history.
    DELETE_EVENTS (2) = "DELETE FROM events WHERE run_id = $1 AND seq IN \
        (SELECT seq FROM events WHERE run_id = $1 ORDER BY seq DESC LIMIT $2)";
    DELETE_STEPS (2) = "DELETE FROM steps WHERE run_id = $1 AND number IN \
        (SELECT number FROM steps WHERE run_id = $1 ORDER BY number DESC LIMIT $2)";
    /// What a finished run has none of goes as well, if there is any.
    DELETE_RUN (1) = "DELETE FROM approvals WHERE run_id = $1; \
        DELETE FROM items WHERE run_id = $1; \
        DELETE FROM snapshots WHERE run_id = $1; \
        DELETE FROM logs WHERE run_id = $1; \
        DELETE FROM timers WHERE run_id = $1; \
        DELETE FROM journal WHERE run_id = $1; \
        DELETE FROM run_plugins WHERE run_id = $1; \
        DELETE FROM admissions WHERE run_id = $1; \
        DELETE FROM emitted_events WHERE run_id = $1; \
        DELETE FROM artifacts WHERE run_id = $1; \
        DELETE FROM idempotency_keys WHERE run_id = $1; \
        DELETE FROM runs WHERE id = $1;";
}
