//! Tool servers that die, hang and lie: every call ends, with a word for what happened, and nothing of the host is theirs.
#![allow(missing_docs, clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use caisson_core::ids::Realm;
use caisson_core::json::Json;
use caisson_core::ports::{ServerState, ToolCall, ToolError, Tools};
use caisson_tools::{Config, ServerSpec, ToolServers};
use serde_json::{Value, json};
use support::{Host, PATIENCE, TOKEN, Vault, is_alive, realm, until};

#[tokio::test]
async fn results_have_the_documented_form() {
    let host = Host::new("well");
    let call = async |tool, arguments| host.call(tool, arguments).await.unwrap();
    assert_eq!(host.status().state, ServerState::Stopped, "nothing is started before it is needed");
    assert_eq!(call("text", json!({"text": "a\u{0}b"})).await, json!("a\u{fffd}b"));
    assert_eq!(
        call("image", json!({})).await,
        json!({"content": [
            {"type": "text", "text": "see"},
            {"type": "image", "mimeType": "image/png", "bytes": 3},
            {"type": "resource", "uri": "file:///a", "mimeType": "text/plain", "text": "inside"},
        ]})
    );
    assert_eq!(call("junk", json!({})).await, json!("after the junk"));
    let meta = call("meta", json!({})).await;
    assert!(meta.as_str().unwrap().contains(r#""idempotency-key":"run:step:0:0""#), "{meta}");
    // A server has nothing to ask of us.
    let refused = call("sample", json!({})).await;
    assert!(refused.as_str().unwrap().contains("-32601"), "{refused}");
    let status = host.status();
    assert_eq!((status.state, status.calls, status.pid.is_some()), (ServerState::Running, 5, true));
    assert!(status.protocol.is_some(), "it was agreed on");
}

#[tokio::test]
async fn what_goes_wrong_has_a_name_and_the_server_goes_on() {
    let host = Host::new("well");
    let pid = host.pid().await;
    for (tool, arguments, expected) in [
        ("txt", json!({}), "NotFound: there is no tool 's.txt': did you mean 's.text'?"),
        ("fail", json!({}), "Failed: tool 's.fail' failed: no such thing"),
        ("deep", json!({}), "Failed: what tool 's.deep' answers does not read as MCP"),
        ("shape", json!({}), "Failed: what tool 's.shape' answers is no result of a tool"),
        // Read, and refused.
        ("big", json!({"bytes": 2 << 20}), "TooLarge: the tool's result has more than 1048576 bytes"),
        // Read past: it is longer than what is ever held.
        ("big", json!({"bytes": 5 << 20}), "TooLarge: the tool's result has more than 1048576 bytes"),
    ] {
        let error = host.call(tool, arguments.clone()).await.unwrap_err();
        let kind = format!("{error:?}");
        let kind = kind.split('(').next().unwrap();
        assert_eq!(format!("{kind}: {error}"), expected, "{tool} {arguments}");
    }
    assert_eq!(host.ask("hang", json!({}), 1).await, Err(ToolError::Timeout));
    assert_eq!(host.pid().await, pid, "it is the same process");
}

#[tokio::test]
async fn a_server_that_died_is_started_again_at_the_next_call() {
    let host = Host::new("well");
    let first = host.pid().await;
    let error = host.call("die", json!({})).await.unwrap_err();
    let ToolError::Unavailable(why) = error else { panic!("{error:?}") };
    assert!(why.contains("gone in the middle of the call"), "{why}");
    until("it is seen", || host.status().state == ServerState::Failed).await;
    let second = host.pid().await;
    assert_ne!(first, second);
    // Killed from outside while nobody calls.
    std::process::Command::new("kill").args(["-9", &second.to_string()]).status().unwrap();
    until("it is seen", || host.status().state == ServerState::Failed).await;
    assert_ne!(host.pid().await, second);
}

#[tokio::test]
async fn a_server_that_does_not_begin_says_why() {
    for (mode, part) in [
        ("exit", "it does not begin to speak MCP"),
        ("babble", "it does not begin to speak MCP"),
        ("huge", "it does not list its tools"),
    ] {
        let host = Host::new(mode);
        let error = host.call("text", json!({})).await.unwrap_err();
        let ToolError::Unavailable(why) = error else { panic!("{mode}: {error:?}") };
        assert!(why.contains(part), "{mode}: {why}");
        assert_eq!(host.status().state, ServerState::Failed);
    }
    let host = Host::new("exit");
    host.call("text", json!({})).await.unwrap_err();
    until("its last words are shown", || {
        host.status().problem.is_some_and(|problem| problem.contains("there is no configuration"))
    })
    .await;
    // A list without end has an end.
    let host = Host::new("endless");
    assert_eq!(host.0.tools(&realm(), "s").await.unwrap().len(), 500);
}

#[tokio::test]
async fn a_program_that_is_not_there_and_a_secret_that_is_missing_are_named() {
    let servers = ToolServers::start(Config::new(Arc::new(Vault))).unwrap();
    let declare = |text: &str| ServerSpec::read("s", text).unwrap().remove(0);
    for (text, part) in [
        (r#"{"command": "no-such-program"}"#, "failed to start 'no-such-program'"),
        (r#"{"command": "true", "env": {"T": "{{secret:OTHER}}"}}"#, "needs the secret 'OTHER' for its variable T"),
    ] {
        servers.set_servers(&realm(), vec![(declare(text), "/".into())]);
        let error = servers.tools(&realm(), "s").await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let error = servers.tools(&realm(), "t").await.unwrap_err().to_string();
    assert!(error.contains("there is no tool server 't' in environment 'default'"), "{error}");
    let elsewhere = Realm::new("default", "other");
    assert!(matches!(servers.tools(&elsewhere, "s").await, Err(ToolError::NotFound(_))), "of its environment alone");
}

#[tokio::test]
async fn its_environment_is_bare_and_its_secrets_are_handed_along_to_be_hidden() {
    let host = Host::with("well", PATIENCE, &json!({"TOKEN": "Bearer {{secret:TOKEN}}", "PLAIN": "x"}));
    let env: Value = serde_json::from_str(host.call("env", json!({})).await.unwrap().as_str().unwrap()).unwrap();
    let expected = json!({"PATH": "/usr/local/bin:/usr/bin:/bin", "PLAIN": "x", "TOKEN": format!("Bearer {TOKEN}")});
    assert_eq!(env, expected);
    let call = ToolCall {
        realm: realm(),
        server: "s".to_owned(),
        tool: "env".to_owned(),
        arguments: Json::of(&json!({})),
        idempotency_key: String::new(),
        timeout: PATIENCE,
        result_bytes_max: 1 << 20,
    };
    let secrets = host.0.call(call).await.secrets;
    assert_eq!(
        secrets.iter().map(|(name, secret)| (name.as_str(), secret.expose())).collect::<Vec<_>>(),
        [("TOKEN", TOKEN)]
    );
    // What it writes on standard error is kept within bounds, and without its secret.
    host.call("stderr", json!({"lines": 1000})).await.unwrap();
    host.call("die", json!({})).await.unwrap_err();
    until("the last lines are there", || host.status().problem.is_some_and(|text| text.contains("line 999"))).await;
    let problem = host.status().problem.unwrap();
    assert!(problem.contains("[secret:TOKEN]") && !problem.contains(TOKEN), "{problem}");
    assert!(problem.lines().count() <= 6, "{problem}");
}

#[tokio::test]
async fn tools_that_models_could_not_call_are_left_out_and_changes_are_taken_in() {
    let host = Host::new("well");
    let names = async || -> Vec<String> {
        host.0.tools(&realm(), "s").await.unwrap().into_iter().map(|tool| tool.name).collect()
    };
    let before = names().await;
    assert_eq!(before.iter().filter(|name| *name == "text").count(), 1);
    assert!(before.iter().all(|name| name.len() < 60 && !name.contains(['\u{1b}', ' '])), "{before:?}");
    assert!(matches!(host.call("later", json!({})).await, Err(ToolError::NotFound(_))));
    host.call("change", json!({})).await.unwrap();
    assert_eq!(host.call("later", json!({})).await, Ok(json!("late")));
    assert_eq!(names().await.len(), before.len() + 1);
}

#[tokio::test]
async fn steps_share_one_process_and_an_idle_one_is_stopped() {
    let host = Host::with("well", Duration::from_millis(300), &json!({}));
    let pids = futures_util::future::join_all((0..20).map(|_| host.pid())).await;
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    until("it is stopped", || host.status().state == ServerState::Stopped && !is_alive(pids[0])).await;
    assert_ne!(host.pid().await, pids[0], "it is started when it is needed");
}

/// Its group goes with it, and what it started in that.
#[tokio::test]
async fn nothing_of_a_server_outlives_the_host() {
    let host = Host::new("stay");
    let pid = host.pid().await;
    let child: u32 = host.call("child", json!({})).await.unwrap().as_str().unwrap().parse().unwrap();
    assert!(is_alive(pid) && is_alive(child));
    tokio::task::spawn_blocking(move || drop(host)).await.unwrap();
    until("both are gone", || !is_alive(pid) && !is_alive(child)).await;
}

#[tokio::test]
async fn a_changed_declaration_stops_the_process_and_the_same_one_leaves_it() {
    let host = Host::new("well");
    let pid = host.pid().await;
    host.declare("well", &json!({}));
    assert_eq!(host.pid().await, pid);
    host.declare("well", &json!({"A": "b"}));
    until("the old one is gone", || !is_alive(pid)).await;
    assert_ne!(host.pid().await, pid);
    host.0.set_servers(&realm(), Vec::new());
    assert!(matches!(host.call("pid", json!({})).await, Err(ToolError::NotFound(_))));
}

/// Who does not wait any longer leaves nothing behind but a server that is free again.
#[tokio::test]
async fn a_call_that_nobody_waits_for_is_given_up() {
    let host = Host::with("well", Duration::from_millis(300), &json!({}));
    let pid = host.pid().await;
    let call = host.call("hang", json!({}));
    assert!(tokio::time::timeout(Duration::from_millis(200), call).await.is_err());
    until("it counts as idle", || !is_alive(pid)).await;
}
