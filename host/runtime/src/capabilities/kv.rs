//! Small state per plugin and workflow: denied until it is built.

use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::kv::Host;
use crate::manifest::Capability;
use crate::state::State;

impl Host for State {
    async fn get(&mut self, _: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        self.absent(Capability::Kv)
    }

    async fn set(&mut self, _: String, _: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        self.absent(Capability::Kv)
    }

    async fn delete(&mut self, _: String) -> wasmtime::Result<Result<(), Error>> {
        self.absent(Capability::Kv)
    }

    async fn keys(&mut self, _: String, _: u32) -> wasmtime::Result<Result<Vec<String>, Error>> {
        self.absent(Capability::Kv)
    }
}
