//! What is in a component's bytes.

use std::collections::{BTreeMap, BTreeSet};

use wasmparser::{Encoding, Parser, Payload};

use super::{
    ASSET_BYTES_MAX, ASSET_NAME_BYTES_MAX, ASSET_SECTION, ASSETS_MAX, Error, MANIFEST_SECTION, SCHEMAS_SECTION,
};

/// How much of a pool one instance takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Core instances.
    pub(crate) instances: u32,
    /// Memories.
    pub(crate) memories: u32,
    /// Tables.
    pub(crate) tables: u32,
}

/// Parts of a component that say what it is.
#[derive(Default)]
pub(crate) struct Parts<'a> {
    pub(super) manifests: Vec<&'a [u8]>,
    pub(super) schemas: Vec<&'a [u8]>,
    assets: Vec<&'a [u8]>,
    pub(super) imports: BTreeSet<String>,
    pub(super) exports: Vec<String>,
    pub(crate) shape: Shape,
    /// Whether there is anything but custom sections.
    pub(super) has_code: bool,
}

impl<'a> Parts<'a> {
    /// Reads the sections. Those of a package may stand at any depth: a linker puts them into the module, a tool beside
    /// it.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut parts = Self::default();
        // Components and modules nest; imports and exports count at the outermost level only.
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|e| malformed(&e))?;
            match payload {
                Payload::Version { encoding, .. } => {
                    depth += 1;
                    parts.has_code |= depth > 1;
                    if depth == 1 && encoding != Encoding::Component {
                        return Err(Error::Malformed("it is a core module: make a component of it".to_owned()));
                    }
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::CustomSection(section) => match section.name() {
                    MANIFEST_SECTION => parts.manifests.push(section.data()),
                    SCHEMAS_SECTION => parts.schemas.push(section.data()),
                    ASSET_SECTION => parts.assets.push(section.data()),
                    _ => {}
                },
                Payload::ComponentImportSection(reader) if depth == 1 => {
                    parts.has_code = true;
                    for import in reader {
                        parts.imports.insert(import.map_err(|e| malformed(&e))?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(reader) if depth == 1 => {
                    parts.has_code = true;
                    for export in reader {
                        parts.exports.push(export.map_err(|e| malformed(&e))?.name.name.to_owned());
                    }
                }
                Payload::InstanceSection(reader) => {
                    for instance in reader {
                        if let wasmparser::Instance::Instantiate { .. } = instance.map_err(|e| malformed(&e))? {
                            parts.shape.instances = parts.shape.instances.saturating_add(1);
                        }
                    }
                }
                Payload::MemorySection(reader) => {
                    parts.shape.memories = parts.shape.memories.saturating_add(reader.count());
                }
                Payload::TableSection(reader) => {
                    parts.shape.tables = parts.shape.tables.saturating_add(reader.count());
                }
                _ => {}
            }
        }
        Ok(parts)
    }

    /// The files by name.
    pub(super) fn assets(&self) -> Result<BTreeMap<&'a str, &'a [u8]>, Error> {
        let wrong = |message: String| Err(Error::Assets(message));
        if self.assets.len() > ASSETS_MAX {
            return wrong(format!("there are {}, more than the {ASSETS_MAX} that are allowed", self.assets.len()));
        }
        let mut files = BTreeMap::new();
        let mut total = 0_usize;
        for section in &self.assets {
            let Some((name, bytes)) = split(section) else {
                return wrong(format!(
                    "a section '{ASSET_SECTION}' does not begin with the length of a name and a name of 1 to {ASSET_NAME_BYTES_MAX} bytes"
                ));
            };
            total = total.saturating_add(bytes.len());
            if files.insert(name, bytes).is_some() {
                return wrong(format!("'{name}' is there twice"));
            }
        }
        if total > ASSET_BYTES_MAX {
            return wrong(format!(
                "they have {total} bytes together, more than the {ASSET_BYTES_MAX} that are allowed"
            ));
        }
        Ok(files)
    }
}

fn split(section: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = section.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if !(1..=ASSET_NAME_BYTES_MAX).contains(&length) {
        return None;
    }
    let (name, bytes) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(name).ok()?, bytes))
}

fn malformed(error: &wasmparser::BinaryReaderError) -> Error {
    Error::Malformed(error.to_string())
}
