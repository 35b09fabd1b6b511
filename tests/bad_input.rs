//! Whatever comes in: a clear error with a stable code, nothing half stored, and a host that goes on.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::fmt::Write;
use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};
use support::{Host, Setup, run_caisson};

async fn raw(host: &Host, path: &str, kind: &str, body: Vec<u8>) -> (u16, Value) {
    let answer = host.request(Method::POST, path).header("content-type", kind).body(body).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
}

fn code(body: &Value) -> &str {
    body["error"]["code"].as_str().unwrap_or_else(|| panic!("no code: {body}"))
}

#[tokio::test]
async fn broken_definitions_are_refused_with_line_and_column_and_store_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path()).await;
    let bomb = {
        let mut text = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
        for (this, last) in ('b'..='k').zip('a'..) {
            let _ = writeln!(
                text,
                "{this}: &{this} [*{last},*{last},*{last},*{last},*{last},*{last},*{last},*{last},*{last}]"
            );
        }
        text
    };
    for (what, body) in [
        ("broken YAML", b"id: x\nstates: [".to_vec()),
        ("duplicate keys", b"id: x\nid: y\nstates: [{name: a, type: inject, data: 1, end: true}]".to_vec()),
        ("invalid UTF-8", b"id: x\nname: \xff\xfe\n".to_vec()),
        ("aliases that explode", bomb.into_bytes()),
        ("deep nesting", format!("id: x\nstates: {}", "[".repeat(20_000)).into_bytes()),
        ("an unknown target", b"id: x\nstates: [{name: a, type: inject, data: 1, next: b}]".to_vec()),
        ("an unknown type", b"id: x\nstates: [{name: a, type: injekt, data: 1, end: true}]".to_vec()),
        ("an unknown field", b"id: x\nstates: [{name: a, type: inject, data: 1, edn: true}]".to_vec()),
        (
            "a field that is not built",
            b"id: x\ntriggers: []\nstates: [{name: a, type: inject, data: 1, end: true}]".to_vec(),
        ),
        ("no states", b"id: x\nstates: []".to_vec()),
    ] {
        let (status, body) = raw(&host, "/workflows", "application/yaml", body).await;
        assert_eq!(status, 400, "{what}: {body}");
        code(&body);
        let first = &body["validation"]["errors"][0];
        assert!(first["line"].is_u64() && first["column"].is_u64() && first["code"].is_string(), "{what}: {body}");
    }
    assert_eq!(host.all("/workflows", "workflows").await, Vec::<Value>::new());
}

#[tokio::test]
async fn requests_that_make_no_sense_are_answered_with_a_code() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path()).await;
    host.save("id: ok\nstates: [{name: w, type: wait, duration: 600, end: true}]").await;
    let run = host.start_run("ok", json!({})).await;
    let deep = format!("{{\"workflowId\":\"ok\",\"input\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    for (what, path, body, expected) in [
        ("broken JSON", "/workflow-runs", b"{".to_vec(), 400),
        ("deep JSON", "/workflow-runs", deep.into_bytes(), 400),
        ("invalid UTF-8", "/workflow-runs", b"{\"workflowId\": \"\xff\"}".to_vec(), 400),
        ("an unknown field", "/workflow-runs", br#"{"workflow": "ok"}"#.to_vec(), 400),
        ("an unknown workflow", "/workflow-runs", br#"{"workflowId": "nope"}"#.to_vec(), 404),
        ("a body over the limit", "/workflow-runs", vec![b' '; 3 << 20], 413),
        ("an unknown run", "/workflow-runs/nope/pause", b"{}".to_vec(), 404),
        ("an unknown approval", &format!("/workflow-runs/{run}/approvals/nope/approve"), b"{}".to_vec(), 404),
        ("a run that is not paused", &format!("/workflow-runs/{run}/resume"), b"{}".to_vec(), 409),
    ] {
        let (status, body) = raw(&host, path, "application/json", body).await;
        assert_eq!(status, expected, "{what}: {body}");
        code(&body);
    }
    host.post(&format!("/workflow-runs/{run}/cancel"), json!({})).await;
    for action in ["pause", "resume", "cancel"] {
        let (status, body) = host.send(Method::POST, &format!("/workflow-runs/{run}/{action}"), Some(json!({}))).await;
        assert_eq!((status, code(&body)), (409, "RUN_ENDED"), "{action}");
    }
    let (status, body) = host.send(Method::GET, "/nothing/here", None).await;
    assert_eq!(status, 404, "{body}");
    assert_eq!(host.all("/workflow-runs", "runs").await.len(), 1, "something was half stored");
}

#[tokio::test]
async fn a_body_of_100_mb_is_refused_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path()).await;
    let answer = host
        .request(Method::POST, "/workflows")
        .header("content-length", 100 << 20)
        .body(vec![b'x'; 100 << 20])
        .send()
        .await;
    // The host may close the connection while we still send: that is a refusal too.
    if let Ok(answer) = answer {
        assert_eq!(answer.status(), 413);
    }
    let rss = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap();
    let peak: u64 =
        rss.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB").parse().unwrap();
    println!("peak memory {} MB", peak >> 10);
    host.get("/workflows").await;
}

