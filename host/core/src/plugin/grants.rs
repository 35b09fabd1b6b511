//! One shape for what a manifest asks for, an operator grants and a workflow narrows to.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Capability;
use super::host::{HostPattern, Network};

/// Capabilities, each with its restrictions. A capability that is absent is not asked for, not granted, or narrowed away; a restriction that is
/// absent restricts nothing from this side.
///
/// Read from an object (`{"http": {"hosts": ["api.example.com"]}, "kv": {}}`) or, for short, from a list of texts: `"kv"`,
/// `"http:api.example.com"`, `"secrets:TOKEN"`, `"events:order.paid"`, `"model:triager"`, `"tools:git.log"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Grants {
    /// Outgoing HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpGrant>,
    /// Named secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SecretsGrant>,
    /// Small state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv: Option<KvGrant>,
    /// A human's decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<NoGrant>,
    /// Business events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<EventsGrant>,
    /// Files of the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<ArtifactsGrant>,
    /// Language models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelGrant>,
    /// Connected tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<ToolsGrant>,
}

/// Restrictions of outgoing HTTP. Numbers are per entry of a step; the plugin host has defaults for those that are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpGrant {
    /// Hosts and ports; absent means every public host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<HostPattern>>,
    /// Methods, in upper case; absent means every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// Private ranges that names may resolve to. Only an operator's counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private: Vec<Network>,
    /// Requests, redirects not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u64>,
    /// Bytes of one request's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_request_bytes: Option<u64>,
    /// Bytes of one response's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_response_bytes: Option<u64>,
    /// Time of one request with its redirects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Restrictions of secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretsGrant {
    /// Secrets that the guest may read. In a manifest, absent means none: each has to be asked for by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// Secrets that the host fills in, so that the guest never sees them. In a manifest, absent means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject: Option<Vec<InjectGrant>>,
}

/// A secret that is filled in where `{{secret:NAME}}` stands in a header's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InjectGrant {
    /// The secret's name.
    pub secret: String,
    /// Headers, in any case; absent means `authorization`.
    #[serde(default = "authorization")]
    pub headers: Vec<String>,
    /// Hosts and ports.
    pub hosts: Vec<HostPattern>,
}

fn authorization() -> Vec<String> {
    vec!["authorization".to_owned()]
}

/// Quota of the small state that a plugin keeps per workflow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KvGrant {
    /// Keys at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_keys: Option<u64>,
    /// Bytes of keys and values at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

/// Quota of files per step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArtifactsGrant {
    /// Files at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_files: Option<u64>,
    /// Bytes at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

/// Restrictions of business events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventsGrant {
    /// Names; one that ends in `*` means every name that begins so. Absent means every name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// Events per entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_events: Option<u64>,
}

/// Restrictions of language models.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelGrant {
    /// Agents whose models may be called; absent means every agent of the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<Vec<String>>,
    /// Calls per entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_calls: Option<u64>,
}

/// Restrictions of connected tools. Numbers are per entry of a step or per call; the plugin host has defaults for those that are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolsGrant {
    /// `SERVER.TOOL`, or `SERVER.*` for all of a server; absent means every tool of the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// Calls per entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_calls: Option<u64>,
    /// Bytes of one result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_result_bytes: Option<u64>,
    /// Time of one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Whether a pattern means a tool: `SERVER.TOOL` itself, `SERVER.*` all of a server, `*` every tool.
pub fn means_tool(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(server) => server.ends_with('.') && name.starts_with(server),
        None => pattern == name,
    }
}

/// A capability without restrictions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoGrant {}

/// Grants that do not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GrantError(pub String);

impl Grants {
    /// Reads the object or the list.
    pub fn parse(value: &Value) -> Result<Self, GrantError> {
        match value {
            Value::Null => Ok(Self::default()),
            Value::Object(map) => Self::of_object(map),
            Value::Array(items) => {
                let mut grants = Self::default();
                for item in items {
                    let text = item
                        .as_str()
                        .ok_or_else(|| GrantError(format!("{item} is no grant: write a text, for example \"kv\"")))?;
                    grants.add(text)?;
                }
                Ok(grants)
            }
            other => Err(GrantError(format!(
                "{other} are no grants: write a list like [\"kv\", \"http:api.example.com\"], or an object by capability"
            ))),
        }
    }

    fn of_object(map: &Map<String, Value>) -> Result<Self, GrantError> {
        fn read<T: for<'de> Deserialize<'de> + Default>(name: &str, value: &Value) -> Result<Option<T>, GrantError> {
            match value {
                Value::Bool(true) => Ok(Some(T::default())),
                Value::Bool(false) | Value::Null => Ok(None),
                // A derived reader would take a list for the fields in order, and an empty one for "no restrictions".
                Value::Array(_) => Err(GrantError(format!(
                    "{name}: write an object with its restrictions, or true for none of them, not a list"
                ))),
                value => T::deserialize(value).map(Some).map_err(|e| GrantError(format!("{name}: {e}"))),
            }
        }
        let mut grants = Self::default();
        for (name, value) in map {
            match Capability::parse(name) {
                Some(Capability::Http) => grants.http = read(name, value)?,
                Some(Capability::Secrets) => grants.secrets = read(name, value)?,
                Some(Capability::Kv) => grants.kv = read(name, value)?,
                Some(Capability::Approval) => grants.approval = read(name, value)?,
                Some(Capability::Events) => grants.events = read(name, value)?,
                Some(Capability::Artifacts) => grants.artifacts = read(name, value)?,
                Some(Capability::Model) => grants.model = read(name, value)?,
                Some(Capability::Tools) => grants.tools = read(name, value)?,
                None if name == "log" => {}
                None => return Err(unknown(name)),
            }
        }
        Ok(grants)
    }

