//! What is seen of a host from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use caisson_core::ports::{Beat, Cluster};
use serde_json::json;

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
