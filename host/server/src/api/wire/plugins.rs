//! Plugins, and what they leave behind: files and business events.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Any;

/// A plugin with the version in force, or the newest when none is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plugin {
    /// Its id: the first part of its actions' names.
    pub id: String,
    /// Its version, as its author labelled it.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: String,
    /// The interface it was built against, as `1.0.0`.
    pub wit: String,
    /// What it is for.
    pub description: String,
    /// What runs it: `component` (its own code) or `javascript` (the built-in engine).
    pub engine: String,
    /// Length of the component.
    pub size_bytes: u64,
    /// What can be called.
    pub actions: Vec<PluginAction>,
    /// The interfaces that the binary imports.
    pub imports: Vec<String>,
    /// The capabilities that the manifest asks for, with their restrictions.
    pub capabilities: Any,
    /// What an operator says yes to, a line each: capabilities and limits.
    pub permissions: Vec<String>,
    /// The limits that it asks for.
    pub limits: Any,
    /// What the operator granted to this digest, in the shape of `capabilities`.
    pub grants: Any,
    /// The operator's configuration.
    pub config: Any,
    /// Whether new runs use it.
    pub enabled: bool,
    /// Whether it is part of the program.
    #[serde(default)]
    pub built_in: bool,
    /// COMPILING, FAILED, PENDING (waits for an operator's yes), ACTIVE, DISABLED or SUPERSEDED.
    pub status: String,
    /// How far its code is: `{"state": "unused" | "queued" | "running" | "ready" | "failed"}`, with `sinceMs` or `message`.
    pub compilation: Any,
    /// Why it failed.
    pub error: Option<String>,
    /// Where it came from: `upload`, `built-in`, or a path.
    pub source: String,
    /// Who installed it.
    pub installed_by: String,
    /// When.
    pub installed_at: Option<String>,
    /// Who put it in force, switched it off, or set its grants, last.
    pub decided_by: Option<String>,
    /// When.
    pub decided_at: Option<String>,
    /// How it asks for other things than the version in force; only while it waits for a yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission_diff: Option<PermissionDiff>,
    /// The newest version that waits for a yes, beside the one in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingVersion>,
    /// Every version, newest first; empty in lists.
    #[serde(default)]
    pub versions: Vec<PluginVersion>,
    /// Open runs that have pinned this digest, newest first, 20 at most; only in the answer to a single GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Vec<String>>,
}

/// A callable operation of a plugin.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginAction {
    /// Its name within the plugin.
    pub name: String,
    /// What it does.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of the operator's configuration.
    pub config_schema: Option<Any>,
    /// JSON Schema of what it takes.
    pub input_schema: Option<Any>,
    /// JSON Schema of what it gives.
    pub output_schema: Option<Any>,
}

/// One installed version.
#[allow(clippy::struct_field_names, reason = "the name on the wire is fixed")]
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginVersion {
    /// Its author's label.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: String,
    /// How it stands.
    pub status: String,
    /// Length of the component.
    pub size_bytes: u64,
    /// Where it came from.
    pub source: String,
    /// Who installed it.
    pub installed_by: String,
    /// When.
    pub installed_at: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A version that waits for an operator's yes.
#[allow(clippy::struct_field_names, reason = "the name on the wire is fixed")]
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingVersion {
    /// Its author's label.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: String,
    /// How it asks for other things than the version in force.
    pub permission_diff: PermissionDiff,
}

/// How one version asks for other things than another.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct PermissionDiff {
    /// Lines that are new.
    pub added: Vec<String>,
    /// Lines that are gone.
    pub removed: Vec<String>,
    /// Lines that stay.
    pub kept: Vec<String>,
}

impl From<caisson_core::plugin::PermissionDiff> for PermissionDiff {
    fn from(diff: caisson_core::plugin::PermissionDiff) -> Self {
        Self { added: diff.added, removed: diff.removed, kept: diff.kept }
    }
}

/// A file that a step made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Its id.
    pub id: String,
    /// The run it belongs to.
    pub run_id: String,
    /// The step that made it.
    pub step_id: Option<String>,
    /// The agent session that made it.
    pub session_id: Option<String>,
    /// The comment that it is attached to.
    pub comment_id: Option<String>,
    /// The plugin that made it.
    pub plugin: Option<String>,
    /// Its name within the step.
    pub name: String,
    /// What it is: `file`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its media type, as the plugin gave it.
    pub mime_type: String,
    /// Its length.
    pub size_bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Where it lies, below the host's directory of artifacts.
    pub path: String,
    /// More about it.
    pub metadata: Any,
    /// When it was made.
    pub created_at: String,
}

/// A business event that a plugin emitted.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BusinessEvent {
    /// Its id: the same when a step is run again after a crash.
    pub id: String,
    /// The environment.
    pub environment: String,
    /// The run it came from.
    pub run_id: String,
    /// The step it came from.
    pub step_id: String,
    /// The plugin it came from.
    pub plugin: String,
    /// Its name.
    pub name: String,
    /// What it is about.
    pub correlation_key: Option<String>,
    /// What it says.
    pub payload: Any,
    /// When.
    pub at: String,
}
