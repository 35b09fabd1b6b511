//! Reading definitions, by data: every file of `definitions/ok` is accepted and every file of `definitions/bad` refused,
//! with exactly the findings in the `.expected` file beside it (`UPDATE_EXPECT=1 cargo test` writes them).

#![expect(
    clippy::unwrap_used,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::needless_raw_string_hashes,
    reason = "tests: brevity, and expect-test writes the raw strings"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use caisson_core::definition::{self, Catalog, Diagnostic, Format, Reading};
use expect_test::{expect, expect_file};

#[path = "definition/flow.rs"]
mod flow;
#[path = "definition/hostile.rs"]
mod hostile;
#[path = "definition/model.rs"]
mod model;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/definitions").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "yaml" || e == "json"));
    files.sort();
    files
}

fn read_file(path: &Path) -> Reading {
    let format = if path.extension().is_some_and(|e| e == "json") { Format::Json } else { Format::Yaml };
    definition::read(&std::fs::read(path).unwrap(), format)
}

fn render(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for d in diagnostics {
        let severity = if d.is_error() { "error" } else { "warning" };
        let path = if d.path.is_empty() { "the document" } else { &d.path };
        writeln!(text, "{severity}[{}] {}:{}+{} {path}\n  {}", d.code, d.line, d.column, d.length, d.message).unwrap();
        if let Some(suggestion) = &d.suggestion {
            writeln!(text, "  help: {suggestion}").unwrap();
        }
    }
    text
}

fn expected_beside(path: &Path) -> expect_test::ExpectFile {
    expect_file![path.with_extension(format!("{}.expected", path.extension().unwrap().to_str().unwrap()))]
}

#[test]
fn what_is_wrong_is_refused_with_place_reason_and_help() {
    let files = files("bad");
    assert!(files.len() >= 60, "{} files", files.len());
    for path in files {
        let reading = read_file(&path);
        assert!(reading.definition.is_none(), "{} was accepted", path.display());
        assert!(reading.diagnostics.iter().any(Diagnostic::is_error), "{}", path.display());
        expected_beside(&path).assert_eq(&render(&reading.diagnostics));
    }
}

#[test]
fn what_is_right_is_accepted_and_reads_the_same_from_its_stored_json() {
    for path in files("ok") {
        let reading = read_file(&path);
        assert!(reading.definition.is_some(), "{}:\n{}", path.display(), render(&reading.diagnostics));
        expected_beside(&path).assert_eq(&render(&reading.diagnostics));

        let definition = reading.definition.unwrap();
        let stored = serde_json::to_string(&reading.json.unwrap()).unwrap();
        let again = definition::from_json(&serde_json::from_str(&stored).unwrap());
        let same = again.definition.unwrap_or_else(|| panic!("{}:\n{}", path.display(), render(&again.diagnostics)));
        assert_eq!(format!("{definition:#?}"), format!("{same:#?}"), "{}", path.display());
        let text = serde_json::to_string(&again.json.unwrap()).unwrap();
        assert_eq!(definition::digest(&text), definition::digest(&stored), "{}", path.display());
    }
}

#[test]
fn the_place_of_a_finding_is_in_its_source() {
    for path in files("bad").into_iter().chain(files("ok")) {
        let source = std::fs::read(&path).unwrap();
        for d in read_file(&path).diagnostics {
            let before = String::from_utf8_lossy(&source[..d.offset.min(source.len())]).into_owned();
            let before = before.strip_prefix('\u{feff}').unwrap_or(&before);
            let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
            assert!(d.offset + d.length <= source.len(), "{}: {d:?}", path.display());
            assert_eq!((d.line, d.column), (before.matches('\n').count() + 1, column), "{}: {d:?}", path.display());
        }
    }
}

struct Known {
    actions: Option<&'static [&'static str]>,
    agents: Option<&'static [&'static str]>,
    workflows: Option<&'static [&'static str]>,
}

impl Catalog for Known {
    fn actions(&self) -> Option<Vec<String>> {
        self.actions.map(|names| names.iter().map(ToString::to_string).collect())
    }
    fn agents(&self) -> Option<Vec<String>> {
        self.agents.map(|names| names.iter().map(ToString::to_string).collect())
    }
    fn workflows(&self) -> Option<Vec<String>> {
        self.workflows.map(|names| names.iter().map(ToString::to_string).collect())
    }
}

const CATALOG_SOURCE: &str = r#"
id: w
start: a
states:
  - {name: a, type: operation, action: agent.run, input: {agent: pod-checkr}, next: b}
  - {name: b, type: operation, action: agent.run, input: {agent: nonexistent, task: "{{ x }}"}, next: c}
  - {name: c, type: operation, action: agent.run, input: {agent: nonexistent}, next: d}
  - {name: d, type: operation, action: agent.run, input: {agent: "{{ who }}"}, next: e}
  - {name: e, type: operation, action: agent.run, input: {agent: ""}, next: f}
  - {name: f, type: operation, action: agnet.run, next: g}
  - {name: g, type: operation, input: {task: http.call, url: "http://x/"}, next: h}
  - {name: h, type: call, workflow: cleanup, next: i}
  - {name: i, type: call, workflow: w, end: true}
"#;

