//! Whether what one JSON Schema gives satisfies what another takes, without any value at hand.
//!
//! An error only where it is certain: no value fits, a part that is given never fits, or a required property is
//! not among those that the giver names. What is uncertain is a warning. Without findings every value that the
//! giver allows fits the taker.
//!
//! Deliberately absent: remote references, and reasoning about `not`, `if`, patterns and formats beyond
//! their being the same. Those are "cannot be compared".

mod giver;

use serde_json::{Map, Value, json};

use super::Validator;
use crate::definition::{Severity, nearest};
use giver::{Plain, alternatives, covers, resolve, types};

/// Pairs of schemas that are compared before it is called too much; ordinary ones take a few dozen.
const PAIRS_MAX: usize = 2_000;

/// Depth of the compared schemas; deeper data does not come from a step.
const DEPTH_MAX: usize = 24;

/// Findings in a report: the first ones are usually enough.
const FINDINGS_MAX: usize = 10;

/// Values of an `enum` that are tried one by one.
const VALUES_MAX: usize = 200;

/// One way in which the two do not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// An error is certain, a warning is possible.
    pub severity: Severity,
    /// Where in the value, as `pods[].name`; empty for all of it.
    pub path: String,
    /// What is wrong, with the names of both.
    pub message: String,
    /// What may have been meant.
    pub suggestion: Option<String>,
    /// Whether no value at all fits because of it.
    never: bool,
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of the taker's schema.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether it is certain that they do not match.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Compares; `None` is no schema.
pub fn check(gives: Option<&Value>, takes: Option<&Value>) -> Report {
    check_between(gives, takes, "the giver", "the taker")
}

/// The same, with the names of both in the messages.
pub fn check_between(gives: Option<&Value>, takes: Option<&Value>, giver: &str, taker: &str) -> Report {
    let Some(takes) = takes else { return Report::default() };
    let mut compare =
        Compare { giver, taker, gives: gives.unwrap_or(&Value::Null), takes, pairs: 0, found: Vec::new() };
    match gives {
        Some(gives) if gives == takes => {}
        Some(gives) => compare.schemas(gives, takes, &At { path: String::new(), depth: 0, certain: true }),
        None => {
            let message = format!("cannot validate what {taker} takes: {giver} has no schema for what it gives");
            compare.push(Severity::Warning, &At { path: String::new(), depth: 0, certain: false }, message);
        }
    }
    let mut findings = compare.found;
    findings.truncate(FINDINGS_MAX);
    Report { findings }
}

/// Where in the value.
#[derive(Clone)]
struct At {
    path: String,
    depth: usize,
    /// Whether every value of the giver has this part, or needs it to fit.
    certain: bool,
}

impl At {
    fn key(&self, name: &str, certain: bool) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { path: format!("{}{dot}{name}", self.path), depth: self.depth + 1, certain: self.certain && certain }
    }

    fn item(&self, certain: bool) -> Self {
        Self { path: format!("{}[]", self.path), depth: self.depth + 1, certain: self.certain && certain }
    }

    fn name(&self) -> &str {
        if self.path.is_empty() { "its input" } else { &self.path }
    }
}

struct Compare<'a> {
    giver: &'a str,
    taker: &'a str,
    gives: &'a Value,
    takes: &'a Value,
    pairs: usize,
    found: Vec<Finding>,
}

