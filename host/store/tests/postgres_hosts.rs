//! Several hosts on one PostgreSQL, and a server that goes away and comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use caisson_core::ids::RunId;
use caisson_core::json::{Json, Payload};
use caisson_core::ports::contract::make;
use caisson_core::ports::{
    Admission, Cluster, Commit, CommitError, Journal, JournalError, KvScope, NewResource, Place, Pruning, ResourceKey,
    ResourceKind, Resources, StepRow, Store, StoreError,
};
use caisson_core::status::{RunStatus, StepStatus};
use caisson_core::time::Timestamp;
use caisson_store::{PostgresOptions, PostgresStore};
use caisson_test_servers::postgres::PostgresServer;
use sqlx::{Connection, PgConnection};

/// What has not happened by then never will.
const PATIENCE: Duration = Duration::from_secs(30);

async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(url, PostgresOptions::default()).await.expect("opens")
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("connects")
}

/// Looks again and again until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_there_after_a_kill_and_the_same_store_goes_on() {
    let server = PostgresServer::new();
    let store = open(&server.create_database()).await;
    let mut run = make::run("r", 1_000);
    for end in [PostgresServer::kill, PostgresServer::stop] {
        store.commit(make::commit(&mut run, 2, 1_000)).await.expect("commits");
        end(&server);
        // Each waits for a connection as long as it may.
        let mut next = run.clone();
        let (commit, read) = tokio::join!(store.commit(make::commit(&mut next, 1, 2_000)), store.run(&run.id));
        assert!(matches!(&commit, Err(CommitError::Store(StoreError::Other(why))) if !why.is_empty()), "{commit:?}");
        assert!(matches!(&read, Err(StoreError::Other(why)) if !why.is_empty()), "{read:?}");
        server.start();
        until("the store", async || store.ping().await.is_ok()).await;
        let stored = store.load(&run.id).await.expect("answers").expect("is there");
        assert_eq!(stored.row, run, "what was answered stands, and what was refused does not");
        // A writer's connection may still be the broken one: its next batch has another.
        until("a commit", async || {
            let mut next = run.clone();
            let done = store.commit(make::commit(&mut next, 1, 3_000)).await;
            if done.is_ok() {
                run = next;
            }
            done.is_ok()
        })
        .await;
        until("a hint", async || {
            store.hurry().await.expect("hurries");
            tokio::time::timeout(Duration::from_millis(100), store.notified()).await.is_ok()
        })
        .await;
    }
    store.close().await;
}

