//! What each state type promises, by data: a definition, an input, and what a user sees at the end.

mod sim;

use caisson_core::status::RunStatus;
use serde_json::{Value, json};
use sim::{Chance, World, read};

fn run(source: &str, input: Value) -> (World, caisson_core::ids::RunId) {
    let mut world = World::new([read(source)]);
    let id = world.start("w", input);
    world.run_to_end(&id, &mut Chance(1), false);
    (world, id)
}

/// Status, error code, output and the states that ended, in order.
fn check(states: &str, input: Value, status: RunStatus, code: Option<&str>, output: Value, trace: &str) {
    let (world, id) = run(&format!("id: w\nstates:\n{states}"), input);
    assert_eq!(world.end(&id), (status, code.map(Into::into), output), "{states}");
    assert_eq!(world.trace(&id), trace, "{states}");
}

use RunStatus::{Completed, Failed, TimedOut};

#[test]
fn an_operation_gives_its_result_to_the_next_by_its_path() {
    check(
        "
- {name: a, type: operation, action: t.ok, input: {n: '{{ ctx.n }}', text: 'n is {{ n }}'}, resultPath: made.a, next: b}
- {name: b, type: operation, action: t.ok, input: {from: '{{ made.a.text }}', whole: '{{ made.a }}'}, end: true}",
        json!({"n": 5}),
        Completed,
        None,
        json!({"from": "n is 5", "whole": {"n": 5, "text": "n is 5"}}),
        "a b",
    );
}

#[test]
fn an_agent_is_given_what_the_step_before_it_gave() {
    for (states, output, trace) in [
        (
            "- {name: a, type: operation, action: agent.run, input: {agent: x}, end: true}",
            json!({"agent": "x", "previous": {"list": [{"n": 2}, 3]}}),
            "a",
        ),
        (
            "- {name: a, type: foreach, itemsPath: list, itemName: one, maxConcurrency: 1, iterator: {states: [{name: b, type: operation, action: agent.run, input: {agent: x}, resultPath: r, end: true}]}, end: true}",
            json!([{"r": {"agent": "x", "previous": {"n": 2}}}, {"r": {"agent": "x", "previous": {"one": 3}}}]),
            "b b a",
        ),
        (
            "- {name: a, type: inject, data: {n: 1}, next: b}
- {name: b, type: operation, action: agent.run, input: {agent: x}, end: true}",
            json!({"agent": "x", "previous": {"n": 1}}),
            "a b",
        ),
        (
            "- {name: a, type: inject, data: {n: 1}, next: b}
- {name: b, type: operation, action: agent.run, input: {agent: x, previous: mine}, end: true}",
            json!({"agent": "x", "previous": "mine"}),
            "a b",
        ),
        (
            "- {name: a, type: inject, data: {n: 1}, next: b}
- {name: b, type: operation, action: t.ok, input: {agent: x}, end: true}",
            json!({"agent": "x"}),
            "a b",
        ),
    ] {
        check(states, json!({"list": [{"n": 2}, 3]}), Completed, None, output, trace);
    }
}

#[test]
fn a_template_that_leads_nowhere_fails_the_step_and_says_what_is_there() {
    let (world, id) = run(
        "id: w\nstates:\n- {name: a, type: operation, action: t.ok, input: {x: '{{ ctx.config.missing }}'}, end: true}",
        json!({"config": {"here": 1, "too": 2}}),
    );
    let error = world.runs[&id].state.error.clone().expect("error");
    assert_eq!(error.failure.code, "PATH_NOT_FOUND");
    assert_eq!(error.failure.message, "nothing at 'config.missing'; there is: here, too");
}

#[test]
fn a_switch_goes_by_the_first_condition_that_holds() {
    let states = "
- {name: s, type: switch, dataPath: d, conditions: [{if: 'n > 10', next: big}, {if: 'n > 5', next: mid}], defaultNext: small}
- {name: big, type: inject, data: big, end: true}
- {name: mid, type: inject, data: mid, end: true}
- {name: small, type: inject, data: small, end: true}";
    for (n, output) in [(11, "big"), (6, "mid"), (1, "small")] {
        check(states, json!({"d": {"n": n}}), Completed, None, json!(output), &format!("s {output}"));
    }
    let none = "
- {name: s, type: switch, conditions: [{if: 'False', next: x}]}
- {name: x, type: inject, data: 1, end: true}";
    check(none, json!({}), Failed, Some("NO_CONDITION_HOLDS"), Value::Null, "s!FAILED");
    let undefined = "
- {name: s, type: switch, conditions: [{if: 'nope > 1', next: x}]}
- {name: x, type: inject, data: 1, end: true}";
    check(undefined, json!({}), Failed, Some("EXPRESSION_UNDEFINED_NAME"), Value::Null, "s!FAILED");
}

