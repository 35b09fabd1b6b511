//! A run that was given up because every host was lost is found, and goes on as a new run that repeats nothing.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use caisson_core::ids::RunId;
use caisson_core::json::Payload;
use caisson_core::ports::Store;
use caisson_core::status::{RunStatus, StepStatus};
use caisson_orchestrator::memory::MemoryStore;
use serde_json::{Value, json};
use support::{Bench, page};

/// Two items, then a step, then one that only ends if it is let.
const LONG: &str = "
id: long
states:
- {name: each, type: foreach, itemsPath: list, iterator: {states: [{name: item, type: operation, action: t.ok, input: '{{ item }}', resultPath: r, end: true}]}, next: one}
- {name: one, type: operation, action: t.ok, input: {n: '{{ n }}'}, next: gate}
- {name: gate, type: operation, action: t.gate, input: {m: '{{ steps.one.n }}'}, end: true}";

/// Loses as many hosts as it takes to give the step up that waits at the gate.
async fn lose_hosts(store: &Arc<dyn Store>, run: &RunId, mut bench: Bench) -> Bench {
    for _ in 0..10 {
        bench.until("the step runs", async || bench.actions.at_once.load(Ordering::SeqCst) == 1).await;
        bench.service.shutdown(Duration::ZERO).await;
        bench = Bench::on(store.clone(), 4).await;
        if store.run(run).await.unwrap().unwrap().status.is_terminal() {
            return bench;
        }
    }
    panic!("the step is never given up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_step_is_listed_and_its_run_is_replayed_without_repeating_what_succeeded() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let bench = Bench::on(store.clone(), 4).await;
    bench.save(LONG).await;
    let old = bench.start("long", json!({"list": [5, 6], "n": 3})).await;
    let early = bench.service.replay("default", &old, "ann".into()).await.unwrap_err();
    assert_eq!(early.code, "RUN_NOT_ENDED");
    let bench = lose_hosts(&store, &old, bench).await;
    assert_eq!(bench.end(&old).await.status, RunStatus::Failed);
    let dead = store.dead("default", None, &page()).await.unwrap().items;
    let places: Vec<_> = dead.iter().map(|(run, step)| (run.clone(), step.state.to_string())).collect();
    assert_eq!(places, [(old.clone(), "gate".to_owned())]);

    bench.actions.calls.lock().clear();
    let new = bench.service.replay("default", &old, "ann".into()).await.unwrap();
    assert_eq!((new.forked_from.as_ref(), &*new.created_by), (Some(&old), "ann"));
    bench.actions.gate.notify_one();
    let ended = bench.end(&new.id).await;
    assert_eq!((ended.status, output(ended.output)), (RunStatus::Completed, json!({"m": 3})));
    let calls = bench.actions.calls.lock().clone();
    assert_eq!(calls, [("gate".to_owned(), 1)].into(), "what had succeeded ran again");
    let steps = store.steps(&new.id, &page()).await.unwrap().items;
    assert_eq!(steps.len(), store.steps(&old, &page()).await.unwrap().items.len());
    let stranger = bench.service.replay("other", &old, "eve".into()).await.unwrap_err();
    assert_eq!(stranger.code, "RUN_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_failed_runs_again_and_so_does_each_attempt() {
    let bench = Bench::new().await;
    bench
        .save(
            "
id: flaky
states:
- {name: a, type: operation, action: t.ok, input: {n: 1}, next: b}
- {name: b, type: operation, action: t.flaky, retry: {maxAttempts: 2, backoffSeconds: 0.01}, end: true}",
        )
        .await;
    let old = bench.start("flaky", json!({})).await;
    assert_eq!(bench.end(&old).await.status, RunStatus::Failed);
    let new = bench.service.replay("default", &old, "ann".into()).await.unwrap().id;
    assert_eq!(bench.end(&new).await.status, RunStatus::Failed);
    assert_eq!(*bench.actions.calls.lock(), [("a".to_owned(), 1), ("b".to_owned(), 4)].into());
    // A replay of a replay still knows what succeeded at first.
    let third = bench.service.replay("default", &new, "ann".into()).await.unwrap().id;
    assert_eq!(bench.end(&third).await.status, RunStatus::Failed);
    assert_eq!(*bench.actions.calls.lock(), [("a".to_owned(), 1), ("b".to_owned(), 6)].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_called_and_ended_well_is_not_called_again() {
    let bench = Bench::new().await;
    bench
        .save("id: below\nstates:\n- {name: a, type: operation, action: t.ok, input: {n: '{{ n }}'}, end: true}")
        .await;
    bench
        .save(
            "
id: above
states:
- {name: down, type: call, workflow: below, input: {n: 7}, output: {got: '{{ output.n }}'}, next: b}
- {name: b, type: operation, action: t.flaky, input: {n: '{{ steps.down.got }}'}, retry: {maxAttempts: 2, backoffSeconds: 0.01}, end: true}",
        )
        .await;
    let old = bench.start("above", json!({})).await;
    assert_eq!(bench.end(&old).await.status, RunStatus::Failed);
    assert_eq!(*bench.actions.calls.lock(), [("a".to_owned(), 1), ("b".to_owned(), 2)].into());
    let new = bench.service.replay("default", &old, "ann".into()).await.unwrap().id;
    assert_eq!(bench.end(&new).await.status, RunStatus::Failed);
    let third = bench.service.replay("default", &new, "ann".into()).await.unwrap().id;
    assert_eq!(bench.end(&third).await.status, RunStatus::Failed);
    assert_eq!(*bench.actions.calls.lock(), [("a".to_owned(), 1), ("b".to_owned(), 6)].into());
    let steps = bench.service.ports().store.steps(&third, &page()).await.unwrap().items;
    assert_eq!(steps[0].status, StepStatus::Succeeded);
}

fn output(payload: Option<Payload>) -> Value {
    match payload {
        Some(Payload::Inline(json)) => json.value(),
        other => panic!("{other:?}"),
    }
}
