//! Secrets: from files, directories and the environment of the process, in this order, the first that has one counts.
//!
//! ```text
//! --secrets-file FILE   TOML: [ENVIRONMENT] NAME = "…", or ["TENANT/ENVIRONMENT"]; tables without a tenant are the tenant default's
//! --secrets-dir DIR     DIR/NAME, DIR/ENVIRONMENT/NAME, DIR/TENANT/ENVIRONMENT/NAME; a file a secret
//! CAISSON_SECRET_NAME   for default/default
//! ```
//!
//! Invariant: no message, log line or `Debug` of this file holds a value.
//!
//! Looked at when a secret is used: a file that has changed is read again. One that is broken while it is edited is what it was before.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use caisson_core::ids::Realm;
use caisson_core::ports::{Secret, Secrets};
use parking_lot::Mutex;

use crate::api::api_keys::FIRST_TENANT;
use crate::api::auth::DEFAULT_ENVIRONMENT;
use crate::env::Problem;

/// What the names of variables begin with.
const VARIABLE: &str = "CAISSON_SECRET_";

/// The largest secret: certificates with their chains and keys fit.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// The largest file of secrets: sixteen thousand tokens.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Permissions beyond the owner's and the group's.
const OTHERS: u32 = 0o007;

/// Where secrets come from.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// Files of secrets.
    pub files: Vec<PathBuf>,
    /// Directories with a file a secret.
    pub dirs: Vec<PathBuf>,
}

/// Gives secrets out of files, directories and variables.
pub struct Sources {
    files: Vec<Mutex<Kept>>,
    dirs: Vec<PathBuf>,
    variables: HashMap<String, Secret>,
    /// What was complained about already: a broken secret that is used a thousand times is one line in the log.
    said: Mutex<HashSet<(PathBuf, String)>>,
}

/// A file of secrets as it was read last.
struct Kept {
    path: PathBuf,
    stamp: Option<Stamp>,
    secrets: HashMap<(Realm, String), Secret>,
}

/// When a file has to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(about: &Metadata) -> Self {
        Self { inode: about.ino(), length: about.len(), changed: (about.mtime(), about.mtime_nsec()) }
    }
}

impl Sources {
    /// Reads what there is; problems are those of now.
    pub fn open(paths: Paths, variables: impl Iterator<Item = (String, String)>) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut kept = Vec::new();
        for path in paths.files {
            let mut file = Kept { path, stamp: None, secrets: HashMap::new() };
            problems.extend(file.refresh());
            kept.push(Mutex::new(file));
        }
        for dir in &paths.dirs {
            check_dir(dir, 0, &mut problems);
        }
        let mut own = HashMap::new();
        for (variable, value) in variables {
            let Some(name) = variable.strip_prefix(VARIABLE).filter(|name| !name.is_empty()) else { continue };
            match secret(value.into_bytes()) {
                Ok(value) => drop(own.insert(name.to_owned(), value)),
                Err(message) => problems.push(Problem::new(Path::new(&variable), message)),
            }
        }
        (Self { files: kept, dirs: paths.dirs, variables: own, said: Mutex::default() }, problems)
    }

    fn of_files(&self, realm: &Realm, name: &str) -> Option<Secret> {
        self.files.iter().find_map(|file| {
            let mut file = file.lock();
            let problems = file.refresh();
            for problem in problems {
                self.complain(&problem.path, &problem.message);
            }
            file.secrets.get(&(realm.clone(), name.to_owned())).cloned()
        })
    }

    fn of_dirs(&self, realm: &Realm, name: &str) -> Option<Secret> {
        let (tenant, environment) = (&*realm.tenant, &*realm.environment);
        if ![tenant, environment, name].into_iter().all(is_file_name) {
            return None;
        }
        let own = tenant == FIRST_TENANT;
        for dir in &self.dirs {
            let places = [
                Some(dir.join(tenant).join(environment).join(name)),
                own.then(|| dir.join(environment).join(name)),
                (own && environment == DEFAULT_ENVIRONMENT).then(|| dir.join(name)),
            ];
            for path in places.into_iter().flatten() {
                match read_secret(&path) {
                    Ok(Some(secret)) => return Some(secret),
                    Ok(None) => {}
                    Err(message) => self.complain(&path, &message),
                }
            }
        }
        None
    }

    fn complain(&self, path: &Path, message: &str) {
        if self.said.lock().insert((path.to_path_buf(), message.to_owned())) {
            tracing::warn!(path = %path.display(), reason = message, "a secret cannot be used");
        }
    }
}

