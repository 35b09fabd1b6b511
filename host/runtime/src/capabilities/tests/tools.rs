//! Tools: who may call which, what is recorded, and what of an answer a guest sees.

use std::time::Duration;

use async_trait::async_trait;
use caisson_core::ports::{Journal, PageRequest, ServerStatus, Tool, ToolAnswer, ToolCall, ToolError, Tools};

use crate::bindings::caisson::step::{model, tools};
use crate::model::{AgentSpec, Scripted};

use super::*;

/// Two servers; every call is kept, and answered by the tool's name.
#[derive(Default)]
struct Connected(Mutex<Vec<ToolCall>>);

impl Connected {
    fn calls(&self) -> Vec<String> {
        self.0.lock().iter().map(|call| format!("{}.{} {}", call.server, call.tool, call.arguments.get())).collect()
    }
}

#[async_trait]
impl Tools for Connected {
    fn servers(&self, _: &Realm) -> Vec<ServerStatus> {
        let status = |name: &str| ServerStatus {
            name: name.into(),
            file: "f".into(),
            command: "c".to_owned(),
            state: caisson_core::ports::ServerState::Stopped,
            pid: None,
            protocol: None,
            tools: None,
            calls: 0,
            problem: None,
        };
        vec![status("broken"), status("git")]
    }

    async fn tools(&self, _: &Realm, server: &str) -> Result<Vec<Tool>, ToolError> {
        let tool = |name: &str| Tool { name: name.to_owned(), description: String::new(), parameters: json!({}) };
        match server {
            "git" => Ok(vec![tool("log"), tool("push")]),
            other => Err(ToolError::Unavailable(format!("'{other}' does not start"))),
        }
    }

    async fn call(&self, call: ToolCall) -> ToolAnswer {
        let result = match call.tool.as_str() {
            "log" => Ok(Json::of(&json!({"said": "the token is tok3n-value"}))),
            "push" => Err(ToolError::Failed("no tok3n-value".to_owned())),
            "big" => Err(ToolError::TooLarge(call.result_bytes_max)),
            "slow" => Err(ToolError::Timeout),
            _ => Err(ToolError::NotFound("there is none".to_owned())),
        };
        self.0.lock().push(call);
        ToolAnswer { result, secrets: vec![("TOKEN".to_owned(), Secret::new("tok3n-value"))] }
    }
}

fn host() -> (Host, Arc<Connected>) {
    let connected = Arc::<Connected>::default();
    let host = Host::new();
    let config = RuntimeConfig {
        journal: host.journal.clone(),
        secrets: host.vault.clone(),
        log_sink: host.lines.clone(),
        tools: connected.clone(),
        ..RuntimeConfig::default()
    };
    let reader = |name: &str, tools: &[&str]| {
        let mut agent = AgentSpec::new(name, "scripted", "Read.");
        agent.tools = tools.iter().map(|tool| (*tool).to_owned()).collect();
        agent
    };
    let agents = [
        reader("reader", &["git.log"]),
        reader("writer", &["git.*"]),
        reader("nobody", &[]),
        reader("astray", &["gti.log"]),
        reader("unlucky", &["broken.x"]),
        reader("hasty", &["git.lgo", "git.push"]),
    ];
    config.models.set_agents("default", agents);
    let shared = Arc::new(Shared::new(&config));
    (Host { shared, ..host }, connected)
}

async fn call(state: &mut State, name: &str, arguments: &str) -> Result<Value, Error> {
    let answer = answer(tools::Host::call(state, name.to_owned(), arguments.to_owned()).await);
    answer.map(|text| serde_json::from_str(&text).expect("JSON"))
}

async fn names(state: &mut State) -> Result<Vec<String>, Error> {
    let text = answer(tools::Host::list_tools(state).await)?;
    let list: Vec<Value> = serde_json::from_str(&text).expect("a list");
    Ok(list.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect())
}

