//! Seed 004, section 9.2, row by row through the real binary: agents with schemas, one after the other, in branches and in items.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::fs;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use support::{Host, Setup};

/// Section 9.3: the agents that the tests name, with more beside them.
const AGENTS: &[(&str, &str)] = &[
    (
        "pod-checker",
        "input: {schema: {type: object, properties: {namespace: {type: string}}, required: [namespace]}}
output: {schema: {type: object, properties: {pods: {type: array, items: {type: object, properties: {name: {type: string}, status: {type: string}}}}, timestamp: {type: string}}, required: [pods]}}",
    ),
    (
        "log-analyzer",
        "input: {schema: {type: object, properties: {pods: {type: array, items: {type: object, properties: {name: {type: string}}}}}, required: [pods]}}
output: {schema: {type: object, properties: {analysis: {type: string}, severity: {type: string, enum: [low, medium, high, critical]}}}}",
    ),
    ("notifier", ""),
    ("odd-checker", "output: {schema: {type: object, properties: {pods: {type: array}}, required: [pods]}}"),
    ("minimal-output-agent", "output: {schema: {type: object, properties: {result: {type: string}}, required: [result]}}"),
    (
        "expects-more-agent",
        "input: {schema: {type: object, properties: {result: {type: string}, metadata: {type: object}}, required: [result]}}",
    ),
    (
        "pod-looker",
        "input: {schema: {type: object, properties: {name: {type: string}}, required: [name], additionalProperties: false}}",
    ),
];

fn answers() -> Value {
    json!({"agents": {
        "pod-checker": [
            {"reply": {"pods": [{"name": "a", "status": "ok"}, {"name": "b", "status": "down"}], "timestamp": "now"}},
        ],
        "odd-checker": [{"reply": {"no": "pods"}}],
        "log-analyzer": [{"reply": {"analysis": "b is down", "severity": "high"}}],
        "minimal-output-agent": [{"reply": {"result": "done"}}],
        "*": [{"reply": "noted"}],
    }})
}

async fn host(dir: &Path) -> Host {
    let files = dir.join("environment");
    fs::create_dir_all(files.join("agents")).unwrap();
    for (name, front) in AGENTS {
        let text = format!("---\nmodel: scripted/any\n{front}\n---\nYou are {name}.\n");
        fs::write(files.join(format!("agents/{name}.prompt")), text).unwrap();
    }
    fs::write(files.join("answers.json"), answers().to_string()).unwrap();
    fs::write(files.join("models.toml"), "[providers.scripted]\nkind = \"scripted\"\nscript = \"answers.json\"\n")
        .unwrap();
    Setup::new(dir).arg("--env", files.to_str().unwrap()).start().await
}

/// A step with an agent.
fn step(id: &str, agent: &str, rest: &str, next: &str) -> String {
    format!("- {{id: {id}, type: operation, input: {{task: agent.run, agent: {agent}{rest}}}, {next}}}\n")
}

fn pipeline(middle: &str) -> String {
    let (check, notify) =
        (step("check", "pod-checker", "", "transition: analyze"), step("notify", "notifier", "", "end: true"));
    format!("id: pipeline\nstates:\n{check}{}{notify}", step("analyze", middle, "", "transition: notify"))
}

/// The findings of a definition but that its start is not given, as `code: message`.
fn findings(answer: &Value, kind: &str) -> Vec<String> {
    let all = answer["validation"][kind].as_array().unwrap_or_else(|| panic!("{answer:#}"));
    let all = all.iter().filter(|one| one["code"] != "DEFAULT_START");
    all.map(|one| format!("{}: {}", one["code"].as_str().unwrap(), one["message"].as_str().unwrap())).collect()
}

async fn save(host: &Host, yaml: &str) -> (u16, Value) {
    host.send(Method::POST, "/workflows", Some(json!({"definition": yaml}))).await
}

