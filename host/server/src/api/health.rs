//! Whether the host lives, and whether it takes work. Asked without a key.

use std::time::Duration;

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Api, AppState};

/// A store that does not answer within this is not ready: probes usually wait for one to five seconds.
const PING_TIME_MAX: Duration = Duration::from_secs(1);

/// What a part that works says.
const OK: &str = "ok";

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz))
}

/// How the host is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, or what is in the way.
    pub status: String,
    /// The program's version.
    pub version: String,
}

/// Whether the host takes work, by its parts.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// `ok`, or what is in the way of the first part that does not work.
    pub status: String,
    /// The program's version.
    pub version: String,
    /// The host itself, its store, then whatever else it needs.
    pub parts: Vec<Part>,
}

/// One part of a host.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Part {
    /// `host`, `store`, `queue`.
    pub name: String,
    /// `ok`, or what is in the way.
    pub status: String,
}

/// Whether the host lives. No key needed.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), responses((status = 200, body = Health)))]
async fn healthz() -> JsonBody<Health> {
    JsonBody(Health { status: OK.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
}

/// Whether the host takes work. No key needed.
#[utoipa::path(
    get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, body = Readiness), (status = 503, description = "Not now.", body = Readiness))
)]
async fn readyz(State(api): State<AppState>) -> Response {
    let mut parts = vec![part("host", host(&api)), part("store", store(&api).await)];
    parts.extend(api.observe.probes.iter().map(|probe| part(probe.name(), probe.problem())));
    let problem = parts.iter().find(|part| part.status != OK).map(|part| part.status.clone());
    let code = if problem.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let status = problem.unwrap_or_else(|| OK.to_owned());
    (code, JsonBody(Readiness { status, version: env!("CARGO_PKG_VERSION").to_owned(), parts })).into_response()
}

fn part(name: &str, problem: Option<String>) -> Part {
    Part { name: name.to_owned(), status: problem.unwrap_or_else(|| OK.to_owned()) }
}

fn host(api: &Api) -> Option<String> {
    if api.stop.is_cancelled() {
        Some("shutting down".to_owned())
    } else if !api.service.is_ready() {
        Some("starting".to_owned())
    } else {
        None
    }
}

/// The reason is for the log: an error's text may name addresses, and nobody needs a key to ask.
async fn store(api: &Api) -> Option<String> {
    match tokio::time::timeout(PING_TIME_MAX, api.store().ping()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the store does not work");
            Some("store failed".to_owned())
        }
        Err(_) => Some("store does not answer".to_owned()),
    }
}
