//! What only SQLite has: a file, a lock, a disk that can be full, a writer that folds.

use std::path::Path;
use std::sync::Arc;

use caisson_core::ids::StepId;
use caisson_core::ports::contract::make;
use caisson_core::ports::{Commit, CommitError, IdempotencyRow, RunFilter, StepRow, Store, StoreError};
use caisson_store::{DATABASE_FILE, SqliteOptions, SqliteStore};
use sqlx::{ConnectOptions, Connection};

async fn open(dir: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(dir, SqliteOptions::default()).await
}

fn first_commit(id: &str) -> Commit {
    make::commit(&mut make::run(id, 1_000), 2, 1_000)
}

async fn count_runs(store: &SqliteStore) -> usize {
    store.runs("acme", None, &RunFilter::default(), &make::page(1_000)).await.expect("answers").items.len()
}

/// All at once; answers in the order of the commits.
async fn commit_all(store: &Arc<SqliteStore>, commits: Vec<Commit>) -> Vec<Result<(), CommitError>> {
    let tasks: Vec<_> = commits
        .into_iter()
        .map(|commit| {
            let store = Arc::clone(store);
            tokio::spawn(async move { store.commit(commit).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.expect("joins"));
    }
    answers
}

#[tokio::test]
async fn a_second_process_is_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let store = open(dir.path()).await.expect("opens");
    let Err(StoreError::Locked(said)) = open(dir.path()).await else { panic!("opened twice") };
    assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
    assert!(said.contains(&dir.path().display().to_string()), "{said}");
    store.close().await;
    open(dir.path()).await.expect("is free again").close().await;
}

#[tokio::test]
async fn the_directory_is_made_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("makes a directory");
    let data = dir.path().join("a/b");
    let store = open(&data).await.expect("opens");
    let mode = std::fs::metadata(&data).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    store.close().await;
}

