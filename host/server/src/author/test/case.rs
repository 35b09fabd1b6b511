//! Cases in files: read strictly, so that a misspelled expectation is an error and not a test that always passes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use caisson_core::definition::Format;
use caisson_core::definition::document::read_value;
use caisson_core::plugin::Grants;
use caisson_core::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::local::Place;
use super::super::mock::{Body, Exchange, ToolExchange, present};
use super::super::wake::Waking;

/// 2026-01-01T00:00:00Z: where a case's clock starts when it says nothing else.
const START: Timestamp = Timestamp(1_767_225_600_000);

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// Its name, unique in its file.
    pub name: String,
    /// The action's name.
    pub action: String,
    /// The operator's configuration.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// What the action is given.
    #[serde(default = "empty")]
    pub input: Value,
    /// What the operator grants; what the manifest asks for when absent.
    pub grants: Option<Grants>,
    /// Secrets by name.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// When it begins, RFC 3339.
    now: Option<String>,
    #[serde(default)]
    context: Context_,
    /// HTTP requests and their answers.
    #[serde(default)]
    pub http: Vec<Exchange>,
    /// Calls of tools and their answers.
    #[serde(default)]
    pub tools: Vec<ToolExchange>,
    /// Small state that is there before.
    #[serde(default)]
    pub kv: Map<String, Value>,
    /// Rules of the scripted model, by agent.
    #[serde(default)]
    pub models: Map<String, Value>,
    /// What wakes the step, in order.
    #[serde(default)]
    pub wakes: Vec<Waking>,
    /// What has to come of it.
    pub expect: Expect,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Context_ {
    workflow: Option<String>,
    workflow_version: Option<String>,
    run: Option<String>,
    step: Option<String>,
    state: Option<String>,
    attempt: Option<u32>,
    idempotency_key: Option<String>,
    deadline_ms: Option<u64>,
}

/// What has to come of a case.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expect {
    /// The result, equal.
    #[serde(default, deserialize_with = "present")]
    pub done: Option<Value>,
    /// A subset of the result.
    #[serde(default, deserialize_with = "present")]
    pub done_contains: Option<Value>,
    /// A subset of the suspension in which it is left.
    pub suspend: Option<Map<String, Value>>,
    /// How it fails.
    pub failure: Option<ExpectFailure>,
    /// Parts of log lines, in order.
    #[serde(default)]
    pub logs: Vec<String>,
    /// Small state at the end.
    #[serde(default)]
    pub kv: Map<String, Value>,
    /// All events, in order.
    pub events: Option<Vec<ExpectEvent>>,
    /// All files.
    pub artifacts: Option<Vec<ExpectArtifact>>,
    /// How far the clock was moved.
    pub elapsed_ms: Option<u64>,
}

/// How it fails; what is absent is not looked at.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectFailure {
    /// Equal.
    pub code: Option<String>,
    /// Equal.
    pub category: Option<String>,
    /// Part of the message.
    pub message: Option<String>,
    /// `default`, `never` or `{afterMs}`.
    pub retry: Option<Value>,
    /// A subset.
    #[serde(default, deserialize_with = "present")]
    pub details: Option<Value>,
}

/// A business event.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectEvent {
    /// Equal.
    pub name: String,
    /// Equal.
    pub correlation_key: Option<String>,
    /// A subset.
    #[serde(default, deserialize_with = "present")]
    pub payload: Option<Value>,
}

/// A file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectArtifact {
    /// Equal.
    pub name: String,
    /// Equal.
    pub mime_type: Option<String>,
    /// Part of its text.
    pub body_contains: Option<String>,
    /// Its bytes.
    #[serde(flatten)]
    pub body: Body,
}

fn empty() -> Value {
    json!({})
}

impl Case {
    /// When it begins.
    pub fn now(&self) -> Timestamp {
        self.now.as_deref().and_then(Timestamp::parse).unwrap_or(START)
    }

    /// What stands around its step.
    pub fn place(&self) -> Place {
        let given = self.context.clone();
        let default = Place::default();
        Place {
            workflow: given.workflow.unwrap_or(default.workflow),
            workflow_version: given.workflow_version.unwrap_or(default.workflow_version),
            run: given.run.unwrap_or(default.run),
            step: given.step.unwrap_or(default.step),
            state: given.state.unwrap_or(default.state),
            attempt: given.attempt.unwrap_or(default.attempt),
            idempotency_key: given.idempotency_key.unwrap_or(default.idempotency_key),
            deadline_ms: given.deadline_ms.or(default.deadline_ms),
        }
    }

    /// What the types do not say.
    fn check(&self) -> anyhow::Result<()> {
        if let Some(now) = self.now.as_deref().filter(|now| Timestamp::parse(now).is_none()) {
            bail!("now: '{now}' is no time: write for example 2026-01-01T00:00:00Z");
        }
        for (at, exchange) in self.http.iter().enumerate() {
            exchange.check().map_err(|problem| anyhow!("http[{at}]: {problem}"))?;
        }
        for (at, exchange) in self.tools.iter().enumerate() {
            exchange.check().map_err(|problem| anyhow!("tools[{at}]: {problem}"))?;
        }
        for (at, waking) in self.wakes.iter().enumerate() {
            waking.event().map_err(|problem| anyhow!("wakes[{at}]: {problem}"))?;
        }
        for artifact in self.expect.artifacts.iter().flatten() {
            artifact.body.bytes().map_err(|problem| anyhow!("expect.artifacts '{}': {problem}", artifact.name))?;
        }
        let Expect { done, done_contains, suspend, failure, .. } = &self.expect;
        let ends = [done.is_some(), done_contains.is_some(), suspend.is_some(), failure.is_some()];
        if ends.into_iter().filter(|end| *end).count() != 1 {
            bail!("expect has exactly one of done, doneContains, suspend and failure");
        }
        Ok(())
    }
}