#[tokio::test]
async fn keys_and_roles_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::new(dir.path()).await;
    host.save("id: ok\nstates: [{name: w, type: wait, duration: 600, end: true}]").await;
    let made = host.post("/api-keys", json!({"actor": "vic", "role": "viewer"})).await;
    let other = host.post("/api-keys", json!({"actor": "olga", "role": "admin", "tenant": "other"})).await;
    let run = host.start_run("ok", json!({})).await;
    let admin = std::mem::replace(&mut host.key, "csn_wrong".into());
    let (status, body) = host.send(Method::GET, "/workflows", None).await;
    assert_eq!((status, code(&body)), (401, "UNAUTHENTICATED"));
    host.key = made["key"].as_str().unwrap().into();
    host.get("/workflows").await;
    let (status, body) = host.send(Method::POST, "/workflow-runs", Some(json!({"workflowId": "ok"}))).await;
    assert_eq!((status, code(&body)), (403, "FORBIDDEN"));
    host.key = other["key"].as_str().unwrap().into();
    let (status, _) = host.send(Method::GET, &format!("/workflow-runs/{run}"), None).await;
    assert_eq!(status, 404, "another tenant's run is seen");
    let (status, _) = host.send(Method::POST, &format!("/workflow-runs/{run}/cancel"), Some(json!({}))).await;
    assert_eq!(status, 404, "another tenant's run is cancelled");
    host.key = admin;
    assert_eq!(host.run(&run).await["status"], "WAITING_SIGNAL");
}

#[tokio::test]
async fn a_second_process_on_the_same_data_is_refused_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path());
    let host = setup.start().await;
    let second = setup.command().stdin(Stdio::null()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("in use"), "{said}");
    host.get("/workflows").await;
}

#[tokio::test]
async fn a_full_store_says_so_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let host = Setup::new(dir.path()).arg("--max-store-mib", "2").start().await;
    host.save("id: big\nstates: [{name: a, type: operation, action: core.echo, input: {pad: '{{ pad }}'}, end: true}]")
        .await;
    let mut refused = None;
    for at in 0..200 {
        let body = json!({"workflowId": "big", "input": {"pad": format!("{at}{}", "x".repeat(100_000))}});
        let (status, body) = host.send(Method::POST, "/workflow-runs", Some(body)).await;
        if status != 201 {
            refused = Some((status, code(&body).to_owned()));
            break;
        }
    }
    assert_eq!(refused, Some((503, "STORE_FULL".to_owned())));
    // Reading goes on.
    let runs = host.all("/workflow-runs", "runs").await;
    assert!(!runs.is_empty());
    drop(host);
    // With more room, what was under way ends, and every history is whole.
    let host = Setup::new(dir.path()).arg("--max-store-mib", "64").start().await;
    for run in &runs {
        let id = run["id"].as_str().unwrap();
        assert_eq!(host.end(id).await["status"], "COMPLETED");
        host.check_history(id).await;
    }
}

#[test]
fn the_command_line_exits_with_2_for_usage_and_1_for_failure() {
    for (args, expected) in [
        (vec!["serve", "--nope"], 2),
        (vec!["frobnicate"], 2),
        (vec!["runs", "show", "x", "--server", "http://127.0.0.1:1", "--key", "k"], 1),
        (vec!["validate", "no-such-file.yaml"], 1),
        (vec!["--version"], 0),
    ] {
        let output = run_caisson(&args);
        assert_eq!(output.status.code(), Some(expected), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
