//! A `.wasm` as a package: its manifest, imports and digest, found by parsing. Nothing runs and nothing is compiled.
//!
//! Invariant: whatever the bytes are, this ends with a package or with an error that says what is wrong; it never
//! panics.

mod binary;
mod write;

use std::collections::BTreeMap;

use caisson_core::error::{Category, Failure};
use caisson_core::json::sha256_hex;
use caisson_core::plugin::{ActionSpec, Capability, Engine, Grants, Package, RESERVED_IDS};
use serde_json::Value;

pub(crate) use self::binary::{Parts, Shape};
pub use self::write::{embed, javascript_package};

use crate::limits::{INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX};
use crate::manifest::{self, MANIFEST_BYTES_MAX, Manifest, WIT_MAJOR, check_schema, hint};

/// The custom section that holds the manifest.
pub const MANIFEST_SECTION: &str = "caisson:manifest";
/// The custom sections that hold one file each: the length of its name (four bytes, little-endian), its name, its
/// bytes.
pub const ASSET_SECTION: &str = "caisson:asset";
/// The custom section with the schemas that an SDK derived from types: `{"ACTION": {"input": …, "output": …, "config":
/// …}}`.
pub const SCHEMAS_SECTION: &str = "caisson:schemas";
/// The largest component that is read: Python's are 18 MB.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;
/// Files in one package.
pub const ASSETS_MAX: usize = 64;
/// Bytes of all files together: they stay in memory while the plugin is loaded.
pub const ASSET_BYTES_MAX: usize = 8 << 20;
/// The file that the JavaScript engine runs.
pub const PLUGIN_JS: &str = "plugin.js";

const ASSET_NAME_BYTES_MAX: usize = 255;
const STEP: &str = "caisson:step/";
/// Interfaces of `caisson:step` that need no capability: types, the log, and the package's own files.
const FREE: [&str; 4] = ["types", "capability", "log", "assets"];
/// Packages of WASI 0.2 that the host serves, inert.
const WASI: [&str; 6] = ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// Why a package was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a component, or a damaged one.
    #[error("not a WebAssembly component: {0}")]
    Malformed(String),
    /// Too large.
    #[error("a component of {size} bytes is larger than the {COMPONENT_BYTES_MAX} that are allowed")]
    TooLarge {
        /// Its length.
        size: usize,
    },
    /// No custom section with a manifest.
    #[error(
        "no manifest: the component has no custom section '{MANIFEST_SECTION}'; `caisson plugin build` puts caisson-plugin.toml there"
    )]
    NoManifest,
    /// More than one.
    #[error("{count} manifests: a component has one custom section '{MANIFEST_SECTION}'")]
    ManyManifests {
        /// How many.
        count: usize,
    },
    /// One that does not read.
    #[error("caisson-plugin.toml: {0}")]
    Manifest(#[from] manifest::Error),
    /// The files are not what they have to be.
    #[error("files of the package: {0}")]
    Assets(String),
    /// The export is missing.
    #[error("the component does not export caisson:step/executor@{WIT_MAJOR}.x")]
    NoExecutor,
    /// An import that nobody serves.
    #[error("the import '{0}' is not served: a plugin imports caisson:step@{WIT_MAJOR}.x and WASI 0.2")]
    UnknownImport(String),
    /// An import that the manifest does not ask for.
    #[error(
        "the component imports '{import}', but its manifest does not ask for it: add \"{capability}\" to capabilities in its caisson-plugin.toml"
    )]
    Undeclared {
        /// The import.
        import: String,
        /// What to ask for.
        capability: &'static str,
    },
    /// The id is a built-in plugin's.
    #[error("the id '{0}' is reserved for a built-in plugin: choose another")]
    Reserved(String),
    /// A schema that does not compile, or belongs to no action.
    #[error("schemas: {0}")]
    Schema(String),
    /// It takes more than one instance may.
    #[error("the component has {count} {what}, more than the {max} that are allowed")]
    Shape {
        /// Core instances, memories or tables.
        what: &'static str,
        /// How many it has.
        count: u32,
        /// How many it may have.
        max: u32,
    },
    /// It did not compile.
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// It compiles, but something that it imports or exports is of another type than the host's.
    #[error("the component does not link: {0}")]
    Link(String),
    /// Another plugin has an action of that name.
    #[error("the action '{action}' is there already, from plugin '{other}'")]
    Taken {
        /// The action's full name.
        action: String,
        /// Whose it is.
        other: String,
    },
}

