//! Picoschema, the short form in which dotprompt files write schemas, as JSON Schema.
//!
//! `name: string, what it is` is a field, `name?` one that may be missing or null, `list(array): string`, `part(object, what): {…}`,
//! `state(enum): [a, b]`, and `(*): any` says what fields without a name are. A schema whose top has a `type`, `properties`, or another word
//! of JSON Schema is one already. Pure: nothing is fetched, and names of schemas elsewhere are refused.

use serde_json::{Map, Value, json};

/// Fields in fields: deeper is no schema that somebody wrote by hand. Values nest as deep.
const DEPTH_MAX: usize = 64;
/// The types without parts.
const SCALARS: &[&str] = &["string", "boolean", "null", "number", "integer", "any"];
/// Types with parts: they stand in parentheses after the field's name.
const WITH_PARTS: &[&str] = &["array", "object", "enum"];
/// What fields without a name are.
const WILDCARD: &str = "(*)";
/// At the top these mean JSON Schema when they hold a list, as no field does.
const LISTS: &[&str] = &["oneOf", "anyOf", "allOf", "enum", "type"];

/// Why a schema does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A type that there is not.
    #[error("{path}: there is no type '{name}'{hint}")]
    Type {
        /// The field, dotted.
        path: String,
        /// What stands there.
        name: String,
        /// What may be meant.
        hint: String,
    },
    /// Something else than an object, text or list where it has to be one.
    #[error("{path}: has to be {expected}")]
    Shape {
        /// The field, dotted.
        path: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// A key that does not read.
    #[error("{path}: the field's name is wrong: write 'name', 'name?' or 'name(array)'")]
    Key {
        /// The field, dotted.
        path: String,
    },
    /// Too deep.
    #[error("the schema nests more than {DEPTH_MAX} deep")]
    Deep,
}

/// Reads a schema in either form.
pub fn to_json_schema(schema: &Value) -> Result<Value, Error> {
    if is_json_schema(schema) {
        let mut schema = schema.clone();
        if let Value::Object(object) = &mut schema
            && object.get("properties").is_some_and(Value::is_object)
            && !object.contains_key("type")
        {
            object.insert("type".to_owned(), json!("object"));
        }
        return Ok(schema);
    }
    read(schema, "", 0)
}

fn is_json_schema(schema: &Value) -> bool {
    let Value::Object(schema) = schema else { return schema.is_boolean() };
    schema.keys().any(|key| key.starts_with('$'))
        || schema.is_empty()
        || schema.get("properties").is_some_and(Value::is_object)
        || LISTS.iter().any(|key| schema.get(*key).is_some_and(Value::is_array))
        || schema
            .get("type")
            .and_then(Value::as_str)
            .is_some_and(|name| SCALARS.contains(&name) || matches!(name, "object" | "array"))
}

fn read(schema: &Value, path: &str, depth: usize) -> Result<Value, Error> {
    if depth > DEPTH_MAX {
        return Err(Error::Deep);
    }
    match schema {
        Value::String(text) => scalar(text, path),
        Value::Object(fields) => object(fields, path, depth),
        _ => Err(Error::Shape { path: shown(path), expected: "a type or an object of fields" }),
    }
}

/// `string`, or `string, what it is`.
fn scalar(text: &str, path: &str) -> Result<Value, Error> {
    let (name, description) = described(text);
    if !SCALARS.contains(&name) {
        return Err(Error::Type { path: shown(path), name: name.to_owned(), hint: hint(name) });
    }
    let mut schema = Map::new();
    if name != "any" {
        schema.insert("type".to_owned(), json!(name));
    }
    if let Some(description) = description {
        schema.insert("description".to_owned(), json!(description));
    }
    Ok(Value::Object(schema))
}

fn object(fields: &Map<String, Value>, path: &str, depth: usize) -> Result<Value, Error> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut others = json!(false);
    for (key, value) in fields {
        if key == WILDCARD {
            others = read(value, &below(path, key), depth + 1)?;
            continue;
        }
        let Field { name, optional, parts } = field(key).ok_or_else(|| Error::Key { path: below(path, key) })?;
        let path = below(path, name);
        let mut schema = match parts {
            None => read(value, &path, depth + 1)?,
            Some((kind, description)) => {
                let mut schema = with_parts(kind, value, &path, depth)?;
                if let (Some(description), Some(schema)) = (description, schema.as_object_mut()) {
                    schema.insert("description".to_owned(), json!(description));
                }
                schema
            }
        };
        if optional {
            nullable(&mut schema);
        } else {
            required.push(json!(name));
        }
        properties.insert(name.to_owned(), schema);
    }
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".to_owned(), Value::Array(required));
    }
    schema.insert("additionalProperties".to_owned(), others);
    Ok(Value::Object(schema))
}

fn with_parts(kind: &str, value: &Value, path: &str, depth: usize) -> Result<Value, Error> {
    match kind {
        "array" => Ok(json!({"type": "array", "items": read(value, path, depth + 1)?})),
        "object" if value.is_object() => read(value, path, depth + 1),
        "object" => Err(Error::Shape { path: shown(path), expected: "an object of fields" }),
        "enum" if value.is_array() => Ok(json!({"enum": value})),
        "enum" => Err(Error::Shape { path: shown(path), expected: "a list of values" }),
        other => Err(Error::Type { path: shown(path), name: other.to_owned(), hint: hint(other) }),
    }
}

/// A field's key, taken apart.
struct Field<'a> {
    name: &'a str,
    optional: bool,
    /// Kind and description.
    parts: Option<(&'a str, Option<&'a str>)>,
}

