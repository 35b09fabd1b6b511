//! Language models: a request goes to the model of a named agent of the run's environment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use caisson_core::error::{Category, Failure};
use caisson_core::json::Json;
use caisson_core::plugin::Capability;
use serde::{Deserialize, Serialize};

use super::denied;
use super::stored::is_name;
use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::model::Host;
use crate::journal::{Done, Place};
use crate::model;
use crate::sessions::{Call, Message, NAME_BYTES_MAX, SESSIONS_MAX};
use crate::state::State;

/// Per entry: an agent that has not found its answer by then never will.
const CALLS_DEFAULT: u64 = 100;
/// A page or so, then each time it has doubled: one sees that it goes on, and the longest answer takes a dozen of the guest's lines.
const PROGRESS_BYTES: usize = 2048;

/// What decides about a request, and what it leaves on the step.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(default)]
    agent: Option<String>,
    #[serde(default)]
    open: Option<Named>,
    /// Ends a session: nothing is asked of a model.
    #[serde(default)]
    end: Option<Ending>,
    /// The session of a turn.
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    messages: Vec<Message>,
    /// What does not fit goes on, with a warning.
    #[serde(default)]
    last: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    agent: String,
    /// The workflow names the agent by a number.
    #[serde(default)]
    by_id: bool,
    /// What the session is called; the agent's name if absent.
    #[serde(default)]
    name: Option<String>,
    /// The session of the agent that calls this one.
    #[serde(default)]
    parent: Option<String>,
}

#[derive(Deserialize)]
struct Ending {
    session: String,
    #[serde(default)]
    messages: Vec<Message>,
    /// Why there is no answer.
    #[serde(default)]
    error: Option<serde_json::Value>,
}

/// What of an answer counts on the step.
#[derive(Deserialize)]
struct Counted {
    #[serde(default)]
    model: String,
    #[serde(default)]
    usage: model::Tokens,
    #[serde(default)]
    problems: Vec<Misfit>,
    /// Of an agent that was opened, what it may call.
    #[serde(default)]
    tools: Vec<String>,
}

/// Where an answer does not fit.
#[derive(Deserialize, Serialize)]
struct Misfit {
    path: String,
    message: String,
}

impl Host for State {
    async fn complete(&mut self, request: String) -> wasmtime::Result<Result<String, Error>> {
        self.count()?;
        if let Err(error) = self.granted(Capability::Model) {
            return Ok(Err(error));
        }
        let asked: Asked = match serde_json::from_str(&request) {
            Ok(asked) => asked,
            Err(error) => return Ok(Err(Error::Invalid(format!("the model request does not read: {error}")))),
        };
        if let Some(end) = &asked.end {
            return self.end(&request, end).await;
        }
        let Some(agent) = asked.agent.clone().or_else(|| asked.open.as_ref().map(|open| open.agent.clone())) else {
            return Ok(Err(Error::Invalid("the model request does not read: it names no agent".to_owned())));
        };
        if let Err(why) = self.effective.agent(&agent) {
            return Ok(Err(denied(why)));
        }
        if let Err(error) = self.check_session(&agent, &asked) {
            return Ok(Err(error));
        }
        let calls =
            self.effective.least(CALLS_DEFAULT, |grants| grants.model.as_ref().and_then(|model| model.max_calls));
        self.quota.model_calls += u64::from(asked.open.is_none());
        if self.quota.model_calls > calls {
            return Ok(Err(Error::Quota(format!("one entry of a step may call models {calls} times"))));
        }
        let call = |sent: &[model::Message]| match (&asked.open, &asked.session) {
            (Some(open), _) => Call::Open { agent: &agent, name: open.name.as_deref(), parent: open.parent.as_deref() },
            (None, Some(session)) => Call::Turn { session, messages: &asked.messages, last: asked.last },
            (None, None) => {
                Call::Alone { agent: &agent, sent: sent.iter().map(Message::from).collect(), last: asked.last }
            }
        };
        let place = self.cursor.next_place();
        let mut is_new = false;
        let answer: Result<String, Error> = self
            .journaled("model.complete", &[request.as_bytes()], async |state: &mut Self, place: Place| {
                is_new = true;
                let mut sent = Vec::new();
                let answer = state.ask(&request, &mut sent).await;
                let answer =
                    if asked.open.is_some() { answer.map(|text| with_session(&text, &place.id)) } else { answer };
                let effects = state.note(&place, &call(&sent), &answer).await?;
                // To begin with an agent is no call of a model.
                let seen = asked.open.is_none().then(|| seen(&agent, answer.as_deref().unwrap_or_default()));
                Ok(Done { answer, effects, over_quota: None, seen })
            })
            .await?;
        if !is_new {
            self.note_again(&place, &call(&[]), answer.as_deref().ok());
        }
        if let Ok(answer) = &answer {
            self.keep(&agent, &asked, answer);
        }
        Ok(answer)
    }
}

/// What a trace says of a turn, by OpenTelemetry's conventions for generative AI:
/// <https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/>.
fn seen(agent: &str, answer: &str) -> Vec<(&'static str, String)> {
    let mut seen = vec![("gen_ai.operation.name", "chat".to_owned()), ("gen_ai.agent.name", agent.to_owned())];
    if let Ok(Counted { usage, model, .. }) = serde_json::from_str(answer) {
        seen.push(("gen_ai.response.model", model));
        seen.push(("gen_ai.usage.input_tokens", usage.input_tokens.to_string()));
        seen.push(("gen_ai.usage.output_tokens", usage.output_tokens.to_string()));
    }
    seen
}

