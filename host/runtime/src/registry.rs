//! Which versions are installed in which realm, and which of them answers an action's name.
//!
//! Invariants:
//! - a realm sees its own plugins and the built-in ones, and no other's;
//! - an action's name leads to the version that is in force, a digest to its version whether it is in force or not,
//!   because a run may have pinned it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use caisson_core::ids::Realm;
use caisson_core::json::Json;
use caisson_core::plugin::{Grants, Installed, Package};
use caisson_core::ports::{ActionInfo, PluginRef};

use crate::builtin;
use crate::package::{self, Error};
use crate::plugin::Version;

#[derive(Default)]
pub(crate) struct Registry {
    /// In every realm that says nothing else, by id.
    built_in: BTreeMap<String, Arc<Version>>,
    realms: HashMap<Realm, Plugins>,
}

/// Those of one realm, by id; built-in ones only where the operator has said something about them.
#[derive(Default)]
struct Plugins(BTreeMap<String, Vec<Arc<Version>>>);

impl Registry {
    pub(crate) fn new(built_in: impl IntoIterator<Item = Arc<Package>>) -> Self {
        let version = |package: Arc<Package>| {
            let grants = builtin::default_grants(&package);
            (package.id.clone(), Arc::new(Version::new(package, Arc::new(grants), no_config(), true, true)))
        };
        Self { built_in: built_in.into_iter().map(version).collect(), realms: HashMap::new() }
    }

    /// The versions of one plugin from now on.
    pub(crate) fn install(&mut self, realm: &Realm, id: &str, versions: Vec<Installed>) -> Result<(), Error> {
        let versions = if let Some(built_in) = self.built_in.get(id) {
            // Its code is this program's, whatever it was when the operator spoke.
            let spoken = versions.into_iter().max_by_key(|version| version.in_force);
            spoken
                .map(|Installed { grants, config, in_force, .. }| {
                    Arc::new(Version::new(Arc::clone(&built_in.package), grants, config, in_force, true))
                })
                .into_iter()
                .collect()
        } else {
            package::check_reserved(id)?;
            self.check_names(realm, id, &versions)?;
            versions
                .into_iter()
                .map(|Installed { package, grants, config, in_force }| {
                    Arc::new(Version::new(package, grants, config, in_force, false))
                })
                .collect::<Vec<_>>()
        };
        let plugins = self.realms.entry(realm.clone()).or_default();
        if versions.is_empty() {
            plugins.0.remove(id);
        } else {
            plugins.0.insert(id.to_owned(), versions);
        }
        Ok(())
    }

    /// Puts one more version in force; those before it stay for whoever pinned them.
    pub(crate) fn add(
        &mut self,
        realm: &Realm,
        package: Arc<Package>,
        grants: Grants,
        config: Json,
    ) -> Result<(), Error> {
        let before = self.realms.get(realm).and_then(|plugins| plugins.0.get(&package.id)).into_iter().flatten();
        let mut versions: Vec<Installed> = before
            .filter(|version| version.package.digest != package.digest)
            .map(|version| Installed {
                package: Arc::clone(&version.package),
                grants: Arc::clone(&version.grants),
                config: version.config.clone(),
                in_force: false,
            })
            .collect();
        let id = package.id.clone();
        versions.push(Installed { package, grants: Arc::new(grants), config, in_force: true });
        self.install(realm, &id, versions)
    }

    /// Names begin with the id and ids are unique, so that this can only fail if that is broken elsewhere.
    fn check_names(&self, realm: &Realm, id: &str, versions: &[Installed]) -> Result<(), Error> {
        for package in versions.iter().filter(|version| version.in_force).map(|version| &version.package) {
            for action in &package.actions {
                let name = format!("{}.{}", package.id, action.name);
                let other = self.in_force(realm, &name).filter(|other| other.package.id != id);
                if let Some(other) = other {
                    return Err(Error::Taken { action: name, other: other.package.id.clone() });
                }
            }
        }
        Ok(())
    }

    /// The version that new runs use for an action.
    pub(crate) fn in_force(&self, realm: &Realm, action: &str) -> Option<&Arc<Version>> {
        let (id, name) = action.split_once('.')?;
        let version = self.current(realm, id)?;
        version.package.actions.iter().any(|spec| spec.name == name).then_some(version)
    }

    fn current(&self, realm: &Realm, id: &str) -> Option<&Arc<Version>> {
        match self.realms.get(realm).and_then(|plugins| plugins.0.get(id)) {
            Some(versions) => versions.iter().find(|version| version.in_force),
            None => self.built_in.get(id),
        }
    }

    pub(crate) fn resolve(&self, realm: &Realm, action: &str) -> Option<ActionInfo> {
        let version = self.in_force(realm, action)?;
        version.infos().iter().find(|info| &*info.name == action).cloned()
    }

    /// What a run pinned.
    pub(crate) fn pinned(&self, realm: &Realm, plugin: &PluginRef) -> Option<Arc<Version>> {
        let versions = self.realms.get(realm).and_then(|plugins| plugins.0.get(&*plugin.id));
        if let Some(built_in) = self.built_in.get(&*plugin.id) {
            // An older program's built-in plugin is this program's: it has no other, and the actions stay compatible.
            return Some(Arc::clone(versions.and_then(|versions| versions.first()).unwrap_or(built_in)));
        }
        versions?.iter().find(|version| *version.package.digest == *plugin.digest).cloned()
    }

    /// Actions that are in force, sorted by name.
    pub(crate) fn actions(&self, realm: &Realm) -> Vec<ActionInfo> {
        let own = self.realms.get(realm).into_iter().flat_map(|plugins| plugins.0.keys());
        let mut ids: Vec<&String> = own.chain(self.built_in.keys()).collect();
        ids.sort_unstable();
        ids.dedup();
        let versions = ids.into_iter().filter_map(|id| self.current(realm, id));
        let mut infos: Vec<ActionInfo> = versions.flat_map(|version| version.infos().iter().cloned()).collect();
        infos.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        infos
    }

    /// A package by its digest, in whatever realm.
    pub(crate) fn package(&self, digest: &str) -> Option<Arc<Package>> {
        let installed = self.realms.values().flat_map(|plugins| plugins.0.values().flatten());
        let mut all = self.built_in.values().chain(installed);
        all.find(|version| version.package.digest == digest).map(|version| Arc::clone(&version.package))
    }

    /// The built-in packages, sorted by id.
    pub(crate) fn built_in(&self) -> Vec<Arc<Package>> {
        self.built_in.values().map(|version| Arc::clone(&version.package)).collect()
    }
}

fn no_config() -> Json {
    Json::of(&serde_json::Map::new())
}
