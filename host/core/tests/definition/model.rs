//! What the fields of a definition become.

use caisson_core::definition::{self, Format};
use caisson_core::model::{Definition, Next, State, StateKind};
use expect_test::{Expect, expect};
use std::sync::Arc;

fn read(source: &str) -> Arc<Definition> {
    let reading = definition::read(source.as_bytes(), Format::Detect);
    reading.definition.unwrap_or_else(|| panic!("{source}\n{}", super::render(&reading.diagnostics)))
}

/// One state, in a workflow of its own beside a state `z`.
fn state(fields: &str) -> State {
    let source = format!("id: w\nstart: s\nstates:\n  - {fields}\n  - {{name: z, type: return}}\n");
    read(&source).states[0].clone()
}

fn check(fields: &str, expected: &Expect) {
    let State { timeout_ms, retry, result_path, next, kind, .. } = state(fields);
    let next = match next {
        Next::Goto(id) => format!("goto {}", id.0),
        Next::End => "end".to_owned(),
    };
    let mut text = format!("{next}, result at {result_path}");
    if let Some(ms) = timeout_ms {
        text += &format!(", timeout {ms}");
    }
    if let Some(retry) = retry {
        text += &format!("\n{retry:?}");
    }
    text += &match kind {
        StateKind::Operation(o) => format!("\n{} {:?} {:?} {:?}", o.action, o.input, o.idempotency_key, o.on_reject),
        other => format!("\n{other:?}"),
    };
    expected.assert_eq(&text);
}

