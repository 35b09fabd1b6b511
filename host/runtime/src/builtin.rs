//! The built-in plugins, built from `plugins/` by the build script. They use the same interface as everybody's; all
//! that is special is that their ids are reserved for them, that some are granted what they ask for where the operator
//! says nothing, and that their code stays loaded.

use std::sync::Arc;

use caisson_core::json::sha256_hex;
use caisson_core::plugin::{Grants, Package};

use crate::package;

/// A built-in component.
#[derive(Clone)]
pub(crate) struct BuiltIn {
    /// Its folder.
    pub(crate) name: &'static str,
    /// The component.
    pub(crate) bytes: &'static [u8],
    /// Its SHA-256, hexadecimal.
    pub(crate) digest: Arc<str>,
    /// A call whose effect on memory becomes the image of every instance: action and input.
    pub(crate) warm_up: Option<(&'static str, &'static str)>,
}

/// The one whose actions the evaluator calls.
pub(crate) const SCRIPT: &str = "script";
/// The action that evaluates expressions.
pub(crate) const EVALUATE: &str = "evaluate";
/// The action that runs scripts, in the language that its input names.
pub(crate) const RUN: &str = "run";
/// No plugin but what runs JavaScript.
const JAVASCRIPT: &str = "javascript";

/// Name and bytes, the slowest to compile first, so that the others are done beside it.
const COMPONENTS: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/components.rs"));

/// What the built-in plugins are, without starting or compiling anything.
pub fn built_in_packages() -> Vec<Package> {
    plugins().into_iter().filter_map(|one| package::inspect(one.bytes).ok()).collect()
}

/// Those that are plugins.
pub(crate) fn plugins() -> Vec<BuiltIn> {
    COMPONENTS.iter().filter(|(name, _)| *name != JAVASCRIPT).map(built_in).collect()
}

/// What runs JavaScript, if this build has it.
pub(crate) fn javascript() -> Option<BuiltIn> {
    COMPONENTS.iter().find(|(name, _)| *name == JAVASCRIPT).map(built_in)
}

/// What a built-in plugin may do in a realm where the operator says nothing. Those that ask people or models exist to
/// do just that; those that reach out, or run what others wrote, wait for a grant like everybody.
pub(crate) fn default_grants(package: &Package) -> Grants {
    match package.id.as_str() {
        "core" | "human" | "agent" => package.asks.clone(),
        _ => Grants::default(),
    }
}

fn built_in((name, bytes): &(&'static str, &'static [u8])) -> BuiltIn {
    let warm_up = match *name {
        SCRIPT => Some((EVALUATE, r#"{"source":"{\"a\":[1]}","bindings":{"b":{"c":1}}}"#)),
        // Its own word for it: no package can have an action of this name.
        JAVASCRIPT => Some(("", "null")),
        _ => None,
    };
    BuiltIn { name, bytes, digest: sha256_hex(bytes).into(), warm_up }
}
