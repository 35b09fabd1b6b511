//! What is measured, part by part.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use caisson_core::ids::{Realm, RunId, StepId};
use caisson_core::json::Json;
use caisson_core::ports::{ActionRunner, Invocation, Outcome};
use caisson_core::time::Timestamp;
use caisson_runtime::{Runtime, RuntimeConfig};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Section;
use super::host::BenchHost;
use super::load::{end_of, runs, start_run};
use super::workflows::{APPROVAL, FIVE, FOREACH, LOOP, ONE};
use crate::api::approvals::ApprovalList;
use crate::client::Client;

/// Requests at once, as the comparisons were made.
pub(super) const AT_ONCE: usize = 50;

/// Time for a host to settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// How often a count is asked for.
const POLL: Duration = Duration::from_millis(200);

/// How much is measured.
pub struct Sizes {
    pub(super) runs: usize,
    pub(super) singles: usize,
    calls: usize,
    items: [u32; 3],
    waiting: usize,
    innocents: usize,
}

impl Sizes {
    /// As documented.
    pub fn full() -> Self {
        Self { runs: 1000, singles: 300, calls: 5000, items: [1000, 10_000, 100_000], waiting: 10_000, innocents: 1000 }
    }

    /// For continuous integration.
    pub fn quick() -> Self {
        Self { runs: 100, singles: 30, calls: 300, items: [100, 300, 1000], waiting: 200, innocents: 100 }
    }
}

