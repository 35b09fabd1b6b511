use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use caisson_core::ports::LogSink;

use crate::limits::Limits;
use crate::logbook::NoLog;
use crate::manifest::Capability;
use crate::model::Models;

/// Instances at once by default. Each is a reservation of address space (some 4 GiB), not of memory; a pool of this size takes 1 TiB
/// of the 128 that a process has, and no small host runs more guests at once to any use.
pub const SLOTS_DEFAULT: u32 = 256;

/// How the runtime is set up.
#[derive(Clone)]
pub struct RuntimeConfig {
    /// Where compiled code is kept; `None` compiles anew at every start.
    pub cache_dir: Option<PathBuf>,
    /// Instances at once: the size of the pool. An entry beyond it waits for a free one.
    pub slots: u32,
    /// Whether to try a pool at all.
    pub pooled: bool,
    /// Threads that guests run on.
    pub guest_threads: usize,
    /// What an entry may use when its manifest asks for nothing else.
    pub limits: Limits,
    /// What a manifest may ask for.
    pub limits_max: Limits,
    /// What third-party plugins may use of what they ask for. Built-in plugins may use what they ask for.
    pub grants: Grants,
    /// The operator's configuration of plugins, by id.
    pub plugin_config: BTreeMap<String, serde_json::Value>,
    /// Models and agents.
    pub models: Arc<Models>,
    /// Takes log lines as they are written.
    pub log_sink: Arc<dyn LogSink>,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            cache_dir: None,
            slots: SLOTS_DEFAULT,
            pooled: true,
            guest_threads: std::thread::available_parallelism().map_or(1, usize::from),
            limits: Limits::default(),
            limits_max: Limits::generous(),
            grants: Grants::default(),
            plugin_config: BTreeMap::new(),
            models: Arc::new(Models::new()),
            log_sink: Arc::new(NoLog),
        }
    }
}

/// Capabilities by plugin id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(BTreeMap<String, BTreeSet<Capability>>);

/// A grant that does not read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no grant: write PLUGIN:CAPABILITY, for example mail:http")]
pub struct GrantError(String);

impl Grants {
    /// Reads grants as `PLUGIN:CAPABILITY`.
    pub fn parse<'a>(grants: impl IntoIterator<Item = &'a str>) -> Result<Self, GrantError> {
        let mut all = Self::default();
        for grant in grants {
            let read = grant.split_once(':').and_then(|(plugin, name)| Some((plugin, Capability::parse(name)?)));
            let (plugin, capability) = read.ok_or_else(|| GrantError(grant.to_owned()))?;
            all.add(plugin, capability);
        }
        Ok(all)
    }

    /// Adds one.
    pub fn add(&mut self, plugin: impl Into<String>, capability: Capability) {
        self.0.entry(plugin.into()).or_default().insert(capability);
    }

    /// Whether a plugin has a capability.
    pub fn has(&self, plugin: &str, capability: Capability) -> bool {
        self.0.get(plugin).is_some_and(|granted| granted.contains(&capability))
    }
}
