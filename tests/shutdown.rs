//! SIGTERM: no new work, steps under way end, and nothing is attempted twice for it.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use axum::Router;
use axum::routing::post;
use reqwest::Method;
use serde_json::{Value, json};
use support::Setup;
use tokio::sync::mpsc;

#[tokio::test]
async fn a_host_that_is_told_to_stop_lets_its_steps_end() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path());
    let host = setup.start().await;
    let source = "def main(input):\n    x = 0\n    for i in range(15000000):\n        x = (x + i) % 7\n    return x\n";
    let definition = json!({"id": "slow", "states": [
        {"name": "a", "type": "operation", "action": "script.run", "input": {"source": source}, "next": "b"},
        {"name": "b", "type": "operation", "action": "core.echo", "input": {"x": "{{ steps.a }}"}, "end": true},
    ]});
    host.save(&definition.to_string()).await;
    let run = host.start_run("slow", json!({})).await;
    host.until("the step runs", async || host.steps(&run).await.iter().any(|step| step["status"] == "RUNNING")).await;
    let (status, ready) = host.send(Method::GET, "/readyz", None).await;
    assert_eq!((status, &ready["parts"][0]), (200, &json!({"name": "host", "status": "ok"})), "{ready}");

    host.terminate();
    // Whoever sends requests here learns that this host is going, while the step still runs.
    host.until("it says that it stops", async || {
        let (status, ready) = host.send(Method::GET, "/readyz", None).await;
        status == 503 && ready["status"] == "shutting down" && ready["parts"][1]["status"] == "ok"
    })
    .await;
    assert_eq!(host.run(&run).await["status"], "RUNNING");
    let (status, refused) = host.send(Method::POST, "/workflows/slow/runs", Some(json!({"input": {}}))).await;
    assert_eq!((status, &refused["error"]["code"]), (503, &json!("SHUTTING_DOWN")));
    assert_eq!(host.exit_code(), Some(0));

    let host = setup.start().await;
    assert_eq!(host.end(&run).await["status"], "COMPLETED");
    let events = host.events(&run).await;
    let of = |kind: &str| events.iter().filter(|event| &*event.kind == kind).count();
    assert_eq!((of("step.started"), of("step.lost")), (2, 0), "a step that could have ended was broken off");
}

#[tokio::test]
async fn a_host_that_is_told_to_stop_sends_the_traces_that_wait() {
    let (sender, mut received) = mpsc::unbounded_channel();
    let collector = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let take = async move |body: String| sender.send(body).unwrap();
    let router = Router::new().route("/v1/traces", post(take));
    tokio::spawn(async move { axum::serve(collector, router).await });

    let dir = tempfile::tempdir().unwrap();
    let host = Setup::new(dir.path()).arg("--otlp-endpoint", &endpoint).start().await;
    let yaml = "{id: w, states: [{name: a, type: operation, action: core.echo, input: {}, end: true}]}";
    let ended = host.run_yaml(yaml, json!({})).await;
    assert_eq!(ended["status"], "COMPLETED");
    // The collector runs on this test's thread.
    assert_eq!(tokio::task::spawn_blocking(|| host.stop()).await.unwrap(), Some(0));
    let mut names = Vec::new();
    while let Ok(message) = received.try_recv() {
        let message: Value = serde_json::from_str(&message).unwrap();
        let spans = message["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
        names.extend(spans.iter().map(|span| span["name"].as_str().unwrap().to_owned()));
    }
    names.sort();
    assert_eq!(names, ["call core.echo", "run w", "state a", "step a attempt 1"]);
}
