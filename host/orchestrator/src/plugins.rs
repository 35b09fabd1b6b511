//! Plugins as an operator handles them: install, say yes, grant, switch off, roll back, remove.
//!
//! Invariant: commit before effect. The plugin host learns of a version after the row that says so is stored, and forgets it before the row
//! is deleted.
//! Invariant: what is decided about one plugin of one realm is decided by one task at a time, so two uploads at once cannot both be in force.
//!
//! Deliberately absent: reading components and compiling them ([`PluginHost`]), files and folders, and roles.

mod built_in;
mod compile;
mod decide;
mod install;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use caisson_core::error::Failure;
use caisson_core::ids::{Realm, RunId};
use caisson_core::json::Json;
use caisson_core::plugin::{Grants, Installed, Package, PermissionDiff, PluginStatus};
use caisson_core::ports::{Clock, Compilation, PluginHost, PluginRow, PluginStore, StoreError};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use decide::Consent;
pub use install::Install;
use install::{refused, set};

use crate::error::{Error, Kind};

/// Who acts for what lies in folders.
pub const FILES_ACTOR: &str = "system:files";

/// Versions of one plugin that are kept when nothing needs them: enough to look back, little enough for a folder that is saved all day long.
const VERSIONS_KEPT_MAX: usize = 50;

/// Runs that are named when they are in the way: who has more stops a workflow, not runs one by one.
const RUNS_NAMED_MAX: u32 = 20;

/// All versions of a plugin of one realm.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// Newest first.
    pub versions: Vec<PluginRow>,
    /// Whether it is part of the program.
    pub built_in: bool,
}

/// What handles plugins. Cheap to clone.
#[derive(Clone)]
pub struct Plugins(Arc<Inner>);

type Key = (Realm, String);

