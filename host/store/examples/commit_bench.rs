//! What a commit costs: `cargo run --release -p caisson-store --example commit_bench [DIR]`.
//!
//! Each commit is the size of a step: three events, two step rows, one run row. Reports time and CPU of the whole process per commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use caisson_core::ids::StepId;
use caisson_core::ports::contract::make;
use caisson_core::ports::{Commit, Store};
use caisson_store::{SqliteOptions, SqliteStore};

/// Kernel ticks per second in /proc: a constant of Linux's interface.
const TICKS: u64 = 100;

fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("has a name").split(' ').collect();
    let ticks: u64 = [11, 12].iter().map(|at: &usize| fields[*at].parse::<u64>().expect("is a number")).sum();
    Duration::from_millis(ticks * 1_000 / TICKS)
}

async fn round(store: &Arc<SqliteStore>, concurrency: u32, commits_each: u32) {
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
                        let id = format!("{concurrency:08x}-{number:08x}-7000-8000-{worker:08x}");
                        run = make::run(&id, i64::from(number));
                    }
                    let step = run.version + 1;
                    let row = |number: u64, host: Option<&str>| caisson_core::ports::StepRow {
                        id: StepId::new(format!("{number:032x}")),
                        host: host.map(Into::into),
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
    let commits = concurrency * commits_each;
    let (wall, used) = (before.0.elapsed(), cpu().saturating_sub(before.1));
    let batches = store.counters().batches - before.2.batches;
    println!(
        "concurrency {concurrency:4}: {:8.0} commits/s, {:6.1} us of CPU each, {:6.1} commits a transaction, longest {:?}",
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
    for (concurrency, commits_each) in [(1, 3_000), (50, 1_200), (256, 300)] {
        round(&store, concurrency, commits_each).await;
    }
    store.close().await;
}