#[test]
fn fields_become_the_model() {
    check(
        "{name: s, type: operation, action: a.b, end: true}",
        &expect![[r#"
        end, result at steps.s
        a.b Constant(Object {}) None None"#]],
    );
    check(
        "{id: s, type: operation, input: {task: agent.run, agent: x, timeoutSeconds: 1.5}, transition: z}",
        &expect![[r#"
        goto 1, result at steps.s, timeout 1500
        agent.run Constant(Object {"agent": String("x")}) None None"#]],
    );
    check(
        "{name: s, type: operation, action: agent.run, timeoutSeconds: 9, input: {task: agent.run, timeoutSeconds: 1}, next: z}",
        &expect![[r#"
        goto 1, result at steps.s, timeout 9000
        agent.run Constant(Object {"task": String("agent.run")}) None None"#]],
    );
    check(
        "{name: s, type: operation, action: human.approval, input: {message: m, summaryPath: ctx.steps.a, approvers: [\"team:x\"]}, onReject: z, end: true}",
        &expect![[r#"
        end, result at steps.s
        human.approval Object([("message", Constant(String("m"))), ("summary", Whole(Path(Path([Key("steps"), Key("a")])))), ("approvers", Constant(Array [String("team:x")]))]) None Some(StateId(1))"#]],
    );
    check(
        "{name: s, type: operation, action: a.b, input: \"{{ steps.x }}\", idempotencyKey: \"k-{{ id }}\", end: true}",
        &expect![[r#"
        end, result at steps.s
        a.b Whole(Path(Path([Key("steps"), Key("x")]))) Some(Text([Literal("k-"), Fill(Path(Path([Key("id")])))])) None"#]],
    );
    check(
        "{name: s, type: operation, action: a.b, retry: {}, end: true}",
        &expect![[r#"
        end, result at steps.s
        Retry { max_attempts: 3, backoff: Fixed, delay_ms: 1000, multiplier: 2.0, max_delay_ms: 3600000, jitter: 0.0, retry_on: [] }
        a.b Constant(Object {}) None None"#]],
    );
    check(
        "{name: s, type: operation, action: a.b, retry: {maxAttempts: 5, backoff: exponential, backoffSeconds: 0.5, backoffMultiplier: 3, maxBackoffSeconds: 60, jitter: true, retryOn: [TimeoutError, RATE_LIMITED]}, end: true}",
        &expect![[r#"
        end, result at steps.s
        Retry { max_attempts: 5, backoff: Exponential, delay_ms: 500, multiplier: 3.0, max_delay_ms: 60000, jitter: 0.2, retry_on: ["TimeoutError", "RATE_LIMITED"] }
        a.b Constant(Object {}) None None"#]],
    );
    check(
        "{name: s, type: switch, conditions: [{if: true, next: z}, {if: \"x > 1\", end: true}], end: true}",
        &expect![[r#"
        end, result at steps.s
        Switch(Switch { data_path: None, conditions: [Condition { expression: "True", next: Goto(StateId(1)) }, Condition { expression: "x > 1", next: End }], default: Some(End) })"#]],
    );
    check(
        "{name: s, type: switch, dataPath: a.b, conditions: [{if: x, next: z}], defaultNext: z}",
        &expect![[r#"
        end, result at steps.s
        Switch(Switch { data_path: Some(Path([Key("a"), Key("b")])), conditions: [Condition { expression: "x", next: Goto(StateId(1)) }], default: Some(Goto(StateId(1))) })"#]],
    );
    check(
        "{name: s, type: parallel, branches: [{name: p, states: [{name: x, type: inject, data: 1, end: true}]}], join: {mode: count, count: 1}, onBranchError: continue, end: true}",
        &expect![[r#"
        end, result at steps.s
        Parallel(Parallel { branches: [Branch { name: "p", block: BlockId(1) }], join: Count(1), on_branch_error: Continue })"#]],
    );
    check(
        "{name: s, type: parallel, branches: [{name: p, states: [{name: x, type: inject, data: 1, end: true}]}], join: any, end: true}",
        &expect![[r#"
        end, result at steps.s
        Parallel(Parallel { branches: [Branch { name: "p", block: BlockId(1) }], join: Any, on_branch_error: Fail })"#]],
    );
    check(
        "{name: s, type: foreach, itemsPath: ctx.list, iterator: {states: [{name: x, type: return}]}, end: true}",
        &expect![[r#"
        end, result at steps.s
        Foreach(Foreach { items: Path([Key("list")]), item_name: "item", max_concurrency: 1, block: BlockId(1), on_item_error: Fail })"#]],
    );
    check(
        "{name: s, type: transform, expression: \"len(x)\", resultPath: ctx.n, end: true}",
        &expect![[r#"
        end, result at n
        Transform { expression: "len(x)" }"#]],
    );
    check(
        "{name: s, type: try, try: [{name: x, type: inject, data: {}, end: true}], catch: {errors: TimeoutError}, end: true}",
        &expect![[r#"
        end, result at steps.s
        Try(Try { body: BlockId(1), catch: Some(Catch { errors: ["TimeoutError"], bind: "error", block: None }), finally: None })"#]],
    );
    check(
        "{name: s, type: wait, duration: 1.5, end: true}",
        &expect![[r#"
        end, result at steps.s
        Wait(Duration(Constant(Number(1.5))))"#]],
    );
    check(
        "{name: s, type: wait, duration: 1h 30m, end: true}",
        &expect![[r#"
        end, result at steps.s
        Wait(Duration(Constant(String("1h 30m"))))"#]],
    );
    check(
        "{name: s, type: wait, until: \"{{ when }}\", end: true}",
        &expect![[r#"
        end, result at steps.s
        Wait(Until(Whole(Path(Path([Key("when")])))))"#]],
    );
    check(
        "{name: s, type: signal, end: true}",
        &expect![[r#"
        end, result at steps.s
        Signal(SignalWait { name: Constant(String("s")), correlation: None, filter: None })"#]],
    );
    check(
        "{id: s, name: order.paid, type: signal, correlation: \"{{ id }}\", filter: \"payload.ok\", end: true}",
        &expect![[r#"
        end, result at steps.s
        Signal(SignalWait { name: Constant(String("order.paid")), correlation: Some(Whole(Path(Path([Key("id")])))), filter: Some("payload.ok") })"#]],
    );
    check(
        "{name: s, type: signal, signal: order.paid, end: true}",
        &expect![[r#"
        end, result at steps.s
        Signal(SignalWait { name: Constant(String("order.paid")), correlation: None, filter: None })"#]],
    );
    check(
        "{name: s, type: call, workflow: child, version: 2, input: {a: 1}, output: \"{{ x }}\", end: true}",
        &expect![[r#"
        end, result at steps.s
        Call(Call { workflow: Constant(String("child")), version: Some(Constant(String("2"))), input: Some(Constant(Object {"a": Number(1)})), output: Some(Whole(Path(Path([Key("x")])))) })"#]],
    );
    check(
        "{name: s, type: fail, error: \"no {{ x }}\"}",
        &expect![[r#"
        end, result at steps.s
        Fail(Fail { code: Constant(String("FAILED")), category: ActionError, message: Text([Literal("no "), Fill(Path(Path([Key("x")])))]), details: None })"#]],
    );
    check(
        "{name: s, type: fail, error: {code: E1, category: PolicyError, message: m, details: [1]}}",
        &expect![[r#"
        end, result at steps.s
        Fail(Fail { code: Constant(String("E1")), category: PolicyError, message: Constant(String("m")), details: Some(Constant(Array [Number(1)])) })"#]],
    );
}

#[test]
fn a_pipeline_is_a_chain_of_operations_over_its_args() {
    let definition = read(
        r#"
name: "Build & Deploy!"
version: 1.10
argsSchema: {type: object}
phases: [build]
steps:
  - {id: plan, name: Make a plan, phase: build, type: agent, agent: claude, prompt: "Do {{ args.what }}"}
  - {id: run, type: script, command: "make {{ args['x'] }} {{ len(args.y) }}", cwd: "{{ args }}"}
  - {id: calc, type: script, source: "1 + 1", timeoutSeconds: 5}
  - {id: send, type: function, function: http.call, input: {url: "{{ ctx.args.url }}"}}
"#,
    );
    let mut text = format!("{} {:?}\n", definition.id, definition.version);
    for state in &definition.states {
        let StateKind::Operation(o) = &state.kind else { panic!("{state:?}") };
        text += &format!("{} ({:?}) {} {:?} → {:?}\n", state.name, state.title, o.action, o.input, state.next);
    }
    expect![[r#"
        build-deploy Some("1.10")
        plan (Some("Make a plan")) agent.run Object([("agent", Constant(String("claude"))), ("task", Text([Literal("Do "), Fill(Path(Path([Key("what")])))]))]) → Goto(StateId(1))
        run (None) process.exec Object([("command", Text([Literal("make "), Fill(Path(Path([Key("x")]))), Literal(" "), Fill(Expression("len(ctx.y)"))])), ("cwd", Whole(Path(Path([]))))]) → Goto(StateId(2))
        calc (None) script.run Constant(Object {"source": String("1 + 1")}) → Goto(StateId(3))
        send (None) http.call Object([("url", Whole(Path(Path([Key("url")]))))]) → End
    "#]].assert_eq(&text);
}

#[test]
fn limits_on_load_and_retention_become_the_model() {
    let read = |top: &str| read(&format!("id: w\nstart: s\n{top}\nstates: [{{name: s, type: return}}]\n"));
    let concurrency = |text: &str| format!("{:?}", read(&format!("concurrency: {text}")).concurrency.as_ref().unwrap());
    expect!["Concurrency { limit: 3, key: None, overflow: Queue { queued_max: 1000 } }"].assert_eq(&concurrency("3"));
    expect![[r#"Concurrency { limit: 1, key: Some(Text([Fill(Path(Path([Key("a"), Key("b")]))), Literal("-"), Fill(Path(Path([Key("c")])))])), overflow: Queue { queued_max: 7 } }"#]].assert_eq(&concurrency("{limit: 1, key: '{{ ctx.a.b }}-{{ c }}', maxQueued: 7}"));
    expect!["Concurrency { limit: 2, key: None, overflow: CancelOldest }"]
        .assert_eq(&concurrency("{limit: 2, policy: cancel-oldest}"));
    expect!["Concurrency { limit: 2, key: None, overflow: Refuse }"]
        .assert_eq(&concurrency("{limit: 2, policy: refuse}"));
    let retention = |text: &str| read(&format!("retention: {text}")).retention;
    expect!["Retention { payloads_ms: Some(2592000000), runs_ms: Some(7776000000) }"]
        .assert_eq(&format!("{:?}", retention("{payloads: 30d, runs: 7776000}")));
    expect!["Retention { payloads_ms: None, runs_ms: Some(86400000) }"]
        .assert_eq(&format!("{:?}", retention("{runs: P1D}")));
    let pipeline = "id: p\nconcurrency: {limit: 1, key: '{{ args.x }}'}\nsteps: [{id: a, type: script, source: '1'}]";
    let definition = definition::read(pipeline.as_bytes(), Format::Yaml).definition.unwrap();
    expect![[r#"Some(Concurrency { limit: 1, key: Some(Whole(Path(Path([Key("x")])))), overflow: Queue { queued_max: 1000 } })"#]].assert_eq(&format!("{:?}", definition.concurrency));
}

#[test]
fn a_version_keeps_its_spelling_in_the_stored_form() {
    for (version, label) in
        [("1.10", "1.10"), ("\"2\"", "2"), ("7", "7"), ("v1", "v1"), ("1e3", "1e3"), ("0x10", "0x10")]
    {
        let source = format!("id: w\nversion: {version}\nstart: s\nstates: [{{name: s, type: return}}]\n");
        let reading = definition::read(source.as_bytes(), Format::Yaml);
        assert_eq!(reading.json.map(|json| json["version"].clone()), Some(label.into()));
        assert_eq!(reading.definition.and_then(|d| d.version.clone()).as_deref(), Some(label));
    }
}
