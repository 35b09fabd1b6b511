//! Whether a case ended as it was expected to.

use std::fs;

use caisson_core::error::Failure;
use caisson_core::ids::RunId;
use caisson_core::json::{Json, Payload};
use caisson_core::ports::{ArtifactRow, EmittedEvent, Journal, Outcome, PageRequest};
use serde_json::{Value, json};

use super::super::compare::{Difference, Mode, differences, fits, shortened, shown};
use super::super::local::{Local, Place, realm};
use super::super::stage::Stage;
use super::super::wake;
use super::case::{Expect, ExpectArtifact, ExpectEvent, ExpectFailure};
use super::play::stored;

/// How an entry ended.
pub type Ended = Result<Outcome, Failure>;

/// An end as it is shown.
pub fn ended(end: &Ended) -> Value {
    match end {
        Ok(Outcome::Done(value)) => json!({"done": value.value()}),
        Ok(Outcome::Suspend(suspension)) => json!({"suspend": wake::shown(suspension)}),
        Err(failure) => json!({"failure": shown_failure(failure)}),
    }
}

fn shown_failure(failure: &Failure) -> Value {
    Json::of(failure).value()
}

/// What is wrong with the end itself.
pub fn end(expect: &Expect, end: &Ended) -> Vec<Difference> {
    match (expect, end) {
        (Expect { done: Some(expected), .. }, Ok(Outcome::Done(got))) => {
            differences("done", expected, &got.value(), Mode::Equal)
        }
        (Expect { done_contains: Some(expected), .. }, Ok(Outcome::Done(got))) => {
            differences("doneContains", expected, &got.value(), Mode::Subset)
        }
        (Expect { suspend: Some(expected), .. }, Ok(Outcome::Suspend(suspension))) => {
            differences("suspend", &Value::Object(expected.clone()), &wake::shown(suspension), Mode::Subset)
        }
        (Expect { failure: Some(expected), .. }, Err(got)) => failure(expected, got),
        (expect, got) => {
            let wanted = match expect {
                Expect { suspend: Some(_), .. } => "a suspension",
                Expect { failure: Some(_), .. } => "a failure",
                _ => "a result",
            };
            vec![Difference::new("", format!("expected {wanted}, got {}", shown(&ended(got))))]
        }
    }
}

fn failure(expected: &ExpectFailure, got: &Failure) -> Vec<Difference> {
    let mut found = Vec::new();
    let equal = [
        ("failure.code", &expected.code, got.code.as_str()),
        ("failure.category", &expected.category, got.category.as_str()),
    ];
    for (path, expected, got) in equal {
        if let Some(expected) = expected.as_deref().filter(|expected| *expected != got) {
            found.push(Difference::values(path, &expected.into(), &got.into()));
        }
    }
    if let Some(part) = expected.message.as_deref().filter(|part| !got.message.contains(*part)) {
        found.push(Difference::new("failure.message", format!("expected {part:?} in {:?}", shortened(&got.message))));
    }
    if let Some(expected) = &expected.retry {
        found.extend(differences("failure.retry", expected, &Json::of(&got.retry).value(), Mode::Equal));
    }
    if let Some(expected) = &expected.details {
        let details = got.details.as_ref().map_or(Value::Null, Json::value);
        found.extend(differences("failure.details", expected, &details, Mode::Subset));
    }
    // A wrong failure without its message is a riddle.
    if !found.is_empty() && expected.message.is_none() {
        found.push(Difference::new("failure.message", format!("it was {:?}", shortened(&got.message))));
    }
    found
}

