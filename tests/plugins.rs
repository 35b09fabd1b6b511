//! Plugins of strangers, as an operator meets them: the real binary, real components, a real folder.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "support/guests.rs"]
mod guests;
mod support;
#[path = "support/web.rs"]
mod web;

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use guests::{probe, script};
use reqwest::Method;
use serde_json::{Value, json};
use support::{Host, Setup, run_caisson};
use web::Web;

async fn upload(host: &Host, query: &str, bytes: Vec<u8>) -> (u16, Value) {
    let request = host.request(Method::POST, &format!("/plugins{query}")).header("content-type", "application/wasm");
    let answer = request.body(bytes).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
}

/// Installs and waits for the compilation.
async fn install(host: &Host, query: &str, bytes: Vec<u8>) -> Value {
    let (status, mut answer) = upload(host, query, bytes).await;
    assert!((200..300).contains(&status), "{status} {answer}");
    let path = format!("/plugins/{}/{}", text(&answer, "id"), text(&answer, "digest"));
    host.until("it is compiled", async || {
        answer = host.get(&path).await;
        text(&answer, "status") != "COMPILING"
    })
    .await;
    answer["plugin"].clone()
}

fn text(answer: &Value, field: &str) -> String {
    answer["plugin"][field].as_str().unwrap_or_else(|| panic!("no {field}: {answer}")).to_owned()
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or_else(|| panic!("no code: {answer}"))
}

/// The version of a plugin that a run has pinned.
async fn pinned(host: &Host, run: &str, id: &str) -> String {
    let run = host.run(run).await;
    let pins = run["plugins"].as_array().unwrap().clone();
    pins.iter().find(|pin| pin["id"] == id).unwrap_or_else(|| panic!("{run}"))["version"].as_str().unwrap().to_owned()
}

fn workflow(id: &str, action: &str, input: &str) -> String {
    format!("id: {id}\nstates: [{{name: a, type: operation, action: {action}, input: {input}, end: true}}]")
}

#[tokio::test]
async fn a_new_version_waits_for_a_yes_and_open_runs_keep_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path()).await;
    let first = install(&host, "", probe("probe", "1", &[])).await;
    assert_eq!((&first["status"], &first["enabled"]), (&json!("ACTIVE"), &json!(true)));
    host.save(&workflow("ask", "probe.wait_signal", "{signal: go}")).await;
    host.save(&workflow("echo", "probe.echo", "{n: 1}")).await;
    let open = host.start_run("ask", json!({})).await;
    host.until("it waits", async || host.run(&open).await["status"] == "WAITING_SIGNAL").await;

    let second = install(&host, "", probe("probe", "2", &["kv"])).await;
    assert_eq!(second["status"], "PENDING");
    assert_eq!(second["permissionDiff"]["added"], json!(["kv"]));
    let diff = host.get("/plugins/probe/diff?to=2").await;
    assert_eq!((&diff["from"]["version"], &diff["permissions"]["added"]), (&json!("1"), &json!(["kv"])));
    let before = host.start_run("echo", json!({})).await;
    assert_eq!(host.end(&before).await["status"], "COMPLETED");
    assert_eq!(pinned(&host, &before, "probe").await, "1");

    let yes = host.post("/plugins/probe/enable", json!({"version": "2"})).await;
    assert_eq!((text(&yes, "status"), text(&yes, "decidedBy")), ("ACTIVE".into(), "admin".into()));
    let after = host.start_run("echo", json!({})).await;
    assert_eq!(host.end(&after).await["output"], json!({"n": 1}));
    assert_eq!(pinned(&host, &after, "probe").await, "2");

    // The open run needs the first version, whatever else is in force.
    let (status, answer) = host.send(Method::DELETE, "/plugins/probe/1", None).await;
    assert_eq!((status, code(&answer)), (409, "PLUGIN_IN_USE"));
    assert_eq!(answer["error"]["details"]["runs"], json!([open]));
    assert_eq!(host.get("/plugins/probe/1").await["plugin"]["runs"], json!([open]));
    drop(host);
    let host = Host::new(dir.path()).await;
    host.post(&format!("/workflow-runs/{open}/signals"), json!({"name": "go", "payload": 7})).await;
    let ended = host.end(&open).await;
    assert_eq!((&ended["status"], &ended["output"]), (&json!("COMPLETED"), &json!(7)), "{ended:#}");
    assert_eq!(pinned(&host, &open, "probe").await, "1");

    let back = host.post("/plugins/probe/rollback", json!({})).await;
    assert_eq!((text(&back, "version"), text(&back, "status")), ("1".into(), "ACTIVE".into()));
    host.post("/plugins/probe/disable", json!({})).await;
    let (status, answer) = host.send(Method::POST, "/workflow-runs", Some(json!({"workflowId": "echo"}))).await;
    let refused = match status {
        201 => host.end(answer["run"]["id"].as_str().unwrap()).await["status"] == "FAILED",
        status => (400..500).contains(&status),
    };
    assert!(refused, "a run of a plugin that is switched off: {status} {answer}");
    host.post("/plugins/probe/enable", json!({})).await;
    let run = host.start_run("echo", json!({})).await;
    assert_eq!(host.end(&run).await["status"], "COMPLETED");
    let (status, _) = host.send(Method::DELETE, "/plugins/probe", None).await;
    assert_eq!(status, 204);
    let (status, answer) = host.send(Method::GET, "/plugins/probe", None).await;
    assert_eq!((status, code(&answer)), (404, "PLUGIN_NOT_FOUND"));
}

