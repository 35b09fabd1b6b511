//! Starlark's errors as failures that a person can act on.

use caisson_sdk::{Category, Failure, Retry};
use serde_json::{Map, Value as Json, json};
use starlark::{Error, ErrorKind};

use crate::json::NotJson;

/// A nearest name further away than this is no help.
const DISTANCE_MAX: usize = 2;

/// The source does not parse.
pub fn invalid(error: &Error) -> Failure {
    expression("EXPRESSION_INVALID", error)
}

/// It failed while it ran, or a name is not there.
pub fn failed(error: &Error, bindings: &Map<String, Json>) -> Failure {
    match error.kind() {
        ErrorKind::Scope(_) => match undefined(&error.without_diagnostic().to_string()) {
            Some(name) => undefined_name(&name, error, bindings),
            None => expression("EXPRESSION_INVALID", error),
        },
        ErrorKind::Parser(_) => expression("EXPRESSION_INVALID", error),
        ErrorKind::StackOverflow(_) => Failure::new(
            Category::Limit,
            "EXPRESSION_STACK_LIMIT",
            format!("the expression's calls are nested too deeply{}", place(error)),
        )
        .retry(Retry::Never),
        _ => expression("EXPRESSION_FAILED", error),
    }
}

/// The value has no JSON form.
pub fn not_json(error: &NotJson) -> Failure {
    Failure::new(Category::Expression, "EXPRESSION_FAILED", format!("the result cannot be used: {error}"))
        .retry(Retry::Never)
}

fn expression(code: &str, error: &Error) -> Failure {
    let message = error.without_diagnostic().to_string();
    let message = message.strip_prefix("Parse error: ").unwrap_or(&message);
    with_place(Failure::new(Category::Expression, code, format!("{message}{}", place(error))), error)
}

fn undefined_name(name: &str, error: &Error, bindings: &Map<String, Json>) -> Failure {
    let mut names: Vec<&str> = bindings.keys().map(String::as_str).collect();
    names.sort_unstable();
    let nearest = names
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), *known))
        .min()
        .filter(|(distance, known)| *distance <= DISTANCE_MAX.min(known.len().saturating_sub(1)))
        .map(|(_, known)| known);
    let hint = nearest.map(|known| format!(", did you mean '{known}'?")).unwrap_or_default();
    let there =
        if names.is_empty() { "there are no names".to_owned() } else { format!("there are {}", names.join(", ")) };
    let message = format!(
        "name '{name}' is not defined{}{hint}{}{there}",
        place(error),
        if hint.is_empty() { ": " } else { " " }
    );
    Failure::new(Category::Expression, "EXPRESSION_UNDEFINED_NAME", message)
        .details(&json!({"name": name, "names": names, "suggestion": nearest}))
        .retry(Retry::Never)
}

/// The name in "Variable `x` not found"; a test holds the text.
fn undefined(message: &str) -> Option<String> {
    let (name, rest) = message.strip_prefix("Variable `")?.split_once('`')?;
    rest.trim_start().starts_with("not found").then(|| name.to_owned())
}

fn place(error: &Error) -> String {
    match error.span().map(starlark::codemap::FileSpan::resolve_span) {
        Some(span) => format!(" (line {}, column {})", span.begin.line + 1, span.begin.column + 1),
        None => String::new(),
    }
}

fn with_place(failure: Failure, error: &Error) -> Failure {
    let failure = failure.retry(Retry::Never);
    match error.span().map(starlark::codemap::FileSpan::resolve_span) {
        Some(span) => failure.details(&json!({"line": span.begin.line + 1, "column": span.begin.column + 1})),
        None => failure,
    }
}
