//! Agents: who answers, and what becomes of the answer.

mod support;

use std::sync::Arc;

use caisson_core::error::{Category, RetryHint};
use caisson_core::ports::ActionRunner;
use caisson_runtime::model::{AgentSpec, CallLimits, Models, OpenAi, Scripted, ServiceConfig};
use caisson_runtime::{Runtime, RuntimeConfig};
use serde_json::{Value, json};
use support::{done, failure, invocation, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

const SCRIPT: &str = r#"{"agents": {
    "triage": [
        {"match": "database", "reply": {"severity": "high", "a": 1}},
        {"replies": ["first", "second"]}
    ],
    "prompted": [{"match": "db-7 in eu", "reply": "seen"}],
    "json": [{"reply": "```json\n{\"x\": 1}\n```"}]
}}"#;

fn models() -> Arc<Models> {
    let models = Models::new();
    models.set_provider("scripted", Arc::new(Scripted::parse(SCRIPT).expect("a script")));
    let prompted = AgentSpec::from_front_matter(
        "file",
        &json!({"model": "scripted", "metadata": {"name": "prompted"}, "input": {"default": {"region": "eu"}}}),
        "Look at {{ host.name }} in {{region}}.",
    );
    models.set_agents(
        "default",
        [
            AgentSpec::new("triage", "scripted", "You sort incidents."),
            AgentSpec::new("json", "scripted/any", ""),
            AgentSpec::new("lost", "nowhere/x", ""),
            prompted.expect("an agent"),
        ],
    );
    Arc::new(models)
}

async fn runtime() -> &'static Runtime {
    static RUNTIME: OnceCell<Runtime> = OnceCell::const_new();
    RUNTIME
        .get_or_init(|| async {
            let config =
                RuntimeConfig { models: models(), log_sink: support::lines().clone(), ..RuntimeConfig::default() };
            tokio::task::spawn_blocking(|| start(config)).await.expect("the runtime starts")
        })
        .await
}

#[tokio::test]
async fn an_agent_answers_with_an_object_or_a_result() {
    let runtime = runtime().await;
    for (input, expected) in [
        (json!({"agent": "triage", "task": "the database is down"}), json!({"severity": "high", "a": 1})),
        (json!({"agent": "triage", "task": {"what": "other"}}), json!({"result": "first"})),
        (json!({"agent": "triage", "task": "other"}), json!({"result": "second"})),
        (json!({"agent": "triage", "task": "other"}), json!({"result": "second"})),
        (json!({"agent": "prompted", "variables": {"host": {"name": "db-7"}}}), json!({"result": "seen"})),
        (json!({"agent": "json", "task": "x"}), json!({"x": 1})),
    ] {
        let entry = runtime.run(invocation(runtime, "agent.run", &input)).await;
        assert_eq!(done(&entry), expected, "{input}");
    }
}

#[tokio::test]
async fn an_agent_that_cannot_answer_says_why() {
    let runtime = runtime().await;
    for (input, code, message) in [
        (json!({}), "AGENT_NAME_REQUIRED", "agent name is required"),
        (json!({"agent": " "}), "AGENT_NAME_REQUIRED", "agent name is required"),
        (
            json!({"agent": "triagee"}),
            "AGENT_NOT_FOUND",
            "agent 'triagee' not found in environment 'default': did you mean 'triage'?",
        ),
        (json!({"agent_id": 17}), "AGENT_NOT_FOUND", "agent '17' not found in environment 'default'"),
        (json!({"agent": "lost", "task": "x"}), "MODEL_FAILED", "there is no provider 'nowhere' (there are: scripted)"),
        (json!({"agent": "prompted"}), "AGENT_REQUEST_INVALID", "needs the variable 'host.name'"),
        (json!({"agent": "json"}), "AGENT_REQUEST_INVALID", "neither a prompt nor a task"),
    ] {
        let entry = runtime.run(invocation(runtime, "agent.run", &input)).await;
        let failure = failure(&entry);
        assert_eq!(failure.code, code, "{input}: {}", failure.message);
        assert!(failure.message.contains(message), "{input}: {}", failure.message);
    }
}

/// Answers one request with what it is told and gives back what it was asked.
async fn service(
    status: &'static str,
    headers: &'static str,
    body: Value,
) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a request");
        let mut asked = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let read = socket.read(&mut buffer).await.expect("bytes");
            asked.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&asked);
            let length = text
                .to_lowercase()
                .split_once("content-length: ")
                .and_then(|(_, rest)| rest.split_once("\r\n").and_then(|(length, _)| length.parse::<usize>().ok()));
            let whole = text.split_once("\r\n\r\n").is_some_and(|(_, body)| Some(body.len()) == length);
            if whole || read == 0 {
                break;
            }
        }
        let body = body.to_string();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len());
        socket.write_all(answer.as_bytes()).await.expect("it listens");
        String::from_utf8_lossy(&asked).into_owned()
    });
    (format!("http://{address}/v1/"), task)
}

/// A service that is asked once, for an answer in one piece.
fn once(base_url: String) -> ServiceConfig {
    let limits = CallLimits { tries: 1, ..CallLimits::default() };
    ServiceConfig { stream: false, limits, ..ServiceConfig::new(base_url) }
}

