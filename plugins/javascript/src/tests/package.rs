//! Packages: how actions are found, what comes in, what goes out.

use std::rc::Rc;

use serde_json::{Value, json};

use super::{action, call, done, failed, fake, package, resumed, suspended};
use crate::bindings::caisson::step::types::{Category, Decision, Retry, Signal, Verdict, Wake};

#[test]
fn an_exported_function_is_an_action() {
    let source =
        "export function greet(input, context) { return { greeting: `${context.config.greeting}, ${input.name}` }; }";
    assert_eq!(done(action(source, "greet", r#"{"name":"Zoë"}"#)), r#"{"greeting":"hello, Zoë"}"#);
}

#[test]
fn names_are_found_as_they_are_written_in_javascript() {
    let source = r#"
        const quoted = () => 1;
        export { quoted as "quoted-name" };
        export const under_scored = () => 2;
        export const camelCased = () => 3;
        export default { inDefault() { return this.other(); }, other: () => 4 };
    "#;
    for (name, value) in [("quoted-name", "1"), ("under-scored", "2"), ("camel-cased", "3"), ("in-default", "4")] {
        assert_eq!(done(action(source, name, "null")), value, "{name}");
    }
    let failure = failed(action(source, "nothing", "null"));
    assert_eq!((failure.code.as_str(), failure.category), ("UNKNOWN_ACTION", Category::Validation));
    assert!(matches!(failure.retry, Retry::Never));
}

#[test]
fn a_plain_script_has_its_global_functions() {
    assert_eq!(done(action("function greet(input) { return input + 1; }", "greet", "41")), "42");
}

#[test]
fn promises_are_run_to_their_end() {
    let source = "
        const later = async (value) => value;
        export async function add(input) {
            let sum = 0;
            for await (const one of input.map(later)) sum += await later(one);
            return later({ sum, all: await Promise.all([1, later(2)]) });
        }
    ";
    assert_eq!(done(action(source, "add", "[1,2,3]")), r#"{"sum":6,"all":[1,2]}"#);
}

#[test]
fn a_module_may_await_and_import_its_own_files() {
    let mut host = fake(
        "import { twice } from './lib/twice.js';\nconst two = await Promise.resolve(2);\nexport const run = (n) => twice(n) * two;",
    );
    host.assets.insert("lib/twice.js".to_owned(), "export { twice } from '../more.js';".to_owned());
    host.assets.insert("more.js".to_owned(), "export const twice = (n) => n * 2;".to_owned());
    assert_eq!(done(package(&Rc::new(host), &call("run", "3"))), "12");

    let failure = failed(action("import x from 'lodash'; export const run = () => x;", "run", "1"));
    assert!(failure.message.contains("import 'lodash': there are no packages here"), "{}", failure.message);
    let failure = failed(action("import x from '../../x.js'; export const run = () => x;", "run", "1"));
    assert!(failure.message.contains("the path leads out of the plugin"), "{}", failure.message);
    let failure = failed(action("import x from './x.js'; export const run = () => x;", "run", "1"));
    assert!(failure.message.contains("the plugin has no file x.js"), "{}", failure.message);
}

#[test]
fn nothing_returned_is_null() {
    assert_eq!(done(action("export function run() {}", "run", "null")), "null");
}

#[test]
fn json_keeps_its_order_and_its_text() {
    let input = r#"{"z":1,"a":{"y":[1.5,"\u00e9😀",null,true],"b":{}},"__proto__":{"x":1}}"#;
    let expected = r#"{"z":1,"a":{"y":[1.5,"é😀",null,true],"b":{}},"__proto__":{"x":1}}"#;
    assert_eq!(done(action("export const run = (input) => input;", "run", input)), expected);
    // Numbers are doubles: documented, not hidden.
    assert_eq!(done(action("export const run = (input) => input;", "run", "9007199254740993")), "9007199254740992");
    assert_eq!(
        done(action("export const run = (i) => JSON.parse('[1,2]', (k, v) => (k === '0' ? 5 : v));", "run", "1")),
        "[5,2]"
    );
}

#[test]
fn the_context_says_where_it_runs() {
    let source =
        "export const run = (_, context) => { 'use strict'; try { context.runId = 1 } catch {} return context; };";
    let context: Value = serde_json::from_str(&done(action(source, "run", "null"))).unwrap();
    assert_eq!(
        context,
        json!({
            "action": "run", "tenant": "default", "environment": "default", "workflow": "orders", "workflowVersion": "3",
            "runId": "run-1", "stepId": "step-1", "state": "greet", "attempt": 2, "entry": 0,
            "idempotencyKey": "run-1:step-1", "deadlineMs": 1500, "traceparent": null,
            "config": {"greeting": "hello"}, "resumed": null,
        })
    );
}

#[test]
fn a_failure_says_what_it_is() {
    let source = "export function run() {
        throw new caisson.Failure({ code: 'RATE_LIMITED', category: 'transient', message: 'slow down', retry: { afterMs: 1500 }, details: { limit: 5 } });
    }";
    let failure = failed(action(source, "run", "null"));
    assert_eq!((failure.code.as_str(), failure.message.as_str()), ("RATE_LIMITED", "slow down"));
    assert_eq!((failure.category, failure.details.as_deref()), (Category::Transient, Some(r#"{"limit":5}"#)));
    assert!(matches!(failure.retry, Retry::AfterMs(1500)));

    let failure = failed(action(
        "export const run = () => { throw new caisson.Failure({ code: 'A', message: 'b', category: 'nope' }) }",
        "run",
        "1",
    ));
    assert!(
        failure.message.contains("category 'nope' is unknown: there are validation, expression"),
        "{}",
        failure.message
    );
}

#[test]
fn an_error_says_where_it_was_thrown() {
    let source = "const inner = (x) =>\n  x.missing.name;\nexport async function run(input) {\n  await null;\n  return inner(input);\n}";
    let failure = failed(action(source, "run", "{}"));
    assert_eq!((failure.code.as_str(), failure.category), ("SCRIPT_ERROR", Category::Action));
    assert!(failure.message.starts_with("TypeError: "), "{}", failure.message);
    assert!(failure.message.contains("(plugin.js:2:"), "{}", failure.message);
    let details: Value = serde_json::from_str(failure.details.as_deref().unwrap()).unwrap();
    let stack: Vec<&str> = details["stack"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(stack[0].starts_with("at inner (plugin.js:2:"), "{stack:?}");
    assert!(stack[1].starts_with("at run (plugin.js:5:"), "{stack:?}");
    assert!(stack.iter().all(|frame| !frame.contains("prelude")), "{stack:?}");
}

#[test]
fn what_does_not_parse_says_where() {
    let failure = failed(action("export function run() {\n  return 1 +;\n}", "run", "null"));
    assert_eq!(failure.code, "SCRIPT_ERROR");
    assert!(failure.message.starts_with("SyntaxError: "), "{}", failure.message);
    assert!(failure.message.ends_with("(plugin.js:2:13)"), "{}", failure.message);
}

#[test]
fn what_is_no_json_is_a_failure() {
    for (value, why) in [("10n", "bigint"), ("Symbol('a')", "it is symbol"), ("() => 1", "it is function")] {
        let failure = failed(action(&format!("export const run = () => ({value});"), "run", "null"));
        assert!(failure.message.contains("the result is not JSON"), "{}", failure.message);
        assert!(failure.message.contains(why), "{}", failure.message);
    }
    let failure = failed(action("export const run = () => { const a = {}; a.a = a; return a; };", "run", "null"));
    assert!(failure.message.contains("the result is not JSON"), "{}", failure.message);
    let failure = failed(action("export const run = () => { throw 'text'; };", "run", "null"));
    assert_eq!((failure.code.as_str(), failure.message.as_str()), ("SCRIPT_ERROR", "thrown: text"));
}

#[test]
fn a_promise_that_stays_open_is_a_failure() {
    for source in [
        "export const run = () => new Promise(() => {});",
        "await new Promise(() => {}); export const run = () => 1;",
        "export const run = () => Atomics.waitAsync(new Int32Array(new SharedArrayBuffer(4)), 0, 0).value;",
    ] {
        let failure = failed(action(source, "run", "null"));
        assert_eq!(failure.code, "SCRIPT_PROMISE_PENDING", "{source}: {}", failure.message);
    }
}

#[test]
fn runaway_recursion_is_a_failure_with_a_name() {
    for source in [
        "const f = (n) => 1 + f(n + 1); export const run = () => f(0);",
        "const f = async (n) => 1 + (await f(n + 1)); export const run = () => f(0);",
        "const f = (n) => [n].map(f); export const run = () => f(0);",
        "const o = { get x() { return this.x; } }; export const run = () => o.x;",
    ] {
        let source = source.to_owned();
        // The stack of a test's thread is larger than an instance's, but not in a debug build.
        let run = std::thread::Builder::new()
            .stack_size(256 << 20)
            .spawn(move || failed(action(&source, "run", "null")).code);
        assert_eq!(run.unwrap().join().unwrap(), "SCRIPT_STACK_LIMIT");
    }
}

#[test]
fn a_step_waits_and_wakes_in_the_same_function() {
    let source = "export function ask(input, { resumed }) {
        if (!resumed) return caisson.suspend({ state: { asked: input.what }, signals: ['answer'], wakeAfterMs: 1000.5 });
        return { state: resumed.state, wake: resumed.wake };
    }";
    let suspension = suspended(action(source, "ask", r#"{"what":"é"}"#));
    assert_eq!(String::from_utf8(suspension.state).unwrap(), r#"{"asked":"é"}"#);
    assert_eq!((suspension.signals, suspension.wake_after_ms), (vec!["answer".to_owned()], Some(1001)));
    assert!(suspension.approval.is_none());

    let wakes = [
        (
            Wake::Signal(Signal { name: "answer".to_owned(), payload: r#"{"n":1}"#.to_owned(), actor: None }),
            json!({"type": "signal", "name": "answer", "payload": {"n": 1}, "actor": null}),
        ),
        (
            Wake::Approval(Decision { verdict: Verdict::TimedOut, actor: None, comment: Some("no".to_owned()) }),
            json!({"type": "approval", "verdict": "timed-out", "approved": false, "actor": null, "comment": "no"}),
        ),
        (Wake::Timer, json!({"type": "timer"})),
        (Wake::Cancelled("gone".to_owned()), json!({"type": "cancelled", "reason": "gone"})),
    ];
    for (wake, expected) in wakes {
        let call = resumed(call("ask", "{}"), r#"{"asked":"é"}"#, wake);
        let result: Value = serde_json::from_str(&done(package(&Rc::new(fake(source)), &call))).unwrap();
        assert_eq!(result, json!({"state": {"asked": "é"}, "wake": expected}));
    }
}

#[test]
fn a_step_asks_for_approval() {
    let source = "export const ask = () => caisson.suspend({ approval: { message: 'Ship?', summary: { n: 1 }, approvers: ['team:ops'], deadlineMs: 60000 } });";
    let suspension = suspended(action(source, "ask", "null"));
    let approval = suspension.approval.unwrap();
    assert_eq!((approval.message.as_str(), approval.summary.as_deref()), ("Ship?", Some(r#"{"n":1}"#)));
    assert_eq!((approval.approvers, approval.deadline_ms), (vec!["team:ops".to_owned()], Some(60000)));
    assert!(suspension.state.is_empty());

    let failure = failed(action("export const ask = () => caisson.suspend({ state: 1 });", "ask", "null"));
    assert!(failure.message.contains("needs a reason to wake"), "{}", failure.message);
}
