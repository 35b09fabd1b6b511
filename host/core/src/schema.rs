//! JSON Schemas of people we do not trust: compiled once, without network or files, with regular expressions
//! that run in linear time, and without references that could make a check run for ever.
//!
//! Used for the input and output of runs and of actions. Deliberately absent: fetching anything. A `$ref`
//! leads to a place in the same schema or the schema is refused.

pub mod compatible;
mod guard;
pub mod picoschema;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use jsonschema::{PatternOptions, Retrieve, Uri};
use serde::Serialize;
use serde_json::{Map, Value};

/// More problems than this help nobody: the first ones are usually the cause of the others.
pub const PROBLEMS_MAX: usize = 10;

/// A value that does not fit is quoted in the message; this much of it is enough to recognise it.
const MESSAGE_CHARS_MAX: usize = 300;

/// Size of one compiled pattern. Ordinary patterns take a few KiB, `(\w{100}){100}` takes more than this.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A compiled schema.
#[derive(Clone)]
pub struct Validator(Arc<jsonschema::Validator>);

/// One way in which a value does not fit a schema, or in which a schema is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where in the value, as `items[0].name`; empty for the value itself.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

impl Validator {
    /// Compiles a schema; the error is one sentence for its author.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        Self::compile_at(schema).map_err(|problem| problem.to_string())
    }

    /// The same, and where in the schema the problem is.
    pub fn compile_at(schema: &Value) -> Result<Self, Problem> {
        guard::check(schema)?;
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        match jsonschema::options().with_pattern_options(patterns).with_retriever(NoRetriever).build(schema) {
            Ok(validator) => Ok(Self(Arc::new(validator))),
            Err(error) => Err(problem(&error)),
        }
    }

    /// Checks a value. At most [`PROBLEMS_MAX`] problems are reported.
    pub fn validate(&self, value: &Value) -> Result<(), Vec<Problem>> {
        if self.0.is_valid(value) {
            return Ok(());
        }
        Err(self.0.iter_errors(value).take(PROBLEMS_MAX).map(|error| problem(&error)).collect())
    }
}

/// What of an object a taker takes. A giver may give more than its taker knows: where the schema closes the object
/// (`additionalProperties: false`), only what it names is taken along, else all.
pub fn taken(schema: &Value, mut object: Map<String, Value>) -> Map<String, Value> {
    if let Some(names) = closed(schema) {
        object.retain(|name, _| names.contains_key(name));
    }
    object
}

/// The only properties that an object may have, if the schema says so.
pub(crate) fn closed(schema: &Value) -> Option<Cow<'_, Map<String, Value>>> {
    let open = schema.get("additionalProperties") != Some(&Value::Bool(false))
        || ["patternProperties", "$ref"].iter().any(|key| schema.get(key).is_some());
    match schema.get("properties") {
        _ if open => None,
        Some(Value::Object(names)) => Some(Cow::Borrowed(names)),
        _ => Some(Cow::Owned(Map::new())),
    }
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Validator")
    }
}

/// Refuses every reference that leads out of the schema.
struct NoRetriever;

impl Retrieve for NoRetriever {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("'{uri}' is outside of the schema, and nothing is fetched").into())
    }
}

