//! What other hosts installed and registered, and what changed in this host's own declarations of tool servers: taken in here soon.

use std::sync::Arc;
use std::time::Duration;

use caisson_core::ports::Cluster;
use tokio_util::sync::CancellationToken;

use super::catalog::Around;
use super::plugins::Looking;
use crate::api::Catalog;

/// What nobody told of is known here after this. Files and lost hints are found so.
const REFRESH: Duration = Duration::from_secs(2);

/// What has copies of what is stored.
pub(super) struct Fresh {
    /// Plugins and their grants; nobody else changes them where the store serves one host.
    pub(super) plugins: Option<Arc<Looking>>,
    /// Agents and tool servers.
    pub(super) around: Arc<Around>,
    /// Who tells of changes.
    pub(super) cluster: Option<Arc<dyn Cluster>>,
}

impl Fresh {
    /// Looks whenever something has changed, and again and again, until told to stop.
    pub(super) async fn keep(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.changed() => {}
                () = tokio::time::sleep(REFRESH) => {}
            }
            if let Some(plugins) = &self.plugins {
                plugins.look().await;
            }
            self.around.refresh().await;
            self.around.look_at_tools().await;
        }
    }

    async fn changed(&self) {
        match &self.cluster {
            Some(cluster) => cluster.catalog_changed().await,
            None => std::future::pending().await,
        }
    }
}
