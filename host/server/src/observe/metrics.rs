//! Numbers for Prometheus, at `/metrics`: what was counted as it was committed, and what is read when somebody asks.
//!
//! The text is written by hand: counters, gauges and histograms are a page of code, and a crate for them would bring a registry of its own.
//!
//! Invariant: a family has at most [`SERIES_MAX`] series, whatever names people give to their workflows: the rest is counted under `other`.
//!
//! Deliberately absent: what other hosts did. Each counts what it committed itself, and Prometheus adds up.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use caisson_core::ports::{EventRow, EventSink, RunRow, StepRow};
use caisson_core::time::Timestamp;
use caisson_runtime::Pool;
use parking_lot::Mutex;

use super::{ended, executor, first_wait_ms};

/// Series of one family: some hundred workflows with a handful of endings each.
const SERIES_MAX: usize = 1000;

/// What is counted once a family is full.
const OTHER: &str = "other";

/// Seconds, from an expression's to an agent's hour.
const BOUNDS: [f64; 12] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 3600.0];

/// A number that is read when somebody asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Its full name: `caisson_queue_pending`.
    pub name: &'static str,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// Whether it only rises.
    pub kind: Kind,
    /// The number.
    pub value: f64,
}

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It rises and falls.
    Gauge,
}

impl Reading {
    /// A number that rises and falls.
    pub fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, kind: Kind::Gauge, value: float(value) }
    }

    /// A number that only rises.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, kind: Kind::Counter, value: float(value) }
    }
}

/// What a store counts of its writing.
pub fn store(commits: u64, appends: u64, batches: u64) -> Vec<Reading> {
    vec![
        Reading::counter("caisson_commits_total", "Commits that were answered.", commits),
        Reading::counter(
            "caisson_appends_total",
            "Records of journals, and effects without one, that were answered.",
            appends,
        ),
        Reading::counter("caisson_commit_batches_total", "Transactions that both were folded into.", batches),
    ]
}

/// What waits in the queue; `None` while nobody knows. What was fetched and is not acknowledged is told apart where there
/// is such a thing.
pub fn queue(waiting: Option<u64>, unsettled: Option<u64>) -> Vec<Reading> {
    let waiting = waiting.map(|waiting| {
        let help = "Ready steps in the queue that no host has taken, those of all hosts where they share one.";
        Reading::gauge("caisson_queue_pending", help, waiting)
    });
    let unsettled = unsettled.map(|unsettled| {
        let help = "Steps that a host has fetched from the shared queue and not acknowledged.";
        Reading::gauge("caisson_queue_ack_pending", help, unsettled)
    });
    waiting.into_iter().chain(unsettled).collect()
}

/// How full the pool of instances is.
pub fn pool(pool: Pool) -> Vec<Reading> {
    vec![
        Reading::gauge("caisson_pool_instances", "Instances of components in the pool.", pool.instances),
        Reading::gauge("caisson_pool_instances_max", "How many it has room for.", pool.instances_max),
        Reading::gauge("caisson_pool_memories", "Linear memories of instances in the pool.", pool.memories),
        Reading::gauge("caisson_pool_memories_max", "How many it has room for.", pool.memories_max),
    ]
}

/// What is lost of the traces.
pub fn traces(lost: u64) -> Reading {
    Reading::counter("caisson_traces_lost_total", "Runs and spans that no collector took.", lost)
}

/// Reads numbers that somebody else keeps. Answers at once.
pub type Source = Arc<dyn Fn() -> Vec<Reading> + Send + Sync>;

/// Everything that this host counts.
pub struct Metrics {
    runs_started: Counter,
    runs_ended: Counter,
    run_seconds: Histogram,
    steps_ended: Counter,
    step_seconds: Histogram,
    step_queue_seconds: Histogram,
    steps_retried: Counter,
    claims_lost: Counter,
    http_requests: Counter,
    sources: Mutex<Vec<Source>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            runs_started: Counter::new("caisson_runs_started_total", "Runs that were made.", &["workflow"]),
            runs_ended: Counter::new("caisson_runs_ended_total", "Runs that ended.", &["workflow", "status"]),
            run_seconds: Histogram::new("caisson_run_seconds", "From a run's making to its end.", &["workflow"]),
            steps_ended: Counter::new("caisson_steps_ended_total", "Steps that ended.", &["action", "status"]),
            step_seconds: Histogram::new(
                "caisson_step_seconds",
                "From a step's first claim to its end, pauses between attempts included.",
                &["action"],
            ),
            step_queue_seconds: Histogram::new(
                "caisson_step_queue_seconds",
                "How long steps waited until a host first took them.",
                &[],
            ),
            steps_retried: Counter::new("caisson_steps_retried_total", "Attempts that another follows.", &["action"]),
            claims_lost: Counter::new("caisson_claims_lost_total", "Claims whose host died or stalled.", &[]),
            http_requests: Counter::new(
                "caisson_http_requests_total",
                "Requests by the route's template.",
                &["method", "route", "status"],
            ),
            sources: Mutex::default(),
        }
    }
}