pub(super) fn input() -> serde_json::Value {
    json!({"from": "bench"})
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub(super) fn float(count: usize) -> f64 {
    count as f64
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

const MIB: f64 = 1024.0 * 1024.0;

/// Memory of a host that does nothing, before and after a burst.
pub async fn idle(host: &BenchHost) -> anyhow::Result<Section> {
    let mut section = Section::new(
        "idle memory",
        "resident memory of the host with all built-in plugins loaded, before and after a burst of 50 runs of 5 core.echo steps",
    );
    tokio::time::sleep(SETTLE).await;
    if let Some(memory) = host.memory() {
        section.add("after the start", memory / MIB, "MiB");
    }
    runs(host.client(), FIVE, &input(), AT_ONCE, AT_ONCE, true).await?.all("COMPLETED")?;
    tokio::time::sleep(SETTLE).await;
    if let Some(memory) = host.memory() {
        section.add("after a burst of 50 runs", memory / MIB, "MiB");
    }
    Ok(section)
}

/// A fresh instance and a call, without a host around it.
pub async fn instance(sizes: &Sizes) -> anyhow::Result<Section> {
    let directory = tempfile::tempdir().context("failed to make a temporary directory")?;
    let config = RuntimeConfig { cache_dir: Some(directory.path().join("cache")), ..RuntimeConfig::default() };
    let runtime = tokio::task::spawn_blocking(move || Runtime::new(config))
        .await
        .context("failed to start the plugin host")?
        .map_err(|error| anyhow::anyhow!("failed to start the plugin host: {error}"))?;
    let runtime = Arc::new(runtime);
    let realm = Realm::new("default", "default");
    let action = runtime.resolve(&realm, "core.echo").context("there is no core.echo")?;
    let call = Invocation {
        realm,
        action: action.name,
        plugin: action.plugin,
        workflow: "bench".into(),
        workflow_version: "1".into(),
        run: RunId::new("bench"),
        step: StepId::new("bench"),
        number: 1,
        state: "bench".into(),
        attempt: 1,
        entry: 0,
        claim: None,
        narrowed: None,
        idempotency_key: "bench".into(),
        deadline_ms: None,
        now: Timestamp(0),
        traceparent: None,
        input: Json::of(&input()),
        resumed: None,
    };
    let mut times = Vec::with_capacity(sizes.calls);
    for number in 0..sizes.calls + sizes.calls / 10 {
        let begin = Instant::now();
        let entry = runtime.run(call.clone()).await;
        // The first ones warm caches and the pool.
        if number >= sizes.calls / 10 {
            times.push(begin.elapsed());
        }
        if !matches!(entry.result, Ok(Outcome::Done(_))) {
            bail!("core.echo failed: {:?}", entry.result);
        }
    }
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6);
    let mut section = Section::new(
        "instance",
        format!(
            "{} calls of core.echo one after the other, each in a fresh instance, in this process, without store and HTTP ({:?})",
            sizes.calls,
            runtime.allocation()
        ),
    );
    section.add("p50", at(50), "µs");
    section.add("p99", at(99), "µs");
    Ok(section)
}

/// One run at a time.
pub async fn single(host: &BenchHost, sizes: &Sizes) -> anyhow::Result<Section> {
    let mut section = Section::new(
        "single runs",
        format!(
            "{} runs of 1 and of 5 core.echo steps, one at a time: from the POST (with waitMs) to its answer",
            sizes.singles
        ),
    );
    for (workflow, name) in [(ONE, "1 step"), (FIVE, "5 steps")] {
        runs(host.client(), workflow, &input(), 20, 1, true).await?.all("COMPLETED")?;
        let load = runs(host.client(), workflow, &input(), sizes.singles, 1, true).await?;
        load.all("COMPLETED")?;
        for percent in [50, 95, 99] {
            section.add(format!("{name}, p{percent}"), load.percentile(percent), "ms");
        }
    }
    Ok(section)
}

/// Many runs of five steps at once.
pub async fn throughput(host: &BenchHost, sizes: &Sizes) -> anyhow::Result<Section> {
    runs(host.client(), FIVE, &input(), AT_ONCE * 2, AT_ONCE, true).await?.all("COMPLETED")?;
    let (cpu, own_cpu) = (host.cpu_ms(), super::host::cpu_ms(std::process::id()));
    let load = runs(host.client(), FIVE, &input(), sizes.runs, AT_ONCE, true).await?;
    let (cpu_after, own_after) = (host.cpu_ms(), super::host::cpu_ms(std::process::id()));
    load.all("COMPLETED")?;
    let count = float(sizes.runs);
    let seconds = load.wall.as_secs_f64();
    let mut section = Section::new(
        "throughput",
        format!(
            "{} runs of 5 core.echo steps over HTTP, {AT_ONCE} at once, each waited for; synchronous=FULL",
            sizes.runs
        ),
    );
    section.add("runs", count / seconds, "/s");
    section.add("steps", count * 5.0 / seconds, "/s");
    for percent in [50, 95, 99] {
        section.add(format!("p{percent}"), load.percentile(percent), "ms");
    }
    if let (Some(before), Some(after)) = (cpu, cpu_after) {
        section.add("host's CPU for a run", (after - before) / count, "ms");
        section.add("host's CPU for a step", (after - before) / count / 5.0, "ms");
    }
    if let (Some(before), Some(after)) = (own_cpu, own_after) {
        section.add("load generator's CPU for a run", (after - before) / count, "ms");
    }
    Ok(section)
}

/// A foreach over many items.
pub async fn foreach(host: &BenchHost, sizes: &Sizes) -> anyhow::Result<Section> {
    let mut section = Section::new(
        "foreach",
        "a run with a core.echo step for each item, 50 at once: from the POST to the run's end, divided by the items"
            .to_owned(),
    );
    let mut first = None;
    for count in sizes.items {
        host.forget_peak();
        let items: Vec<u32> = (0..count).collect();
        let body = json!({"workflowId": FOREACH, "input": {"items": items}}).to_string();
        let begin = Instant::now();
        let run = start_run(host.client(), body, false).await?;
        let run = end_of(host.client(), &run).await?;
        if run.status != "COMPLETED" {
            bail!("the foreach over {count} items is {}", run.status);
        }
        let each = ms(begin.elapsed()) / f64::from(count);
        section.add(format!("{count} items, each"), each, "ms");
        section.add(format!("{count} items, against {}", sizes.items[0]), each / *first.get_or_insert(each), "times");
        if let Some(peak) = host.peak_memory() {
            section.add(format!("{count} items, peak memory"), peak / MIB, "MiB");
        }
    }
    Ok(section)
}

/// Runs that wait for an approval.
pub async fn waiting(host: &BenchHost, sizes: &Sizes) -> anyhow::Result<Section> {
    tokio::time::sleep(SETTLE).await;
    let (memory, disk) = (host.memory(), host.disk());
    let load = runs(host.client(), APPROVAL, &json!({}), sizes.waiting, AT_ONCE, false).await?;
    let begin = Instant::now();
    while under_way(host.client()).await? {
        tokio::time::sleep(POLL).await;
    }
    let settled = begin.elapsed();
    tokio::time::sleep(SETTLE).await;
    let count = float(sizes.waiting);
    let mut section = Section::new(
        "waiting",
        format!(
            "{} runs that wait for a human's approval: what each adds to the host's memory and data directory",
            sizes.waiting
        ),
    );
    section.add("starts", count / load.wall.as_secs_f64(), "/s");
    section.add("until the last one waits", ms(settled), "ms");
    if let (Some(before), Some(after)) = (memory, host.memory()) {
        section.add("memory each", (after - before) / count, "bytes");
        section.add("host's memory then", after / MIB, "MiB");
    }
    if let (Some(before), Some(after)) = (disk, host.disk()) {
        section.add("disk each", (after - before) / count, "bytes");
    }
    let begin = Instant::now();
    let page: ApprovalList = host.client().get("/approvals", &[("status", "PENDING".to_owned())]).await?;
    section.add(format!("first page of the inbox ({} entries)", page.approvals.len()), ms(begin.elapsed()), "ms");
    Ok(section)
}

async fn under_way(client: &Client) -> anyhow::Result<bool> {
    let query =
        [("status", "PENDING,RUNNING".to_owned()), ("workflowId", APPROVAL.to_owned()), ("limit", "1".to_owned())];
    let page: crate::api::runs::RunList = client.get("/workflow-runs", &query).await?;
    Ok(!page.runs.is_empty())
}

/// A guest that loops beside others that do not.
pub async fn neighbour(host: &BenchHost, sizes: &Sizes) -> anyhow::Result<Section> {
    const INNOCENTS_AT_ONCE: usize = 4;
    let mut section = Section::new(
        "hostile neighbour",
        format!(
            "{} runs of 1 core.echo step, {INNOCENTS_AT_ONCE} at once, alone and beside a guest that loops until its limit, over and over",
            sizes.innocents
        ),
    );
    let innocents = || async {
        let load = runs(host.client(), ONE, &input(), sizes.innocents, INNOCENTS_AT_ONCE, true).await?;
        load.all("COMPLETED")?;
        anyhow::Ok(load)
    };
    innocents().await?;
    let alone = innocents().await?;
    let stop = CancellationToken::new();
    let hostile = tokio::spawn(loop_on(host.client().clone(), stop.clone()));
    // Until it loops for certain.
    tokio::time::sleep(SETTLE).await;
    let beside = innocents().await;
    stop.cancel();
    let loops = hostile.await.context("the hostile neighbour broke")??;
    let beside = beside?;
    for (name, load) in [("alone", &alone), ("beside it", &beside)] {
        for percent in [50, 99] {
            section.add(format!("p{percent} {name}"), load.percentile(percent), "ms");
        }
    }
    section.add("p99 beside it against alone", beside.percentile(99) / alone.percentile(99), "times");
    section.add("hostile runs begun", float(loops), "");
    Ok(section)
}

/// Keeps one looping guest under way; gives how often it was begun.
async fn loop_on(client: Client, stop: CancellationToken) -> anyhow::Result<usize> {
    let body = json!({"workflowId": LOOP}).to_string();
    let mut begun = 0;
    while !stop.is_cancelled() {
        let run = start_run(&client, body.clone(), false).await?;
        begun += 1;
        tokio::select! {
            run = end_of(&client, &run) => {
                if run?.status != "FAILED" {
                    bail!("a guest that loops for ever did not fail");
                }
            }
            () = stop.cancelled() => {
                let path = format!("/workflow-runs/{}/cancel", crate::client::segment(&run.id));
                client.send(reqwest::Method::POST, &path, &[], crate::client::Payload::Empty).await?;
            }
        }
    }
    Ok(begun)
}
