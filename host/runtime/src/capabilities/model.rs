//! Language models: a request goes to the model of a named agent of the run's environment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use caisson_core::error::{Category, Failure};
use caisson_core::json::Json;
use caisson_core::plugin::Capability;
use serde::{Deserialize, Serialize};

use super::denied;
use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::model::Host;
use crate::journal::{Done, Place};
use crate::model;
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
}

/// What of an answer counts on the step.
#[derive(Deserialize)]
struct Counted {
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
        let Some(agent) = asked.agent.clone().or_else(|| asked.open.as_ref().map(|open| open.agent.clone())) else {
            return Ok(Err(Error::Invalid("the model request does not read: it names no agent".to_owned())));
        };
        if let Err(why) = self.effective.agent(&agent) {
            return Ok(Err(denied(why)));
        }
        let calls =
            self.effective.least(CALLS_DEFAULT, |grants| grants.model.as_ref().and_then(|model| model.max_calls));
        self.quota.model_calls += u64::from(asked.open.is_none());
        if self.quota.model_calls > calls {
            return Ok(Err(Error::Quota(format!("one entry of a step may call models {calls} times"))));
        }
        let answer: Result<String, Error> = self
            .journaled("model.complete", &[request.as_bytes()], async |state: &mut Self, _: Place| {
                let shown = AtomicU32::new(0);
                let log = Arc::clone(&state.log);
                let progress = move |bytes: usize| {
                    let step = (bytes / PROGRESS_BYTES).checked_ilog2().map_or(0, |doubled| doubled + 1);
                    if shown.fetch_max(step, Ordering::Relaxed) < step {
                        // What is past the limit of lines is left out: it is no fault of the guest.
                        let _ = log.line(None, format!("the model has written {bytes} bytes"), None, None);
                    }
                };
                let answer = state.shared.models.complete(&state.realm, &request, &progress).await;
                let redactor = &state.redactor;
                let clean = |text: String| redactor.text(&text).into_owned();
                let answer = match answer {
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
                };
                Ok(Done::answer(answer))
            })
            .await?;
        if let Ok(answer) = &answer {
            self.keep(&agent, &asked, answer);
        }
        Ok(answer)
    }
}

impl State {
    /// Counts tokens and keeps warnings: of an answer out of the journal as of a new one.
    fn keep(&mut self, agent: &str, asked: &Asked, answer: &str) {
        if asked.open.as_ref().is_some_and(|open| open.by_id) {
            let message = format!("agent_id is deprecated: write `agent: NAME` instead of `agent_id: {agent}`");
            self.warnings.push(Failure::new(Category::ValidationError, "AGENT_ID_DEPRECATED", message));
        }
        let Ok(Counted { usage, problems, tools }) = serde_json::from_str(answer) else { return };
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
