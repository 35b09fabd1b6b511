//! Business events: denied until they are built.

use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::events::Host;
use crate::manifest::Capability;
use crate::state::State;

impl Host for State {
    async fn emit(&mut self, _: String, _: Option<String>, _: String) -> wasmtime::Result<Result<(), Error>> {
        self.absent(Capability::Events)
    }
}