impl Metrics {
    /// Also shows what that reads.
    pub fn add_source(&self, source: Source) {
        self.sources.lock().push(source);
    }

    /// A request was answered; `None` for an address that is no route's.
    pub fn request(&self, method: &str, route: Option<&str>, status: u16) {
        const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or(OTHER);
        self.http_requests.add(&[method, route.unwrap_or("none"), &status.to_string()]);
    }

    /// The page, in Prometheus' text format, with some readings more.
    pub fn text(&self, own: Vec<Reading>) -> String {
        let mut page = String::new();
        for counter in [
            &self.runs_started,
            &self.runs_ended,
            &self.steps_ended,
            &self.steps_retried,
            &self.claims_lost,
            &self.http_requests,
        ] {
            counter.write(&mut page);
        }
        for histogram in [&self.run_seconds, &self.step_seconds, &self.step_queue_seconds] {
            histogram.write(&mut page);
        }
        let sources = self.sources.lock().clone();
        for reading in sources.iter().flat_map(|source| source()).chain(own) {
            let kind = match reading.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            head(&mut page, reading.name, reading.help, kind);
            put(&mut page, reading.name, &[], &[], reading.value);
        }
        page
    }
}

impl EventSink for Metrics {
    fn committed(&self, run: &RunRow, events: &[EventRow], steps: &[StepRow]) {
        for event in events {
            match &*event.kind {
                "run.created" => self.runs_started.add(&[&run.workflow_id]),
                "step.lost" => self.claims_lost.add(&[]),
                "step.retrying" => {
                    let step = steps.iter().find(|step| Some(&step.id) == event.step_id.as_ref());
                    self.steps_retried.add(&[step.map_or(OTHER, executor)]);
                }
                "step.started" => {
                    let step = steps.iter().find(|step| Some(&step.id) == event.step_id.as_ref());
                    if let Some(ms) = step.and_then(|step| first_wait_ms(step, event.at)) {
                        self.step_queue_seconds.observe(&[], ms);
                    }
                }
                _ => {}
            }
        }
        for step in steps {
            let Some(end) = step.completed_at else { continue };
            self.steps_ended.add(&[executor(step), step.status.as_str()]);
            if let Some(start) = step.started_at {
                self.step_seconds.observe(&[executor(step)], between_ms(start, end));
            }
        }
        if let Some(end) = ended(run, events) {
            self.runs_ended.add(&[&run.workflow_id, run.status.as_str()]);
            self.run_seconds.observe(&[&run.workflow_id], between_ms(run.created_at, end));
        }
    }
}

fn between_ms(start: Timestamp, end: Timestamp) -> u64 {
    u64::try_from(end.0.saturating_sub(start.0)).unwrap_or(0)
}

/// One number for each combination of labels.
struct Family<T> {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    series: Mutex<BTreeMap<Vec<Box<str>>, T>>,
}

impl<T: Default> Family<T> {
    fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { name, help, labels, series: Mutex::default() }
    }

    fn change(&self, labels: &[&str], change: impl FnOnce(&mut T)) {
        debug_assert_eq!(labels.len(), self.labels.len(), "{}", self.name);
        let mut series = self.series.lock();
        let key: Vec<Box<str>> = labels.iter().map(|label| Box::from(*label)).collect();
        let full = series.len() >= SERIES_MAX && !series.contains_key(&key);
        let key = if full { vec![Box::from(OTHER); labels.len()] } else { key };
        change(series.entry(key).or_default());
    }
}

/// Counts.
struct Counter(Family<u64>);

impl Counter {
    fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self(Family::new(name, help, labels))
    }

    fn add(&self, labels: &[&str]) {
        self.0.change(labels, |count| *count += 1);
    }

    fn write(&self, page: &mut String) {
        head(page, self.0.name, self.0.help, "counter");
        for (values, count) in &*self.0.series.lock() {
            put(page, self.0.name, self.0.labels, values, count);
        }
    }
}

#[derive(Default)]
struct Buckets {
    /// How many fell below each bound, and above the last.
    counts: [u64; BOUNDS.len() + 1],
    sum_ms: u64,
}

/// Says how times are spread.
struct Histogram(Family<Buckets>);

