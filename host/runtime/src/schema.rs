//! JSON Schemas of actions, compiled once when a plugin is loaded.
//!
//! No remote or file references, and the linear-time regex engine: a schema comes from a plugin, which is not trusted.

use caisson_core::error::{Category, Failure};
use caisson_core::json::Json;
use jsonschema::{PatternOptions, Validator};
use serde_json::{Value, json};

/// Problems that a message lists; more helps nobody.
const PROBLEMS_MAX: usize = 5;

/// A schema that says something.
pub(crate) struct Schema(Validator);

impl Schema {
    /// Compiles a schema; `None` for one that accepts everything, so that nothing is parsed for it.
    pub(crate) fn compile(schema: Option<&Value>) -> Result<Option<Self>, String> {
        let Some(schema) = schema else { return Ok(None) };
        if trivial(schema) {
            return Ok(None);
        }
        jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .build(schema)
            .map(|validator| Some(Self(validator)))
            .map_err(|e| e.to_string())
    }

    /// What does not fit, as a failure under the code; `Ok` if all does.
    pub(crate) fn check(&self, json: &Json, code: &str, what: &str) -> Result<(), Failure> {
        let value = json.value();
        let mut problems: Vec<(String, String)> = Vec::new();
        let mut more = 0_usize;
        for error in self.0.iter_errors(&value) {
            if problems.len() == PROBLEMS_MAX {
                more += 1;
                continue;
            }
            problems.push((error.instance_path().to_string(), error.to_string()));
        }
        if problems.is_empty() {
            return Ok(());
        }
        let mut listed: Vec<String> = problems
            .iter()
            .map(|(path, message)| if path.is_empty() { message.clone() } else { format!("{path}: {message}") })
            .collect();
        if more > 0 {
            listed.push(format!("and {more} more"));
        }
        let details: Vec<Value> =
            problems.iter().map(|(path, message)| json!({"path": path, "message": message})).collect();
        Err(Failure::new(Category::ValidationError, code, format!("{what}: {}", listed.join("; ")))
            .with_details(Json::of(&json!({"problems": details})))
            .never_retried())
    }
}

fn trivial(schema: &Value) -> bool {
    const ANNOTATIONS: [&str; 8] =
        ["title", "description", "$schema", "$id", "$comment", "default", "examples", "deprecated"];
    match schema {
        Value::Bool(accepts) => *accepts,
        Value::Object(keywords) => keywords.keys().all(|keyword| ANNOTATIONS.contains(&keyword.as_str())),
        _ => false,
    }
}
