//! How many runs may run at once, and what becomes of the others.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use caisson_core::ids::RunId;
use caisson_core::ports::{RunFilter, RunRow, SlotKey, Store};
use caisson_core::status::RunStatus;
use caisson_orchestrator::memory::MemoryStore;
use caisson_orchestrator::{Kind, Load};
use serde_json::{Value, json};
use support::{Bench, start};

async fn save_gate(bench: &Bench, concurrency: &str) {
    let states = "[{name: g, type: operation, action: t.gate, input: {k: '{{ k }}'}, end: true}]";
    bench.save(&format!("id: gate\nconcurrency: {concurrency}\nstates: {states}")).await;
}

async fn row(bench: &Bench, run: &RunId) -> RunRow {
    bench.service.row("default", run).await.unwrap()
}

/// Lets the guest of a run that waits at the gate end.
async fn open_gate(bench: &Bench, times: u32) {
    bench.until("a guest stands at the gate", async || bench.actions.calls.lock().get("g") == Some(&times)).await;
    bench.actions.gate.notify_one();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_have_no_room_wait_their_turn() {
    let bench = Bench::new().await;
    save_gate(&bench, "1").await;
    let mut runs = Vec::new();
    for k in 0..3 {
        runs.push(bench.start("gate", json!({"k": k})).await);
    }
    let waiting = row(&bench, &runs[1]).await;
    assert_eq!((waiting.status, waiting.started_at), (RunStatus::Pending, None));
    assert!(waiting.current_states.is_empty());
    for (at, run) in (1..).zip(&runs) {
        open_gate(&bench, at).await;
        assert_eq!(bench.end(run).await.status, RunStatus::Completed);
    }
    assert_eq!(bench.actions.at_once_max.load(Ordering::SeqCst), 1);
    let mut began = Vec::new();
    for run in &runs {
        began.push(row(&bench, run).await.started_at);
    }
    assert!(began.is_sorted(), "{began:?}");
    let events = bench.store.events(&runs[2], 0, 100).await.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.kind.to_string()).collect();
    assert_eq!(kinds[..3], ["run.created", "run.admitted", "run.status_changed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_have_room_of_their_own_and_an_input_without_one_is_refused() {
    let bench = Bench::new().await;
    save_gate(&bench, "{limit: 1, key: '{{ k }}'}").await;
    let first = bench.start("gate", json!({"k": "a"})).await;
    let other = bench.start("gate", json!({"k": "b"})).await;
    let second = bench.start("gate", json!({"k": "a"})).await;
    let mut statuses = Vec::new();
    for run in [&first, &other, &second] {
        statuses.push(row(&bench, run).await.status);
    }
    assert_eq!(statuses, [RunStatus::Running, RunStatus::Running, RunStatus::Pending]);
    let refused = bench.service.start_run(start("gate", &json!({}))).await.unwrap_err();
    assert_eq!((refused.kind, refused.code), (Kind::Invalid, "CONCURRENCY_KEY"));
    bench.service.cancel("default", &second, "ann".into(), None).await.unwrap();
    assert_eq!(bench.end(&second).await.status, RunStatus::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_not_wait_or_finds_the_queue_full_is_refused_and_can_be_tried_again() {
    let bench = Bench::new().await;
    save_gate(&bench, "{limit: 1, policy: refuse}").await;
    let first = bench.start("gate", json!({"k": 1})).await;
    let refused = bench.service.start_run(start("gate", &json!({"k": 2}))).await.unwrap_err();
    assert_eq!((refused.kind, refused.code), (Kind::TooMany, "CONCURRENCY_LIMIT"), "{refused}");
    open_gate(&bench, 1).await;
    bench.end(&first).await;
    let again = bench.start("gate", json!({"k": 2})).await;

    save_gate(&bench, "{limit: 1, maxQueued: 1}").await;
    let waiting = bench.start("gate", json!({"k": 3})).await;
    let refused = bench.service.start_run(start("gate", &json!({"k": 4}))).await.unwrap_err();
    assert_eq!((refused.kind, refused.code), (Kind::TooMany, "QUEUE_FULL"), "{refused}");
    for (times, run) in [(2, &again), (3, &waiting)] {
        open_gate(&bench, times).await;
        assert_eq!(bench.end(run).await.status, RunStatus::Completed);
    }
    let all = bench.store.runs("default", None, &RunFilter::default(), &support::page()).await.unwrap();
    assert_eq!(all.items.len(), 3, "what was refused left nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_run_takes_the_place_of_the_oldest() {
    let bench = Bench::new().await;
    save_gate(&bench, "{limit: 2, policy: cancel-oldest}").await;
    let mut runs = Vec::new();
    for k in 0..3 {
        runs.push(bench.start("gate", json!({"k": k})).await);
    }
    let oldest = bench.end(&runs[0]).await;
    assert_eq!(oldest.status, RunStatus::Cancelled);
    let last = bench.store.events(&runs[0], 0, 100).await.unwrap().pop().unwrap();
    assert!(last.data.get().contains(&format!("run {} takes its place", runs[2])), "{}", last.data.get());
    for run in &runs[1..] {
        assert_eq!(row(&bench, run).await.status, RunStatus::Running);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_starts_at_once_never_run_more_than_may_and_all_get_their_turn() {
    let bench = Bench::on(Arc::new(MemoryStore::new()), 16).await;
    let states = "[{name: a, type: operation, action: t.ok, next: b}, {name: b, type: wait, duration: 1ms, next: c}, {name: c, type: operation, action: t.ok, end: true}]";
    bench.save(&format!("id: w\nconcurrency: {{limit: 3, key: '{{{{ k }}}}'}}\nstates: {states}")).await;
    let starts = (0..60).map(|n| bench.start("w", json!({"k": n % 2})));
    let runs = futures_util::future::join_all(starts).await;
    let keys = ["0", "1"].map(|key| SlotKey { realm: support::realm(), workflow: "w".into(), key: key.into() });
    for run in &runs {
        for key in &keys {
            assert!(bench.store.admitted(key, 100).await.unwrap().len() <= 3);
        }
        assert_eq!(bench.end(run).await.status, RunStatus::Completed);
    }
    assert!(bench.actions.at_once_max.load(Ordering::SeqCst) <= 6);
    assert!(bench.store.admitted(&keys[0], 100).await.unwrap().is_empty(), "an end gives the place back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_waits_survives_a_restart_and_begins_though_nobody_told_it() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let bench = Bench::on(store.clone(), 4).await;
    save_gate(&bench, "1").await;
    let first = bench.start("gate", json!({"k": 1})).await;
    let second = bench.start("gate", json!({"k": 2})).await;
    bench.service.shutdown(Duration::ZERO).await;
    // It ends, and the host is gone before it can admit the next one.
    bench.service.cancel("default", &first, "ann".into(), None).await.unwrap();
    assert_eq!(row(&bench, &second).await.status, RunStatus::Pending);

    let bench = Bench::on(store, 4).await;
    open_gate(&bench, 1).await;
    assert_eq!(bench.end(&second).await.status, RunStatus::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_runs_obey_the_limit_as_well() {
    let bench = Bench::on(Arc::new(MemoryStore::new()), 16).await;
    let call = |id: &str, workflow: &str| {
        format!("id: {id}\nstates: [{{name: c, type: call, workflow: {workflow}, input: {{k: 1}}, end: true}}]")
    };
    save_gate(&bench, "{limit: 1, policy: refuse}").await;
    bench.save(&call("caller", "gate")).await;
    let first = bench.start("caller", json!({})).await;
    bench.until("the child runs", async || bench.actions.calls.lock().get("g") == Some(&1)).await;
    let second = bench.end(&bench.start("caller", json!({})).await).await;
    let error: Value = second.error.unwrap().value();
    let code = (&error["error"]["code"], &error["error"]["category"]);
    assert_eq!(code, (&json!("CONCURRENCY_LIMIT"), &json!("TransientError")), "{error}");

    save_gate(&bench, "1").await;
    let third = bench.start("caller", json!({})).await;
    let children = RunFilter { parent: Some(third.clone()), ..RunFilter::default() };
    let pending = async || {
        let found = bench.store.runs("default", None, &children, &support::page()).await.unwrap();
        found.items.first().is_some_and(|child| child.status == RunStatus::Pending)
    };
    bench.until("the child waits", pending).await;
    for (times, run) in [(1, &first), (2, &third)] {
        open_gate(&bench, times).await;
        assert_eq!(bench.end(run).await.status, RunStatus::Completed);
    }

    bench.save(&format!("{}\nconcurrency: 1", call("itself", "itself"))).await;
    let row = bench.end(&bench.start("itself", json!({})).await).await;
    let message = row.error.unwrap().get().to_owned();
    assert!(message.contains("the run that calls it, or one above"), "waits for itself: {message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_run_is_started_while_too_many_steps_wait() {
    let bench = Bench::with(Arc::new(MemoryStore::new()), 1, Load { backlog_max: 5 }).await;
    let body = "{states: [{name: g, type: operation, action: t.gate, end: true}]}";
    bench.save(&format!("id: wide\nstates: [{{name: f, type: foreach, itemsPath: l, maxConcurrency: 9, iterator: {body}, end: true}}]")).await;
    bench.start("wide", json!({"l": [1, 2, 3, 4, 5, 6, 7, 8]})).await;
    // The count may be a second old.
    let full = async || match bench.service.start_run(start("wide", &json!({"l": []}))).await {
        Ok(_) => false,
        Err(error) => (error.kind, error.code) == (Kind::TooMany, "BACKLOG_FULL"),
    };
    bench.until("the backlog is seen", full).await;
}