async fn open(state: &mut State, agent: &str) -> Value {
    let request = json!({"open": {"agent": agent, "task": "x"}}).to_string();
    let text = answer(model::Host::complete(state, request).await).expect("opens");
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test]
async fn a_guest_calls_what_it_is_granted_and_sees_no_secret_of_a_server() {
    let (host, connected) = host();
    let mut state = Guest::with(json!(["tools:git.log", "tools:git.push"])).enter(&host);
    assert_eq!(names(&mut state).await.expect("a list"), ["git.log", "git.push"]);
    let said = call(&mut state, "git.log", "{\"n\": 1}").await.expect("an answer");
    assert_eq!(said, json!({"said": "the token is [secret:TOKEN]"}));
    let Err(Error::Other(why)) = call(&mut state, "git.push", "{}").await else { panic!("it fails") };
    assert_eq!(why, "no [secret:TOKEN]");
    denied(tools::Host::call(&mut state, "git.clone".to_owned(), "{}".to_owned()).await, "tools:git.clone");
    denied(tools::Host::call(&mut state, "broken.x".to_owned(), "{}".to_owned()).await, "tools:broken.x");
    invalid(tools::Host::call(&mut state, "git.log".to_owned(), "[]".to_owned()).await, "not a JSON object");
    invalid(tools::Host::call(&mut state, "git.log".to_owned(), "{".to_owned()).await, "do not read");
    invalid(tools::Host::call(&mut state, "git.\u{1b}[31m".to_owned(), "{}".to_owned()).await, "control characters");
    assert_eq!(connected.calls(), ["git.log {\"n\": 1}", "git.push {}"]);
}

#[tokio::test]
async fn errors_of_tools_keep_their_kind_and_quotas_hold() {
    let (host, connected) = host();
    let grants = json!({"tools": {"maxCalls": 3, "maxResultBytes": 77, "timeoutMs": 5000}});
    let mut state = Guest::with(grants).enter(&host);
    assert!(matches!(call(&mut state, "git.big", "{}").await, Err(Error::TooLarge(77))));
    assert!(matches!(call(&mut state, "git.slow", "{}").await, Err(Error::Timeout)));
    assert!(matches!(call(&mut state, "git.none", "{}").await, Err(Error::NotFound(_))));
    over_quota(tools::Host::call(&mut state, "git.log".to_owned(), "{}".to_owned()).await);
    assert_eq!(connected.0.lock()[0].timeout, Duration::from_secs(5));
    let mut state = Guest { step: "step-2", ..Guest::with(json!(["tools"])) }.enter(&host);
    not_found(tools::Host::call(&mut state, "nodot".to_owned(), "{}".to_owned()).await);
    // Every tool of every server that answers: nobody named the one that does not.
    assert_eq!(names(&mut state).await.expect("a list"), ["git.log", "git.push"]);
}

/// Whatever a model makes its guest ask for: an agent has what its file says.
#[tokio::test]
async fn who_speaks_for_agents_calls_what_their_files_name() {
    let (host, connected) = host();
    let enter = |step| Guest { step, ..Guest::with(json!(["tools", "model"])) }.enter(&host);
    let mut state = enter("step-1");
    open(&mut state, "nobody").await;
    assert_eq!(names(&mut state).await.expect("a list"), [""; 0]);
    denied(tools::Host::call(&mut state, "git.log".to_owned(), "{}".to_owned()).await, "add \"git.log\" to 'tools'");
    open(&mut state, "reader").await;
    call(&mut state, "git.log", "{}").await.expect("it is named");
    denied(tools::Host::call(&mut state, "git.push".to_owned(), "{}".to_owned()).await, "'git.push'");
    // An agent that another one calls has its own.
    open(&mut state, "writer").await;
    assert!(matches!(call(&mut state, "git.push", "{}").await, Err(Error::Other(_))));
    assert_eq!(connected.calls().len(), 2);

    // The host dies: what was opened is known from the records, and nothing is called again.
    let mut again = enter("step-1");
    open(&mut again, "nobody").await;
    names(&mut again).await.expect("a list");
    denied(tools::Host::call(&mut again, "git.log".to_owned(), "{}".to_owned()).await, "'git.log'");
    open(&mut again, "reader").await;
    assert_eq!(
        call(&mut again, "git.log", "{}").await.expect("recorded"),
        json!({"said": "the token is [secret:TOKEN]"})
    );
    assert_eq!(connected.calls().len(), 2);

    for (step, agent, part) in [
        ("step-2", "astray", "there is no tool server 'gti' in environment 'default': did you mean 'git'?"),
        ("step-3", "unlucky", "'broken' does not start"),
    ] {
        let mut state = enter(step);
        open(&mut state, agent).await;
        let Err(Error::NotFound(why) | Error::Unavailable(why)) = names(&mut state).await else { panic!("{agent}") };
        assert!(why.contains(part), "{why}");
    }
}

