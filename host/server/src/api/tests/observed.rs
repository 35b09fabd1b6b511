//! What is seen of a host from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use caisson_core::ports::{Beat, Cluster};
use http_body_util::BodyExt;
use serde_json::json;
use tower::Service as _;

use super::Surface;
use crate::api::auth::Role;
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
