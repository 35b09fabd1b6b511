//! What a store holds: everything of the host that one entry can touch, and nothing of any other entry.

use std::path::PathBuf;
use std::sync::Arc;

use caisson_core::error::Failure;
use caisson_core::ids::{Realm, RunId, StepId};
use caisson_core::plugin::Effective;
use caisson_core::ports::{CallSink, Journal, LogSink, Secrets, Tools};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::WasiCtx;

use crate::assets::Assets;
use crate::clock::VirtualClock;
use crate::config::RuntimeConfig;
use crate::journal::Cursor;
use crate::limiter::Limiter;
use crate::limits::Limits;
use crate::logbook::LogBook;
use crate::model::{Models, Tokens};
use crate::net::{Clients, Resolver};
use crate::random::Random;
use crate::redact::Redactor;
use crate::sessions::Sessions;

pub(crate) struct State {
    /// Made when it is asked for: most entries never do.
    pub(crate) wasi: Option<WasiCtx>,
    pub(crate) handles: ResourceTable,
    pub(crate) limiter: Limiter,
    pub(crate) limits: Limits,
    pub(crate) log: Arc<LogBook>,
    /// Calls so far; see `State::count`.
    pub(crate) host_calls: u64,
    pub(crate) random: Random,
    pub(crate) clock: Arc<VirtualClock>,
    /// What it may do, and whose package it is.
    pub(crate) effective: Arc<Effective>,
    pub(crate) cursor: Cursor,
    pub(crate) redactor: Arc<Redactor>,
    pub(crate) quota: Quota,
    /// What the agents may call that this entry has opened; `None` until it opens one.
    pub(crate) agent_tools: Option<Vec<String>>,
    /// Of the agents that the entry opened.
    pub(crate) sessions: Sessions,
    /// What models took.
    pub(crate) tokens: Tokens,
    /// What the step keeps beside its result.
    pub(crate) warnings: Vec<Failure>,
    pub(crate) assets: Arc<Assets>,
    pub(crate) realm: Realm,
    pub(crate) workflow: Arc<str>,
    pub(crate) run: RunId,
    pub(crate) step: StepId,
    pub(crate) traceparent: Option<Arc<str>>,
    pub(crate) shared: Arc<Shared>,
}

impl State {
    /// The id of the plugin whose package this is.
    pub(crate) fn plugin(&self) -> &str {
        &self.effective.package().id
    }
}

/// What this entry has used of its quotas. Counted before a call is looked up in the journal, so that an entry that is
/// run again counts alike.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    /// Requests, redirects not counted.
    pub(crate) http_requests: u64,
    /// Secrets that were read.
    pub(crate) secret_reads: u64,
    /// Business events.
    pub(crate) events: u64,
    /// Calls of a model.
    pub(crate) model_calls: u64,
    /// Calls of a tool.
    pub(crate) tool_calls: u64,
    /// Files that were put.
    pub(crate) artifact_files: u64,
    /// Their bytes.
    pub(crate) artifact_bytes: u64,
}

/// What all entries share of the runtime.
pub(crate) struct Shared {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) models: Arc<Models>,
    pub(crate) tools: Arc<dyn Tools>,
    pub(crate) secrets: Arc<dyn Secrets>,
    pub(crate) artifacts_dir: Option<PathBuf>,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) http: Clients,
    pub(crate) log_sink: Arc<dyn LogSink>,
    pub(crate) call_sink: Option<Arc<dyn CallSink>>,
    pub(crate) random_key: [u8; 32],
}

impl Shared {
    pub(crate) fn new(config: &RuntimeConfig) -> Self {
        Self {
            journal: Arc::clone(&config.journal),
            models: Arc::clone(&config.models),
            tools: Arc::clone(&config.tools),
            secrets: Arc::clone(&config.secrets),
            artifacts_dir: config.artifacts_dir.clone(),
            resolver: Arc::clone(&config.resolver),
            http: Clients::new(config.transport.clone()),
            log_sink: Arc::clone(&config.log_sink),
            call_sink: config.call_sink.clone(),
            random_key: config.random_key,
        }
    }
}
