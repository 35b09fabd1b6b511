//! Making packages, for the tools of authors.

use super::{ASSET_SECTION, Error, MANIFEST_SECTION, PLUGIN_JS, SCHEMAS_SECTION};
use crate::manifest::Manifest;

const CUSTOM: u8 = 0;
/// Sections of a component that hold a whole binary: a core module, a component.
const NESTED: [u8; 2] = [1, 4];
const HEADER_BYTES: usize = 8;
const COMPONENT_HEADER: [u8; HEADER_BYTES] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
/// The last four bytes of a component's header; a core module's differ and its sections hold no binaries.
const COMPONENT_LAYER: [u8; 2] = [1, 0];
/// Deeper than any toolchain nests.
const DEPTH_MAX: usize = 16;

/// A component as a package: with that manifest and those files instead of any that it has, at whatever depth, and with
/// those schemas if there are any. Checks the manifest and nothing else: [`super::inspect`] does.
pub fn embed(
    component: &[u8],
    manifest: &str,
    assets: &[(String, Vec<u8>)],
    schemas: Option<&str>,
) -> Result<Vec<u8>, Error> {
    Manifest::parse(manifest.as_bytes())?;
    let mut replaced = vec![MANIFEST_SECTION, ASSET_SECTION];
    replaced.extend(schemas.map(|_| SCHEMAS_SECTION));
    let mut package = without(component, &replaced, 0)?;
    append(&mut package, manifest, assets, schemas);
    Ok(package)
}

/// A manifest and a `plugin.js` as a package, for `engine = "javascript"`.
pub fn javascript_package(manifest: &str, plugin_js: &[u8]) -> Result<Vec<u8>, Error> {
    embed(&COMPONENT_HEADER, manifest, &[(PLUGIN_JS.to_owned(), plugin_js.to_vec())], None)
}

fn append(package: &mut Vec<u8>, manifest: &str, assets: &[(String, Vec<u8>)], schemas: Option<&str>) {
    custom(package, MANIFEST_SECTION, &[manifest.as_bytes()]);
    if let Some(schemas) = schemas {
        custom(package, SCHEMAS_SECTION, &[schemas.as_bytes()]);
    }
    for (name, bytes) in assets {
        let length = u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes();
        custom(package, ASSET_SECTION, &[&length, name.as_bytes(), bytes]);
    }
}

fn custom(package: &mut Vec<u8>, name: &str, parts: &[&[u8]]) {
    let mut content = Vec::new();
    write_length(&mut content, name.len());
    content.extend_from_slice(name.as_bytes());
    for part in parts {
        content.extend_from_slice(part);
    }
    section(package, CUSTOM, &content);
}

fn section(package: &mut Vec<u8>, id: u8, content: &[u8]) {
    package.push(id);
    write_length(package, content.len());
    package.extend_from_slice(content);
}

/// The binary without custom sections of those names.
fn without(binary: &[u8], names: &[&str], depth: usize) -> Result<Vec<u8>, Error> {
    let malformed = || Error::Malformed("a section ends beyond the end".to_owned());
    let (header, mut rest) = binary.split_at_checked(HEADER_BYTES).ok_or_else(malformed)?;
    if !header.starts_with(b"\0asm") {
        return Err(Error::Malformed("it does not begin as WebAssembly does".to_owned()));
    }
    if depth > DEPTH_MAX {
        return Err(Error::Malformed(format!("components are nested more than {DEPTH_MAX} deep")));
    }
    let is_component = header.ends_with(&COMPONENT_LAYER);
    let mut kept = header.to_vec();
    while let Some((id, after)) = rest.split_first() {
        let (length, after) = read_length(after).ok_or_else(malformed)?;
        let (content, after) = after.split_at_checked(length).ok_or_else(malformed)?;
        rest = after;
        if *id == CUSTOM {
            let name =
                read_length(content).and_then(|(length, content)| content.get(..length)).ok_or_else(malformed)?;
            if !names.iter().any(|one| one.as_bytes() == name) {
                section(&mut kept, *id, content);
            }
        } else if is_component && NESTED.contains(id) {
            section(&mut kept, *id, &without(content, names, depth + 1)?);
        } else {
            section(&mut kept, *id, content);
        }
    }
    Ok(kept)
}

/// LEB128, as WebAssembly writes lengths.
fn write_length(to: &mut Vec<u8>, mut length: usize) {
    loop {
        let byte = length.to_le_bytes()[0] & 0x7f;
        length >>= 7;
        if length == 0 {
            to.push(byte);
            return;
        }
        to.push(byte | 0x80);
    }
}

fn read_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0_u32;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        let part = u32::from(byte & 0x7f);
        length |= part.checked_shl(u32::try_from(at).ok()? * 7).filter(|shifted| shifted >> (at * 7) == part)?;
        if byte & 0x80 == 0 {
            return Some((usize::try_from(length).ok()?, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_back() {
        for length in [0, 1, 127, 128, 300, 1 << 20, u32::MAX as usize] {
            let mut bytes = Vec::new();
            write_length(&mut bytes, length);
            assert_eq!(read_length(&bytes), Some((length, &[][..])));
        }
        assert_eq!(read_length(&[0xff; 5]), None);
        assert_eq!(read_length(&[0x80]), None);
    }
}
