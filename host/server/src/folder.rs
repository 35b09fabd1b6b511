//! An environment's folder of plugins: what lies in it is installed, what changes is installed again, what is gone is switched off.
//!
//! ```text
//! plugins/NAME.wasm                                a component
//! plugins/NAME/{caisson-plugin.toml,plugin.js}     JavaScript, as it is
//! plugins/plugins.toml                             the operator's word beforehand: grants and configuration by id
//! ```
//!
//! Without an entry in `plugins.toml` the first version of an id is in force without grants, a new one that asks for nothing is in force at once,
//! and any other waits for a yes. What a person has decided since counts more; see [`caisson_orchestrator::Consent`].
//!
//! Invariant: a file that is broken stops nothing and nobody else; what was in force before it broke stays in force.

mod entries;
mod index;
mod scan;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use caisson_core::ids::Realm;
use caisson_core::plugin::{Grants, Package, PluginStatus};
use caisson_core::ports::PluginRow;
use caisson_orchestrator::{Consent, FILES_ACTOR, Install, Plugin, Plugins};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

pub use scan::packages;
pub use watch::watch;

use crate::env::Problem;
use entries::{Entries, Entry};
use index::{Index, Known};

/// Installations at once: one is compiled while the next is read, and a host's start takes no more memory than this many components.
const AT_ONCE_MAX: usize = 4;

/// At the start, what is installed is waited for until its compilation, which has limits of its own, has ended: workflows need it.
const PATIENCE_FIRST: Duration = Duration::from_mins(10);

/// Later a large component does not keep the others waiting.
const PATIENCE: Duration = Duration::from_secs(1);

/// The folders of one environment.
pub struct Folder {
    realm: Realm,
    dirs: Vec<PathBuf>,
    plugins: Plugins,
    index: Index,
    entries: BTreeMap<PathBuf, Entries>,
    patience: Duration,
}

/// A package on its way.
struct Found {
    path: PathBuf,
    package: Package,
    bytes: Bytes,
}

impl Folder {
    /// Over folders that may not be there yet. `memory` is a file in which is kept what was seen.
    pub fn new(realm: Realm, dirs: Vec<PathBuf>, plugins: Plugins, memory: PathBuf) -> Self {
        let index = Index::open(memory);
        Self { realm, dirs, plugins, index, entries: BTreeMap::new(), patience: PATIENCE_FIRST }
    }

    /// Brings what is installed in line with what lies there. The problems are all that there are now.
    pub async fn scan(&mut self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let installed = match self.plugins.list(&self.realm).await {
            Ok(installed) => installed,
            Err(error) => {
                return self.dirs.first().map(|dir| Problem::new(dir, error.to_string())).into_iter().collect();
            }
        };
        let mut present: BTreeMap<String, PathBuf> = BTreeMap::new();
        for dir in self.dirs.clone() {
            self.read_entries(&dir, &mut problems);
            self.install_all(&dir, &installed, &mut present, &mut problems).await;
            self.settle(&dir, &present, &mut problems).await;
        }
        self.switch_off(&installed, &present, &mut problems).await;
        self.index.save();
        self.patience = PATIENCE;
        problems
    }

    /// Entries that do not read are those that read last.
    fn read_entries(&mut self, dir: &Path, problems: &mut Vec<Problem>) {
        match Entries::read(&dir.join(entries::FILE)) {
            Ok(entries) => drop(self.entries.insert(dir.to_path_buf(), entries)),
            Err(problem) => problems.push(problem),
        }
    }

    fn entry(&self, dir: &Path, id: &str) -> Option<&Entry> {
        self.entries.get(dir)?.get(id)
    }

