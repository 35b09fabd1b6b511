//! What is left of runs that ended long ago, over a real service.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::engine::{chain, erasure};
use caisson_core::ids::{RunId, StepId};
use caisson_core::model::Retention;
use caisson_core::ports::{Archive, ArtifactRow, Clock, Effect, Journal, Pruning, RunFiles, RunRow, Store};
use caisson_core::status::RunStatus;
use caisson_core::time::Timestamp;
use caisson_orchestrator::memory::{ManualClock, MemoryStore};
use caisson_orchestrator::{Keep, Sweeper, Swept};
use parking_lot::Mutex;
use serde_json::json;
use support::Bench;

/// Remembers what was removed; refuses while it is told to.
#[derive(Default)]
struct Files {
    removed: Mutex<Vec<Arc<str>>>,
    stuck: Mutex<bool>,
}

#[async_trait]
impl RunFiles for Files {
    async fn remove(&self, paths: &[Arc<str>]) -> Result<(), String> {
        if *self.stuck.lock() {
            return Err("read-only".to_owned());
        }
        self.removed.lock().extend(paths.iter().cloned());
        Ok(())
    }
}

/// Remembers which runs were kept, and whether all of them was still there; refuses while it is told to.
struct Shelf {
    store: Arc<MemoryStore>,
    kept: Mutex<Vec<(RunId, bool)>>,
    stuck: Mutex<bool>,
}

#[async_trait]
impl Archive for Shelf {
    async fn keep(&self, run: &RunId) -> Result<(), String> {
        if *self.stuck.lock() {
            return Err("read-only".to_owned());
        }
        let files = self.store.files(run, 10).await.unwrap();
        let events = self.store.events(run, 0, 100).await.unwrap();
        let whole = files.len() == 1 && events.iter().all(|event| event.data_sha256.is_none());
        self.kept.lock().push((run.clone(), whole));
        Ok(())
    }
}

fn file(run: &RunRow) -> ArtifactRow {
    ArtifactRow {
        id: "f".into(),
        realm: run.realm.clone(),
        run: run.id.clone(),
        step_id: StepId::new("s"),
        plugin: "t".into(),
        name: "f.csv".into(),
        mime_type: "text/csv".into(),
        size: 1,
        sha256: "cd".repeat(32).into(),
        path: "r/s/t/f".into(),
        at: run.created_at,
    }
}

const DAY_MS: u64 = 86_400_000;
const STATES: &str = "states: [{name: a, type: operation, action: t.ok, input: {secret: '{{ word }}'}, end: true}]";

struct World {
    bench: Bench,
    store: Arc<MemoryStore>,
    files: Arc<Files>,
    clock: Arc<ManualClock>,
    keep: Keep,
}

async fn world(retention: &str, default: Retention) -> World {
    let store = Arc::new(MemoryStore::new());
    let bench = Bench::on(store.clone(), 4).await;
    bench.save(&format!("id: w\n{retention}\n{STATES}")).await;
    let (files, clock) = (Arc::new(Files::default()), Arc::new(ManualClock::new(Timestamp(0))));
    let keep = Keep { store: store.clone(), files: files.clone(), archive: None, clock: clock.clone(), default };
    World { bench, store, files, clock, keep }
}

impl World {
    async fn run(&self) -> RunRow {
        let run = self.bench.start("w", json!({"word": "sesame".repeat(2_000)})).await;
        let row = self.bench.end(&run).await;
        self.clock.set(row.completed_at.unwrap());
        row
    }

