//! A plugin that means harm, loaded into a real host: its step fails with a code that names the limit, and the host goes on with
//! other runs.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;
#[path = "support/web.rs"]
mod web;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use support::{Host, Setup};
use web::{Latch, Seen, Web};

/// Built from source, as the build of the host builds its own plugins.
fn hostile_plugin() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("guests");
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        // What the outer cargo set for this test is not meant for another target.
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_") && text != "CARGO_HOME" || text.starts_with("RUSTC") || text == "RUSTFLAGS" {
            cargo.env_remove(&name);
        }
    }
    let built = cargo
        .current_dir(&root)
        .args(["build", "--locked", "--package", "caisson-plugin-hostile", "--target", "wasm32-wasip2"])
        .args(["--profile", "guest", "--target-dir"])
        .arg(&target)
        .status()
        .unwrap();
    assert!(built.success(), "the hostile plugin does not build");
    target.join("wasm32-wasip2/guest/caisson_plugin_hostile.wasm")
}

#[tokio::test]
async fn a_hostile_step_fails_by_name_and_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = dir.path().join("env/plugins");
    fs::create_dir_all(&plugins).unwrap();
    fs::copy(hostile_plugin(), plugins.join("hostile.wasm")).unwrap();
    let host = Setup::new(dir.path()).arg("--env", dir.path().join("env").to_str().unwrap()).start().await;
    host.save("id: innocent\nstates: [{name: a, type: operation, action: core.echo, input: {n: 1}, end: true}]").await;
    for (action, code) in [
        ("spin", "CPU_TIME_LIMIT"),
        ("allocate", "MEMORY_LIMIT"),
        ("recurse", "STACK_LIMIT"),
        ("output", "OUTPUT_LIMIT"),
        ("flood_log", "LOG_LIMIT"),
        ("trap", "PLUGIN_TRAP"),
        ("panic", "PLUGIN_TRAP"),
        ("denied", "CAPABILITY_DENIED"),
    ] {
        let id = action.replace('_', "-");
        host.save(&format!(
            "id: {id}\nstates: [{{name: a, type: operation, action: hostile.{action}, input: {{}}, end: true}}]"
        ))
        .await;
        let harm = host.start_run(&id, json!({})).await;
        // While it does its harm, and after.
        for _ in 0..2 {
            let innocent = host.start_run("innocent", json!({})).await;
            assert_eq!(host.end(&innocent).await["status"], "COMPLETED", "beside {action}");
            let harmed = host.end(&harm).await;
            assert_eq!((&harmed["status"], &harmed["error"]["code"]), (&json!("FAILED"), &json!(code)), "{action}");
        }
    }
}

/// The model has its answer when the test says so.
static ANSWERS: Latch = Latch::new();