#[tokio::test]
async fn a_pipeline_of_three_agents_that_fit_completes() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path()).await;
    let (status, answer) = save(&host, &pipeline("log-analyzer")).await;
    assert_eq!((status, findings(&answer, "errors")), (201, vec![]), "{answer:#}");
    // The first agent is given the run's input, each other one what the one before gave.
    let run = host.start_run("pipeline", json!({"namespace": "production"})).await;
    let ended = host.end(&run).await;
    assert_eq!((&ended["status"], &ended["output"]), (&json!("COMPLETED"), &json!({"result": "noted"})), "{ended:#}");
    let steps = host.steps(&run).await;
    let analyzed = steps.iter().find(|step| step["state"] == "analyze").unwrap();
    assert_eq!(analyzed["input"]["previous"]["timestamp"], json!("now"), "{analyzed:#}");
    host.check_history(&run).await;
    // What the first one needs and the input lacks fails its step, once, and no model is asked.
    let run = host.start_run("pipeline", json!({"other": 1})).await;
    let ended = host.end(&run).await;
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("FAILED"), &json!("SCHEMA_VALIDATION_INPUT")));
    assert!(ended["error"]["message"].as_str().unwrap().contains("namespace"), "{ended:#}");
    let steps = host.steps(&run).await;
    assert_eq!((steps.len(), &steps[0]["attempt"]), (1, &json!(1)), "{steps:#?}");
}

#[tokio::test]
async fn a_pipeline_that_does_not_fit_is_refused_when_it_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path()).await;
    let (status, answer) = save(&host, &pipeline("expects-more-agent")).await;
    let wanted = "SCHEMA_COMPATIBILITY: step analyze expects result: string, check never gives it";
    assert_eq!((status, findings(&answer, "errors")), (400, vec![wanted.to_owned()]), "{answer:#}");
    // The same when only asked, and when a version would break what was saved.
    let (status, answer) = host
        .send(Method::POST, "/workflows/validate", Some(json!({"definition": pipeline("expects-more-agent")})))
        .await;
    assert_eq!(status, 200);
    let listed = json!({"validation": answer});
    assert_eq!(findings(&listed, "errors"), [wanted]);
    save(&host, &pipeline("log-analyzer")).await;
    let body = json!({"definition": pipeline("expects-more-agent")});
    let (status, answer) = host.send(Method::PUT, "/workflows/pipeline", Some(body)).await;
    assert_eq!((status, findings(&answer, "errors")), (400, vec![wanted.to_owned()]), "{answer:#}");
    // An optional property that is never given is a warning; an agent without a schema cannot be compared.
    let first = step("one", "minimal-output-agent", "", "transition: two");
    let (status, answer) =
        save(&host, &format!("id: warned\nstates:\n{first}{}", step("two", "expects-more-agent", "", "end: true")))
            .await;
    let wanted = "SCHEMA_COMPATIBILITY: step two expects metadata: object, one never gives it";
    assert_eq!((status, findings(&answer, "warnings")), (201, vec![wanted.to_owned()]), "{answer:#}");
    let first = step("one", "notifier", "", "transition: two");
    let (status, answer) =
        save(&host, &format!("id: open\nstates:\n{first}{}", step("two", "log-analyzer", "", "end: true"))).await;
    let wanted = "SCHEMA_COMPATIBILITY: cannot validate what two takes: one has no schema for what it gives";
    assert_eq!((status, findings(&answer, "warnings")), (201, vec![wanted.to_owned()]), "{answer:#}");
}

#[tokio::test]
async fn an_answer_of_another_shape_is_a_warning_and_the_workflow_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path()).await;
    let check = step("check", "odd-checker", "", "transition: notify");
    save(&host, &format!("id: odd\nstates:\n{check}{}", step("notify", "notifier", "", "end: true"))).await;
    let run = host.start_run("odd", json!({"namespace": "x"})).await;
    let ended = host.end(&run).await;
    assert_eq!(ended["status"], json!("COMPLETED"), "{ended:#}");
    let steps = host.steps(&run).await;
    assert_eq!(steps[0]["status"], json!("SUCCEEDED"));
    assert!(steps[0].to_string().contains("SCHEMA_VALIDATION_OUTPUT"), "{:#}", steps[0]);
}

