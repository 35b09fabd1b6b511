//! What calls add to the transcripts of agents.

use std::fmt::Write;
use std::sync::Arc;

use caisson_core::json::Json;
use caisson_core::ports::Effect;
use serde_json::Value;

use super::stored;
use crate::bindings::caisson::step::capability::Error;
use crate::journal::Place;
use crate::sessions::{Call, Owner};
use crate::state::State;

/// Of a tool's result a model is shown so much, as the built-in agent has it (`RESULT_BYTES_MAX` of `plugins/agent`).
const RESULT_BYTES_MAX: usize = 200_000;

impl State {
    fn owner(&self) -> Owner {
        Owner {
            realm: self.realm.clone(),
            run: self.run.clone(),
            step: self.step.clone(),
            attempt: self.cursor.attempt(),
        }
    }

    /// What a new call adds to its session, to be stored with its record.
    pub(super) async fn note(
        &mut self,
        place: &Place,
        call: &Call<'_>,
        answer: &Result<String, Error>,
    ) -> wasmtime::Result<Vec<Effect>> {
        let store = self.cursor.store();
        for id in self.sessions.stale() {
            // Lines went on where this host does not know: another one wrote them.
            let Some(row) = stored::read(|| store.session(&id)).await? else { continue };
            let before = row.lines.saturating_sub(1);
            let last = stored::read(|| store.session_lines(&row.run, &id, before, 1)).await?;
            self.sessions.refresh(row, last.first().map(|line| &line.line));
        }
        let said = answer.as_deref().map_err(said);
        let said = said.as_ref().map(|text| *text).map_err(|(code, message)| (*code, message.as_str()));
        let redactor = Arc::clone(&self.redactor);
        let (owner, at) = (self.owner(), self.clock.now());
        let change = self.sessions.answered(&place.id, &owner, at, call, said, &|line: Json| redactor.json(line));
        let change = change.filter(|_| self.cursor.is_kept());
        Ok(change.into_iter().map(|change| Effect::Session(Box::new(change))).collect())
    }

    /// A call that was answered from its record, whose lines are stored: the next one goes by it.
    pub(super) fn note_again(&mut self, place: &Place, call: &Call<'_>, answer: Option<&str>) {
        let (owner, at) = (self.owner(), self.clock.now());
        self.sessions.replayed(&place.id, &owner, at, call, answer);
    }
}

/// What a model is told of a tool's answer: word for word what the built-in agent tells it, so that the message of the next turn is known
/// as the line that stands there. A plugin that tells its model something else has a line for that, too.
pub(super) fn told(answer: &Result<String, Error>) -> String {
    let text = match answer {
        Ok(json) => match serde_json::from_str(json) {
            Ok(Value::String(text)) => text,
            Ok(other) => other.to_string(),
            Err(_) => json.clone(),
        },
        Err(error) => format!("error: {}", words(error)),
    };
    cut(text)
}

fn cut(mut text: String) -> String {
    if text.len() > RESULT_BYTES_MAX {
        let whole = text.len();
        text.truncate(text.floor_char_boundary(RESULT_BYTES_MAX));
        // Writing to a String cannot fail.
        let _ = write!(text, "\n(cut: {whole} bytes in all)");
    }
    text
}

/// As the SDK for guests says it.
fn words(error: &Error) -> String {
    match error {
        Error::Denied(what)
        | Error::NotFound(what)
        | Error::Invalid(what)
        | Error::Quota(what)
        | Error::Unavailable(what)
        | Error::Other(what) => what.clone(),
        Error::TooLarge(bytes) => format!("more than the {bytes} bytes that are allowed"),
        Error::Timeout => "the host's answer took too long".to_owned(),
    }
}

/// What a transcript says of an error.
fn said(error: &Error) -> (&'static str, String) {
    match error {
        Error::Denied(what) => ("DENIED", what.clone()),
        Error::NotFound(what) => ("NOT_FOUND", what.clone()),
        Error::Invalid(what) => ("INVALID", what.clone()),
        Error::TooLarge(bytes) => ("TOO_LARGE", format!("the answer has more than {bytes} bytes")),
        Error::Quota(what) => ("QUOTA_EXCEEDED", what.clone()),
        Error::Timeout => ("MODEL_TIMEOUT", "the model did not answer in time".to_owned()),
        Error::Unavailable(what) => ("MODEL_UNAVAILABLE", what.clone()),
        Error::Other(what) => ("MODEL_FAILED", what.clone()),
    }
}