/// The cases of a file.
pub fn read(path: &Path) -> anyhow::Result<Vec<Case>> {
    let bytes = std::fs::read(path).context("it cannot be read")?;
    let stem =
        path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split('.').next()).unwrap_or("case");
    parse(&bytes, stem)
}

fn parse(bytes: &[u8], stem: &str) -> anyhow::Result<Vec<Case>> {
    let document = read_value(bytes, Format::Detect).map_err(|found| {
        let all = found.iter().map(|one| format!("line {}, column {}: {}", one.line, one.column, one.message));
        anyhow!("{}", all.collect::<Vec<_>>().join("\n"))
    })?;
    let Value::Object(mut shared) = document.to_value() else { bail!("a file of cases is an object") };
    let forms = match shared.remove("cases") {
        None => {
            shared.entry("name").or_insert_with(|| stem.into());
            vec![Value::Object(std::mem::take(&mut shared))]
        }
        Some(Value::Array(cases)) => cases,
        Some(_) => bail!("cases is a list"),
    };
    let mut names = BTreeSet::new();
    let mut cases = Vec::with_capacity(forms.len());
    for (at, form) in forms.into_iter().enumerate() {
        let Value::Object(mut form) = form else { bail!("case {}: a case is an object", at + 1) };
        for (key, value) in &shared {
            if key == "expect" || key == "name" {
                bail!("'{key}' belongs into each case");
            }
            form.entry(key).or_insert_with(|| value.clone());
        }
        let shown =
            form.get("name").and_then(Value::as_str).map_or_else(|| (at + 1).to_string(), |name| format!("'{name}'"));
        let case: Case = serde_json::from_value(Value::Object(form)).with_context(|| format!("case {shown}"))?;
        case.check().with_context(|| format!("case {shown}"))?;
        if !names.insert(case.name.clone()) {
            bail!("case {shown} is there twice");
        }
        cases.push(case);
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_at_the_top_is_the_default_of_every_case() {
        let text = "
action: post
secrets: {A: secret}
cases:
  - name: one
    expect: {done: null}
  - name: two
    action: other
    secrets: {}
    grants: [kv]
    wakes: [{timer: {}, afterMs: 5}]
    http: [{request: {url: 'https://x/*'}, response: {json: {a: 1}}, times: any}]
    expect: {failure: {code: X}, artifacts: [{name: a, body: text}]}
";
        let cases = parse(text.as_bytes(), "file").expect("it reads");
        assert_eq!(cases.len(), 2);
        assert_eq!((cases[0].action.as_str(), cases[0].secrets.len()), ("post", 1));
        assert_eq!((cases[1].action.as_str(), cases[1].secrets.len()), ("other", 0));
        assert_eq!(cases[0].input, json!({}));
        assert_eq!(cases[0].expect.done, Some(Value::Null), "null is a result");
        assert!(cases[1].grants.as_ref().is_some_and(|grants| grants.kv.is_some()));
        let alone = parse(b"{\"action\": \"a\", \"expect\": {\"suspend\": {}}}", "file").expect("it reads");
        assert_eq!(alone[0].name, "file");
        assert_eq!(alone[0].now(), Timestamp::parse("2026-01-01T00:00:00Z").expect("a time"));
    }

    #[test]
    fn what_is_misspelled_is_refused() {
        for (text, word) in [
            ("action: a\nexpect: {don: 1}", "don"),
            ("action: a\nexpects: {done: 1}", "expects"),
            ("action: a\nexpect: {}", "exactly one"),
            ("action: a\nexpect: {done: 1, failure: {}}", "exactly one"),
            ("action: a\nexpect: {done: 1}\nhttp: [{response: {statu: 1}}]", "statu"),
            ("action: a\nexpect: {done: 1}\nhttp: [{response: {json: 1, body: x}}]", "one of"),
            ("action: a\nexpect: {done: 1}\nhttp: [{request: {}}]", "response"),
            ("action: a\nexpect: {done: 1}\nhttp: [{error: gone}]", "gone"),
            ("action: a\nexpect: {done: 1}\nwakes: [{}]", "wakes[0]"),
            ("action: a\nexpect: {done: 1}\nnow: soon", "soon"),
            ("action: a\nexpect: {done: 1}\ngrants: [htpp]", "htpp"),
            ("action: a\nexpect: {done: 1, artifacts: [{name: a, byte: 1}]}", "byte"),
            ("action: a\ncases: [{name: x, expect: {done: 1}}, {name: x, expect: {done: 1}}]", "twice"),
            ("expect: {done: 1}\ncases: [{name: x, action: a}]", "each case"),
            ("cases: [{action: a, expect: {done: 1}}]", "name"),
            ("a: [", "line"),
        ] {
            let error = parse(text.as_bytes(), "file").map(|_| ()).expect_err(text);
            assert!(format!("{error:#}").contains(word), "{text}: {error:#}");
        }
    }
}