    async fn sweep_after(&self, days: u64) -> Swept {
        self.clock.advance_ms(days * DAY_MS);
        self.keep.sweep().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_goes_first_the_chain_still_holds_and_then_the_run_goes() {
    let world = world("retention: {payloads: 30d, runs: 90d}", Retention::default()).await;
    let run = world.run().await;
    world.store.apply(&[Effect::Artifact(file(&run))]).await.unwrap();
    assert_eq!(world.sweep_after(29).await, Swept::default());
    assert_eq!(world.sweep_after(2).await, Swept { erased: 1, deleted: 0 });
    assert_eq!(*world.files.removed.lock(), [file(&run).path]);

    let events = world.store.events(&run.id, 0, 100).await.unwrap();
    assert_eq!(chain::verify(chain::GENESIS.into(), 0, &events), Ok(run.last_hash.clone()));
    let row = world.bench.service.row("default", &run.id).await.unwrap();
    assert_eq!((row.status, &row.input), (RunStatus::Completed, &erasure::payload(&run.input)));
    let left = format!("{row:?} {events:?} {:?}", world.store.steps(&run.id, &support::page()).await.unwrap());
    assert!(!left.contains("sesame"), "{left}");
    // Whoever looks, or acts, hears something sensible.
    let context = world.bench.service.context("default", &run.id).await.unwrap();
    assert_eq!(context.value(), json!({"erased": true}));
    let refused = world.bench.service.cancel("default", &run.id, "ann".into(), None).await.unwrap_err();
    assert!(refused.message.contains("it is COMPLETED"), "{refused}");
    assert_eq!(world.bench.service.wait("default", &run.id, std::time::Duration::ZERO).await.unwrap(), row);

    assert_eq!(world.sweep_after(58).await, Swept::default());
    assert_eq!(world.sweep_after(2).await, Swept { erased: 0, deleted: 1 });
    assert_eq!(world.bench.service.row("default", &run.id).await.unwrap_err().code, "RUN_NOT_FOUND");
    assert!(world.store.events(&run.id, 0, 100).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_a_run_while_it_is_erased_sees_all_of_it_or_that_it_is_erased() {
    let world = world("retention: {payloads: 1d}", Retention::default()).await;
    for _ in 0..100 {
        let run = world.run().await.id;
        let reads = {
            let (service, run) = (world.bench.service.clone(), run.clone());
            async move {
                loop {
                    let context = service.context("default", &run).await.unwrap().value();
                    if context == json!({"erased": true}) {
                        return;
                    }
                    assert_eq!(context["word"], json!("sesame".repeat(2_000)));
                    tokio::task::yield_now().await;
                }
            }
        };
        let reader = tokio::spawn(reads);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        world.store.erase(&run, 0, 100, world.clock.now()).await.unwrap();
        reader.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_in_force_decides_and_the_host_where_it_says_nothing() {
    let host = Retention { payloads_ms: None, runs_ms: Some(10 * DAY_MS) };
    let world = world("", host).await;
    world.run().await;
    assert_eq!(world.sweep_after(9).await, Swept::default());
    assert_eq!(world.sweep_after(2).await, Swept { erased: 1, deleted: 1 }, "data is not kept longer than its run");
    world.run().await;
    world.bench.save(&format!("id: w\nretention: {{runs: 1d}}\n{STATES}")).await;
    assert_eq!(world.sweep_after(2).await, Swept { erased: 1, deleted: 1 }, "runs of older versions as well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_goes_while_its_files_cannot() {
    let world = world("retention: {runs: 1d}", Retention::default()).await;
    let run = world.run().await;
    world.store.apply(&[Effect::Artifact(file(&run))]).await.unwrap();
    *world.files.stuck.lock() = true;
    assert_eq!(world.sweep_after(2).await, Swept::default());
    let events = world.store.events(&run.id, 0, 100).await.unwrap();
    assert!(events.iter().all(|event| event.data_sha256.is_none()));
    *world.files.stuck.lock() = false;
    assert_eq!(world.sweep_after(0).await, Swept { erased: 1, deleted: 1 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_goes_that_the_archive_does_not_have() {
    let mut world = world("retention: {runs: 1d}", Retention::default()).await;
    let shelf = Arc::new(Shelf { store: world.store.clone(), kept: Mutex::default(), stuck: Mutex::new(true) });
    world.keep.archive = Some(shelf.clone());
    let run = world.run().await;
    world.store.apply(&[Effect::Artifact(file(&run))]).await.unwrap();
    assert_eq!(world.sweep_after(2).await, Swept::default());
    assert!(world.files.removed.lock().is_empty(), "a file went before its run was kept");
    let events = world.store.events(&run.id, 0, 100).await.unwrap();
    assert!(events.iter().all(|event| event.data_sha256.is_none()));
    *shelf.stuck.lock() = false;
    assert_eq!(world.sweep_after(0).await, Swept { erased: 1, deleted: 1 });
    assert_eq!(*shelf.kept.lock(), [(run.id, true)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweeper_sweeps_by_itself_and_stops_when_told() {
    let world = world("retention: {runs: 1d}", Retention::default()).await;
    let run = world.run().await;
    world.clock.advance_ms(2 * DAY_MS);
    let sweeper = Sweeper::start(world.keep.clone());
    let gone = async || world.store.run(&run.id).await.unwrap().is_none();
    world.bench.until("the run is gone", gone).await;
    sweeper.shutdown().await;
    assert!(world.store.workflows(None, 10).await.unwrap().len() == 1);
}
