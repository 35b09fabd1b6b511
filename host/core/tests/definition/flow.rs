//! Seed 004, 9.2 and 9.3: agents with schemas, one after the other.

use caisson_core::definition::{self, Catalog, Format, Schemas};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

struct Agents;

impl Catalog for Agents {
    fn actions(&self) -> Option<Vec<String>> {
        Some(vec!["agent.run".to_owned(), "count.pods".to_owned()])
    }
    fn agents(&self) -> Option<Vec<String>> {
        Some(
            [
                "pod-checker",
                "log-analyzer",
                "notifier",
                "minimal-output-agent",
                "expects-more-agent",
                "closed-agent",
                "list-agent",
            ]
            .map(str::to_owned)
            .into(),
        )
    }
    fn action_schemas(&self, action: &str) -> Option<Schemas> {
        let count =
            |name: &str| json!({"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]});
        (action == "count.pods").then(|| Schemas { input: Some(count("limit")), output: Some(count("pods")) })
    }
    fn agent_schemas(&self, agent: &str) -> Option<Schemas> {
        let text = || json!({"type": "string"});
        let object = |properties: Value, required: &[&str]| {
            Some(json!({"type": "object", "properties": properties, "required": required}))
        };
        let pods = |item: Value| json!({"type": "array", "items": {"type": "object", "properties": item}});
        Some(match agent {
            "pod-checker" => Schemas {
                input: object(json!({"namespace": text()}), &["namespace"]),
                output: object(
                    json!({"pods": pods(json!({"name": text(), "status": text()})), "timestamp": text()}),
                    &["pods"],
                ),
            },
            "log-analyzer" => Schemas {
                input: object(json!({"pods": pods(json!({"name": text()}))}), &["pods"]),
                output: object(
                    json!({"analysis": text(), "severity": {"type": "string", "enum": ["low", "high"]}}),
                    &[],
                ),
            },
            "closed-agent" => Schemas {
                input: Some(
                    json!({"type": "object", "properties": {"pods": {"type": "array"}}, "additionalProperties": false}),
                ),
                output: None,
            },
            "list-agent" => Schemas { input: None, output: Some(pods(json!({}))) },
            "minimal-output-agent" => Schemas { input: None, output: object(json!({"result": text()}), &["result"]) },
            "expects-more-agent" => Schemas {
                input: object(json!({"result": text(), "metadata": {"type": "object"}}), &["result"]),
                output: None,
            },
            _ => Schemas::default(),
        })
    }
}

const INPUT: &str = "inputSchema: {type: object, properties: {namespace: {type: string}}, required: [namespace]}";

#[expect(clippy::needless_pass_by_value, reason = "expect-test's way")]
fn check(states: &str, expected: Expect) {
    let source = format!("id: w\n{INPUT}\nstates:\n{states}");
    let reading = definition::read(source.as_bytes(), Format::Yaml);
    assert!(reading.definition.is_some(), "{}", super::render(&reading.diagnostics));
    expected.assert_eq(&super::render(&reading.check(&Agents)));
}

#[test]
fn a_pipeline_of_agents_that_fit_has_no_findings() {
    check(
        "
  - {id: check, type: operation, input: {task: agent.run, agent: pod-checker}, resultPath: steps.check, transition: analyze}
  - {id: analyze, type: operation, input: {task: agent.run, agent: log-analyzer}, transition: notify}
  - {id: notify, type: operation, input: {task: agent.run, agent: notifier}, end: true}
",
        expect![[""]],
    );
}

#[test]
fn an_optional_property_that_is_never_given_is_a_warning() {
    check(
        "
  - {id: step1, type: operation, input: {task: agent.run, agent: minimal-output-agent}, transition: step2}
  - {id: step2, type: operation, input: {task: agent.run, agent: expects-more-agent}, end: true}
",
        expect![[r#"
            warning[SCHEMA_COMPATIBILITY] 6:10+5 states[1]
              step step2 expects metadata: object, step1 never gives it
        "#]],
    );
}

#[test]
fn agents_that_do_not_fit_are_an_error_that_names_both_steps() {
    check(
        "
  - {id: notify, type: operation, input: {task: agent.run, agent: minimal-output-agent}, transition: analyze}
  - {id: analyze, type: operation, input: {task: agent.run, agent: log-analyzer}, end: true}
",
        expect![[r#"
            error[SCHEMA_COMPATIBILITY] 6:10+7 states[1]
              step analyze expects pods: array, notify never gives it
        "#]],
    );
}

#[test]
fn variables_lie_over_the_result_before_and_keep_the_type_of_a_template() {
    check(
        "
  - {id: check, type: operation, input: {task: agent.run, agent: pod-checker}, transition: notify}
  - {id: notify, type: operation, input: {task: agent.run, agent: notifier}, transition: fine}
  - {id: fine, type: operation, input: {task: agent.run, agent: log-analyzer, variables: {pods: '{{ steps.check.pods }}'}}, transition: wrong}
  - {id: wrong, type: operation, input: {task: agent.run, agent: log-analyzer, variables: {pods: 'in {{ namespace }}'}}, end: true}
",
        expect![[r#"
            error[SCHEMA_COMPATIBILITY] 8:10+5 states[3]
              step wrong expects pods: array, fine with the variables gives string
        "#]],
    );
}

#[test]
fn what_fails_on_one_way_only_is_a_warning() {
    check(
        "
  - {id: check, type: operation, input: {task: agent.run, agent: pod-checker}, transition: either}
  - {id: either, type: switch, conditions: [{if: 'True', next: notify}], defaultNext: analyze}
  - {id: notify, type: operation, input: {task: agent.run, agent: minimal-output-agent}, transition: analyze}
  - {id: analyze, type: operation, input: {task: agent.run, agent: log-analyzer}, end: true}
",
        expect![[r#"
            warning[SCHEMA_COMPATIBILITY] 8:10+7 states[3]
              step analyze expects pods: array, notify never gives it
        "#]],
    );
}

#[test]
fn each_branch_is_checked_by_itself() {
    check(
        "
  - {id: check, type: operation, input: {task: agent.run, agent: pod-checker}, transition: both}
  - id: both
    type: parallel
    branches:
      - {name: logs, states: [{id: a, type: operation, input: {task: agent.run, agent: log-analyzer}, end: true}]}
      - {name: more, states: [{id: b, type: operation, input: {task: agent.run, agent: expects-more-agent}, end: true}]}
    end: true
",
        expect![[r#"
            error[SCHEMA_COMPATIBILITY] 10:36+1 states[1].branches[1].states[0]
              step b expects result: string, check never gives it
            warning[SCHEMA_COMPATIBILITY] 10:36+1 states[1].branches[1].states[0]
              step b expects metadata: object, check never gives it
        "#]],
    );
}

#[test]
fn an_agent_without_an_output_schema_cannot_be_compared() {
    check(
        "
  - {id: notify, type: operation, input: {task: agent.run, agent: notifier}, transition: analyze}
  - {id: analyze, type: operation, input: {task: agent.run, agent: log-analyzer}, end: true}
",
        expect![[r#"
            warning[SCHEMA_COMPATIBILITY] 6:10+7 states[1]
              cannot validate what analyze takes: notify has no schema for what it gives
        "#]],
    );
}

#[test]
fn the_first_agent_is_given_the_input_of_the_run() {
    check(
        "
  - {id: analyze, type: operation, input: {task: agent.run, agent: log-analyzer}, end: true}
",
        expect![[r#"
            warning[SCHEMA_COMPATIBILITY] 5:10+7 states[0]
              step analyze expects pods: array, the run's input does not say whether it gives it
        "#]],
    );
}

#[test]
fn what_a_closed_schema_does_not_name_is_not_taken_along() {
    check(
        "
  - {id: check, type: operation, input: {task: agent.run, agent: pod-checker}, transition: fine}
  - {id: fine, type: operation, input: {task: agent.run, agent: closed-agent}, transition: wrong}
  - {id: wrong, type: operation, input: {task: agent.run, agent: closed-agent, variables: {more: 1}}, end: true}
",
        expect![[r#"
            warning[SCHEMA_COMPATIBILITY] 7:10+5 states[2]
              what fine with the variables gives may not fit pods of wrong: it must be array, and what is given has no type
            error[SCHEMA_COMPATIBILITY] 7:10+5 states[2]
              what fine with the variables gives never fits more of wrong: nothing is taken there
        "#]],
    );
}

#[test]
fn an_agent_whose_answer_is_no_object_gives_it_as_result() {
    check(
        "
  - {id: list, type: operation, input: {task: agent.run, agent: list-agent}, transition: next}
  - {id: next, type: operation, input: {task: agent.run, agent: expects-more-agent}, end: true}
",
        expect![[r#"
            error[SCHEMA_COMPATIBILITY] 6:10+4 states[1]
              step next expects result: string, list gives array
            warning[SCHEMA_COMPATIBILITY] 6:10+4 states[1]
              step next expects metadata: object, list never gives it
        "#]],
    );
}

#[test]
fn an_item_begins_with_itself() {
    check(
        "
  - {id: check, type: operation, input: {task: agent.run, agent: pod-checker}, transition: each}
  - id: each
    type: foreach
    itemsPath: steps.check.pods
    itemName: pod
    iterator: {states: [{id: look, type: operation, input: {task: agent.run, agent: expects-more-agent}, end: true}]}
    end: true
",
        expect![[r#"
            error[SCHEMA_COMPATIBILITY] 10:30+4 states[1].iterator.states[0]
              step look expects result: string, an item of each never gives it
            warning[SCHEMA_COMPATIBILITY] 10:30+4 states[1].iterator.states[0]
              step look expects metadata: object, an item of each never gives it
        "#]],
    );
}

#[test]
fn a_try_begins_with_what_it_was_given() {
    check(
        "
  - {id: check, type: operation, input: {task: agent.run, agent: pod-checker}, transition: careful}
  - id: careful
    type: try
    try: [{id: b, type: operation, input: {task: agent.run, agent: expects-more-agent}, end: true}]
    catch: {states: [{id: c, type: operation, input: {task: agent.run, agent: expects-more-agent}, end: true}]}
    end: true
",
        expect![[r#"
            error[SCHEMA_COMPATIBILITY] 8:16+1 states[1].try[0]
              step b expects result: string, check never gives it
            warning[SCHEMA_COMPATIBILITY] 8:16+1 states[1].try[0]
              step b expects metadata: object, check never gives it
            warning[SCHEMA_COMPATIBILITY] 9:27+1 states[1].catch.states[0]
              step cannot validate what c takes: careful has no schema for what it gives
        "#]],
    );
}

#[test]
fn what_certainly_does_not_fit_another_action_is_a_warning() {
    check(
        "
  - {id: check, type: operation, input: {task: agent.run, agent: pod-checker}, transition: text}
  - {id: text, type: operation, action: count.pods, input: {limit: '{{ steps.check.timestamp }}'}, transition: none}
  - {id: none, type: operation, action: count.pods, input: {}, transition: fine}
  - {id: fine, type: operation, action: count.pods, input: {limit: '{{ steps.text.pods }}'}, transition: open}
  - {id: open, type: operation, action: count.pods, input: {limit: '{{ namespaces.count }}'}, transition: analyze}
  - {id: analyze, type: operation, input: {task: agent.run, agent: log-analyzer}, end: true}
",
        expect![[r#"
            warning[SCHEMA_COMPATIBILITY] 6:10+4 states[1]
              step text expects limit: integer, its input gives string
            warning[SCHEMA_COMPATIBILITY] 7:10+4 states[2]
              step none expects limit: integer, its input never gives it
            error[SCHEMA_COMPATIBILITY] 10:10+7 states[5]
              step analyze expects pods: array, open gives integer
        "#]],
    );
}
