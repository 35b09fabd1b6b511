//! The lines of a transcript: one JSON object each, whatever is in it.

use std::fmt::Write;

use caisson_core::json::Json;
use caisson_core::ports::{SessionRow, SessionStatus};
use caisson_core::time::Timestamp;
use serde_json::{Map, Value, json};

/// A line is kept whole up to this: what a value may have.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Of a longer line each part keeps so much of its beginning.
const PART_BYTES_MAX: usize = 256 << 10;
/// The word for a transcript that goes no further.
const LIMIT: &str = "SESSION_TOO_LARGE";

/// Number and time before the fields, secrets hidden, and nothing in it that ends a line or that a terminal obeys.
pub(super) fn write(number: u32, at: Timestamp, fields: Map<String, Value>, clean: &dyn Fn(Json) -> Json) -> Json {
    let mut line = Map::new();
    line.insert("n".to_owned(), json!(number));
    line.insert("at".to_owned(), json!(at.to_string()));
    line.extend(fields);
    let cleaned = clean(Json::of(&line));
    let text = if cleaned.get().len() > LINE_BYTES_MAX { shortened(&cleaned) } else { cleaned.get().to_owned() };
    Json::parse(quiet(text)).unwrap_or(cleaned)
}

/// Long parts become the text of their beginning; `cut` says how long they were.
fn shortened(line: &Json) -> String {
    let Value::Object(mut fields) = line.value() else { return line.get().to_owned() };
    let mut cut = Map::new();
    for (key, value) in &mut fields {
        let text = match &*value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if text.len() > PART_BYTES_MAX {
            cut.insert(key.clone(), json!(text.len()));
            *value = Value::String(text[..text.floor_char_boundary(PART_BYTES_MAX)].to_owned());
        }
    }
    fields.insert("cut".to_owned(), Value::Object(cut));
    Value::Object(fields).to_string()
}

/// Control characters that JSON lets stand, and what Unicode takes for the end of a line, as escapes.
fn quiet(text: String) -> String {
    let loud = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}');
    if !text.contains(loud) {
        return text;
    }
    let mut quiet = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if loud(c) {
            // Writing to a String cannot fail.
            let _ = write!(quiet, "\\u{:04x}", u32::from(c));
        } else {
            quiet.push(c);
        }
    }
    quiet
}

fn fields(kind: &str, more: Value) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("type".to_owned(), json!(kind));
    if let Value::Object(more) = more {
        fields.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
    }
    fields
}

/// The first line.
pub(super) fn began(row: &SessionRow) -> Map<String, Value> {
    let more = json!({
        "id": row.id, "name": row.name, "agent": row.agent, "runId": row.run.as_str(), "stepId": row.step_id.as_str(),
        "attempt": row.attempt, "parentId": row.parent,
    });
    fields("session", more)
}

/// What is said to the model.
pub(super) fn message(role: &str, content: &Value, calls: Option<&Value>, call: Option<&str>) -> Map<String, Value> {
    fields("message", json!({"role": role, "toolCallId": call, "content": content, "toolCalls": calls}))
}

/// What it says.
pub(super) fn answer(answer: Value) -> Map<String, Value> {
    let mut line = fields("answer", json!({"role": "assistant"}));
    if let Value::Object(answer) = answer {
        line.extend(answer);
    }
    line
}

/// Why it said nothing.
pub(super) fn error(code: &str, message: &str) -> Map<String, Value> {
    fields("error", json!({"error": {"code": code, "message": message}}))
}

/// What was said before is said otherwise from here on.
pub(super) fn rewritten() -> Map<String, Value> {
    fields("rewritten", Value::Null)
}

/// The end, where an answer is not.
pub(super) fn ended(status: SessionStatus, error: Option<&Value>) -> Map<String, Value> {
    fields("end", json!({"status": status.as_str(), "error": error}))
}

/// The last line of a transcript that is too long.
pub(super) fn limit() -> Map<String, Value> {
    fields(
        "limit",
        json!({"limit": LIMIT, "message": "what follows is not kept: the transcript is as long as it may be"}),
    )
}

/// Whether it is that line.
pub(super) fn is_limit(line: &Json) -> bool {
    line.value().get("limit").and_then(Value::as_str) == Some(LIMIT)
}
