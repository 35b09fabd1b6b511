//! Which plugins are loaded, by digest, and which answers an action's name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use caisson_core::ports::ActionInfo;

use crate::package::{Error, PackageInfo};
use crate::plugin::Plugin;

/// Invariant: a digest that was loaded stays, because a run may have pinned it; a name leads to the plugin that was loaded last.
#[derive(Default)]
pub(crate) struct Registry {
    by_digest: HashMap<Arc<str>, Arc<Plugin>>,
    by_id: BTreeMap<Arc<str>, Arc<Plugin>>,
    /// By full name: where the newest is.
    actions: BTreeMap<Arc<str>, (Arc<Plugin>, usize)>,
}

impl Registry {
    pub(crate) fn add(&mut self, plugin: Arc<Plugin>) -> Result<(), Error> {
        let identity = &plugin.identity;
        for action in &plugin.actions {
            if let Some((other, _)) = self.actions.get(&action.info.name)
                && other.identity.id != identity.id
            {
                return Err(Error::Taken {
                    action: action.info.name.to_string(),
                    other: other.identity.id.to_string(),
                });
            }
        }
        // A new version takes the whole id: an action that it dropped is gone for new runs.
        self.actions.retain(|_, (other, _)| other.identity.id != identity.id);
        for (at, action) in plugin.actions.iter().enumerate() {
            self.actions.insert(Arc::clone(&action.info.name), (Arc::clone(&plugin), at));
        }
        self.by_digest.insert(Arc::clone(&identity.digest), Arc::clone(&plugin));
        self.by_id.insert(Arc::clone(&identity.id), plugin);
        Ok(())
    }

    pub(crate) fn by_digest(&self, digest: &str) -> Option<Arc<Plugin>> {
        self.by_digest.get(digest).cloned()
    }

    pub(crate) fn resolve(&self, action: &str) -> Option<ActionInfo> {
        self.actions.get(action).map(|(plugin, at)| plugin.actions[*at].info.clone())
    }

    pub(crate) fn plugin_of(&self, action: &str) -> Option<Arc<Plugin>> {
        self.actions.get(action).map(|(plugin, _)| Arc::clone(plugin))
    }

    pub(crate) fn actions(&self) -> Vec<ActionInfo> {
        self.actions.values().map(|(plugin, at)| plugin.actions[*at].info.clone()).collect()
    }

    pub(crate) fn packages(&self) -> Vec<PackageInfo> {
        self.by_id.values().map(|plugin| plugin.info.clone()).collect()
    }
}
