//! Named secrets: denied until they are built.

use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::secrets::Host;
use crate::manifest::Capability;
use crate::state::State;

impl Host for State {
    async fn get(&mut self, _: String) -> wasmtime::Result<Result<String, Error>> {
        self.absent(Capability::Secrets)
    }
}