    /// Adds one in its short form.
    pub fn add(&mut self, text: &str) -> Result<(), GrantError> {
        let (name, what) = text.split_once(':').map_or((text, None), |(name, what)| (name, Some(what)));
        let without = |what: Option<&str>| match what {
            None => Ok(()),
            Some(what) => Err(GrantError(format!("'{text}': {name} takes nothing after the colon, not '{what}'"))),
        };
        match Capability::parse(name) {
            Some(Capability::Http) => {
                let http = self.http.get_or_insert_default();
                if let Some(host) = what {
                    http.hosts.get_or_insert_default().push(host.parse().map_err(GrantError)?);
                }
            }
            Some(Capability::Secrets) => extend(&mut self.secrets.get_or_insert_default().names, what),
            Some(Capability::Events) => extend(&mut self.events.get_or_insert_default().names, what),
            Some(Capability::Model) => extend(&mut self.model.get_or_insert_default().agents, what),
            Some(Capability::Tools) => extend(&mut self.tools.get_or_insert_default().names, what),
            Some(Capability::Kv) => {
                without(what)?;
                self.kv.get_or_insert_default();
            }
            Some(Capability::Artifacts) => {
                without(what)?;
                self.artifacts.get_or_insert_default();
            }
            Some(Capability::Approval) => {
                without(what)?;
                self.approval.get_or_insert_default();
            }
            None if name == "log" => without(what)?,
            None => return Err(unknown(name)),
        }
        Ok(())
    }

    /// Whether the capability is there, with whatever restrictions.
    pub fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::Http => self.http.is_some(),
            Capability::Secrets => self.secrets.is_some(),
            Capability::Kv => self.kv.is_some(),
            Capability::Approval => self.approval.is_some(),
            Capability::Events => self.events.is_some(),
            Capability::Artifacts => self.artifacts.is_some(),
            Capability::Model => self.model.is_some(),
            Capability::Tools => self.tools.is_some(),
        }
    }

    /// The capabilities that are there.
    pub fn capabilities(&self) -> Vec<Capability> {
        Capability::ALL.into_iter().filter(|capability| self.has(*capability)).collect()
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A line for each thing that is there, in an order of its own: for people, and to compare.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut add = |line: String| lines.push(line);
        fn list<T: fmt::Display>(add: &mut impl FnMut(String), name: &str, all: &str, items: Option<&[T]>) {
            match items {
                None => add(format!("{name}:{all}")),
                Some(items) => items.iter().for_each(|item| add(format!("{name}:{item}"))),
            }
        }
        fn number(add: &mut impl FnMut(String), name: &str, value: Option<u64>) {
            if let Some(value) = value {
                add(format!("{name} = {value}"));
            }
        }
        if let Some(http) = &self.http {
            list(&mut add, "http", "*", http.hosts.as_deref());
            if let Some(methods) = &http.methods {
                add(format!("http.methods = {}", methods.join(", ")));
            }
            http.private.iter().for_each(|range| add(format!("http.private = {range}")));
            number(&mut add, "http.maxRequests", http.max_requests);
            number(&mut add, "http.maxRequestBytes", http.max_request_bytes);
            number(&mut add, "http.maxResponseBytes", http.max_response_bytes);
            number(&mut add, "http.timeoutMs", http.timeout_ms);
        }
        if let Some(secrets) = &self.secrets {
            if secrets.names.is_some() || secrets.inject.is_none() {
                list(&mut add, "secrets", "(as asked)", secrets.names.as_deref());
            }
            for inject in secrets.inject.iter().flatten() {
                let hosts: Vec<String> = inject.hosts.iter().map(ToString::to_string).collect();
                add(format!(
                    "secrets.inject {} into {} for {}",
                    inject.secret,
                    inject.headers.join(", "),
                    hosts.join(", ")
                ));
            }
        }
        if let Some(kv) = &self.kv {
            add("kv".to_owned());
            number(&mut add, "kv.maxKeys", kv.max_keys);
            number(&mut add, "kv.maxBytes", kv.max_bytes);
        }
        if self.approval.is_some() {
            add("approval".to_owned());
        }
        if let Some(events) = &self.events {
            list(&mut add, "events", "*", events.names.as_deref());
            number(&mut add, "events.maxEvents", events.max_events);
        }
        if let Some(artifacts) = &self.artifacts {
            add("artifacts".to_owned());
            number(&mut add, "artifacts.maxFiles", artifacts.max_files);
            number(&mut add, "artifacts.maxBytes", artifacts.max_bytes);
        }
        if let Some(model) = &self.model {
            list(&mut add, "model", "*", model.agents.as_deref());
            number(&mut add, "model.maxCalls", model.max_calls);
        }
        if let Some(tools) = &self.tools {
            list(&mut add, "tools", "*", tools.names.as_deref());
            number(&mut add, "tools.maxCalls", tools.max_calls);
            number(&mut add, "tools.maxResultBytes", tools.max_result_bytes);
            number(&mut add, "tools.timeoutMs", tools.timeout_ms);
        }
        lines
    }
}

impl<'de> Deserialize<'de> for Grants {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::parse(&value).map_err(serde::de::Error::custom)
    }
}

fn extend(names: &mut Option<Vec<String>>, name: Option<&str>) {
    if let Some(name) = name {
        names.get_or_insert_default().push(name.to_owned());
    }
}

fn unknown(name: &str) -> GrantError {
    let known = Capability::ALL.map(Capability::as_str);
    let near =
        crate::definition::nearest(name, known).map_or_else(String::new, |near| format!(" (did you mean '{near}'?)"));
    GrantError(format!("unknown capability '{name}'{near}: there are {}", known.join(", ")))
}
