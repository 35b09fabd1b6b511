//! What an environment offers: agents as they are registered, taken into the models that answer for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use caisson_core::definition::Schemas;
use caisson_core::ids::Realm;
use caisson_core::json::Json;
use caisson_core::ports::{Entry, Invocation, ResourceKind, ResourceRow, Resources, StoreError};
use caisson_runtime::Runtime;
use caisson_runtime::model::{AgentSpec, Models};

use super::providers::Providers;
use super::tools::Connected;
use crate::api::api_keys::FIRST_TENANT;
use crate::api::{Catalog, Trials};
use crate::env::{self, Source, prompt};
use crate::sync::{FileText, texts};

/// The directories of a host's environments, by name.
pub(super) type Dirs = BTreeMap<String, Vec<std::path::PathBuf>>;

/// What the surface asks of the plugin host and of what is registered.
pub(super) struct Around {
    pub(super) runtime: Arc<Runtime>,
    pub(super) models: Arc<Models>,
    pub(super) resources: Arc<dyn Resources>,
    pub(super) providers: Providers,
    pub(super) tools: Arc<Connected>,
    pub(super) dirs: Dirs,
    /// The mark of what was taken in last. One refresh at a time.
    pub(super) taken: tokio::sync::Mutex<Option<u64>>,
}

impl Around {
    /// Takes in what is registered, if it has changed.
    pub(super) async fn take_in(&self) -> Result<(), StoreError> {
        let mut taken = self.taken.lock().await;
        let mark = self.resources.resources_mark().await?;
        if *taken == Some(mark) {
            return Ok(());
        }
        let mut environments: BTreeMap<Arc<str>, Vec<AgentSpec>> = BTreeMap::new();
        for row in self.resources.all_resources().await?.iter().filter(|row| row.key.kind == ResourceKind::Agent) {
            let agents = environments.entry(row.key.realm.environment.clone()).or_default();
            if row.enabled {
                agents.extend(self.agent(row));
            }
        }
        for (environment, agents) in environments {
            self.models.set_agents(environment.to_string(), agents);
        }
        *taken = Some(mark);
        Ok(())
    }

    fn agent(&self, row: &ResourceRow) -> Option<AgentSpec> {
        let source = Source { path: format!("{}.prompt", row.key.name).into(), bytes: row.source.as_bytes().to_vec() };
        match prompt::read(&source) {
            Ok(mut agent) => {
                agent.model = self.providers.own_model(&row.key.realm.environment, &agent.model);
                Some(agent)
            }
            Err(problem) => {
                tracing::warn!(agent = %row.key.name, reason = problem.message, "a registered agent cannot be used");
                None
            }
        }
    }

    /// Takes in what changed in this host's own declarations.
    pub(super) async fn look_at_tools(&self) {
        if let Err(error) = self.tools.look().await {
            tracing::warn!(%error, "tool servers cannot be registered");
        }
    }
}

#[async_trait]
impl Catalog for Around {
    fn agents(&self, realm: &Realm) -> BTreeMap<String, Schemas> {
        self.models.agents(&realm.environment)
    }

    async fn refresh(&self) {
        if let Err(error) = self.take_in().await {
            tracing::warn!(%error, "what is registered cannot be read");
        }
    }

    async fn files(&self, realm: &Realm) -> Option<Vec<FileText>> {
        if &*realm.tenant != FIRST_TENANT {
            return None;
        }
        let name = realm.environment.to_string();
        let dirs = self.dirs.get(&name)?.clone();
        // Reading files blocks.
        let read = tokio::task::spawn_blocking(move || env::read_as(&name, &dirs)).await;
        read.ok().map(|(environment, _)| texts(&environment))
    }
}

#[async_trait]
impl Trials for Around {
    async fn try_action(&self, invocation: Invocation, config: Option<Json>) -> Entry {
        self.runtime.run_with(invocation, config).await
    }
}