fn problem(error: &jsonschema::ValidationError<'_>) -> Problem {
    let mut message = error.to_string();
    if let Some((at, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
        message.truncate(at);
        message.push('…');
    }
    Problem { path: dotted(error.instance_path().as_str()), message }
}

/// A JSON pointer as definitions write paths.
fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            path.push('[');
            path.push_str(&part);
            path.push(']');
        } else {
            let key = crate::expr::Path::keys([part.as_str()]).to_string();
            if !path.is_empty() && !key.starts_with('[') {
                path.push('.');
            }
            path.push_str(&key);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_that_does_not_fit_is_told_where_and_why() {
        let schema = json!({
            "type": "object",
            "properties": {"pods": {"type": "array", "items": {"required": ["a b"]}}, "n": {"type": "integer"}},
            "required": ["n"],
        });
        let validator = Validator::compile(&schema).expect("compiles");
        assert_eq!(validator.validate(&json!({"n": 1})), Ok(()));
        let problems = validator.validate(&json!({"n": "x", "pods": [{"a b": 1}, {}]})).expect_err("does not fit");
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["n: \"x\" is not of type \"integer\"", "pods[1]: \"a b\" is a required property"]);
    }

    #[test]
    fn at_most_ten_problems_are_reported() {
        let validator = Validator::compile(&json!({"items": {"type": "string"}})).expect("compiles");
        let problems = validator.validate(&json!((0..1000).collect::<Vec<_>>())).expect_err("does not fit");
        assert_eq!(problems.len(), PROBLEMS_MAX);
    }

    #[test]
    fn schemas_that_reach_out_or_run_for_ever_are_refused() {
        let mut doubling = json!({"$defs": {"d0": {"type": "string"}}, "$ref": "#/$defs/d10"});
        for n in 1..=10 {
            let below = json!({"$ref": format!("#/$defs/d{}", n - 1)});
            doubling["$defs"][format!("d{n}")] = json!({"allOf": [below, below, below, below]});
        }
        for (schema, reason) in [
            (json!({"$ref": "http://127.0.0.1:1/x.json"}), "outside of the schema"),
            (json!({"$ref": "file:///etc/passwd"}), "outside of the schema"),
            (json!({"properties": {"a": {"$ref": "other.json#/a"}}}), "outside of the schema"),
            (json!({"$ref": "#/nowhere"}), "leads nowhere"),
            (json!({"$ref": "#"}), "leads back to itself"),
            (json!({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}), "leads back to itself"),
            (doubling, "10,000"),
            (json!({"$dynamicRef": "#x"}), "$dynamicRef"),
            (json!({"type": "strnig"}), "strnig"),
            (json!({"pattern": "(a+)+\\1"}), "regex"),
            (json!({"pattern": "((\\w{100}){100}){100}"}), "regex"),
            (json!("string"), "\"string\""),
            (json!(null), "null"),
        ] {
            let error = Validator::compile(&schema).expect_err(&schema.to_string());
            assert!(error.contains(reason), "{schema}: {error}");
        }
    }

    #[test]
    fn long_chains_of_schemas_do_not_use_up_the_stack() {
        // Through parts of the value: as long as a document may be.
        let mut parts = json!({"$defs": {"d0": {"type": "string"}}, "$ref": "#/$defs/d2400"});
        for n in 1..=2_400 {
            parts["$defs"][format!("d{n}")] = json!({"items": {"$ref": format!("#/$defs/d{}", n - 1)}});
        }
        assert!(Validator::compile(&parts).is_ok());
        // At one place, and back to the start a level deeper.
        let mut chain = json!({"$defs": {"d0": {"items": {"$ref": "#"}}}, "$ref": "#/$defs/d10"});
        for n in 1..=10 {
            chain["$defs"][format!("d{n}")] = json!({"allOf": [{"$ref": format!("#/$defs/d{}", n - 1)}]});
        }
        let validator = Validator::compile(&chain).expect("compiles");
        let value: Value = serde_json::from_str(&("[".repeat(127) + &"]".repeat(127))).expect("json");
        assert_eq!(validator.validate(&value), Ok(()));
    }

    #[test]
    fn recursive_and_odd_schemas_that_are_fine_are_taken() {
        for schema in [
            json!(true),
            json!({}),
            json!({"type": "object", "properties": {"next": {"$ref": "#"}, "$ref": {"type": "string"}}}),
            json!({"$defs": {"a b": {"type": "string"}}, "items": {"$ref": "#/$defs/a%20b"}}),
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"x": {}}, "$ref": "#/definitions/x"}),
            json!({"enum": [{"$ref": "http://just.data/"}], "default": {"$ref": 7}}),
        ] {
            assert!(Validator::compile(&schema).is_ok(), "{schema}: {:?}", Validator::compile(&schema));
        }
    }
}
