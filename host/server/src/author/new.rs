//! `caisson plugin new`: a project from a template, ready to build.

use std::path::{Path, PathBuf};

use anyhow::bail;
use caisson_core::plugin::RESERVED_IDS;
use caisson_runtime::Manifest;
use clap::{Args, ValueEnum};

use super::project::{MANIFEST, write_file};
use super::{embedded, sdk};
use crate::cli::output::line;
use crate::cli::{Outcome, Usage};

/// What a new plugin can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// Rust, built by cargo
    Rust,
    /// JavaScript, built by npm
    Js,
    /// TypeScript, built by npm
    Ts,
    /// Python, built by pip
    Python,
    /// JavaScript without any tools: one file that the host runs
    Javascript,
}

impl Template {
    fn folder(self) -> &'static str {
        match self {
            Self::Rust => "templates/rust",
            Self::Js => "templates/js",
            Self::Ts => "templates/ts",
            Self::Python => "templates/python",
            Self::Javascript => "templates/javascript",
        }
    }
}

#[derive(Debug, Args)]
pub struct NewArgs {
    /// The plugin's id, and the first part of its actions' names.
    #[arg(value_name = "NAME")]
    name: String,
    /// What it is written in.
    #[arg(long, value_name = "LANGUAGE")]
    lang: Template,
    /// Where to write it [default: a folder NAME].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Writes the project and says what to do next.
pub fn execute(args: NewArgs) -> anyhow::Result<Outcome> {
    let NewArgs { name, lang, dir } = args;
    check_name(&name)?;
    let dir = dir.unwrap_or_else(|| PathBuf::from(&name));
    if dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) || dir.is_file() {
        bail!("{} is there already: name another folder with --dir", dir.display());
    }
    let files: Vec<_> = embedded::below(lang.folder()).collect();
    if files.is_empty() {
        bail!("the program was built without {}", lang.folder());
    }
    for (path, bytes) in files {
        let path = target(path, &name);
        match std::str::from_utf8(bytes) {
            Ok(text) => write_file(&dir.join(path), fill(text, &name).as_bytes())?,
            Err(_) => write_file(&dir.join(path), bytes)?,
        }
    }
    match lang {
        Template::Rust => sdk::write_rust(&dir)?,
        // Editors want the types before anything is built.
        Template::Js | Template::Ts | Template::Javascript => sdk::write_js(&dir, None)?,
        Template::Python => sdk::write_python(&dir)?,
    }
    let shown = dir.display();
    line(&format!("{shown} is a plugin now. Next:"));
    line(&format!("  caisson plugin test {shown}    # builds it, runs the cases of {shown}/tests"));
    match first_action(&dir) {
        Some(action) => line(&format!(
            "  caisson plugin run {action} {shown} --input '{{\"name\": \"Ada\"}}'    # one step here, without a host"
        )),
        None => line(&format!("  caisson plugin build {shown}    # writes {shown}/dist/{name}.wasm")),
    }
    Ok(Outcome::Done)
}

/// The templates' own `.gitignore` would hide their files in this repository.
fn target(path: &str, name: &str) -> String {
    if path == "gitignore" { ".gitignore".to_owned() } else { fill(path, name) }
}

fn fill(text: &str, name: &str) -> String {
    text.replace("{{name}}", name).replace("{{crate}}", &name.replace('-', "_")).replace("{{sdk}}", sdk::RUST)
}

fn first_action(dir: &Path) -> Option<String> {
    let manifest = Manifest::parse(&std::fs::read(dir.join(MANIFEST)).ok()?).ok()?;
    manifest.actions.first().map(|action| action.name.clone())
}

/// By the manifest's own rules: the reader of manifests is asked.
fn check_name(name: &str) -> Result<(), Usage> {
    // `{:?}` quotes as TOML does, for every text that could be a name.
    let probe = format!("id = {name:?}\nversion = \"1\"\nwit = \"1.0.0\"\n[[actions]]\nname = \"x\"");
    if let Err(error) = Manifest::parse(probe.as_bytes()) {
        return Err(Usage(error.to_string()));
    }
    if RESERVED_IDS.contains(&name) {
        return Err(Usage(format!("'{name}' is the name of a built-in plugin: choose another")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_checked_by_the_manifests_rules() {
        for name in ["greeter", "my-plugin", "a_1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "Greeter", "1a", "a.b", "a b", "human", "caisson", "../x", "é", "a\"b"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn placeholders_are_filled_in_every_file() {
        for template in Template::value_variants() {
            let dir = tempfile::tempdir().expect("a directory");
            let into = dir.path().join("my-plugin");
            let args = NewArgs { name: "my-plugin".to_owned(), lang: *template, dir: Some(into.clone()) };
            execute(args).expect("it writes");
            let text = std::fs::read_to_string(into.join(MANIFEST)).expect("a manifest");
            let manifest = Manifest::parse(text.as_bytes()).expect("it reads");
            assert_eq!(manifest.id, "my-plugin", "{template:?}");
            for (path, bytes) in embedded::below(template.folder()) {
                let text = std::fs::read(into.join(target(path, "my-plugin"))).expect("it is there");
                let left = String::from_utf8_lossy(&text).contains("{{name}}")
                    || String::from_utf8_lossy(&text).contains("{{sdk}}");
                assert!(!left, "{template:?}: {path} of {} bytes", bytes.len());
            }
            let again = NewArgs { name: "my-plugin".to_owned(), lang: *template, dir: Some(into) };
            assert!(execute(again).is_err(), "a folder with files in it is left alone");
        }
    }
}
