//! The hosts that work on this store.

use axum::Json as JsonBody;
use axum::extract::State;
use caisson_core::ports::HostRow;
use caisson_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Viewer;
use super::error::ApiError;
use super::{Api, AppState};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// The hosts of a store.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct HostList {
    /// Alive, or gone for less than a day; by id.
    pub hosts: Vec<HostView>,
}

/// One host.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostView {
    /// Names the process: new at every start.
    pub id: String,
    /// Names the machine.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// Steps that it may run at once.
    pub slots: u64,
    /// Steps that it runs; of another host, at its last beat.
    pub running: u64,
    /// Whether it takes no new work.
    pub draining: bool,
    /// When it started.
    pub started_at: String,
    /// When it was last heard of.
    pub seen_at: String,
    /// Until when it counts as alive; `null` for a host that is alone, which holds its store by a lock.
    pub lease_until: Option<String>,
    /// Whether it counts as alive now.
    pub alive: bool,
}

/// The hosts that work on this store: this one alone where the store serves one only. Role: viewer.
#[utoipa::path(get, path = "/hosts", tag = "hosts", responses((status = 200, body = HostList)))]
async fn list(_: Viewer, State(api): State<AppState>) -> Result<JsonBody<HostList>, ApiError> {
    let hosts = match &api.observe.cluster {
        Some(cluster) => {
            let now = api.now();
            cluster.hosts().await?.iter().map(|row| view(row, now)).collect()
        }
        None => vec![alone(&api)],
    };
    Ok(JsonBody(HostList { hosts }))
}

fn view(row: &HostRow, now: Timestamp) -> HostView {
    HostView {
        id: row.id.to_string(),
        name: row.name.to_string(),
        version: row.version.to_string(),
        slots: row.slots.into(),
        running: row.running.into(),
        draining: row.draining,
        started_at: row.started_at.to_string(),
        seen_at: row.seen_at.to_string(),
        lease_until: Some(row.lease_until.to_string()),
        alive: row.lease_until > now,
    }
}

/// A host that shares its store with nobody.
fn alone(api: &Api) -> HostView {
    let options = api.service.options();
    HostView {
        id: options.host.to_string(),
        name: options.name.to_string(),
        version: options.version.to_string(),
        slots: options.slots as u64,
        running: api.service.running() as u64,
        draining: api.stop.is_cancelled(),
        started_at: api.started_at.to_string(),
        seen_at: api.now().to_string(),
        lease_until: None,
        alive: true,
    }
}
