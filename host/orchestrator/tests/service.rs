//! The service over adapters in memory: what a client sees, and what a process that dies leaves to the next.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use caisson_core::engine::{Actor, ApprovalStatus};
use caisson_core::json::Payload;
use caisson_core::ports::{ApprovalFilter, IdempotencyRow, PageRequest, RunFilter, RunRow, Store};
use caisson_core::status::RunStatus;
use caisson_orchestrator::memory::MemoryStore;
use caisson_orchestrator::{Decide, SendSignal};
use serde_json::{Value, json};
use support::{Bench, start};

fn output(row: &RunRow) -> Value {
    match row.output.as_ref() {
        Some(Payload::Inline(json)) => json.value(),
        other => panic!("{other:?}"),
    }
}

const CHAIN: &str = "
id: chain
states:
- {name: a, type: operation, action: t.ok, input: {n: '{{ n }}'}, next: b}
- {name: b, type: operation, action: t.ok, input: {m: '{{ steps.a.n }}'}, end: true}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_with_its_output_and_a_chain_that_verifies() {
    let bench = Bench::new().await;
    bench.save(CHAIN).await;
    let run = bench.start("chain", json!({"n": 3})).await;
    let row = bench.end(&run).await;
    assert_eq!((row.status, output(&row)), (RunStatus::Completed, json!({"m": 3})));
    let events = bench.store.events(&run, 0, 1000).await.unwrap();
    let last = caisson_core::engine::chain::verify(caisson_core::engine::chain::GENESIS.into(), 0, &events).unwrap();
    assert_eq!(last, row.last_hash);
    assert_eq!(bench.store.steps(&run, &PageRequest { limit: 10, cursor: None }).await.unwrap().items.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_steps_run_at_once_than_there_are_slots_and_none_is_forgotten() {
    let bench = Bench::on(Arc::new(MemoryStore::new()), 3).await;
    bench
        .save("
id: wide
states:
- {name: f, type: foreach, itemsPath: list, maxConcurrency: 50, iterator: {states: [{name: s, type: operation, action: t.ok, input: '{{ item }}', resultPath: r, end: true}]}, end: true}")
        .await;
    let runs = futures_util::future::join_all(
        (0..5).map(|_| bench.start("wide", json!({"list": (0..100).collect::<Vec<_>>()}))),
    )
    .await;
    for run in &runs {
        let row = bench.end(run).await;
        let items = output(&row);
        assert_eq!(items.as_array().map(Vec::len), Some(100));
        assert_eq!(items[99], json!({"r": 99}));
    }
    assert!(bench.actions.at_once_max.load(Ordering::SeqCst) <= 3);
    assert_eq!(bench.actions.calls.lock()["s"], 500, "a step ran twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_fire_retries_follow_and_the_key_stays_the_same() {
    let bench = Bench::new().await;
    bench
        .save(
            "
id: slow
states:
- {name: w, type: wait, duration: 50ms, next: x}
- {name: x, type: operation, action: t.flaky, retry: {maxAttempts: 3, backoffSeconds: 0.02}, end: true}",
        )
        .await;
    let run = bench.start("slow", json!({})).await;
    assert_eq!(bench.end(&run).await.status, RunStatus::Completed);
    let keys = bench.actions.keys.lock().clone();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]));
}

const ASK: &str = "
id: ask
states:
- {name: q, type: operation, action: t.ask, next: z}
- {name: z, type: operation, action: t.ok, input: '{{ steps.q }}', end: true}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_waits_over_a_restart_and_is_decided_once() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let bench = Bench::on(store.clone(), 4).await;
    bench.save(ASK).await;
    let run = bench.start("ask", json!({})).await;
    let pending = ApprovalFilter { run: Some(run.clone()), status: Some(ApprovalStatus::Pending) };
    let page = PageRequest { limit: 10, cursor: None };
    bench
        .until("the approval is asked for", async || {
            store.approvals("default", None, &pending, &page).await.unwrap().items.len() == 1
        })
        .await;
    bench.service.shutdown(Duration::from_secs(5)).await;

    let bench = Bench::on(store.clone(), 4).await;
    let approval = store.approvals("default", None, &pending, &page).await.unwrap().items.remove(0).id;
    let decide = |name: &str, approve| Decide {
        run: run.clone(),
        approval: approval.clone(),
        approve,
        actor: Actor { name: name.into(), teams: vec![] },
        comment: Some("fine".into()),
    };
    let first = bench.service.decide("default", decide("alice", true)).await.unwrap();
    assert_eq!((first.status, first.decided_by.as_deref()), (ApprovalStatus::Approved, Some("alice")));
    let again = bench.service.decide("default", decide("bob", false)).await.unwrap_err();
    assert_eq!(again.code, "APPROVAL_DECIDED");
    assert_eq!(bench.service.decide("other", decide("eve", true)).await.unwrap_err().code, "RUN_NOT_FOUND");
    assert_eq!(output(&bench.end(&run).await), json!("approved"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_was_running_when_the_process_ended_is_attempted_again() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let bench = Bench::on(store.clone(), 4).await;
    bench.save("id: gate\nstates: [{name: g, type: operation, action: t.gate, input: {n: 7}, end: true}]").await;
    let run = bench.start("gate", json!({})).await;
    bench.until("the step runs", async || bench.actions.at_once.load(Ordering::SeqCst) == 1).await;
    // No patience: the guest is dropped in the middle.
    bench.service.shutdown(Duration::ZERO).await;
    let first = bench.actions.keys.lock().clone();

    let bench = Bench::on(store.clone(), 4).await;
    bench.until("the step runs again", async || bench.actions.at_once.load(Ordering::SeqCst) == 1).await;
    bench.actions.gate.notify_one();
    assert_eq!(output(&bench.end(&run).await), json!({"n": 7}));
    assert_eq!(*bench.actions.keys.lock(), first);
    let steps = store.steps(&run, &PageRequest { limit: 10, cursor: None }).await.unwrap().items;
    assert_eq!((steps[0].attempt, steps[0].claim), (1, 2), "a lost claim used up an attempt");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_full_for_a_while_loses_neither_results_nor_ready_steps() {
    let store = Arc::new(MemoryStore::new());
    // One slot: the second run's step waits in the queue and is claimed while nothing can be stored.
    let bench = Bench::on(store.clone(), 1).await;
    bench.save("id: gate\nstates: [{name: g, type: operation, action: t.gate, input: {n: 7}, end: true}]").await;
    let first = bench.start("gate", json!({})).await;
    bench.until("the step runs", async || bench.actions.at_once.load(Ordering::SeqCst) == 1).await;
    let second = bench.start("gate", json!({})).await;
    store.set_full(true);
    assert_eq!(bench.service.start_run(start("gate", &json!({}))).await.unwrap_err().code, "STORE_FULL");
    bench.actions.gate.notify_one();
    bench.until("the step has ended", async || bench.actions.at_once.load(Ordering::SeqCst) == 0).await;
    assert_eq!(bench.service.row("default", &first).await.unwrap().status, RunStatus::Running);
    store.set_full(false);
    assert_eq!(output(&bench.end(&first).await), json!({"n": 7}));
    bench.until("the next step runs", async || bench.actions.at_once.load(Ordering::SeqCst) == 1).await;
    bench.actions.gate.notify_one();
    assert_eq!(output(&bench.end(&second).await), json!({"n": 7}));
    assert_eq!(bench.actions.calls.lock()["g"], 2, "a step ran twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_stops_the_guest_and_its_child_and_lets_a_parked_one_clean_up() {
    let bench = Bench::new().await;
    bench.save("id: child\nstates: [{name: g, type: operation, action: t.gate, end: true}]").await;
    bench
        .save(
            "
id: family
states:
- name: p
  type: parallel
  branches:
  - {name: kid, states: [{name: c, type: call, workflow: child, end: true}]}
  - {name: ask, states: [{name: q, type: operation, action: t.ask, end: true}]}
  end: true",
        )
        .await;
    let run = bench.start("family", json!({})).await;
    bench.until("the child's step runs", async || bench.actions.at_once.load(Ordering::SeqCst) == 1).await;
    bench
        .until("the question is asked", async || {
            bench.service.row("default", &run).await.unwrap().status == RunStatus::WaitingApproval
        })
        .await;
    let row = bench.service.cancel("default", &run, "op".into(), None).await.unwrap();
    assert_eq!(row.status, RunStatus::Cancelled);
    bench.until("the child's guest is dropped", async || bench.actions.at_once.load(Ordering::SeqCst) == 0).await;
    bench.until("the parked guest cleaned up", async || bench.actions.cleaned.load(Ordering::SeqCst) == 1).await;
    let error = bench.service.cancel("default", &run, "op".into(), None).await.unwrap_err();
    assert_eq!(error.code, "RUN_ENDED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_starts_one_run() {
    let bench = Bench::new().await;
    bench.save(CHAIN).await;
    let with_key = |hash: &str| {
        let mut start = start("chain", &json!({"n": 1}));
        start.idempotency = Some(IdempotencyRow { key: "k".into(), request_hash: hash.into() });
        start
    };
    let both = tokio::join!(bench.service.start_run(with_key("h")), bench.service.start_run(with_key("h")));
    let (first, second) = (both.0.unwrap(), both.1.unwrap());
    assert_eq!(first.0.id, second.0.id);
    assert!(first.1 != second.1, "both say that they made it");
    assert_eq!(bench.service.start_run(with_key("other")).await.unwrap_err().code, "IDEMPOTENCY_KEY_REUSED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_counts_once_and_another_tenants_run_is_not_found() {
    let bench = Bench::new().await;
    bench.save("id: sig\nstates: [{name: s, type: signal, signal: go, next: t}, {name: t, type: signal, signal: go, end: true}]").await;
    let run = bench.start("sig", json!({})).await;
    let signal = |id: &str| SendSignal {
        id: Some(id.into()),
        name: "go".into(),
        correlation: None,
        payload: caisson_core::json::Json::of(id),
    };
    bench.service.signal("default", &run, signal("1"), "a".into()).await.unwrap();
    bench.service.signal("default", &run, signal("1"), "a".into()).await.unwrap();
    assert_eq!(bench.service.row("default", &run).await.unwrap().status, RunStatus::WaitingSignal);
    assert_eq!(bench.service.signal("other", &run, signal("2"), "a".into()).await.unwrap_err().code, "RUN_NOT_FOUND");
    bench.service.signal("default", &run, signal("2"), "a".into()).await.unwrap();
    assert_eq!(output(&bench.end(&run).await), json!("2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_does_not_fit_starts_nothing() {
    let bench = Bench::new().await;
    bench.save("id: strict\ninputSchema: {type: object, required: [n]}\nstates: [{name: a, type: inject, data: 1, end: true}]").await;
    let error = bench.service.start_run(start("strict", &json!({}))).await.unwrap_err();
    assert_eq!(error.code, "SCHEMA_VALIDATION_INPUT");
    let error = bench.service.start_run(start("nope", &json!({}))).await.unwrap_err();
    assert_eq!(error.code, "WORKFLOW_NOT_FOUND");
    let page = PageRequest { limit: 10, cursor: None };
    let runs = bench.store.runs("default", None, &RunFilter::default(), &page).await.unwrap();
    assert!(runs.items.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_loop_goes_on_over_many_decisions() {
    let bench = Bench::new().await;
    bench.save("id: loop\ntimeoutSeconds: 1\nstates: [{name: a, type: inject, data: 0, next: b}, {name: b, type: switch, conditions: [{if: 'True', next: a}]}]").await;
    let run = bench.start("loop", json!({})).await;
    let row = bench.end(&run).await;
    assert_eq!(row.status, RunStatus::TimedOut);
    assert!(row.steps > 200, "{}", row.steps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_waited_for_a_slot_when_its_run_was_paused_goes_on_when_it_is_resumed() {
    let bench = Bench::on(Arc::new(MemoryStore::new()), 2).await;
    let branches =
        (0..6).map(|n| format!("{{name: b{n}, states: [{{name: s{n}, type: operation, action: t.gate, end: true}}]}}"));
    let branches = branches.collect::<Vec<_>>().join(", ");
    bench.save(&format!("id: wide\nstates: [{{name: p, type: parallel, end: true, branches: [{branches}]}}]")).await;
    let run = bench.start("wide", json!({})).await;
    let at_once = |count| bench.actions.at_once.load(Ordering::SeqCst) == count;
    bench.until("both slots are taken", async || at_once(2)).await;
    bench.service.pause("default", &run, "a".into()).await.unwrap();
    bench.actions.gate.notify_waiters();
    bench.until("nothing runs", async || at_once(0)).await;
    // The four others are taken from the queue and refused.
    bench.until("the queue is empty", async || bench.queue.room() == support::ROOM).await;
    bench.service.resume("default", &run, "a".into()).await.unwrap();
    bench
        .until("the run ends", async || {
            bench.actions.gate.notify_waiters();
            bench.service.row("default", &run).await.unwrap().status == RunStatus::Completed
        })
        .await;
}
