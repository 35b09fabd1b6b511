//! Several hosts on one PostgreSQL and JetStream, beside one with embedded parts: throughput, latency, and the work that a step makes.
//!
//! On a machine where hosts, servers and load share the processors, more hosts are not faster: what a bigger cluster can do follows from the
//! work of a step, which is why it is reported by the part that does it.

use std::path::PathBuf;

use anyhow::Context;
use caisson_queue::{ManagedNats, ManagedOptions};
use caisson_store::{ScratchDatabase, ServerWork};
use serde::Deserialize;

use super::Section;
use super::host::{BenchHost, cpu_ms};
use super::load::{Load, runs_over};
use super::parts::{AT_ONCE, Sizes, float, input};
use super::workflows::{self, FIVE, ONE};

/// Steps of the runs that are measured.
const STEPS: f64 = 5.0;

/// Where the shared parts are.
pub struct Places<'a> {
    pub database_url: &'a str,
    pub nats_url: Option<&'a str>,
    pub nats_server: Option<PathBuf>,
}

/// Measures embedded parts first, then each number of hosts.
pub async fn compare(
    hosts: &[u8],
    places: Places<'_>,
    sizes: &Sizes,
    done: &mut impl FnMut(Section),
) -> anyhow::Result<()> {
    let directory = tempfile::tempdir().context("failed to make a temporary directory")?;
    let embedded = {
        let mut section =
            Section::new("embedded", measured("one host with SQLite and the queue in its process", sizes));
        let hosts = [BenchHost::start().await?];
        let figures = measure(&hosts, &mut Shared::default(), sizes, &mut section).await;
        stop(hosts).await;
        let latency = figures?;
        done(section);
        latency
    };
    let nats = Nats::start(places.nats_url, places.nats_server, directory.path()).await?;
    for count in hosts {
        let name = format!("caisson_bench_{}_{count}", std::process::id());
        let database =
            ScratchDatabase::create(places.database_url, &name).await.context("failed to make a database")?;
        let what = format!("{count} host{} on PostgreSQL and JetStream", if *count == 1 { "" } else { "s" });
        let mut section = Section::new("cluster", measured(&what, sizes));
        let mut shared = Shared { database: Some(database), nats: Some(&nats) };
        let figures = cluster(*count, &mut shared, sizes, &mut section).await;
        if let Some(database) = shared.database {
            database.drop().await.context("failed to drop the database of the benchmark")?;
        }
        section.add("a single run of 1 step, to embedded", figures? / embedded, "times");
        done(section);
    }
    nats.stop().await;
    Ok(())
}

fn measured(what: &str, sizes: &Sizes) -> String {
    format!(
        "{what}: {} runs of 1 core.echo step, one at a time, and {} runs of 5, {AT_ONCE} at once, over HTTP, each waited for",
        sizes.singles, sizes.runs
    )
}

async fn cluster(count: u8, shared: &mut Shared<'_>, sizes: &Sizes, section: &mut Section) -> anyhow::Result<f64> {
    let mut args = shared.args();
    let files = tempfile::tempdir().context("failed to make a temporary directory")?;
    args.extend(["--artifacts-dir".to_owned(), files.path().display().to_string()]);
    let mut hosts = Vec::new();
    for _ in 0..count {
        hosts.push(BenchHost::start_with(&args).await?);
    }
    let figures = measure(&hosts, shared, sizes, section).await;
    stop(hosts).await;
    figures
}

async fn stop(hosts: impl IntoIterator<Item = BenchHost>) {
    for host in hosts {
        host.stop().await;
    }
}

/// Gives the median of a single run, in milliseconds.
async fn measure(
    hosts: &[BenchHost],
    shared: &mut Shared<'_>,
    sizes: &Sizes,
    section: &mut Section,
) -> anyhow::Result<f64> {
    let [first, ..] = hosts else { anyhow::bail!("no host") };
    workflows::apply_all(first.client()).await?;
    let clients: Vec<_> = hosts.iter().map(BenchHost::client).collect();
    let load = async |workflow, count, at_once| -> anyhow::Result<Load> {
        let load = runs_over(&clients, workflow, &input(), count, at_once, true).await?;
        load.all("COMPLETED")?;
        Ok(load)
    };
    load(ONE, 20, 1).await?;
    let singles = load(ONE, sizes.singles, 1).await?;
    load(FIVE, AT_ONCE * 2, AT_ONCE).await?;
    let before = Work::now(hosts, shared).await?;
    let many = load(FIVE, sizes.runs, AT_ONCE).await?;
    let after = Work::now(hosts, shared).await?;
    for percent in [50, 95, 99] {
        section.add(format!("single run of 1 step, p{percent}"), singles.percentile(percent), "ms");
    }
    let (count, seconds) = (float(sizes.runs), many.wall.as_secs_f64());
    section.add("runs", count / seconds, "/s");
    section.add("steps", count * STEPS / seconds, "/s");
    for percent in [50, 95, 99] {
        section.add(format!("run of 5 steps, {AT_ONCE} at once, p{percent}"), many.percentile(percent), "ms");
    }
    after.since(&before, count * STEPS, section);
    Ok(singles.percentile(50))
}

