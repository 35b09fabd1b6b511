//! What a guest can ask of the host: one file per capability, each an `impl Host for State` of its interface.
//!
//! Invariant: every call is counted, and every call checks its grant by [`State::granted`] before it does anything.
//! Deliberately absent: effects. Of all interfaces only the log and the model do something yet; the others answer `denied`.

mod artifacts;
mod events;
mod http;
mod kv;
mod log;
mod model;
mod secrets;
mod tools;
mod wasi;

use wasmtime::component::{HasSelf, Linker};

pub(crate) use self::wasi::{Random, context as wasi_context};

use crate::bindings::caisson::step;
use crate::bindings::caisson::step::capability::Error;
use crate::limits::{Exceeded, Limit};
use crate::manifest::Capability;
use crate::state::State;

/// Links everything that a plugin may import.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::link(linker)?;
    step::types::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    step::capability::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    step::log::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
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
    /// Counts one call of the host.
    fn count(&mut self) -> wasmtime::Result<()> {
        self.host_calls += 1;
        if self.host_calls > self.limits.host_calls {
            return Err(Exceeded { limit: Limit::HostCalls, max: self.limits.host_calls }.into());
        }
        Ok(())
    }

    /// Whether the plugin has the capability; else what to grant.
    fn granted(&self, capability: Capability) -> Result<(), Error> {
        if self.plugin.grants.contains(&capability) {
            return Ok(());
        }
        Err(Error::Denied(denial(&self.plugin.id, capability)))
    }

    /// A capability that the interface has and this version of the host does not.
    fn absent<T>(&mut self, capability: Capability) -> wasmtime::Result<Result<T, Error>> {
        self.count()?;
        let name = capability.as_str();
        Ok(Err(self.granted(capability).err().unwrap_or_else(|| {
            Error::Denied(format!(
                "capability '{name}' is granted, but this version of caisson does not provide it yet"
            ))
        })))
    }
}

/// What an ungranted call answers: the line to add.
pub(crate) fn denial(plugin: &str, capability: Capability) -> String {
    let capability = capability.as_str();
    format!("capability '{capability}' is not granted to plugin '{plugin}': add the grant \"{plugin}:{capability}\"")
}
