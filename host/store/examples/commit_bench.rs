//! What a commit costs: `cargo run --release -p caisson-store --example commit_bench [DIR]`.
//!
//! Each commit is the size of a step: three events, two step rows, one run row. Reports time and CPU of the whole process per commit; first
//! on a store that never saw a journal, then of records and small state, then of commits again, now that ended steps are looked up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use caisson_core::ids::StepId;
use caisson_core::ports::contract::make;
use caisson_core::ports::{Commit, Effect, EntryKey, Journal, Store};
use caisson_core::status::StepStatus;
use caisson_store::{Counters, SqliteOptions, SqliteStore};

/// Kernel ticks per second in /proc: a constant of Linux's interface.
const TICKS: u64 = 100;

fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("has a name").split(' ').collect();
    let ticks: u64 = [11, 12].iter().map(|at: &usize| fields[*at].parse::<u64>().expect("is a number")).sum();
    Duration::from_millis(ticks * 1_000 / TICKS)
}

async fn round(store: &Arc<SqliteStore>, group: u32, concurrency: u32, commits_each: u32) {
    let before = (Instant::now(), cpu(), store.counters());
    let tasks: Vec<_> = (0..concurrency)
        .map(|worker| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut longest = Duration::ZERO;
                let mut run = make::run("", 1_000);
                for number in 0..commits_each {
                    // Five-step runs: six commits each.
                    if number % 6 == 0 {
                        // As version 7 UUIDs do: what begins at the same time lies side by side.
                        let id = format!("{group:04x}{concurrency:04x}-{number:08x}-7000-8000-{worker:08x}");
                        run = make::run(&id, i64::from(number));
                    }
                    let step = run.version + 1;
                    let row = |number: u64, host: Option<&str>| caisson_core::ports::StepRow {
                        id: StepId::new(format!("{number:032x}")),
                        host: host.map(Into::into),
                        status: if host.is_some() { StepStatus::Running } else { StepStatus::Succeeded },
                        ..make::step(number)
                    };
                    let steps = vec![row(step, None), row(step + 1, Some("h1"))];
                    let commit = Commit { steps, ..make::commit(&mut run, 3, 1_000) };
                    let began = Instant::now();
                    store.commit(commit).await.expect("commits");
                    longest = longest.max(began.elapsed());
                }
                longest
            })
        })
        .collect();
    let mut longest = Duration::ZERO;
    for task in tasks {
        longest = longest.max(task.await.expect("joins"));
    }
    report("commits", concurrency, commits_each, before, store, longest);
}

/// Records of a step that runs, each with an answer of a kilobyte; with `effects`, each also sets one of ten keys.
async fn records(store: &Arc<SqliteStore>, concurrency: u32, records_each: u32, effects: bool) {
    let mut entries = Vec::new();
    for worker in 0..concurrency {
        let mut run = make::run(&format!("{effects}-{concurrency:04x}-{worker:04x}"), 1_000);
        let steps = vec![make::claimed(1, "h1")];
        store.commit(Commit { steps, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
        entries.push(make::entry(&run, 1));
    }
    let before = (Instant::now(), cpu(), store.counters());
    let tasks: Vec<_> = entries
        .into_iter()
        .map(|entry: EntryKey| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut longest = Duration::ZERO;
                let record = make::record(&format!("\"{}\"", "x".repeat(1_000)));
                for number in 0..records_each {
                    let set = make::set(&format!("{}", number % 10), &[7; 100]);
                    let set: &[Effect] = if effects { &[set] } else { &[] };
                    let began = Instant::now();
                    store.append(&entry, number, &record, set).await.expect("appends");
                    longest = longest.max(began.elapsed());
                }
                longest
            })
        })
        .collect();
    let mut longest = Duration::ZERO;
    for task in tasks {
        longest = longest.max(task.await.expect("joins"));
    }
    let what = if effects { "records with a value" } else { "records" };
    report(what, concurrency, records_each, before, store, longest);
}

fn report(
    what: &str,
    concurrency: u32,
    each: u32,
    before: (Instant, Duration, Counters),
    store: &SqliteStore,
    longest: Duration,
) {
    let commits = concurrency * each;
    let (wall, used) = (before.0.elapsed(), cpu().saturating_sub(before.1));
    let batches = store.counters().batches - before.2.batches;
    println!(
        "concurrency {concurrency:4}: {:8.0} {what}/s, {:6.1} us of CPU each, {:6.1} a transaction, longest {:?}",
        f64::from(commits) / wall.as_secs_f64(),
        used.as_secs_f64() * 1e6 / f64::from(commits),
        f64::from(commits) / f64::from(u32::try_from(batches).unwrap_or(u32::MAX)),
        longest,
    );
}

#[tokio::main]
async fn main() {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let dir = tempfile::tempdir_in(parent).expect("makes a directory");
    let store = Arc::new(SqliteStore::open(dir.path(), SqliteOptions::default()).await.expect("opens"));
    let loads = [(1, 3_000), (50, 1_200), (256, 300)];
    for group in 0..2 {
        for (concurrency, each) in loads {
            round(&store, group, concurrency, each).await;
        }
        for (concurrency, each) in loads.iter().filter(|_| group == 0) {
            for effects in [false, true] {
                records(&store, *concurrency, *each / 3, effects).await;
            }
        }
    }
    store.close().await;
}