#[tokio::test]
async fn agents_that_are_missing_are_named_one_by_one_and_one_that_was_deleted_fails_its_step() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path()).await;
    let text = format!(
        "id: invalid-agent\nstates:\n{}{}",
        step("check", "nonexistent-agent", "", "transition: more"),
        step("more", "log-analyser", "", "end: true")
    );
    let (status, answer) = save(&host, &text).await;
    let errors = findings(&answer, "errors");
    assert_eq!((status, errors.len()), (400, 2), "{answer:#}");
    assert!(errors[0].contains("check") && errors[0].contains("nonexistent-agent"), "{errors:?}");
    assert!(answer.to_string().contains("log-analyzer"), "the nearest right name: {answer:#}");
    // Another environment's agents are nobody's here.
    let (status, _) = host
        .send(Method::POST, "/workflows?environment=other", Some(json!({"definition": pipeline("log-analyzer")})))
        .await;
    assert_eq!(status, 400);
    save(&host, &pipeline("log-analyzer")).await;
    let files =
        json!({"files": [{"path": "agents/notifier.prompt", "text": "---\nmodel: scripted/any\n---\nHello.\n"}]});
    let answer = host.post("/environments/default/sync", files).await;
    assert!(answer.to_string().contains("disable"), "{answer:#}");
    let run = host.start_run("pipeline", json!({"namespace": "x"})).await;
    let ended = host.end(&run).await;
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("FAILED"), &json!("AGENT_NOT_FOUND")), "{ended:#}");
    assert!(ended["error"]["message"].as_str().unwrap().contains("pod-checker"), "{ended:#}");
}

#[tokio::test]
async fn each_branch_and_each_item_is_checked_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path()).await;
    let branches = "
- id: both
  type: parallel
  branches:
  - {name: logs, states: [{id: a, type: operation, input: {task: agent.run, agent: log-analyzer}, end: true}]}
  - {name: more, states: [{id: b, type: operation, input: {task: agent.run, agent: AGENT}, end: true}]}
  end: true
";
    let check = step("check", "pod-checker", "", "transition: both");
    let (status, answer) =
        save(&host, &format!("id: branches\nstates:\n{check}{}", branches.replace("AGENT", "expects-more-agent")))
            .await;
    let wanted = "SCHEMA_COMPATIBILITY: step b expects result: string, check never gives it";
    assert_eq!((status, findings(&answer, "errors")), (400, vec![wanted.to_owned()]), "{answer:#}");
    save(&host, &format!("id: branches\nstates:\n{check}{}", branches.replace("AGENT", "notifier"))).await;
    let run = host.start_run("branches", json!({"namespace": "x"})).await;
    let ended = host.end(&run).await;
    assert_eq!(ended["status"], json!("COMPLETED"), "{ended:#}");
    assert_eq!(ended["context"]["steps"]["both"]["logs"]["steps"]["a"]["severity"], json!("high"), "{ended:#}");

    let each = "
- id: each
  type: foreach
  itemsPath: pods
  itemName: pod
  onItemError: continue
  iterator: {states: [{id: look, type: operation, input: {task: agent.run, agent: pod-looker}, resultPath: seen, end: true}]}
  end: true
";
    let (status, answer) = save(&host, &format!("id: items\nstates:{each}")).await;
    assert_eq!(status, 201, "{answer:#}");
    let run = host.start_run("items", json!({"pods": [{"name": "a", "status": "ok"}, {"status": "down"}]})).await;
    let ended = host.end(&run).await;
    assert_eq!(ended["status"], json!("COMPLETED"), "{ended:#}");
    let steps = host.steps(&run).await;
    let looked: Vec<_> = steps
        .iter()
        .filter(|step| step["state"] == "look")
        .map(|s| (s["status"].as_str().unwrap(), s["index"].as_u64()))
        .collect();
    assert!(looked.contains(&("SUCCEEDED", Some(0))) && looked.contains(&("FAILED", Some(1))), "{looked:?}");
    assert!(steps.iter().any(|step| step["error"]["code"] == "SCHEMA_VALIDATION_INPUT"), "{steps:#?}");
}