/// Moves a run until its version is `last`, against whoever does the same.
async fn push(store: Arc<PostgresStore>, id: String, last: u64) -> u64 {
    let mut won = 0;
    loop {
        let mut run = store.run(&RunId::new(&*id)).await.expect("answers").expect("is there");
        if run.version >= last {
            return won;
        }
        match store.commit(make::commit(&mut run, 1, 2_000)).await {
            Ok(()) => won += 1,
            Err(CommitError::Conflict) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_move_the_same_runs_neither_block_nor_lose_anything() {
    const RUNS: usize = 12;
    const MOVES: u64 = 15;
    let url = PostgresServer::shared().create_database();
    let hosts = [Arc::new(open(&url).await), Arc::new(open(&url).await)];
    for number in 0..RUNS {
        hosts[0]
            .commit(make::commit(&mut make::run(&format!("r{number:02}"), 1_000), 1, 1_000))
            .await
            .expect("commits");
    }
    let mut pushing = Vec::new();
    for (place, host) in hosts.iter().enumerate() {
        for number in 0..RUNS {
            // Each host comes from the other end.
            let number = if place == 0 { number } else { RUNS - 1 - number };
            pushing.push(tokio::spawn(push(Arc::clone(host), format!("r{number:02}"), 1 + MOVES)));
        }
    }
    let mut won = 0;
    for task in pushing {
        won += task.await.expect("joins");
    }
    assert_eq!(won, MOVES * RUNS as u64, "of every version one decision is stored");
    for number in 0..RUNS {
        let stored = hosts[1].load(&RunId::new(format!("r{number:02}"))).await.expect("answers").expect("is there");
        assert_eq!((stored.row.version, stored.events.len() as u64), (1 + MOVES, 1 + MOVES));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_hears_of_what_another_left() {
    let url = PostgresServer::shared().create_database();
    let (one, other) = (open(&url).await, open(&url).await);
    until("a hint", async || {
        one.hurry().await.expect("hurries");
        tokio::time::timeout(Duration::from_millis(100), other.notified()).await.is_ok()
    })
    .await;
}

/// Rounds in which two hosts want the same at the same time: without a lock some of them go wrong.
const RACES: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_save_the_same_at_once_have_all_saved_it() {
    let url = PostgresServer::shared().create_database();
    let (one, other) = (open(&url).await, open(&url).await);
    for round in 0..RACES {
        let workflow = format!("w{round}");
        let save = async |host: &PostgresStore| host.save_version(make::version(&workflow, None, "1", 1)).await;
        let (first, second) = tokio::join!(save(&one), save(&other));
        let (first, second) = (first.expect("saves"), second.expect("saves"));
        assert_eq!(first.0, second.0);
        assert!(first.1 != second.1, "it is new to one of them");
        let new = NewResource {
            key: ResourceKey { realm: make::realm(), kind: ResourceKind::Agent, name: workflow.as_str().into() },
            source: "one".into(),
            file: None,
            created_by: "ann".into(),
            at: Timestamp(1),
        };
        let (first, second) = tokio::join!(one.save_resource(new.clone()), other.save_resource(new));
        assert_eq!(first.expect("saves").0, second.expect("saves").0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_together_begin_no_more_runs_of_a_key_than_may() {
    let url = PostgresServer::shared().create_database();
    let (one, other) = (open(&url).await, open(&url).await);
    for round in 0..RACES {
        let begin = async |host: &PostgresStore, name: &str| {
            let mut run = make::run(&format!("{name}{round}"), 1_000);
            let place = Place::Begin { overtakes: false };
            let admission = Some(Admission { key: format!("k{round}").into(), limit: 1, place });
            match host.commit(Commit { admission, ..make::commit(&mut run, 1, 1_000) }).await {
                Ok(()) => true,
                Err(CommitError::NoRoom) => false,
                Err(other) => panic!("{other}"),
            }
        };
        let (first, second) = tokio::join!(begin(&one, "a"), begin(&other, "b"));
        assert!(first != second, "round {round}: {first} {second}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_together_keep_no_more_keys_than_may() {
    let url = PostgresServer::shared().create_database();
    let (one, other) = (open(&url).await, open(&url).await);
    for round in 0..RACES {
        let scope = KvScope { workflow: format!("w{round}").into(), ..make::scope() };
        let set = async |host: &PostgresStore, key: &str| match host
            .apply(&[make::set_within(&scope, key, b"v", 1, 100)])
            .await
        {
            Ok(()) => true,
            Err(JournalError::Quota(_)) => false,
            Err(other) => panic!("{other}"),
        };
        let (first, second) = tokio::join!(set(&one, "a"), set(&other, "b"));
        assert!(first != second, "round {round}: {first} {second}");
    }
}

#[test]
fn what_a_paused_host_has_locked_becomes_free() {
    let url = PostgresServer::shared().create_database();
    let runtime = |mut builder: tokio::runtime::Builder| builder.enable_all().build().expect("a runtime");
    // Nothing moves in this one between two calls of `block_on`: to the server it is a process that was stopped.
    let paused = runtime(tokio::runtime::Builder::new_current_thread());
    let live = runtime(tokio::runtime::Builder::new_multi_thread());
    // What a failure drops needs a runtime.
    let _context = paused.enter();
    let (paused_host, mut looker) = paused.block_on(async { (open(&url).await, connect(&url).await) });
    let (host, mut blocker) = live.block_on(async { (open(&url).await, connect(&url).await) });
    let lock = sqlx::raw_sql("BEGIN; LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE");
    live.block_on(lock.execute(&mut blocker)).expect("locks");
    let mut taking = Box::pin(paused_host.take_outbox(1, 1_000));
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    paused.block_on(async {
        let waits = until("the wait for the table", async || {
            sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut looker).await.expect("answers") > 0
        });
        tokio::select! {
            taken = &mut taking => panic!("{taken:?}"),
            () = waits => {}
        }
    });
    live.block_on(sqlx::raw_sql("ROLLBACK").execute(&mut blocker)).expect("lets go");
    // From now on the server has answered, and the paused host is in the middle of a transaction with its locks.
    let taken = live.block_on(async { tokio::time::timeout(PATIENCE, host.take_outbox(1, 1_000)).await });
    assert!(taken.expect("is not held up for ever").expect("takes").is_empty());
    let late = paused.block_on(taking);
    assert!(matches!(&late, Err(StoreError::Other(why)) if !why.is_empty()), "{late:?}");
    paused.block_on(until("the host that goes on", async || paused_host.take_outbox(1, 1_000).await.is_ok()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_records_while_it_is_stopped_goes_with_it() {
    let url = PostgresServer::shared().create_database();
    let (store, mut recording, mut looker) = (Arc::new(open(&url).await), connect(&url).await, connect(&url).await);
    let mut run = make::run("r", 1_000);
    let step = make::claimed(1, "h1");
    store.commit(Commit { steps: vec![step.clone()], ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    // The transaction of a record, between its statement and its end.
    let record = "BEGIN; SELECT 1 FROM steps WHERE run_id = 'r' AND number = 1 FOR SHARE; \
        INSERT INTO journal (run_id, step, attempt, entry, number, tenant, environment, call, request, answer, clock_ms) \
        VALUES ('r', 1, 1, 0, 0, 'acme', 'default', 'http.send', 'ab', '1', 1)";
    sqlx::raw_sql(record).execute(&mut recording).await.expect("records");
    let stopped = StepRow { status: StepStatus::Cancelled, host: None, ..step };
    let commit = Commit { steps: vec![stopped], ..make::commit(&mut run, 1, 2_000) };
    let stopping = tokio::spawn({
        let store = store.clone();
        async move { store.commit(commit).await }
    });
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("the wait for the step", async || {
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut looker).await.expect("answers") > 0
    })
    .await;
    sqlx::raw_sql("COMMIT").execute(&mut recording).await.expect("commits");
    stopping.await.expect("ends").expect("commits");
    let left = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM journal").fetch_one(&mut looker).await;
    assert_eq!(left.expect("answers"), 0, "a record outlives its step");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_a_new_run_has_does_not_go_with_the_run_that_had_it() {
    let url = PostgresServer::shared().create_database();
    let (store, other) = (open(&url).await, open(&url).await);
    let (_, blob) = Payload::new(Json::of(&"x".repeat(8_000)));
    let blob = blob.expect("it is large");
    let ended = async |name: &str| {
        let mut run = make::run(name, 1_000);
        run.status = RunStatus::Completed;
        let commit = Commit { blobs: vec![blob.clone()], ..make::commit(&mut run, 1, 1_000) };
        store.commit(commit).await.expect("commits");
        run.id
    };
    let mut last = ended("r0").await;
    for number in 1..200 {
        let erase = async {
            let mut after = 0;
            while let Some(next) = other.erase(&last, after, 100, Timestamp(2_000)).await.expect("erases") {
                after = next;
            }
        };
        let name = format!("r{number}");
        let (next, ()) = tokio::join!(ended(&name), erase);
        let found = store.blobs(std::slice::from_ref(&blob.id)).await.expect("answers");
        assert_eq!(found.len(), 1, "the value of {next} went with {last}");
        last = next;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_never_has_more_connections_than_it_may() {
    let url = PostgresServer::shared().create_database();
    let settings = PostgresOptions { writers: 1, connections: 4, ..PostgresOptions::default() };
    let store = Arc::new(PostgresStore::open(&url, settings).await.expect("opens"));
    let mut asking = Vec::new();
    for number in 0..60 {
        let store = Arc::clone(&store);
        asking.push(tokio::spawn(async move {
            let mut run = make::run(&format!("r{number}"), 1_000);
            store.commit(make::commit(&mut run, 1, 1_000)).await.expect("commits");
            store.load(&run.id).await.expect("answers").expect("is there");
        }));
    }
    let mut connection = connect(&url).await;
    let mut most = 0_i64;
    let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    while !asking.iter().all(tokio::task::JoinHandle::is_finished) {
        most = most.max(sqlx::query_scalar(count).fetch_one(&mut connection).await.expect("answers"));
    }
    for task in asking {
        task.await.expect("joins");
    }
    assert!((1..=4).contains(&most), "{most}");
}
