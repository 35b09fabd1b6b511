//! Journals on SQLite: durable, folded with commits, behind the fence also when everything comes at once.

use std::path::Path;
use std::sync::Arc;

use caisson_core::ports::contract::make;
use caisson_core::ports::{
    Commit, Effect, EntryKey, Journal, JournalError, PluginStore, RunRow, StepRow, Store, StoreError,
};
use caisson_core::status::StepStatus;
use caisson_store::{SqliteOptions, SqliteStore};

async fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(dir, SqliteOptions::default()).await.expect("opens")
}

/// A run whose step 1 runs.
async fn running(store: &SqliteStore, id: &str) -> RunRow {
    let mut run = make::run(id, 1_000);
    let steps = vec![make::claimed(1, "h1")];
    store.commit(Commit { steps, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
    run
}

fn ending(run: &mut RunRow) -> Commit {
    let ended = StepRow { status: StepStatus::Succeeded, claim: 1, ..make::step(1) };
    Commit { steps: vec![ended], ..make::commit(run, 1, 1_000) }
}

#[tokio::test]
async fn records_values_and_pins_are_there_after_it_was_opened_again() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let store = open(dir.path()).await;
    let mut run = running(&store, "r").await;
    let entry = make::entry(&run, 1);
    let records = ["1.0", "{\"z\":1,\"a\":2}"].map(make::record);
    let event = make::emitted(&run, "e", "order.paid", 1_000);
    let file = make::artifact(&run, "f", 1_000);
    let effects = [
        make::set_within(&make::scope(), "k", b"v", 1, 10),
        Effect::Emit(event.clone()),
        Effect::Artifact(file.clone()),
    ];
    store.append(&entry, 0, &records[0], &effects).await.expect("appends");
    store.append(&entry, 1, &records[1], &[]).await.expect("appends");
    let mut pinning = make::run("p", 1_000);
    let pins = vec!["d1".into()];
    store.commit(Commit { pins, ..make::commit(&mut pinning, 1, 1_000) }).await.expect("commits");
    store.close().await;

    let store = open(dir.path()).await;
    assert_eq!(store.records(&entry).await.expect("answers"), records);
    assert_eq!(store.kv_get(&make::scope(), "k").await.expect("answers").as_deref(), Some(&b"v"[..]));
    assert_eq!(store.artifact("f").await.expect("answers"), Some(file));
    let events = store.emitted("acme", None, None, None, &make::page(9)).await.expect("answers");
    assert_eq!(events.items, [event]);
    let over = store.apply(&[make::set_within(&make::scope(), "l", b"v", 1, 10)]).await;
    assert!(matches!(over, Err(JournalError::Quota(_))), "the quota counts what was there: {over:?}");
    // What was there before it was opened goes as well.
    store.commit(ending(&mut run)).await.expect("commits");
    assert!(store.records(&entry).await.expect("answers").is_empty());
    let realm = make::realm();
    assert!(matches!(store.delete_plugin(&realm, "x", &["d1".into()]).await, Err(StoreError::Conflict(_))));
    pinning.status = caisson_core::status::RunStatus::Cancelled;
    store.commit(make::commit(&mut pinning, 1, 1_000)).await.expect("commits");
    store.delete_plugin(&realm, "x", &["d1".into()]).await.expect("nobody needs it");
    store.close().await;
}

#[tokio::test]
async fn records_and_commits_are_folded_and_each_gets_its_own_answer() {
    const RUNS: usize = 60;
    let dir = tempfile::tempdir().expect("makes a directory");
    let store = Arc::new(open(dir.path()).await);
    let mut runs = Vec::new();
    for number in 0..RUNS {
        runs.push(running(&store, &format!("r{number:02}")).await);
    }
    let before = store.counters();
    let mut tasks = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        let (store, run) = (Arc::clone(&store), run.clone());
        tasks.push(tokio::spawn(async move {
            let entry = EntryKey { claim: if number % 3 == 1 { 7 } else { 1 }, ..make::entry(&run, 1) };
            let max_keys = if number % 3 == 2 { 0 } else { 1_000 };
            let set = make::set_within(&make::scope(), run.id.as_str(), b"v", max_keys, 1_000);
            store.append(&entry, 0, &make::record("0"), &[set]).await
        }));
    }
    let commits: Vec<_> = runs
        .iter_mut()
        .map(|run| {
            let (store, commit) = (Arc::clone(&store), make::commit(run, 1, 1_100));
            tokio::spawn(async move { store.commit(commit).await })
        })
        .collect();
    for (number, task) in tasks.into_iter().enumerate() {
        let answer = task.await.expect("joins");
        let right = match number % 3 {
            0 => answer.is_ok(),
            1 => matches!(answer, Err(JournalError::Superseded)),
            _ => matches!(answer, Err(JournalError::Quota(_))),
        };
        assert!(right, "{number}: {answer:?}");
    }
    for commit in commits {
        commit.await.expect("joins").expect("commits");
    }
    let after = store.counters();
    assert_eq!((after.appends - before.appends, after.commits - before.commits), (RUNS as u64, RUNS as u64));
    assert!(after.batches - before.batches < 8, "{before:?} {after:?}");
    for (number, run) in runs.iter().enumerate() {
        let stored = store.records(&make::entry(run, 1)).await.expect("answers").len();
        assert_eq!(stored, usize::from(number % 3 == 0), "run {number}");
        assert_eq!(store.run(&run.id).await.expect("answers").as_ref(), Some(run));
    }
    let keys = store.kv_keys(&make::scope(), "", 1_000).await.expect("answers");
    assert_eq!(keys.len(), RUNS / 3);
    store.close().await;
}