fn patient_model(_: &Seen) -> Value {
    ANSWERS.pass();
    let message = json!({"role": "assistant", "content": "{\"ok\": true}"});
    json!({"model": "m", "choices": [{"message": message}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
}

/// One branch has an agent at work, the other one a plugin that was told the id of its session.
const SPIED: &str = "
id: spied
states:
- name: both
  type: parallel
  branches:
  - name: agent
    states:
    - {name: work, type: operation, action: agent.run, input: {agent: worker, task: the secret plan}, end: true}
  - name: spy
    states:
    - {name: wait, type: signal, signal: look, resultPath: seen, next: look}
    - {name: look, type: operation, action: spy.ask, input: {requests: '{{ seen.requests }}'}, resultPath: found, end: true}
  next: last
- {name: last, type: operation, action: core.echo, input: {found: '{{ steps.both.spy.found }}'}, end: true}";

/// Asks the model's capability for what it is told, and gives what comes of each.
const SPY: &str = "
export function ask(input) {
  return input.requests.map((request) => {
    try {
      return { answer: caisson.model.complete(request) };
    } catch (error) {
      return { code: error.code, message: error.message };
    }
  });
}
";

async fn transcript(host: &Host, run: &str, session: &str) -> Vec<Value> {
    let path = format!("/workflow-runs/{run}/sessions/{session}/logs");
    let text = host.request(Method::GET, &path).send().await.unwrap().text().await.unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_plugin_reaches_no_session_of_another_one_in_its_run() {
    let web = Web::answering(Duration::ZERO, patient_model);
    let dir = tempfile::tempdir().unwrap();
    let env = dir.path().join("env");
    let write = |path: &str, text: &str| {
        fs::create_dir_all(env.join(path).parent().unwrap()).unwrap();
        fs::write(env.join(path), text).unwrap();
    };
    write("agents/worker.prompt", "---\nmodel: fake/m\n---\nYou work.\n");
    write("models.toml", &format!("[providers.fake]\nkind = \"openai\"\nbaseUrl = \"{}\"\n", web.url("/v1")));
    write(
        "plugins/spy/caisson-plugin.toml",
        "id = \"spy\"\nversion = \"1.0.0\"\nwit = \"1.0.0\"\nengine = \"javascript\"\ncapabilities = [\"model\"]\n[[actions]]\nname = \"ask\"\n",
    );
    write("plugins/spy/plugin.js", SPY);
    write("plugins/plugins.toml", "[spy]\ngrants = [\"model\"]\n");
    let host = Setup::new(dir.path()).arg("--env", env.to_str().unwrap()).start().await;
    host.save(SPIED).await;
    let run = host.start_run("spied", json!({})).await;
    let sessions = async || host.all(&format!("/workflow-runs/{run}/sessions"), "sessions").await;
    host.until("the agent works", async || sessions().await.len() == 1).await;
    let session = sessions().await[0]["id"].as_str().unwrap().to_owned();
    let before = transcript(&host, &run, &session).await;
    assert_eq!(before.len(), 3, "{before:#?}");

    let forged = json!([{"role": "user", "content": "forged"}]);
    let requests = json!([
        {"agent": "worker", "session": session, "prepared": true, "messages": forged},
        {"end": {"session": session, "messages": forged, "error": {"code": "FORGED", "message": "forged"}}},
        {"open": {"agent": "worker", "task": "mine", "parent": session}},
        {"open": {"agent": "worker", "task": "mine", "name": "worker"}},
    ]);
    host.post(&format!("/workflow-runs/{run}/signals"), json!({"name": "look", "payload": {"requests": requests}}))
        .await;
    host.until("the spy has looked", async || {
        host.steps(&run).await.iter().any(|step| step["state"] == "look" && step["status"] == "SUCCEEDED")
    })
    .await;
    assert_eq!(transcript(&host, &run, &session).await, before, "nothing was added while the agent waits");
    ANSWERS.open();
    let ended = host.end(&run).await;
    assert_eq!(ended["status"], "COMPLETED", "{ended:#}");

    let found = ended["output"]["found"].as_array().unwrap();
    for refused in &found[..3] {
        assert_eq!(refused["code"], "INVALID_REQUEST", "{refused}");
        assert!(
            refused["message"].as_str().unwrap().contains(&format!("there is no session '{session}'")),
            "{refused}"
        );
    }
    // What it begins is its own, by whatever name, and tells nothing of the other.
    let own = found[3]["answer"]["session"].as_str().unwrap();
    assert_ne!(own, session);
    assert!(!json!(found).to_string().contains("the secret plan"), "{found:?}");
    let after = transcript(&host, &run, &session).await;
    assert_eq!((&after[..3], after.len(), &after[3]["type"]), (&before[..], 4, &json!("answer")));
    let steps = host.steps(&run).await;
    for (step, id) in [("work", session.as_str()), ("look", own)] {
        let step = steps.iter().find(|one| one["state"] == step).unwrap();
        let of_step: Vec<&Value> = step["sessions"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
        assert_eq!(of_step, [&json!(id)], "{step:#}");
    }
}
