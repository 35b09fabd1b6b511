//! The host's numbers, for Prometheus. Asked without a key, as Prometheus usually does.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use crate::observe::metrics::Reading;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// What this host counts, in Prometheus' text format. No key needed.
#[utoipa::path(
    get, path = "/metrics", tag = "health", security(()),
    responses((status = 200, description = "The numbers.", body = String, content_type = "text/plain"))
)]
async fn metrics(State(api): State<AppState>) -> impl IntoResponse {
    let own = vec![
        Reading::gauge("caisson_steps_running", "Steps that run in this process.", api.service.running() as u64),
        Reading::gauge("caisson_steps_slots", "Steps that may run at once.", api.service.options().slots as u64),
    ];
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.observe.metrics.text(own))
}
