//! Installed plugins: where they are kept, and what hosts them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::error::Failure;
use crate::ids::{Realm, RunId};
use crate::json::Json;
use crate::plugin::{Grants, Installed, Package, PluginStatus};
use crate::time::Timestamp;

/// An installed version of a plugin. Keyed by realm, id and digest: an author's version label may name several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginRow {
    /// Whose.
    pub realm: Realm,
    /// What is known of it without running it: id, version and digest among it.
    pub package: Package,
    /// How it stands. At most one version of an id is Active or Disabled.
    pub status: PluginStatus,
    /// What the operator granted to this digest.
    pub grants: Grants,
    /// The operator's configuration, a JSON object.
    pub config: Json,
    /// Where it came from: `upload`, `built-in`, or a path.
    pub source: Arc<str>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// Who installed it.
    pub installed_by: Arc<str>,
    /// When.
    pub installed_at: Timestamp,
    /// Who put it in force, switched it off or rolled it back, last.
    pub decided_by: Option<Arc<str>>,
    /// When.
    pub decided_at: Option<Timestamp>,
}

/// Where plugins are kept. Every method is one transaction.
#[async_trait]
pub trait PluginStore: Send + Sync {
    /// Keeps a component's bytes under their SHA-256; the same again is fine.
    async fn put_component(&self, digest: &str, bytes: &Bytes) -> Result<(), StoreError>;
    /// A component's bytes.
    async fn component(&self, digest: &str) -> Result<Option<Bytes>, StoreError>;
    /// Inserts or replaces rows, by realm, id and digest.
    async fn save_plugins(&self, rows: &[PluginRow]) -> Result<(), StoreError>;
    /// Every version of one plugin, newest first.
    async fn plugin(&self, realm: &Realm, id: &str) -> Result<Vec<PluginRow>, StoreError>;
    /// Every version of every plugin of every realm, in no particular order: what a host reads when it starts.
    async fn all_plugins(&self) -> Result<Vec<PluginRow>, StoreError>;
    /// Deletes versions, and components that no row names any more. [`StoreError::Conflict`] while an open run has pinned one of them.
    async fn delete_plugin(&self, realm: &Realm, id: &str, digests: &[Arc<str>]) -> Result<(), StoreError>;
    /// Open runs of the realm that have pinned the digest, newest first.
    async fn pinned_by(&self, realm: &Realm, digest: &str, limit: u32) -> Result<Vec<RunId>, StoreError>;
}

/// How far the compilation of a package is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum Compilation {
    /// Not asked for yet: it is compiled, or read from the cache, when it is first used.
    Unused,
    /// Waits for the compiler.
    Queued,
    /// Is being compiled for so long.
    #[serde(rename_all = "camelCase")]
    Running {
        /// Milliseconds.
        since_ms: u64,
    },
    /// Its code is on disk or loaded.
    Ready,
    /// It cannot be.
    Failed {
        /// Why.
        message: String,
    },
}

/// What hosts plugins: reads packages, compiles them, and knows which are installed.
#[async_trait]
pub trait PluginHost: Send + Sync {
    /// Reads a package without running or compiling it. The failure's code says what is wrong (`PLUGIN_MALFORMED`, `PLUGIN_MANIFEST`,
    /// `PLUGIN_IMPORT_UNDECLARED`, `PLUGIN_ID_RESERVED`, …).
    fn inspect(&self, bytes: &[u8]) -> Result<Package, Failure>;
    /// Compiles a package, or finds its code in the cache, and links it, in a child process with limits. Progress is at
    /// [`PluginHost::compilation`]. The failure's code is `PLUGIN_COMPILE` or `PLUGIN_LINK`.
    async fn prepare(&self, package: &Package, bytes: &Bytes) -> Result<(), Failure>;
    /// How far it is.
    fn compilation(&self, digest: &str) -> Compilation;
    /// The versions of one plugin in one realm, from now on, instead of those before. At most one is in force. Fails if an action's name is
    /// taken by another plugin (`PLUGIN_ACTION_TAKEN`).
    fn install(&self, realm: &Realm, id: &str, versions: Vec<Installed>) -> Result<(), Failure>;
    /// The built-in packages.
    fn built_in(&self) -> Vec<Arc<Package>>;
}