impl State {
    /// Whether the session that a request names is one of this entry, and a new one may begin.
    fn check_session(&self, agent: &str, asked: &Asked) -> Result<(), Error> {
        let unknown = |id: &str| Error::Invalid(format!("there is no session '{id}' of that agent in this step"));
        if let Some(id) = asked.session.as_deref().filter(|id| !self.sessions.has(id, Some(agent))) {
            return Err(unknown(id));
        }
        let Some(open) = &asked.open else { return Ok(()) };
        if let Some(id) = open.parent.as_deref().filter(|id| !self.sessions.has(id, None)) {
            return Err(unknown(id));
        }
        if open.name.as_deref().is_some_and(|name| !is_name(name, NAME_BYTES_MAX)) {
            return Err(Error::Invalid(format!(
                "a session's name has 1 to {NAME_BYTES_MAX} bytes and no control characters"
            )));
        }
        if self.sessions.count() >= SESSIONS_MAX {
            return Err(Error::Quota(format!("one entry of a step may begin {SESSIONS_MAX} sessions")));
        }
        Ok(())
    }

    /// Ends a session with what was said since its last turn.
    async fn end(&mut self, request: &str, end: &Ending) -> wasmtime::Result<Result<String, Error>> {
        if !self.sessions.has(&end.session, None) {
            return Ok(Err(Error::Invalid(format!("there is no session '{}' in this step", end.session))));
        }
        let call = Call::End { session: &end.session, messages: &end.messages, error: end.error.as_ref() };
        let place = self.cursor.next_place();
        let mut is_new = false;
        let answer: Result<String, Error> = self
            .journaled("model.complete", &[request.as_bytes()], async |state: &mut Self, place: Place| {
                is_new = true;
                let answer = Ok("{}".to_owned());
                let effects = state.note(&place, &call, &answer).await?;
                Ok(Done { answer, effects, over_quota: None, seen: None })
            })
            .await?;
        if !is_new {
            self.note_again(&place, &call, answer.as_deref().ok());
        }
        Ok(answer)
    }

    /// Asks the models.
    async fn ask(&mut self, request: &str, sent: &mut Vec<model::Message>) -> Result<String, Error> {
        let shown = AtomicU32::new(0);
        let log = Arc::clone(&self.log);
        let progress = move |bytes: usize| {
            let step = (bytes / PROGRESS_BYTES).checked_ilog2().map_or(0, |doubled| doubled + 1);
            if shown.fetch_max(step, Ordering::Relaxed) < step {
                // What is past the limit of lines is left out: it is no fault of the guest.
                let _ = log.line(None, format!("the model has written {bytes} bytes"), None, None);
            }
        };
        let answer = self.shared.models.complete(&self.realm, request, &progress, sent).await;
        let redactor = &self.redactor;
        let clean = |text: String| redactor.text(&text).into_owned();
        match answer {
            Ok(text) => match Json::parse(text) {
                Ok(json) => Ok(redactor.json(json).get().to_owned()),
                Err(error) => Err(Error::Other(format!("the model's answer does not read: {error}"))),
            },
            Err(model::Error::Invalid(what)) => Err(Error::Invalid(clean(what))),
            Err(model::Error::AgentNotFound(what)) => Err(Error::NotFound(clean(what))),
            Err(model::Error::Timeout) => Err(Error::Timeout),
            Err(model::Error::Unavailable(what)) => Err(Error::Unavailable(clean(what))),
            Err(model::Error::TooLarge(bytes)) => Err(Error::TooLarge(bytes)),
            Err(model::Error::Malformed(what) | model::Error::Other(what)) => Err(Error::Other(clean(what))),
        }
    }

    /// Counts tokens and keeps warnings: of an answer out of the journal as of a new one.
    fn keep(&mut self, agent: &str, asked: &Asked, answer: &str) {
        if asked.open.as_ref().is_some_and(|open| open.by_id) {
            let message = format!("agent_id is deprecated: write `agent: NAME` instead of `agent_id: {agent}`");
            self.warnings.push(Failure::new(Category::ValidationError, "AGENT_ID_DEPRECATED", message));
        }
        let Ok(Counted { usage, problems, tools, .. }) = serde_json::from_str(answer) else { return };
        if asked.open.is_some() {
            self.agent_tools.get_or_insert_default().extend(tools);
        }
        self.tokens.input_tokens += usage.input_tokens;
        self.tokens.output_tokens += usage.output_tokens;
        if asked.last && !problems.is_empty() {
            let listed: Vec<String> = problems.iter().map(|one| format!("{}: {}", one.path, one.message)).collect();
            let message =
                format!("the answer does not fit the output schema of agent '{agent}': {}", listed.join("; "));
            let warning = Failure::new(Category::ValidationError, "SCHEMA_VALIDATION_OUTPUT", message);
            self.warnings.push(warning.with_details(Json::of(&serde_json::json!({"problems": problems}))));
        }
    }
}

/// An opening's answer with the id of its session in front.
fn with_session(answer: &str, id: &str) -> String {
    match answer.strip_prefix('{') {
        Some(rest) => format!("{{\"session\":\"{id}\",{rest}"),
        None => answer.to_owned(),
    }
}
