//! The workflows that are measured.

use crate::cli::Environment;
use crate::cli::workflows::save;
use crate::client::Client;
use serde_json::{Value, json};

/// Five steps in a row.
pub const FIVE: &str = "bench-five";
/// One step.
pub const ONE: &str = "bench-one";
/// One step for each item of the input.
pub const FOREACH: &str = "bench-foreach";
/// Waits for an approval.
pub const APPROVAL: &str = "bench-approval";
/// A guest that loops until its limit.
pub const LOOP: &str = "bench-loop";

/// Saves them all.
pub async fn apply_all(client: &Client) -> anyhow::Result<()> {
    let foreach = json!({
        "id": FOREACH, "start": "each",
        "states": [{
            "name": "each", "type": "foreach", "itemsPath": "items", "itemName": "item", "maxConcurrency": 50,
            "iterator": {"start": "echo", "states": [{
                "name": "echo", "type": "operation", "action": "core.echo", "input": {"value": "{{ item }}"},
                "resultPath": "result", "end": true,
            }]},
            "end": true,
        }],
    });
    let approval = json!({
        "id": APPROVAL, "start": "ask",
        "states": [{
            "name": "ask", "type": "operation", "action": "human.approval", "input": {"message": "Go on?"},
            "timeoutSeconds": 86_400, "end": true,
        }],
    });
    let endless = json!({
        "id": LOOP, "start": "loop",
        "states": [{
            "name": "loop", "type": "operation", "action": "script.run",
            "input": {"source": "def main(input):\n    for i in range(1000000000):\n        for j in range(1000000000):\n            pass\n"},
            "end": true,
        }],
    });
    for definition in [echoes(FIVE, 5), echoes(ONE, 1), foreach, approval, endless] {
        save(client, definition.to_string().as_bytes(), &Environment::default()).await?;
    }
    Ok(())
}

fn echoes(id: &str, count: usize) -> Value {
    let states: Vec<Value> = (1..=count)
        .map(|number| {
            let mut state = json!({
                "name": format!("echo{number}"), "type": "operation", "action": "core.echo",
                "input": {"number": number, "from": "{{ from }}"},
            });
            if number == count {
                state["end"] = json!(true);
            } else {
                state["next"] = json!(format!("echo{}", number + 1));
            }
            state
        })
        .collect();
    json!({"id": id, "start": "echo1", "states": states})
}