#[tokio::test]
async fn the_steps_log_says_what_was_called_and_which_name_is_wrong_and_nothing_that_a_tool_said() {
    let (host, _) = host();
    let mut state = Guest::with(json!(["tools", "model"])).enter(&host);
    open(&mut state, "hasty").await;
    assert_eq!(names(&mut state).await.expect("a list"), ["git.push"]);
    call(&mut state, "git.push", "{}").await.expect_err("it fails");
    let lines: Vec<String> = host.lines.0.lock().iter().map(|line| line.message.clone()).collect();
    assert_eq!(lines[0], "an agent names the tool 'git.lgo', which its server does not have: did you mean 'git.log'?");
    assert!(lines[1].starts_with("tool 'git.push' gave a failure after "), "{lines:?}");
    assert_eq!(lines.len(), 2);
}

/// As the built-in agent works, up to a turn: it has called what the model wanted, and adds what it was told.
async fn work(state: &mut State, turns: usize) {
    let opened = open(state, "writer").await;
    let (session, mut messages) = (&opened["session"], opened["messages"].as_array().expect("a list").clone());
    for turn in 1..=turns {
        let request =
            json!({"agent": "writer", "session": session, "prepared": true, "messages": messages}).to_string();
        let text = answer(model::Host::complete(state, request).await).expect("a turn");
        let reply: Value = serde_json::from_str(&text).expect("JSON");
        let calls = reply["toolCalls"].as_array().cloned().unwrap_or_default();
        messages.push(json!({"role": "assistant", "content": reply["content"], "toolCalls": calls}));
        for one in &calls {
            let told = match call(state, one["name"].as_str().expect("a name"), &one["arguments"].to_string()).await {
                Ok(Value::String(text)) => text,
                Ok(other) => other.to_string(),
                Err(Error::Other(why)) => format!("error: {why}"),
                Err(other) => panic!("turn {turn}: {other:?}"),
            };
            messages.push(json!({"role": "tool", "toolCallId": one["id"], "content": told}));
        }
    }
}

/// What stands in the one transcript: type, call and what is said.
async fn transcript(host: &Host) -> Vec<String> {
    let (run, page) = (RunId::new("run-1"), PageRequest { limit: 10, cursor: None });
    let sessions = host.journal.sessions(&run, None, &page).await.expect("a page");
    assert_eq!(sessions.items.len(), 1);
    let lines = host.journal.session_lines(&run, &sessions.items[0].id, 0, 100).await.expect("lines");
    let word = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let lines = lines.iter().map(|line| line.line.value());
    lines
        .map(|line| format!("{} {} {}", word(&line, "role"), word(&line, "toolCallId"), word(&line, "content")))
        .collect()
}

/// The step is cut off, or its host dies, between a tool's result and the next turn: the result is in the transcript, and is there once.
#[tokio::test]
async fn a_result_stands_in_the_transcript_before_the_next_turn() {
    let (host, connected) = host();
    let wants = |name: &str| json!({"toolCalls": [{"name": name, "arguments": {"n": 1}}]});
    let script =
        json!({"agents": {"writer": [{"replies": [wants("git.log"), wants("git.push"), "done"]}]}}).to_string();
    host.shared.models.set_provider("scripted", Arc::new(Scripted::parse(&script).expect("a script")));
    let enter = || Guest::with(json!(["tools", "model"])).enter(&host);
    let mut expected =
        vec!["  ", "system  Read.", "user  x", "assistant  ", "tool call_0 {\"said\":\"the token is [secret:TOKEN]\"}"];
    work(&mut enter(), 1).await;
    assert_eq!(transcript(&host).await, expected);
    // Another host goes on.
    work(&mut enter(), 2).await;
    expected.extend(["assistant  ", "tool call_0 error: no [secret:TOKEN]"]);
    assert_eq!(transcript(&host).await, expected);
    work(&mut enter(), 2).await;
    assert_eq!(transcript(&host).await, expected);
    work(&mut enter(), 3).await;
    expected.push("assistant  done");
    assert_eq!(transcript(&host).await, expected);
    assert_eq!(connected.calls().len(), 2, "and nothing was called twice");
}