#[test]
fn retries_end_when_attempts_do_and_follow_retry_on() {
    let op = |failures: u32, retry: &str, category: &str| {
        format!(
            "\n- {{name: a, type: operation, action: t.flaky, input: {{failures: {failures}, code: SLOW, category: {category}}}, retry: {retry}, end: true}}"
        )
    };
    for (failures, retry, category, status, code, output) in [
        (2, "{maxAttempts: 3, backoffSeconds: 1}", "TransientError", Completed, None, json!({"attempts": 3})),
        (3, "{maxAttempts: 3, backoffSeconds: 1}", "TransientError", Failed, Some("SLOW"), Value::Null),
        (
            1,
            "{maxAttempts: 3, backoffSeconds: 1, retryOn: [SLOW]}",
            "PolicyError",
            Completed,
            None,
            json!({"attempts": 2}),
        ),
        (
            1,
            "{maxAttempts: 3, backoffSeconds: 1, retryOn: [OTHER]}",
            "TransientError",
            Failed,
            Some("SLOW"),
            Value::Null,
        ),
        (1, "{maxAttempts: 3, backoffSeconds: 1}", "ValidationError", Failed, Some("SLOW"), Value::Null),
        (
            1,
            "{maxAttempts: 3, backoffSeconds: 1, retryOn: [ValidationError]}",
            "ValidationError",
            Failed,
            Some("SLOW"),
            Value::Null,
        ),
    ] {
        let (world, id) = run(&format!("id: w\nstates:{}", op(failures, retry, category)), json!({}));
        assert_eq!(world.end(&id), (status, code.map(Into::into), output), "{retry} {category}");
    }
}

#[test]
fn backoff_grows_as_written_and_stays_under_its_cap() {
    for (retry, pauses) in [
        ("{maxAttempts: 4, backoff: fixed, backoffSeconds: 2}", [2, 2, 2]),
        ("{maxAttempts: 4, backoff: linear, backoffSeconds: 2}", [2, 4, 6]),
        ("{maxAttempts: 4, backoff: exponential, backoffSeconds: 2}", [2, 4, 8]),
        (
            "{maxAttempts: 4, backoff: exponential, backoffSeconds: 2, backoffMultiplier: 3, maxBackoffSeconds: 10}",
            [2, 6, 10],
        ),
    ] {
        let source = format!(
            "id: w\nstates:\n- {{name: a, type: operation, action: t.flaky, input: {{failures: 3}}, retry: {retry}, end: true}}"
        );
        let mut world = World::new([read(&source)]);
        let start = world.now;
        let id = world.start("w", json!({}));
        world.run_to_end(&id, &mut Chance(1), false);
        assert_eq!(world.now.since_ms(start), 1000 * pauses.iter().sum::<u64>(), "{retry}");
    }
}

