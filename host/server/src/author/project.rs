//! A plugin's folder: its manifest, its language, and which of its files matter.

use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use anyhow::{Context, bail};
use caisson_core::plugin::Engine;
use caisson_runtime::Manifest;

/// What every plugin's folder has.
pub const MANIFEST: &str = "caisson-plugin.toml";
/// The one source of a plugin without a toolchain.
pub const SCRIPT: &str = "plugin.js";
/// What `build` keeps for itself in a plugin's folder.
const WORK: &str = ".caisson";
/// Where the built plugin is written.
const OUTPUT: &str = "dist";
/// Files in it are embedded beside the manifest; the plugin reads them by their path in it.
const ASSETS: &str = "assets";
/// Folders that hold no sources: what tools write, and the cases of tests. Hidden ones are left out as well.
const NOT_SOURCES: [&str; 6] = ["target", "node_modules", "dist", "tests", "__pycache__", "venv"];

/// What a plugin is written in, which is to say: who builds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Cargo.
    Rust,
    /// npm: JavaScript or TypeScript.
    Node,
    /// pip.
    Python,
    /// Nobody: `plugin.js` runs on the built-in engine.
    Script,
}

/// A plugin's folder.
#[derive(Debug)]
pub struct Project {
    /// The folder.
    pub dir: PathBuf,
    /// The manifest's text.
    pub text: String,
    /// The manifest.
    pub manifest: Manifest,
    /// Who builds it.
    pub language: Language,
}

impl Project {
    /// Reads a folder.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(MANIFEST);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
                "there is no {MANIFEST} in {}: name the plugin's folder, or start one with `caisson plugin new NAME --lang rust`",
                dir.display()
            ),
            Err(error) => return Err(error).with_context(|| format!("failed to read {}", path.display())),
        };
        let manifest = Manifest::parse(text.as_bytes()).with_context(|| path.display().to_string())?;
        // Paths are handed to tools that run in the folder.
        let dir = dir.canonicalize().with_context(|| format!("failed to find {}", dir.display()))?;
        let language = language(&dir, &manifest)?;
        Ok(Self { dir, text, manifest, language })
    }

    /// A path in the folder where `build` keeps what it makes on the way.
    pub fn work(&self, name: &str) -> PathBuf {
        self.dir.join(WORK).join(name)
    }

    /// What was built last, in whatever way.
    pub fn latest(&self) -> PathBuf {
        self.work("plugin.wasm")
    }

    /// The built plugin, to be handed on.
    pub fn output(&self) -> PathBuf {
        self.dir.join(OUTPUT).join(format!("{}.wasm", self.manifest.id))
    }

    /// Whether what was built last is newer than every source.
    pub fn is_fresh(&self) -> bool {
        let built = fs::metadata(self.latest()).and_then(|meta| meta.modified()).ok();
        let newest = newest_source(&self.dir).ok().flatten();
        matches!((built, newest), (Some(built), Some(newest)) if built >= newest)
    }

    /// Files to embed, by name.
    pub fn assets(&self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let root = self.dir.join(ASSETS);
        let mut assets = Vec::new();
        if root.is_dir() {
            walk(&root, &mut |path, _| {
                let name = path.strip_prefix(&root).map_err(io::Error::other)?;
                assets.push((name.to_string_lossy().into_owned(), fs::read(path)?));
                Ok(())
            })
            .with_context(|| format!("failed to read {}", root.display()))?;
        }
        assets.sort();
        Ok(assets)
    }
}

fn language(dir: &Path, manifest: &Manifest) -> anyhow::Result<Language> {
    let has = |name: &str| dir.join(name).is_file();
    if manifest.engine == Engine::JavaScript {
        if !has(SCRIPT) {
            bail!("{MANIFEST} says engine = \"javascript\", but there is no {SCRIPT} beside it");
        }
        return Ok(Language::Script);
    }
    if has("Cargo.toml") {
        Ok(Language::Rust)
    } else if has("package.json") {
        Ok(Language::Node)
    } else if has("requirements.txt") || has("src/plugin.py") {
        Ok(Language::Python)
    } else {
        bail!(
            "nothing in {} says what it is written in: expected Cargo.toml (Rust), package.json (JavaScript, TypeScript), requirements.txt or src/plugin.py (Python), or engine = \"javascript\" in {MANIFEST} with a {SCRIPT} beside it",
            dir.display()
        )
    }
}