impl Error {
    /// A stable code, upper snake case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "PLUGIN_MALFORMED",
            Self::TooLarge { .. } => "PLUGIN_TOO_LARGE",
            Self::NoManifest | Self::ManyManifests { .. } | Self::Manifest(_) | Self::Assets(_) => "PLUGIN_MANIFEST",
            Self::NoExecutor => "PLUGIN_NO_EXECUTOR",
            Self::UnknownImport(_) => "PLUGIN_IMPORT_UNKNOWN",
            Self::Undeclared { .. } => "PLUGIN_IMPORT_UNDECLARED",
            Self::Reserved(_) => "PLUGIN_ID_RESERVED",
            Self::Schema(_) => "PLUGIN_SCHEMA",
            Self::Shape { .. } => "PLUGIN_SHAPE",
            Self::Compile(_) => "PLUGIN_COMPILE",
            Self::Link(_) => "PLUGIN_LINK",
            Self::Taken { .. } => "PLUGIN_ACTION_TAKEN",
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(Category::ValidationError, error.code(), error.to_string()).never_retried()
    }
}

/// Reads a package and checks everything that can be checked without compiling it. A reserved id is fine here.
pub fn inspect(bytes: &[u8]) -> Result<Package, Error> {
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(Error::TooLarge { size: bytes.len() });
    }
    let parts = Parts::read(bytes)?;
    let mut manifest = match parts.manifests.as_slice() {
        [] => return Err(Error::NoManifest),
        [one] => Manifest::parse(one)?,
        many => return Err(Error::ManyManifests { count: many.len() }),
    };
    fill_in(&mut manifest.actions, &parts.schemas)?;
    let assets = parts.assets()?;
    let imports = match manifest.engine {
        Engine::Component => check_component(&parts, &manifest.asks)?,
        Engine::JavaScript => check_javascript(&parts, &manifest.asks, &assets)?,
    };
    let Manifest { id, version, wit, description, engine, actions, asks, limits } = manifest;
    Ok(Package {
        id,
        version,
        digest: sha256_hex(bytes),
        size: bytes.len() as u64,
        wit,
        description,
        engine,
        actions,
        asks,
        limits: limits.by_name(),
        imports,
    })
}

/// The files in a package, by name.
pub fn assets(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let parts = Parts::read(bytes)?;
    Ok(parts.assets()?.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect())
}

/// Whether a third party may use the id.
pub(crate) fn check_reserved(id: &str) -> Result<(), Error> {
    if RESERVED_IDS.contains(&id) { Err(Error::Reserved(id.to_owned())) } else { Ok(()) }
}

fn check_component(parts: &Parts<'_>, asks: &Grants) -> Result<Vec<String>, Error> {
    for import in &parts.imports {
        check_import(import, asks)?;
    }
    if !parts.exports.iter().any(|export| step_interface(export) == Some("executor")) {
        return Err(Error::NoExecutor);
    }
    let Shape { instances, memories, tables } = parts.shape;
    for (what, count, max) in [
        ("core instances", instances, INSTANCES_MAX),
        ("memories", memories, MEMORIES_MAX),
        ("tables", tables, TABLES_MAX),
    ] {
        if count > max {
            return Err(Error::Shape { what, count, max });
        }
    }
    Ok(parts.imports.iter().cloned().collect())
}

