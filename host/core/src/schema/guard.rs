//! What a schema may refer to: places in itself, and never in a circle that a check could not leave.
//!
//! A reference that is followed at the same place of the value (`allOf`, `anyOf`, `not`, `if`, …) must come to
//! an end, and all such paths together must be few: thirty definitions that each use the one before twice
//! would otherwise be a thousand million checks of one value.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::Problem;

/// Subschemas that one place of a value may be checked against. Large real schemas (those of Kubernetes) stay
/// under a few hundred.
const CHECKS_MAX: u64 = 10_000;

/// Nesting of a schema, references included: the walk below recurses. The deepest of real schemas is about 40.
const DEPTH_MAX: usize = 128;

/// All subschemas. Compiling takes more than linear time; the largest schemas of Kubernetes have about 3,000.
const SUBSCHEMAS_MAX: usize = 5_000;

/// Subschemas in subschemas for one place of a value, references included. With data nested 128 deep, checking
/// recurses up to so many times 128.
const CHAIN_MAX: usize = 24;

/// Keywords with a subschema that is checked against the same place.
const SAME_PLACE: &[&str] = &["not", "if", "then", "else"];
/// Keywords with a list of them.
const SAME_PLACE_LISTS: &[&str] = &["allOf", "anyOf", "oneOf"];
/// Keywords with named ones.
const SAME_PLACE_MAPS: &[&str] = &["dependentSchemas", "dependencies"];
/// Keywords with a subschema for a part of the value (or a list of them).
const PARTS: &[&str] = &[
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "prefixItems",
    "additionalItems",
    "contains",
    "unevaluatedItems",
    "contentSchema",
];
/// Keywords with named subschemas for parts of the value, and definitions.
const PART_MAPS: &[&str] = &["properties", "patternProperties", "$defs", "definitions"];

/// Refuses what must not be compiled.
pub(super) fn check(schema: &Value) -> Result<(), Problem> {
    let mut guard = Guard { root: schema, checks: HashMap::new(), walked: HashSet::new(), referred: Vec::new() };
    guard.walk(schema, &mut Vec::new())?;
    // A reference may name a place that no keyword leads to.
    while let Some(target) = guard.referred.pop() {
        guard.walk(target, &mut vec!["$ref".to_owned()])?;
    }
    Ok(())
}

/// What checking one place against a schema takes.
#[derive(Clone, Copy)]
struct Cost {
    checks: u64,
    /// The longest chain of them.
    chain: usize,
}

struct Guard<'a> {
    root: &'a Value,
    /// What a schema stands for at one place, by its address; `None` while it is being counted.
    checks: HashMap<*const Value, Option<Cost>>,
    walked: HashSet<*const Value>,
    /// What references named, to be walked too.
    referred: Vec<&'a Value>,
}

impl<'a> Guard<'a> {
    /// Visits every subschema once.
    fn walk(&mut self, schema: &'a Value, at: &mut Vec<String>) -> Result<(), Problem> {
        let Value::Object(map) = schema else { return Ok(()) };
        if !self.walked.insert(std::ptr::from_ref(schema)) {
            return Ok(());
        }
        if at.len() > DEPTH_MAX {
            return Err(problem(at, "the schema is nested too deeply".to_owned()));
        }
        if self.walked.len() > SUBSCHEMAS_MAX {
            return Err(problem(at, format!("the schema has more than {SUBSCHEMAS_MAX} subschemas")));
        }
        for keyword in ["$dynamicRef", "$recursiveRef"] {
            if map.contains_key(keyword) {
                return Err(problem(at, format!("'{keyword}' is not supported: use '$ref' to a place in the schema")));
            }
        }
        if !at.is_empty() && map.get("$id").is_some_and(Value::is_string) {
            return Err(problem(at, "'$id' inside of a schema is not supported: use '$ref' with '#/…'".to_owned()));
        }
        self.count(schema, 0).map_err(|message| problem(at, message))?;
        for (keyword, value) in map {
            let keyword = keyword.as_str();
            at.push(keyword.to_owned());
            if [SAME_PLACE, SAME_PLACE_LISTS, PARTS].iter().any(|list| list.contains(&keyword)) {
                match value {
                    Value::Array(list) => {
                        for (index, item) in list.iter().enumerate() {
                            at.push(index.to_string());
                            self.walk(item, at)?;
                            at.pop();
                        }
                    }
                    single => self.walk(single, at)?,
                }
            } else if [SAME_PLACE_MAPS, PART_MAPS].iter().any(|list| list.contains(&keyword))
                && let Value::Object(named) = value
            {
                for (name, item) in named {
                    at.push(name.clone());
                    self.walk(item, at)?;
                    at.pop();
                }
            }
            at.pop();
        }
        Ok(())
    }

    /// What this schema costs at one place. Calls itself at most [`CHAIN_MAX`] deep.
    fn count(&mut self, schema: &'a Value, depth: usize) -> Result<Cost, String> {
        let mut cost = Cost { checks: 1, chain: 1 };
        let Value::Object(map) = schema else { return Ok(cost) };
        let too_long = || format!("more than {CHAIN_MAX} subschemas or '$ref's follow one another at one place");
        let key = std::ptr::from_ref(schema);
        match self.checks.get(&key) {
            Some(Some(known)) => return Ok(*known),
            Some(None) => return Err("a '$ref' leads back to itself without going into the value".to_owned()),
            None => {}
        }
        if depth > CHAIN_MAX {
            return Err(too_long());
        }
        self.checks.insert(key, None);
        let mut below: Vec<&'a Value> = Vec::new();
        for (keyword, value) in map {
            let keyword = keyword.as_str();
            match value {
                Value::String(reference) if keyword == "$ref" => {
                    let target = self.resolve(reference)?;
                    self.referred.push(target);
                    below.push(target);
                }
                Value::Array(list) if SAME_PLACE_LISTS.contains(&keyword) => below.extend(list),
                Value::Object(named) if SAME_PLACE_MAPS.contains(&keyword) => below.extend(named.values()),
                single if SAME_PLACE.contains(&keyword) => below.push(single),
                _ => {}
            }
        }
        for schema in below {
            let below = self.count(schema, depth + 1)?;
            cost.checks = cost.checks.saturating_add(below.checks);
            cost.chain = cost.chain.max(below.chain + 1);
        }
        if cost.chain > CHAIN_MAX {
            return Err(too_long());
        }
        if cost.checks > CHECKS_MAX {
            return Err(
                "one value would be checked more than 10,000 times: there are too many '$ref's in '$ref's".to_owned()
            );
        }
        self.checks.insert(key, Some(cost));
        Ok(cost)
    }

    /// The place that a reference names.
    fn resolve(&self, reference: &str) -> Result<&'a Value, String> {
        let Some(fragment) = reference.strip_prefix('#') else {
            return Err(format!("the '$ref' to '{reference}' leads outside of the schema, and nothing is fetched"));
        };
        if !fragment.is_empty() && !fragment.starts_with('/') {
            return Err(format!("the '$ref' to '{reference}' is not supported: use '#/…'"));
        }
        match self.root.pointer(&percent_decoded(fragment)) {
            Some(target) => Ok(target),
            None => Err(format!("the '$ref' to '{reference}' leads nowhere")),
        }
    }
}

fn problem(at: &[String], message: String) -> Problem {
    let parts: Vec<String> = at.iter().map(|part| part.replace('~', "~0").replace('/', "~1")).collect();
    let pointer = format!("/{}", parts.join("/"));
    Problem { path: if at.is_empty() { String::new() } else { super::dotted(&pointer) }, message }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'%').then(|| after.get(..2)).flatten();
        let decoded =
            code.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
