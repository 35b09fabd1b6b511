//! Traces for OpenTelemetry: when a run has ended, its history becomes spans, which are sent by OTLP over HTTP as JSON. What a plugin asked
//! of a model, a server or a tool is a span of its own, sent when it happened: it is in the journal, which is gone when the step ends.
//!
//! Invariants:
//! - Ids follow from the run's id and the numbers of its steps ([`caisson_core::trace`]), so it does not matter which host sends a span, and the same span
//!   twice is the same span.
//! - The engine never waits: runs that do not fit are dropped and counted, and so is what the collector does not take.
//!
//! Deliberately absent: spans of a run that is still open.

mod build;
mod otlp;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use caisson_core::ids::RunId;
use caisson_core::ports::{CallSink, EventRow, EventSink, HostCall, RunRow, Store};
use caisson_core::ports::{StepRow, StoreError};
use reqwest::{StatusCode, Url};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use build::Builder;
use otlp::Span;

/// Runs and calls that wait to be sent: some seconds of a busy host.
const WAITING_MAX: usize = 10_000;

/// Spans of one message: a few hundred kilobytes.
const MESSAGE_SPANS_MAX: usize = 1_000;

/// Events read at a time.
const PAGE_EVENTS: u32 = 500;

/// How long the first span of a message waits for company.
const LINGER: Duration = Duration::from_millis(500);

/// A collector that does not answer within this is tried again.
const POST_TIME_MAX: Duration = Duration::from_secs(5);

/// How often a message is tried. Collectors restart within seconds; what takes longer is lost.
const TRIES_MAX: u32 = 3;

/// Pause before the next try.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// At the end, what waits has so long.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(5);

/// Takes note of runs and calls that ended.
pub struct Traces {
    waiting: mpsc::Sender<Ended>,
    lost: Arc<AtomicU64>,
}

enum Ended {
    Run(RunId),
    Call(Box<HostCall>),
}

impl Traces {
    /// How many runs and spans were lost since the start, together.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn take(&self, ended: Ended) {
        if self.waiting.try_send(ended).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl EventSink for Traces {
    fn committed(&self, run: &RunRow, events: &[EventRow], _: &[StepRow]) {
        if super::ended(run, events).is_some() {
            self.take(Ended::Run(run.id.clone()));
        }
    }
}

impl CallSink for Traces {
    fn called(&self, call: HostCall) {
        self.take(Ended::Call(Box::new(call)));
    }
}

/// Sends spans, until it is closed.
pub struct Exporter {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Begins to send to a collector: to `/v1/traces` below its address, unless the address has a path. `host` names the process.
    pub fn start(mut endpoint: Url, store: Arc<dyn Store>, host: &str) -> Result<(Arc<Traces>, Self), reqwest::Error> {
        if endpoint.path() == "/" {
            endpoint.set_path("/v1/traces");
        }
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().timeout(POST_TIME_MAX).build()?;
        let (waiting, taken) = mpsc::channel(WAITING_MAX);
        let (lost, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let sending = Sending { endpoint, http, store, host: host.to_owned(), lost: lost.clone(), spans: Vec::new() };
        let task = tokio::spawn(sending.run(taken, stop.clone()));
        Ok((Arc::new(Traces { waiting, lost }), Self { stop, task }))
    }

    /// Sends what waits, for a few seconds at most, and ends.
    pub async fn close(self) {
        self.stop.cancel();
        let abort = self.task.abort_handle();
        if tokio::time::timeout(CLOSE_TIME_MAX, self.task).await.is_err() {
            abort.abort();
            tracing::warn!("the collector of traces is too slow: the last spans are lost");
        }
    }
}

struct Sending {
    endpoint: Url,
    http: reqwest::Client,
    store: Arc<dyn Store>,
    host: String,
    lost: Arc<AtomicU64>,
    /// Ready to be sent.
    spans: Vec<Span>,
}

impl Sending {
    async fn run(mut self, mut taken: mpsc::Receiver<Ended>, stop: CancellationToken) {
        loop {
            let ended = tokio::select! {
                biased;
                ended = taken.recv() => ended,
                () = tokio::time::sleep(LINGER), if !self.spans.is_empty() => None,
                () = stop.cancelled() => None,
            };
            match ended {
                Some(Ended::Call(call)) => {
                    self.spans.extend(build::host_call(*call));
                    if self.spans.len() >= MESSAGE_SPANS_MAX {
                        self.send().await;
                    }
                }
                Some(Ended::Run(run)) => {
                    if let Err(error) = self.read(&run).await {
                        tracing::warn!(run_id = run.as_str(), %error, "the trace of a run is lost");
                        self.lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
                None => self.send().await,
            }
            if stop.is_cancelled() && taken.is_empty() {
                return self.send().await;
            }
        }
    }

    /// Makes spans of a run's history, and sends them as soon as there are enough.
    async fn read(&mut self, run: &RunId) -> Result<(), StoreError> {
        let mut builder: Option<Builder> = None;
        let mut after = 0;
        loop {
            let page = self.store.events(run, after, PAGE_EVENTS).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.seq;
            for row in &page {
                match &mut builder {
                    Some(builder) => builder.add(row, &mut self.spans),
                    None => builder = Some(Builder::new(run, row)?),
                }
            }
            if self.spans.len() >= MESSAGE_SPANS_MAX {
                self.send().await;
            }
        }
    }

    async fn send(&mut self) {
        let spans = std::mem::take(&mut self.spans);
        for spans in spans.chunks(MESSAGE_SPANS_MAX) {
            let body = otlp::message(&self.host, spans);
            if let Err(error) = self.post(body).await {
                let lost = self.lost.fetch_add(spans.len() as u64, Ordering::Relaxed) + spans.len() as u64;
                tracing::warn!(error, lost, "the collector of traces does not take them");
            }
        }
    }

    async fn post(&self, body: String) -> Result<(), String> {
        let mut tried = 0;
        loop {
            let request = self.http.post(self.endpoint.clone()).header("content-type", "application/json");
            let (problem, passing) = match request.body(body.clone()).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => (format!("answers {}", answer.status()), passes(answer.status())),
                Err(error) => (error.without_url().to_string(), true),
            };
            tried += 1;
            if !passing || tried >= TRIES_MAX {
                return Err(problem);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

/// Whether the protocol says to try again.
fn passes(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}
