//! Language models: a request goes to the model of a named agent of the run's environment.

use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::model::Host;
use crate::manifest::Capability;
use crate::model;
use crate::state::State;

impl Host for State {
    async fn complete(&mut self, request: String) -> wasmtime::Result<Result<String, Error>> {
        self.count()?;
        if let Err(denied) = self.granted(Capability::Model) {
            return Ok(Err(denied));
        }
        let answer = self.models.complete(&self.realm, &request).await;
        Ok(answer.map_err(|error| match error {
            model::Error::Invalid(what) => Error::Invalid(what),
            model::Error::AgentNotFound(what) => Error::NotFound(what),
            model::Error::Timeout => Error::Timeout,
            model::Error::Unavailable(what) => Error::Unavailable(what),
            model::Error::Other(what) => Error::Other(what),
        }))
    }
}
