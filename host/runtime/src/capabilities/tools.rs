//! Tools that the operator connected: denied until they are built.

use caisson_core::plugin::Capability;

use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::tools::Host;
use crate::state::State;

impl Host for State {
    async fn list_tools(&mut self) -> wasmtime::Result<Result<String, Error>> {
        self.absent(Capability::Tools)
    }

    async fn call(&mut self, _: String, _: String) -> wasmtime::Result<Result<String, Error>> {
        self.absent(Capability::Tools)
    }
}
