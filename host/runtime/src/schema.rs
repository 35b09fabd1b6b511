//! JSON Schemas of actions, compiled once when a plugin is loaded: core's own validator, which takes schemas of people
//! whom nobody trusts.

use caisson_core::error::{Category, Failure};
use caisson_core::json::Json;
use caisson_core::schema::Validator;
use serde_json::{Value, json};

/// A schema that says something.
pub(crate) struct Schema(Validator);

impl Schema {
    /// Compiles a schema; `None` for one that accepts everything, so that nothing is parsed for it.
    pub(crate) fn compile(schema: Option<&Value>) -> Result<Option<Self>, String> {
        match schema {
            Some(schema) if !trivial(schema) => Validator::compile(schema).map(|validator| Some(Self(validator))),
            _ => Ok(None),
        }
    }

    /// What does not fit, as a failure under the code; `Ok` if all does.
    pub(crate) fn check(&self, json: &Json, code: &str, what: &str) -> Result<(), Failure> {
        let Err(problems) = self.0.validate(&json.value()) else { return Ok(()) };
        let listed: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let message = format!("{what}: {}", listed.join("; "));
        Err(Failure::new(Category::ValidationError, code, message)
            .with_details(Json::of(&json!({"problems": problems})))
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
