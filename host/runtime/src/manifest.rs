//! `caisson-plugin.toml`: what a plugin says about itself. Read from the component, without running anything.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::AskedLimits;

/// The longest manifest that is read: schemas are its bulk, and the largest of ours has 5 KB.
pub const MANIFEST_BYTES_MAX: usize = 256 << 10;
/// Actions in one plugin.
pub const ACTIONS_MAX: usize = 256;
/// Ids that belong to the built-in plugins, so that nobody slips in a second `human.approval`.
pub const RESERVED_IDS: [&str; 7] = ["core", "agent", "human", "script", "http", "process", "caisson"];
/// The major version of `caisson:step` that this host speaks.
pub const WIT_MAJOR: u64 = 1;

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

/// A manifest that was read and checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The plugin's id: the first part of its actions' names.
    pub id: String,
    /// Its version.
    pub version: String,
    /// The version of `caisson:step` that it was built against.
    pub wit: String,
    /// What it is for.
    pub description: String,
    /// What it does, in the manifest's order.
    pub actions: Vec<ActionSpec>,
    /// What it asks for.
    pub capabilities: BTreeSet<Capability>,
    /// The limits that it asks for.
    pub limits: AskedLimits,
}

/// One action of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionSpec {
    /// Its name within the plugin.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of the operator's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<Value>,
    /// JSON Schema of its input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
    /// JSON Schema of its output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
}

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    id: String,
    version: String,
    wit: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    limits: AskedLimits,
    actions: Vec<ActionForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionForm {
    name: String,
    #[serde(default)]
    description: String,
    config: Option<toml::Value>,
    input: Option<toml::Value>,
    output: Option<toml::Value>,
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(Error(format!("the manifest has more than {MANIFEST_BYTES_MAX} bytes")));
        }
        let text = std::str::from_utf8(bytes).map_err(|e| Error(format!("the manifest is not UTF-8: {e}")))?;
        let form: Form =
            toml::from_str(text).map_err(|e| Error(format!("the manifest does not read: {}", e.message())))?;
        form.check()
    }
}

impl Form {
    fn check(self) -> Result<Manifest, Error> {
        let Self { id, version, wit, description, capabilities, limits, actions } = self;
        check_name("id", &id, '-')?;
        if version.is_empty() || version.len() > 64 || version.contains(char::is_whitespace) {
            return Err(Error(format!("'{version}' is no version")));
        }
        if wit.split('.').next().and_then(|major| major.parse().ok()) != Some(WIT_MAJOR) {
            return Err(Error(format!("wit {wit} is not spoken here: this host has caisson:step {WIT_MAJOR}.x")));
        }
        let capabilities = capabilities
            .iter()
            .filter(|name| *name != "log")
            .map(|name| {
                let known = Capability::ALL.map(Capability::as_str).join(", ");
                Capability::parse(name).ok_or_else(|| Error(format!("unknown capability '{name}': there are {known}")))
            })
            .collect::<Result<_, _>>()?;
        if actions.is_empty() || actions.len() > ACTIONS_MAX {
            return Err(Error(format!("a plugin has 1 to {ACTIONS_MAX} actions, not {}", actions.len())));
        }
        let mut names = BTreeSet::new();
        let actions = actions.into_iter().map(ActionForm::check).collect::<Result<Vec<_>, _>>()?;
        for action in &actions {
            if !names.insert(&action.name) {
                return Err(Error(format!("action '{}' is there twice", action.name)));
            }
        }
        Ok(Manifest { id, version, wit, description, actions, capabilities, limits })
    }
}

impl ActionForm {
    fn check(self) -> Result<ActionSpec, Error> {
        let Self { name, description, config, input, output } = self;
        check_name("action", &name, '_')?;
        let read = |what: &str, form: Option<toml::Value>| {
            form.map(|form| schema(form).map_err(|e| Error(format!("{what} schema of action '{name}': {e}"))))
                .transpose()
        };
        Ok(ActionSpec {
            config_schema: read("config", config)?,
            input_schema: read("input", input)?,
            output_schema: read("output", output)?,
            description,
            name,
        })
    }
}

/// A schema is JSON text, which keeps the order of its keys, or a TOML table.
fn schema(form: toml::Value) -> Result<Value, String> {
    let value = match form {
        toml::Value::String(text) => serde_json::from_str(&text).map_err(|e| e.to_string())?,
        other => serde_json::to_value(other).map_err(|e| e.to_string())?,
    };
    match value {
        Value::Object(_) | Value::Bool(_) => Ok(value),
        _ => Err("a JSON Schema is an object or a boolean".to_owned()),
    }
}

fn check_name(what: &str, name: &str, joint: char) -> Result<(), Error> {
    let ok = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == joint || c == '_');
    if ok {
        return Ok(());
    }
    Err(Error(format!("'{name}' is no {what}: lower-case letters, digits and '{joint}', up to 64, a letter first")))
}
