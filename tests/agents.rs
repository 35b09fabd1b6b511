//! The process is killed with SIGKILL in the middle of an agent's loop of ten turns. Whatever the moment: a turn that was recorded is not paid for
//! again, and at most the one that was under way goes out once more.
//!
//! `CAISSON_KILLS` says how many kills (CI: what fits in a minute), `CAISSON_SEED` where they fall. The full count:
//! `CAISSON_KILLS=100 cargo test -p caisson --test agents -- --nocapture`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;
#[path = "support/web.rs"]
mod web;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use support::{Chance, Host, PATIENCE, Setup, caisson};
use web::{Seen, Web};

/// Every answer takes so long: most kills find a turn under way.
const ANSWER_TIME: Duration = Duration::from_millis(10);
const TURNS: usize = 10;

const WORKFLOW: &str = "
id: ask
states:
- {name: a, type: operation, action: agent.run, input: {agent: worker, task: '{{ task }}'}, end: true}";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The run that a request belongs to, and how many turns went before it.
fn place(seen: &Seen) -> (String, usize) {
    let body: Value = serde_json::from_str(&seen.body).unwrap();
    let messages = body["messages"].as_array().unwrap();
    let of = |role: &str| messages.iter().filter(|message| message["role"] == role).count();
    let task = messages.iter().find(|message| message["role"] == "user").unwrap();
    (task["content"].as_str().unwrap().to_owned(), of("assistant"))
}

