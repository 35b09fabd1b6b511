//! Three hosts on one PostgreSQL and one nats-server under load: nearly every run has a whole trace, which a collector in this test puts
//! together from what all of them send.
//!
//! `CAISSON_RUNS` says how many runs. A whole trace: one root; every state, step, plugin call and model call that the run's history tells is
//! there, each below the right one, in one trace with the run that called it.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use support::Host;
use support::cluster::Shared;

const HOSTS: usize = 3;
/// The share of whole traces that is promised.
const SHARE: f64 = 0.95;
/// Turns of the agent: it calls a tool once and then has its answer.
const TURNS: usize = 2;

const CHILD: &str = "
id: child
states:
- {name: below, type: operation, action: core.echo, input: {n: '{{ n }}'}, end: true}";

const WORKFLOW: &str = "
id: traced
start: both
states:
- name: both
  type: parallel
  branches:
  - {name: thinks, states: [{name: agent, type: operation, action: agent.run, input: {agent: worker, task: 'work'}, resultPath: r, end: true}]}
  - {name: calls, states: [{name: child, type: call, workflow: child, input: {n: '{{ n }}'}, resultPath: r, end: true}]}
  next: last
- {name: last, type: operation, action: core.echo, input: {n: '{{ n }}'}, end: true}";

#[derive(Clone, Debug)]
struct Span {
    trace: String,
    parent: String,
    name: String,
    host: String,
    run: String,
}

/// Spans by id. One that is sent twice is one.
type Spans = Arc<Mutex<BTreeMap<String, Span>>>;

async fn collect(State(spans): State<Spans>, Json(message): Json<Value>) -> Json<Value> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attribute = |of: &Value, key: &str| {
        let all = of["attributes"].as_array().cloned().unwrap_or_default();
        all.iter().find(|one| one["key"] == key).map(|one| text(&one["value"]["stringValue"])).unwrap_or_default()
    };
    let resource = &message["resourceSpans"][0];
    let host = attribute(&resource["resource"], "service.instance.id");
    for span in resource["scopeSpans"][0]["spans"].as_array().unwrap() {
        let seen = Span {
            trace: text(&span["traceId"]),
            parent: text(&span["parentSpanId"]),
            name: text(&span["name"]),
            host: host.clone(),
            run: attribute(span, "caisson.run_id"),
        };
        spans.lock().unwrap().insert(text(&span["spanId"]), seen);
    }
    Json(json!({}))
}

/// What lies below a span, as names in order: `run traced(state both(…) …)`.
fn tree(spans: &BTreeMap<String, Span>, id: &str) -> String {
    let mut below: Vec<String> =
        spans.iter().filter(|(_, span)| span.parent == id).map(|(id, _)| tree(spans, id)).collect();
    below.sort();
    let name = &spans[id].name;
    if below.is_empty() { name.clone() } else { format!("{name}({})", below.join(" ")) }
}

fn expected() -> String {
    let step =
        |state: &str, action: &str, more: &str| format!("state {state}(step {state} attempt 1(call {action}{more}))");
    let turns = format!("({})", ["model.complete"; TURNS].join(" "));
    let child = format!("run child({})", step("below", "core.echo", ""));
    let agent = step("agent", "agent.run", &turns);
    format!("run traced(state both({agent} state child({child})) {})", step("last", "core.echo", ""))
}

async fn start(shared: &Shared, collector: &str) -> Vec<Host> {
    let files = shared.dir.path().join("environment");
    fs::create_dir_all(files.join("agents")).unwrap();
    fs::write(files.join("agents/worker.prompt"), "---\nmodel: scripted/any\n---\nYou work.\n").unwrap();
    let answers = json!({"agents": {"worker": [
        {"match": "there is no tool", "reply": {"done": true}},
        {"reply": {"toolCalls": [{"name": "look", "arguments": {}}]}},
    ]}});
    fs::write(files.join("answers.json"), answers.to_string()).unwrap();
    fs::write(files.join("models.toml"), "[providers.scripted]\nkind = \"scripted\"\nscript = \"answers.json\"\n")
        .unwrap();
    let mut hosts = Vec::new();
    for number in 0..HOSTS {
        let setup = shared.setup(number).arg("--env", files.to_str().unwrap()).arg("--otlp-endpoint", collector);
        hosts.push(setup.start().await);
    }
    hosts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nearly_every_run_under_load_has_a_whole_trace() {
    let runs = std::env::var("CAISSON_RUNS").map_or(150, |text| text.parse().unwrap());
    let shared = Shared::start();
    let spans = Spans::default();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let collector = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/traces", post(collect)).with_state(spans.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let hosts = start(&shared, &collector).await;
    hosts[0].save(CHILD).await;
    hosts[0].save(WORKFLOW).await;

    let mut started = Vec::new();
    for n in 0..runs {
        started.push(hosts[n % HOSTS].start_run("traced", json!({"n": n})).await);
    }
    for run in &started {
        let ended = hosts[0].end(run).await;
        assert_eq!(ended["status"], "COMPLETED", "{ended:#}");
    }
    // What is on its way to the collector is there within moments; what is lost never comes.
    let roots = || {
        let spans = spans.lock().unwrap();
        let roots =
            spans.iter().filter(|(_, span)| span.name == "run traced").map(|(id, span)| (span.run.clone(), id.clone()));
        roots.collect::<BTreeMap<String, String>>()
    };
    let whole = || {
        let (roots, spans, wanted) = (roots(), spans.lock().unwrap().clone(), expected());
        let mut of_trace: BTreeMap<&str, BTreeMap<String, Span>> = BTreeMap::new();
        for (id, span) in &spans {
            of_trace.entry(&span.trace).or_default().insert(id.clone(), span.clone());
        }
        let is_whole = |run: &&String| {
            roots.get(*run).is_some_and(|root| {
                let all = &of_trace[&*spans[root].trace];
                let roots =
                    all.values().filter(|span| span.parent.is_empty() || !all.contains_key(&span.parent)).count();
                roots == 1 && tree(all, root) == wanted
            })
        };
        started.iter().filter(is_whole).count()
    };
    let enough =
        |count: usize| f64::from(u32::try_from(count).unwrap()) >= SHARE * f64::from(u32::try_from(runs).unwrap());
    hosts[0].until("the traces are whole", async || enough(whole())).await;
    let (count, all) = (whole(), spans.lock().unwrap().clone());
    let senders: BTreeSet<&String> = all.values().map(|span| &span.host).collect();
    println!("{count} of {runs} runs have a whole trace, {} spans from {} hosts", all.len(), senders.len());
    assert_eq!(senders.len(), HOSTS, "each host sends what it did");
}
