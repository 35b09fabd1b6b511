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

use super::AppState;

/// A store that does not answer within this is not ready: probes usually wait for one to five seconds.
const PING_TIME_MAX: Duration = Duration::from_secs(1);

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

/// Whether the host lives. No key needed.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), responses((status = 200, body = Health)))]
async fn healthz() -> JsonBody<Health> {
    JsonBody(health("ok"))
}

/// Whether the host takes work. No key needed.
#[utoipa::path(
    get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, body = Health), (status = 503, description = "Not now.", body = Health))
)]
async fn readyz(State(api): State<AppState>) -> Response {
    let problem = if api.stop.is_cancelled() {
        Some("shutting down")
    } else if !api.service.is_ready() {
        Some("starting")
    } else {
        match tokio::time::timeout(PING_TIME_MAX, api.store().ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some("store failed"),
            Err(_) => Some("store does not answer"),
        }
    };
    match problem {
        None => JsonBody(health("ok")).into_response(),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, JsonBody(health(problem))).into_response(),
    }
}

fn health(status: &str) -> Health {
    Health { status: status.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
}
