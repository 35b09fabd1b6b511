//! Statements about load: which runs count together, which of them wait, and how much work waits.

use super::Statement;

/// Runs of a key: $1 to $4.
macro_rules! slot {
    () => {
        "a.tenant = $1 AND a.environment = $2 AND a.workflow = $3 AND a.key = $4"
    };
}
/// Whether fewer of the same key run than may.
macro_rules! has_room {
    () => {
        "(SELECT count(*) FROM admissions AS b WHERE b.tenant = a.tenant AND b.environment = a.environment \
         AND b.workflow = a.workflow AND b.key = a.key AND b.begun = 1) < a.most"
    };
}

statements! {
    /// Read once, when the store is opened.
    ADMISSIONS (0) = "SELECT run_id FROM admissions LIMIT 1";
    /// $1 keys as JSON rows: the place of each, how many of it run and how many wait.
    HELD (1) = "SELECT j.key, \
        (SELECT count(*) FROM admissions AS a WHERE a.tenant = j.value->>'$[0]' AND a.environment = j.value->>'$[1]' \
         AND a.workflow = j.value->>'$[2]' AND a.key = j.value->>'$[3]' AND a.begun = 1), \
        (SELECT count(*) FROM admissions AS a WHERE a.tenant = j.value->>'$[0]' AND a.environment = j.value->>'$[1]' \
         AND a.workflow = j.value->>'$[2]' AND a.key = j.value->>'$[3]' AND a.begun = 0) \
        FROM jsonb_each($1) AS j";
    ADMISSIBLE_OF (5) = concat!(
        "SELECT a.run_id FROM admissions AS a WHERE a.run_id = (SELECT a.run_id FROM admissions AS a WHERE ", slot!(),
        " AND a.begun = 0 ORDER BY a.created_at, a.run_id LIMIT 1) AND ", has_room!(), " LIMIT $5"
    );
    ADMISSIBLE (1) = concat!(
        "SELECT a.run_id FROM admissions AS a INDEXED BY admissions_waiting WHERE a.begun = 0 AND ", has_room!(),
        " AND NOT EXISTS (SELECT 1 FROM admissions AS c WHERE c.tenant = a.tenant AND c.environment = a.environment \
         AND c.workflow = a.workflow AND c.key = a.key AND c.begun = 0 AND (c.created_at, c.run_id) < (a.created_at, a.run_id)) \
         ORDER BY a.created_at, a.run_id LIMIT $1"
    );
    ADMITTED (5) = concat!(
        "SELECT a.run_id FROM admissions AS a WHERE ", slot!(), " AND a.begun = 1 ORDER BY a.created_at, a.run_id LIMIT $5"
    );
    BACKLOG (1) = "SELECT count(*) FROM (SELECT 1 FROM steps INDEXED BY steps_ready WHERE ready_at IS NOT NULL LIMIT $1)";
}
