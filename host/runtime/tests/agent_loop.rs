//! Agents at work: tools, limits, schemas, other agents, and hosts that die in the middle.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use caisson_core::error::{Category, RetryHint};
use caisson_core::ports::{
    ActionRunner, Entry, Invocation, Journal, PageRequest, SessionLine, SessionRow, SessionStatus,
};
use caisson_runtime::model::{AgentSpec, Error, Models, Progress, Provider, Reply, Scripted, Tokens, Turn};
use caisson_runtime::{Runtime, RuntimeConfig};
use serde_json::{Value, json};
use support::dying::Dying;
use support::{done, failure, invocation, start};

/// Counts what is paid for: each answer takes ten tokens.
struct Paid {
    model: Scripted,
    calls: AtomicUsize,
}

#[async_trait]
impl Provider for Paid {
    async fn complete(&self, turn: &Turn, progress: Progress<'_>) -> Result<Reply, Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let reply = self.model.complete(turn, progress).await?;
        Ok(Reply { usage: Tokens { input_tokens: 7, output_tokens: 3 }, ..reply })
    }
}

const NEEDS: &str = r#"{"type": "object", "properties": {"namespace": {"type": "string"}}, "required": ["namespace"]}"#;
const GIVES: &str = r#"{"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}"#;

fn front(more: &Value) -> Value {
    let mut front = json!({"model": "paid/m"});
    for (key, value) in more.as_object().expect("an object") {
        front[key] = value.clone();
    }
    front
}

async fn host(script: &Value, agents: &[(&str, Value)], journal: Option<Arc<Dying>>) -> (Runtime, Arc<Paid>) {
    let script = json!({"agents": script}).to_string();
    let paid = Arc::new(Paid { model: Scripted::parse(&script).expect("a script"), calls: AtomicUsize::new(0) });
    let models = Models::new();
    models.set_provider("paid", Arc::clone(&paid) as Arc<dyn Provider>);
    let agent =
        |(name, more): &(&str, Value)| AgentSpec::from_front_matter(name, &front(more), "You work.").expect("an agent");
    models.set_agents("default", agents.iter().map(agent));
    models.set_agents("other", [AgentSpec::new("elsewhere", "paid/m", "You work.")]);
    let mut config = RuntimeConfig { models: Arc::new(models), ..RuntimeConfig::default() };
    if let Some(journal) = journal {
        config.journal = journal;
    }
    let runtime = tokio::task::spawn_blocking(|| start(config)).await.expect("the runtime starts");
    (runtime, paid)
}

/// What comes of one run, and how many answers it took.
async fn ran(script: Value, agents: &[(&str, Value)], input: Value) -> (Entry, usize) {
    let (runtime, paid) = host(&script, agents, None).await;
    let entry = runtime.run(invocation(&runtime, "agent.run", &input)).await;
    stop(runtime).await;
    (entry, paid.calls.load(Ordering::SeqCst))
}

async fn stop(runtime: Runtime) {
    tokio::task::spawn_blocking(move || drop(runtime)).await.expect("it stops");
}

#[expect(clippy::needless_pass_by_value, reason = "it is written with json! where it is called")]
fn calls(name: &str, arguments: Value) -> Value {
    json!({"toolCalls": [{"name": name, "arguments": arguments}]})
}