    async fn install_all(
        &mut self,
        dir: &Path,
        installed: &[Plugin],
        present: &mut BTreeMap<String, PathBuf>,
        problems: &mut Vec<Problem>,
    ) {
        let mut running = FuturesUnordered::new();
        let mut done = Vec::new();
        for candidate in scan::look(dir, problems) {
            let path = candidate.path().to_path_buf();
            let stamp = candidate.stamp();
            if let Some(known) = self.index.get(&path, &stamp)
                && let Some(row) = row_of(installed, &known.id, &known.digest)
            {
                // One that waited may be let in below.
                if claim(present, &known.id, &path, problems) && row.status == PluginStatus::Failed {
                    report(&path, row, problems);
                }
                continue;
            }
            let found = match self.read(candidate).await {
                Ok(found) => found,
                Err(message) => {
                    // Half written, or broken: what was installed from it stays.
                    keep_present(installed, present, &path);
                    problems.push(Problem::new(&path, message));
                    continue;
                }
            };
            if !claim(present, &found.package.id, &path, problems) {
                continue;
            }
            let known = Known { stamp, id: found.package.id.clone(), digest: found.package.digest.clone() };
            match self.request(dir, found) {
                Ok(install) => {
                    let plugins = self.plugins.clone();
                    running.push(async move { (path, known, plugins.install(install).await) });
                }
                Err(problem) => problems.push(problem),
            }
            if running.len() >= AT_ONCE_MAX {
                done.extend(running.next().await);
            }
        }
        while let Some(one) = running.next().await {
            done.push(one);
        }
        drop(running);
        for (path, known, result) in done {
            match result {
                Ok((row, _)) => {
                    report(&path, &row, problems);
                    self.index.put(path, known);
                }
                Err(error) => problems.push(Problem::new(&path, error.to_string())),
            }
        }
    }

    async fn read(&self, candidate: scan::Candidate) -> Result<Found, String> {
        let path = candidate.path().to_path_buf();
        let read = tokio::task::spawn_blocking(move || candidate.read()).await.map_err(|error| error.to_string())?;
        let bytes = Bytes::from(read?);
        let package = self.plugins.inspect(bytes.clone()).await.map_err(|error| error.to_string())?;
        Ok(Found { path, package, bytes })
    }

    /// What to ask for a package: as the entry says, if there is one for it.
    fn request(&self, dir: &Path, found: Found) -> Result<Install, Problem> {
        let entry = self.entry(dir, &found.package.id);
        if let Some(digest) = entry.and_then(|entry| entry.digest.as_deref())
            && digest != found.package.digest
        {
            let message = format!("its digest is {}, {} names {digest}", found.package.digest, entries::FILE);
            return Err(Problem::new(&found.path, message));
        }
        let consent = if entry.is_some() || found.package.asks.is_empty() { Consent::Standing } else { Consent::Wait };
        Ok(Install {
            realm: self.realm.clone(),
            bytes: found.bytes,
            grants: entry.and_then(|entry| entry.grants.clone()),
            config: entry.and_then(|entry| entry.config.clone()),
            consent,
            source: found.path.display().to_string().into(),
            actor: FILES_ACTOR.into(),
            patience: self.patience,
        })
    }

    /// Brings grants and configurations in line with the entries, also where no file has changed.
    async fn settle(&self, dir: &Path, present: &BTreeMap<String, PathBuf>, problems: &mut Vec<Problem>) {
        let Some(entries) = self.entries.get(dir) else { return };
        let Ok(installed) = self.plugins.list(&self.realm).await else { return };
        let file = dir.join(entries::FILE);
        for (id, entry) in entries.iter() {
            let plugin =
                installed.iter().find(|plugin| plugin.versions.first().is_some_and(|row| row.package.id == *id));
            let settled = match plugin {
                Some(plugin) if plugin.built_in || present.contains_key(id) => {
                    self.settle_one(plugin, id, entry, present).await
                }
                _ => {
                    problems.push(Problem::new(&file, format!("[{id}]: there is no such plugin in this folder")));
                    continue;
                }
            };
            if let Err(error) = settled {
                problems.push(Problem::new(&file, format!("[{id}]: {error}")));
            }
        }
        for plugin in &installed {
            let Some(row) = plugin.in_force().filter(|row| !plugin.built_in && is_below(row, dir)) else { continue };
            // Who took an entry away took back what it granted.
            let by_files = row.decided_by.as_deref() == Some(FILES_ACTOR);
            if by_files && !row.grants.is_empty() && entries.get(&row.package.id).is_none() {
                let id = &row.package.id;
                let revoked = self.plugins.grant(
                    &self.realm,
                    id,
                    Some(&row.package.digest),
                    Grants::default(),
                    None,
                    FILES_ACTOR.into(),
                );
                if let Err(error) = revoked.await {
                    problems.push(Problem::new(&file, format!("[{id}]: {error}")));
                }
            }
        }
    }