#[tokio::test]
async fn what_is_no_plugin_or_pretends_to_be_another_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path()).await;
    install(&host, "", probe("mail", "1", &[])).await;
    let unfinished = probe("half", "1", &[]);
    for (what, bytes, status, expected) in [
        ("nothing", Vec::new(), 422, "PLUGIN_MALFORMED"),
        ("text", b"hello".to_vec(), 422, "PLUGIN_MALFORMED"),
        ("a module", b"\0asm\x01\0\0\0".to_vec(), 422, "PLUGIN_MALFORMED"),
        ("half of one", unfinished[..unfinished.len() / 2].to_vec(), 422, "PLUGIN_MALFORMED"),
        ("a second core", probe("core", "9", &[]), 422, "PLUGIN_ID_RESERVED"),
        ("a second human", probe("human", "9", &[]), 422, "PLUGIN_ID_RESERVED"),
        ("33 MiB", vec![0; 33 << 20], 413, "PLUGIN_TOO_LARGE"),
    ] {
        let (found, answer) = upload(&host, "?enable=true", bytes).await;
        assert_eq!((found, code(&answer)), (status, expected), "{what}: {answer}");
    }
    assert!(std::fs::read_dir(host.data.join("data/uploads")).unwrap().next().is_none(), "an upload is left");
    // Somebody else's plugin under a name that is taken waits like any other new version.
    let squatter = install(&host, "", probe("mail", "99", &["secrets:TOKEN"])).await;
    assert_eq!(squatter["status"], "PENDING");
    let shown = host.get("/plugins/mail").await;
    assert_eq!((text(&shown, "version"), shown["plugin"]["pending"]["version"].as_str()), ("1".into(), Some("99")));
    let listed = host.get("/plugins").await["plugins"].as_array().unwrap().clone();
    let own: Vec<_> = listed.iter().filter(|plugin| plugin["builtIn"] == false).collect();
    assert_eq!(own.len(), 1, "{own:?}");
    for id in ["core", "human", "agent", "script"] {
        assert!(listed.iter().any(|plugin| plugin["id"] == id && plugin["builtIn"] == true), "{id} is not listed");
        let (status, answer) = host.send(Method::DELETE, &format!("/plugins/{id}"), None).await;
        assert_eq!((status, code(&answer)), (409, "PLUGIN_BUILT_IN"));
    }
}

const HELLO: &str = r#"
id = "hello"
version = "1.0.0"
wit = "1.0.0"
engine = "javascript"
capabilities = []
[[actions]]
name = "greet"
"#;

fn hello(word: &str) -> String {
    format!("export function greet(input) {{ return {{ said: '{word} ' + input.name }}; }}")
}

async fn greeted(host: &Host) -> Value {
    let run = host.start_run("greet", json!({})).await;
    host.end(&run).await["output"]["said"].clone()
}