/// Whether a folder of that name may hold sources.
pub fn may_hold_sources(name: &str) -> bool {
    !name.starts_with('.') && !NOT_SOURCES.contains(&name)
}

/// When a source was last changed; `None` without sources.
pub fn newest_source(dir: &Path) -> io::Result<Option<SystemTime>> {
    let mut newest = None;
    walk(dir, &mut |_, meta| {
        newest = newest.max(meta.modified().ok());
        Ok(())
    })?;
    Ok(newest)
}

/// Folders that hold sources, the outermost first.
pub fn source_folders(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = vec![dir.to_path_buf()];
    let mut at = 0;
    while let Some(folder) = folders.get(at) {
        let inner = fs::read_dir(folder)?.filter_map(Result::ok).filter(is_source_folder).map(|entry| entry.path());
        let inner: Vec<PathBuf> = inner.collect();
        folders.extend(inner);
        at += 1;
    }
    Ok(folders)
}

fn is_source_folder(entry: &fs::DirEntry) -> bool {
    // A link could lead in a circle.
    entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name().to_str().is_some_and(may_hold_sources)
}

fn walk(dir: &Path, take: &mut impl FnMut(&Path, &fs::Metadata) -> io::Result<()>) -> io::Result<()> {
    for folder in source_folders(dir)? {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            // Gone since it was listed: an editor's temporary file.
            let Ok(meta) = fs::metadata(&path) else { continue };
            if meta.is_file() {
                take(&path, &meta)?;
            }
        }
    }
    Ok(())
}

/// Writes a file and the folders above it, unless it is there with the same bytes: a tool that looks at times is not disturbed.
pub fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("failed to write {}", path.display());
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(failed)?;
    }
    fs::write(path, bytes).with_context(failed)
}

/// Replaces a file at once, so that nobody who watches it reads half of it.
pub fn replace_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let failed = || format!("failed to write {}", path.display());
    fs::create_dir_all(folder).with_context(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(failed)?;
    io::Write::write_all(&mut file, bytes).with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "id = \"a\"\nversion = \"1.0.0\"\nwit = \"1.0.0\"\n[[actions]]\nname = \"x\"\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            write_file(&dir.path().join(name), text.as_bytes()).expect("it writes");
        }
        dir
    }

    #[test]
    fn the_language_is_found_by_its_files() {
        let script = format!("engine = \"javascript\"\n{TEXT}");
        for (files, language) in [
            (vec![(MANIFEST, TEXT), ("Cargo.toml", "")], Language::Rust),
            (vec![(MANIFEST, TEXT), ("package.json", "{}")], Language::Node),
            (vec![(MANIFEST, TEXT), ("requirements.txt", "")], Language::Python),
            (vec![(MANIFEST, TEXT), ("src/plugin.py", "")], Language::Python),
            (vec![(MANIFEST, &script), (SCRIPT, "")], Language::Script),
        ] {
            let project = Project::open(folder(&files).path());
            assert_eq!(project.expect("it opens").language, language, "{files:?}");
        }
        for (files, word) in [
            (vec![], "no caisson-plugin.toml"),
            (vec![(MANIFEST, TEXT)], "written in"),
            (vec![(MANIFEST, script.as_str())], "plugin.js"),
            (vec![(MANIFEST, "id = 7")], "caisson-plugin.toml"),
        ] {
            let error = Project::open(folder(&files).path()).expect_err("refused");
            assert!(format!("{error:#}").contains(word), "{error:#}");
        }
    }

    #[test]
    fn what_tools_write_is_no_source() {
        let dir = folder(&[(MANIFEST, TEXT), ("src/plugin.py", ""), ("node_modules/x/y.js", ""), (".caisson/z", "")]);
        let folders = source_folders(dir.path()).expect("it lists");
        assert_eq!(folders, [dir.path().to_path_buf(), dir.path().join("src")]);
        let project = Project::open(dir.path()).expect("it opens");
        assert!(!project.is_fresh(), "nothing is built");
        replace_file(&project.latest(), b"new").expect("it writes");
        assert!(project.is_fresh());
        assert!(project.assets().expect("it reads").is_empty());
        write_file(&dir.path().join("assets/deep/x.txt"), b"x").expect("it writes");
        assert_eq!(project.assets().expect("it reads"), [("deep/x.txt".to_owned(), b"x".to_vec())]);
    }
}
