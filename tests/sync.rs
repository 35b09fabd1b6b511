//! `caisson sync` with the real binary: an environment's files and what a host has registered of them.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};
use support::{Host, caisson};

const TRIAGE: &str =
    "---\nmodel: scripted/any\nmetadata: {name: triage, description: Looks.}\n---\nLook at {{service}}.\n";
const FLOW: &str = "id: look\nstates:\n- {name: a, type: operation, action: agent.run, input: {agent: triage, task: go, variables: {service: db}}, end: true}\n";

fn write(dir: &Path, file: &str, text: &str) {
    let path = dir.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn command(host: &Host, args: &[&str]) -> Command {
    let mut command = caisson(args);
    command.env("CAISSON_SERVER", &host.url).env("CAISSON_KEY", &host.key).stdin(Stdio::null());
    command
}

/// The changes that a sync tells, as `action name`, and its exit code.
fn sync(host: &Host, dir: &Path, args: &[&str]) -> (Vec<String>, i32) {
    let mut all = vec!["--json", "sync", dir.to_str().unwrap()];
    all.extend(args);
    let output = command(host, &all).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let text = |change: &Value, field: &str| change[field].as_str().unwrap_or_default().to_owned();
    let changes = answer["changes"].as_array().unwrap();
    let lines = changes.iter().map(|change| format!("{} {}", text(change, "action"), text(change, "name"))).collect();
    (lines, output.status.code().unwrap())
}

async fn agent(host: &Host, name: &str) -> Value {
    host.get(&format!("/agents/{name}")).await["agent"].clone()
}

#[tokio::test]
async fn files_are_registered_with_versions_and_what_has_no_file_is_disabled() {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Host::new(dir.path()).await;
    let files = files.path();
    write(files, "agents/triage.prompt", TRIAGE);
    write(files, "workflows/look.workflow.yaml", FLOW);

    // A dry run says it and does nothing, although the workflow needs the agent that is only planned.
    assert_eq!(sync(&host, files, &["--dry-run"]), (vec!["create triage".into(), "create look".into()], 0));
    assert_eq!(host.send(Method::GET, "/agents/triage", None).await.0, 404);
    assert_eq!(sync(&host, files, &[]), (vec!["create triage".into(), "create look".into()], 0));
    assert_eq!(sync(&host, files, &[]), (vec!["unchanged triage".into(), "unchanged look".into()], 0));
    let shown = agent(&host, "triage").await;
    assert_eq!((&shown["version"], &shown["file"]), (&json!(1), &json!("agents/triage.prompt")));
    assert_eq!((&shown["model"], &shown["description"]), (&json!("scripted/any"), &json!("Looks.")));

    // A new text is a new version; an old one is the version that it was.
    write(files, "agents/triage.prompt", &TRIAGE.replace("Look at", "Stare at"));
    assert_eq!(sync(&host, files, &[]).0[0], "update triage");
    assert_eq!(agent(&host, "triage").await["version"], json!(2));
    write(files, "agents/triage.prompt", TRIAGE);
    sync(&host, files, &[]);
    assert_eq!(agent(&host, "triage").await["version"], json!(1));
    assert_eq!(host.get("/agents/triage/versions").await["versions"].as_array().unwrap().len(), 2);

    // A broken file is named, keeps what is registered, and stops nobody.
    write(files, "agents/triage.prompt", "---\nmodel: scripted/any\n");
    write(files, "agents/other.prompt", "---\nmodel: scripted/any\n---\nHello.\n");
    let (changes, code) = sync(&host, files, &[]);
    assert_eq!((code, changes), (1, vec!["create other".into(), "broken triage".into(), "unchanged look".into()]));
    assert_eq!(agent(&host, "triage").await["enabled"], json!(true));

    // Without its file it is disabled: workflows that name it are told, and its history stays.
    fs::remove_file(files.join("agents/triage.prompt")).unwrap();
    fs::remove_file(files.join("workflows/look.workflow.yaml")).unwrap();
    let (mut changes, code) = sync(&host, files, &[]);
    changes.sort();
    assert_eq!((code, changes), (0, vec!["disable look".into(), "disable triage".into(), "unchanged other".into()]));
    assert_eq!(agent(&host, "triage").await["enabled"], json!(false));
    assert_eq!(host.get("/workflows/look").await["workflow"]["enabled"], json!(false));
    let (status, answer) =
        host.send(Method::POST, "/workflows", Some(json!({"definition": FLOW.replace("id: look", "id: again")}))).await;
    assert_eq!(status, 400);
    assert!(answer.to_string().contains("triage"), "{answer}");

    // Back again, it is enabled.
    write(files, "agents/triage.prompt", TRIAGE);
    write(files, "workflows/look.workflow.yaml", FLOW);
    let (changes, _) = sync(&host, files, &[]);
    assert_eq!(changes, ["unchanged other", "update triage", "update look"]);
    assert_eq!(host.get("/workflows/look").await["workflow"]["enabled"], json!(true));
    let registered = host.get("/environments/default").await["environment"]["registered"].clone();
    assert_eq!(registered.as_array().unwrap().len(), 3, "{registered:#}");
}

#[tokio::test]
async fn programs_are_registered_from_a_hosts_own_files_only() {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let own = files.path().join("own");
    write(&own, "mcp-servers/time.json", r#"{"command": "true"}"#);
    write(&own, "agents/a.prompt", "---\nmodel: scripted/any\n---\nHello.\n");
    let host = support::Setup::new(dir.path()).arg("--env", own.to_str().unwrap()).start().await;
    let seen = async |name: &str| -> Value {
        let shown = host.get("/environments/default").await;
        let all = shown["environment"]["registered"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["name"] == name).unwrap_or_default()
    };
    assert_eq!(seen("time").await["kind"], json!("mcp-server"));
    assert_eq!(seen("a").await["onDisk"], json!("same"));
    // The host's file against the database.
    write(&own, "agents/a.prompt", "---\nmodel: scripted/any\n---\nGoodbye.\n");
    assert_eq!(seen("a").await["onDisk"], json!("changed"));
    fs::remove_file(own.join("agents/a.prompt")).unwrap();
    assert_eq!(seen("a").await["onDisk"], json!("missing"));
    // Over the API, a tool server is refused by name.
    let body = json!({"files": [{"path": "mcp-servers/evil.json", "text": "{\"command\": \"sh\"}"}]});
    let answer = host.post("/environments/other/sync", body).await;
    assert_eq!(answer["changes"][0]["action"], json!("broken"));
    assert!(answer["changes"][0]["problem"].as_str().unwrap().contains("--env"), "{answer}");
    assert_eq!(host.get("/environments/other").await["environment"]["registered"], json!([]));
    // Nobody sends those of the host's own files, and they are not missing for that.
    assert_eq!(sync(&host, &own, &[]), (vec!["disable a".to_owned()], 0));
    assert_eq!(sync(&host, &own, &[]).1, 0);
    assert_eq!(seen("time").await["enabled"], json!(true));
}

#[tokio::test]
async fn watched_files_are_registered_as_they_are_saved() {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Host::new(dir.path()).await;
    write(files.path(), "agents/triage.prompt", TRIAGE);
    let args = ["sync", files.path().to_str().unwrap(), "--watch"];
    let mut watching = Ended(command(&host, &args).stdout(Stdio::null()).spawn().unwrap());
    let version = async |wanted: u64| {
        host.until("the agent has its version", async || {
            let (status, answer) = host.send(Method::GET, "/agents/triage", None).await;
            status == 200 && answer["agent"]["version"] == json!(wanted)
        })
        .await;
    };
    version(1).await;
    write(files.path(), "agents/triage.prompt", &TRIAGE.replace("Look", "Stare"));
    version(2).await;
    assert!(watching.0.try_wait().unwrap().is_none(), "it goes on");
}

/// Ends with the test, however that ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
