//! Plugins that another host installed: known here when they are first asked for, and soon in any case.

use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::ids::Realm;
use caisson_core::ports::{ActionInfo, ActionRunner, Entry, Invocation};
use caisson_orchestrator::Plugins;
use caisson_runtime::Runtime;

/// The code of an entry whose package the host does not know. Its guest has not begun, so it may be asked for again.
const NOT_LOADED: &str = "PLUGIN_NOT_LOADED";

/// A plugin host that looks at the store before it says that there is no such plugin.
pub(super) struct Looking {
    pub(super) runtime: Arc<Runtime>,
    pub(super) plugins: Plugins,
}

impl Looking {
    /// Takes in what is installed.
    pub(super) async fn look(&self) {
        if let Err(error) = self.plugins.refresh().await {
            tracing::warn!(%error, "installed plugins cannot be read");
        }
    }
}

#[async_trait]
impl ActionRunner for Looking {
    fn resolve(&self, realm: &Realm, action: &str) -> Option<ActionInfo> {
        self.runtime.resolve(realm, action)
    }

    fn actions(&self, realm: &Realm) -> Vec<ActionInfo> {
        self.runtime.actions(realm)
    }

    async fn run(&self, invocation: Invocation) -> Entry {
        let entry = self.runtime.run(invocation.clone()).await;
        match &entry.result {
            Err(failure) if failure.code == NOT_LOADED => {
                self.look().await;
                self.runtime.run(invocation).await
            }
            _ => entry,
        }
    }
}
