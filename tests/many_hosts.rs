//! Several hosts on one PostgreSQL and one nats-server are one engine: whoever is asked, limits hold, decisions count, runs are moved, a
//! host that leaves leaves nothing behind, and what hosts die of is found and replayed.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use reqwest::Method;
use serde_json::{Value, json};
use support::cluster::Shared;
use support::{Host, PATIENCE, caisson};
use tokio::sync::watch;

/// Starts a run at a host: the status, the value of `retry-after`, the answer.
async fn start(host: &Host, workflow: &str, input: Value) -> (u16, Option<String>, Value) {
    let request = host.request(Method::POST, "/workflow-runs");
    let answer = request.json(&json!({"workflowId": workflow, "input": input})).send().await.unwrap();
    let retry = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), retry, answer.json().await.unwrap())
}

async fn started(host: &Host, workflow: &str, input: Value) -> String {
    let (status, _, answer) = start(host, workflow, input).await;
    assert_eq!(status, 201, "{answer}");
    answer["run"]["id"].as_str().unwrap().to_owned()
}

async fn until_status(host: &Host, run: &str, status: &str) {
    host.until(&format!("run {run} is {status}"), async || host.run(run).await["status"] == status).await;
}

async fn signal(host: &Host, run: &str) {
    host.post(&format!("/workflow-runs/{run}/signals"), json!({"name": "go", "payload": {}})).await;
}

fn cli(host: &Host, args: &[&str]) -> Value {
    let output = caisson(args).args(["--json", "--server", &host.url, "--key", &host.key]).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A web service: `/` answers when it is told to, `/now` at once.
struct Gate {
    port: u16,
    open: watch::Sender<bool>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    asked: AtomicUsize,
    waiting: AtomicUsize,
    asked_now: AtomicUsize,
}

impl Gate {
    async fn start() -> Self {
        let counts = Arc::new(Counts::default());
        let open = watch::Sender::new(false);
        let state = (counts.clone(), open.clone());
        let router = Router::new().route("/", get(answer)).route("/now", get(answer_now)).with_state(state);
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, open, counts }
    }

    fn asked(&self) -> usize {
        self.counts.asked.load(Ordering::SeqCst)
    }

    fn asked_now(&self) -> usize {
        self.counts.asked_now.load(Ordering::SeqCst)
    }

    fn waiting(&self) -> usize {
        self.counts.waiting.load(Ordering::SeqCst)
    }

    /// A workflow of three steps, whose second waits for this service.
    fn workflow(&self, id: &str) -> String {
        let call = |name: &str, path: &str, next: &str| {
            let input = json!({"url": format!("http://127.0.0.1:{}{path}", self.port)});
            json!({"name": name, "type": "operation", "action": "http.call", "input": input, "next": next})
        };
        let output = json!({"n": "{{ n }}", "body": "{{ steps.call.body }}"});
        let last = json!({"name": "last", "type": "operation", "action": "core.echo", "input": output, "end": true});
        json!({"id": id, "states": [call("first", "/now", "call"), call("call", "/", "last"), last]}).to_string()
    }

    /// Allows the plugin `http` to call it, by word to the first of these hosts, and waits until all have heard.
    async fn grant(&self, hosts: &[&Host]) {
        cli(hosts[0], &["plugin", "grant", "http", &format!("http:127.0.0.1:{}", self.port)]);
        let input = json!({"input": {"url": format!("http://127.0.0.1:{}/heard", self.port)}});
        for host in hosts {
            host.until("it has heard of the grant", async || {
                let (_, answer) =
                    host.send(Method::POST, "/plugins/http/actions/call/invoke", Some(input.clone())).await;
                !answer.to_string().contains("CAPABILITY_DENIED")
            })
            .await;
        }
    }
}

type Shown = State<(Arc<Counts>, watch::Sender<bool>)>;

async fn answer_now(State((counts, _)): Shown) -> Json<Value> {
    counts.asked_now.fetch_add(1, Ordering::SeqCst);
    Json(json!({"ok": true}))
}

