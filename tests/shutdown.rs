//! SIGTERM: no new work, steps under way end, and nothing is attempted twice for it.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use serde_json::json;
use support::Setup;

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
    assert_eq!(host.stop(), Some(0));

    let host = setup.start().await;
    assert_eq!(host.end(&run).await["status"], "COMPLETED");
    let events = host.events(&run).await;
    let of = |kind: &str| events.iter().filter(|event| &*event.kind == kind).count();
    assert_eq!((of("step.started"), of("step.lost")), (2, 0), "a step that could have ended was broken off");
}
