//! What an environment's files say: agents, tool servers, schemas, and which file a workflow came from. Kept with their versions, as texts:
//! what they mean is for those who use them.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::ids::Realm;
use crate::time::Timestamp;

/// What kind of thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceKind {
    /// A dotprompt file: front matter and a template.
    Agent,
    /// How a tool server is started, as JSON.
    McpServer,
    /// A JSON Schema.
    Schema,
    /// The file of a workflow, which itself lives with its versions.
    Workflow,
}

impl ResourceKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::Agent, Self::McpServer, Self::Schema, Self::Workflow];

    /// The word for it in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::McpServer => "mcp-server",
            Self::Schema => "schema",
            Self::Workflow => "workflow",
        }
    }

    /// Reads it back; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
    }
}

/// Names a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    /// Whose.
    pub realm: Realm,
    /// What it is.
    pub kind: ResourceKind,
    /// Unique among those of its kind.
    pub name: Arc<str>,
}

/// A resource, in one of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRow {
    /// Which.
    pub key: ResourceKey,
    /// The version's number, from 1.
    pub number: u64,
    /// SHA-256 of `source`.
    pub digest: Arc<str>,
    /// The text, byte for byte.
    pub source: Arc<str>,
    /// Whether it may be used. Of the resource, not of the version.
    pub enabled: bool,
    /// The file that it came from, below its environment's directory; `None` if it came over the API. Of the resource.
    pub file: Option<Arc<str>>,
    /// Who saved this version.
    pub created_by: Arc<str>,
    /// When this version was saved.
    pub created_at: Timestamp,
    /// When the resource was last changed, enabled or disabled.
    pub updated_at: Timestamp,
}

/// A version on its way in.
#[derive(Clone, Debug)]
pub struct NewResource {
    /// Which.
    pub key: ResourceKey,
    /// Its text.
    pub source: Arc<str>,
    /// Where it came from.
    pub file: Option<Arc<str>>,
    /// Who saves it.
    pub created_by: Arc<str>,
    /// Now.
    pub at: Timestamp,
}

/// Where resources live. Every method is one transaction.
#[async_trait]
pub trait Resources: Send + Sync {
    /// Saves a text and puts it in force, enabled. A text that the resource had before gives that version again; the boolean says
    /// whether the version is new.
    async fn save_resource(&self, new: NewResource) -> Result<(ResourceRow, bool), StoreError>;
    /// Enables or disables; `false` if there is no such resource.
    async fn set_resource(&self, key: &ResourceKey, enabled: bool, at: Timestamp) -> Result<bool, StoreError>;
    /// A version: the one in force, or by number.
    async fn resource(&self, key: &ResourceKey, number: Option<u64>) -> Result<Option<ResourceRow>, StoreError>;
    /// Every version, newest first.
    async fn resource_versions(&self, key: &ResourceKey) -> Result<Vec<ResourceRow>, StoreError>;
    /// What is in force of every realm, disabled ones too, by realm, kind and name: what a host reads at its start and when something changed.
    async fn all_resources(&self) -> Result<Vec<ResourceRow>, StoreError>;
    /// Changes with every change of a resource of whatever realm.
    async fn resources_mark(&self) -> Result<u64, StoreError>;
}
