//! What differs between what was expected and what came, said so that a person sees it.

use std::fmt;

use serde_json::Value;

/// Values are shown so long at most.
const SHOWN_CHARS_MAX: usize = 300;
/// So many differences of one case are shown: the first ones are usually the cause of the others.
pub const DIFFERENCES_MAX: usize = 20;

/// One thing that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where: `done.items[2].id`.
    pub path: String,
    /// What is wrong.
    pub problem: String,
}

impl Difference {
    /// At a place.
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }

    /// Another value than the expected one.
    pub fn values(path: impl Into<String>, expected: &Value, got: &Value) -> Self {
        Self::new(path, format!("expected {}, got {}", shown(expected), shown(got)))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.problem) } else { write!(f, "{}: {}", self.path, self.problem) }
    }
}

/// How strictly objects are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The same keys.
    Equal,
    /// At least the expected keys.
    Subset,
}

/// What differs. The order of keys does not matter, and 1 is 1.0.
pub fn differences(path: &str, expected: &Value, got: &Value, mode: Mode) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(path, expected, got, mode, &mut found);
    found
}

/// Whether nothing differs.
pub fn fits(expected: &Value, got: &Value, mode: Mode) -> bool {
    differences("", expected, got, mode).is_empty()
}

fn compare(path: &str, expected: &Value, got: &Value, mode: Mode, found: &mut Vec<Difference>) {
    if found.len() >= DIFFERENCES_MAX {
        return;
    }
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            for (key, expected) in expected {
                let inner = join(path, key);
                match got.get(key) {
                    Some(got) => compare(&inner, expected, got, mode, found),
                    None => found.push(Difference::new(inner, format!("expected {}, got nothing", shown(expected)))),
                }
            }
            if mode == Mode::Equal {
                let more = got.iter().filter(|(key, _)| !expected.contains_key(*key));
                found.extend(more.map(|(key, value)| {
                    Difference::new(join(path, key), format!("not expected, got {}", shown(value)))
                }));
            }
        }
        (Value::Array(expected), Value::Array(got)) => {
            if expected.len() != got.len() {
                let problem = format!("expected {} items, got {}", expected.len(), got.len());
                found.push(Difference::new(path, problem));
            }
            for (at, (expected, got)) in expected.iter().zip(got).enumerate() {
                compare(&format!("{path}[{at}]"), expected, got, mode, found);
            }
        }
        (Value::Number(one), Value::Number(other)) if one == other || one.as_f64() == other.as_f64() => {}
        (expected, got) if expected == got => {}
        (expected, got) => found.push(Difference::values(path, expected, got)),
    }
}

fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'));
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}

/// A value as text, not too long.
pub fn shown(value: &Value) -> String {
    shortened(&value.to_string())
}

/// A text, not too long.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_name_their_place() {
        let expected = json!({"a": 1, "b": [1, {"c": "x"}], "gone": null, "odd key": 1});
        let got = json!({"b": [1.0, {"c": "y", "d": 2}], "a": 1.0, "odd key": 2, "new": true});
        let said =
            |mode| differences("done", &expected, &got, mode).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            said(Mode::Subset),
            [
                "done.b[1].c: expected \"x\", got \"y\"",
                "done.gone: expected null, got nothing",
                "done[\"odd key\"]: expected 1, got 2",
            ]
        );
        assert_eq!(said(Mode::Equal).len(), 5, "{:?}", said(Mode::Equal));
        assert!(fits(&json!({"a": 1}), &got, Mode::Subset));
        assert!(!fits(&json!({"a": 1}), &got, Mode::Equal));
        assert!(!fits(&json!([1]), &json!([1, 2]), Mode::Subset), "a list has its length");
    }
}
