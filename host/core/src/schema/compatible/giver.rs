//! What a schema gives, as alternatives of plain keywords: references followed, `allOf` merged, `anyOf` spread.
//!
//! Where two schemas of an `allOf` cannot be merged exactly, the result allows more than they do: what then
//! always fits does fit, and what never fits does not.

use serde_json::{Map, Value, json};

/// More alternatives than this are not told apart.
const ALTERNATIVES_MAX: usize = 32;

/// So many references and combinations may follow one another at one place.
const CHAIN_MAX: usize = 24;

/// Keywords of one alternative, without `$ref`, `allOf`, `anyOf` and `oneOf`.
pub(super) type Plain = Map<String, Value>;

/// The alternatives; empty when no value is allowed, `None` when they are too many to compare.
pub(super) fn alternatives(schema: &Value, root: &Value) -> Option<Vec<Plain>> {
    spread(schema, root, 0)
}

/// The place in `root` that a local reference names.
pub(super) fn resolve<'a>(reference: &str, root: &'a Value) -> Option<&'a Value> {
    let pointer = reference.strip_prefix('#')?;
    if pointer.contains('%') { None } else { root.pointer(pointer) }
}

fn spread(schema: &Value, root: &Value, depth: usize) -> Option<Vec<Plain>> {
    if depth > CHAIN_MAX {
        return None;
    }
    let map = match schema {
        Value::Bool(false) => return Some(Vec::new()),
        Value::Object(map) => map,
        _ => return Some(vec![Plain::new()]),
    };
    let combined = ["$ref", "allOf", "anyOf", "oneOf"];
    let own = map.iter().filter(|(key, _)| !combined.contains(&key.as_str()));
    let mut found = vec![own.map(|(key, value)| (key.clone(), value.clone())).collect::<Plain>()];
    if let Some(Value::String(reference)) = map.get("$ref") {
        found = product(&found, &spread(resolve(reference, root)?, root, depth + 1)?)?;
    }
    for part in map.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        found = product(&found, &spread(part, root, depth + 1)?)?;
    }
    for key in ["anyOf", "oneOf"] {
        let Some(parts) = map.get(key).and_then(Value::as_array) else { continue };
        let mut either = Vec::new();
        for part in parts {
            either.extend(spread(part, root, depth + 1)?);
            if either.len() > ALTERNATIVES_MAX {
                return None;
            }
        }
        found = product(&found, &either)?;
    }
    Some(found)
}

fn product(left: &[Plain], right: &[Plain]) -> Option<Vec<Plain>> {
    if left.len() * right.len() > ALTERNATIVES_MAX {
        return None;
    }
    Some(left.iter().flat_map(|a| right.iter().filter_map(|b| merge(a, b))).collect())
}

/// Both at once; `None` if no value can be both.
fn merge(left: &Plain, right: &Plain) -> Option<Plain> {
    let mut merged = left.clone();
    for (key, value) in right {
        let Some(mine) = merged.get_mut(key) else {
            merged.insert(key.clone(), value.clone());
            continue;
        };
        if mine == value {
            continue;
        }
        match key.as_str() {
            "type" => {
                let both: Vec<&str> =
                    types(value).into_iter().filter(|t| types(mine).iter().any(|m| covers(m, t))).collect();
                let more = types(mine).into_iter().filter(|m| types(value).iter().any(|t| covers(t, m)));
                let mut all: Vec<&str> = both.into_iter().chain(more).collect();
                all.sort_unstable();
                all.dedup();
                if all.is_empty() {
                    return None;
                }
                *mine = json!(all);
            }
            "required" => {
                if let (Value::Array(mine), Value::Array(more)) = (mine, value) {
                    mine.extend(more.iter().cloned());
                }
            }
            "properties" => {
                if let (Value::Object(mine), Value::Object(more)) = (mine, value) {
                    for (name, schema) in more {
                        let both = mine.get(name).map_or_else(|| schema.clone(), |own| json!({"allOf": [own, schema]}));
                        mine.insert(name.clone(), both);
                    }
                }
            }
            // One of the two is left out: more is allowed than is.
            "minimum" | "minLength" | "minItems" | "maximum" | "maxLength" | "maxItems" | "const" | "enum" => {}
            _ => {
                merged.remove(key);
            }
        }
    }
    Some(merged)
}

/// The names at a `type`.
pub(super) fn types(value: &Value) -> Vec<&str> {
    match value {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Whether every value of type `narrow` is one of type `wide`.
pub(super) fn covers(wide: &str, narrow: &str) -> bool {
    wide == narrow || (wide == "number" && narrow == "integer")
}
