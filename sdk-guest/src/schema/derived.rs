//! With the feature `schemas`: every type says what it looks like.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::bindings::caisson::step::types as wire;
use crate::context::Context;
use crate::glue::Answer;
use crate::outcome::Outcome;

/// The action that answers `{"ACTION": {"input": SCHEMA, "output": SCHEMA, "config": SCHEMA}}`, the last one where it is known.
const ACTION: &str = "caisson:schemas";

/// Answers what a build asks for, and nothing else.
pub(crate) fn answer(action: &str, schemas: impl FnOnce() -> Schemas) -> Answer {
    (action == ACTION).then(|| Ok(wire::Outcome::Done(Value::Object(schemas().0).to_string())))
}

/// The schemas of a plugin's actions.
#[derive(Default)]
pub struct Schemas(Map<String, Value>);

impl Schemas {
    /// Adds the configuration's to every action: a plugin has one.
    #[must_use]
    pub fn config<T: JsonSchema>(mut self) -> Self {
        let schema = read::<T>();
        for action in self.0.values_mut() {
            action["config"] = schema.clone();
        }
        self
    }
}

/// Adds one action by its function.
#[must_use]
pub fn describe<I: JsonSchema, O: Described, E>(
    mut schemas: Schemas,
    name: &str,
    _: impl FnOnce(&Context, I) -> Result<O, E>,
) -> Schemas {
    schemas.0.insert(name.to_owned(), json!({"input": read::<I>(), "output": O::schema()}));
    schemas
}

/// Output of an action: what is described of an [`Outcome`] is what it is done with.
pub trait Described {
    /// Its schema.
    fn schema() -> Value;
}

impl<T: JsonSchema + Serialize> Described for T {
    fn schema() -> Value {
        written::<T>()
    }
}

impl<T: JsonSchema + Serialize> Described for Outcome<T> {
    fn schema() -> Value {
        written::<T>()
    }
}

fn read<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<T>().to_value()
}

fn written<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>().to_value()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::failure::Failure;

    /// A greeting.
    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Greet {
        /// Who is greeted.
        first_name: String,
        #[serde(default)]
        #[expect(dead_code, reason = "only its schema is looked at")]
        times: u8,
    }

    #[derive(Serialize, JsonSchema)]
    struct Greeting {
        text: String,
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Config {
        url: String,
    }

    #[expect(clippy::unnecessary_wraps, reason = "actions have one form")]
    fn greet(_: &Context, input: Greet) -> Result<Outcome<Greeting>, Failure> {
        Ok(Outcome::Done(Greeting { text: input.first_name }))
    }

    #[test]
    fn schemas_follow_from_the_functions_types() {
        let schemas = describe(Schemas::default(), "greet", greet).config::<Config>();
        let Some(Ok(wire::Outcome::Done(text))) = answer("caisson:schemas", || schemas) else { panic!("no schemas") };
        let schemas: Value = serde_json::from_str(&text).expect("JSON");
        let greet = &schemas["greet"];
        assert_eq!(greet["input"]["required"], json!(["firstName"]));
        assert_eq!(greet["input"]["properties"]["firstName"]["description"], json!("Who is greeted."));
        assert_eq!(greet["input"]["additionalProperties"], json!(false));
        assert_eq!(greet["output"]["properties"]["text"]["type"], json!("string"));
        assert_eq!(greet["config"]["required"], json!(["url"]));
        assert!(answer("greet", Schemas::default).is_none());
    }
}
