//! Where runs live: SQLite in the data directory, or PostgreSQL for many hosts.

use std::path::Path;
use std::sync::Arc;

use caisson_core::ports::{Cluster, Journal, PluginStore, Pruning, Resources, Store, StoreError};
use caisson_core::time::Timestamp;
use caisson_store::{Counters, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};

use super::{Config, Error, START_PATIENCE};
use crate::clock::SystemClock;
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
    /// The database's time, where it is the one that counts.
    now: Option<Timestamp>,
}

impl Stores {
    pub(super) async fn open(config: &Config) -> Result<Self, Error> {
        let failed = |source| Error::Store { at: place(config), source };
        if let Some(url) = &config.database_url {
            let options = PostgresOptions { patience: START_PATIENCE, ..PostgresOptions::default() };
            let store = Arc::new(PostgresStore::open(url, options).await.map_err(failed)?);
            let now = store.now().await.map_err(failed)?;
            let cluster: Arc<dyn Cluster> = store.clone();
            let counted = store.clone();
            return Ok(Self { cluster: Some(cluster), now: Some(now), ..Self::of(store, move || counted.counters()) });
        }
        let options = SqliteOptions { size_max: config.store_bytes_max, ..SqliteOptions::default() };
        let store = Arc::new(SqliteStore::open(&config.data_dir, options).await.map_err(failed)?);
        let counted = store.clone();
        Ok(Self::of(store, move || counted.counters()))
    }

    fn of<T: Store + Journal + PluginStore + Resources + Pruning + 'static>(
        store: Arc<T>,
        counters: impl Fn() -> Counters + Send + Sync + 'static,
    ) -> Self {
        Self {
            counters: Arc::new(move || {
                let counters = counters();
                metrics::store(counters.commits, counters.appends, counters.batches)
            }),
            runs: store.clone(),
            journal: store.clone(),
            plugins: store.clone(),
            resources: store.clone(),
            pruning: store,
            cluster: None,
            now: None,
        }
    }

    /// The clock that runs are dated by.
    pub(super) async fn clock(&self) -> Result<SystemClock, StoreError> {
        match self.now {
            Some(now) => Ok(SystemClock::following(now)),
            None => Ok(SystemClock::anchored(self.runs.latest_time().await?)),
        }
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

/// Where that is, for people: an address without what stands before its host.
pub(super) fn place(config: &Config) -> String {
    match &config.database_url {
        Some(url) => url.rsplit_once('@').map_or("PostgreSQL", |(_, place)| place).to_owned(),
        None => config.data_dir.display().to_string(),
    }
}