struct Inner {
    store: Arc<dyn PluginStore>,
    host: Arc<dyn PluginHost>,
    clock: Arc<dyn Clock>,
    /// One lock for each plugin that somebody works on.
    locks: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>,
    /// Compilations that are under way, by realm, id and digest; cancelled when they are over.
    compiling: Mutex<HashMap<(Realm, String, String), CancellationToken>>,
    /// What the host was told at the start or by [`Plugins::refresh`].
    told: tokio::sync::Mutex<BTreeMap<Key, Vec<PluginRow>>>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Plugins {
    /// Tells the host what is installed, and goes on with what was being compiled when a former process ended. No component is read.
    pub async fn start(
        store: Arc<dyn PluginStore>,
        host: Arc<dyn PluginHost>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let plugins = Self(Arc::new(Inner {
            store,
            host,
            clock,
            locks: Mutex::default(),
            compiling: Mutex::default(),
            told: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }));
        for ((realm, id), rows) in plugins.take_in().await? {
            for row in rows.iter().filter(|row| row.status == PluginStatus::Compiling) {
                plugins.begin_compiling(&realm, &id, &row.package.digest);
            }
        }
        Ok(plugins)
    }

    /// Takes in what other hosts on the store have installed, granted or removed since.
    pub async fn refresh(&self) -> Result<(), Error> {
        self.take_in().await.map(drop)
    }

    /// Tells the host of every plugin that is not as it was told before, and gives those.
    async fn take_in(&self) -> Result<BTreeMap<Key, Vec<PluginRow>>, Error> {
        let mut told = self.0.told.lock().await;
        let mut stored: BTreeMap<Key, Vec<PluginRow>> = BTreeMap::new();
        for row in self.0.store.all_plugins().await? {
            stored.entry((row.realm.clone(), row.package.id.clone())).or_default().push(row);
        }
        for rows in stored.values_mut() {
            rows.sort_by(|a, b| (b.installed_at, &b.package.digest).cmp(&(a.installed_at, &a.package.digest)));
        }
        let gone: Vec<Key> = told.keys().filter(|key| !stored.contains_key(key)).cloned().collect();
        let mut changed: BTreeMap<Key, Vec<PluginRow>> = gone.into_iter().map(|key| (key, Vec::new())).collect();
        changed.extend(
            stored
                .iter()
                .filter(|(key, rows)| told.get(key) != Some(rows))
                .map(|(key, rows)| (key.clone(), rows.clone())),
        );
        for ((realm, id), rows) in &changed {
            let _turn = self.turn(realm, id).await;
            if let Err(failure) = self.tell_host(realm, id, rows) {
                tracing::error!(plugin = id, environment = %realm.environment, reason = failure.message, "plugin is not in use");
            }
        }
        *told = stored;
        Ok(changed)
    }

    /// Ends what is under way; compilations begin again at the next start.
    pub async fn shutdown(&self) {
        self.0.stopping.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Every plugin of a realm, by id, built-in ones among them.
    pub async fn list(&self, realm: &Realm) -> Result<Vec<Plugin>, Error> {
        let mut by_id: BTreeMap<String, Vec<PluginRow>> = BTreeMap::new();
        for row in self.0.store.all_plugins().await?.into_iter().filter(|row| row.realm == *realm) {
            by_id.entry(row.package.id.clone()).or_default().push(row);
        }
        let mut plugins: BTreeMap<String, Plugin> = BTreeMap::new();
        for package in self.0.host.built_in() {
            let rows = by_id.remove(&package.id).unwrap_or_default();
            plugins.insert(package.id.clone(), built_in::plugin(realm, &package, &rows));
        }
        for (id, mut versions) in by_id {
            versions.sort_by_key(|row| std::cmp::Reverse(row.installed_at));
            plugins.insert(id, Plugin { versions, built_in: false });
        }
        Ok(plugins.into_values().collect())
    }

    /// One plugin.
    pub async fn plugin(&self, realm: &Realm, id: &str) -> Result<Plugin, Error> {
        let rows = self.0.store.plugin(realm, id).await?;
        if let Some(package) = self.built_in_package(id) {
            return Ok(built_in::plugin(realm, &package, &rows));
        }
        if rows.is_empty() { Err(not_found(id)) } else { Ok(Plugin { versions: rows, built_in: false }) }
    }

    /// How far the compilation of a version is.
    pub fn compilation(&self, digest: &str) -> Compilation {
        self.0.host.compilation(digest)
    }

    /// Open runs that have pinned a version, newest first, some of them if they are many.
    pub async fn used_by(&self, realm: &Realm, digest: &str) -> Result<Vec<RunId>, Error> {
        Ok(self.0.store.pinned_by(realm, digest, RUNS_NAMED_MAX).await?)
    }

    /// How a version asks for other things than the one in force, and which that is.
    pub async fn diff(
        &self,
        realm: &Realm,
        id: &str,
        to: &str,
    ) -> Result<(Option<PluginRow>, PluginRow, PermissionDiff), Error> {
        let plugin = self.plugin(realm, id).await?;
        let to = plugin.version(to)?.clone();
        let from = plugin.in_force().filter(|row| row.package.digest != to.package.digest).cloned();
        let diff = plugin.diff(&to);
        Ok((from, to, diff))
    }

    /// Sets what a version is granted, the one in force when none is named, and its configuration if one is given. To a version that waits it
    /// is the yes.
    pub async fn grant(
        &self,
        realm: &Realm,
        id: &str,
        version: Option<&str>,
        grants: Grants,
        config: Option<Json>,
        actor: Arc<str>,
    ) -> Result<PluginRow, Error> {
        let _turn = self.turn(realm, id).await;
        let before = self.plugin(realm, id).await?;
        let at = match version {
            Some(version) => decide::pick(&before.versions, version)?,
            None => before.versions.iter().position(decide::in_force).unwrap_or(0),
        };
        let package = &before.versions[at].package;
        if let Some(config) = &config {
            decide::check_config(package, config)?;
        }
        if !before.built_in {
            decide::usable(&before.versions[at])?;
        }
        let now = self.0.clock.now();
        let mut rows = before.versions.clone();
        set(&mut rows[at], Some(grants), config);
        match rows[at].status {
            PluginStatus::Pending => decide::put_in_force(&mut rows, at, &actor, now),
            PluginStatus::Active | PluginStatus::Compiling => decide::decided(&mut rows[at], &actor, now),
            // Who switched it off, or put another in its place, stays on record.
            PluginStatus::Disabled | PluginStatus::Superseded | PluginStatus::Failed => {}
        }
        self.apply(&before.versions, &rows).await?;
        if before.built_in {
            self.forget_old_built_in(realm, &rows[at].package).await;
        }
        tracing::info!(plugin = id, version = rows[at].package.version, grants = rows[at].grants.lines().join("; "), by = %actor, "grants are set");
        Ok(rows.swap_remove(at))
    }

    /// Switches a plugin on again, or puts the named version in force: the yes to one that waits.
    pub async fn enable(
        &self,
        realm: &Realm,
        id: &str,
        version: Option<&str>,
        actor: Arc<str>,
    ) -> Result<PluginRow, Error> {
        let _turn = self.turn(realm, id).await;
        let before = self.own(realm, id).await?;
        let at = match version {
            Some(version) => decide::pick(&before, version)?,
            None => decide::to_enable(&before)?,
        };
        decide::usable(&before[at])?;
        let now = self.0.clock.now();
        let mut rows = before.clone();
        match rows[at].status {
            PluginStatus::Active => return Ok(rows.swap_remove(at)),
            // It counts when the code is there.
            PluginStatus::Compiling => decide::decided(&mut rows[at], &actor, now),
            _ => decide::put_in_force(&mut rows, at, &actor, now),
        }
        self.apply(&before, &rows).await?;
        tracing::info!(plugin = id, version = rows[at].package.version, by = %actor, "plugin is in force");
        Ok(rows.swap_remove(at))
    }

    /// Switches a plugin off: runs that begin now do not find its actions, open ones go on.
    pub async fn disable(&self, realm: &Realm, id: &str, actor: Arc<str>) -> Result<PluginRow, Error> {
        let _turn = self.turn(realm, id).await;
        let before = self.own(realm, id).await?;
        let at = before.iter().position(decide::in_force).ok_or_else(|| {
            Error::new(Kind::Conflict, "PLUGIN_NOT_IN_FORCE", format!("no version of plugin '{id}' is in force"))
        })?;
        let mut rows = before.clone();
        // A person's word stays: a file that comes back does not switch on what a person switched off.
        if rows[at].status == PluginStatus::Disabled && *actor == *FILES_ACTOR {
            return Ok(rows.swap_remove(at));
        }
        rows[at].status = PluginStatus::Disabled;
        decide::decided(&mut rows[at], &actor, self.0.clock.now());
        self.apply(&before, &rows).await?;
        tracing::info!(plugin = id, version = rows[at].package.version, by = %actor, "plugin is switched off");
        Ok(rows.swap_remove(at))
    }

    /// Puts a version in force that was before: the named one, else the last.
    pub async fn rollback(
        &self,
        realm: &Realm,
        id: &str,
        version: Option<&str>,
        actor: Arc<str>,
    ) -> Result<PluginRow, Error> {
        let _turn = self.turn(realm, id).await;
        let before = self.own(realm, id).await?;
        let at = decide::to_roll_back(&before, version)?;
        let mut rows = before.clone();
        decide::put_in_force(&mut rows, at, &actor, self.0.clock.now());
        self.apply(&before, &rows).await?;
        tracing::info!(plugin = id, version = rows[at].package.version, by = %actor, "plugin is rolled back");
        Ok(rows.swap_remove(at))
    }

    /// Deletes a version, or all of them. Refused while an open run has pinned one.
    pub async fn remove(&self, realm: &Realm, id: &str, version: Option<&str>, actor: Arc<str>) -> Result<(), Error> {
        let _turn = self.turn(realm, id).await;
        let before = self.own(realm, id).await?;
        let going: Vec<usize> = match version {
            Some(version) => vec![decide::pick(&before, version)?],
            None => (0..before.len()).collect(),
        };
        let digests: Vec<Arc<str>> = going.iter().map(|at| before[*at].package.digest.as_str().into()).collect();
        let staying: Vec<PluginRow> =
            before.iter().enumerate().filter(|(at, _)| !going.contains(at)).map(|(_, row)| row.clone()).collect();
        // From here on no new run can pin what goes.
        self.tell_host(realm, id, &staying).map_err(refused)?;
        if let Err(error) = self.delete(realm, id, &digests).await {
            self.tell_host(realm, id, &before).map_err(refused)?;
            return Err(error);
        }
        tracing::info!(plugin = id, versions = digests.len(), by = %actor, "plugin is removed");
        Ok(())
    }

    async fn delete(&self, realm: &Realm, id: &str, digests: &[Arc<str>]) -> Result<(), Error> {
        let mut runs = Vec::new();
        for digest in digests {
            runs.extend(self.0.store.pinned_by(realm, digest, RUNS_NAMED_MAX).await?);
        }
        if !runs.is_empty() {
            return Err(in_use(id, &runs));
        }
        match self.0.store.delete_plugin(realm, id, digests).await {
            // A run that began between the look and the deletion.
            Err(StoreError::Conflict(_)) => Err(in_use(id, &[])),
            other => Ok(other?),
        }
    }

    /// The rows of a plugin that is not part of the program.
    async fn own(&self, realm: &Realm, id: &str) -> Result<Vec<PluginRow>, Error> {
        if self.built_in_package(id).is_some() {
            let message =
                format!("plugin '{id}' is part of this program: only its grants and its configuration can be set");
            return Err(Error::new(Kind::Conflict, "PLUGIN_BUILT_IN", message));
        }
        let rows = self.0.store.plugin(realm, id).await?;
        if rows.is_empty() { Err(not_found(id)) } else { Ok(rows) }
    }

    /// Makes rows durable, then known to the host. If the host refuses, everything is as it was before.
    async fn apply(&self, before: &[PluginRow], after: &[PluginRow]) -> Result<(), Error> {
        let Some((realm, id)) = after.first().map(|row| (row.realm.clone(), row.package.id.clone())) else {
            return Ok(());
        };
        let stored = |rows: &[PluginRow], other: &[PluginRow]| -> Vec<PluginRow> {
            rows.iter().filter(|row| !other.contains(row)).cloned().collect()
        };
        let changed = stored(after, before);
        if changed.is_empty() {
            return Ok(());
        }
        self.0.store.save_plugins(&changed).await?;
        if let Err(failure) = self.tell_host(&realm, &id, after) {
            self.0.store.save_plugins(&stored(before, after)).await?;
            if let Err(failure) = self.tell_host(&realm, &id, before) {
                tracing::error!(plugin = id, reason = failure.message, "plugin is not in use");
            }
            return Err(refused(failure));
        }
        Ok(())
    }

    /// What the host has to know: what new runs use, and what open runs may have pinned.
    fn tell_host(&self, realm: &Realm, id: &str, rows: &[PluginRow]) -> Result<(), Failure> {
        let installed = |package: Arc<Package>, row: &PluginRow| Installed {
            package,
            grants: Arc::new(row.grants.clone()),
            config: row.config.clone(),
            in_force: row.status == PluginStatus::Active,
        };
        let versions = match self.built_in_package(id) {
            Some(package) => rows.first().map(|row| installed(package, row)).into_iter().collect(),
            None => {
                let known = rows.iter().filter(|row| decide::in_force(row) || row.status == PluginStatus::Superseded);
                known.map(|row| installed(Arc::new(row.package.clone()), row)).collect()
            }
        };
        self.0.host.install(realm, id, versions)
    }

    /// Waits until nobody else decides about this plugin, and keeps others waiting.
    async fn turn(&self, realm: &Realm, id: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.locks.lock();
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry((realm.clone(), id.to_owned())).or_default().clone()
        };
        lock.lock_owned().await
    }
}

fn no_config() -> Json {
    Json::of(&serde_json::Map::new())
}

fn not_found(id: &str) -> Error {
    Error::new(Kind::NotFound, "PLUGIN_NOT_FOUND", format!("there is no plugin '{id}'"))
}

fn in_use(id: &str, runs: &[RunId]) -> Error {
    let named: Vec<&str> = runs.iter().map(RunId::as_str).collect();
    let which = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
    let message = format!(
        "open runs use plugin '{id}'{which}: let them end or cancel them first, or disable the plugin so that no new ones start"
    );
    Error::new(Kind::Conflict, "PLUGIN_IN_USE", message).with_details(Json::of(&serde_json::json!({"runs": named})))
}