#[tokio::test]
async fn what_lies_in_the_folder_is_there_and_what_changes_is_there_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = dir.path().join("env/plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    std::fs::write(plugins.join("broken.wasm"), "no component").unwrap();
    std::fs::write(plugins.join("probe.wasm"), probe("probe", "1", &[])).unwrap();
    let setup = Setup::new(dir.path()).arg("--env", dir.path().join("env").to_str().unwrap());
    let host = setup.start().await;
    let status = async |id: &str| {
        let (status, shown) = host.send(Method::GET, &format!("/plugins/{id}"), None).await;
        if status == 200 { text(&shown, "status") } else { code(&shown).to_owned() }
    };
    assert_eq!(status("probe").await, "ACTIVE", "a broken file stops nobody");
    let write = |name: &str, text: &str| {
        std::fs::create_dir_all(plugins.join("hello")).unwrap();
        std::fs::write(plugins.join("hello").join(name), text).unwrap();
    };
    let begin = Instant::now();
    write("caisson-plugin.toml", HELLO);
    write("plugin.js", &hello("hello"));
    host.until("it is there", async || status("hello").await == "ACTIVE").await;
    host.save(&workflow("greet", "hello.greet", "{name: Ada}")).await;
    assert_eq!(greeted(&host).await, "hello Ada");
    println!("a new plugin in JavaScript, first use of the engine included: {} ms", begin.elapsed().as_millis());

    let begin = Instant::now();
    write("plugin.js", &hello("good day"));
    host.until("it is reloaded", async || greeted(&host).await == "good day Ada").await;
    println!("from an edit to a step that shows it: {} ms", begin.elapsed().as_millis());

    // Half written, or wrong: what ran goes on.
    write("caisson-plugin.toml", "id = ");
    std::fs::write(plugins.join("later.wasm"), probe("later", "1", &[])).unwrap();
    host.until("another file is seen", async || status("later").await == "ACTIVE").await;
    assert_eq!(greeted(&host).await, "good day Ada");
    write("caisson-plugin.toml", HELLO);

    // What asks for more waits; an entry of the operator is the yes, and an entry that is gone is the end of it.
    write(
        "caisson-plugin.toml",
        &HELLO.replace("capabilities = []", "capabilities = [\"kv\"]").replace("1.0.0\"\nwit", "1.1.0\"\nwit"),
    );
    let shown = async || host.get("/plugins/hello").await;
    host.until("it waits", async || shown().await["plugin"]["pending"]["version"] == "1.1.0").await;
    assert_eq!(greeted(&host).await, "good day Ada");
    std::fs::write(plugins.join("plugins.toml"), "[hello]\ngrants = [\"kv\"]\n").unwrap();
    host.until("it is in force", async || text(&shown().await, "version") == "1.1.0").await;
    assert_eq!(shown().await["plugin"]["grants"], json!({"kv": {}}));
    std::fs::write(plugins.join("plugins.toml"), "").unwrap();
    host.until("its grants are gone", async || shown().await["plugin"]["grants"] == json!({})).await;

    // What is deleted is switched off, its history stays; what comes back is on again, over a restart too.
    std::fs::rename(plugins.join("hello"), dir.path().join("aside")).unwrap();
    host.until("it is off", async || status("hello").await == "DISABLED").await;
    drop(host);
    std::fs::rename(dir.path().join("aside"), plugins.join("hello")).unwrap();
    let host = setup.start().await;
    assert_eq!(text(&host.get("/plugins/hello").await, "status"), "ACTIVE");
    assert_eq!(greeted(&host).await, "good day Ada");
    host.post("/plugins/hello/disable", json!({})).await;
    drop(host);
    let host = setup.start().await;
    assert_eq!(text(&host.get("/plugins/hello").await, "status"), "DISABLED", "a person's word stays");
}

#[tokio::test]
async fn a_plugin_is_taken_from_a_path_only_with_its_digest_and_only_from_where_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let open = dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    let bytes = probe("probe", "1", &[]);
    std::fs::write(open.join("probe.wasm"), &bytes).unwrap();
    std::fs::write(dir.path().join("probe.wasm"), &bytes).unwrap();
    let host = Setup::new(dir.path()).arg("--plugin-dir", open.to_str().unwrap()).start().await;
    let digest = caisson_core::json::sha256_hex(&bytes);
    let from = |path: &Path| format!("file://{}", path.display());
    for (path, digest, status, expected) in [
        (dir.path().join("probe.wasm"), digest.as_str(), 403, "PLUGIN_PATH_FORBIDDEN"),
        (open.join("../probe.wasm"), &digest, 403, "PLUGIN_PATH_FORBIDDEN"),
        (open.join("probe.wasm"), &"0".repeat(64), 422, "PLUGIN_DIGEST_MISMATCH"),
        (open.join("probe.wasm"), &digest, 201, "ACTIVE"),
    ] {
        let body = json!({"from": from(&path), "digest": digest});
        let (found, answer) = host.send(Method::POST, "/plugins", Some(body)).await;
        let said = answer["error"]["code"].as_str().or(answer["plugin"]["status"].as_str()).unwrap_or_default();
        assert_eq!((found, said), (status, expected), "{}: {answer}", path.display());
    }
}

