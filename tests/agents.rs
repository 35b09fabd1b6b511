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
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Chance, PATIENCE, Setup};
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

#[tokio::test]
async fn killed_in_the_middle_of_a_loop_no_recorded_turn_is_paid_again() {
    let (kills, seed) = (number("CAISSON_KILLS", 10), number("CAISSON_SEED", 20_261_127));
    println!("{kills} kills from seed {seed}");
    let (mut chance, web) = (Chance(seed), Web::answering(ANSWER_TIME, model));
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("environment");
    fs::create_dir_all(files.join("agents")).unwrap();
    fs::write(files.join("agents/worker.prompt"), "---\nmodel: fake/m\n---\nYou work.\n").unwrap();
    let models = format!("[providers.fake]\nkind = \"openai\"\nbaseUrl = \"{}\"\n", web.url("/v1"));
    fs::write(files.join("models.toml"), models).unwrap();
    let setup = Setup::new(dir.path()).arg("--env", files.to_str().unwrap());
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
    }
    println!("{killed} kills in {round} runs of {TURNS} turns: {repeated} turns went out twice");
}
