//! Outgoing HTTP: denied until it is built.

use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::http::{Host, Request, Response};
use crate::manifest::Capability;
use crate::state::State;

impl Host for State {
    async fn send(&mut self, _: Request) -> wasmtime::Result<Result<Response, Error>> {
        self.absent(Capability::Http)
    }
}
