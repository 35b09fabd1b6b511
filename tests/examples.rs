//! The plugins of `examples/`, built from source with nothing but what their readme says: their own tests, and the notifier on a host against a
//! server that speaks like Slack.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use support::{Setup, cache_dir, caisson};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What tools keep between test runs.
fn kept(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("authoring").join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// The example where it may be built: the sources stay as they are.
fn example(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("examples").join(name);
    copy(&root().join("examples").join(name), &target);
    // The Rust one names the SDK beside it.
    std::os::unix::fs::symlink(root().canonicalize().unwrap().join("sdk-guest"), dir.path().join("sdk-guest")).unwrap();
    (dir, target)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let name = entry.file_name();
        if entry.path().is_dir() {
            // What somebody built by hand.
            if !["node_modules", "target", "dist", ".caisson", ".venv", "__pycache__"].iter().any(|made| name == *made)
            {
                copy(&entry.path(), &to.join(name));
            }
        } else {
            std::fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

fn tool(dir: &Path, args: &[&str]) -> Command {
    let base = kept("cache");
    std::fs::create_dir_all(cache_dir()).unwrap();
    // There already, from another test.
    let _ = std::os::unix::fs::symlink(cache_dir(), base.join("caisson"));
    let mut command = caisson(args);
    command.current_dir(dir).env("XDG_CACHE_HOME", base).env("CARGO_TARGET_DIR", kept("cargo"));
    command.env("npm_config_cache", kept("npm")).env("PIP_CACHE_DIR", kept("pip"));
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER"] {
        command.env_remove(name);
    }
    command
}

fn passes(name: &str) {
    let (_dir, path) = example(name);
    let output = tool(&path, &["plugin", "test"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(" passed, 0 failed"), "{name}\n{said}");
}

#[test]
fn the_rust_example_passes_its_tests() {
    passes("rust-notifier");
}

#[test]
fn the_javascript_example_passes_its_tests() {
    passes("js-issues");
}

#[test]
fn the_typescript_example_passes_its_tests() {
    passes("ts-text-stats");
}

#[test]
fn the_python_example_passes_its_tests() {
    passes("python-csv-summary");
}

/// Speaks as Slack does: the first message is too soon, the others get a name.
struct Slack {
    port: u16,
    heard: Arc<Mutex<Vec<(String, String)>>>,
}

impl Slack {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let keep = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that went away is no fault of the server's.
                let _ = Self::answer(stream, &keep);
            }
        });
        Self { port, heard }
    }

    fn answer(mut stream: TcpStream, heard: &Mutex<Vec<(String, String)>>) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap_or(0);
            }
            if line.trim().is_empty() {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let number = {
            let mut heard = heard.lock();
            heard.push((head, String::from_utf8_lossy(&body).into_owned()));
            heard.len()
        };
        let answer = format!(r##"{{"ok":true,"channel":"#ops","ts":"17.{number}"}}"##);
        let (status, more) = if number == 1 { ("429 Too Many Requests", "retry-after: 1\r\n") } else { ("200 OK", "") };
        write!(
            stream,
            "HTTP/1.1 {status}\r\n{more}content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        )
    }
}

#[tokio::test]
async fn the_notifier_posts_waits_and_goes_on_against_a_server_that_speaks_like_slack() {
    const TOKEN: &str = "xoxb-17-not-for-plugins";
    let (dir, path) = example("rust-notifier");
    let built = tool(&path, &["plugin", "build"]).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    let slack = Slack::start();
    let plugins = dir.path().join("env/plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    std::fs::copy(path.join("dist/notify.wasm"), plugins.join("notify.wasm")).unwrap();
    let place = format!("127.0.0.1:{}", slack.port);
    std::fs::write(
        plugins.join("plugins.toml"),
        format!(
            "[notify]\nconfig = {{ apiUrl = \"http://{place}/api\", channel = \"#ops\" }}\n\
             [notify.grants]\nhttp = {{ hosts = [\"{place}\"] }}\nsecrets = {{ inject = [{{ secret = \"SLACK_TOKEN\", hosts = [\"{place}\"] }}] }}\n"
        ),
    )
    .unwrap();
    let secrets = dir.path().join("secrets.toml");
    std::fs::write(&secrets, format!("[default]\nSLACK_TOKEN = \"{TOKEN}\"\n")).unwrap();
    let host = Setup::new(dir.path())
        .arg("--env", dir.path().join("env").to_str().unwrap())
        .arg("--secrets-file", secrets.to_str().unwrap())
        .start()
        .await;

    host.save(
        "id: release\nversion: '1'\nstart: ask\nstates:\n\
         - {name: ask, type: operation, action: notify.ask, input: {text: 'Ship 1.4?', timeoutSeconds: 600}, retry: {maxAttempts: 3, backoffSeconds: 0}, next: tell}\n\
         - {name: tell, type: operation, action: notify.post, input: {text: Shipped.}, end: true}\n",
    )
    .await;
    let run = host.start_run("release", json!({})).await;
    host.until("it waits for the reply", async || {
        host.run(&run).await["status"] == "WAITING_SIGNAL" && slack.heard.lock().len() >= 2
    })
    .await;
    let ts = "17.2";
    host.post(
        &format!("/workflow-runs/{run}/signals"),
        json!({"name": "slack.reply", "payload": {"text": "yes", "user": "ada", "threadTs": ts}}),
    )
    .await;
    let ended = host.end(&run).await;
    assert_eq!(ended["status"], "COMPLETED", "{ended:#}");
    assert_eq!(ended["output"]["ts"], json!("17.3"), "{ended:#}");
    let heard = slack.heard.lock().clone();
    assert_eq!(heard.len(), 3, "too soon, the question, the news: {heard:#?}");
    for (head, body) in &heard {
        assert!(head.contains(&format!("Bearer {TOKEN}")), "{head}");
        assert!(body.contains("#ops"), "{body}");
    }
    let events = host.get(&format!("/workflow-runs/{run}/events")).await.to_string();
    assert!(!events.contains(TOKEN));
}
