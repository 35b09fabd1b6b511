//! From nothing to a running step, with the commands of docs/plugins.md and nothing else, in each language that has a template.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Host, cache_dir, caisson};

/// A first build fetches a toolchain's packages.
const TOOLS_PATIENCE: Duration = Duration::from_mins(5);

/// What tools keep between test runs, so that only the first one waits for a registry.
fn kept(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("authoring").join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Compiled code, shared with the hosts of all tests: the JavaScript engine takes its time once.
fn compiled() -> PathBuf {
    let base = kept("cache");
    let _ = fs::create_dir_all(cache_dir());
    // There from an earlier run, or made by another test at this moment.
    let _ = std::os::unix::fs::symlink(cache_dir(), base.join("caisson"));
    base
}

/// A command of an author's, in a folder.
fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = caisson(args);
    command
        .current_dir(dir)
        .env("XDG_CACHE_HOME", compiled())
        .env("CARGO_TARGET_DIR", kept("cargo"))
        .env("npm_config_cache", kept("npm"))
        .env("npm_config_update_notifier", "false")
        .env("PIP_CACHE_DIR", kept("pip"))
        .stdin(Stdio::null());
    // Flags for this workspace are not a plugin's.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER"] {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end, prints how long it took, and ends it if it hangs.
fn play(dir: &Path, args: &[&str]) -> Output {
    let began = Instant::now();
    let mut child = command(dir, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (said, heard) = mpsc::channel();
    let mut out = child.stdout.take().unwrap();
    let mut err = child.stderr.take().unwrap();
    let reader = said.clone();
    std::thread::spawn(move || reader.send((true, std::io::read_to_string(&mut out).unwrap_or_default())));
    std::thread::spawn(move || said.send((false, std::io::read_to_string(&mut err).unwrap_or_default())));
    let (mut stdout, mut stderr) = (String::new(), String::new());
    for _ in 0..2 {
        match heard.recv_timeout(TOOLS_PATIENCE.saturating_sub(began.elapsed())) {
            Ok((true, text)) => stdout = text,
            Ok((false, text)) => stderr = text,
            Err(_) => {
                child.kill().unwrap();
                panic!("`caisson {}` did not end within {TOOLS_PATIENCE:?}", args.join(" "));
            }
        }
    }
    let status = child.wait().unwrap();
    println!("{:>6} ms  caisson {}", began.elapsed().as_millis(), args.join(" "));
    Output { status, stdout: stdout.into_bytes(), stderr: stderr.into_bytes() }
}

#[track_caller]
fn well(dir: &Path, args: &[&str]) -> String {
    let output = play(dir, args);
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "`caisson {}`\n{out}\n{err}", args.join(" "));
    out
}

#[track_caller]
fn fails(dir: &Path, args: &[&str], code: i32) -> String {
    let output = play(dir, args);
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(code), "`caisson {}`\n{out}\n{err}", args.join(" "));
    format!("{out}\n{err}")
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// new → build → inspect → run → test: what docs/plugins.md promises of every template.
fn walk_through(language: &str, imports_max: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let said = well(dir, &["plugin", "new", "greeter", "--lang", language]);
    let hints: Vec<&str> = said.lines().filter(|line| line.trim_start().starts_with("caisson plugin ")).collect();
    assert_eq!(hints.len(), 2, "{said}");
    fails(dir, &["plugin", "new", "greeter", "--lang", language], 1);

    let built = well(dir, &["plugin", "build", "greeter"]);
    assert!(built.contains("greeter.wasm"), "{built}");
    let inspected = parsed(&well(dir, &["plugin", "inspect", "greeter/dist/greeter.wasm", "--json"]));
    let plugin = &inspected["plugin"];
    assert_eq!(plugin["id"], "greeter");
    assert_eq!(plugin["digest"].as_str().map(str::len), Some(64));
    assert!(plugin["actions"][0]["inputSchema"].is_object(), "the first action says what it takes: {plugin}");
    for import in plugin["imports"].as_array().unwrap() {
        let import = import.as_str().unwrap();
        let asked = import.strip_prefix("caisson:step/").and_then(|rest| rest.split('@').next());
        let fine = asked
            .is_none_or(|name| ["types", "capability", "log", "assets"].contains(&name) || imports_max.contains(&name));
        assert!(fine, "{language} imports {import} and asks for {}", inspected["permissions"]);
    }

    let input = r#"{"name": "Ada"}"#;
    let action = plugin["actions"][0]["name"].as_str().unwrap();
    let ran = well(dir, &["plugin", "run", action, "greeter", "--input", input]);
    assert!(ran.contains("Ada"), "{ran}");
    let refused = fails(dir, &["plugin", "run", action, "greeter", "--input", r#"{"name": 7}"#], 1);
    assert!(refused.contains("SCHEMA_VALIDATION_INPUT"), "{refused}");
    fails(dir, &["plugin", "run", "no-such-action", "greeter"], 1);

    let tested = well(dir, &["plugin", "test", "greeter"]);
    assert!(tested.contains(", 0 failed") && tested.contains("fuel") && tested.contains("CPU"), "{tested}");
    well(dir, &["plugin", "test", "greeter", "--replay"]);
}

#[test]
fn rust_from_nothing_to_a_tested_plugin() {
    walk_through("rust", &[]);
}

#[test]
fn javascript_without_a_toolchain_from_nothing_to_a_tested_plugin() {
    walk_through("javascript", &[]);
}

#[test]
fn javascript_from_nothing_to_a_tested_plugin() {
    walk_through("js", &[]);
}

#[test]
fn typescript_from_nothing_to_a_tested_plugin() {
    walk_through("ts", &[]);
}

#[test]
fn python_from_nothing_to_a_tested_plugin() {
    walk_through("python", &[]);
}

const MANIFEST: &str = r#"
id = "workshop"
version = "1.0.0"
wit = "1.0.0"
engine = "javascript"
capabilities = ["http:api.example.com", "secrets:TOKEN", "kv", "events", "artifacts", "approval", "model", "tools:git.log"]

[[actions]]
name = "order"
input = '{"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]}'

[[actions]]
name = "ship"

[[actions]]
name = "ask"

[[actions]]
name = "look"
"#;

const SCRIPT: &str = r#"
export function order(input, context) {
  if (context.resumed) {
    const { state, wake } = context.resumed;
    if (wake.type === "timer") throw new caisson.Failure({ code: "NOT_PAID", message: "nobody paid in time", retry: "never" });
    caisson.events.emit("order.paid", { amount: wake.payload.amount }, state.id);
    caisson.artifacts.put("receipt.txt", `paid ${wake.payload.amount}`, "text/plain");
    return { id: state.id, count: state.count, waitedMs: Date.now() - state.at };
  }
  const at = Date.now();
  const token = caisson.secrets.get("TOKEN");
  const answer = caisson.http.send({
    url: "https://api.example.com/orders", method: "POST",
    headers: { authorization: `Bearer ${token}` }, json: { item: input.item },
  });
  if (answer.status === 429) {
    throw new caisson.Failure({ code: "RATE_LIMITED", category: "transient", message: "slow down", retry: { afterMs: 1000 } });
  }
  const count = (caisson.kv.get("count") ?? 0) + 1;
  caisson.kv.set("count", count);
  caisson.log.info("ordered", { id: answer.json().id, token });
  return caisson.suspend({ state: { id: answer.json().id, count, at }, signals: ["paid"], wakeAfterMs: 3600000 });
}

export function ship(input, context) {
  if (!context.resumed) return caisson.suspend({ approval: { message: `Ship ${input.item}?`, approvers: ["team:store"], deadlineMs: 60000 } });
  const { verdict, actor } = context.resumed.wake;
  return { verdict, actor };
}

export function look(input) {
  const names = caisson.tools.list().map((tool) => tool.name);
  try {
    return { names, said: input.numbers.map((n) => caisson.tools.call("git.log", { n, all: true })) };
  } catch (error) {
    return { names, refused: error.code, why: error.message };
  }
}

export function ask(input) {
  return caisson.model.complete({ agent: "clerk", task: input.question }).content;
}
"#;

const CASES: &str = r#"
action: order
input: {item: lamp}
secrets: {TOKEN: sesame-sesame}
cases:
  - name: is paid
    kv: {count: 41}
    http:
      - request: {method: POST, url: https://api.example.com/orders, headers: {authorization: Bearer sesame-sesame}, json: {item: lamp}}
        response: {status: 201, json: {id: o-7}}
    wakes:
      - suspended: {signals: [paid], wakeAfterMs: 3600000, state: {id: o-7}}
        signal: {name: paid, payload: {amount: 3}, actor: alice}
        afterMs: 5000
    expect:
      doneContains: {id: o-7, count: 42}
      logs: [ordered]
      kv: {count: 42}
      events: [{name: order.paid, correlationKey: o-7, payload: {amount: 3}}]
      artifacts: [{name: receipt.txt, mimeType: text/plain, body: paid 3}]
      elapsedMs: 5000
  - name: is never paid
    http: [{response: {json: {id: o-8}}}]
    wakes: [{timer: {}}]
    expect: {failure: {code: NOT_PAID, retry: never}, events: [], elapsedMs: 3600000}
  - name: is too many
    http: [{request: {url: "https://api.example.com/*"}, response: {status: 429}}]
    expect: {failure: {code: RATE_LIMITED, category: TransientError, message: slow, retry: {afterMs: 1000}}, kv: {count: null}}
  - name: has no answer
    http: [{error: timeout}]
    expect: {failure: {category: TimeoutError}}
  - name: is granted nothing
    grants: []
    expect: {failure: {code: CAPABILITY_DENIED, message: caisson plugin grant workshop secrets}}
  - name: is shipped
    action: ship
    wakes:
      - suspended: {approval: {message: Ship lamp?, approvers: ["team:store"]}}
        approve: {actor: bob}
    expect: {done: {verdict: approved, actor: bob}}
  - name: is shipped by nobody
    action: ship
    wakes: [{timedOut: {}}]
    expect: {doneContains: {verdict: timed-out}, elapsedMs: 60000}
  - name: is left waiting
    action: ship
    expect: {suspend: {approval: {deadlineMs: 60000}}}
  - name: asks a model
    action: ask
    input: {question: which lamp}
    models: {clerk: [{match: lamp, reply: the green one}]}
    expect: {done: the green one}
  - name: looks with a tool
    action: look
    input: {numbers: [1, 2, 2]}
    tools:
      - {request: {tool: git.log, arguments: {n: 1, all: true}}, response: one commit}
      - {request: {tool: git.log, argumentsContain: {n: 2}}, response: {structured: [1, 2]}, times: 2}
    expect: {done: {names: [git.log], said: [one commit, {structured: [1, 2]}, {structured: [1, 2]}]}}
  - name: looks with a tool that fails
    action: look
    input: {numbers: [1]}
    tools: [{request: {tool: git.log}, error: {failed: no such branch}}, {request: {tool: git.push}, response: x, times: any}]
    expect: {done: {names: [git.log], refused: CAPABILITY_FAILED, why: no such branch}}
  - name: looks with a tool that nobody granted
    action: look
    grants: []
    input: {numbers: [1]}
    expect: {failure: {code: CAPABILITY_DENIED}}
"#;

const WRONG: &str = r"
action: order
input: {item: lamp}
secrets: {TOKEN: sesame-sesame}
cases:
  - name: another address
    http: [{request: {url: https://api.example.com/carts}, response: {}}]
    expect: {failure: {}}
  - name: another end
    http: [{response: {json: {id: o-9}}}]
    expect: {done: {id: o-9}}
  - name: another value
    http: [{response: {json: {id: o-9}}}]
    wakes: [{signal: {name: paid, payload: {amount: 3}}}]
    expect: {doneContains: {id: o-10}, kv: {count: 2}, logs: [sold], events: [], artifacts: []}
  - name: another signal
    http: [{response: {json: {id: o-9}}}]
    wakes: [{signal: {name: sold}}]
    expect: {suspend: {}}
  - name: another call
    action: look
    input: {numbers: [1]}
    tools: [{request: {tool: git.log, arguments: {n: 2, all: true}}, response: x}]
    expect: {doneContains: {refused: CAPABILITY_FAILED}}
";

fn workshop() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("tests")).unwrap();
    for (name, text) in [("caisson-plugin.toml", MANIFEST), ("plugin.js", SCRIPT), ("tests/order.test.yaml", CASES)] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

#[test]
fn cases_play_the_world_around_a_plugin() {
    let dir = workshop();
    let said = well(dir.path(), &["plugin", "test"]);
    assert!(said.contains("12 passed, 0 failed"), "{said}");
    well(dir.path(), &["plugin", "test", "--replay"]);
    let one = well(dir.path(), &["plugin", "test", "--filter", "never", "--json"]);
    let one = parsed(&one);
    assert_eq!((&one["passed"], &one["entries"]), (&json!(true), &json!(2)));
    assert!(one["fuel"].as_u64() > Some(0) && one["usage"]["peakMemoryBytes"].as_u64() > Some(0), "{one}");
    fails(dir.path(), &["plugin", "test", "--filter", "nothing of that name"], 1);
}

#[test]
fn a_case_that_fails_says_what_differs() {
    let dir = workshop();
    fs::write(dir.path().join("tests/order.test.yaml"), WRONG).unwrap();
    let said = fails(dir.path(), &["plugin", "test"], 1);
    for words in [
        "0 passed, 5 failed",
        "POST https://api.example.com/orders was sent, but it fits no exchange",
        "expected \"https://api.example.com/carts\"",
        "was not sent",
        "expected a result, got {\"suspend\"",
        "doneContains.id: expected \"o-10\", got \"o-9\"",
        "kv.count: expected 2, got 1",
        "no line has \"sold\"",
        "events: expected [], got [\"order.paid\"]",
        "artifacts: expected [], got [\"receipt.txt\"]",
        "does not wait for the signal 'sold' (it waits for paid)",
        "git.log {\"n\":1,\"all\":true} was called, but it fits no exchange; tools[0] comes nearest: arguments.n: expected 2",
        "tools[0]: git.log was not called",
        "[secret:TOKEN]",
    ] {
        assert!(said.contains(words), "nothing of '{words}' in:\n{said}");
    }
    assert!(!said.contains("sesame"), "a secret is shown:\n{said}");
    fs::write(dir.path().join("tests/order.test.yaml"), "action: order\nexpect: {don: 1}").unwrap();
    let said = fails(dir.path(), &["plugin", "test"], 1);
    assert!(said.contains("order.test.yaml") && said.contains("don"), "{said}");
}

#[test]
fn a_suspended_step_is_woken_from_the_command_line() {
    let dir = workshop();
    let run = ["plugin", "run", "ship", "--input", r#"{"item": "lamp"}"#, "--json"];
    let with = |more: &[&'static str]| [&run[..], more].concat();
    let waits = parsed(&well(dir.path(), &with(&["--grant", "approval"])));
    assert_eq!(waits["suspended"]["approval"]["message"], "Ship lamp?");
    let shipped = parsed(&well(dir.path(), &with(&["--grant-all", "--approve"])));
    assert_eq!((&shipped["done"]["verdict"], &shipped["entries"]), (&json!("approved"), &json!(2)));
    let denied = parsed(&play_text(&dir, &with(&[])));
    assert_eq!(denied["failure"]["code"], "CAPABILITY_DENIED", "{denied}");
    fails(dir.path(), &with(&["--grant", "htpp"]), 2);
}

fn play_text(dir: &tempfile::TempDir, args: &[&str]) -> String {
    let output = play(dir.path(), args);
    assert_eq!(output.status.code(), Some(1));
    texts(&output).0
}

#[test]
fn mistakes_are_named_before_anything_is_built() {
    let dir = workshop();
    let dir = dir.path();
    for (args, code, word) in [
        (&["plugin", "new", "Greeter", "--lang", "rust"][..], 2, "Greeter"),
        (&["plugin", "new", "human", "--lang", "rust"], 2, "built-in"),
        (&["plugin", "new", "a", "--lang", "cobol"], 2, "cobol"),
        (&["plugin", "build", "nowhere"], 1, "caisson-plugin.toml"),
        (&["plugin", "run", "order", "--secret", "SURELY_NOT_SET"], 2, "CAISSON_SECRET_SURELY_NOT_SET"),
        (&["plugin", "run", "nothing"], 1, "order, ship, ask"),
        (&["plugin", "inspect", "plugin.js"], 1, "plugin.js"),
    ] {
        let said = fails(dir, args, code);
        assert!(said.contains(word), "{args:?}: {said}");
    }
    fs::write(dir.join("plugin.js"), "export function order( {").unwrap();
    let said = fails(dir, &["plugin", "build"], 1);
    assert!(said.contains("plugin.js") && said.contains("SyntaxError"), "{said}");
}

/// A `plugin dev` that runs beside the test.
struct Dev {
    child: std::process::Child,
    lines: mpsc::Receiver<String>,
}

impl Dev {
    fn start(dir: &Path, host: &Host) -> Self {
        let args = ["plugin", "dev", "--server", &host.url, "--key", &host.key];
        let mut child = command(dir, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        let err = BufReader::new(child.stderr.take().unwrap());
        let also = send.clone();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        std::thread::spawn(move || err.lines().map_while(Result::ok).try_for_each(|line| also.send(line)));
        Self { child, lines }
    }

    /// Waits for a line with that text.
    fn says(&self, text: &str) -> String {
        let until = Instant::now() + TOOLS_PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(why) => panic!("waited in vain for '{text}': {why}"),
            }
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn workflow(word: &str) -> String {
    format!(
        "id: {word}\nversion: '1'\nstart: greet\nstates:\n  - {{name: greet, type: operation, action: live.greet, input: {{name: Ada}}, end: true}}\n"
    )
}

#[tokio::test]
async fn a_change_is_live_on_a_running_host_and_a_broken_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let manifest =
        "id = \"live\"\nversion = \"1.0.0\"\nwit = \"1.0.0\"\nengine = \"javascript\"\n[[actions]]\nname = \"greet\"\n";
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let greet = |word: &str| {
        write(
            "plugin.js",
            &format!(
                "export function greet(input) {{ caisson.log.info('{word} is said'); return `{word}, ${{input.name}}`; }}"
            ),
        );
    };
    write("caisson-plugin.toml", manifest);
    greet("hello");
    // Compiles the engine, if nobody has yet: what is timed below is a change.
    well(dir.path(), &["plugin", "build"]);
    let data = tempfile::tempdir().unwrap();
    let host = Host::new(data.path()).await;
    let dev = Dev::start(dir.path(), &host);
    println!("{}", dev.says("live after"));
    assert_eq!(host.run_yaml(&workflow("one"), json!({})).await["output"], "hello, Ada");
    println!("{}", dev.says("hello is said"));
    println!("{}", dev.says("SUCCEEDED"));

    greet("welcome");
    println!("{}", dev.says("live after"));
    assert_eq!(host.run_yaml(&workflow("two"), json!({})).await["output"], "welcome, Ada");

    write("plugin.js", "export function greet( {");
    println!("{}", dev.says("SyntaxError"));
    dev.says("the version before stays in force");
    assert_eq!(host.run_yaml(&workflow("three"), json!({})).await["output"], "welcome, Ada");

    greet("again");
    dev.says("live after");
    assert_eq!(host.run_yaml(&workflow("four"), json!({})).await["output"], "again, Ada");
}

/// What a guest writes reaches the terminal of whoever develops it as text, whatever it is.
#[tokio::test]
async fn nothing_that_a_plugin_logs_steers_the_terminal_of_plugin_dev() {
    const EVIL: &str = r"\u001b[31mred\u001b[0m \u001b]0;owned\u0007\u009b2J \u202eturned\u2028\r\u0008<script>";
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write(
        "caisson-plugin.toml",
        "id = \"live\"\nversion = \"1.0.0\"\nwit = \"1.0.0\"\nengine = \"javascript\"\n[[actions]]\nname = \"greet\"\n",
    );
    write(
        "plugin.js",
        &format!(
            "export function greet() {{
               caisson.log.warn('logged {EVIL}', {{ field: '{EVIL}' }});
               caisson.progress(50, 'half {EVIL}');
               throw new caisson.Failure({{ code: 'EVIL', message: 'failed {EVIL}', retry: 'never' }});
             }}"
        ),
    );
    let data = tempfile::tempdir().unwrap();
    let host = Host::new(data.path()).await;
    let dev = Dev::start(dir.path(), &host);
    dev.says("live after");
    assert_eq!(host.run_yaml(&workflow("one"), json!({})).await["status"], "FAILED");
    for start in ["logged", "half", "failed"] {
        let line = dev.says(&format!("{start} red"));
        let steers = |c: char| c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}');
        assert!(!line.contains(steers), "{line:?}");
        assert!(line.contains("turned") && line.contains("<script>"), "what it says is seen: {line:?}");
    }
}