#[tokio::test]
async fn a_batch_with_a_commit_that_no_statement_survives_keeps_its_records() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let store = Arc::new(open(dir.path()).await);
    let mut run = running(&store, "r").await;
    let other = running(&store, "q").await;
    let mut bad = make::commit(&mut run, 1, 1_100);
    bad.steps = vec![make::step(3), StepRow { id: make::step(3).id, ..make::step(4) }];
    let (one, two) = (Arc::clone(&store), Arc::clone(&store));
    let refused = tokio::spawn(async move { one.commit(bad).await });
    let appended = {
        let entry = make::entry(&other, 1);
        tokio::spawn(async move { two.append(&entry, 0, &make::record("0"), &[make::set("k", b"v")]).await })
    };
    assert!(refused.await.expect("joins").is_err());
    appended.await.expect("joins").expect("appends");
    assert_eq!(store.records(&make::entry(&other, 1)).await.expect("answers").len(), 1);
    assert_eq!(store.kv_get(&make::scope(), "k").await.expect("answers").as_deref(), Some(&b"v"[..]));
    store.close().await;
}

#[tokio::test]
async fn nothing_is_appended_to_a_step_that_ends_at_the_same_time() {
    const RUNS: usize = 200;
    let dir = tempfile::tempdir().expect("makes a directory");
    let store = Arc::new(open(dir.path()).await);
    let mut runs = Vec::new();
    for number in 0..RUNS {
        runs.push(running(&store, &format!("r{number:03}")).await);
    }
    let tasks: Vec<_> = runs
        .iter()
        .enumerate()
        .map(|(number, run)| {
            let (store, mut run) = (Arc::clone(&store), run.clone());
            tokio::spawn(async move {
                let entry = make::entry(&run, 1);
                let appends = async {
                    for number in 0..4 {
                        match store.append(&entry, number, &make::record("0"), &[]).await {
                            Ok(()) => {}
                            Err(JournalError::Superseded) => return number,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    4
                };
                let ends = async {
                    for _ in 0..number % 5 {
                        store.ping().await.expect("answers");
                    }
                    store.commit(ending(&mut run)).await.expect("commits");
                };
                let (appended, ()) = tokio::join!(appends, ends);
                let late = store.append(&entry, appended, &make::record("0"), &[]).await;
                assert!(matches!(late, Err(JournalError::Superseded)), "{late:?}");
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("joins");
    }
    for run in &runs {
        assert!(store.records(&make::entry(run, 1)).await.expect("answers").is_empty(), "{}", run.id);
    }
    store.close().await;
}

#[tokio::test]
async fn a_record_whose_caller_went_away_is_stored_whole() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let store = open(dir.path()).await;
    let run = running(&store, "r").await;
    let entry = make::entry(&run, 1);
    {
        let (record, effects) = (make::record("0"), [make::set("k", b"v")]);
        let mut append = std::pin::pin!(store.append(&entry, 0, &record, &effects));
        let looked = std::future::poll_fn(|context| std::task::Poll::Ready(append.as_mut().poll(context)));
        assert!(looked.await.is_pending());
    }
    // The same record again, as a host does that got no answer.
    store.append(&entry, 0, &make::record("0"), &[make::set("k", b"v")]).await.expect("is there already");
    assert_eq!(store.records(&entry).await.expect("answers").len(), 1);
    assert!(store.kv_get(&make::scope(), "k").await.expect("answers").is_some());
    store.close().await;
    let closed = store.append(&entry, 1, &make::record("1"), &[]).await;
    assert!(matches!(closed, Err(JournalError::Store(StoreError::Other(_)))), "{closed:?}");
}

#[tokio::test]
async fn a_full_disk_stores_no_record_by_halves() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let options = SqliteOptions { size_max: Some(1024 * 1024), ..SqliteOptions::default() };
    let store = SqliteStore::open(dir.path(), options).await.expect("opens");
    let run = running(&store, "r").await;
    let entry = make::entry(&run, 1);
    let value = vec![7; 40_000];
    let mut number = 0;
    let refused = loop {
        let set = make::set_within(&make::scope(), &format!("k{number}"), &value, 10_000, u64::MAX);
        match store.append(&entry, number, &make::record("0"), &[set]).await {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, JournalError::Store(StoreError::Full(_))), "{refused:?}");
    assert_eq!(store.records(&entry).await.expect("answers").len(), number as usize);
    assert_eq!(store.kv_keys(&make::scope(), "", 1_000).await.expect("answers").len(), number as usize);
    store.set_size_max(4 * 1024 * 1024).await.expect("raises it");
    let set = make::set_within(&make::scope(), "after", &value, u64::from(number) + 1, u64::MAX);
    store.append(&entry, number, &make::record("0"), &[set]).await.expect("there is room again");
    store.close().await;
}
