//! Several hosts on one store: what a dead one had goes on elsewhere, results reach whoever moves the run, and nobody runs what it has lost.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use caisson_core::engine::chain;
use caisson_core::ids::RunId;
use caisson_core::ports::{Cluster, Delivery, Horizon, Ready, Store, TaskQueue};
use caisson_core::status::{RunStatus, StepStatus};
use caisson_core::time::Timestamp;
use caisson_orchestrator::StartRun;
use caisson_orchestrator::memory::MemoryStore;
use parking_lot::Mutex;
use serde_json::json;
use support::{Bench, SystemClock, page, start};
use tokio::sync::Notify;

const GATE: &str = "
id: gate
states:
- {name: g, type: operation, action: t.gate, input: {n: 1}, next: o}
- {name: o, type: operation, action: t.ok, input: {n: 2}, end: true}";

const TWO: &str = "
id: two
states:
- name: p
  type: parallel
  branches:
  - {name: a, states: [{name: g, type: operation, action: t.gate, input: {n: 1}, end: true}]}
  - {name: b, states: [{name: o, type: operation, action: t.ok, input: {n: 2}, end: true}]}
  end: true";

/// Dead soon after its last beat.
const SHORT: Duration = Duration::from_millis(600);
/// Outlasts a test.
const LONG: Duration = Duration::from_mins(1);

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::with_clock(Arc::new(SystemClock)))
}

async fn step_status(store: &MemoryStore, run: &RunId, state: &str) -> Option<StepStatus> {
    let steps = store.steps(run, &page()).await.unwrap().items;
    steps.iter().find(|step| &*step.state == state).map(|step| step.status)
}

