//! The process is killed with SIGKILL in the middle of steps that make ten counted HTTP calls. Whatever the moment: a call that was recorded is not
//! sent again, the one that was under way goes out once more with the same idempotency key, and small state and business events count once.
//!
//! `CAISSON_KILLS` says how many kills (CI: what fits in a minute), `CAISSON_SEED` where they fall. The full count:
//! `CAISSON_KILLS=100 cargo test -p caisson --test journal -- --nocapture`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "support/guests.rs"]
mod guests;
mod support;
#[path = "support/web.rs"]
mod web;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use guests::{component, script};
use reqwest::Method;
use serde_json::{Value, json};
use support::{Chance, Host, PATIENCE, Setup};
use web::Web;

/// Every answer takes so long: most kills find a call under way.
const ANSWER_TIME: Duration = Duration::from_millis(10);

/// Calls of each of the two steps.
const CALLS: usize = 10;

const TALLY: &str = r#"
id = "tally"
version = "1.0.0"
wit = "1.0.0"
engine = "javascript"
capabilities = ["http", "kv", "events"]
[[actions]]
name = "ten"
"#;

/// Everything that counts, ten times.
const TALLY_JS: &str = "
export function ten(input) {
  for (let at = 0; at < 10; at++) {
    caisson.http.send({ url: input.url, json: at });
    caisson.kv.set('count', (caisson.kv.get('count') ?? 0) + 1);
    caisson.events.emit('tick', { at });
  }
  return { count: caisson.kv.get('count'), random: Math.random(), now: Date.now() };
}";

const WORKFLOW: &str = "
id: ten
states:
- {name: plain, type: operation, action: hostile.http_ten, input: {url: '{{ plain }}'}, next: mixed}
- {name: mixed, type: operation, action: tally.ten, input: {url: '{{ mixed }}'}, end: true}";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

async fn install(host: &Host, grants: &str, bytes: Vec<u8>) -> String {
    let request = host.request(Method::POST, &format!("/plugins?grants={grants}"));
    let answer = request.header("content-type", "application/wasm").body(bytes).send().await.unwrap();
    let (status, body) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let id = body["plugin"]["id"].as_str().unwrap().to_owned();
    host.until("it is compiled", async || host.get(&format!("/plugins/{id}")).await["plugin"]["status"] == "ACTIVE")
        .await;
    id
}

#[tokio::test]
async fn killed_in_the_middle_of_a_step_no_recorded_call_is_sent_again() {
    let (kills, seed) = (number("CAISSON_KILLS", 10), number("CAISSON_SEED", 20_261_121));
    println!("{kills} kills from seed {seed}");
    let (mut chance, web) = (Chance(seed), Web::start(ANSWER_TIME));
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path());
    let mut host = setup.start().await;
    install(&host, &web.grant(), component("hostile")).await;
    install(&host, &format!("{},kv,events", web.grant()), script(TALLY, TALLY_JS)).await;
    host.save(WORKFLOW).await;
    let (mut killed, mut repeated, mut round) = (0, 0, 0);
    while killed < kills {
        round += 1;
        let paths = ["plain", "mixed"].map(|step| format!("/{round}/{step}"));
        let run = host.start_run("ten", json!({"plain": web.url(&paths[0]), "mixed": web.url(&paths[1])})).await;
        // A run may be hit more than once.
        let hits = (1 + chance.below(3)).min(kills - killed);
        for _ in 0..hits {
            let more = usize::try_from(chance.below(2 * CALLS as u64)).unwrap();
            let pause = Duration::from_micros(chance.below(15_000));
            wait_for_calls(&web, &paths, more, pause).await;
            host.kill();
            host = setup.start().await;
        }
        killed += hits;
        let ended = host.end(&run).await;
        assert_eq!(ended["status"], "COMPLETED", "seed {seed}, round {round}: {ended:#}");
        assert_eq!(ended["output"]["count"], json!(round * CALLS), "seed {seed}, round {round}: small state");
        check_events(&host, &run).await;
        let extra: usize = paths.iter().map(|path| check_calls(&web, path)).sum();
        assert!(extra as u64 <= hits, "seed {seed}, round {round}: {extra} calls more after {hits} kills");
        repeated += extra;
        host.check_history(&run).await;
    }
    println!("{killed} kills in {round} runs of {} calls: {repeated} calls went out twice, with their key", 2 * CALLS);
}

/// Until the run has made that many calls more, or all of them, and a moment longer.
async fn wait_for_calls(web: &Web, paths: &[String; 2], more: usize, pause: Duration) {
    let count = || web.seen().iter().filter(|seen| paths.contains(&seen.path)).count();
    let target = (count() + more).min(2 * CALLS);
    let deadline = Instant::now() + PATIENCE;
    while count() < target {
        assert!(Instant::now() < deadline, "{} calls came of {target}", count());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(pause).await;
}

/// How many calls went out twice. All were made, in order, each under a key of its own.
fn check_calls(web: &Web, path: &str) -> usize {
    let seen: Vec<_> = web.seen().into_iter().filter(|seen| seen.path == path).collect();
    let order: Vec<usize> = seen.iter().map(|seen| seen.body.parse().unwrap()).collect();
    assert!(order.is_sorted(), "{path}: a recorded call was sent again: {order:?}");
    let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
    for call in &seen {
        let key = call.header("idempotency-key").unwrap_or_else(|| panic!("{path}: a call has no key"));
        let before = keys.insert(key, &call.body);
        assert!(before.is_none_or(|body| body == call.body), "{path}: two calls under one key");
    }
    assert_eq!(keys.len(), CALLS, "{path}: calls {order:?} under {} keys", keys.len());
    seen.len() - CALLS
}

/// Each was emitted once.
async fn check_events(host: &Host, run: &str) {
    let listed = host.get(&format!("/events?run={run}&name=tick&limit=100")).await;
    let mut ticks: Vec<u64> =
        listed["events"].as_array().unwrap().iter().map(|event| event["payload"]["at"].as_u64().unwrap()).collect();
    ticks.sort_unstable();
    assert_eq!(ticks, (0..CALLS as u64).collect::<Vec<_>>(), "run {run}: business events");
}