fn field(key: &str) -> Option<Field<'_>> {
    let (name, parts) = match key.split_once('(') {
        Some((name, rest)) => (name, Some(described(rest.strip_suffix(')')?))),
        None => (key, None),
    };
    let name = name.trim();
    let (name, optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
    (!name.is_empty()).then_some(Field { name, optional, parts })
}

/// What may be missing may be null.
fn nullable(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        if !values.contains(&Value::Null) {
            values.push(Value::Null);
        }
        return;
    }
    if let Some(Value::String(name)) = schema.get("type").filter(|name| *name != "null") {
        let types = json!([name, "null"]);
        schema.insert("type".to_owned(), types);
    }
}

/// `string, what it is`: type and description.
fn described(text: &str) -> (&str, Option<&str>) {
    match text.split_once(',') {
        Some((name, description)) => (name.trim(), Some(description.trim()).filter(|text| !text.is_empty())),
        None => (text.trim(), None),
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn shown(path: &str) -> String {
    if path.is_empty() { "the schema".to_owned() } else { path.to_owned() }
}

fn hint(name: &str) -> String {
    if WITH_PARTS.contains(&name) {
        return format!(": write it after the field's name, as 'field({name}): …'");
    }
    let nearest = SCALARS.iter().map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 2 => format!(": did you mean '{known}'?"),
        _ => format!(" (there are: {})", SCALARS.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_is_read_as_the_specification_says() {
        let object = |properties: Value, required: Value| json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
        for (short, long) in [
            (json!("string"), json!({"type": "string"})),
            (json!("any, what comes"), json!({"description": "what comes"})),
            (
                json!({"n": "integer, how many, at most"}),
                object(json!({"n": {"type": "integer", "description": "how many, at most"}}), json!(["n"])),
            ),
            (
                json!({"name": "string", "note?": "string, if any"}),
                object(
                    json!({"name": {"type": "string"}, "note": {"type": ["string", "null"], "description": "if any"}}),
                    json!(["name"]),
                ),
            ),
            (
                json!({"tags(array, of the item)": "string"}),
                object(
                    json!({"tags": {"type": "array", "items": {"type": "string"}, "description": "of the item"}}),
                    json!(["tags"]),
                ),
            ),
            (
                json!({"pods(array)": {"name": "string", "ready?": "boolean"}}),
                object(
                    json!({"pods": {"type": "array", "items":
                        object(json!({"name": {"type": "string"}, "ready": {"type": ["boolean", "null"]}}), json!(["name"]))}}),
                    json!(["pods"]),
                ),
            ),
            (
                json!({"at?(object, where)": {"x": "number"}}),
                json!({"type": "object", "additionalProperties": false, "properties": {"at": {
                    "type": ["object", "null"], "description": "where", "properties": {"x": {"type": "number"}},
                    "required": ["x"], "additionalProperties": false}}}),
            ),
            (json!({"s(enum)": ["a", "b"]}), object(json!({"s": {"enum": ["a", "b"]}}), json!(["s"]))),
            (
                json!({"s?(enum, which)": ["a"]}),
                json!({"type": "object", "additionalProperties": false,
                    "properties": {"s": {"enum": ["a", null], "description": "which"}}}),
            ),
            (
                json!({"(*)": "number", "id": "string"}),
                json!({"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"],
                    "additionalProperties": {"type": "number"}}),
            ),
            (json!({"items": "any"}), object(json!({"items": {}}), json!(["items"]))),
            (
                json!({"a": {"b": "null"}}),
                object(json!({"a": object(json!({"b": {"type": "null"}}), json!(["b"]))}), json!(["a"])),
            ),
        ] {
            assert_eq!(to_json_schema(&short), Ok(long), "{short}");
        }
    }

    #[test]
    fn a_json_schema_stays_one() {
        for schema in [
            json!({"type": "object", "properties": {"a": {"type": "string"}}}),
            json!({"type": "array", "items": {"type": "string"}}),
            json!({"type": ["object", "null"]}),
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}),
            json!({"oneOf": [{"type": "string"}, {"type": "null"}]}),
            json!({"enum": ["a", "b"]}),
            json!({}),
            json!(true),
        ] {
            assert_eq!(to_json_schema(&schema), Ok(schema.clone()), "{schema}");
        }
        let implied = to_json_schema(&json!({"properties": {"a": {"type": "string"}}}));
        assert_eq!(implied, Ok(json!({"properties": {"a": {"type": "string"}}, "type": "object"})));
    }

    #[test]
    fn what_does_not_read_is_named_with_its_field() {
        let mut deep = json!("string");
        for _ in 0..100 {
            deep = json!({"a": deep});
        }
        for (schema, message) in [
            (json!({"a": {"b": "strng"}}), "a.b: there is no type 'strng': did you mean 'string'?"),
            (
                json!({"a": "array"}),
                "a: there is no type 'array': write it after the field's name, as 'field(array): …'",
            ),
            (
                json!("Pod"),
                "the schema: there is no type 'Pod' (there are: string, boolean, null, number, integer, any)",
            ),
            (
                json!({"a(list)": "string"}),
                "a: there is no type 'list' (there are: string, boolean, null, number, integer, any)",
            ),
            (json!({"a": 3}), "a: has to be a type or an object of fields"),
            (json!({"a(enum)": "x"}), "a: has to be a list of values"),
            (json!({"a(object)": "string"}), "a: has to be an object of fields"),
            (
                json!({"a(array": "string"}),
                "a(array: the field's name is wrong: write 'name', 'name?' or 'name(array)'",
            ),
            (json!({"?": "string"}), "?: the field's name is wrong: write 'name', 'name?' or 'name(array)'"),
            (deep, "the schema nests more than 64 deep"),
        ] {
            assert_eq!(to_json_schema(&schema).map_err(|error| error.to_string()), Err(message.to_owned()));
        }
    }
}