/// What the hosts have in common.
#[derive(Default)]
struct Shared<'a> {
    database: Option<ScratchDatabase>,
    nats: Option<&'a Nats>,
}

impl Shared<'_> {
    fn args(&self) -> Vec<String> {
        let database = self.database.iter().flat_map(|database| ["--database-url".to_owned(), database.url()]);
        database.chain(self.nats.iter().flat_map(|nats| nats.args.clone())).collect()
    }
}

/// What all parts did until a moment.
struct Work {
    hosts_ms: Option<f64>,
    database: Option<(ServerWork, f64)>,
    nats: Option<(Traffic, f64)>,
}

impl Work {
    async fn now(hosts: &[BenchHost], shared: &mut Shared<'_>) -> anyhow::Result<Self> {
        let database = match &mut shared.database {
            Some(database) => {
                let work = database.work().await.context("failed to ask PostgreSQL what it did")?;
                let cpu = work.processes.iter().filter_map(|process| cpu_ms(*process)).sum();
                Some((work, cpu))
            }
            None => None,
        };
        let nats = match shared.nats {
            Some(nats) => nats.work().await?,
            None => None,
        };
        Ok(Self { hosts_ms: hosts.iter().map(BenchHost::cpu_ms).sum(), database, nats })
    }

    /// Adds what each of so many steps made.
    fn since(&self, before: &Self, steps: f64, section: &mut Section) {
        let mut add = |name: &str, done: f64, unit| section.add(format!("{name}, a step"), done / steps, unit);
        if let (Some(now), Some(before)) = (self.hosts_ms, before.hosts_ms) {
            add("hosts' CPU", now - before, "ms");
        }
        if let (Some((now, cpu)), Some((before, cpu_before))) = (&self.database, &before.database) {
            add("PostgreSQL's CPU", cpu - cpu_before, "ms");
            if let (Some(now), Some(before)) = (now.statements, before.statements) {
                add("PostgreSQL's statements", difference(now, before), "");
            }
            add("PostgreSQL's log", difference(now.log_bytes, before.log_bytes), "bytes");
        }
        if let (Some((now, cpu)), Some((before, cpu_before))) = (&self.nats, &before.nats) {
            add("NATS's CPU", cpu - cpu_before, "ms");
            add("messages to NATS", difference(now.in_msgs, before.in_msgs), "");
            add("messages from NATS", difference(now.out_msgs, before.out_msgs), "");
            add("bytes to NATS", difference(now.in_bytes, before.in_bytes), "bytes");
            add("bytes from NATS", difference(now.out_bytes, before.out_bytes), "bytes");
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn difference(now: i64, before: i64) -> f64 {
    (now - before) as f64
}

/// The server that carries the steps.
struct Nats {
    own: Option<ManagedNats>,
    args: Vec<String>,
}

/// What NATS counts: `/varz` of <https://docs.nats.io/running-a-nats-service/nats_admin/monitoring>.
#[derive(Deserialize)]
struct Traffic {
    in_msgs: i64,
    out_msgs: i64,
    in_bytes: i64,
    out_bytes: i64,
}

impl Nats {
    async fn start(url: Option<&str>, program: Option<PathBuf>, directory: &std::path::Path) -> anyhow::Result<Self> {
        if let Some(url) = url {
            return Ok(Self { own: None, args: vec!["--nats-url".to_owned(), url.to_owned()] });
        }
        let options = ManagedOptions { program, data_dir: directory.to_path_buf(), port: None, monitor: true };
        let own = ManagedNats::start(options).await.map_err(|error| anyhow::anyhow!("failed to {error}"))?;
        let token = directory.join("token");
        std::fs::write(&token, own.token()).context("failed to write the token of NATS")?;
        let args = ["--nats-url", own.url(), "--nats-token-file", &token.display().to_string()].map(str::to_owned);
        Ok(Self { own: Some(own), args: args.into() })
    }

    /// What it did, and its CPU in milliseconds; of somebody else's server nothing is known.
    async fn work(&self) -> anyhow::Result<Option<(Traffic, f64)>> {
        let Some(monitor) = self.own.as_ref().and_then(ManagedNats::monitor) else { return Ok(None) };
        let url = format!("{monitor}/varz");
        let page = reqwest::get(url).await.context("failed to ask NATS what it did")?;
        let traffic = page.json().await.context("failed to read what NATS did")?;
        Ok(Some((traffic, children("nats-server").filter_map(cpu_ms).sum())))
    }

    async fn stop(self) {
        if let Some(own) = self.own {
            own.stop().await;
        }
    }
}

/// This process's children of that name.
fn children(name: &str) -> impl Iterator<Item = u32> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let all: Vec<u32> =
        lists.flat_map(|list| list.split_whitespace().map(str::parse).collect::<Vec<_>>()).flatten().collect();
    all.into_iter().filter(move |process| {
        std::fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|found| found.trim_end() == name)
    })
}
