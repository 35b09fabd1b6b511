//! Plugins as the engine and its operators know them: what a package says of itself, what it may do, and how it stands.
//!
//! ```text
//! manifest (asks) ∩ operator (grants) ∩ workflow (narrows)  =  Effective: what one entry may do, and which line is missing when it may not
//! ```
//!
//! All of it is data and pure functions: nothing here reads a file or resolves a name.

mod effective;
mod grants;
mod host;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use effective::{Denied, Effective};
pub use grants::{
    ArtifactsGrant, EventsGrant, GrantError, Grants, HttpGrant, InjectGrant, KvGrant, ModelGrant, NoGrant,
    SecretsGrant, ToolsGrant, means_tool,
};
pub use host::{HostPattern, Network, is_public};

/// Ids that belong to the built-in plugins, so that nobody slips in a second `human.approval`.
pub const RESERVED_IDS: [&str; 7] = ["core", "agent", "human", "script", "http", "process", "caisson"];

/// What a plugin may ask for. `log` is everybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// Outgoing HTTP.
    Http,
    /// Named secrets.
    Secrets,
    /// Small state.
    Kv,
    /// A human's decision.
    Approval,
    /// Business events.
    Events,
    /// Files of the step.
    Artifacts,
    /// Language models.
    Model,
    /// Connected tools.
    Tools,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 8] =
        [Self::Http, Self::Secrets, Self::Kv, Self::Approval, Self::Events, Self::Artifacts, Self::Model, Self::Tools];

    /// Its name in manifests and grants.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Secrets => "secrets",
            Self::Kv => "kv",
            Self::Approval => "approval",
            Self::Events => "events",
            Self::Artifacts => "artifacts",
            Self::Model => "model",
            Self::Tools => "tools",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.as_str() == name)
    }
}

/// One action of a package.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionSpec {
    /// Its name within the plugin.
    pub name: String,
    /// What it does.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of the operator's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<Value>,
    /// JSON Schema of its input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
    /// JSON Schema of its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
}

/// What runs a package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Its own code.
    #[default]
    Component,
    /// The built-in JavaScript component runs the package's `plugin.js`.
    JavaScript,
}

/// Everything that is known of a package without running it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Package {
    /// The plugin's id: the first part of its actions' names.
    pub id: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the component, hexadecimal.
    pub digest: String,
    /// Length of the component.
    pub size: u64,
    /// The version of `caisson:step` that it was built against.
    pub wit: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// What runs it.
    #[serde(default)]
    pub engine: Engine,
    /// What it does, in the manifest's order.
    pub actions: Vec<ActionSpec>,
    /// What its manifest asks for: a restriction that is absent is left to the operator.
    pub asks: Grants,
    /// The limits that it asks for, by name (`memoryBytes`).
    #[serde(default)]
    pub limits: BTreeMap<String, u64>,
    /// What its binary imports, sorted.
    pub imports: Vec<String>,
}

impl Package {
    /// What an operator says yes to, a line each: what it asks for, then the limits that it wants.
    pub fn permissions(&self) -> Vec<String> {
        let limits = self.limits.iter().map(|(name, value)| format!("limit {name} = {value}"));
        self.asks.lines().into_iter().chain(limits).collect()
    }
}

/// How one version asks for other things than another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PermissionDiff {
    /// Lines that are new.
    pub added: Vec<String>,
    /// Lines that are gone.
    pub removed: Vec<String>,
    /// Lines that stay.
    pub kept: Vec<String>,
}

impl PermissionDiff {
    /// From one version, or from nothing, to another.
    pub fn between(from: Option<&Package>, to: &Package) -> Self {
        let before = from.map(Package::permissions).unwrap_or_default();
        let after = to.permissions();
        Self {
            added: after.iter().filter(|line| !before.contains(line)).cloned().collect(),
            removed: before.iter().filter(|line| !after.contains(line)).cloned().collect(),
            kept: after.into_iter().filter(|line| before.contains(line)).collect(),
        }
    }
}

/// How an installed version stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PluginStatus {
    /// Its code is being compiled.
    Compiling,
    /// It does not compile or does not link: `error` says why.
    Failed,
    /// It waits for an operator's yes.
    Pending,
    /// New runs use it.
    Active,
    /// It was in force and is switched off: runs that begin now do not find its actions, open ones go on.
    Disabled,
    /// Another version is in force; open runs that pinned this one go on with it.
    Superseded,
}

impl PluginStatus {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compiling => "COMPILING",
            Self::Failed => "FAILED",
            Self::Pending => "PENDING",
            Self::Active => "ACTIVE",
            Self::Disabled => "DISABLED",
            Self::Superseded => "SUPERSEDED",
        }
    }

    /// Reads it back.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Compiling, Self::Failed, Self::Pending, Self::Active, Self::Disabled, Self::Superseded]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// A version of a plugin as the plugin host has to know it, for one realm.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The package.
    pub package: Arc<Package>,
    /// What the operator granted to this digest.
    pub grants: Arc<Grants>,
    /// The operator's configuration, a JSON object.
    pub config: crate::json::Json,
    /// Whether new runs use it.
    pub in_force: bool,
}
