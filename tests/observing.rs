//! What is seen of a real host from outside: a line of its log for each attempt and end of a step, and its numbers for
//! Prometheus.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::fs;

use caisson_test_servers::nats::NatsServer;
use serde_json::{Value, json};
use support::Setup;

#[tokio::test]
async fn each_end_of_an_attempt_is_a_line_with_the_fields_that_a_search_needs() {
    const WORKFLOW: &str = "
id: shaky
states:
- name: again
  type: operation
  action: core.fail
  input: {attempts: 1, category: TransientError, code: NOT_YET}
  retry: {maxAttempts: 2, backoffSeconds: 0.01}
  next: never
- name: never
  type: operation
  action: core.fail
  input: {attempts: 9, category: ActionError, code: BROKEN, message: sesame}
  end: true";
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let setup = Setup { log: Some(log.clone()), ..Setup::new(dir.path()).arg("--log-format", "json") };
    let host = setup.start().await;
    let run = host.run_yaml(WORKFLOW, json!({})).await;
    assert_eq!(run["status"], "FAILED");
    let steps = host.steps(run["id"].as_str().unwrap()).await;
    assert_eq!(host.stop(), Some(0));

    let text = fs::read_to_string(log).unwrap();
    assert!(!text.contains("sesame"), "data of a workflow is in the log: {text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |message: &str| {
        let lines = lines.iter().map(|line| &line["fields"]).filter(|fields| fields["message"] == message);
        lines.cloned().collect::<Vec<_>>()
    };
    let seen = |fields: &Value| {
        assert!(fields["duration_ms"].is_u64(), "{fields}");
        let names = ["run_id", "step_id", "attempt", "executor", "status", "error_type"];
        Value::Array(names.iter().map(|name| fields[name].clone()).collect())
    };
    let (id, first, second) = (&run["id"], &steps[0]["id"], &steps[1]["id"]);
    let failed: Vec<Value> = of("attempt failed").iter().map(seen).collect();
    assert_eq!(failed, [json!([id, first, 1, "core.fail", "RETRYING", "NOT_YET"])]);
    let ended: Vec<Value> = of("step ended").iter().map(seen).collect();
    assert_eq!(
        ended,
        [
            json!([id, first, 2, "core.fail", "SUCCEEDED", null]),
            json!([id, second, 1, "core.fail", "FAILED", "BROKEN"]),
        ]
    );
    let [over] = &of("run ended")[..] else { panic!("{lines:?}") };
    assert_eq!((&over["run_id"], &over["status"], &over["error_type"]), (id, &json!("FAILED"), &json!("BROKEN")));
    assert!(over["duration_ms"].is_u64(), "{over}");
}

#[tokio::test]
async fn the_pool_shows_its_guests_and_the_queue_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let host = Setup::new(dir.path()).arg("--max-steps", "1").start().await;
    let source = "def main(input):\n    x = 0\n    for i in range(15000000):\n        x = (x + i) % 7\n    return x\n";
    let action = |name: &str| json!({"name": name, "type": "operation", "action": "script.run", "input": {"source": source}, "end": true});
    let branch = |name: &str| json!({"name": name, "states": [action(name)]});
    let both = json!({"id": "busy", "states": [
        {"name": "both", "type": "parallel", "branches": [branch("a"), branch("b")], "end": true},
    ]});
    host.save(&both.to_string()).await;
    assert_eq!(host.metric("caisson_queue_pending").await, Some(0.0));
    assert_eq!(host.metric("caisson_queue_ack_pending").await, None, "nothing is acknowledged in a process");
    let run = host.start_run("busy", json!({})).await;
    host.until("a guest runs and a step waits", async || {
        let instances = host.metric("caisson_pool_instances").await.unwrap();
        let memories = host.metric("caisson_pool_memories").await.unwrap();
        let waiting = host.metric("caisson_queue_pending").await.unwrap();
        instances >= 1.0 && memories >= 1.0 && waiting >= 1.0
    })
    .await;
    for (some, most) in [
        ("caisson_pool_instances", "caisson_pool_instances_max"),
        ("caisson_pool_memories", "caisson_pool_memories_max"),
    ] {
        assert!(host.metric(some).await.unwrap() <= host.metric(most).await.unwrap(), "{some}");
    }
    host.post(&format!("/workflow-runs/{run}/cancel"), json!({})).await;
    host.until("the pool is empty again", async || host.metric("caisson_pool_instances").await == Some(0.0)).await;
}

#[tokio::test]
async fn the_lag_of_a_shared_queue_is_told_while_nats_is_there_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let mut nats = NatsServer::new();
    let host = Setup::new(dir.path()).arg("--nats-url", &nats.url()).start().await;
    let told = async || {
        let pending = host.metric("caisson_queue_pending").await;
        (pending, host.metric("caisson_queue_ack_pending").await)
    };
    host.until("the lag is told", async || told().await == (Some(0.0), Some(0.0))).await;
    nats.kill();
    host.until("it is told no longer", async || told().await == (None, None)).await;
    nats.start();
    host.until("it is told again", async || told().await == (Some(0.0), Some(0.0))).await;
}