impl Compare<'_> {
    fn push(&mut self, severity: Severity, at: &At, message: String) {
        let never = severity == Severity::Error && at.certain;
        let finding = Finding { severity, path: at.path.clone(), message, suggestion: None, never };
        if !self.found.contains(&finding) {
            self.found.push(finding);
        }
    }

    fn cannot(&mut self, at: &At, what: &str) {
        let message =
            format!("{} of {} cannot be compared with what {} gives: {what}", at.name(), self.taker, self.giver);
        self.push(Severity::Warning, at, message);
    }

    fn may_not_fit(&mut self, at: &At, why: &str) {
        let message = format!("what {} gives may not fit {} of {}: {why}", self.giver, at.name(), self.taker);
        self.push(Severity::Warning, at, message);
    }

    fn never_fits(&mut self, at: &At, why: &str) {
        let message = format!("what {} gives never fits {} of {}: {why}", self.giver, at.name(), self.taker);
        self.push(Severity::Error, at, message);
    }

    /// Each alternative of the giver by itself: only what all of them fail is an error.
    fn schemas(&mut self, gives: &Value, takes: &Value, at: &At) {
        self.pairs += 1;
        if self.pairs > PAIRS_MAX || at.depth > DEPTH_MAX {
            return self.cannot(at, "the schemas are too large");
        }
        if takes == &Value::Bool(true) || takes.as_object().is_some_and(Map::is_empty) {
            return;
        }
        let Some(given) = alternatives(gives, self.gives) else {
            return self.cannot(at, "too many alternatives, or a reference that is not followed");
        };
        let mut reports: Vec<Vec<Finding>> =
            given.iter().map(|plain| self.apart(|compare| compare.plain(plain, takes, at))).collect();
        let all_fail = reports.iter().all(|report| has_error(report));
        let never = reports.iter().all(|report| report.iter().any(|finding| finding.never));
        for finding in reports.iter_mut().flatten() {
            if !all_fail {
                finding.severity = Severity::Warning;
            }
            finding.never &= never;
            if !self.found.contains(finding) {
                self.found.push(finding.clone());
            }
        }
    }

    /// What a comparison finds, apart from what was found before.
    fn apart(&mut self, compare: impl FnOnce(&mut Self)) -> Vec<Finding> {
        let before = std::mem::take(&mut self.found);
        compare(self);
        std::mem::replace(&mut self.found, before)
    }

    fn plain(&mut self, gives: &Plain, takes: &Value, at: &At) {
        self.pairs += 1;
        if self.pairs > PAIRS_MAX || at.depth > DEPTH_MAX {
            return self.cannot(at, "the schemas are too large");
        }
        let takes = match takes {
            Value::Bool(true) => return,
            Value::Object(map) => map,
            _ => return self.never_fits(at, "nothing is taken there"),
        };
        if let Some(values) = finite(gives) {
            return self.values(&values, takes, at);
        }
        if let Some(reference) = takes.get("$ref") {
            let deeper = At { depth: at.depth + 1, ..at.clone() };
            match reference.as_str().and_then(|reference| resolve(reference, self.takes)) {
                Some(target) => self.plain(gives, target, &deeper),
                None => self.cannot(at, "a reference is not followed"),
            }
        }
        for part in takes.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.plain(gives, part, &At { depth: at.depth + 1, ..at.clone() });
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(parts) = takes.get(key).and_then(Value::as_array) {
                self.either(gives, parts, key == "oneOf", at);
            }
        }
        self.keywords(gives, takes, at);
    }

    fn either(&mut self, gives: &Plain, parts: &[Value], only_one: bool, at: &At) {
        let deeper = At { depth: at.depth + 1, ..at.clone() };
        let mut reports = Vec::new();
        for part in parts {
            let report = self.apart(|compare| compare.plain(gives, part, &deeper));
            if report.is_empty() && !only_one {
                return;
            }
            reports.push(report);
        }
        let never = |report: &Vec<Finding>| report.iter().any(|finding| finding.never);
        let fitting = reports.iter().filter(|report| report.is_empty()).count();
        if fitting == 1 && reports.iter().all(|report| report.is_empty() || never(report)) {
            return;
        }
        if reports.iter().all(never) {
            return self.never_fits(at, "none of the alternatives");
        }
        self.may_not_fit(at, if only_one { "it must be exactly one of several" } else { "it must be one of several" });
    }

    /// Values that can be counted are tried.
    fn values(&mut self, values: &[Value], takes: &Map<String, Value>, at: &At) {
        let mut schema = json!({"allOf": [takes]});
        for key in ["$defs", "definitions"] {
            if let Some(defs) = self.takes.get(key) {
                schema[key] = defs.clone();
            }
        }
        // A schema takes about as long to compile as twenty pairs do to compare.
        self.pairs += 20;
        let Ok(validator) = Validator::compile(&schema) else {
            return self.cannot(at, "the schema is none");
        };
        let wrong = values.iter().filter_map(|value| Some((value, validator.validate(value).err()?)));
        let wrong: Vec<_> = wrong.collect();
        let list = wrong.iter().take(5).map(|(value, _)| short(value)).collect::<Vec<_>>().join(", ");
        if wrong.is_empty() {
        } else if wrong.len() == values.len() {
            let of_type = takes.get("type").is_some_and(|wanted| wrong.iter().all(|(value, _)| is_of(value, wanted)));
            let why = match wrong.first().and_then(|(_, problems)| problems.first()) {
                Some(problem) if of_type => format!("{list} does not fit: {}", problem.message),
                _ => format!("{list} is not {}", expected(&Value::Object(takes.clone()))),
            };
            self.never_fits(at, &why);
        } else {
            self.may_not_fit(at, &format!("it may be {list}"));
        }
    }

    fn keywords(&mut self, gives: &Plain, takes: &Map<String, Value>, at: &At) {
        if !self.types(gives, takes, at) {
            return;
        }
        for (keyword, value) in takes {
            match keyword.as_str() {
                // A list of `items` is the old spelling of `prefixItems`.
                "items" if value.is_array() => self.cannot(at, "a list of 'items'"),
                "properties"
                | "required"
                | "additionalProperties"
                | "items"
                | "prefixItems"
                | "title"
                | "description"
                | "default"
                | "examples"
                | "$defs"
                | "definitions"
                | "$schema"
                | "$id"
                | "$comment"
                | "deprecated"
                | "readOnly"
                | "writeOnly"
                | "nullable"
                | "type"
                | "$ref"
                | "allOf"
                | "anyOf"
                | "oneOf"
                | "then"
                | "else" => {}
                "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum" | "minLength" | "maxLength"
                | "minItems" | "maxItems" => self.bound(gives, keyword, value, at),
                _ if !concerns(gives, keyword) => {}
                // The same keyword with the same value says the same, unless it leads elsewhere.
                _ if gives.get(keyword) == Some(value) && !value.is_object() => {}
                "enum" | "const" => self.may_not_fit(at, &format!("it must be {}", short(value))),
                "format" | "pattern" => self.may_not_fit(at, &format!("it must have the {keyword} {}", short(value))),
                other => self.cannot(at, &format!("the keyword '{other}'")),
            }
        }
        if may_be(gives, "object") {
            self.object(gives, takes, at);
        }
        if may_be(gives, "array") {
            self.array(gives, takes, at);
        }
    }

    /// Whether it is worth looking further.
    fn types(&mut self, gives: &Plain, takes: &Map<String, Value>, at: &At) -> bool {
        let wanted = takes.get("type").map(types).unwrap_or_default();
        if wanted.is_empty() {
            return true;
        }
        let given = given_types(gives);
        if given.is_empty() {
            self.may_not_fit(at, &format!("it must be {}, and what is given has no type", wanted.join(" or ")));
            return true;
        }
        let fits = |given: &&str| wanted.iter().any(|wanted| covers(wanted, given));
        let partly = |given: &&str| wanted.iter().any(|wanted| covers(given, wanted));
        if given.iter().all(fits) {
            return true;
        }
        let (wanted_text, given_text) = (wanted.join(" or "), given.join(" or "));
        if given.iter().any(|given| fits(given) || partly(given)) {
            self.may_not_fit(at, &format!("it must be {wanted_text}, and {given_text} is given"));
            return true;
        }
        let message = format!("{} expects {}: {wanted_text}, {} gives {given_text}", self.taker, at.name(), self.giver);
        self.push(Severity::Error, at, message);
        false
    }

    fn bound(&mut self, gives: &Plain, keyword: &str, limit: &Value, at: &At) {
        if !concerns(gives, keyword) {
            return;
        }
        let number = |key: &str| gives.get(key).and_then(Value::as_f64);
        let Some(limit) = limit.as_f64() else { return };
        let exclusive = keyword.starts_with("exclusive");
        let (lower, same, other) = match keyword {
            "minimum" => (true, number("minimum").or(number("exclusiveMinimum")), number("maximum")),
            "exclusiveMinimum" => (true, number("exclusiveMinimum"), number("maximum")),
            "maximum" => (false, number("maximum").or(number("exclusiveMaximum")), number("minimum")),
            "exclusiveMaximum" => (false, number("exclusiveMaximum"), number("minimum")),
            "minLength" => (true, number("minLength"), number("maxLength")),
            "maxLength" => (false, number("maxLength"), number("minLength")),
            "minItems" => (true, number("minItems"), number("maxItems")),
            _ => (false, number("maxItems"), number("minItems")),
        };
        let beyond = |a: f64, b: f64| if lower { a < b } else { a > b };
        if same.is_some_and(|same| !beyond(same, limit)) || (lower && limit <= 0.0 && !keyword.contains("imum")) {
            return;
        }
        #[expect(clippy::float_cmp, reason = "the bounds are as written, nothing is calculated")]
        let apart = other.is_some_and(|other| beyond(other, limit) || (exclusive && other == limit));
        if apart && concerns_only(gives, keyword) {
            self.never_fits(at, &format!("{keyword} is {limit}"));
        } else {
            self.may_not_fit(at, &format!("{keyword} is {limit}"));
        }
    }

    fn object(&mut self, gives: &Plain, takes: &Map<String, Value>, at: &At) {
        let empty = Map::new();
        let given = gives.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let taken = takes.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let required = names(takes.get("required"));
        let sure = names(gives.get("required"));
        let only_object = given_types(gives) == ["object"];
        let missing =
            required.iter().copied().filter(|name| !taken.contains_key(*name)).map(|name| (name, &Value::Bool(true)));
        for (name, schema) in taken.iter().map(|(name, schema)| (name.as_str(), schema)).chain(missing) {
            let needed = required.contains(&name);
            let at = at.key(name, only_object && (needed || sure.contains(&name)));
            match given.get(name) {
                Some(property) => {
                    if needed && !sure.contains(&name) {
                        let message = format!("{} requires {}, {} may leave it out", self.taker, at.path, self.giver);
                        self.push(Severity::Warning, &at, message);
                    }
                    self.schemas(property, schema, &at);
                }
                None => self.not_given(gives, given, taken, (name, schema), needed && only_object, &at),
            }
        }
        self.extra(gives, takes, given, taken, &sure, at);
    }

    fn not_given(
        &mut self,
        gives: &Plain,
        given: &Map<String, Value>,
        taken: &Map<String, Value>,
        (name, schema): (&str, &Value),
        needed: bool,
        at: &At,
    ) {
        let rest = gives.get("additionalProperties");
        let open = gives.contains_key("patternProperties")
            || rest.is_some_and(|rest| rest != &Value::Bool(false))
            || (rest.is_none() && given.is_empty());
        let never = if open { "does not say whether it gives it" } else { "never gives it" };
        let message = format!("{} expects {}: {}, {} {never}", self.taker, at.path, expected(schema), self.giver);
        let severity = if needed && !open { Severity::Error } else { Severity::Warning };
        let closed = rest == Some(&Value::Bool(false));
        self.push(severity, &At { certain: at.certain && closed, ..at.clone() }, message);
        let others = given.keys().map(String::as_str).filter(|key| !taken.contains_key(*key));
        if let (Some(near), Some(last)) = (nearest(name, others), self.found.last_mut()) {
            last.suggestion = Some(format!("{} gives '{near}': is that what is meant?", self.giver));
        }
    }

    /// What the taker does not name.
    fn extra(
        &mut self,
        gives: &Plain,
        takes: &Map<String, Value>,
        given: &Map<String, Value>,
        taken: &Map<String, Value>,
        sure: &[&str],
        at: &At,
    ) {
        let Some(rest) = takes.get("additionalProperties").filter(|rest| **rest != Value::Bool(true)) else { return };
        let only_object = given_types(gives) == ["object"];
        for (name, schema) in given.iter().filter(|(name, _)| !taken.contains_key(*name)) {
            let certain = sure.contains(&name.as_str()) && only_object;
            if takes.contains_key("patternProperties") || (rest == &Value::Bool(false) && !certain) {
                self.may_not_fit(&at.key(name, false), "it takes only what its schema names");
            } else {
                self.schemas(schema, rest, &at.key(name, certain));
            }
        }
        if gives.get("additionalProperties") != Some(&Value::Bool(false)) || gives.contains_key("patternProperties") {
            self.may_not_fit(at, "more properties may be given than its schema takes");
        }
    }

    fn array(&mut self, gives: &Plain, takes: &Map<String, Value>, at: &At) {
        let list =
            |map: &Map<String, Value>| map.get("prefixItems").and_then(Value::as_array).cloned().unwrap_or_default();
        let (given, taken) = (list(gives), list(takes));
        let anything = Value::Bool(true);
        let rest_given = gives.get("items").filter(|items| !items.is_array()).unwrap_or(&anything);
        let rest_taken = takes.get("items").filter(|items| !items.is_array()).unwrap_or(&anything);
        let at_least = gives.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        let only_array = given_types(gives) == ["array"];
        for index in 0..given.len().max(taken.len()).saturating_add(1) {
            let certain = only_array && at_least > index as u64;
            let schema = taken.get(index).unwrap_or(rest_taken);
            self.schemas(given.get(index).unwrap_or(rest_given), schema, &at.item(certain));
        }
    }
}