async fn answer(State((counts, open)): Shown) -> Json<Value> {
    /// Dropped when the answer is out, or when the caller is gone.
    struct Waits(Arc<Counts>);
    impl Drop for Waits {
        fn drop(&mut self) {
            self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
    counts.asked.fetch_add(1, Ordering::SeqCst);
    counts.waiting.fetch_add(1, Ordering::SeqCst);
    let _waits = Waits(counts);
    open.subscribe().wait_for(|open| *open).await.unwrap();
    Json(json!({"ok": true}))
}

async fn limits_hold_over_all_hosts([a, b, c]: [&Host; 3]) {
    let workflow = |id: &str, policy: &str| {
        json!({
            "id": id,
            "concurrency": {"limit": 1, "key": "{{ k }}", "policy": policy},
            "states": [{"name": "s", "type": "signal", "signal": "go", "end": true}],
        })
        .to_string()
    };
    let input = || json!({"k": "x"});

    a.save(&workflow("refuses", "refuse")).await;
    let first = started(a, "refuses", input()).await;
    let (status, retry, refused) = start(b, "refuses", input()).await;
    assert_eq!((status, refused["error"]["code"].as_str()), (429, Some("CONCURRENCY_LIMIT")), "{refused}");
    assert!(retry.is_some_and(|seconds| seconds.parse::<u64>().is_ok()));
    let other = started(b, "refuses", json!({"k": "y"})).await;
    signal(c, &first).await;
    until_status(b, &first, "COMPLETED").await;
    let again = started(c, "refuses", input()).await;
    for run in [&other, &again] {
        signal(a, run).await;
        until_status(b, run, "COMPLETED").await;
    }

    b.save(&workflow("queues", "queue")).await;
    let queued =
        [started(a, "queues", input()).await, started(b, "queues", input()).await, started(c, "queues", input()).await];
    for (at, run) in queued.iter().enumerate() {
        until_status(c, run, "WAITING_SIGNAL").await;
        for later in &queued[at + 1..] {
            assert_eq!(b.run(later).await["status"], "PENDING");
        }
        signal(b, run).await;
        until_status(a, run, "COMPLETED").await;
    }

    c.save(&workflow("replaces", "cancel-oldest")).await;
    let old = started(a, "replaces", input()).await;
    until_status(b, &old, "WAITING_SIGNAL").await;
    let new = started(b, "replaces", input()).await;
    until_status(c, &old, "CANCELLED").await;
    until_status(a, &new, "WAITING_SIGNAL").await;
    signal(c, &new).await;
    until_status(a, &new, "COMPLETED").await;
}

async fn an_approval_is_decided_at_any_host([a, b, c]: [&Host; 3]) {
    let definition = json!({"id": "asks", "states": [{
        "name": "ask", "type": "operation", "action": "human.approval",
        "input": {"message": "sure?", "approvers": ["user:alice"]}, "end": true,
    }]});
    a.save(&definition.to_string()).await;
    let alice = cli(b, &["keys", "create", "alice", "--role", "approver"])["key"].as_str().unwrap().to_owned();
    for asked in [a, b, c] {
        let run = started(a, "asks", json!({})).await;
        until_status(b, &run, "WAITING_APPROVAL").await;
        let list = c.get(&format!("/workflow-runs/{run}/approvals")).await;
        let approval = list["approvals"][0]["id"].as_str().unwrap();
        let path = format!("/workflow-runs/{run}/approvals/{approval}/approve");
        assert_eq!(b.send(Method::POST, &path, Some(json!({}))).await.0, 403, "an administrator is nobody's approver");
        let request = asked.http.post(format!("{}/api/v1{path}", asked.url)).bearer_auth(&alice);
        assert_eq!(request.json(&json!({"comment": "yes"})).send().await.unwrap().status(), 200);
        assert_eq!(a.end(&run).await["status"], "COMPLETED");
        let list = b.get(&format!("/workflow-runs/{run}/approvals")).await;
        assert_eq!(list["approvals"][0]["decidedBy"], "alice");
    }
}

async fn runs_are_moved_from_any_host(hosts: [&Host; 3]) {
    let gate = Gate::start().await;
    gate.grant(&hosts).await;
    hosts[0].save(&gate.workflow("moved")).await;
    // Whoever works on a run, two of three requests come from elsewhere.
    let mut runs = Vec::new();
    for host in hosts {
        runs.push(started(host, "moved", json!({"n": 1})).await);
    }
    hosts[0].until("all call", async || gate.waiting() == 3).await;
    let act = async |what: &str, run: &str, host: &Host| {
        host.post(&format!("/workflow-runs/{run}/{what}"), json!({})).await;
    };
    // A pause lets what runs end and begins nothing.
    for (run, host) in runs.iter().zip([hosts[1], hosts[1], hosts[1]]) {
        act("pause", run, host).await;
        until_status(hosts[2], run, "PAUSED").await;
    }
    gate.open.send_replace(true);
    for run in &runs {
        let called = async || {
            let steps = hosts[2].steps(run).await;
            steps.iter().any(|step| step["state"] == "call" && step["status"] == "SUCCEEDED")
        };
        hosts[2].until("the call's result is taken", called).await;
        assert_eq!(hosts[0].run(run).await["status"], "PAUSED");
        assert!(hosts[0].steps(run).await.iter().all(|step| step["state"] != "last" || step["status"] == "PENDING"));
        act("resume", run, hosts[2]).await;
        let ended = hosts[0].end(run).await;
        assert_eq!((&ended["status"], &ended["output"]), (&json!("COMPLETED"), &json!({"n": 1, "body": {"ok": true}})));
    }
    assert_eq!(gate.asked(), 3);

    // A cancellation ends the call at once, wherever it is.
    gate.open.send_replace(false);
    let mut runs = Vec::new();
    for host in hosts {
        runs.push(started(host, "moved", json!({"n": 2})).await);
    }
    hosts[0].until("all call", async || gate.waiting() == 3).await;
    for run in &runs {
        act("cancel", run, hosts[2]).await;
        until_status(hosts[0], run, "CANCELLED").await;
    }
    hosts[0].until("nobody calls any more", async || gate.waiting() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hosts_are_one_engine() {
    let shared = Shared::start();
    let [a, b, c] = shared.hosts().await;
    limits_hold_over_all_hosts([&a, &b, &c]).await;
    an_approval_is_decided_at_any_host([&a, &b, &c]).await;
    runs_are_moved_from_any_host([&a, &b, &c]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_told_to_stop_loses_nothing_and_others_go_on() {
    let shared = Shared::start();
    let [a, b, leaving] = shared.hosts().await;
    let nap = |name: &str, next: &str| json!({"name": name, "type": "operation", "action": "core.sleep", "input": {"ms": 20}, "next": next});
    let echo = json!({"name": "d", "type": "operation", "action": "core.echo", "input": {"n": "{{ n }}"}, "end": true});
    let definition = json!({"id": "naps", "states": [nap("a", "b"), nap("b", "c"), nap("c", "d"), echo]});
    a.save(&definition.to_string()).await;
    let mut runs = Vec::new();
    for n in 0..60 {
        let host = [&a, &b, &leaving][n % 3];
        runs.push(started(host, "naps", json!({"n": n})).await);
    }
    leaving.terminate();
    let exited = tokio::task::spawn_blocking(|| leaving.exit_code()).await.unwrap();
    assert_eq!(exited, Some(0));
    for (n, run) in runs.iter().enumerate() {
        let ended = b.end(run).await;
        assert_eq!((&ended["status"], &ended["output"]), (&json!("COMPLETED"), &json!({"n": n})), "{ended:#}");
        b.check_history(run).await;
        let lost = a.events(run).await.iter().filter(|event| &*event.kind == "step.lost").count();
        assert_eq!(lost, 0, "run {run}: a step that could have ended was broken off");
    }
    let hosts = a.get("/hosts").await;
    let alive = hosts["hosts"].as_array().unwrap().iter().filter(|host| host["alive"] == true).count();
    assert_eq!(alive, 2, "{hosts:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_five_hosts_die_with_is_found_dead_and_replayed() {
    let shared = Shared::start();
    // Short: five leases pass.
    let setup = |number| shared.setup(number).arg("--lease-seconds", "2");
    let gate = Gate::start().await;
    let mut holder = setup(0).start().await;
    gate.grant(&[&holder]).await;
    holder.save(&gate.workflow("deadly")).await;
    let run = started(&holder, "deadly", json!({"n": 7})).await;
    for deaths in 1..=5 {
        holder.until("the host calls", async || gate.asked() == deaths).await;
        // Two at a time, so that it is certain who takes over.
        let next = setup(deaths % 2).start().await;
        holder.kill();
        holder = next;
    }
    let ended = holder.end(&run).await;
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("FAILED"), &json!("STEP_LOST")), "{ended:#}");
    assert_eq!(gate.asked(), 5);

    let other = setup(2).start().await;
    let list = cli(&other, &["dead", "list"]);
    let dead = &list["dead"].as_array().unwrap()[..];
    let [dead] = dead else { panic!("{list:#}") };
    assert_eq!((&dead["runId"], &dead["state"], &dead["claims"]), (&json!(run), &json!("call"), &json!(5)));
    let step = dead["stepId"].as_str().unwrap();
    let shown = cli(&other, &["dead", "show", &run, step]);
    assert_eq!((&shown["step"]["error"]["code"], &shown["step"]["status"]), (&json!("STEP_LOST"), &json!("FAILED")));

    gate.open.send_replace(true);
    let replayed = cli(&other, &["dead", "replay", &run, step]);
    assert_eq!(replayed["run"]["forkedFrom"], json!(run));
    let replayed = replayed["run"]["id"].as_str().unwrap();
    let ended = holder.end(replayed).await;
    assert_eq!((&ended["status"], &ended["output"]), (&json!("COMPLETED"), &json!({"n": 7, "body": {"ok": true}})));
    assert_eq!((gate.asked(), gate.asked_now()), (6, 1), "what had succeeded is used again");
    assert_eq!(holder.run(&run).await["status"], "FAILED", "an ended run does not move");
}

/// A watched run whose agent works between two signals, at whichever host.
const WATCHED: &str = "
id: watched
states:
- {name: begin, type: signal, signal: begin, next: say}
- {name: say, type: operation, action: script.run, input: {source: 'print(\"on my way\")'}, next: work}
- {name: work, type: operation, action: agent.run, input: {agent: worker, task: go, session: research}, next: finish}
- {name: finish, type: signal, signal: finish, end: true}";

/// Reads a stream until an agent has its answer and a script has spoken, which may come in any order; what was read.
async fn agent_ends(stream: &mut reqwest::Response) -> String {
    let mut text = String::new();
    let reading = async {
        loop {
            let ended = |line: &str| {
                let live: Option<Value> = line.strip_prefix("data: ").and_then(|data| serde_json::from_str(data).ok());
                live.is_some_and(|live| live["type"] == "agent.updated" && live["status"] == "COMPLETED")
            };
            if text.lines().any(ended) && text.contains("on my way") {
                return;
            }
            let chunk = stream.chunk().await.unwrap().expect("the stream goes on");
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    let found = tokio::time::timeout(PATIENCE, reading).await;
    assert!(found.is_ok(), "no agent ends in {text}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_watches_at_another_host_sees_how_agents_go_on_and_what_guests_write() {
    let shared = Shared::start();
    let files = shared.dir.path().join("environment");
    std::fs::create_dir_all(files.join("agents")).unwrap();
    std::fs::write(files.join("agents/worker.prompt"), "---\nmodel: scripted/m\n---\nYou work.\n").unwrap();
    std::fs::write(files.join("models.toml"), "[providers.scripted]\nkind = \"scripted\"\nscript = \"a.json\"\n")
        .unwrap();
    std::fs::write(files.join("a.json"), r#"{"agents": {"*": [{"reply": {"found": 1}}]}}"#).unwrap();
    let start = async |number| shared.setup(number).arg("--env", files.to_str().unwrap()).start().await;
    let hosts = [start(0).await, start(1).await];
    hosts[0].save(WATCHED).await;
    // Whichever host takes the step, the other one has it from somewhere else.
    let run = hosts[0].start_run("watched", json!({})).await;
    let path = format!("/workflow-runs/{run}/stream");
    let mut streams = Vec::new();
    for host in &hosts {
        streams.push(host.request(Method::GET, &path).send().await.unwrap());
    }
    hosts[0].post(&format!("/workflow-runs/{run}/signals"), json!({"name": "begin"})).await;
    for stream in &mut streams {
        let seen = agent_ends(stream).await;
        assert!(seen.contains("event: workflow.agent.updated") && seen.contains("\"name\":\"research\""), "{seen}");
        assert!(seen.contains("event: workflow.step.log"), "{seen}");
    }
    hosts[1].post(&format!("/workflow-runs/{run}/signals"), json!({"name": "finish"})).await;
    assert_eq!(hosts[1].end(&run).await["status"], "COMPLETED");
}