impl Secrets for Sources {
    fn get(&self, realm: &Realm, name: &str) -> Option<Secret> {
        let variable = || {
            let first = &*realm.tenant == FIRST_TENANT && &*realm.environment == DEFAULT_ENVIRONMENT;
            self.variables.get(name).filter(|_| first).cloned()
        };
        self.of_files(realm, name).or_else(|| self.of_dirs(realm, name)).or_else(variable)
    }
}

impl Kept {
    /// Reads the file if it has changed. One that is gone has no secrets, one that does not read keeps those it had.
    fn refresh(&mut self) -> Vec<Problem> {
        let about = match fs::metadata(&self.path) {
            Ok(about) => about,
            Err(error) => {
                if error.kind() == io::ErrorKind::NotFound {
                    self.secrets.clear();
                }
                self.stamp = None;
                return vec![Problem::new(&self.path, error.to_string())];
            }
        };
        let stamp = Stamp::of(&about);
        if self.stamp == Some(stamp) {
            return Vec::new();
        }
        self.stamp = Some(stamp);
        let mut problems: Vec<Problem> = check_mode(&self.path, &about).into_iter().collect();
        match read_limited(&self.path, FILE_BYTES_MAX)
            .map_err(|error| error.to_string())
            .and_then(|bytes| parse(&bytes))
        {
            Ok((secrets, refused)) => {
                self.secrets = secrets;
                problems.extend(refused.into_iter().map(|message| Problem::new(&self.path, message)));
            }
            Err(message) => problems.push(Problem::new(&self.path, message)),
        }
        problems
    }
}

type Parsed = (HashMap<(Realm, String), Secret>, Vec<String>);

fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    // The whole message of the parser quotes the line, and with it the secret.
    let tables: BTreeMap<String, BTreeMap<String, String>> = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        format!("{place}it does not read as [ENVIRONMENT] with NAME = \"…\" below")
    })?;
    let (mut secrets, mut refused) = (HashMap::new(), Vec::new());
    for (table, values) in tables {
        let (tenant, environment) = table.split_once('/').unwrap_or((FIRST_TENANT, &table));
        let realm = Realm::new(tenant, environment);
        for (name, value) in values {
            match secret(value.into_bytes()) {
                Ok(secret) => drop(secrets.insert((realm.clone(), name), secret)),
                Err(message) => refused.push(format!("[{table}] {name}: {message}")),
            }
        }
    }
    Ok((secrets, refused))
}

/// A secret out of its bytes. The line's end that editors put at the end of a file is not part of it.
fn secret(mut bytes: Vec<u8>) -> Result<Secret, String> {
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    if bytes.len() < Secret::BYTES_MIN {
        let least = Secret::BYTES_MIN;
        return Err(format!(
            "the secret is shorter than {least} bytes: it could not be kept out of logs and results, so it is not used"
        ));
    }
    String::from_utf8(bytes).map(Secret::new).map_err(|_| "the secret is not UTF-8".to_owned())
}

fn read_secret(path: &Path) -> Result<Option<Secret>, String> {
    match fs::metadata(path) {
        Ok(about) if about.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    }
    secret(read_limited(path, SECRET_BYTES_MAX).map_err(|error| error.to_string())?).map(Some)
}

fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// One part of a path, and not one that leads elsewhere.
fn is_file_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('.') && !text.contains(['/', '\0'])
}

fn check_mode(path: &Path, about: &Metadata) -> Option<Problem> {
    (about.mode() & OTHERS != 0).then(|| {
        let message = format!("others may read it (mode {:o}): run chmod 600 on it", about.mode() & 0o777);
        Problem::new(path, message)
    })
}

