//! What moves a run from outside: pause, resume, cancel, signals.

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::StatusCode;
use caisson_core::ids::RunId;
use caisson_core::json::Json;
use caisson_orchestrator::SendSignal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::AppState;
use super::auth::Operator;
use super::error::ApiError;
use super::extract::{Body, MaybeBody, Params};
use super::runs::{self, RunAnswer};
use super::wire::Any;

/// The longest name, key, id or reason: what goes into an index or on one line.
const TEXT_BYTES_MAX: usize = 1024;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(pause)).routes(routes!(resume)).routes(routes!(cancel)).routes(routes!(signal))
}

/// Nothing.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Empty {}

/// Why a run is cancelled.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CancelBody {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A signal to deliver.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignalBody {
    /// Its name.
    pub name: String,
    /// Which of several like it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_key: Option<String>,
    /// Its data; `null` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Any>,
    /// Unique: the same id again is accepted and changes nothing. Made when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A signal that was taken in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SignalAnswer {
    /// The signal.
    pub signal: AcceptedSignal,
}

/// What is known of a signal.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedSignal {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Which of several like it.
    pub correlation_key: Option<String>,
}

/// Pauses a run: results are recorded, nothing new starts. Role: operator.
#[utoipa::path(
    post, path = "/workflow-runs/{id}/pause", tag = "runs", params(("id" = String, Path, description = "The run.")),
    responses((status = 200, body = RunAnswer))
)]
async fn pause(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params(id): Params<String>,
    MaybeBody(Empty {}): MaybeBody<Empty>,
) -> Result<JsonBody<RunAnswer>, ApiError> {
    let row = api.service.pause(&caller.tenant, &RunId::new(id), caller.actor.clone()).await?;
    Ok(JsonBody(RunAnswer { run: runs::full(&api, &row).await? }))
}

/// Lets a paused run go on. Role: operator.
#[utoipa::path(
    post, path = "/workflow-runs/{id}/resume", tag = "runs", params(("id" = String, Path, description = "The run.")),
    responses((status = 200, body = RunAnswer))
)]
async fn resume(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params(id): Params<String>,
    MaybeBody(Empty {}): MaybeBody<Empty>,
) -> Result<JsonBody<RunAnswer>, ApiError> {
    let row = api.service.resume(&caller.tenant, &RunId::new(id), caller.actor.clone()).await?;
    Ok(JsonBody(RunAnswer { run: runs::full(&api, &row).await? }))
}

/// Ends a run, what is open in it, and its children. Role: operator.
#[utoipa::path(
    post, path = "/workflow-runs/{id}/cancel", tag = "runs", request_body = Option<CancelBody>,
    params(("id" = String, Path, description = "The run.")), responses((status = 200, body = RunAnswer))
)]
async fn cancel(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params(id): Params<String>,
    MaybeBody(body): MaybeBody<CancelBody>,
) -> Result<JsonBody<RunAnswer>, ApiError> {
    check_length("reason", body.reason.as_deref())?;
    let row = api.service.cancel(&caller.tenant, &RunId::new(id), caller.actor.clone(), body.reason).await?;
    Ok(JsonBody(RunAnswer { run: runs::full(&api, &row).await? }))
}

/// Delivers a signal. It is kept until something waits for it. Role: operator.
#[utoipa::path(
    post, path = "/workflow-runs/{id}/signals", tag = "runs", request_body = SignalBody,
    params(("id" = String, Path, description = "The run.")), responses((status = 202, body = SignalAnswer))
)]
async fn signal(
    Operator(caller): Operator,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Body(body): Body<SignalBody>,
) -> Result<(StatusCode, JsonBody<SignalAnswer>), ApiError> {
    if body.name.is_empty() {
        return Err(ApiError::invalid("SIGNAL_WITHOUT_NAME", "a signal needs a name"));
    }
    check_length("name", Some(&body.name))?;
    check_length("correlationKey", body.correlation_key.as_deref())?;
    check_length("id", body.id.as_deref())?;
    let accepted = AcceptedSignal {
        id: body.id.unwrap_or_else(|| Uuid::now_v7().to_string()),
        name: body.name,
        correlation_key: body.correlation_key,
    };
    let signal = SendSignal {
        id: Some(accepted.id.clone()),
        name: accepted.name.clone(),
        correlation: accepted.correlation_key.clone(),
        payload: body.payload.map_or_else(Json::null, |Any(json)| json),
    };
    api.service.signal(&caller.tenant, &RunId::new(id), signal, caller.actor.clone()).await?;
    Ok((StatusCode::ACCEPTED, JsonBody(SignalAnswer { signal: accepted })))
}

/// Refuses text that is too long for its place.
pub fn check_length(field: &str, text: Option<&str>) -> Result<(), ApiError> {
    match text {
        Some(text) if text.len() > TEXT_BYTES_MAX => {
            Err(ApiError::invalid("TEXT_TOO_LONG", format!("{field} is longer than {TEXT_BYTES_MAX} bytes")))
        }
        _ => Ok(()),
    }
}
