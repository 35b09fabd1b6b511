//! The load generator.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reqwest::Method;
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::client::{Client, Payload};

/// How long a request may be put off: longer than any measured run takes.
const WAIT_MS: u64 = 60_000;

/// A run, as far as a benchmark looks at it.
#[derive(Debug, Deserialize)]
pub struct RunSeen {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub status: String,
}

#[derive(Deserialize)]
struct Answer {
    run: RunSeen,
}

/// What a load did.
pub struct Load {
    /// How long it took as a whole.
    pub wall: Duration,
    /// How long each run took, from the request to its end, sorted.
    pub latencies: Vec<Duration>,
    /// How the runs ended.
    pub statuses: Vec<String>,
    /// Their ids.
    pub ids: Vec<String>,
}

impl Load {
    /// The latency that so many of a hundred are within, in milliseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let place = (self.latencies.len() * percent).div_ceil(100).saturating_sub(1);
        self.latencies.get(place).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
    }

    /// An error unless every run ended like this.
    pub fn all(&self, status: &str) -> anyhow::Result<()> {
        match self.statuses.iter().find(|found| *found != status) {
            None => Ok(()),
            Some(other) => bail!("a measured run is {other}, not {status}"),
        }
    }
}

/// Starts runs, so many at once, and waits for each one's end if asked to.
pub async fn runs(
    client: &Client,
    workflow: &'static str,
    input: &serde_json::Value,
    count: usize,
    at_once: usize,
    wait: bool,
) -> anyhow::Result<Load> {
    runs_over(&[client], workflow, input, count, at_once, wait).await
}

/// The same over several hosts, in turn.
pub async fn runs_over(
    clients: &[&Client],
    workflow: &'static str,
    input: &serde_json::Value,
    count: usize,
    at_once: usize,
    wait: bool,
) -> anyhow::Result<Load> {
    let body = serde_json::json!({"workflowId": workflow, "input": input}).to_string();
    let next = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let mut workers = JoinSet::new();
    for client in clients.iter().cycle().take(at_once.min(count)) {
        let (client, body, next) = (Client::clone(client), body.clone(), next.clone());
        workers.spawn(async move {
            let mut done = Vec::new();
            while next.fetch_add(1, Ordering::Relaxed) < count {
                let start = Instant::now();
                let run = start_run(&client, body.clone(), wait).await?;
                done.push((start.elapsed(), run));
            }
            anyhow::Ok(done)
        });
    }
    let (mut latencies, mut statuses, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(done) = workers.join_next().await {
        for (latency, run) in done.context("a load worker broke")?? {
            latencies.push(latency);
            statuses.push(run.status);
            ids.push(run.id);
        }
    }
    let wall = begin.elapsed();
    latencies.sort_unstable();
    Ok(Load { wall, latencies, statuses, ids })
}

/// Starts a run, and waits for its end if asked to.
pub async fn start_run(client: &Client, body: String, wait: bool) -> anyhow::Result<RunSeen> {
    let query = [("waitMs", if wait { WAIT_MS } else { 0 }.to_string())];
    let text = client.send(Method::POST, "/workflow-runs", &query, Payload::Json(body)).await?;
    Ok(client.parse::<Answer>(&text)?.run)
}

/// Waits for the end of a run, however long it takes.
pub async fn end_of(client: &Client, run: &RunSeen) -> anyhow::Result<RunSeen> {
    let path = format!("/workflow-runs/{}", crate::client::segment(&run.id));
    loop {
        let query = [("waitMs", WAIT_MS.to_string())];
        let seen = client.get::<Answer>(&path, &query).await?.run;
        if matches!(seen.status.as_str(), "COMPLETED" | "FAILED" | "CANCELLED" | "TIMED_OUT") {
            return Ok(seen);
        }
    }
}
