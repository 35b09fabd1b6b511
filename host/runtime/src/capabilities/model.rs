//! Language models: a request goes to the model of a named agent of the run's environment.

use caisson_core::json::Json;
use caisson_core::plugin::Capability;
use serde::Deserialize;

use super::denied;
use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::model::Host;
use crate::journal::{Done, Place};
use crate::model;
use crate::state::State;

/// Per entry: an agent that has not found its answer by then never will.
const CALLS_DEFAULT: u64 = 100;

/// What decides about a request.
#[derive(Deserialize)]
struct Asked {
    agent: String,
}

impl Host for State {
    async fn complete(&mut self, request: String) -> wasmtime::Result<Result<String, Error>> {
        self.count()?;
        if let Err(error) = self.granted(Capability::Model) {
            return Ok(Err(error));
        }
        let agent = match serde_json::from_str::<Asked>(&request) {
            Ok(Asked { agent }) => agent,
            Err(error) => return Ok(Err(Error::Invalid(format!("the model request does not read: {error}")))),
        };
        if let Err(why) = self.effective.agent(&agent) {
            return Ok(Err(denied(why)));
        }
        let calls =
            self.effective.least(CALLS_DEFAULT, |grants| grants.model.as_ref().and_then(|model| model.max_calls));
        self.quota.model_calls += 1;
        if self.quota.model_calls > calls {
            return Ok(Err(Error::Quota(format!("one entry of a step may call models {calls} times"))));
        }
        self.journaled("model.complete", &[request.as_bytes()], async |state: &mut Self, _: Place| {
            let answer = state.shared.models.complete(&state.realm, &request).await;
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
                Err(model::Error::Other(what)) => Err(Error::Other(clean(what))),
            };
            Ok(Done::answer(answer))
        })
        .await
    }
}
