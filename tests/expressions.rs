//! Expressions come from people we do not trust: each of these kills a native evaluator. Here the step fails, and the host lives.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use serde_json::{Value, json};
use support::Host;

fn workflow(id: &str, expression: &str) -> String {
    json!({"id": id, "states": [{"name": "t", "type": "transform", "expression": expression, "end": true}]}).to_string()
}

async fn evaluate(host: &Host, id: &str, expression: &str) -> Value {
    host.run_yaml(
        &workflow(id, expression),
        json!({"n": 5, "o": {"k": [1, 2], "a b": true}, "big": 9_007_199_254_740_993_i64}),
    )
    .await
}

#[tokio::test]
async fn hostile_expressions_fail_their_step_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path()).await;
    let attacks = [
        ("parentheses", format!("{}1{}", "(".repeat(1500), ")".repeat(1500))),
        ("operators", format!("1{}", "+1".repeat(100_000))),
        ("list", "[0]*10**9".to_owned()),
        ("list2", "[0]*1000000000".to_owned()),
        ("range", "list(range(300000000))".to_owned()),
        ("square", format!("x = 3\n{}x", "x = x*x\n".repeat(40))),
        ("loop", "[0 for a in range(100000) for b in range(100000)]".to_owned()),
        ("recursion", "def f(n):\n    return f(n + 1)\nf(0)".to_owned()),
        ("text", "'x' * 1000000000".to_owned()),
        ("source", format!("'{}'", "x".repeat(200_000))),
    ];
    for (name, attack) in &attacks {
        let run = evaluate(&host, name, attack).await;
        assert_eq!(run["status"], "FAILED", "{name}");
        let error = &run["error"];
        assert!(matches!(error["category"].as_str(), Some("ExpressionError" | "LimitError")), "{name}: {error}");
        println!(
            "{name:12} {} {}",
            error["code"],
            error["message"].as_str().unwrap_or_default().chars().take(100).collect::<String>()
        );
        let after = format!("after-{name}");
        assert_eq!(evaluate(&host, &after, "n + 1").await["output"], json!(6), "{after}");
    }
}

#[tokio::test]
async fn an_expression_sees_the_context_and_an_unknown_name_lists_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path()).await;
    for (at, (expression, expected)) in [
        ("n * 2", json!(10)),
        ("ctx.n", json!(5)),
        ("ctx[\"o\"].k[1]", json!(2)),
        ("o[\"a b\"]", json!(true)),
        ("input.n", json!(5)),
        ("steps", json!({})),
        ("big", json!(9_007_199_254_740_993_i64)),
        ("{'z': n, 'a': [k for k in o.k if k > 1]}", json!({"z": 5, "a": [2]})),
        ("None", Value::Null),
    ]
    .into_iter()
    .enumerate()
    {
        let run = evaluate(&host, &format!("e{at}"), expression).await;
        assert_eq!(run["output"], expected, "{expression}: {}", run["error"]);
    }
    let run = evaluate(&host, "undefined", "nn + 1").await;
    let message = run["error"]["message"].as_str().unwrap();
    assert_eq!(run["error"]["category"], "ExpressionError");
    for name in ["nn", "ctx", "input", "steps", "o"] {
        assert!(message.contains(name), "{message}");
    }
}
