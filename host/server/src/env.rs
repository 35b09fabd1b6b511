//! Environment directories: agents, workflows, plugins and models in files.
//!
//! Found and read here, nothing more: whether a definition is good, a component links or a provider answers is for others to say. A file
//! that cannot be read is a problem to report, never a reason to leave out the files beside it.

pub mod models;
pub mod prompt;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::api::auth::DEFAULT_ENVIRONMENT;

/// The largest text file that is read: four times what a definition may have, so that the reader can say that it is too large.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// Files of one kind in one environment: far more than people keep, and a wrong directory is noticed.
const FILES_MAX: usize = 10_000;

/// The folder that holds several environments.
const SEVERAL: &str = "environments";

/// What the files of one environment hold.
#[derive(Debug, Default)]
pub struct Environment {
    /// Its name.
    pub name: String,
    /// Definitions: `workflows/*.workflow.{yaml,yml,json}`.
    pub workflows: Vec<Source>,
    /// Agents: `agents/*.prompt`.
    pub agents: Vec<Source>,
    /// JSON Schemas: `schemas/*.json`.
    pub schemas: Vec<Source>,
    /// Tool servers: `mcp-servers/*.json`.
    pub mcp_servers: Vec<Source>,
    /// Folders of plugins, whether they are there yet or not: `plugins/`.
    pub plugins: Vec<PathBuf>,
    /// `models.toml`.
    pub models: Option<Source>,
    /// Scripted models that stand in no file of models, by name.
    pub scripts: Vec<(String, Source)>,
    /// Its directories.
    pub dirs: Vec<PathBuf>,
    /// Where relative paths in `models.toml` begin.
    pub dir: Option<PathBuf>,
}

/// A text file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where it is; shown to people.
    pub path: PathBuf,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// A file that could not be used.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub message: String,
}

impl Problem {
    /// About a file.
    pub fn new(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.to_path_buf(), message: message.into() }
    }
}

/// Why a directory is no environment.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there, or it is no directory.
    #[error("read the environment {path}: {source}")]
    Read {
        /// Which directory.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It holds nothing that belongs to one.
    #[error(
        "find an environment in {0}: it has none of agents/, workflows/, plugins/, models.toml, and neither has a folder in it"
    )]
    Nothing(String),
}

/// Finds and reads the environments of these directories, by name. Two directories of one name are one environment.
pub fn read(dirs: &[PathBuf]) -> Result<(Vec<Environment>, Vec<Problem>), Error> {
    let mut found: BTreeMap<String, Environment> = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, dir) in dirs.iter().map(|dir| locate(dir)).collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
        let environment = found.entry(name.clone()).or_insert_with(|| Environment { name, ..Environment::default() });
        add(environment, &dir, &mut problems);
    }
    Ok((found.into_values().collect(), problems))
}

/// The environments of a directory by name: several in `environments/` or in its folders, else the directory itself.
fn locate(dir: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let failed = |source| Error::Read { path: dir.display().to_string(), source };
    let dir = dir.canonicalize().map_err(failed)?;
    let several = dir.join(SEVERAL);
    if several.is_dir() {
        let found = folders(&several).map_err(failed)?;
        return if found.is_empty() { Err(Error::Nothing(several.display().to_string())) } else { Ok(found) };
    }
    if has_shape(&dir) {
        let in_several = dir.parent().and_then(Path::file_name).is_some_and(|parent| parent == SEVERAL);
        let own = dir.file_name().and_then(|name| name.to_str()).filter(|_| in_several);
        return Ok(vec![(own.unwrap_or(DEFAULT_ENVIRONMENT).to_owned(), dir)]);
    }
    let mut found = folders(&dir).map_err(failed)?;
    found.retain(|(_, folder)| has_shape(folder));
    if found.is_empty() { Err(Error::Nothing(dir.display().to_string())) } else { Ok(found) }
}

fn has_shape(dir: &Path) -> bool {
    ["agents", "workflows", "plugins", "schemas", "mcp-servers"].iter().any(|part| dir.join(part).is_dir())
        || dir.join("models.toml").is_file()
}

fn folders(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && path.is_dir()
            && !name.starts_with('.')
        {
            found.push((name.to_owned(), path));
        }
    }
    found.sort();
    Ok(found)
}

/// Reads one environment again.
pub fn read_as(name: &str, dirs: &[PathBuf]) -> (Environment, Vec<Problem>) {
    let mut environment = Environment { name: name.to_owned(), ..Environment::default() };
    let mut problems = Vec::new();
    for dir in dirs {
        add(&mut environment, dir, &mut problems);
    }
    (environment, problems)
}

/// Reads the tool servers of one environment again, and nothing else.
pub fn read_servers(name: &str, dirs: &[PathBuf]) -> (Environment, Vec<Problem>) {
    let mut environment = Environment { name: name.to_owned(), ..Environment::default() };
    let mut problems = Vec::new();
    for dir in dirs {
        add_servers(&mut environment, dir, &mut problems);
    }
    (environment, problems)
}

