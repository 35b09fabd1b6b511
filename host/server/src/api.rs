//! The HTTP surface under `/api/v1`: one file per resource, one extractor per kind of input, one shape for every error.
//!
//! Deliberately absent: rules about runs (the service has them), sockets (see [`crate::serve`]), and other adapters than the ports.

#![allow(unused_qualifications, reason = "the macros of utoipa write paths in full")]

pub mod actions;
pub mod agents;
pub mod api_keys;
pub mod approvals;
pub mod artifacts;
pub mod auth;
pub mod dead;
mod definitions;
pub mod emitted;
pub mod environments;
pub mod error;
pub mod events;
mod extract;
pub mod health;
pub mod hosts;
mod layers;
pub mod logs;
mod metrics;
mod openapi;
mod paging;
pub mod plugin_changes;
pub mod plugin_invoke;
pub mod plugin_upload;
pub mod plugins;
pub mod runs;
pub mod sessions;
pub mod steps;
pub mod stream;
#[cfg(test)]
pub(crate) mod tests;
pub mod tool_servers;
pub mod values;
pub mod versions;
pub mod wire;
pub mod workflows;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use caisson_core::definition::Schemas;
use caisson_core::ids::Realm;
use caisson_core::json::Json;
use caisson_core::ports::{Entry, Invocation, Journal, Resources, Store, Tools};
use caisson_core::time::Timestamp;
use caisson_orchestrator::{Plugins, Service};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

pub use definitions::{Known, validate_with};

use crate::observe::Observe;
use crate::sync::FileText;
use auth::Keys;
use error::ApiError;

/// Where the surface begins.
pub const PREFIX: &str = "/api/v1";

/// What an environment offers beside its plugins, for checks of definitions.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// A realm's agents by name: what each takes and gives.
    fn agents(&self, realm: &Realm) -> BTreeMap<String, Schemas>;
    /// Takes in what was registered since it was last asked.
    async fn refresh(&self);
    /// The realm's files as this host has them; `None` if it has no directory for it.
    async fn files(&self, realm: &Realm) -> Option<Vec<FileText>>;
}

/// Runs an action that is tried outside of any run.
#[async_trait]
pub trait Trials: Send + Sync {
    /// Runs it with that configuration, or with the installed one.
    async fn try_action(&self, invocation: Invocation, config: Option<Json>) -> Entry;
}

/// Where files lie.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Uploads on their way in.
    pub uploads: PathBuf,
    /// What steps made.
    pub artifacts: PathBuf,
    /// Where plugins may be taken from by a path.
    pub plugin_dirs: Vec<PathBuf>,
}

/// What the surface is made of.
pub struct Parts {
    /// The one door.
    pub service: Service,
    /// What handles plugins.
    pub plugins: Plugins,
    /// Where files and business events are recorded.
    pub journal: Arc<dyn Journal>,
    /// Agents, tool servers and schemas.
    pub resources: Arc<dyn Resources>,
    /// What there is to use.
    pub catalog: Arc<dyn Catalog>,
    /// What tries actions.
    pub trials: Arc<dyn Trials>,
    /// The tool servers of this host.
    pub tools: Arc<dyn Tools>,
    /// Where files lie.
    pub files: Files,
    /// What is seen of the host from outside.
    pub observe: Observe,
    /// Cancelled when the host begins to stop.
    pub stop: CancellationToken,
}

/// What the handlers work with.
pub struct Api {
    /// The one door.
    pub service: Service,
    /// Who may come in.
    pub keys: Keys,
    /// What handles plugins.
    pub plugins: Plugins,
    /// Where files and business events are recorded.
    pub journal: Arc<dyn Journal>,
    /// Agents, tool servers and schemas.
    pub resources: Arc<dyn Resources>,
    /// What there is to use.
    pub catalog: Arc<dyn Catalog>,
    /// What tries actions.
    pub trials: Arc<dyn Trials>,
    /// The tool servers of this host.
    pub tools: Arc<dyn Tools>,
    /// Bounds how many are tried at once.
    pub trial_turns: Semaphore,
    /// Where files lie.
    pub files: Files,
    /// What is seen of the host from outside.
    pub observe: Observe,
    /// When the host started.
    pub started_at: Timestamp,
    /// Cancelled when the host begins to stop.
    pub stop: CancellationToken,
}

/// Shared by all handlers.
pub type AppState = Arc<Api>;

impl Api {
    /// Out of its parts.
    pub fn new(parts: Parts) -> AppState {
        let Parts { service, plugins, journal, resources, catalog, trials, tools, files, observe, stop } = parts;
        let ports = service.ports();
        let started_at = ports.clock.now();
        let keys = Keys::new(ports.store.clone(), ports.clock.clone());
        let trial_turns = Semaphore::new(plugin_invoke::CALLS_AT_ONCE_MAX);
        Arc::new(Self {
            service,
            keys,
            plugins,
            journal,
            resources,
            catalog,
            trials,
            tools,
            trial_turns,
            files,
            observe,
            started_at,
            stop,
        })
    }

    /// Where things are read.
    pub fn store(&self) -> &dyn Store {
        &*self.service.ports().store
    }

    /// The host's time.
    pub fn now(&self) -> Timestamp {
        self.service.ports().clock.now()
    }
}

/// All routes and their description.
fn described() -> OpenApiRouter<AppState> {
    let resources = OpenApiRouter::new()
        .merge(workflows::router())
        .merge(versions::router())
        .merge(runs::router())
        .merge(actions::router())
        .merge(steps::router())
        .merge(events::router())
        .merge(logs::router())
        .merge(stream::router())
        .merge(approvals::router())
        .merge(dead::router())
        .merge(plugins::router())
        .merge(plugin_upload::router())
        .merge(plugin_changes::router())
        .merge(plugin_invoke::router())
        .merge(artifacts::router())
        .merge(emitted::router())
        .merge(sessions::router())
        .merge(agents::router())
        .merge(environments::router())
        .merge(tool_servers::router())
        .merge(api_keys::router())
        .merge(hosts::router())
        .merge(health::router())
        .merge(openapi::router());
    OpenApiRouter::with_openapi(openapi::base())
        .merge(health::router())
        .merge(metrics::router())
        .nest(PREFIX, resources)
}

/// The description of all routes as JSON.
pub fn description() -> utoipa::openapi::OpenApi {
    openapi::finish(described().into_openapi())
}

/// The whole surface.
pub fn router(api: AppState) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .route("/", get(root))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(api.observe.metrics.clone(), layers::guard))
        .with_state(api)
}

async fn root() -> &'static str {
    "Caisson. The API is at /api/v1, its description at /api/v1/openapi.json.\n"
}

async fn no_route(uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", format!("there is nothing at {}", uri.path()))
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        format!("{method} is not possible at {}", uri.path()),
    )
}