#[test]
fn missing_agents_actions_and_workflows_are_named_once_with_their_steps() {
    let reading = definition::read(CATALOG_SOURCE.as_bytes(), Format::Detect);
    let known = Known {
        actions: Some(&["agent.run", "human.approval"]),
        agents: Some(&["pod-checker", "notifier"]),
        workflows: Some(&["clean-up"]),
    };
    expect![[r#"
        error[AGENT_NOT_FOUND] 5:66+10 states[0].input.agent
          agent 'pod-checkr' not found in environment (state 'a')
          help: did you mean 'pod-checker'?
        error[AGENT_NOT_FOUND] 6:66+11 states[1].input.agent
          agent 'nonexistent' not found in environment (states 'b', 'c')
        error[MISSING_FIELD] 9:66+2 states[4].input.agent
          state 'e': agent name is required
          help: name it in the input: agent: NAME
        error[UNKNOWN_ACTION] 10:40+9 states[5].action
          state 'f': no plugin has the action 'agnet.run'
          help: did you mean 'agent.run'?
        error[UNKNOWN_ACTION] 11:46+9 states[6].input.task
          state 'g': no plugin has the action 'http.call'
        warning[WORKFLOW_NOT_FOUND] 12:37+7 states[7].workflow
          state 'h': there is no workflow 'cleanup' yet
          help: did you mean 'clean-up'?
    "#]]
    .assert_eq(&render(&reading.check(&known)));
    let without_places = definition::check(reading.definition.as_ref().unwrap(), &known);
    assert_eq!(without_places.len(), reading.check(&known).len());
    assert!(without_places.iter().any(|d| (d.path.as_str(), d.line) == ("states[0]", 0)));
}

#[test]
fn without_a_catalog_existence_is_a_warning() {
    let reading = definition::read(CATALOG_SOURCE.as_bytes(), Format::Detect);
    let unknown = Known { actions: None, agents: None, workflows: None };
    expect![[r#"
        warning[AGENT_NOT_CHECKED] 5:66+10 states[0].input.agent
          whether these agents exist was not checked, none are known here: 'pod-checkr', 'nonexistent'
        error[MISSING_FIELD] 9:66+2 states[4].input.agent
          state 'e': agent name is required
          help: name it in the input: agent: NAME
        warning[ACTION_NOT_CHECKED] 10:40+9 states[5].action
          whether the action 'agnet.run' exists was not checked: no plugins are known here
          help: did you mean 'agent.run'?
        warning[ACTION_NOT_CHECKED] 11:46+9 states[6].input.task
          whether the action 'http.call' exists was not checked: no plugins are known here
    "#]]
    .assert_eq(&render(&reading.check(&unknown)));
}

#[test]
fn an_agent_may_still_be_named_by_its_id() {
    let source = br#"
id: w
start: a
states:
  - {name: a, type: operation, action: agent.run, input: {agent_id: 123}, next: b}
  - {name: b, type: operation, action: agent.run, input: {agent_id: "{{ x }}", task: "{{ y }}"}, next: c}
  - {name: c, type: operation, action: agent.run, input: {agent_id: ""}, end: true}
"#;
    let reading = definition::read(source, Format::Yaml);
    let known = Known { actions: Some(&["agent.run"]), agents: Some(&[]), workflows: None };
    expect![[r#"
        warning[AGENT_ID_DEPRECATED] 5:12+1 states[0]
          state 'a': 'agent_id' is deprecated
          help: write agent: NAME instead
        warning[AGENT_ID_DEPRECATED] 6:12+1 states[1]
          state 'b': 'agent_id' is deprecated
          help: write agent: NAME instead
        error[MISSING_FIELD] 7:12+1 states[2]
          state 'c': agent name is required
          help: name it in the input: agent: NAME
    "#]]
    .assert_eq(&render(&reading.check(&known)));
}

#[test]
fn what_would_not_do_what_it_says_is_not_taken() {
    let source = br#"
id: w
start: a
states:
  - {name: a, type: inject, data: 1, resultPath: "list[1]", next: b}
  - {name: b, type: operation, action: core.echo, retry: {maxAttempts: 2, retryOn: [TimeoutError, ValidationError]}, next: c}
  - {name: c, type: opration}
"#;
    let reading = definition::read(source, Format::Yaml);
    expect![[r#"
        error[INVALID_PATH] 5:50+9 states[0].resultPath
          state 'a': 'resultPath' has the index [1]: results go into objects, not into lists
          help: a transform gives a list with the item changed
        warning[INVALID_VALUE] 6:75+7 states[1].retry.retryOn
          state 'b': retry: 'retryOn': a ValidationError is never retried, since the same data does not fit again
        error[UNKNOWN_TYPE] 7:21+8 states[2].type
          state 'c': unknown type 'opration'
          help: did you mean 'operation'?
    "#]]
    .assert_eq(&render(&reading.diagnostics));
}

#[test]
fn findings_serialise_as_the_api_says() {
    let reading = definition::read(b"id: w\nstart: a\nstats: []\n", Format::Yaml);
    let unknown = Known { actions: None, agents: None, workflows: None };
    let validation = serde_json::to_string_pretty(&reading.validation(&unknown)).unwrap();
    expect![[r#"
        {
          "errors": [
            {
              "code": "MISSING_FIELD",
              "path": "",
              "line": 1,
              "column": 1,
              "message": "workflow has no states",
              "suggestion": "list them: states: [{name: …, type: operation, …}]"
            },
            {
              "code": "UNKNOWN_FIELD",
              "path": "stats",
              "line": 3,
              "column": 1,
              "message": "unknown field 'stats'",
              "suggestion": "did you mean 'states'?"
            }
          ],
          "warnings": []
        }"#]]
    .assert_eq(&validation);
}
