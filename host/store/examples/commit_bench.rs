//! What a commit costs: `cargo run --release -p caisson-store --example commit_bench [DIR | postgres]`: on SQLite in a directory, or on a
//! PostgreSQL that is started for it.
//!
//! Each commit is the size of a step: three events, two step rows, one run row. Reports time and CPU of the whole process per commit; first
//! on a store that never saw a journal, then of records and small state, then of commits again, now that ended steps are looked up. Of
//! PostgreSQL also statements, bytes of its log and CPU of the server, per commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use caisson_core::ids::StepId;
use caisson_core::ports::contract::{Whole, make};
use caisson_core::ports::{Commit, Effect, EntryKey};
use caisson_core::status::StepStatus;
use caisson_store::{Counters, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};
use caisson_test_servers::postgres::PostgresServer;

/// A store that counts.
trait Counting: Whole {
    fn counters(&self) -> Counters;
}

impl Counting for SqliteStore {
    fn counters(&self) -> Counters {
        self.counters()
    }
}

impl Counting for PostgresStore {
    fn counters(&self) -> Counters {
        self.counters()
    }
}

/// What a PostgreSQL server has done: statements, bytes of its log, CPU.
#[derive(Clone, Copy, Default)]
struct Work {
    statements: u64,
    log_bytes: u64,
    cpu: Duration,
}

/// What is measured.
struct Bench {
    store: Arc<dyn Counting>,
    server: Option<PostgresServer>,
}

impl Bench {
    fn work(&self) -> Work {
        let Some(server) = &self.server else { return Work::default() };
        let number = |sql: &str| server.execute(sql).parse().expect("is a number");
        let processes = server.execute("SELECT pid FROM pg_stat_activity");
        Work {
            // What the store sends: transactions and hints among it, the bench's own questions left out.
            statements: number(
                "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE dbid <> (SELECT oid FROM pg_database WHERE datname = current_database())",
            ),
            log_bytes: number("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"),
            cpu: processes.lines().filter_map(cpu_of).sum(),
        }
    }
}

/// Kernel ticks per second in /proc: a constant of Linux's interface.
const TICKS: u64 = 100;

fn cpu() -> Duration {
    cpu_of("self").expect("Linux")
}

/// `None`: it has ended.
fn cpu_of(process: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("has a name").split(' ').collect();
    let ticks: u64 = [11, 12].iter().map(|at: &usize| fields[*at].parse::<u64>().expect("is a number")).sum();
    Some(Duration::from_millis(ticks * 1_000 / TICKS))
}

async fn round(bench: &Bench, group: u32, concurrency: u32, commits_each: u32) {
    let store = &bench.store;
    let before = Before::now(bench);
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
    report("commits", concurrency, commits_each, &before, bench, longest);
}

/// Records of a step that runs, each with an answer of a kilobyte; with `effects`, each also sets one of ten keys.
async fn records(bench: &Bench, concurrency: u32, records_each: u32, effects: bool) {
    let store = &bench.store;
    let mut entries = Vec::new();
    for worker in 0..concurrency {
        let mut run = make::run(&format!("{effects}-{concurrency:04x}-{worker:04x}"), 1_000);
        let steps = vec![make::claimed(1, "h1")];
        store.commit(Commit { steps, ..make::commit(&mut run, 1, 1_000) }).await.expect("commits");
        entries.push(make::entry(&run, 1));
    }
    let before = Before::now(bench);
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
    report(what, concurrency, records_each, &before, bench, longest);
}

/// How things stood when a round began.
struct Before {
    time: Instant,
    cpu: Duration,
    counters: Counters,
    work: Work,
}

impl Before {
    fn now(bench: &Bench) -> Self {
        let work = bench.work();
        Self { time: Instant::now(), cpu: cpu(), counters: bench.store.counters(), work }
    }
}

fn report(what: &str, concurrency: u32, each: u32, before: &Before, bench: &Bench, longest: Duration) {
    let Before { time, cpu: earlier, counters, work } = *before;
    let commits = f64::from(concurrency * each);
    let (wall, used) = (time.elapsed(), cpu().saturating_sub(earlier));
    let batches = bench.store.counters().batches - counters.batches;
    println!(
        "concurrency {concurrency:4}: {:8.0} {what}/s, {:6.1} us of CPU each, {:6.1} a transaction, longest {:?}",
        commits / wall.as_secs_f64(),
        used.as_secs_f64() * 1e6 / commits,
        commits / f64::from(u32::try_from(batches).unwrap_or(u32::MAX)),
        longest,
    );
    if bench.server.is_some() {
        let now = bench.work();
        println!(
            "                  of the server: {:5.2} statements, {:7.0} bytes of log, {:6.1} us of CPU each",
            (now.statements - work.statements) as f64 / commits,
            (now.log_bytes - work.log_bytes) as f64 / commits,
            now.cpu.saturating_sub(work.cpu).as_secs_f64() * 1e6 / commits,
        );
    }
}

async fn on_postgres() -> Bench {
    let server = PostgresServer::start_with(&["shared_preload_libraries=pg_stat_statements"]);
    server.execute("CREATE EXTENSION pg_stat_statements");
    let store = PostgresStore::open(&server.create_database(), PostgresOptions::default()).await.expect("opens");
    Bench { store: Arc::new(store), server: Some(server) }
}

#[tokio::main]
async fn main() {
    let place = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let mut dir = None;
    let bench = if place == "postgres" {
        on_postgres().await
    } else {
        let dir = dir.insert(tempfile::tempdir_in(place).expect("makes a directory"));
        let store = SqliteStore::open(dir.path(), SqliteOptions::default()).await.expect("opens");
        Bench { store: Arc::new(store), server: None }
    };
    let loads = [(1, 3_000), (50, 1_200), (256, 300)];
    for group in 0..2 {
        for (concurrency, each) in loads {
            round(&bench, group, concurrency, each).await;
        }
        for (concurrency, each) in loads.iter().filter(|_| group == 0) {
            for effects in [false, true] {
                records(&bench, *concurrency, *each / 3, effects).await;
            }
        }
    }
    bench.store.close().await;
}
