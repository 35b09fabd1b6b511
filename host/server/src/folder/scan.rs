//! What lies in a folder of plugins.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use caisson_runtime::{Manifest, javascript_package};

use super::index::Stamp;
use crate::api::plugin_upload::COMPONENT_BYTES_MAX;
use crate::env::{Problem, has_end, read_text};

/// Candidates in one folder: far more than people keep, and a wrong directory is noticed.
const CANDIDATES_MAX: usize = 10_000;

const MANIFEST: &str = "caisson-plugin.toml";
const SCRIPT: &str = "plugin.js";

/// Something that may be a plugin.
#[derive(Debug, PartialEq, Eq)]
pub enum Candidate {
    /// A file.
    Component(PathBuf),
    /// A folder with a manifest and a script.
    Script(PathBuf),
}

/// Everything in a folder that may be a plugin, by name. A folder that is not there holds nothing.
pub fn look(dir: &Path, problems: &mut Vec<Problem>) -> Vec<Candidate> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problems.push(Problem::new(dir, error.to_string()));
            return Vec::new();
        }
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let mut found: Vec<Candidate> = paths.into_iter().filter_map(candidate).collect();
    if found.len() > CANDIDATES_MAX {
        problems.push(Problem::new(dir, format!("has more than {CANDIDATES_MAX} plugins; the rest is left out")));
        found.truncate(CANDIDATES_MAX);
    }
    found
}

fn candidate(path: PathBuf) -> Option<Candidate> {
    let name = path.file_name()?.to_str()?;
    // What editors and tools keep aside.
    if name.starts_with('.') {
        return None;
    }
    if has_end(name, "wasm") && path.is_file() {
        return Some(Candidate::Component(path));
    }
    path.join(MANIFEST).is_file().then_some(Candidate::Script(path))
}

impl Candidate {
    /// The file, or the folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::Component(path) | Self::Script(path) => path,
        }
    }

    /// How it looks now.
    pub fn stamp(&self) -> Stamp {
        match self {
            Self::Component(path) => Stamp::of(&[path]),
            Self::Script(path) => Stamp::of(&[&path.join(MANIFEST), &path.join(SCRIPT)]),
        }
    }

    /// The package as one component.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Component(path) => read_component(path).map_err(|error| error.to_string()),
            Self::Script(path) => pack(path),
        }
    }
}

fn read_component(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(COMPONENT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > COMPONENT_BYTES_MAX {
        let message = format!("it is larger than the {COMPONENT_BYTES_MAX} bytes that a component may have");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(bytes)
}

fn pack(folder: &Path) -> Result<Vec<u8>, String> {
    let manifest = read_text(&folder.join(MANIFEST)).map_err(|error| format!("{MANIFEST}: {error}"))?;
    let read = Manifest::parse(&manifest).map_err(|error| format!("{MANIFEST}: {error}"))?;
    if read.engine != caisson_core::plugin::Engine::JavaScript {
        return Err(format!(
            "this is a plugin's source: build it with `caisson plugin build` and put the .wasm into plugins/ (or write engine = \"javascript\" into {MANIFEST} if {SCRIPT} is all of it)"
        ));
    }
    let script = read_text(&folder.join(SCRIPT)).map_err(|error| format!("{SCRIPT}: {error}"))?;
    let manifest = String::from_utf8(manifest).map_err(|_| format!("{MANIFEST} is not UTF-8"))?;
    javascript_package(&manifest, &script).map_err(|error| error.to_string())
}

/// Every package of a folder, or why it is none: for tools that look without a host.
pub fn packages(dir: &Path) -> Vec<(PathBuf, Result<Vec<u8>, String>)> {
    let mut problems = Vec::new();
    let found = look(dir, &mut problems).into_iter().map(|one| (one.path().to_path_buf(), one.read()));
    let found: Vec<_> = found.collect();
    problems.into_iter().map(|problem| (problem.path, Err(problem.message))).chain(found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_and_scripts_are_found_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        for file in [
            "b.wasm",
            "a/caisson-plugin.toml",
            "a/plugin.js",
            "c/caisson-plugin.toml",
            "notes.txt",
            ".hidden.wasm",
            "empty/readme.md",
            "plugins.toml",
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("makes it");
            fs::write(path, "x").expect("writes");
        }
        fs::create_dir(dir.path().join("folder.wasm")).expect("makes it");
        let mut problems = Vec::new();
        let found = look(dir.path(), &mut problems);
        let path = |name: &str| dir.path().join(name);
        assert_eq!(
            found,
            [Candidate::Script(path("a")), Candidate::Component(path("b.wasm")), Candidate::Script(path("c")),]
        );
        assert!(problems.is_empty());
        assert!(look(&dir.path().join("none"), &mut problems).is_empty() && problems.is_empty());
    }

    #[test]
    fn a_source_folder_is_told_from_a_plugin() {
        let dir = tempfile::tempdir().expect("a directory");
        let manifest =
            |engine: &str| format!("id = \"p\"\nversion = \"1\"\nwit = \"1.0.0\"\n{engine}[[actions]]\nname = \"a\"\n");
        for (engine, script, part) in [
            ("engine = \"javascript\"\n", true, ""),
            ("engine = \"javascript\"\n", false, "plugin.js"),
            ("", true, "caisson plugin build"),
            ("colour = 5\n", true, "caisson-plugin.toml"),
        ] {
            fs::write(dir.path().join(MANIFEST), manifest(engine)).expect("writes");
            let file = dir.path().join(SCRIPT);
            if script {
                fs::write(&file, "export const a = () => 1").expect("writes");
            } else {
                fs::remove_file(&file).expect("removes it");
            }
            match Candidate::Script(dir.path().to_path_buf()).read() {
                Ok(bytes) => assert!(part.is_empty() && bytes.starts_with(b"\0asm"), "{engine}"),
                Err(message) => assert!(!part.is_empty() && message.contains(part), "{message} has no '{part}'"),
            }
        }
    }
}
