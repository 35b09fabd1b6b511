//! The process is killed with SIGKILL in the middle of everything, again and again. Whatever the moment: every run ends as it would have,
//! no succeeded step runs again, no event is missing, the chain verifies, and work goes on at once.
//!
//! `CAISSON_KILLS` says how many kills (CI: what fits in a minute), `CAISSON_SEED` where they fall. The full count:
//! `CAISSON_KILLS=200 cargo test -p caisson --test crash -- --nocapture`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Chance, Host, Setup};

const WORKFLOW: &str = "
id: storm
start: spread
states:
- name: spread
  type: parallel
  branches:
  - name: items
    states:
    - name: each
      type: foreach
      itemsPath: list
      maxConcurrency: 3
      iterator:
        states:
        - {name: item, type: operation, action: core.echo, input: {at: '{{ _index }}', value: '{{ item }}'}, resultPath: result, end: true}
      resultPath: each
      end: true
  - name: flaky
    states:
    - name: again
      type: operation
      action: core.fail
      input: {attempts: 2, category: TransientError, code: NOT_YET}
      retry: {maxAttempts: 3, backoffSeconds: 0.05, jitter: 0.5}
      resultPath: again
      end: true
  - name: patient
    states:
    - {name: pause, type: wait, duration: 100ms, next: nap}
    - {name: nap, type: operation, action: core.sleep, input: {ms: 50}, next: script}
    - {name: script, type: operation, action: script.run, input: {source: 'context.idempotency_key'}, resultPath: key, end: true}
  next: ask
- {name: ask, type: operation, action: human.approval, input: {message: 'Go on with {{ steps.spread.items.each[0].result.value }}?'}, next: last}
- {name: last, type: transform, expression: 'len(steps.spread.items.each)', resultPath: count, next: done}
- {name: done, type: operation, action: core.echo, input: {count: '{{ count }}', items: '{{ steps.spread.items.each }}'}, end: true}";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn list(seed: u64) -> Vec<u64> {
    (0..8).map(|at| seed * 100 + at).collect()
}

fn expected(seed: u64) -> Value {
    let items: Vec<Value> =
        list(seed).iter().enumerate().map(|(at, v)| json!({"result": {"at": at, "value": v}})).collect();
    json!({"count": items.len(), "items": items})
}

#[tokio::test]
async fn killed_at_any_moment_every_run_ends_as_it_would_have() {
    let (kills, seed) = (number("CAISSON_KILLS", 60), number("CAISSON_SEED", 20_261_121));
    println!("{kills} kills from seed {seed}");
    let mut chance = Chance(seed);
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path());
    let mut host = setup.start().await;
    host.save(WORKFLOW).await;
    let mut runs: Vec<(u64, String)> = Vec::new();
    let mut slowest = Duration::ZERO;
    for round in 0..kills {
        // A run that is under way may be hit again by a later kill; each starts with a fresh one.
        runs.push((round, host.start_run("storm", json!({"list": list(round)})).await));
        let moment = Instant::now() + Duration::from_millis(chance.below(450));
        while Instant::now() < moment {
            host.approve_all().await;
        }
        host.kill();
        let killed = Instant::now();
        host = setup.start().await;
        slowest = slowest.max(first_progress(&host, &runs, killed).await);
    }
    println!("work went on at most {} ms after a kill, start of the process included", slowest.as_millis());
    for (round, run) in &runs {
        let ended = finish(&host, run).await;
        assert_eq!(ended["status"], "COMPLETED", "seed {seed}, run {round}: {ended:#}");
        assert_eq!(ended["output"], expected(*round), "seed {seed}, run {round}");
        host.check_history(run).await;
        check_keys(&host, run).await;
    }
    assert!(slowest < Duration::from_secs(3), "work went on only after {slowest:?}");
}

/// Waits until something has moved in a run since the start, or nothing in them can move by itself.
async fn first_progress(host: &Host, runs: &[(u64, String)], killed: Instant) -> Duration {
    let mut seen = Vec::new();
    for (_, run) in runs.iter().rev().take(3) {
        let shown = host.run(run).await;
        seen.push((run, shown["status"].clone()));
    }
    // The newest run was in the middle: it has ended, waits for a human or a timer, or its events grow.
    let (run, _) = seen[0];
    let before = host.events(run).await.len();
    host.until("work goes on", async || {
        let status = host.run(run).await["status"].clone();
        status != "RUNNING" || host.events(run).await.len() > before
    })
    .await;
    killed.elapsed()
}

async fn finish(host: &Host, run: &str) -> Value {
    let deadline = Instant::now() + support::PATIENCE;
    loop {
        host.approve_all().await;
        let shown = host.get(&format!("/workflow-runs/{run}?waitMs=100")).await["run"].clone();
        if shown["completedAt"].is_string() {
            return shown;
        }
        assert!(Instant::now() < deadline, "run does not end: {shown:#}");
    }
}

/// The guest saw the key of its step, however often the step was taken up again.
async fn check_keys(host: &Host, run: &str) {
    let steps = host.steps(run).await;
    let script = steps.iter().find(|step| step["state"] == "script").unwrap();
    let id = script["id"].as_str().unwrap();
    let full = host.get(&format!("/workflow-runs/{run}/steps/{id}")).await;
    assert_eq!(full["step"]["output"], json!(format!("{run}:{id}")));
}
