//! How PostgreSQL answers what is asked all the time: by an index, and in the index's order, however many runs there are.
//!
//! The server itself writes down the plan of every statement that the store sends (`auto_explain`), so what is judged is what runs.
//! `CAISSON_ROWS` says how many runs are stored; 20,000 if it is not set.

use std::sync::Arc;

use caisson_core::ids::{Realm, RunId, StepId};
use caisson_core::ports::contract::make;
use caisson_core::ports::{
    ApprovalFilter, Beat, Cluster, Commit, EntryKey, InboxRow, Journal, OutboxRow, RunFilter, RunLease, Store,
};
use caisson_core::status::RunStatus;
use caisson_core::time::Timestamp;
use caisson_store::{PostgresOptions, PostgresStore};
use caisson_test_servers::postgres::PostgresServer;
use sqlx::{Connection, PgConnection};

/// Tables that grow with the runs, or with what waits.
const BIG: [&str; 12] = [
    "runs",
    "events",
    "steps",
    "timers",
    "outbox",
    "inbox",
    "approvals",
    "journal",
    "items",
    "blobs",
    "snapshots",
    "logs",
];

/// Fills a database with `$rows` runs: one in a hundred is open, and of those each waits for something.
const FILL: &str = r#"
INSERT INTO runs (id, tenant, environment, workflow_id, workflow_version, digest, name, project_id, created_by, status, phase, current_states,
  input, output, error, parent_run, parent_step, forked_from, steps, created_at, started_at, completed_at, paused_at, cancelled_at, version,
  last_seq, last_hash)
SELECT 'r' || lpad(n::text, 8, '0'), 'acme', CASE WHEN n % 5 = 0 THEN 'staging' ELSE 'default' END, 'flow' || n % 20, '1', 'd1', NULL,
  CASE WHEN n % 50 = 0 THEN 'p' || n % 7 END, 'ann', CASE WHEN n % 100 = 0 THEN 'RUNNING' WHEN n % 10 = 0 THEN 'FAILED' ELSE 'COMPLETED' END,
  NULL, '["first"]', '{"json":{"n":1}}', NULL, NULL, CASE WHEN n % 50 = 1 THEN 'r' || lpad((n - 1)::text, 8, '0') END,
  CASE WHEN n % 50 = 1 THEN 1 END, NULL, 2, 1000 + n, 1000 + n, CASE WHEN n % 100 <> 0 THEN 2000 + n END, NULL, NULL, 3, 3, repeat('0', 64)
FROM generate_series(1, $rows) AS n;
INSERT INTO events (run_id, seq, tenant, environment, kind, at, actor, step_id, v, data, prev_hash, hash)
SELECT 'r' || lpad(n::text, 8, '0'), seq, 'acme', 'default', 'step.completed', 1000 + n, NULL, 's1', 1, '{"step":1}', repeat('0', 64), repeat('0', 64)
FROM generate_series(1, $rows) AS n, generate_series(1, 3) AS seq;
INSERT INTO steps (run_id, number, tenant, environment, step_id, state, state_type, branch_path, action, status, attempt, max_attempts, claim,
  host, ready_at, dispatch, input_seq, usage, created_at, entry, dispatched_at)
SELECT 'r' || lpad(n::text, 8, '0'), number, 'acme', 'default', 's' || number, 'first', 'operation', '', 'core.echo',
  CASE WHEN n % 100 <> 0 OR number = 1 THEN 'SUCCEEDED' WHEN n % 200 = 0 THEN 'RUNNING' ELSE 'PENDING' END, 1, 3, 1,
  CASE WHEN n % 200 = 0 AND number = 2 THEN 'h' || n % 3 END, CASE WHEN n % 200 = 100 AND number = 2 THEN 1000 + n END, 65536, 1, '{}', 1000 + n, 0,
  CASE WHEN n % 200 = 100 AND number = 2 THEN 1000 + n END