fn add_servers(environment: &mut Environment, dir: &Path, problems: &mut Vec<Problem>) {
    let servers = files(&dir.join("mcp-servers"), |name| has_end(name, "json"), problems);
    environment.mcp_servers.extend(texts(servers, problems));
}

fn add(environment: &mut Environment, dir: &Path, problems: &mut Vec<Problem>) {
    environment.dirs.push(dir.to_path_buf());
    let workflows = files(&dir.join("workflows"), is_workflow, problems);
    environment.workflows.extend(texts(workflows, problems));
    let agents = files(&dir.join("agents"), |name| has_end(name, "prompt"), problems);
    environment.agents.extend(texts(agents, problems));
    let schemas = files(&dir.join("schemas"), |name| has_end(name, "json"), problems);
    environment.schemas.extend(texts(schemas, problems));
    add_servers(environment, dir, problems);
    environment.plugins.push(dir.join("plugins"));
    let models = dir.join("models.toml");
    if models.is_file() {
        environment.models = texts(vec![models], problems).pop();
        environment.dir = Some(dir.to_path_buf());
    }
}

/// Whether a file's name says that it is a definition.
pub fn is_workflow(name: &str) -> bool {
    [".workflow.yaml", ".workflow.yml", ".workflow.json"].iter().any(|end| name.ends_with(end))
}

/// Whether a file's name has that extension.
pub fn has_end(name: &str, end: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == end)
}

fn files(dir: &Path, wanted: impl Fn(&str) -> bool, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problems.push(Problem::new(dir, error.to_string()));
            return Vec::new();
        }
    };
    let mut found: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted))
        .collect();
    found.sort();
    if found.len() > FILES_MAX {
        problems.push(Problem::new(dir, format!("has more than {FILES_MAX} files; the rest is left out")));
        found.truncate(FILES_MAX);
    }
    found
}

fn texts(paths: Vec<PathBuf>, problems: &mut Vec<Problem>) -> Vec<Source> {
    let mut sources = Vec::with_capacity(paths.len());
    for path in paths {
        match read_text(&path) {
            Ok(bytes) => sources.push(Source { path, bytes }),
            Err(error) => problems.push(Problem::new(&path, error.to_string())),
        }
    }
    sources
}

/// A text file, up to its limit.
pub fn read_text(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is larger than the {TEXT_BYTES_MAX} bytes that a text file may have"),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("makes it");
            fs::write(path, "x").expect("writes it");
        }
        dir
    }

    #[test]
    fn a_directory_is_one_environment_or_several() {
        for (files, at, names) in [
            (&["workflows/a.workflow.yaml"][..], "", &["default"][..]),
            (&["agents/a.prompt"][..], "", &["default"][..]),
            (&["models.toml"][..], "", &["default"][..]),
            (&["environments/prod/agents/a.prompt", "environments/dev/plugins/a.wasm"][..], "", &["dev", "prod"][..]),
            (&["environments/prod/agents/a.prompt"][..], "environments/prod", &["prod"][..]),
            (&["environments/prod/agents/a.prompt"][..], "environments", &["prod"][..]),
            (&["one/agents/a.prompt", "two/workflows/b.workflow.json", "docs/x"][..], "", &["one", "two"][..]),
        ] {
            let dir = tree(files);
            let (found, problems) = read(&[dir.path().join(at)]).expect("finds it");
            assert_eq!(found.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), names, "{files:?} at '{at}'");
            assert!(problems.is_empty());
        }
    }

    #[test]
    fn a_directory_without_anything_of_ours_is_refused() {
        let dir = tree(&["src/main.rs"]);
        assert!(matches!(read(&[dir.path().to_path_buf()]), Err(Error::Nothing(_))));
        assert!(matches!(read(&[dir.path().join("missing")]), Err(Error::Read { .. })));
    }

    #[test]
    fn only_files_of_the_right_name_are_taken() {
        let dir = tree(&[
            "workflows/b.workflow.yml",
            "workflows/a.workflow.yaml",
            "workflows/c.workflow.json",
            "workflows/notes.yaml",
            "agents/x.prompt",
            "agents/x.md",
        ]);
        let (found, _) = read(&[dir.path().to_path_buf()]).expect("finds it");
        let names: Vec<_> = found[0].workflows.iter().filter_map(|s| s.path.file_name()?.to_str()).collect();
        assert_eq!(names, ["a.workflow.yaml", "b.workflow.yml", "c.workflow.json"]);
        assert_eq!(found[0].agents.len(), 1);
    }

    #[test]
    fn two_directories_of_one_name_are_one_environment() {
        let (one, two) = (tree(&["agents/a.prompt"]), tree(&["agents/b.prompt"]));
        let (found, _) = read(&[one.path().to_path_buf(), two.path().to_path_buf()]).expect("finds them");
        assert_eq!((found.len(), found[0].agents.len()), (1, 2));
    }
}
