//! The built-in plugin `script`: Starlark, for scripts of workflows (`run`) and for the host's expressions (`evaluate`). A script whose
//! language is "javascript" never comes here: the host runs it on another component, `plugins/javascript`, in this plugin's name.
//!
//! Invariants: the same source with the same names gives the same value; nothing reaches the outside but `print`, which goes to the
//! log. Safety is not this crate's: hostile source may exhaust or abort the instance, and the instance's walls contain it.
//!
//! Deliberately absent: `load`, files, clocks, randomness, and limits of its own beyond the source's size.

mod error;
mod json;
mod record;
mod scope;
mod starlark_run;

use caisson_sdk::{Category, Context, Failure, RawJson, Retry, log};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use starlark_run::{Entry, SOURCE_BYTES_MAX, execute};

caisson_sdk::plugin!(run, evaluate);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    language: Option<String>,
    source: Option<String>,
    script: Option<String>,
    code: Option<String>,
    #[serde(default)]
    input: Value,
}

fn run(context: &Context, input: Run) -> Result<RawJson, Failure> {
    let language = input.language.as_deref().unwrap_or("starlark");
    if !language.eq_ignore_ascii_case("starlark") {
        let message = format!("language '{language}' is not known here: write \"starlark\" or \"javascript\"");
        return Err(Failure::validation("SCRIPT_LANGUAGE_UNSUPPORTED", message).retry(Retry::Never));
    }
    let source = source(input.source, input.script, input.code)?;
    let bindings = Map::from_iter([("input".to_owned(), input.input), ("context".to_owned(), ids(context))]);
    execute(&source, &bindings, Entry::Script)
}

fn source(source: Option<String>, script: Option<String>, code: Option<String>) -> Result<String, Failure> {
    let mut given = [source, script, code].into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(source), None) => Ok(source),
        (None, _) => {
            Err(Failure::validation("SCRIPT_SOURCE_REQUIRED", "a script needs its `source`").retry(Retry::Never))
        }
        (Some(_), Some(_)) => {
            let message = "source, script and code mean the same: give one of them";
            Err(Failure::validation("SCRIPT_SOURCE_REQUIRED", message).retry(Retry::Never))
        }
    }
}

/// What a script may know of where it runs.
fn ids(context: &Context) -> Value {
    json!({
        "tenant": context.tenant(),
        "environment": context.environment(),
        "workflow": context.workflow(),
        "workflow_version": context.workflow_version(),
        "run_id": context.run_id(),
        "step_id": context.step_id(),
        "state": context.state_name(),
        "attempt": context.attempt(),
        "idempotency_key": context.idempotency_key(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Evaluate {
    source: String,
    #[serde(default)]
    bindings: Map<String, Value>,
}

#[expect(clippy::needless_pass_by_value, reason = "actions have one form")]
fn evaluate(_: &Context, input: Evaluate) -> Result<RawJson, Failure> {
    execute(&input.source, &input.bindings, Entry::Expression)
}

/// The source is too long to be looked at.
fn too_long(bytes: usize) -> Failure {
    let message = format!("the source has {bytes} bytes, more than the {SOURCE_BYTES_MAX} that are allowed");
    Failure::new(Category::Limit, "EXPRESSION_SIZE_LIMIT", message).retry(Retry::Never)
}

/// A line that a script printed.
fn printed(text: &str) {
    log::info(text);
}
