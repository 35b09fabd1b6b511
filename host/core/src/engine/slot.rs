//! A run's place among those of its workflow that may not all run at once.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::expr::{Piece, descend};
use crate::model::Concurrency;

/// Longest key: it stands in an index.
const KEY_BYTES_MAX: usize = 256;

/// What a run counts under, and whether it waits for room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Runs of its workflow with the same key count together.
    pub key: Arc<str>,
    /// So many of them may run.
    pub limit: u32,
    /// Whether it waits. It begins with [`super::Stimulus::Admit`], and not before.
    #[serde(default)]
    pub queued: bool,
}

/// Why an input gives no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// Nothing is there.
    #[error("the input has nothing at '{0}', which the workflow's concurrency key needs")]
    Missing(String),
    /// A list or an object, or null.
    #[error("'{0}' of the input is no text, number or boolean: it cannot be part of the workflow's concurrency key")]
    NotPlain(String),
    /// Too long.
    #[error("the workflow's concurrency key would be {0} bytes, more than the {KEY_BYTES_MAX} that it may have")]
    TooLong(usize),
}

impl Slot {
    /// The place of a run with that input; it does not wait.
    pub fn of(concurrency: &Concurrency, input: &Value) -> Result<Self, NoKey> {
        let key = match &concurrency.key {
            Some(template) => template.render(&mut |piece| fill(piece, input))?,
            None => Value::String(String::new()),
        };
        let key = match key {
            Value::String(text) => text,
            other => other.to_string(),
        };
        if key.len() > KEY_BYTES_MAX {
            return Err(NoKey::TooLong(key.len()));
        }
        Ok(Self { key: key.into(), limit: concurrency.limit, queued: false })
    }
}

fn fill(piece: &Piece, input: &Value) -> Result<Value, NoKey> {
    let path = match piece {
        Piece::Path(path) => path,
        // Refused by the reader.
        Piece::Expression(source) => return Err(NoKey::Missing(source.to_string())),
    };
    match descend(input, path.segments()) {
        Some(plain @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => Ok(plain.clone()),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) => Err(NoKey::NotPlain(path.to_string())),
        None => Err(NoKey::Missing(path.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::expr::Template;
    use crate::model::Overflow;

    fn key(template: &str, input: &Value) -> Result<String, String> {
        let key = Some(Template::parse(&json!(template)).expect("parses"));
        let slot = Slot::of(&Concurrency { limit: 1, key, overflow: Overflow::Refuse }, input);
        slot.map(|slot| slot.key.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_is_made_of_plain_values_of_the_input() {
        let input = json!({"c": {"id": 7}, "name": "x", "long": "y".repeat(300), "none": null});
        assert_eq!(key("{{ c.id }}", &input).as_deref(), Ok("7"));
        assert_eq!(key("{{ ctx.name }}/{{ c.id }}", &input).as_deref(), Ok("x/7"));
        for (template, says) in [
            ("{{ c }}", "'c' of the input is no text"),
            ("{{ none }}", "'none' of the input is no text"),
            ("{{ d.id }}", "nothing at 'd.id'"),
            ("{{ long }}", "would be 300 bytes"),
        ] {
            let said = key(template, &input).expect_err(template);
            assert!(said.contains(says), "{template}: {said}");
        }
    }
}