FROM generate_series(1, $rows) AS n, generate_series(1, 2) AS number;
UPDATE steps SET status = 'FAILED', error = '{"code":"STEP_LOST"}', completed_at = 3000 WHERE number = 1 AND run_id LIKE '%500';
INSERT INTO timers (run_id, key, tenant, environment, due_at)
SELECT 'r' || lpad(n::text, 8, '0'), 'timeout', 'acme', 'default', 1000 + n FROM generate_series(1, $rows) AS n WHERE n % 10 = 0;
INSERT INTO outbox (tenant, environment, id, target, message)
SELECT 'acme', 'default', 'm' || n, 'r' || lpad((n / 2)::text, 8, '0'), '{}' FROM generate_series(1, $rows) AS n WHERE n % 10 = 0;
INSERT INTO inbox (tenant, environment, id, run_id, host, stimulus)
SELECT '', '', 'i' || n, 'r' || lpad(n::text, 8, '0'), 'h' || n % 3, '{}' FROM generate_series(1, $rows) AS n WHERE n % 10 = 0;
INSERT INTO approvals (id, tenant, environment, run_id, step_id, step, status, message, approvers, created_at)
SELECT 'a' || lpad(n::text, 8, '0'), 'acme', 'default', 'r' || lpad(n::text, 8, '0'), 's1', 1, CASE WHEN n % 100 = 0 THEN 'PENDING' ELSE 'APPROVED' END,
  'go?', '["user:ann"]', 1000 + n FROM generate_series(1, $rows) AS n WHERE n % 4 = 0;
INSERT INTO journal (run_id, step, attempt, entry, number, tenant, environment, call, request, answer, clock_ms)
SELECT 'r' || lpad(n::text, 8, '0'), 2, 1, 0, number, 'acme', 'default', 'http.send', repeat('a', 64), '1', 1
FROM generate_series(1, $rows) AS n, generate_series(0, 4) AS number WHERE n % 20 = 0;
INSERT INTO snapshots (run_id, tenant, environment, seq, state)
SELECT 'r' || lpad(n::text, 8, '0'), 'acme', 'default', 1, '{}' FROM generate_series(1, $rows) AS n WHERE n % 10 = 0;
INSERT INTO logs (tenant, environment, run_id, step_id, at, level, message)
SELECT 'acme', 'default', 'r' || lpad((n / 2)::text, 8, '0'), 's1', 1000 + n, 'info', 'hello' FROM generate_series(1, $rows) AS n;
INSERT INTO items (run_id, step, item_index, tenant, environment, result)
SELECT 'r' || lpad(n::text, 8, '0'), 2, i, 'acme', 'default', '{"json":1}'
FROM generate_series(1, $rows) AS n, generate_series(0, 9) AS i WHERE n % 20 = 0;
INSERT INTO blobs (tenant, environment, sha256, size, json)
SELECT 'acme', 'default', md5(n::text) || md5(n::text), 1, '1' FROM generate_series(1, $rows) AS n WHERE n % 10 = 0;
"#;

/// Watches what the server plans.
struct Watch {
    server: PostgresServer,
    faults: Vec<String>,
    seen: usize,
}

impl Watch {
    /// Plans that were written since the last look. `in_order`: nothing may be sorted.
    fn look(&mut self, what: &str, in_order: bool) {
        let log = self.server.log();
        let plans = log[self.seen..].to_owned();
        self.seen = log.len();
        assert!(plans.contains("Query Text:"), "the server tells no plan of: {what}");
        for plan in plans.split("Query Text:").skip(1) {
            let scan = BIG.iter().find(|table| {
                plan.lines().any(|line| {
                    line.split_once("Seq Scan on ").is_some_and(|(_, rest)| rest.split(' ').next() == Some(**table))
                })
            });
            if let Some(table) = scan {
                self.faults.push(format!("{what}: reads all of {table}:{plan}"));
            }
            if in_order
                && plan.lines().any(|line| line.trim_start().trim_start_matches("->").trim_start().starts_with("Sort "))
            {
                self.faults.push(format!("{what}: sorts:{plan}"));
            }
        }
    }
}

