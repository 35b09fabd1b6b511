//! A loaded plugin: compiled, linked, its schemas compiled, ready to be instantiated.

use std::collections::BTreeSet;
use std::sync::Arc;

use caisson_core::ports::{ActionInfo, PluginRef};
use wasmtime::component::Linker;

use crate::bindings::PluginPre;
use crate::limits::Limits;
use crate::package::{Error, PackageInfo};
use crate::schema::Schema;
use crate::state::{Identity, State};

pub(crate) struct Plugin {
    pub(crate) info: PackageInfo,
    pub(crate) identity: Arc<Identity>,
    pub(crate) limits: Limits,
    pub(crate) actions: Vec<Action>,
    pub(crate) pre: PluginPre<State>,
    /// The operator's configuration, as JSON text.
    pub(crate) config: String,
    /// How many slots of the pool one instance takes.
    pub(crate) slots: u32,
}

pub(crate) struct Action {
    /// Its name within the plugin.
    pub(crate) name: String,
    pub(crate) info: ActionInfo,
    pub(crate) input: Option<Schema>,
    pub(crate) output: Option<Schema>,
}

impl Plugin {
    pub(crate) fn action(&self, full_name: &str) -> Option<&Action> {
        self.actions.iter().find(|action| &*action.info.name == full_name)
    }
}

/// Actions with their schemas compiled.
pub(crate) fn actions(info: &PackageInfo, identity: &Identity) -> Result<Vec<Action>, Error> {
    let plugin =
        PluginRef { id: identity.id.clone(), version: identity.version.clone(), digest: identity.digest.clone() };
    info.actions
        .iter()
        .map(|spec| {
            let compile = |moment: &'static str, schema: Option<&serde_json::Value>| {
                Schema::compile(schema).map_err(|problem| Error::Schema { action: spec.name.clone(), moment, problem })
            };
            Ok(Action {
                name: spec.name.clone(),
                input: compile("input", spec.input_schema.as_ref())?,
                output: compile("output", spec.output_schema.as_ref())?,
                info: ActionInfo {
                    name: format!("{}.{}", info.id, spec.name).into(),
                    plugin: plugin.clone(),
                    input_schema: spec.input_schema.clone().map(Arc::new),
                    output_schema: spec.output_schema.clone().map(Arc::new),
                },
            })
        })
        .collect()
}

/// Resolves every import of a component.
pub(crate) fn link(
    linker: &Linker<State>,
    component: &wasmtime::component::Component,
) -> Result<PluginPre<State>, Error> {
    linker
        .instantiate_pre(component)
        .and_then(PluginPre::new)
        .map_err(|e| Error::Compile(format!("the component does not link: {e:#}")))
}

/// What a plugin asked for and was granted.
pub(crate) fn grants(
    info: &PackageInfo,
    granted: impl Fn(crate::manifest::Capability) -> bool,
) -> BTreeSet<crate::manifest::Capability> {
    info.capabilities.iter().copied().filter(|capability| granted(*capability)).collect()
}