/// Such a package has no code of its own; what its script can import is what its manifest asks for.
fn check_javascript(parts: &Parts<'_>, asks: &Grants, assets: &BTreeMap<&str, &[u8]>) -> Result<Vec<String>, Error> {
    if parts.has_code {
        let message =
            "engine: \"javascript\" is for a package without code of its own: leave it out, the component has code";
        return Err(manifest::Error(message.to_owned()).into());
    }
    match assets.get(PLUGIN_JS) {
        None => return Err(Error::Assets(format!("there is no '{PLUGIN_JS}', which engine = \"javascript\" runs"))),
        Some(script) if std::str::from_utf8(script).is_err() => {
            return Err(Error::Assets(format!("'{PLUGIN_JS}' is not UTF-8")));
        }
        Some(_) => {}
    }
    Ok(asks.capabilities().into_iter().map(|one| format!("{STEP}{}@{WIT_MAJOR}.0.0", one.as_str())).collect())
}

/// The interface's name in `caisson:step/NAME@1.x`.
fn step_interface(name: &str) -> Option<&str> {
    let (interface, version) = name.strip_prefix(STEP)?.split_once('@')?;
    (version.split('.').next()?.parse::<u64>().ok()? == WIT_MAJOR).then_some(interface)
}

fn check_import(import: &str, asks: &Grants) -> Result<(), Error> {
    let unknown = || Error::UnknownImport(import.to_owned());
    if import.starts_with(STEP) {
        let interface = step_interface(import).ok_or_else(unknown)?;
        if FREE.contains(&interface) {
            return Ok(());
        }
        let capability = Capability::parse(interface).ok_or_else(unknown)?;
        if asks.has(capability) {
            return Ok(());
        }
        return Err(Error::Undeclared { import: import.to_owned(), capability: capability.as_str() });
    }
    let inert = WASI.iter().any(|package| import.starts_with(package));
    if inert && import.rsplit_once('@').is_some_and(|(_, version)| version.starts_with("0.2.")) {
        return Ok(());
    }
    Err(unknown())
}

/// Takes derived schemas where the manifest gives none.
fn fill_in(actions: &mut [ActionSpec], sections: &[&[u8]]) -> Result<(), Error> {
    for section in sections {
        if section.len() > MANIFEST_BYTES_MAX {
            return Err(Error::Schema(format!(
                "section '{SCHEMAS_SECTION}' has {} bytes, more than the {MANIFEST_BYTES_MAX} that are allowed",
                section.len()
            )));
        }
        // A linker puts sections of one name behind each other: there may be several values.
        for value in serde_json::Deserializer::from_slice(section).into_iter::<Value>() {
            let value = value.map_err(|e| Error::Schema(format!("section '{SCHEMAS_SECTION}' is no JSON: {e}")))?;
            let Value::Object(by_action) = value else {
                return Err(Error::Schema(format!("section '{SCHEMAS_SECTION}' holds no object by action")));
            };
            for (name, schemas) in by_action {
                fill_in_action(actions, &name, schemas)?;
            }
        }
    }
    Ok(())
}

fn fill_in_action(actions: &mut [ActionSpec], name: &str, schemas: Value) -> Result<(), Error> {
    let known: Vec<&str> = actions.iter().map(|action| action.name.as_str()).collect();
    let Some(at) = known.iter().position(|known| *known == name) else {
        let near = hint(name, &known);
        return Err(Error::Schema(format!("the code has an action '{name}' that the manifest does not list{near}")));
    };
    let action = &mut actions[at];
    let Value::Object(schemas) = schemas else {
        return Err(Error::Schema(format!("those of action '{name}' are no object with input, output and config")));
    };
    for (moment, schema) in schemas {
        let place = match moment.as_str() {
            "input" => &mut action.input_schema,
            "output" => &mut action.output_schema,
            "config" => &mut action.config_schema,
            other => {
                return Err(Error::Schema(format!("'{other}' of action '{name}' is none of input, output and config")));
            }
        };
        if place.is_none() && !schema.is_null() {
            check_schema(&schema)
                .map_err(|problem| Error::Schema(format!("the {moment} schema of action '{name}': {problem}")))?;
            *place = Some(schema);
        }
    }
    Ok(())
}