#[tokio::test]
async fn what_was_committed_is_there_after_it_was_opened_again() {
    let dir = tempfile::tempdir().expect("makes a directory");
    for closed in [true, false] {
        let store = open(dir.path()).await.expect("opens");
        let id = format!("r{closed}");
        store.commit(first_commit(&id)).await.expect("commits");
        if closed {
            store.close().await;
            assert!(!dir.path().join(format!("{DATABASE_FILE}-wal")).exists(), "everything is in the file");
            let refused = store.commit(first_commit("late")).await;
            assert!(matches!(refused, Err(CommitError::Store(StoreError::Other(_)))), "{refused:?}");
        } else {
            // Nobody closes it: the writer ends by itself and lets the lock go.
            drop(store);
        }
        let again = loop {
            match open(dir.path()).await {
                Ok(store) => break store,
                Err(StoreError::Locked(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        let loaded = again.load(&make::run(&id, 0).id).await.expect("answers").expect("is there");
        assert_eq!(loaded.events.len(), 2);
        again.close().await;
    }
}

#[tokio::test]
async fn data_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().expect("makes a directory");
    open(dir.path()).await.expect("opens").close().await;
    let file = dir.path().join(DATABASE_FILE);
    let mut raw = sqlx::sqlite::SqliteConnectOptions::new().filename(&file).connect().await.expect("connects");
    sqlx::raw_sql(
        "INSERT INTO _sqlx_migrations SELECT 9999, 'later', installed_on, success, checksum, execution_time FROM _sqlx_migrations \
         LIMIT 1",
    )
    .execute(&mut raw)
    .await
    .expect("inserts");
    raw.close().await.expect("closes");
    for _ in 0..2 {
        let Err(StoreError::Newer(said)) = open(dir.path()).await else { panic!("opened") };
        assert!(said.contains("9999"), "{said}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_damage_and_stays_as_it_is() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let file = dir.path().join(DATABASE_FILE);
    let garbage = b"this is no database at all, whatever its name says".repeat(100);
    std::fs::write(&file, &garbage).expect("writes");
    let Err(error) = open(dir.path()).await else { panic!("opened") };
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    assert_eq!(std::fs::read(&file).expect("reads"), garbage);
}

#[tokio::test]
async fn a_full_disk_stores_nothing_by_halves_and_is_over_when_there_is_room() {
    const SMALL: u64 = 1024 * 1024;
    let dir = tempfile::tempdir().expect("makes a directory");
    let options = SqliteOptions { size_max: Some(SMALL), ..SqliteOptions::default() };
    let store = Arc::new(SqliteStore::open(dir.path(), options).await.expect("opens"));
    let large = |id: &str| {
        let mut commit = first_commit(id);
        commit.steps = vec![make::ready(1, 1_000)];
        commit.snapshot = Some(make::json(&format!("\"{}\"", "x".repeat(20_000))));
        commit
    };
    let mut stored = 0;
    let refused = loop {
        match store.commit(large(&format!("r{stored:04}"))).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, CommitError::Store(StoreError::Full(_))), "{refused:?}");
    let together = commit_all(&store, (0..20).map(|n| large(&format!("together{n}"))).collect()).await;
    for answer in together {
        assert!(matches!(answer, Err(CommitError::Store(StoreError::Full(_)))), "{answer:?}");
    }
    assert_eq!(count_runs(&store).await, stored);
    assert_eq!(store.ready(1_000).await.expect("answers").len(), stored);
    store.set_size_max(SMALL * 4).await.expect("raises it");
    store.commit(large("after")).await.expect("there is room again");
    assert_eq!(count_runs(&store).await, stored + 1);
    store.close().await;
}

#[tokio::test]
async fn concurrent_commits_are_folded_and_each_gets_its_own_answer() {
    const RUNS: usize = 100;
    let dir = tempfile::tempdir().expect("makes a directory");
    let store = Arc::new(open(dir.path()).await.expect("opens"));
    let mut runs: Vec<_> = (0..RUNS).map(|n| make::run(&format!("r{n:03}"), 1_000)).collect();
    let new = runs.iter_mut().map(|run| make::commit(run, 2, 1_000)).collect();
    assert!(commit_all(&store, new).await.iter().all(Result::is_ok));
    let key = || Some(IdempotencyRow { key: "k".to_owned(), request_hash: "h".to_owned() });
    // Two in a row of one run, one that is late, one that exists, two of one key, and one that no statement of the batch survives.
    let first = make::commit(&mut runs[0], 1, 1_100);
    let second = make::commit(&mut runs[0], 1, 1_100);
    let mut late = runs[1].clone();
    late.version += 7;
    let late = make::commit(&mut late, 1, 1_100);
    let exists = first_commit("r002");
    let keyed = Commit { idempotency: key(), ..first_commit("keyed") };
    let keyed_again = Commit { idempotency: key(), ..first_commit("keyed again") };
    let mut bad = make::commit(&mut runs[3].clone(), 1, 1_100);
    bad.steps = vec![make::step(1), StepRow { id: StepId::new("s1"), ..make::step(2) }];
    let good = make::commit(&mut runs[4], 3, 1_100);
    let before = store.counters();
    let answers = commit_all(&store, vec![first, second, late, exists, keyed, keyed_again, bad, good]).await;
    let after = store.counters();
    assert!(after.batches - before.batches < 4, "{before:?} {after:?}");
    assert!(answers[0].is_ok() && answers[1].is_ok() && answers[4].is_ok() && answers[7].is_ok(), "{answers:?}");
    assert!(matches!(answers[2], Err(CommitError::Conflict)), "{answers:?}");
    assert!(matches!(&answers[3], Err(CommitError::Exists(id)) if id.as_str() == "r002"), "{answers:?}");
    assert!(matches!(&answers[5], Err(CommitError::Exists(id)) if id.as_str() == "keyed"), "{answers:?}");
    assert!(matches!(answers[6], Err(CommitError::Store(StoreError::Other(_)))), "{answers:?}");
    for (place, events) in [(0, 4), (1, 2), (2, 2), (3, 2), (4, 5)] {
        let loaded = store.load(&runs[place].id).await.expect("answers").expect("is there");
        assert_eq!(loaded.events.len(), events, "run {place}");
    }
    assert_eq!(count_runs(&store).await, RUNS + 1);
    assert!(store.steps(&runs[3].id, &make::page(9)).await.expect("answers").items.is_empty());
    store.close().await;
}

#[tokio::test]
async fn a_commit_whose_caller_went_away_is_stored_whole() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let store = open(dir.path()).await.expect("opens");
    {
        let mut commit = std::pin::pin!(store.commit(first_commit("r")));
        let looked = std::future::poll_fn(|context| std::task::Poll::Ready(commit.as_mut().poll(context)));
        assert!(looked.await.is_pending());
    }
    store.close().await;
    let store = open(dir.path()).await.expect("opens");
    let loaded = store.load(&make::run("r", 0).id).await.expect("answers").expect("is there");
    assert_eq!(loaded.events.len(), 2);
    store.close().await;
}

#[tokio::test]
async fn closing_waits_for_what_was_taken() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let store = Arc::new(open(dir.path()).await.expect("opens"));
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.commit(first_commit(&format!("r{n}"))).await })
        })
        .collect();
    tokio::task::yield_now().await;
    store.close().await;
    store.close().await;
    let mut stored = 0;
    for task in tasks {
        stored += usize::from(task.await.expect("joins").is_ok());
    }
    let store = open(dir.path()).await.expect("opens");
    assert_eq!(count_runs(&store).await, stored);
    store.close().await;
}

#[tokio::test]
async fn the_log_is_copied_and_begun_anew_while_writing_goes_on() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let store = Arc::new(open(dir.path()).await.expect("opens"));
    let text = make::json(&format!("\"{}\"", "x".repeat(300_000)));
    // Some 150 MB in all: without checkpoints the log would hold every byte.
    let mut run = make::run("r", 1_000);
    for _ in 0..500 {
        let commit = Commit { snapshot: Some(text.clone()), ..make::commit(&mut run, 1, 1_000) };
        store.commit(commit).await.expect("commits");
    }
    let log = dir.path().join(format!("{DATABASE_FILE}-wal"));
    let bytes = std::fs::metadata(&log).expect("is there").len();
    assert!(bytes < 100 * 1024 * 1024, "{bytes}");
    store.close().await;
}