/// What is wrong with what the step left behind: lines, small state, events, files.
pub async fn around(
    local: &Local,
    stage: &Stage,
    place: &Place,
    expect: &Expect,
    lines: &[String],
) -> anyhow::Result<Vec<Difference>> {
    let mut found = logs(&expect.logs, lines);
    let scope = local.kv_scope(place);
    for (key, expected) in &expect.kv {
        let got = stage.journal.kv_get(&scope, key).await?;
        found.extend(kept(key, expected, got.as_deref()));
    }
    let run = RunId::new(place.run.as_str());
    if let Some(expected) = &expect.events {
        let page = stage.journal.emitted(&realm().tenant, None, Some(&run), None, &everything()).await?;
        // Newest first, and of one time in no order that means anything to people: as they were emitted.
        let got: Vec<EmittedEvent> = page.items.into_iter().rev().collect();
        found.extend(events(expected, &got));
    }
    if let Some(expected) = &expect.artifacts {
        let page = stage.journal.artifacts(&run, None, &everything()).await?;
        found.extend(artifacts(local, expected, &page.items));
    }
    Ok(found)
}

fn everything() -> PageRequest {
    PageRequest { limit: u32::MAX, cursor: None }
}

fn logs(expected: &[String], lines: &[String]) -> Vec<Difference> {
    let mut rest = lines.iter();
    let missing = expected.iter().find(|part| !rest.any(|line| line.contains(part.as_str())));
    let Some(missing) = missing else { return Vec::new() };
    let elsewhere = if lines.iter().any(|line| line.contains(missing.as_str())) { " in this order" } else { "" };
    vec![Difference::new("logs", format!("no line has {missing:?}{elsewhere}"))]
}

fn kept(key: &str, expected: &Value, got: Option<&[u8]>) -> Vec<Difference> {
    let path = format!("kv.{key}");
    match (expected, got) {
        (Value::Null, None) => Vec::new(),
        (expected, Some(got)) if stored(expected) == got => Vec::new(),
        // SDKs that keep JSON put a text into quotes.
        (Value::String(_), Some(got)) if serde_json::from_slice::<Value>(got).is_ok_and(|got| got == *expected) => {
            Vec::new()
        }
        (_, None) => vec![Difference::new(path, format!("expected {}, got nothing", shown(expected)))],
        (expected, Some(got)) => {
            let text = String::from_utf8_lossy(got);
            match serde_json::from_slice::<Value>(got) {
                // Another text, the same value.
                Ok(got) if !expected.is_string() && !expected.is_null() => {
                    differences(&path, expected, &got, Mode::Equal)
                }
                _ => vec![Difference::values(path, expected, &text.into())],
            }
        }
    }
}

fn events(expected: &[ExpectEvent], got: &[EmittedEvent]) -> Vec<Difference> {
    let names: Vec<&str> = got.iter().map(|event| &*event.name).collect();
    let wanted: Vec<&str> = expected.iter().map(|event| event.name.as_str()).collect();
    if names != wanted {
        return vec![Difference::values("events", &json!(wanted), &json!(names))];
    }
    let mut found = Vec::new();
    for (at, (expected, got)) in expected.iter().zip(got).enumerate() {
        let key = got.correlation_key.as_deref();
        if let Some(wanted) = expected.correlation_key.as_deref().filter(|wanted| Some(*wanted) != key) {
            found.push(Difference::values(format!("events[{at}].correlationKey"), &wanted.into(), &json!(key)));
        }
        if let Some(wanted) = &expected.payload {
            let payload = match &got.payload {
                Payload::Inline(json) => json.value(),
                Payload::Stored(_) => Value::Null,
            };
            found.extend(differences(&format!("events[{at}].payload"), wanted, &payload, Mode::Subset));
        }
    }
    found
}

fn artifacts(local: &Local, expected: &[ExpectArtifact], got: &[ArtifactRow]) -> Vec<Difference> {
    let mut wanted: Vec<&str> = expected.iter().map(|file| file.name.as_str()).collect();
    let mut names: Vec<&str> = got.iter().map(|row| &*row.name).collect();
    wanted.sort_unstable();
    names.sort_unstable();
    if wanted != names {
        return vec![Difference::values("artifacts", &json!(wanted), &json!(names))];
    }
    let mut found = Vec::new();
    for file in expected {
        let path = format!("artifacts.{}", file.name);
        let Some(row) = got.iter().find(|row| *row.name == *file.name) else { continue };
        if let Some(mime) = file.mime_type.as_deref().filter(|mime| *mime != &*row.mime_type) {
            found.push(Difference::values(format!("{path}.mimeType"), &mime.into(), &json!(row.mime_type)));
        }
        match fs::read(local.artifacts_dir().join(&*row.path)) {
            Ok(bytes) => found.extend(contents(&path, file, &bytes)),
            Err(error) => found.push(Difference::new(path, format!("its file cannot be read: {error}"))),
        }
    }
    found
}

