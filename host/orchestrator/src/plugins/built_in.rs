//! The plugins that are part of the program: an operator says what they may do and how they are set up, nothing else.

use std::sync::Arc;

use caisson_core::ids::Realm;
use caisson_core::plugin::{Grants, Package, PluginStatus};
use caisson_core::ports::PluginRow;
use caisson_core::time::Timestamp;

use super::{Plugin, Plugins, no_config};

/// Where they come from.
const SOURCE: &str = "built-in";

/// Those that may use what they ask for without a grant: none of it reaches outside of the host.
const TRUSTED: [&str; 3] = ["core", "human", "agent"];

/// A built-in plugin as a row: what the operator said of it in this realm is kept by its id, whatever digest this build has.
pub(super) fn plugin(realm: &Realm, package: &Package, rows: &[PluginRow]) -> Plugin {
    let said = rows.first().cloned();
    let row = PluginRow {
        realm: realm.clone(),
        package: package.clone(),
        status: PluginStatus::Active,
        grants: said.as_ref().map_or_else(|| default_grants(package), |row| row.grants.clone()),
        config: said.as_ref().map_or_else(no_config, |row| row.config.clone()),
        source: SOURCE.into(),
        error: None,
        installed_by: SOURCE.into(),
        installed_at: said.as_ref().map_or(Timestamp(0), |row| row.installed_at),
        decided_by: said.as_ref().and_then(|row| row.decided_by.clone()),
        decided_at: said.and_then(|row| row.decided_at),
    };
    Plugin { versions: vec![row], built_in: true }
}

/// What a built-in plugin has when no operator said anything: `http` and `script` reach outside, so they get nothing.
fn default_grants(package: &Package) -> Grants {
    if TRUSTED.contains(&package.id.as_str()) { package.asks.clone() } else { Grants::default() }
}

impl Plugins {
    pub(super) fn built_in_package(&self, id: &str) -> Option<Arc<Package>> {
        self.0.host.built_in().into_iter().find(|package| package.id == id)
    }

    /// Rows of former builds. Nothing refers to them any more; if they cannot be deleted now, they are next time.
    pub(super) async fn forget_old_built_in(&self, realm: &Realm, package: &Package) {
        let Ok(rows) = self.0.store.plugin(realm, &package.id).await else { return };
        let old = rows.iter().map(|row| &row.package.digest).filter(|digest| **digest != package.digest);
        let old: Vec<Arc<str>> = old.map(|digest| digest.as_str().into()).collect();
        if !old.is_empty()
            && let Err(error) = self.0.store.delete_plugin(realm, &package.id, &old).await
        {
            tracing::debug!(plugin = package.id, %error, "grants of a former build are kept");
        }
    }
}