/// Everything that is wrong with a directory of secrets, before anybody needs one.
fn check_dir(dir: &Path, depth: u32, problems: &mut Vec<Problem>) {
    /// Tenant, environment, name.
    const DEPTH_MAX: u32 = 2;
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return problems.push(Problem::new(dir, error.to_string())),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        // Kubernetes keeps what it mounts behind names that begin with dots.
        if entry.file_name().to_str().is_none_or(|name| !is_file_name(name)) {
            continue;
        }
        match fs::metadata(&path) {
            Ok(about) if about.is_dir() && depth < DEPTH_MAX => check_dir(&path, depth + 1, problems),
            Ok(about) if about.is_file() => {
                problems.extend(check_mode(&path, &about));
                if let Err(message) = read_secret(&path) {
                    problems.push(Problem::new(&path, message));
                }
            }
            Ok(_) => {}
            Err(error) => problems.push(Problem::new(&path, error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("makes it");
        fs::write(path, text).expect("writes");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("sets them");
    }

    fn get(sources: &Sources, tenant: &str, environment: &str, name: &str) -> Option<String> {
        sources.get(&Realm::new(tenant, environment), name).map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn every_source_gives_to_its_own_realm_and_to_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, secrets) = (dir.path().join("secrets.toml"), dir.path().join("secrets"));
        write(
            &file,
            "[default]\nA = \"file-a\"\n[prod]\nA = \"file-prod\"\n[\"acme/prod\"]\nA = \"file-acme\"\n",
            0o600,
        );
        write(&secrets.join("A"), "dir-a\n", 0o600);
        write(&secrets.join("B"), "dir-b\r\n", 0o600);
        write(&secrets.join("prod/B"), "dir-prod", 0o600);
        write(&secrets.join("acme/prod/B"), "dir-acme", 0o600);
        let variables = [("CAISSON_SECRET_C", "var-c"), ("CAISSON_SECRET_B", "var-b"), ("HOME", "/root")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter();
        let (sources, problems) = Sources::open(Paths { files: vec![file], dirs: vec![secrets] }, variables);
        assert!(problems.is_empty(), "{problems:?}");
        for (tenant, environment, name, value) in [
            ("default", "default", "A", Some("file-a")),
            ("default", "prod", "A", Some("file-prod")),
            ("acme", "prod", "A", Some("file-acme")),
            ("acme", "default", "A", None),
            ("default", "default", "B", Some("dir-b")),
            ("default", "prod", "B", Some("dir-prod")),
            ("acme", "prod", "B", Some("dir-acme")),
            ("default", "default", "C", Some("var-c")),
            ("default", "prod", "C", None),
            ("acme", "default", "C", None),
            ("default", "default", "HOME", None),
            // A name is no path.
            ("default", "default", "prod/B", None),
            ("default", "default", "../secrets/B", None),
            ("default", "..", "secrets", None),
            ("acme/prod", "", "B", None),
            ("default", "acme", "prod", None),
        ] {
            assert_eq!(get(&sources, tenant, environment, name).as_deref(), value, "{tenant}/{environment}/{name}");
        }
    }

    #[test]
    fn a_changed_file_counts_from_the_next_use_and_a_broken_one_is_what_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("secrets.toml");
        write(&file, "[default]\nA = \"before\"\n", 0o600);
        let paths = Paths { files: vec![file.clone()], dirs: vec![dir.path().join("d")] };
        fs::create_dir(dir.path().join("d")).expect("makes it");
        let (sources, _) = Sources::open(paths, std::iter::empty());
        let a = || get(&sources, "default", "default", "A");
        assert_eq!(a().as_deref(), Some("before"));
        for (text, value) in [
            ("[default]\nA = \"afterwards\"\n", Some("afterwards")),
            ("[default]\nA = \"half", Some("afterwards")),
            ("[default]\nB = \"another\"\n", None),
        ] {
            write(&file, text, 0o600);
            assert_eq!(a().as_deref(), value, "{text}");
        }
        write(&dir.path().join("d/A"), "from a file of its own", 0o600);
        assert_eq!(a().as_deref(), Some("from a file of its own"));
        fs::remove_file(&file).expect("removes it");
        assert_eq!(get(&sources, "default", "default", "B"), None);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_value() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, broken, secrets) = (dir.path().join("a.toml"), dir.path().join("b.toml"), dir.path().join("s"));
        write(&file, "[default]\nSHORT = \"abc\"\nLONG = \"xyzzy-long\"\n", 0o644);
        write(&broken, "[default]\nA = \"xyzzy\nB = 5\n", 0o600);
        write(&secrets.join("TINY"), "xyz", 0o604);
        write(&secrets.join("BINARY"), "", 0o600);
        fs::write(secrets.join("BINARY"), b"xyzzy\xff\xfe").expect("writes");
        let variables = [("CAISSON_SECRET_V".to_owned(), "xyz".to_owned())].into_iter();
        let paths = Paths { files: vec![file, broken, dir.path().join("missing.toml")], dirs: vec![secrets] };
        let (sources, problems) = Sources::open(paths, variables);
        let said: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.path.display(), p.message)).collect();
        let all = said.join("\n");
        for part in [
            "SHORT: the secret is shorter than 4 bytes",
            "a.toml: others may read it (mode 644)",
            "b.toml: line 2: it does not read",
            "TINY: others may read it (mode 604)",
            "TINY: the secret is shorter",
            "BINARY: the secret is not UTF-8",
            "CAISSON_SECRET_V: the secret is shorter",
            "missing.toml",
        ] {
            assert!(all.contains(part), "no '{part}' in\n{all}");
        }
        assert!(!all.contains("xyz") && !all.contains("abc"), "a value is shown:\n{all}");
        assert_eq!(get(&sources, "default", "default", "SHORT"), None);
        assert_eq!(get(&sources, "default", "default", "LONG").as_deref(), Some("xyzzy-long"));
    }
}