#[tokio::test]
async fn a_refusal_is_the_line_to_add_and_the_line_helps() {
    let (dir, web) = (tempfile::tempdir().unwrap(), Web::start(Duration::ZERO));
    let host = Host::new(dir.path()).await;
    host.save(&workflow("call", "http.call", &format!("{{url: '{}'}}", web.url("/there")))).await;
    let run = host.start_run("call", json!({})).await;
    let failed = host.end(&run).await;
    assert_eq!(
        (&failed["status"], &failed["error"]["code"]),
        (&json!("FAILED"), &json!("CAPABILITY_DENIED")),
        "{failed:#}"
    );
    let message = failed["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("caisson plugin grant http http"), "{message}");
    assert!(web.seen().is_empty());

    // Another port of the same machine is another grant.
    host_cli(&host, &["plugin", "grant", "http", "http:127.0.0.1:1"]);
    let run = host.start_run("call", json!({})).await;
    let message = host.end(&run).await["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&format!("caisson plugin grant http {}", web.grant())), "{message}");
    host_cli(&host, &["plugin", "grant", "http", &web.grant()]);
    let run = host.start_run("call", json!({})).await;
    let ended = host.end(&run).await;
    assert_eq!(
        (&ended["status"], &ended["output"]["body"]["path"]),
        (&json!("COMPLETED"), &json!("/there")),
        "{ended:#}"
    );
    // Tried without a run.
    let body = json!({"input": {"url": web.url("/tried")}});
    let tried = host.post("/plugins/http/actions/call/invoke", body).await;
    assert_eq!(tried["outcome"]["done"]["body"]["path"], "/tried", "{tried}");
    // A workflow takes away what the operator gave.
    host.save(&format!(
        "id: narrowed\nstates: [{{name: a, type: operation, action: http.call, capabilities: [\"http:a.example\"], input: {{url: '{}'}}, end: true}}]",
        web.url("/never")
    ))
    .await;
    let run = host.start_run("narrowed", json!({})).await;
    let failed = host.end(&run).await;
    assert_eq!(failed["error"]["code"], "CAPABILITY_DENIED", "{failed:#}");
    assert!(failed["error"]["message"].as_str().unwrap().contains("workflow"), "{failed:#}");
    assert_eq!(web.seen().len(), 2);
}

const NOTIFY: &str = r#"
id = "notify"
version = "1.0.0"
wit = "1.0.0"
engine = "javascript"
[capabilities.http]
[capabilities.secrets]
inject = [{secret = "TOKEN", hosts = ["127.0.0.1:*"]}]
[[actions]]
name = "send"
[[actions]]
name = "read"
"#;

const NOTIFY_JS: &str = "
export function send(input) {
  const headers = { authorization: 'Bearer {{secret:TOKEN}}' };
  const answer = caisson.http.send({ url: input.url, headers, json: { text: input.text } });
  caisson.log.info('the server said ' + answer.text());
  return { answer: answer.json(), headers };
}
export function read() { return { token: caisson.secrets.get('TOKEN') }; }
";

#[tokio::test]
async fn a_secret_is_filled_in_and_seen_by_nobody_but_its_receiver() {
    const SECRET: &str = "xoxb-7f3a91c2-not-for-guests";
    let (dir, web) = (tempfile::tempdir().unwrap(), Web::start(Duration::ZERO));
    let file = dir.path().join("secrets.toml");
    std::fs::write(&file, format!("[default]\nTOKEN = \"{SECRET}\"\n")).unwrap();
    let host = Setup::new(dir.path()).arg("--secrets-file", file.to_str().unwrap()).start().await;
    let grants = json!({
        "http": {"hosts": [format!("127.0.0.1:{}", web.port)]},
        "secrets": {"inject": [{"secret": "TOKEN", "hosts": [format!("127.0.0.1:{}", web.port)]}]},
    });
    install(&host, "", script(NOTIFY, NOTIFY_JS)).await;
    host.send(Method::PUT, "/plugins/notify/grants", Some(json!({"grants": grants}))).await;
    host.save(&workflow("send", "notify.send", &format!("{{url: '{}', text: hi}}", web.url("/hook")))).await;
    let run = host.start_run("send", json!({})).await;
    let ended = host.end(&run).await;
    assert_eq!(ended["status"], "COMPLETED", "{ended:#}");
    assert_eq!(web.seen()[0].header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
    assert_eq!(ended["output"]["answer"]["authorization"], "Bearer [secret:TOKEN]", "what comes back is hidden");
    assert_eq!(ended["output"]["headers"]["authorization"], "Bearer {{secret:TOKEN}}", "the guest never had it");
    let logs = async || host.get(&format!("/workflow-runs/{run}/logs")).await.to_string();
    host.until("its log is stored", async || logs().await.contains("[secret:TOKEN]")).await;
    for path in ["", "/steps", "/events", "/logs"] {
        let shown = host.get(&format!("/workflow-runs/{run}{path}")).await.to_string();
        assert!(!shown.contains(SECRET), "the secret is shown at {path}");
    }

    // The built-in action does the same from a workflow, which holds the name alone.
    host.send(Method::PUT, "/plugins/http/grants", Some(json!({"grants": grants}))).await;
    let call = format!(
        "{{url: '{}', headers: {{authorization: 'Bearer {{{{secret:TOKEN}}}}'}}, json: {{text: hi}}}}",
        web.url("/call")
    );
    host.save(&workflow("call", "http.call", &call)).await;
    let run = host.start_run("call", json!({})).await;
    let ended = host.end(&run).await;
    assert_eq!(ended["status"], "COMPLETED", "{ended:#}");
    assert_eq!(web.seen()[1].header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
    assert!(!ended.to_string().contains(SECRET), "{ended:#}");

    // Filled in is not read.
    host.save(&workflow("read", "notify.read", "{}")).await;
    let run = host.start_run("read", json!({})).await;
    let failed = host.end(&run).await;
    assert_eq!(failed["status"], "FAILED", "{failed:#}");
    assert!(!failed.to_string().contains(SECRET));
    // Nothing of it is on the disk, compiled code and files of the database included.
    drop(host);
    for entry in std::fs::read_dir(dir.path().join("data")).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let bytes = std::fs::read(entry.path()).unwrap();
        let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "the secret is in {}", entry.path().display());
    }
}

fn cli(host: &Host, args: &[&str]) -> Output {
    run_caisson(&[args, &["--server", &host.url, "--key", &host.key]].concat())
}

/// A command that has to go well; what it says.
fn host_cli(host: &Host, args: &[&str]) -> String {
    let output = cli(host, args);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[tokio::test]
async fn the_command_line_shows_what_it_is_a_yes_to() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path()).await;
    let file = |version: &str, asks: &[&str]| {
        let path = dir.path().join(format!("probe-{version}.wasm"));
        std::fs::write(&path, probe("probe", version, asks)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (first, second) = (file("1", &["kv"]), file("2", &["kv", "http"]));
    for (args, parts) in [
        (
            vec!["plugin", "install", first.as_str()],
            &["probe 1 (", "ACTIVE", "not granted", "plugin grant probe --as-asked"][..],
        ),
        (vec!["plugin", "grant", "probe", "--as-asked", "--yes"], &["+ kv", "ACTIVE"]),
        (vec!["plugin", "install", &second], &["PENDING", "+ http:*", "plugin enable probe "]),
        (vec!["plugins", "list"], &["core", "built in", "waits for a yes"]),
        (vec!["plugin", "diff", "probe", "2"], &["from 1 (", "+ http:*", "  kv"]),
        (vec!["plugin", "enable", "probe", "2", "--yes"], &["+ http:*", "ACTIVE"]),
        (vec!["plugin", "show", "probe"], &["probe", "SUPERSEDED", "http:*", "probe.echo"]),
        (vec!["plugin", "rollback", "probe"], &["probe 1 (", "ACTIVE"]),
        (vec!["plugin", "disable", "probe"], &["DISABLED"]),
        (vec!["plugin", "enable", "probe"], &["ACTIVE"]),
        (vec!["plugin", "remove", "probe", "2", "--yes"], &["deleted version 2"]),
        (vec!["plugin", "show", "probe", "--json"], &["\"status\":\"ACTIVE\""]),
        (vec!["plugin", "remove", "probe", "--yes"], &["deleted probe"]),
    ] {
        let said = host_cli(&host, &args);
        for part in parts {
            assert!(said.contains(part), "{args:?} does not say '{part}':\n{said}");
        }
    }
    host_cli(&host, &["plugin", "install", &first]);
    host_cli(&host, &["plugin", "install", &second]);
    for (args, exit, part) in [
        (vec!["plugin", "enable", "probe", "2"], 2, "--yes"),
        (vec!["plugin", "remove", "probe"], 2, "--yes"),
        (vec!["plugin", "grant", "probe"], 2, "say what to grant"),
        (vec!["plugin", "grant", "probe", "teleport"], 2, "teleport"),
        (vec!["plugin", "show", "nobody"], 1, "there is no plugin 'nobody'"),
        (vec!["plugin", "diff", "probe", "9"], 1, "there are 2, 1"),
        (vec!["plugin", "remove", "core", "--yes"], 1, "part of this program"),
    ] {
        let output = cli(&host, &args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{args:?}: {said}");
        assert!(said.contains(part), "{args:?} does not say '{part}': {said}");
    }
}