fn has_error(report: &[Finding]) -> bool {
    report.iter().any(|finding| finding.severity == Severity::Error)
}

/// The only values that are allowed, if they can be counted.
fn finite(gives: &Plain) -> Option<Vec<Value>> {
    match (gives.get("const"), gives.get("enum")) {
        (Some(value), _) => Some(vec![value.clone()]),
        (None, Some(Value::Array(values))) if values.len() <= VALUES_MAX => Some(values.clone()),
        _ => None,
    }
}

/// The types that are given; none if it is not said.
fn given_types(gives: &Plain) -> Vec<&str> {
    let mut given = gives.get("type").map(types).unwrap_or_default();
    if !given.is_empty() && gives.get("nullable") == Some(&Value::Bool(true)) && !given.contains(&"null") {
        given.push("null");
    }
    given
}

fn may_be(gives: &Plain, kind: &str) -> bool {
    let given = given_types(gives);
    given.is_empty() || given.iter().any(|given| covers(kind, given) || covers(given, kind))
}

/// The type that a keyword says something about.
fn kind_of(keyword: &str) -> Option<&'static str> {
    Some(match keyword {
        "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum" | "multipleOf" => "number",
        "minLength" | "maxLength" | "pattern" | "format" => "string",
        "minItems" | "maxItems" | "uniqueItems" | "contains" => "array",
        _ => return None,
    })
}

fn concerns(gives: &Plain, keyword: &str) -> bool {
    kind_of(keyword).is_none_or(|kind| may_be(gives, kind))
}

fn concerns_only(gives: &Plain, keyword: &str) -> bool {
    let given = given_types(gives);
    !given.is_empty() && kind_of(keyword).is_some_and(|kind| given.iter().all(|given| covers(kind, given)))
}

fn names(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What is expected, in a word or two.
fn expected(schema: &Value) -> String {
    let names = schema.get("type").map(types).unwrap_or_default();
    match (names.as_slice(), schema.get("enum").or_else(|| schema.get("const"))) {
        (_, Some(values)) => format!("one of {}", short(values)),
        ([], None) => "a value".to_owned(),
        (names, None) => names.join(" or "),
    }
}

fn short(value: &Value) -> String {
    const CHARS_MAX: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Whether a value is of the type, or of one of the types, that a schema's `type` names.
fn is_of(value: &Value, wanted: &Value) -> bool {
    Validator::compile(&json!({ "type": wanted })).is_ok_and(|validator| validator.validate(value).is_ok())
}

#[cfg(test)]
mod tests;
