//! Where runs live: SQLite in the data directory.

use std::path::Path;
use std::sync::Arc;

use caisson_core::ports::{Cluster, Journal, PluginStore, Pruning, Resources, Store};
use caisson_store::{SqliteOptions, SqliteStore};

use super::{Config, Error};
use crate::keys;
use crate::observe::metrics::{self, Source};

/// Where the seed of guests' random numbers is kept, in the data directory of a host that is alone.
const SEED_FILE: &str = "random.key";

/// One store by its ports.
pub(super) struct Stores {
    pub(super) runs: Arc<dyn Store>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) plugins: Arc<dyn PluginStore>,
    pub(super) resources: Arc<dyn Resources>,
    pub(super) pruning: Arc<dyn Pruning>,
    /// Only a store that serves several hosts.
    pub(super) cluster: Option<Arc<dyn Cluster>>,
    /// What the store counts.
    pub(super) counters: Source,
}

impl Stores {
    pub(super) async fn open(config: &Config) -> Result<Self, Error> {
        let failed = |source| Error::Store { at: place(config), source };
        let options = SqliteOptions { size_max: config.store_bytes_max, ..SqliteOptions::default() };
        let store = Arc::new(SqliteStore::open(&config.data_dir, options).await.map_err(failed)?);
        let counted = store.clone();
        Ok(Self {
            counters: Arc::new(move || {
                let counters = counted.counters();
                metrics::store(counters.commits, counters.appends, counters.batches)
            }),
            runs: store.clone(),
            journal: store.clone(),
            plugins: store.clone(),
            resources: store.clone(),
            pruning: store,
            cluster: None,
        })
    }

    /// The 32 bytes that random numbers of guests come from: a step that another host takes up must see the same ones.
    pub(super) async fn random_key(&self, data_dir: &Path) -> Result<[u8; 32], Error> {
        match &self.cluster {
            Some(cluster) => {
                Ok(cluster.shared_key("random", keys::random_bytes()?).await.map_err(keys::Error::Store)?)
            }
            None => Ok(keys::random_seed(&data_dir.join(SEED_FILE))?),
        }
    }
}

/// Where that is, for people.
pub(super) fn place(config: &Config) -> String {
    config.data_dir.display().to_string()
}
