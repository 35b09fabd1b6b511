//! A `.wasm` as a package: its manifest, imports and digest, found by parsing. Nothing runs and nothing is compiled.

use std::collections::BTreeSet;

use caisson_core::json::sha256_hex;
use serde::Serialize;
use wasmparser::{Encoding, Parser, Payload};

use crate::limits::{INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX};
use crate::manifest::{self, ActionSpec, Capability, Manifest, RESERVED_IDS, WIT_MAJOR};

/// The custom section that holds the manifest.
pub const SECTION: &str = "caisson:manifest";
/// The largest component that is read: Python's are 18 MB.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;

const STEP: &str = "caisson:step/";
/// Interfaces of `caisson:step` that need no capability: types, and the log.
const FREE: [&str; 3] = ["types", "capability", "log"];
/// Packages of WASI 0.2 that the host serves, inert.
const WASI: [&str; 6] = ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// Everything that is known of a package without running it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageInfo {
    /// The plugin's id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the component, hexadecimal.
    pub digest: String,
    /// Length of the component.
    pub size: usize,
    /// The version of `caisson:step` that it was built against.
    pub wit: String,
    /// What it is for.
    pub description: String,
    /// What it does.
    pub actions: Vec<ActionSpec>,
    /// What its manifest asks for.
    pub capabilities: BTreeSet<Capability>,
    /// The limits that it asks for.
    pub limits: crate::limits::AskedLimits,
    /// What its binary imports, sorted.
    pub imports: Vec<String>,
    /// Core instances, memories and tables in it: what it takes of the pool.
    #[serde(skip)]
    pub shape: Shape,
}

/// How much of a pool one instance takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Core instances.
    pub instances: u32,
    /// Memories.
    pub memories: u32,
    /// Tables.
    pub tables: u32,
}

/// Why a package was refused.
#[derive(Debug, thiserror::Error)]
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
    #[error("no manifest: the component has no custom section '{SECTION}'")]
    NoManifest,
    /// More than one.
    #[error("{count} manifests: a component has one custom section '{SECTION}'")]
    ManyManifests {
        /// How many.
        count: usize,
    },
    /// One that does not read.
    #[error("manifest: {0}")]
    Manifest(#[from] manifest::Error),
    /// The export is missing.
    #[error("the component does not export caisson:step/executor@{WIT_MAJOR}.x")]
    NoExecutor,
    /// An import that nobody serves.
    #[error("the import '{0}' is not served: a plugin imports caisson:step@{WIT_MAJOR}.x and WASI 0.2")]
    UnknownImport(String),
    /// An import that the manifest does not ask for.
    #[error(
        "the component imports '{import}', but its manifest does not ask for it: add \"{capability}\" to capabilities"
    )]
    Undeclared {
        /// The import.
        import: String,
        /// What to ask for.
        capability: &'static str,
    },
    /// The id is a built-in plugin's.
    #[error("the id '{0}' is reserved for a built-in plugin")]
    Reserved(String),
    /// A schema that does not compile.
    #[error("{moment} schema of action '{action}': {problem}")]
    Schema {
        /// The action.
        action: String,
        /// Input or output.
        moment: &'static str,
        /// What is wrong.
        problem: String,
    },
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
    /// It did not compile or does not link.
    #[error("{0}")]
    Compile(String),
    /// Another plugin has an action of that name.
    #[error("the action '{action}' is there already, from plugin {other}")]
    Taken {
        /// The action's full name.
        action: String,
        /// Whose it is.
        other: String,
    },
}

/// Reads a package and checks everything that can be checked without compiling it. A reserved id is fine here.
pub fn inspect(bytes: &[u8]) -> Result<PackageInfo, Error> {
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(Error::TooLarge { size: bytes.len() });
    }
    let parts = Parts::read(bytes)?;
    let manifest = match parts.manifests.as_slice() {
        [] => return Err(Error::NoManifest),
        [one] => Manifest::parse(one)?,
        many => return Err(Error::ManyManifests { count: many.len() }),
    };
    for import in &parts.imports {
        check_import(import, &manifest)?;
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
    let Manifest { id, version, wit, description, actions, capabilities, limits } = manifest;
    Ok(PackageInfo {
        id,
        version,
        digest: sha256_hex(bytes),
        size: bytes.len(),
        wit,
        description,
        actions,
        capabilities,
        limits,
        imports: parts.imports.into_iter().collect(),
        shape: parts.shape,
    })
}

/// Whether a third party may use the id.
pub(crate) fn check_reserved(id: &str) -> Result<(), Error> {
    if RESERVED_IDS.contains(&id) { Err(Error::Reserved(id.to_owned())) } else { Ok(()) }
}

#[derive(Default)]
struct Parts<'a> {
    manifests: Vec<&'a [u8]>,
    imports: BTreeSet<String>,
    exports: Vec<String>,
    shape: Shape,
}

impl<'a> Parts<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut parts = Self::default();
        // Components and modules nest; imports and exports count at the outermost level only.
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|e| malformed(&e))?;
            match payload {
                Payload::Version { encoding, .. } => {
                    depth += 1;
                    if depth == 1 && encoding != Encoding::Component {
                        return Err(Error::Malformed("it is a core module".to_owned()));
                    }
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::CustomSection(section) if section.name() == SECTION => parts.manifests.push(section.data()),
                Payload::ComponentImportSection(reader) if depth == 1 => {
                    for import in reader {
                        parts.imports.insert(import.map_err(|e| malformed(&e))?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(reader) if depth == 1 => {
                    for export in reader {
                        parts.exports.push(export.map_err(|e| malformed(&e))?.name.name.to_owned());
                    }
                }
                Payload::InstanceSection(reader) => {
                    for instance in reader {
                        if let wasmparser::Instance::Instantiate { .. } = instance.map_err(|e| malformed(&e))? {
                            parts.shape.instances += 1;
                        }
                    }
                }
                Payload::MemorySection(reader) => parts.shape.memories += reader.count(),
                Payload::TableSection(reader) => parts.shape.tables += reader.count(),
                _ => {}
            }
        }
        Ok(parts)
    }
}

fn malformed(error: &wasmparser::BinaryReaderError) -> Error {
    Error::Malformed(error.to_string())
}

/// The interface's name in `caisson:step/NAME@1.x`.
fn step_interface(name: &str) -> Option<&str> {
    let (interface, version) = name.strip_prefix(STEP)?.split_once('@')?;
    (version.split('.').next()?.parse::<u64>().ok()? == WIT_MAJOR).then_some(interface)
}

fn check_import(import: &str, manifest: &Manifest) -> Result<(), Error> {
    let unknown = || Error::UnknownImport(import.to_owned());
    if import.starts_with(STEP) {
        let interface = step_interface(import).ok_or_else(unknown)?;
        if FREE.contains(&interface) {
            return Ok(());
        }
        let capability = Capability::parse(interface).ok_or_else(unknown)?;
        if manifest.capabilities.contains(&capability) {
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