fn contents(path: &str, file: &ExpectArtifact, bytes: &[u8]) -> Vec<Difference> {
    let text = String::from_utf8_lossy(bytes);
    let mut found = Vec::new();
    if let Some(part) = file.body_contains.as_deref().filter(|part| !text.contains(*part)) {
        found.push(Difference::new(path, format!("expected {part:?} in {:?}", shortened(&text))));
    }
    if let Ok(Some((expected, is_json))) = file.body.bytes() {
        let same = expected == bytes
            || (is_json
                && matches!(
                    (serde_json::from_slice::<Value>(&expected), serde_json::from_slice::<Value>(bytes)),
                    (Ok(expected), Ok(got)) if fits(&expected, &got, Mode::Equal)
                ));
        if !same {
            let expected = String::from_utf8_lossy(&expected);
            found.push(Difference::values(path, &json!(expected), &json!(text)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use caisson_core::error::Category;

    use super::*;

    fn expect(value: Value) -> Expect {
        serde_json::from_value(value).expect("it reads")
    }

    fn said(found: &[Difference]) -> String {
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn an_end_of_another_kind_says_what_it_was() {
        let failed: Ended = Err(Failure::new(Category::TransientError, "RATE_LIMITED", "slow down"));
        let done: Ended = Ok(Outcome::Done(Json::of(&json!({"a": 1, "b": 2}))));
        assert!(said(&end(&expect(json!({"done": 1})), &failed)).contains("slow down"));
        assert!(said(&end(&expect(json!({"failure": {}})), &done)).contains("expected a failure"));
        assert!(said(&end(&expect(json!({"suspend": {}})), &done)).contains("expected a suspension"));
        assert_eq!(end(&expect(json!({"doneContains": {"a": 1}})), &done), []);
        assert_eq!(said(&end(&expect(json!({"done": {"a": 1}})), &done)), "done.b: not expected, got 2");
        let fine = json!({"failure": {"code": "RATE_LIMITED", "category": "TransientError", "message": "slow", "retry": "default"}});
        assert_eq!(end(&expect(fine), &failed), []);
        let wrong = said(&end(&expect(json!({"failure": {"code": "GONE", "retry": "never"}})), &failed));
        assert!(
            wrong.contains("failure.code") && wrong.contains("failure.retry") && wrong.contains("slow down"),
            "{wrong}"
        );
    }

    #[test]
    fn lines_come_in_order() {
        let lines = ["one".to_owned(), "two things".to_owned()];
        let of = |parts: &[&str]| logs(&parts.iter().map(ToString::to_string).collect::<Vec<_>>(), &lines);
        assert_eq!(of(&["one", "two"]), []);
        assert!(said(&of(&["two", "one"])).contains("in this order"));
        assert!(said(&of(&["three"])).contains("three"));
    }

    #[test]
    fn small_state_is_text_or_json() {
        assert_eq!(kept("a", &json!("41"), Some(b"41")), []);
        assert_eq!(kept("a", &json!({"n": 1}), Some(b"{ \"n\": 1.0 }")), []);
        assert_eq!(kept("a", &json!("on"), Some(b"\"on\"")), []);
        assert_eq!(kept("a", &Value::Null, None), []);
        assert!(!kept("a", &Value::Null, Some(b"x")).is_empty());
        assert!(said(&kept("a", &json!("41"), Some(b"42"))).contains("42"));
        assert!(said(&kept("a", &json!(1), None)).contains("nothing"));
    }
}
