//! Every statement is prepared, and the hot ones show their plans.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, SqliteConnection};

use super::*;
use crate::statement::common;
use crate::statement::lists::{ApprovalsShape, Statuses};

async fn schema() -> SqliteConnection {
    let mut connection = SqliteConnectOptions::new().in_memory(true).connect().await.expect("opens");
    crate::sqlite::migrate::run(&mut connection).await.expect("migrates");
    connection
}

/// The plan of a statement; preparing it checks every table, column and index that it names.
async fn plan(connection: &mut SqliteConnection, sql: &str) -> String {
    let plan = sqlx::query_as::<_, (i64, i64, i64, String)>(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
    let lines = plan.fetch_all(connection).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
    lines.into_iter().map(|(.., line)| line + "\n").collect()
}

/// The single statements of a text.
fn parts(sql: &str) -> Vec<String> {
    let code: Vec<&str> = sql.lines().filter(|line| !line.starts_with("--")).collect();
    code.join("\n").split(';').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// The largest n of the `$n` in it. `'$[n]'` is a path.
fn arguments(sql: &str) -> usize {
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    sql.split('$').skip(1).filter_map(|rest| digits(rest).parse().ok()).max().unwrap_or(0)
}

fn every_runs_shape() -> Vec<RunsShape> {
    let mut shapes = Vec::new();
    for bits in 0..32_u8 {
        let bit = |n: u8| bits & (1 << n) != 0;
        for statuses in [Statuses::Any, Statuses::One, Statuses::Several] {
            shapes.push(RunsShape {
                environment: bit(0),
                workflow: bit(1),
                statuses,
                project: bit(2),
                parent: bit(3),
                cursor: bit(4),
            });
        }
    }
    shapes
}

fn every_emitted_shape() -> impl Iterator<Item = EmittedShape> {
    (0..8_u8).map(|bits| EmittedShape { environment: bits & 1 != 0, run: bits & 2 != 0, name: bits & 4 != 0 })
}

#[tokio::test]
async fn every_statement_is_prepared_and_takes_as_many_arguments_as_it_says() {
    let mut connection = schema().await;
    let control = ["BEGIN IMMEDIATE", "COMMIT", "ROLLBACK", "SAVEPOINT append", "RELEASE append", "ROLLBACK TO append"];
    for (name, statement) in ALL.iter().chain(common::ALL) {
        assert_eq!(arguments(statement.sql), statement.arguments, "{name}");
        for part in parts(statement.sql) {
            if !control.contains(&part.as_str()) {
                plan(&mut connection, &part).await;
            }
        }
    }
    for shape in every_runs_shape() {
        let sql = runs(shape);
        plan(&mut connection, &sql).await;
        assert_eq!(arguments(&sql), 9, "{sql}");
    }
    for bits in 0..16_u8 {
        let bit = |n: u8| bits & (1 << n) != 0;
        let sql = lists::approvals(ApprovalsShape { environment: bit(0), run: bit(1), status: bit(2), cursor: bit(3) });
        plan(&mut connection, &sql).await;
        assert_eq!(arguments(&sql), 7, "{sql}");
    }
    for shape in every_emitted_shape() {
        let sql = emitted(shape);
        plan(&mut connection, &sql).await;
        assert_eq!(arguments(&sql), 7, "{sql}");
    }
}

#[tokio::test]
async fn what_runs_all_the_time_reads_by_index_and_never_sorts() {
    let mut connection = schema().await;
    for statement in [
        READY,
        CLAIMED_BY_OTHERS,
        DUE_TIMERS,
        NEXT_TIMER,
        OUTBOX,
        EVENTS,
        STEPS,
        STEP,
        DEAD,
        ITEMS,
        LOGS,
        RECORDS,
        RECORD_THERE,
        KV_GET,
        KV_KEYS,
        KV_TOTALS,
        ARTIFACT,
        ARTIFACTS,
        SESSION,
        SESSIONS,
        SESSION_LINES,
        ERASE_SESSION_LINES,
        COMPONENT,
        PINNED_BY,
        ADMISSIBLE,
        ADMISSIBLE_OF,
        ADMITTED,
        WORKFLOWS,
        ENDED_WHOLE,
        ENDED_ERASED,
        FILES,
        EVENTS_WHOLE,
        BLOB_REFS,
        BLOBS_OF_RUN,
    ] {
        let plan = plan(&mut connection, statement.sql).await;
        assert!(!plan.contains("TEMP B-TREE"), "{}: {plan}", statement.sql);
        let scans = plan.lines().filter(|line| line.contains("SCAN") && !line.contains("USING"));
        assert!(scans.clone().all(|line| line.ends_with("SCAN outbox")), "{}: {plan}", statement.sql);
    }
    let dead = plan(&mut connection, DEAD.sql).await;
    assert!(dead.contains("SEARCH steps USING INDEX steps_dead"), "{dead}");
    for statement in [
        COMMIT_RUNS,
        COMMIT_REST,
        COMMIT_PLUGINS,
        BEGIN_CHECK,
        HELD,
        FILES_FORGET,
        ERASE_EVENTS,
        ERASE_BLOBS,
        ERASE_RUN,
        DELETE_RUN,
        RECORD_INSERT,
        KV_SET,
        KV_DELETE,
        EMITTED_INSERT,
        ARTIFACT_UPSERT,
        SESSION_UPSERT,
        SESSION_LINES_INSERT,
        PLUGIN_USERS,
        PLUGIN_DELETE,
        COMPONENTS_DELETE,
    ] {
        for part in parts(statement.sql).iter().filter(|part| !part.starts_with("BEGIN")) {
            let plan = plan(&mut connection, part).await;
            let mut scans = plan.lines().filter(|line| line.contains("SCAN"));
            assert!(scans.all(|line| line.contains("VIRTUAL TABLE")), "{part}: {plan}");
        }
    }
    for shape in every_runs_shape() {
        let plan = plan(&mut connection, &runs(shape)).await;
        assert!(!plan.contains("TEMP B-TREE"), "{shape:?}: {plan}");
        assert!(plan.contains("SEARCH runs USING"), "{shape:?}: {plan}");
    }
    for shape in every_emitted_shape() {
        let plan = plan(&mut connection, &emitted(shape)).await;
        let index = match shape {
            EmittedShape { run: true, .. } => "emitted_events_by_run",
            EmittedShape { name: true, .. } => "emitted_events_by_name",
            EmittedShape { environment: true, .. } => "emitted_events_by_realm",
            EmittedShape { .. } => "emitted_events_by_tenant",
        };
        assert!(!plan.contains("TEMP B-TREE") && plan.contains(index), "{shape:?}: {plan}");
    }
}

#[tokio::test]
async fn every_table_has_tenant_and_environment() {
    let mut connection = schema().await;
    let bare: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_schema AS t WHERE type = 'table' AND name NOT LIKE '\\_sqlx%' ESCAPE '\\' \
         AND (SELECT count(*) FROM pragma_table_info(t.name) WHERE name IN ('tenant', 'environment')) < 2",
    )
    .fetch_all(&mut connection)
    .await
    .expect("answers");
    assert!(bare.is_empty(), "{bare:?}");
}
