//! Seed 004, 9.2 and 9.3: agents with schemas, one after the other.

use caisson_core::definition::{self, AgentSchemas, Catalog, Format};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

struct Agents;

impl Catalog for Agents {
    fn actions(&self) -> Option<Vec<String>> {
        Some(vec!["agent.run".to_owned()])
    }
    fn agents(&self) -> Option<Vec<String>> {
        Some(
            ["pod-checker", "log-analyzer", "notifier", "minimal-output-agent", "expects-more-agent"]
                .map(str::to_owned)
                .into(),
        )
    }
    fn agent_schemas(&self, agent: &str) -> Option<AgentSchemas> {
        let text = || json!({"type": "string"});
        let object = |properties: Value, required: &[&str]| {
            Some(json!({"type": "object", "properties": properties, "required": required}))
        };
        let pods = |item: Value| json!({"type": "array", "items": {"type": "object", "properties": item}});
        Some(match agent {
            "pod-checker" => AgentSchemas {
                input: object(json!({"namespace": text()}), &["namespace"]),
                output: object(
                    json!({"pods": pods(json!({"name": text(), "status": text()})), "timestamp": text()}),
                    &["pods"],
                ),
            },
            "log-analyzer" => AgentSchemas {
                input: object(json!({"pods": pods(json!({"name": text()}))}), &["pods"]),
                output: object(
                    json!({"analysis": text(), "severity": {"type": "string", "enum": ["low", "high"]}}),
                    &[],
                ),
            },
            "minimal-output-agent" => {
                AgentSchemas { input: None, output: object(json!({"result": text()}), &["result"]) }
            }
            "expects-more-agent" => AgentSchemas {
                input: object(json!({"result": text(), "metadata": {"type": "object"}}), &["result"]),
                output: None,
            },
            _ => AgentSchemas::default(),
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
  - {id: notify, type: operation, input: {task: agent.run, agent: notifier}, transition: analyze}
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
  - {id: notify, type: operation, input: {task: agent.run, agent: notifier}, transition: analyze}
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