/// A model that calls a tool nine times and then has its answer.
fn model(seen: &Seen) -> Value {
    let (_, turn) = place(seen);
    let message = if turn + 1 < TURNS {
        let call =
            json!({"id": format!("c{turn}"), "type": "function", "function": {"name": "look", "arguments": "{}"}});
        json!({"role": "assistant", "content": null, "tool_calls": [call]})
    } else {
        json!({"role": "assistant", "content": "{\"ok\": true}"})
    };
    json!({"model": "m", "choices": [{"message": message}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
}

/// Of the transcript's lines each is there, and once.
async fn check_transcript(host: &Host, run: &str) {
    let sessions = host.all(&format!("/workflow-runs/{run}/sessions"), "sessions").await;
    assert_eq!(sessions.len(), 1, "{sessions:#?}");
    assert_eq!((&sessions[0]["status"], &sessions[0]["usage"]["turns"]), (&json!("COMPLETED"), &json!(TURNS)));
    assert_eq!(sessions[0]["usage"]["inputTokens"], json!(7 * TURNS));
    let lines = transcript(host, run, sessions[0]["id"].as_str().unwrap()).await;
    let numbers: Vec<_> = lines.iter().map(|line| line["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=lines.len() as u64).collect::<Vec<_>>());
    let mut expected = vec!["session", "message system", "message user"];
    for _ in 1..TURNS {
        expected.extend(["answer assistant", "message tool"]);
    }
    expected.push("answer assistant");
    let said: Vec<String> = lines
        .iter()
        .map(|line| {
            format!("{} {}", line["type"].as_str().unwrap(), line["role"].as_str().unwrap_or("")).trim().to_owned()
        })
        .collect();
    assert_eq!(said, expected);
}

async fn transcript(host: &Host, run: &str, session: &str) -> Vec<Value> {
    let path = format!("/workflow-runs/{run}/sessions/{session}/logs");
    let answer = host.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()),
        (200, "application/jsonl")
    );
    answer.text().await.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Seeds 001 and 002: sessions belong to steps, have names, and their whole transcript can be had.
#[tokio::test]
async fn sessions_are_listed_shown_and_followed_by_api_and_command_line() {
    const FLOW: &str = "
id: both
states:
- {name: first, type: operation, action: agent.run, input: {agent: worker, task: one, session: '{{ name }}'}, next: second}
- {name: second, type: operation, action: agent.run, input: {agent: worker, task: \"two\\e[31m\"}, end: true}";
    let web = Web::answering(Duration::from_millis(20), model);
    let dir = tempfile::tempdir().unwrap();
    let host = setup(dir.path(), &web).start().await;
    host.save(FLOW).await;
    let run = host.start_run("both", json!({"name": "research"})).await;
    let stream = host.request(Method::GET, &format!("/workflow-runs/{run}/stream")).send().await.unwrap();
    let stream = stream.text().await.unwrap();
    assert!(stream.contains("event: workflow.agent.updated"), "{stream}");
    let ended = host.end(&run).await;
    assert_eq!((&ended["status"], &ended["counts"]["sessions"]), (&json!("COMPLETED"), &json!(2)));
    let steps = host.steps(&run).await;
    let of = |step: &Value| step["sessions"].as_array().unwrap().clone();
    assert_eq!((of(&steps[0]).len(), of(&steps[1]).len()), (1, 1));
    assert_eq!((&of(&steps[0])[0]["name"], &of(&steps[1])[0]["name"]), (&json!("research"), &json!("worker")));
    let session = of(&steps[1])[0]["id"].as_str().unwrap().to_owned();
    let (_, shown) = host.send(Method::GET, &format!("/workflow-runs/{run}/sessions/{session}"), None).await;
    assert_eq!((&shown["session"]["agent"], &shown["session"]["stepId"]), (&json!("worker"), &steps[1]["id"]));
    let lines = transcript(&host, &run, &session).await;
    assert_eq!(lines[2]["content"], json!("two\u{1b}[31m"));
    let said = |args: &[&str]| {
        let mut command = caisson(args);
        command.env("CAISSON_SERVER", &host.url).env("CAISSON_KEY", &host.key);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let list = said(&["sessions", "list", &run]);
    assert!(list.contains("research") && list.contains("COMPLETED") && list.contains(&session), "{list}");
    assert!(said(&["sessions", "show", &run, &session]).contains("10 turns, 70 tokens read, 30 written"));
    let logs = said(&["sessions", "logs", &run, &session]);
    assert!(!logs.contains('\u{1b}'), "{logs}");
    let read: Vec<Value> = logs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, lines);
    let download = format!("/workflow-runs/{run}/sessions/{session}/logs/download");
    let answer = host.request(Method::GET, &download).send().await.unwrap();
    assert!(answer.headers()["content-disposition"].to_str().unwrap().starts_with("attachment; filename=\"session-"));
    // A session is its run's: under another it is not there.
    let other = host.start_run("both", json!({"name": "x"})).await;
    for path in [
        format!("/workflow-runs/{other}/sessions/{session}"),
        format!("/workflow-runs/{other}/sessions/{session}/logs"),
    ] {
        assert_eq!(host.send(Method::GET, &path, None).await.0, 404, "{path}");
    }
}

/// A host with one agent, whose model answers from there.
fn setup(dir: &Path, web: &Web) -> Setup {
    let files = dir.join("environment");
    fs::create_dir_all(files.join("agents")).unwrap();
    fs::write(files.join("agents/worker.prompt"), "---\nmodel: fake/m\n---\nYou work.\n").unwrap();
    let models = format!("[providers.fake]\nkind = \"openai\"\nbaseUrl = \"{}\"\n", web.url("/v1"));
    fs::write(files.join("models.toml"), models).unwrap();
    Setup::new(dir).arg("--env", files.to_str().unwrap())
}

#[tokio::test]
async fn killed_in_the_middle_of_a_loop_no_recorded_turn_is_paid_again() {
    let (kills, seed) = (number("CAISSON_KILLS", 10), number("CAISSON_SEED", 20_261_127));
    println!("{kills} kills from seed {seed}");
    let (mut chance, web) = (Chance(seed), Web::answering(ANSWER_TIME, model));
    let dir = tempfile::tempdir().unwrap();
    let setup = setup(dir.path(), &web);
    let mut host = setup.start().await;
    host.save(WORKFLOW).await;
    let (mut killed, mut repeated, mut round) = (0, 0, 0);
    while killed < kills {
        round += 1;
        let task = format!("task {round}");
        let turns = || web.seen().iter().map(place).filter(|(of, _)| *of == task).map(|(_, at)| at).collect::<Vec<_>>();
        let run = host.start_run("ask", json!({"task": task})).await;
        // A run may be hit more than once.
        let hits = (1 + chance.below(3)).min(kills - killed);
        for _ in 0..hits {
            let more = usize::try_from(chance.below(TURNS as u64)).unwrap();
            let target = (turns().len() + more).min(TURNS);
            let deadline = Instant::now() + PATIENCE;
            while turns().len() < target {
                assert!(Instant::now() < deadline, "{:?} turns came of {target}", turns());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_micros(chance.below(15_000))).await;
            host.kill();
            host = setup.start().await;
        }
        killed += hits;
        let ended = host.end(&run).await;
        assert_eq!(ended["status"], "COMPLETED", "seed {seed}, round {round}: {ended:#}");
        assert_eq!(ended["output"], json!({"ok": true}), "seed {seed}, round {round}");
        let turns = turns();
        assert!(turns.is_sorted(), "seed {seed}, round {round}: a recorded turn was paid for again: {turns:?}");
        let extra = turns.len() - TURNS;
        assert!(extra as u64 <= hits, "seed {seed}, round {round}: {turns:?} after {hits} kills");
        repeated += extra;
        host.check_history(&run).await;
        check_transcript(&host, &run).await;
    }
    println!("{killed} kills in {round} runs of {TURNS} turns: {repeated} turns went out twice");
}