    async fn settle_one(
        &self,
        plugin: &Plugin,
        id: &str,
        entry: &Entry,
        present: &BTreeMap<String, PathBuf>,
    ) -> Result<(), caisson_orchestrator::Error> {
        let digest = present.get(id).and_then(|path| self.index.digest(path));
        let of_folder = digest.and_then(|digest| plugin.versions.iter().find(|row| *row.package.digest == *digest));
        let Some(row) = of_folder.or_else(|| plugin.in_force()) else { return Ok(()) };
        let grants = entry.grants.as_ref().filter(|grants| **grants != row.grants);
        let config = entry.config.as_ref().filter(|config| config.value() != row.config.value());
        let waits = row.status == PluginStatus::Pending;
        let other_digest = entry.digest.as_deref().is_some_and(|digest| digest != row.package.digest);
        let failed = row.status == PluginStatus::Failed;
        if failed || other_digest || grants.is_none() && config.is_none() && !waits {
            return Ok(());
        }
        // What a person switched off is not switched on by what was written before.
        let off = plugin.in_force().filter(|row| row.status == PluginStatus::Disabled);
        if waits && off.is_some_and(|row| row.decided_by.as_deref() != Some(FILES_ACTOR)) {
            return Ok(());
        }
        let grants = entry.grants.clone().unwrap_or_else(|| row.grants.clone());
        let config = entry.config.clone();
        self.plugins
            .grant(&self.realm, id, Some(&row.package.digest), grants, config, FILES_ACTOR.into())
            .await
            .map(drop)
    }

    /// What came from here and lies here no more.
    async fn switch_off(
        &mut self,
        installed: &[Plugin],
        present: &BTreeMap<String, PathBuf>,
        problems: &mut Vec<Problem>,
    ) {
        for row in installed.iter().filter_map(Plugin::in_force) {
            let id = &row.package.id;
            let ours = self.dirs.iter().any(|dir| is_below(row, dir));
            if !ours || row.status != PluginStatus::Active || present.contains_key(id) {
                continue;
            }
            if let Err(error) = self.plugins.disable(&self.realm, id, FILES_ACTOR.into()).await {
                problems.push(Problem::new(Path::new(&*row.source), error.to_string()));
            }
        }
        self.index.retain(Path::exists);
    }
}

/// One file an id: the first by name.
fn claim(present: &mut BTreeMap<String, PathBuf>, id: &str, path: &Path, problems: &mut Vec<Problem>) -> bool {
    match present.get(id) {
        Some(other) if other != path => {
            let message = format!("it is plugin '{id}', and so is {}: keep one of them", other.display());
            problems.push(Problem::new(path, message));
            false
        }
        _ => {
            present.insert(id.to_owned(), path.to_path_buf());
            true
        }
    }
}

fn keep_present(installed: &[Plugin], present: &mut BTreeMap<String, PathBuf>, path: &Path) {
    let text = path.display().to_string();
    for row in installed.iter().flat_map(|plugin| &plugin.versions).filter(|row| *row.source == *text) {
        present.entry(row.package.id.clone()).or_insert_with(|| path.to_path_buf());
    }
}

fn row_of<'a>(installed: &'a [Plugin], id: &str, digest: &str) -> Option<&'a PluginRow> {
    let mut rows = installed.iter().flat_map(|plugin| &plugin.versions);
    rows.find(|row| row.package.id == id && row.package.digest == digest)
}

fn is_below(row: &PluginRow, dir: &Path) -> bool {
    Path::new(&*row.source).starts_with(dir)
}

/// What somebody has to know or to do.
fn report(path: &Path, row: &PluginRow, problems: &mut Vec<Problem>) {
    let (id, version) = (&row.package.id, &row.package.version);
    match row.status {
        PluginStatus::Failed => problems.push(Problem::new(path, row.error.clone().unwrap_or_default())),
        PluginStatus::Pending => problems.push(Problem::new(
            path,
            format!(
                "version {version} of plugin '{id}' waits for a yes: look at `caisson plugin diff {id} {digest}`, then run `caisson plugin enable {id} {digest}`, or name it under [{id}] in {}",
                entries::FILE,
                digest = &row.package.digest[..row.package.digest.len().min(12)],
            ),
        )),
        PluginStatus::Compiling | PluginStatus::Active | PluginStatus::Disabled | PluginStatus::Superseded => {}
    }
}