impl Histogram {
    fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self(Family::new(name, help, labels))
    }

    fn observe(&self, labels: &[&str], ms: u64) {
        let seconds = seconds(ms);
        let place = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.0.change(labels, |buckets| {
            buckets.counts[place] += 1;
            buckets.sum_ms = buckets.sum_ms.saturating_add(ms);
        });
    }

    fn write(&self, page: &mut String) {
        let Family { name, help, labels, series } = &self.0;
        head(page, name, help, "histogram");
        let with_bound: Vec<&str> = labels.iter().copied().chain(["le"]).collect();
        for (values, buckets) in &*series.lock() {
            let mut sum = 0;
            let bounds = BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
            for (count, bound) in buckets.counts.iter().zip(bounds) {
                sum += count;
                let values: Vec<Box<str>> = values.iter().cloned().chain([bound.into()]).collect();
                put(page, &format!("{name}_bucket"), &with_bound, &values, sum);
            }
            put(page, &format!("{name}_sum"), labels, values, seconds(buckets.sum_ms));
            put(page, &format!("{name}_count"), labels, values, sum);
        }
    }
}

fn seconds(ms: u64) -> f64 {
    float(ms) / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53: milliseconds of 285,000 years")]
fn float(number: u64) -> f64 {
    number as f64
}

fn head(page: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn put(page: &mut String, name: &str, labels: &[&str], values: &[Box<str>], value: impl std::fmt::Display) {
    page.push_str(name);
    for (at, (label, text)) in labels.iter().zip(values).enumerate() {
        let open = if at == 0 { '{' } else { ',' };
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(page, "{open}{label}=\"{text}\"");
    }
    let close = if labels.is_empty() { "" } else { "}" };
    let _ = writeln!(page, "{close} {value}");
}

#[cfg(test)]
mod tests {
    use caisson_core::status::{RunStatus, StepStatus};

    use super::super::tests::{event, run, step};
    use super::*;

    fn lines<'a>(page: &'a str, start: &str) -> Vec<&'a str> {
        page.lines().filter(|line| line.starts_with(start)).collect()
    }

    #[test]
    fn what_is_committed_is_counted() {
        let metrics = Metrics::default();
        let mut taken = step("s1", StepStatus::Running);
        taken.started_at = Some(Timestamp(1_040));
        metrics.committed(&run(RunStatus::Running), &[event("run.created", None, 1_000)], &[]);
        metrics.committed(&run(RunStatus::Running), &[event("step.started", Some("s1"), 1_040)], &[taken.clone()]);
        metrics.committed(&run(RunStatus::Running), &[event("step.lost", Some("s1"), 2_000)], &[taken.clone()]);
        let done = StepRow { status: StepStatus::Succeeded, completed_at: Some(Timestamp(3_040)), ..taken };
        let over = RunRow { completed_at: Some(Timestamp(3_040)), ..run(RunStatus::Completed) };
        metrics.committed(
            &over,
            &[event("step.completed", Some("s1"), 3_040), event("run.status_changed", None, 3_040)],
            &[done],
        );
        // A message that is taken in later ends nothing again.
        metrics.committed(&over, &[], &[]);
        let page = metrics.text(Vec::new());
        for line in [
            r#"caisson_runs_started_total{workflow="triage"} 1"#,
            r#"caisson_runs_ended_total{workflow="triage",status="COMPLETED"} 1"#,
            r#"caisson_steps_ended_total{action="core.echo",status="SUCCEEDED"} 1"#,
            r#"caisson_step_queue_seconds_bucket{le="0.01"} 0"#,
            r#"caisson_step_queue_seconds_bucket{le="0.05"} 1"#,
            "caisson_step_queue_seconds_sum 0.04",
            r#"caisson_step_seconds_bucket{action="core.echo",le="5"} 1"#,
            r#"caisson_step_seconds_bucket{action="core.echo",le="+Inf"} 1"#,
            r#"caisson_run_seconds_sum{workflow="triage"} 2.04"#,
            "caisson_claims_lost_total 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn names_that_people_give_cannot_fill_the_page() {
        let metrics = Metrics::default();
        for number in 0..SERIES_MAX + 50 {
            let run = RunRow { workflow_id: format!("w{number}").into(), ..run(RunStatus::Running) };
            metrics.committed(&run, &[event("run.created", None, 0)], &[]);
        }
        let page = metrics.text(Vec::new());
        assert_eq!(lines(&page, "caisson_runs_started_total{").len(), SERIES_MAX + 1);
        assert_eq!(
            lines(&page, "caisson_runs_started_total{workflow=\"other\"}"),
            ["caisson_runs_started_total{workflow=\"other\"} 50"]
        );
    }

    #[test]
    fn a_name_with_quotes_stays_one_label() {
        let metrics = Metrics::default();
        let run = RunRow { workflow_id: "a\"b\\c\nd".into(), ..run(RunStatus::Running) };
        metrics.committed(&run, &[event("run.created", None, 0)], &[]);
        let found = metrics.text(Vec::new());
        assert_eq!(
            lines(&found, "caisson_runs_started_total{"),
            [r#"caisson_runs_started_total{workflow="a\"b\\c\nd"} 1"#]
        );
    }
}
