//! Files that belong to the step: denied until they are built.

use crate::bindings::caisson::step::artifacts::Host;
use crate::bindings::caisson::step::capability::Error;
use crate::manifest::Capability;
use crate::state::State;

impl Host for State {
    async fn put(&mut self, _: String, _: String, _: Vec<u8>) -> wasmtime::Result<Result<String, Error>> {
        self.absent(Capability::Artifacts)
    }

    async fn get(&mut self, _: String) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        self.absent(Capability::Artifacts)
    }
}
