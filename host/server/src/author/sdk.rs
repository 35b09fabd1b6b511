//! The SDKs, written into a plugin's folder: what the program was built with, so that no registry has to have them.

use std::fmt::Write as _;
use std::path::Path;

use super::embedded;
use super::project::write_file;

/// Where the SDK for Rust lies in a plugin's folder.
pub const RUST: &str = "vendor/caisson-sdk";
/// The parts of the SDK's folder that are the crates.
const CRATES: [&str; 4] = ["Cargo.toml", "src/", "macros/Cargo.toml", "macros/src/"];
const JS: &str = ".caisson/js";
const PYTHON: &str = ".caisson/python";

/// Writes the SDK for Rust.
pub fn write_rust(plugin: &Path) -> anyhow::Result<()> {
    embedded::below("sdk-guest")
        .filter(|(path, _)| CRATES.iter().any(|part| path.starts_with(part)))
        .try_for_each(|(path, bytes)| write_file(&plugin.join(RUST).join(path), bytes))
}

/// Writes the glue for JavaScript, and the types that editors look for; with the imports of a world, the module that names them.
pub fn write_js(plugin: &Path, imports: Option<&[String]>) -> anyhow::Result<()> {
    write_all("sdk-guest/js", &plugin.join(JS))?;
    let Some(imports) = imports else { return Ok(()) };
    let mut module = String::new();
    let mut names = Vec::new();
    for import in imports {
        let name = import.rsplit_once('/').map_or(import.as_str(), |(_, rest)| rest);
        let name = name.split_once('@').map_or(name, |(name, _)| name);
        // Writing to a String cannot fail.
        let _ = writeln!(module, "import * as {name} from {import:?};");
        names.push(name);
    }
    let _ = writeln!(module, "export {{ {} }};", names.join(", "));
    write_file(&plugin.join(JS).join("host.js"), module.as_bytes())
}

/// Writes the glue for Python.
pub fn write_python(plugin: &Path) -> anyhow::Result<()> {
    write_all("sdk-guest/python", &plugin.join(PYTHON))
}

fn write_all(from: &str, to: &Path) -> anyhow::Result<()> {
    embedded::below(from).try_for_each(|(path, bytes)| write_file(&to.join(path), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_for_rust_stands_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        write_rust(dir.path()).expect("it writes");
        let sdk = dir.path().join(RUST);
        for manifest in [sdk.join("Cargo.toml"), sdk.join("macros/Cargo.toml")] {
            let text = std::fs::read_to_string(&manifest).expect("it is there");
            let table: toml::Table = text.parse().expect("it reads");
            assert!(!text.contains("workspace = true"), "{} leans on a workspace", manifest.display());
            assert!(table["package"]["edition"].is_str(), "{text}");
        }
        assert!(sdk.join("src/lib.rs").is_file());
        assert!(!sdk.join("tests").exists() && !sdk.join("js").exists());
    }

    #[test]
    fn the_glue_for_javascript_names_the_worlds_imports() {
        let dir = tempfile::tempdir().expect("a directory");
        let imports = ["caisson:step/log@1.0.0".to_owned(), "caisson:step/http@1.0.0".to_owned()];
        write_js(dir.path(), Some(&imports)).expect("it writes");
        let module = std::fs::read_to_string(dir.path().join(JS).join("host.js")).expect("it is there");
        assert_eq!(
            module,
            "import * as log from \"caisson:step/log@1.0.0\";\nimport * as http from \"caisson:step/http@1.0.0\";\nexport { log, http };\n"
        );
    }
}
