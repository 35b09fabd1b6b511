//! What is seen of a host from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use axum::routing::post;
use caisson_core::ids::RunId;
use caisson_core::ports::{Beat, Cluster, EventSink, Store};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::Service as _;

use super::Surface;
use crate::api::auth::Role;
use crate::observe::traces::Exporter;
use crate::observe::{Observe, Probe};
use caisson_orchestrator::memory::MemoryStore;

#[derive(Default)]
struct Queue(AtomicBool);

impl Probe for Queue {
    fn name(&self) -> &'static str {
        "queue"
    }
    fn problem(&self) -> Option<String> {
        (!self.0.load(Ordering::Relaxed)).then(|| "not connected".to_owned())
    }
}

#[tokio::test]
async fn readiness_names_the_part_that_does_not_work() {
    let queue = Arc::new(Queue::default());
    let surface = Surface::with(Observe { probes: vec![queue.clone()], ..Observe::default() }).await;
    let (status, body) = surface.call(None, "GET", "/readyz", "").await;
    assert_eq!((status, &body["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("not connected")));
    let part = |name: &str, status: &str| json!({"name": name, "status": status});
    assert_eq!(body["parts"], json!([part("host", "ok"), part("store", "ok"), part("queue", "not connected")]));

    queue.0.store(true, Ordering::Relaxed);
    let (status, body) = surface.call(None, "GET", "/readyz", "").await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("ok")));

    surface.api.stop.cancel();
    let (status, body) = surface.call(None, "GET", "/readyz", "").await;
    assert_eq!((status, &body["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("shutting down")));
}

#[tokio::test]
async fn a_host_that_is_alone_lists_itself() {
    let surface = Surface::new().await;
    let key = surface.key(Role::Viewer, "default").await;
    let (status, body) = surface.call(Some(&key), "GET", "/api/v1/hosts", "").await;
    assert_eq!(status, StatusCode::OK);
    let hosts = body["hosts"].as_array().expect("a list");
    assert_eq!(hosts.len(), 1);
    let host = &hosts[0];
    assert_eq!(
        (&host["id"], &host["slots"], &host["running"], &host["draining"], &host["alive"], &host["leaseUntil"]),
        (&json!("test"), &json!(4), &json!(0), &json!(false), &json!(true), &json!(null))
    );
}

#[tokio::test]
async fn every_host_of_the_store_is_listed_whether_it_lives_or_not() {
    let store = Arc::new(MemoryStore::new());
    for (id, lease_ms) in [("a", 10), ("b", 100_000_000)] {
        let beat = Beat {
            id: id.into(),
            name: "machine".into(),
            version: "1".into(),
            slots: 8,
            running: 3,
            draining: id == "b",
            first: true,
            lease_ms,
        };
        store.beat(&beat).await.expect("beats");
    }
    let surface = Surface::with(Observe { cluster: Some(store), ..Observe::default() }).await;
    let key = surface.key(Role::Viewer, "default").await;
    let (_, body) = surface.call(Some(&key), "GET", "/api/v1/hosts", "").await;
    let of = |name: &str| {
        body["hosts"].as_array().expect("a list").iter().map(|host| host[name].clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("id"), [json!("a"), json!("b")]);
    assert_eq!(of("draining"), [json!(false), json!(true)]);
    assert_eq!(of("running"), [json!(3), json!(3)]);
}

#[tokio::test]
async fn a_run_and_the_requests_for_it_are_on_the_page_of_numbers() {
    let surface = Surface::new().await;
    let key = surface.key(Role::Operator, "default").await;
    let definition = json!({"definition": {"id": "w", "start": "a", "states": [
        {"name": "a", "type": "operation", "action": "core.echo", "input": {}, "end": true}]}});
    let (status, _) = surface.call(Some(&key), "POST", "/api/v1/workflows", &definition.to_string()).await;
    assert_eq!(status, StatusCode::CREATED);
    let (_, started) = surface.call(Some(&key), "POST", "/api/v1/workflows/w/runs?waitMs=5000", "").await;
    assert_eq!(started["run"]["status"], "COMPLETED");
    surface.call(None, "GET", "/no/such/place", "").await;

    let request = Request::get("/metrics").body(Body::empty()).expect("a request");
    let response = surface.router.clone().call(request).await.expect("answers");
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let bytes = response.into_body().collect().await.expect("reads").to_bytes();
    let page = std::str::from_utf8(&bytes).expect("text");
    for line in [
        r#"caisson_runs_started_total{workflow="w"} 1"#,
        r#"caisson_runs_ended_total{workflow="w",status="COMPLETED"} 1"#,
        r#"caisson_steps_ended_total{action="core.echo",status="SUCCEEDED"} 1"#,
        "caisson_step_queue_seconds_count 1",
        r#"caisson_step_seconds_count{action="core.echo"} 1"#,
        r#"caisson_http_requests_total{method="POST",route="/api/v1/workflows/{id}/runs",status="201"} 1"#,
        r#"caisson_http_requests_total{method="GET",route="none",status="404"} 1"#,
        "caisson_steps_running 0",
        "caisson_steps_slots 4",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
}

/// A collector of traces: its address, and the spans that it is sent.
async fn collector() -> (reqwest::Url, mpsc::UnboundedReceiver<Value>) {
    let (sender, spans) = mpsc::unbounded_channel();
    let take = move |body: Bytes| async move {
        let message: Value = serde_json::from_slice(&body).expect("JSON");
        for span in message["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans") {
            sender.send(span.clone()).expect("somebody listens");
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().route("/v1/traces", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}").parse().expect("a URL"), spans)
}

#[tokio::test]
async fn the_trace_of_a_run_and_of_those_it_calls_is_one_tree_below_the_clients_span() {
    let surface = Surface::new().await;
    let key = surface.key(Role::Operator, "default").await;
    for definition in [
        json!({"id": "kid", "start": "k", "states": [
            {"name": "k", "type": "operation", "action": "core.echo", "input": {}, "end": true}]}),
        json!({"id": "top", "start": "both", "states": [{"name": "both", "type": "parallel", "end": true, "branches": [
            {"name": "a", "states": [{"name": "calls", "type": "call", "workflow": "kid", "end": true}]},
            {"name": "b", "states": [{"name": "works", "type": "operation", "action": "core.echo", "input": {}, "end": true}]}]}]}),
    ] {
        let body = json!({"definition": definition}).to_string();
        let (status, body) = surface.call(Some(&key), "POST", "/api/v1/workflows", &body).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
    let (trace, client) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let request = Request::post("/api/v1/workflows/top/runs?waitMs=5000")
        .header("authorization", format!("Bearer {key}"))
        .header("traceparent", format!("00-{trace}-{client}-01"))
        .body(Body::empty())
        .expect("a request");
    let (_, started) = surface.send(request).await;
    assert_eq!(started["run"]["status"], "COMPLETED", "{started}");

    let (endpoint, mut received) = collector().await;
    let (traces, exporter) = Exporter::start(endpoint, surface.store.clone(), "host-1").expect("starts");
    let (_, runs) = surface.call(Some(&key), "GET", "/api/v1/workflow-runs", "").await;
    let runs = runs["runs"].as_array().expect("runs").clone();
    assert_eq!(runs.len(), 2);
    for run in &runs {
        let id = RunId::new(run["id"].as_str().expect("an id"));
        let row = surface.store.run(&id).await.expect("reads").expect("is there");
        let events = surface.store.events(&id, 0, 1_000).await.expect("reads");
        traces.committed(&row, &events, &[]);
    }
    tokio::time::timeout(Duration::from_secs(30), exporter.close()).await.expect("ends");
    let mut spans = Vec::new();
    while let Ok(span) = received.try_recv() {
        spans.push(span);
    }
    assert_eq!(traces.lost(), 0);

    let name_of = |id: &Value| {
        spans.iter().find(|span| span["spanId"] == *id).map_or("-", |span| span["name"].as_str().expect("a name"))
    };
    let mut tree: Vec<String> = spans
        .iter()
        .map(|span| format!("{} < {}", span["name"].as_str().expect("a name"), name_of(&span["parentSpanId"])))
        .collect();
    tree.sort();
    assert_eq!(
        tree,
        [
            "call core.echo < step k attempt 1",
            "call core.echo < step works attempt 1",
            "run kid < state calls",
            "run top < -",
            "state both < run top",
            "state calls < state both",
            "state k < run kid",
            "state works < state both",
            "step k attempt 1 < state k",
            "step works attempt 1 < state works",
        ]
    );
    assert!(spans.iter().all(|span| span["traceId"] == trace));
    let top = spans.iter().find(|span| span["name"] == "run top").expect("is there");
    assert_eq!(top["parentSpanId"], client);
}