async fn assert_history_holds(store: &MemoryStore, run: &RunId) {
    let events = store.events(run, 0, 1000).await.unwrap();
    let last = chain::verify(chain::GENESIS.into(), 0, &events).unwrap();
    assert_eq!(last, store.run(run).await.unwrap().unwrap().last_hash);
    let completed = events.iter().filter(|event| &*event.kind == "step.completed").count();
    let steps: std::collections::BTreeSet<_> =
        events.iter().filter(|event| &*event.kind == "step.completed").map(|event| event.step_id.clone()).collect();
    assert_eq!(steps.len(), completed, "no step succeeds twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_host_ran_goes_on_elsewhere() {
    let store = store();
    // A runtime of its own: when it ends, all that the host does ends in the middle.
    let machine = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (theirs, run) = {
        let store = store.clone();
        let begin = async move {
            let bench = Bench::member(&store, SHORT, 2).await;
            bench.save(GATE).await;
            let run = bench.start("gate", json!({})).await;
            (bench, run)
        };
        machine.spawn(begin).await.unwrap()
    };
    theirs.until("the guest runs", async || theirs.actions.at_once.load(Ordering::SeqCst) == 1).await;
    let bench = Bench::member(&store, LONG, 2).await;
    machine.shutdown_background();
    bench.actions.gate.notify_one();
    assert_eq!(bench.end(&run).await.status, RunStatus::Completed);
    assert_eq!(bench.actions.calls.lock().get("g"), Some(&1));
    drop(theirs);
    assert_history_holds(&store, &run).await;
    bench.service.shutdown(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_reaches_the_host_that_moves_the_run() {
    let store = store();
    let first = Bench::member(&store, LONG, 1).await;
    first.save(TWO).await;
    let run = first.start("two", json!({})).await;
    first.until("the guest runs", async || first.actions.at_once.load(Ordering::SeqCst) == 1).await;
    let second = Bench::member(&store, LONG, 1).await;
    second
        .until("the second host's step has succeeded", async || {
            step_status(&store, &run, "o").await == Some(StepStatus::Succeeded)
        })
        .await;
    let holder = store.load(&run).await.unwrap().unwrap().holder.unwrap();
    let hosts = store.hosts().await.unwrap();
    assert_eq!(hosts.iter().min_by_key(|host| host.started_at).unwrap().id, holder, "the first host still moves it");
    assert_eq!(second.actions.calls.lock().get("o"), Some(&1));
    first.actions.gate.notify_one();
    // The end comes on the first host, and whoever waits on the second hears of it.
    assert_eq!(second.end(&run).await.status, RunStatus::Completed);
    assert!(store.inbox(&holder, 10).await.unwrap().is_empty());
    assert_history_holds(&store, &run).await;
    for bench in [first, second] {
        bench.service.shutdown(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_is_stopped_when_another_host_cancels_its_run() {
    let store = store();
    let first = Bench::member(&store, LONG, 1).await;
    first.save(GATE).await;
    let run = first.start("gate", json!({})).await;
    first.until("the guest runs", async || first.actions.at_once.load(Ordering::SeqCst) == 1).await;
    let second = Bench::member(&store, LONG, 1).await;
    second.service.cancel("default", &run, "ann".into(), None).await.unwrap();
    first.until("the guest is stopped", async || first.actions.at_once.load(Ordering::SeqCst) == 0).await;
    assert_eq!(first.end(&run).await.status, RunStatus::Cancelled);
    for bench in [first, second] {
        bench.service.shutdown(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_whose_lease_was_ended_begins_anew_and_its_guests_are_stopped() {
    let store = store();
    let bench = Bench::member(&store, SHORT, 1).await;
    bench.save(GATE).await;
    let run = bench.start("gate", json!({})).await;
    bench.until("the guest runs", async || bench.actions.at_once.load(Ordering::SeqCst) == 1).await;
    let id = store.hosts().await.unwrap()[0].id.clone();
    store.leave(&id).await.unwrap();
    bench.until("the same step runs again", async || bench.actions.calls.lock().get("g") == Some(&2)).await;
    bench.actions.gate.notify_one();
    assert_eq!(bench.end(&run).await.status, RunStatus::Completed);
    let hosts = store.hosts().await.unwrap();
    assert_eq!(hosts.len(), 2, "{hosts:?}");
    assert_history_holds(&store, &run).await;
    bench.service.shutdown(LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_stops_leaves_at_once() {
    let store = store();
    let bench = Bench::member(&store, LONG, 1).await;
    bench.save(GATE).await;
    let run = bench.start("gate", json!({})).await;
    bench.until("the guest runs", async || bench.actions.at_once.load(Ordering::SeqCst) == 1).await;
    bench.service.shutdown(Duration::from_millis(1)).await;
    let other = Bench::member(&store, LONG, 1).await;
    other.actions.gate.notify_one();
    assert_eq!(other.end(&run).await.status, RunStatus::Completed);
    other.service.shutdown(LONG).await;
}

/// Takes steps to another place, and has lost all that it took when it is asked.
#[derive(Default)]
struct Forgetful {
    published: Mutex<Vec<Ready>>,
    asked: Notify,
}

#[async_trait]
impl TaskQueue for Forgetful {
    fn publish(&self, ready: Vec<Ready>, _: bool) {
        self.published.lock().extend(ready);
    }
    async fn next(&self) -> Delivery {
        std::future::pending().await
    }
    fn take_overflow(&self) -> bool {
        false
    }
    async fn wants_refill(&self) {
        self.asked.notified().await;
    }
    fn room(&self) -> usize {
        10
    }
    async fn horizon(&self) -> Horizon {
        Horizon::Since(Timestamp(i64::MAX))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_is_published_again_has_the_trace_of_its_run() {
    let queue = Arc::new(Forgetful::default());
    let bench = Bench::over(store(), queue.clone()).await;
    bench.save(GATE).await;
    let named = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for trace in [None, Some(named.into())] {
        queue.published.lock().clear();
        let run = bench.service.start_run(StartRun { trace, ..start("gate", &json!({})) }).await.unwrap().0.id;
        let of_run = || queue.published.lock().iter().filter(|step| step.run == run).cloned().collect::<Vec<_>>();
        bench.until("the step is published", async || !of_run().is_empty()).await;
        queue.asked.notify_one();
        // It may have been published again at the start, too.
        bench.until("it is published again", async || of_run().len() > 1).await;
        let [first, again]: [Ready; 2] = of_run()[..2].to_vec().try_into().unwrap();
        assert!(first.traceparent.is_some() && again.dispatch > first.dispatch, "{first:?} {again:?}");
        assert_eq!(again, Ready { dispatch: again.dispatch, ..first });
    }
}