#[tokio::test]
async fn a_service_is_asked_as_openai_is() {
    let answer = json!({
        "model": "m-1",
        "choices": [{"message": {"role": "assistant", "content": "{\"ok\": true}"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    });
    for (status, headers, body, expected) in [
        ("200 OK", "", answer, Ok(json!({"ok": true}))),
        (
            "429 Too Many Requests",
            "Retry-After: 9\r\n",
            json!({}),
            Err(("MODEL_UNAVAILABLE", Category::TransientError, "Retry-After: 9")),
        ),
        ("503 Service Unavailable", "", json!({}), Err(("MODEL_UNAVAILABLE", Category::TransientError, "503"))),
        ("401 Unauthorized", "", json!({"error": "bad key"}), Err(("MODEL_FAILED", Category::ActionError, "bad key"))),
        ("200 OK", "", json!({"choices": []}), Err(("MODEL_FAILED", Category::ActionError, "no choice"))),
    ] {
        let (base_url, asked) = service(status, headers, body).await;
        let models = models();
        let provider = OpenAi::new(&once(base_url)).expect("a client");
        models.set_provider("remote", Arc::new(provider));
        let mut agent = AgentSpec::new("far", "remote/m-1", "Be brief.");
        agent.temperature = Some(0.5);
        models.set_agents("default", [agent]);
        let config = RuntimeConfig { models, ..RuntimeConfig::default() };
        let runtime = tokio::task::spawn_blocking(|| start(config)).await.expect("the runtime starts");
        let entry = runtime.run(invocation(&runtime, "agent.run", &json!({"agent": "far", "task": "hello"}))).await;
        match expected {
            Ok(value) => assert_eq!(done(&entry), value),
            Err((code, category, part)) => {
                let failure = failure(&entry);
                assert_eq!((failure.code.as_str(), failure.category), (code, category), "{}", failure.message);
                assert_eq!(failure.retry, RetryHint::Default);
                assert!(failure.message.contains(part), "{}", failure.message);
            }
        }
        let asked = asked.await.expect("it was asked");
        assert!(asked.starts_with("POST /v1/chat/completions HTTP/1.1"), "{asked}");
        let (_, body) = asked.split_once("\r\n\r\n").expect("a body");
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(
            body,
            json!({
                "model": "m-1",
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
                "temperature": 0.5,
            })
        );
        tokio::task::spawn_blocking(move || drop(runtime)).await.expect("the runtime stops");
    }
}

#[test]
fn prompts_that_do_not_read_are_refused_with_their_line() {
    for (body, part) in [
        ("\n\n{{#if x}}y", "agent 'a': line 3, column 1: block 'if' without '{{/if}}'"),
        ("{{role \"king\"}}", "there is no role 'king'"),
        ("{{x", "'{{' without '}}'"),
        ("{{}}", "the tag does not read"),
    ] {
        let error = AgentSpec::from_front_matter("a", &json!({"model": "scripted"}), body).expect_err("is refused");
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(AgentSpec::from_front_matter("a", &json!({}), "x").is_err(), "no model");
}

/// On a guest's stack, as deep as a prompt may be.
#[tokio::test]
async fn a_prompt_with_blocks_and_roles_is_rendered_for_a_step() {
    let deep = "{{#each @root.list}}{{#if this}}".repeat(8) + "{{this}}" + &"{{/if}}{{/each}}".repeat(8);
    let body = format!(
        "{{{{role \"system\"}}}}Sort {{{{what}}}}.{{{{role \"user\"}}}}{{{{#each pods}}}}{{{{this}}}};{{{{/each}}}}{deep}"
    );
    let front =
        json!({"model": "scripted", "input": {"schema": {"what": "string", "pods(array)": "string", "list?": "any"}}});
    let models = Models::new();
    let script = r#"{"agents": {"a": [{"match": "a;b;1", "reply": "fine"}]}}"#;
    models.set_provider("scripted", Arc::new(Scripted::parse(script).expect("a script")));
    models.set_agents("default", [AgentSpec::from_front_matter("a", &front, &body).expect("an agent")]);
    let config = RuntimeConfig { models: Arc::new(models), ..RuntimeConfig::default() };
    let runtime = tokio::task::spawn_blocking(|| start(config)).await.expect("the runtime starts");
    for (variables, result) in [
        (json!({"what": "pods", "pods": ["a", "b"], "list": [1]}), Ok(json!({"result": "fine"}))),
        (json!({"what": "pods"}), Err("SCHEMA_VALIDATION_INPUT")),
        (json!({"what": "pods", "pods": ["a", "b"], "list": 1}), Err("AGENT_REQUEST_INVALID")),
    ] {
        let entry =
            runtime.run(invocation(&runtime, "agent.run", &json!({"agent": "a", "variables": variables}))).await;
        match result {
            Ok(result) => assert_eq!(done(&entry), result),
            Err(code) => assert_eq!(failure(&entry).code, code, "{variables}"),
        }
    }
    tokio::task::spawn_blocking(move || drop(runtime)).await.expect("the runtime stops");
}

#[test]
fn a_misspelt_key_of_a_file_is_named_with_the_right_one() {
    for (front, part) in [
        (json!({"model": "m", "outptu": {}}), "'outptu' in its front matter: did you mean 'output'?"),
        (
            json!({"model": "m", "config": {"temprature": 1}}),
            "'config.temprature' in its front matter: did you mean 'temperature'?",
        ),
        (json!({"model": "m", "limits": {"maxTurn": 1}}), "did you mean 'maxTurns'?"),
        (json!({"model": "m", "tools": "git"}), "tools has to be a list of names"),
        (json!({"model": "m", "limits": {"maxTurns": "x"}}), "limits has to be an object of whole numbers"),
    ] {
        let error = AgentSpec::from_front_matter("a", &front, "x").expect_err("is refused").to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn scripts_are_checked() {
    for script in ["", "{}", r#"{"agents": {"a": [{}]}}"#, r#"{"agents": {"a": [{"reply": 1, "replies": [2]}]}}"#] {
        assert!(Scripted::parse(script).is_err(), "{script}");
    }
}