#[test]
fn a_parallel_joins_in_the_order_of_declaration_and_branches_do_not_see_each_other() {
    let branches = "
    branches:
    - {name: z, states: [{name: one, type: operation, action: t.ok, input: {v: '{{ n }}'}, resultPath: result, end: true}]}
    - {name: a, states: [{name: two, type: operation, action: t.ok, input: {v: 2}, resultPath: result, end: true}]}";
    let (world, id) = run(
        &format!(
            "id: w\nstates:\n  - name: p\n    type: parallel{branches}\n    next: q\n  - {{name: q, type: transform, expression: steps.p, end: true}}"
        ),
        json!({"n": 1}),
    );
    assert_eq!(world.output(&id).to_string(), r#"{"z":{"result":{"v":1}},"a":{"result":{"v":2}}}"#);
    assert_eq!(world.context(&id)["steps"]["p"]["a"], json!({"result": {"v": 2}}));
    assert_eq!(world.context(&id).get("result"), None, "a branch's writes leaked");
}

#[test]
fn joins_wait_for_as_many_as_they_say_and_cancel_the_rest() {
    let parallel = |join: &str, rest: &str| {
        format!(
            "
- name: p
  type: parallel
  join: {join}
  {rest}
  branches:
  - {{name: quick, states: [{{name: q, type: operation, action: t.ok, input: {{v: 1}}, resultPath: r, end: true}}]}}
  - {{name: slow, states: [{{name: s, type: operation, action: t.nap, input: {{ms: 5000}}, resultPath: r, end: true}}]}}
  - {{name: bad, states: [{{name: b, type: operation, action: t.fail, input: {{}}, end: true}}]}}
  end: true"
        )
    };
    for (join, rest, status, code, keys) in [
        ("{mode: any}", "", Completed, None, vec!["quick"]),
        ("{mode: count, count: 2}", "", Completed, None, vec!["quick", "slow"]),
        ("{mode: count, count: 3}", "", Failed, Some("AS_ASKED"), vec![]),
        ("{mode: all}", "", Failed, Some("AS_ASKED"), vec![]),
        ("{mode: all}", "onBranchError: continue", Completed, None, vec!["quick", "slow", "bad"]),
    ] {
        let (world, id) = run(&format!("id: w\nstates:{}", parallel(join, rest)), json!({}));
        let (got, error, output) = world.end(&id);
        assert_eq!((got, error.as_deref()), (status, code), "{join} {rest}");
        let names: Vec<String> = output.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
        assert_eq!(names, keys, "{join} {rest}");
    }
}

#[test]
fn a_foreach_keeps_the_order_of_its_items_and_knows_their_place() {
    let source = |concurrency: u32, on_error: &str| {
        format!(
            "id: w
states:
- name: f
  type: foreach
  itemsPath: ctx.list
  itemName: it
  maxConcurrency: {concurrency}
  onItemError: {on_error}
  iterator:
    states:
    - {{name: s, type: switch, conditions: [{{if: 'it.v == 13', next: bad}}], defaultNext: good}}
    - {{name: bad, type: fail, error: {{code: UNLUCKY, message: 'item {{{{ _index }}}}'}}}}
    - {{name: good, type: operation, action: t.ok, input: {{v: '{{{{ it.v }}}}', at: '{{{{ _index }}}}', of: '{{{{ _total }}}}'}}, resultPath: result, end: true}}
  end: true"
        )
    };
    for concurrency in [1, 2, 10] {
        let (world, id) = run(&source(concurrency, "fail"), json!({"list": [{"v": 7}, {"v": 8}, {"v": 9}]}));
        let expected = json!([{"result": {"v": 7, "at": 0, "of": 3}}, {"result": {"v": 8, "at": 1, "of": 3}}, {"result": {"v": 9, "at": 2, "of": 3}}]);
        assert_eq!(world.output(&id), expected, "{concurrency}");
    }
    let (world, id) = run(&source(2, "fail"), json!({"list": [{"v": 1}, {"v": 13}, {"v": 2}]}));
    assert_eq!(world.end(&id).1.as_deref(), Some("UNLUCKY"));
    let (world, id) = run(&source(2, "continue"), json!({"list": [{"v": 1}, {"v": 13}, {"v": 2}]}));
    assert_eq!(world.output(&id)[1]["error"]["message"], json!("item 1"));
    assert_eq!(world.output(&id)[2]["result"]["v"], json!(2));
    let (world, id) = run(&source(1, "fail"), json!({"list": []}));
    assert_eq!(world.output(&id), json!([]));
    let (world, id) = run(&source(1, "fail"), json!({"list": 5}));
    assert_eq!(world.end(&id).1.as_deref(), Some("NOT_A_LIST"));
}

#[test]
fn a_foreach_never_has_more_items_open_than_it_may() {
    let source = "id: w
states:
- name: f
  type: foreach
  itemsPath: list
  maxConcurrency: 3
  iterator: {states: [{name: s, type: operation, action: t.ok, input: '{{ item }}', resultPath: r, end: true}]}
  end: true";
    let mut world = World::new([read(source)]);
    let id = world.start("w", json!({"list": (0..10).collect::<Vec<_>>()}));
    assert_eq!(world.runs[&id].ready.len(), 3);
    world.run_to_end(&id, &mut Chance(3), false);
    assert_eq!(world.output(&id)[9], json!({"r": 9}));
}

#[test]
fn try_takes_what_it_names_and_finally_runs_in_any_case() {
    let states = |body: &str, catch: &str| {
        format!(
            "
- name: t
  type: try
  try: [{{name: body, type: operation, action: {body}, input: {{code: BOOM, ok: 1}}, resultPath: made.body, end: true}}]
  {catch}
  finally: [{{name: last, type: inject, data: yes, resultPath: made.last, end: true}}]
  next: after
- {{name: after, type: transform, expression: made, end: true}}"
        )
    };
    let catch = |errors: &str| {
        format!(
            "catch: {{errors: [{errors}], as: err, states: [{{name: handler, type: inject, data: 'took {{{{ err.code }}}}', resultPath: made.took, end: true}}]}}"
        )
    };
    check(
        &states("t.ok", &catch("")),
        json!({}),
        Completed,
        None,
        json!({"body": {"code": "BOOM", "ok": 1}, "last": "yes"}),
        "body last t after",
    );
    check(
        &states("t.fail", &catch("BOOM")),
        json!({}),
        Completed,
        None,
        json!({"took": "took BOOM", "last": "yes"}),
        "body!FAILED handler last t after",
    );
    check(
        &states("t.fail", &catch("ActionError")),
        json!({}),
        Completed,
        None,
        json!({"took": "took BOOM", "last": "yes"}),
        "body!FAILED handler last t after",
    );
    check(
        &states("t.fail", &catch("OTHER")),
        json!({}),
        Failed,
        Some("BOOM"),
        Value::Null,
        "body!FAILED last t!FAILED",
    );
    check(
        &states("t.fail", "catch: {errors: [BOOM]}"),
        json!({}),
        Completed,
        None,
        json!({"last": "yes"}),
        "body!FAILED last t after",
    );
}

#[test]
fn on_error_goes_elsewhere_with_the_error_at_hand() {
    check(
        "
- {name: a, type: operation, action: t.fail, input: {code: BOOM}, onError: rescue, end: true}
- {name: rescue, type: inject, data: '{{ error.code }} in {{ error.state }}', end: true}",
        json!({}),
        Completed,
        None,
        json!("BOOM in a"),
        "a!FAILED rescue",
    );
}

#[test]
fn return_and_fail_end_the_run_from_any_depth() {
    let inside = |state: &str| {
        format!(
            "
- name: p
  type: parallel
  branches:
  - {{name: a, states: [{state}]}}
  - {{name: b, states: [{{name: s, type: operation, action: t.nap, input: {{ms: 9}}, end: true}}]}}
  next: never
- {{name: never, type: inject, data: 0, end: true}}"
        )
    };
    check(
        &inside("{name: r, type: return, output: {done: '{{ n }}'}}"),
        json!({"n": 1}),
        Completed,
        None,
        json!({"done": 1}),
        "r s!CANCELLED p!CANCELLED",
    );
    let (world, id) =
        run(&format!("id: w\nstates:{}", inside("{name: f, type: fail, error: {code: STOP, message: no}}")), json!({}));
    assert_eq!(world.end(&id), (Failed, Some("STOP".into()), Value::Null));
}

#[test]
fn waits_and_time_limits_go_by_the_clock() {
    let source = "id: w\nstates:\n- {name: a, type: wait, duration: 1h 30m, next: b}\n- {name: b, type: inject, data: 1, end: true}";
    let mut world = World::new([read(source)]);
    let start = world.now;
    let id = world.start("w", json!({}));
    assert_eq!(world.runs[&id].state.status, RunStatus::WaitingSignal);
    world.run_to_end(&id, &mut Chance(1), false);
    assert_eq!(world.now.since_ms(start), 5_400_000);
    check(
        "\n- {name: a, type: wait, duration: '{{ d }}', end: true}",
        json!({"d": "soon"}),
        Failed,
        Some("INVALID_DURATION"),
        Value::Null,
        "a!FAILED",
    );
    // The attempt's time includes its suspension.
    check(
        "\n- {name: a, type: operation, action: t.nap, input: {ms: 9000}, timeoutSeconds: 2, end: true}",
        json!({}),
        Failed,
        Some("STEP_TIMEOUT"),
        Value::Null,
        "a!TIMED_OUT",
    );
    check(
        "\n- {name: a, type: operation, action: t.ask, input: {}, timeoutSeconds: 2, retry: {maxAttempts: 3}, end: true}",
        json!({}),
        Completed,
        None,
        json!({"approved": true, "actor": "alice"}),
        "a",
    );
    let (world, id) =
        run("id: w\ntimeoutSeconds: 5\nstates:\n- {name: a, type: wait, duration: 60, end: true}", json!({}));
    assert_eq!(world.end(&id), (TimedOut, Some("RUN_TIMEOUT".into()), Value::Null));
}

#[test]
fn a_child_run_gives_its_output_and_its_errors_to_the_step_that_called() {
    let parent = |workflow: &str, extra: &str| {
        read(&format!(
            "id: w\nstates:\n- {{name: c, type: call, workflow: {workflow}, input: {{n: '{{{{ n }}}}'}}, {extra} end: true}}"
        ))
    };
    let child =
        read("id: child\nstates:\n- {name: x, type: operation, action: t.ok, input: {twice: '{{ n }}'}, end: true}");
    let broken =
        read("id: broken\nstates:\n- {name: x, type: operation, action: t.fail, input: {code: INNER}, end: true}");
    let itself = read("id: w\nstates:\n- {name: c, type: call, workflow: w, end: true}");
    for (def, expected) in [
        (parent("child", ""), (Completed, None, json!({"twice": 4}))),
        (parent("child", "output: '{{ output.twice }}',"), (Completed, None, json!(4))),
        (parent("broken", ""), (Failed, Some("INNER".to_owned()), Value::Null)),
        (parent("missing", ""), (Failed, Some("WORKFLOW_NOT_FOUND".to_owned()), Value::Null)),
        (itself, (Failed, Some("CALL_DEPTH_EXCEEDED".to_owned()), Value::Null)),
    ] {
        let mut world = World::new([child.clone(), broken.clone(), def]);
        let id = world.start("w", json!({"n": 4}));
        world.run_to_end(&id, &mut Chance(1), false);
        assert_eq!(world.end(&id), expected);
    }
}

#[test]
fn a_loop_goes_round_until_its_condition_and_a_loop_without_end_is_stopped() {
    check(
        "
- {name: n, type: inject, data: 0, resultPath: n, next: more}
- {name: more, type: transform, expression: 'n + 1', resultPath: n, next: enough}
- {name: enough, type: switch, conditions: [{if: 'n < 3', next: more}], defaultNext: done}
- {name: done, type: transform, expression: n, end: true}",
        json!({}),
        Completed,
        None,
        json!(3.0),
        "n more enough more enough more enough done",
    );
    let mut world = World::new([read(
        "id: w\nstates:\n- {name: a, type: inject, data: 0, next: b}\n- {name: b, type: inject, data: 0, next: a}",
    )]);
    world.limits.steps_max = 1000;
    let id = world.start("w", json!({}));
    world.run_to_end(&id, &mut Chance(1), false);
    assert_eq!(world.end(&id).1.as_deref(), Some("TOO_MANY_STEPS"));
}

#[test]
fn an_input_or_output_that_is_too_large_names_the_limit() {
    let mut world = World::new([read(
        "id: w\nstates:\n- {name: a, type: operation, action: t.ok, input: {a: '{{ big }}', b: '{{ big }}'}, end: true}",
    )]);
    world.limits.value_bytes_max = 10_000;
    let id = world.start("w", json!({"big": "x".repeat(6_000)}));
    assert_eq!(world.end(&id).1.as_deref(), Some("VALUE_TOO_LARGE"));
}

#[test]
fn an_output_that_does_not_fit_its_schema_fails_the_run() {
    let (world, id) =
        run("id: w\noutputSchema: {type: object}\nstates:\n- {name: a, type: inject, data: 5, end: true}", json!({}));
    assert_eq!(world.end(&id).1.as_deref(), Some("SCHEMA_VALIDATION_OUTPUT"));
}

#[test]
fn values_that_nest_ever_deeper_end_in_a_limit() {
    check(
        "
- {name: n, type: inject, data: [], resultPath: n, next: more}
- {name: more, type: inject, data: ['{{ n }}'], resultPath: n, next: more}",
        json!({}),
        Failed,
        Some("VALUE_TOO_DEEP"),
        Value::Null,
        &format!("n{} more!FAILED", " more".repeat(63)),
    );
}

#[test]
fn data_cannot_say_what_ctx_steps_and_input_mean() {
    let gate = |condition: &str| {
        format!(
            "
- {{name: look, type: inject, data: {{found: 1}}, next: s}}
- {{name: s, type: switch, dataPath: agent, conditions: [{{if: '{condition}', next: ask}}], defaultNext: pay}}
- {{name: ask, type: return, output: asked}}
- {{name: pay, type: return, output: paid}}"
        )
    };
    let evil = json!({"amount": 1, "ctx": {"amount": 1}, "input": {"amount": 1}, "steps": {"look": {"found": 9}}});
    let mut input = json!({"amount": 5000, "agent": evil});
    input.as_object_mut().expect("an object").extend(evil.as_object().expect("an object").clone());
    input["amount"] = json!(5000);
    for (condition, expected) in [
        ("ctx.amount > 1000", "asked"),
        ("input.amount > 1000", "asked"),
        ("steps.look.found > 5", "paid"),
        // What stands at `dataPath` is what a bare name means.
        ("amount > 1000", "paid"),
    ] {
        let (world, id) = run(&format!("id: w\nstates:{}", gate(condition)), input.clone());
        assert_eq!(world.end(&id), (Completed, None, json!(expected)), "{condition}");
    }
    check(
        "
- {name: a, type: transform, expression: input.amount, resultPath: bare, next: b}
- {name: b, type: return, output: ['{{ bare }}', '{{ input.amount }}', '{{ ctx.amount }}', '{{ input.input.amount }}']}",
        input,
        Completed,
        None,
        json!([5000, 5000, 5000, 1]),
        "a b",
    );
}

#[test]
fn a_return_ends_the_run_once_every_finally_around_it_has_run() {
    let last = |name: &str| format!("finally: [{{name: {name}, type: inject, data: {name}, end: true}}]");
    let states = |body: &str, more: &str| {
        format!(
            "\n- {{name: t, type: try, try: [{body}], {more}, next: after}}\n- {{name: after, type: fail, error: {{code: AFTER, message: m}}}}"
        )
    };
    let back = "{name: back, type: return, output: back}";
    let fails = "{name: body, type: operation, action: t.fail, input: {code: BOOM}, end: true}";
    let inner = format!("{{name: inner, type: try, try: [{back}], {}, end: true}}", last("first"));
    let both = format!(
        "{{name: both, type: parallel, end: true, branches: [{{name: x, states: [{back}]}}, {{name: y, states: [{{name: naps, type: wait, duration: 60, end: true}}]}}]}}"
    );
    let thrown = "finally: [{name: last, type: fail, error: {code: LATE, message: m}}]";
    for (states, end, trace) in [
        (states(back, &last("last")), (Completed, None, json!("back")), "back last t"),
        (
            states(fails, &format!("catch: {{states: [{back}]}}, {}", last("last"))),
            (Completed, None, json!("back")),
            "body!FAILED back last t",
        ),
        (states(&inner, &last("last")), (Completed, None, json!("back")), "back first inner last t"),
        (states(&both, &last("last")), (Completed, None, json!("back")), "back naps!CANCELLED both!CANCELLED last t"),
        (states(back, thrown), (Failed, Some("LATE".into()), Value::Null), "back last!FAILED t!FAILED"),
        // A finally may have the last word.
        (
            states(fails, "finally: [{name: over, type: return, output: over}]"),
            (Completed, None, json!("over")),
            "body!FAILED over t!CANCELLED",
        ),
    ] {
        let (world, id) = run(&format!("id: w\nstates:{states}"), json!({}));
        assert_eq!(world.end(&id), end, "{states}");
        assert_eq!(world.trace(&id), trace, "{states}");
    }
}
