//! Lists the files that `caisson plugin new` and `caisson plugin build` write, so that they are part of the program: the templates, the SDK for
//! Rust, and the interface. The author module includes the list.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Folders of the repository.
const FOLDERS: [&str; 3] = ["templates", "sdk-guest", "wit"];
/// What tools leave behind in them.
const LEFT_BEHIND: [&str; 5] = ["target", "node_modules", "dist", ".caisson", "__pycache__"];

fn main() -> io::Result<()> {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = here.ancestors().nth(2).map(Path::to_path_buf).ok_or_else(|| io::Error::other("no workspace above"))?;
    let mut files = Vec::new();
    for folder in FOLDERS {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut list = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(&root).map_err(io::Error::other)?;
        // Writing to a String cannot fail.
        let _ = writeln!(list, "    ({:?}, include_bytes!({:?})),", name.to_string_lossy(), file.to_string_lossy());
    }
    list.push(']');
    fs::write(PathBuf::from(variable("OUT_DIR")?).join("authoring.rs"), list)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| io::Error::other(format!("{}: {e}", folder.display())))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if LEFT_BEHIND.contains(&name) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn variable(name: &str) -> io::Result<String> {
    env::var(name).map_err(|e| io::Error::other(format!("{name}: {e}")))
}