async fn filled(server: &PostgresServer) -> (PostgresStore, u64) {
    let rows = std::env::var("CAISSON_ROWS").map_or(20_000, |rows| rows.parse().expect("CAISSON_ROWS is a number"));
    let url = server.create_database();
    caisson_store::migrate(&url).await.expect("migrates");
    let mut connection = PgConnection::connect(&url).await.expect("connects");
    let fill = FILL.replace("$rows", &rows.to_string());
    sqlx::raw_sql(sqlx::AssertSqlSafe(fill)).execute(&mut connection).await.expect("fills");
    sqlx::raw_sql("ANALYZE").execute(&mut connection).await.expect("counts");
    let watch = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET session_preload_libraries = ''auto_explain''', current_database()); \
                 EXECUTE format('ALTER DATABASE %I SET auto_explain.log_min_duration = 0', current_database()); END $$";
    sqlx::raw_sql(watch).execute(&mut connection).await.expect("watches");
    (PostgresStore::open(&url, PostgresOptions::default()).await.expect("opens"), rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_all_the_time_is_answered_by_an_index() {
    let server = PostgresServer::new();
    let (store, rows) = filled(&server).await;
    let seen = server.log().len();
    let mut watch = Watch { server, faults: Vec::new(), seen };
    of_steps(&store, &mut watch).await;
    of_hosts(&store, &mut watch).await;
    of_one_run(&store, &mut watch, rows).await;
    of_lists(&store, &mut watch, rows).await;
    of_commits(&store, &mut watch, rows).await;
    store.close().await;
    watch.faults.dedup();
    assert!(watch.faults.is_empty(), "{rows} runs, {} faults:\n{}", watch.faults.len(), watch.faults.join("\n"));
}

async fn of_steps(store: &PostgresStore, watch: &mut Watch) {
    assert_eq!(store.ready(50).await.expect("answers").len(), 50);
    watch.look("ready", true);
    assert_eq!(store.redispatch(Timestamp(i64::MAX), Timestamp(1), 50).await.expect("answers").len(), 50);
    watch.look("redispatch", true);
    store.backlog(1_000).await.expect("answers");
    watch.look("backlog", true);
    store.claimed_by_others("h0", 50).await.expect("answers");
    // Asked once, by a host that is alone.
    watch.look("claimed_by_others", false);
    store.due_timers(Timestamp(i64::MAX), 50).await.expect("answers");
    watch.look("due_timers", true);
    store.next_timer().await.expect("answers");
    watch.look("next_timer", true);
    store.outbox(50).await.expect("answers");
    watch.look("outbox", true);
    store.latest_time().await.expect("answers");
    watch.look("latest_time", true);
}

async fn of_hosts(store: &PostgresStore, watch: &mut Watch) {
    let beat = Beat {
        id: "h1".into(),
        name: "m".into(),
        version: "1".into(),
        slots: 1,
        running: 0,
        draining: false,
        first: true,
        lease_ms: 600_000,
    };
    store.beat(&beat).await.expect("answers");
    // A host's own claims are as few as its slots: the planner may sort them.
    watch.look("beat", false);
    assert_eq!(store.lost_claims(20).await.expect("answers").len(), 20);
    watch.look("lost_claims", true);
    assert_eq!(store.inbox("h1", 50).await.expect("answers").len(), 50);
    watch.look("inbox", true);
    assert_eq!(store.take_timers(Timestamp(i64::MAX), 50, 60_000).await.expect("answers").len(), 50);
    watch.look("take_timers", true);
    assert_eq!(store.take_outbox(50, 60_000).await.expect("answers").len(), 50);
    watch.look("take_outbox", true);
    let row = InboxRow { id: "new".into(), run: RunId::new("r"), host: "h1".into(), stimulus: make::json("1") };
    store.inbox_put(&[row]).await.expect("puts");
    store.inbox_delete(&["new".into()]).await.expect("deletes");
    watch.look("inbox_put and inbox_delete", false);
}

fn id(number: u64) -> RunId {
    RunId::new(format!("r{number:08}"))
}

async fn of_one_run(store: &PostgresStore, watch: &mut Watch, rows: u64) {
    // Open, with a snapshot, a claimed step and its records.
    let run = id(rows / 2 / 200 * 200);
    store.load(&run).await.expect("answers").expect("is there");
    watch.look("load", true);
    store.steps(&run, &make::page(50)).await.expect("answers");
    store.step(&run, &StepId::new("s1")).await.expect("answers");
    store.events(&run, 0, 50).await.expect("answers");
    store.items(&run, 2).await.expect("answers");
    watch.look("what a run has", true);
    store.events_at(&run, &[1, 3]).await.expect("answers");
    watch.look("events_at", false);
    store.logs(&run, None, &make::page(50)).await.expect("answers");
    watch.look("logs", true);
    let entry = EntryKey { run: run.clone(), step: 2, attempt: 1, entry: 0, claim: 1 };
    assert_eq!(store.records(&entry).await.expect("answers").len(), 5);
    store.append(&entry, 5, &make::record("1"), &[]).await.expect("appends");
    // As few as one entry has.
    watch.look("the journal", false);
}

async fn of_lists(store: &PostgresStore, watch: &mut Watch, rows: u64) {
    let page = make::page(50);
    let any = RunFilter::default();
    let by = |filter: RunFilter| filter;
    for (what, environment, filter) in [
        ("of a tenant", None, any.clone()),
        ("of a realm", Some("default"), any.clone()),
        ("of a workflow", Some("default"), by(RunFilter { workflow: Some("flow7".to_owned()), ..any.clone() })),
        ("of a status", Some("default"), by(RunFilter { status: vec![RunStatus::Running], ..any.clone() })),
        ("of a project", None, by(RunFilter { project: Some("p1".to_owned()), ..any.clone() })),
        ("of a parent", None, by(RunFilter { parent: Some(id(rows / 50 * 25)), ..any.clone() })),
    ] {
        let first = store.runs("acme", environment, &filter, &page).await.expect("answers");
        watch.look(&format!("runs {what}"), true);
        if first.next.is_some() {
            let next = caisson_core::ports::PageRequest { limit: 50, cursor: first.next };
            store.runs("acme", environment, &filter, &next).await.expect("answers");
            watch.look(&format!("more runs {what}"), true);
        }
    }
    for environment in [None, Some("default")] {
        let dead = store.dead("acme", environment, &make::page(5)).await.expect("answers");
        watch.look("dead", true);
        let next = caisson_core::ports::PageRequest { limit: 5, cursor: dead.next };
        store.dead("acme", environment, &next).await.expect("answers");
        watch.look("more dead", true);
    }
    let open =
        ApprovalFilter { status: Some(caisson_core::engine::ApprovalStatus::Pending), ..ApprovalFilter::default() };
    for (environment, filter) in [(None, ApprovalFilter::default()), (Some("default"), open)] {
        store.approvals("acme", environment, &filter, &page).await.expect("answers");
        watch.look("approvals", true);
    }
    store.run_stats(&Realm::new("acme", "default"), "nobody", Timestamp(0)).await.expect("answers");
    watch.look("run_stats of a new workflow", true);
}

async fn of_commits(store: &PostgresStore, watch: &mut Watch, rows: u64) {
    let store = Arc::new(store);
    for number in 1..=20 {
        let mut run =
            store.run(&id(rows / 2 / 200 * 200 + 100 + number % 2)).await.expect("answers").expect("is there");
        run.status = RunStatus::Running;
        let commit = Commit {
            steps: vec![make::ready(3, 1_000), make::claimed(4, "h1")],
            timers_set: vec![make::timer(&run, "t", 1_000)],
            timers_cleared: vec!["timeout".into()],
            approvals: vec![make::approval(&run, &format!("new{number}"), 1_000)],
            items_dropped: vec![2],
            outbox: vec![OutboxRow { id: format!("o{number}").into(), target: id(1), message: make::json("1") }],
            outbox_done: vec![format!("m{number}0").into()],
            inbox_done: vec![format!("i{number}0").into()],
            lease: RunLease::Hold("h1".into()),
            ..make::commit(&mut run, 2, 1_000)
        };
        store.commit(commit).await.expect("commits");
    }
    watch.look("commits", false);
}