fn schema(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// The rows "Agent Resolution Tests" of seed 004, 9.1.
#[tokio::test]
async fn an_agent_is_found_by_its_name_in_its_environment() {
    let agents = [("kubernetes-triage", json!({})), ("123", json!({}))];
    let script = || json!({"*": [{"reply": "fine"}]});
    for (input, expected) in [
        (json!({"agent": "kubernetes-triage", "task": "x"}), Ok(None)),
        (json!({"agent_id": 123, "task": "x"}), Ok(Some("AGENT_ID_DEPRECATED"))),
        (json!({"agent": "nonexistent", "task": "x"}), Err("agent 'nonexistent' not found in environment 'default'")),
        (json!({"agent": "elsewhere", "task": "x"}), Err("agent 'elsewhere' not found in environment 'default'")),
        (json!({"agent": "", "task": "x"}), Err("agent name is required")),
    ] {
        let (entry, paid) = ran(script(), &agents, input.clone()).await;
        match expected {
            Ok(warning) => {
                assert_eq!(done(&entry), json!({"result": "fine"}), "{input}");
                assert_eq!(entry.warnings.first().map(|warning| warning.code.as_str()), warning, "{input}");
            }
            Err(message) => {
                assert_eq!((failure(&entry).message.as_str(), paid), (message, 0), "{input}");
                assert_eq!(failure(&entry).retry, RetryHint::Never, "{input}");
            }
        }
    }
}

/// The rows "Runtime Validation Tests" of seed 004, 9.1: what a step is given.
#[tokio::test]
async fn the_input_is_checked_over_the_previous_result_before_a_model_is_paid() {
    let needs = ("checker", json!({"input": {"schema": schema(NEEDS)}}));
    let defaulted = ("checker", json!({"input": {"schema": schema(NEEDS), "default": {"namespace": "a"}}}));
    for (agent, input, fits) in [
        (&needs, json!({"variables": {"namespace": "a"}}), true),
        (&needs, json!({"previous": {"namespace": "a", "more": 1}}), true),
        (&needs, json!({"previous": {"namespace": 1}, "variables": {"namespace": "a"}}), true),
        (&needs, json!({"previous": {"namespace": 1}}), false),
        (&needs, json!({"previous": "text"}), false),
        (&needs, json!({}), false),
        (&defaulted, json!({}), true),
        (&("checker", json!({})), json!({"previous": 7}), true),
    ] {
        let mut given = json!({"agent": "checker", "task": "x"});
        for (key, value) in input.as_object().expect("an object") {
            given[key] = value.clone();
        }
        let (entry, paid) = ran(json!({"*": [{"reply": "fine"}]}), std::slice::from_ref(agent), given).await;
        assert_eq!(paid, usize::from(fits), "{input}");
        if !fits {
            let failure = failure(&entry);
            assert_eq!(
                (failure.code.as_str(), failure.category),
                ("SCHEMA_VALIDATION_INPUT", Category::ValidationError)
            );
            assert_eq!(failure.retry, RetryHint::Never, "{input}");
            assert!(failure.message.contains("namespace") || failure.message.contains("text"), "{}", failure.message);
        }
    }
}

/// The same, of what a step gives: it is asked for again twice, then goes on with a warning.
#[tokio::test]
async fn an_answer_that_does_not_fit_is_mended_or_goes_on_with_a_warning() {
    let gives = || ("a", json!({"output": {"schema": schema(GIVES)}}));
    for (replies, agent, expected, paid, warned) in [
        (json!([{"ok": true}]), gives(), json!({"ok": true}), 1, false),
        (json!(["```json\n{\"ok\": true}\n```"]), gives(), json!({"ok": true}), 1, false),
        (json!(["no", {"ok": 1}, {"ok": true}]), gives(), json!({"ok": true}), 3, false),
        (json!([{"ok": 1}, {"ok": 2}, {"ok": 3}]), gives(), json!({"ok": 3}), 3, true),
        (json!([{"ok": 1}]), ("a", json!({})), json!({"ok": 1}), 1, false),
    ] {
        let script = json!({"a": [{"replies": replies}]});
        let (entry, asked) = ran(script, &[agent], json!({"agent": "a", "task": "x"})).await;
        assert_eq!((done(&entry), asked), (expected, paid), "{replies}");
        let codes: Vec<&str> = entry.warnings.iter().map(|warning| warning.code.as_str()).collect();
        assert_eq!(codes.contains(&"SCHEMA_VALIDATION_OUTPUT"), warned, "{replies}: {codes:?}");
        assert_eq!((entry.usage.input_tokens, entry.usage.output_tokens), (7 * paid as u64, 3 * paid as u64));
    }
}

#[tokio::test]
async fn an_agent_calls_others_and_is_told_what_cannot_be_called() {
    let agents = [
        ("boss", json!({"tools": ["agent.helper", "agent.strict"]})),
        ("helper", json!({})),
        ("strict", json!({"input": {"schema": schema(NEEDS)}})),
    ];
    let script = json!({
        "boss": [
            {"match": "start", "reply": calls("agent.helper", json!({"task": "count"}))},
            {"match": "seven", "reply": calls("rm", json!({"path": "/"}))},
            {"match": "there is no tool 'rm' (there are: agent.helper, agent.strict)", "reply": calls("agent.helper", json!("{oops"))},
            {"match": "not a JSON object", "reply": calls("agent.strict", json!({"namespace": 1}))},
            {"match": "the input does not fit agent 'strict'", "reply": {"count": 7}},
        ],
        "helper": [{"match": "count", "reply": "seven"}],
    });
    let (entry, paid) = ran(script, &agents, json!({"agent": "boss", "task": "start"})).await;
    assert_eq!((done(&entry), paid), (json!({"count": 7}), 6));
}

#[tokio::test]
async fn limits_end_an_agent_by_name() {
    let script = || json!({"*": [{"reply": calls("agent.a", json!({"task": "again"}))}], "b": [{"reply": calls("x", json!({}))}]});
    for (agent, code, paid) in [
        (("b", json!({"limits": {"maxTurns": 3}})), "AGENT_TURN_LIMIT", 3),
        (("b", json!({})), "AGENT_TURN_LIMIT", 20),
        (("b", json!({"limits": {"maxTokens": 35}})), "AGENT_TOKEN_LIMIT", 4),
        (("b", json!({"limits": {"timeoutSeconds": 0}})), "AGENT_TIME_LIMIT", 1),
        (("a", json!({"tools": ["agent.a"]})), "AGENT_DEPTH_LIMIT", 4),
    ] {
        let name = agent.0;
        let (entry, asked) = ran(script(), &[agent], json!({"agent": name, "task": "x"})).await;
        let failure = failure(&entry);
        assert_eq!((failure.code.as_str(), failure.category, asked), (code, Category::LimitError, paid));
        assert_eq!(failure.retry, RetryHint::Never, "{code}");
    }
}

/// The sessions of a call's step, as they began.
async fn sessions(journal: &Dying, call: &Invocation) -> Vec<SessionRow> {
    let page = PageRequest { limit: 100, cursor: None };
    journal.sessions(&call.run, Some(&call.step), &page).await.expect("answers").items
}

/// What each line of a session is, and who says it. Their numbers have no gaps.
async fn lines(journal: &Dying, session: &SessionRow) -> Vec<String> {
    let lines = journal.session_lines(&session.run, &session.id, 0, 1_000).await.expect("answers");
    assert_eq!(lines.len(), session.lines as usize);
    let one = |(number, line): (u32, &SessionLine)| {
        let value = line.line.value();
        assert_eq!((line.number, &value["n"]), (number, &json!(number)));
        [&value["type"], &value["role"]].into_iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
    };
    (1..).zip(&lines).map(one).collect()
}

#[tokio::test]
async fn agents_of_one_step_have_sessions_with_names_parents_and_an_end() {
    let agents = [
        ("boss", json!({"tools": ["agent.helper", "agent.strict"], "limits": {"maxTurns": 3}})),
        ("helper", json!({})),
        ("strict", json!({"input": {"schema": schema(NEEDS)}})),
    ];
    let script = json!({
        "boss": [
            {"match": "start", "reply": {"toolCalls": [
                {"name": "agent.helper", "arguments": {"task": "count"}},
                {"name": "agent.helper", "arguments": {"task": "count"}},
                {"name": "agent.strict", "arguments": {"namespace": 1}},
            ]}},
            {"match": "", "reply": calls("rm", json!({}))},
        ],
        "helper": [{"match": "count", "reply": "seven"}],
    });
    let journal = Arc::new(Dying::after(u32::MAX));
    let (runtime, _) = host(&script, &agents, Some(Arc::clone(&journal))).await;
    let input = json!({"agent": "boss", "task": "start", "session": "research"});
    let call = Invocation { claim: Some(1), attempt: 2, ..invocation(&runtime, "agent.run", &input) };
    let entry = runtime.run(call.clone()).await;
    stop(runtime).await;
    assert_eq!(failure(&entry).code, "AGENT_TURN_LIMIT");
    let found = sessions(&journal, &call).await;
    let parent = Some(found[0].id.clone());
    let shown: Vec<_> = found.iter().map(|one| (&*one.name, &*one.agent, one.status, one.turns, one.attempt)).collect();
    assert_eq!(
        shown,
        [
            ("research", "boss", SessionStatus::Failed, 3, 2),
            ("helper", "helper", SessionStatus::Completed, 1, 2),
            ("helper-2", "helper", SessionStatus::Completed, 1, 2),
            ("strict", "strict", SessionStatus::Failed, 0, 2),
        ]
    );
    assert!(found[0].parent.is_none() && found[1..].iter().all(|one| one.parent == parent));
    assert_eq!(lines(&journal, &found[1]).await, ["session", "message system", "message user", "answer assistant"]);
    assert_eq!(lines(&journal, &found[3]).await, ["session", "end"]);
    let of_boss = lines(&journal, &found[0]).await;
    assert_eq!(of_boss[3..8], ["answer assistant", "message tool", "message tool", "message tool", "answer assistant"]);
    assert_eq!(of_boss[of_boss.len() - 3..], ["answer assistant", "message tool", "end"], "what came last is there");
    let last = journal.session_lines(&call.run, &found[0].id, found[0].lines - 1, 1).await.expect("answers");
    assert_eq!(last[0].line.value()["error"]["code"], json!("AGENT_TURN_LIMIT"));
}

/// No answer that is recorded is paid for again, and at most the one that was under way when the host died.
#[tokio::test]
async fn an_agent_goes_on_at_the_turn_where_its_host_died() {
    const TURNS: usize = 10;
    let mut replies = vec![calls("x", json!({})); TURNS - 1];
    replies.push(json!({"ok": true}));
    // The opening is a call of its own.
    for appends in 0..=TURNS {
        let journal = Arc::new(Dying::after(u32::try_from(appends).expect("is small")));
        let script = json!({"a": [{"replies": replies}]});
        let (first, paid) = host(&script, &[("a", json!({}))], Some(Arc::clone(&journal))).await;
        let call = |runtime: &Runtime, claim| Invocation {
            claim: Some(claim),
            ..invocation(runtime, "agent.run", &json!({"agent": "a", "task": "x"}))
        };
        tokio::select! {
            entry = first.run(call(&first, 1)) => panic!("it ended: {entry:?}"),
            () = journal.died.notified() => {}
        }
        stop(first).await;
        let before = paid.calls.load(Ordering::SeqCst);
        assert_eq!(before, appends, "one is under way beyond those that are recorded, and the opening is no answer");

        journal.left.store(u32::MAX, Ordering::SeqCst);
        let rest = json!({"a": [{"replies": replies[appends.saturating_sub(1)..]}]});
        let (second, again) = host(&rest, &[("a", json!({}))], Some(Arc::clone(&journal))).await;
        assert_eq!(done(&second.run(call(&second, 2)).await), json!({"ok": true}));
        let after = again.calls.load(Ordering::SeqCst);
        assert_eq!(after, TURNS - appends.saturating_sub(1), "{appends}");
        assert!(before + after <= TURNS + 1, "{appends}");
        let call = call(&second, 2);
        stop(second).await;
        // Nor has the transcript a line twice, or none.
        let [session] = &sessions(&journal, &call).await[..] else { panic!("{appends}: not one session") };
        assert_eq!((session.turns, session.output_tokens, session.status), (10, 30, SessionStatus::Completed));
        let mut expected = vec!["session", "message system", "message user"];
        for _ in 1..TURNS {
            expected.extend(["answer assistant", "message tool"]);
        }
        expected.push("answer assistant");
        assert_eq!(lines(&journal, session).await, expected, "{appends}");
    }
}
