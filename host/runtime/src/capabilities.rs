//! What a guest can ask of the host: one file per capability, each an `impl Host for State` of its interface.
//!
//! Invariant: every call is counted, and checks its grant by `State::effective` before it does anything. What it sees
//! of the world, or does to it, goes through `State::journaled`.

mod artifacts;
mod assets;
mod events;
mod http;
mod kv;
mod log;
mod model;
mod secrets;
mod stored;
#[cfg(test)]
mod tests;
mod tools;
mod transcript;
mod wasi;

use caisson_core::plugin::{Capability, Denied};
use wasmtime::component::{HasSelf, Linker};

use crate::bindings::caisson::step;
use crate::bindings::caisson::step::capability::Error;
use crate::limits::{Exceeded, Limit};
use crate::state::State;

/// Links everything that a plugin may import.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::link(linker)?;
    step::types::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    step::capability::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    step::log::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    step::assets::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    step::http::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    step::secrets::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    step::kv::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    step::artifacts::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    step::events::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    step::model::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    step::tools::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    Ok(())
}

impl step::types::Host for State {}
impl step::capability::Host for State {}

impl State {
    /// Counts one call of the host. Every host function begins with it.
    fn count(&mut self) -> wasmtime::Result<()> {
        self.host_calls += 1;
        if self.host_calls > self.limits.host_calls {
            return Err(Exceeded { limit: Limit::HostCalls, max: self.limits.host_calls }.into());
        }
        Ok(())
    }

    /// Whether the entry has the capability at all; else what to add, and where.
    fn granted(&self, capability: Capability) -> Result<(), Error> {
        self.effective.check(capability).map_err(denied)
    }
}

/// A denial as the guest sees it.
fn denied(denied: Denied) -> Error {
    Error::Denied(denied.0)
}
