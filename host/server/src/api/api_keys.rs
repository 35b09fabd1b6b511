//! API keys. The key itself is shown once, when it is made.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::StatusCode;
use caisson_core::ports::ApiKeyRow;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::actions::{Empty, check_length};
use super::auth::{Admin, Caller, DEFAULT_ENVIRONMENT, Role};
use super::error::ApiError;
use super::extract::{Body, Fields, MaybeBody, Params, nearest};
use super::wire::{ApiKey, time};
use crate::keys;

/// The tenant whose admins may make keys for others: the one that the first key belongs to.
pub const FIRST_TENANT: &str = DEFAULT_ENVIRONMENT;

/// Teams of one key at most: they are copied into every decision.
const TEAMS_MAX: usize = 100;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke)).routes(routes!(delete))
}

/// The list of keys.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyList {
    /// Newest first.
    pub api_keys: Vec<ApiKey>,
    /// Always `null`.
    pub next_cursor: Option<String>,
}

/// A key to make.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CreateBody {
    /// Who acts with it.
    pub actor: String,
    /// viewer, operator, approver or admin.
    pub role: String,
    /// The actor's teams.
    #[serde(default)]
    pub teams: Vec<String>,
    /// Whose; the caller's own when absent. Only admins of the tenant `default` may name another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// A new key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedAnswer {
    /// What is known of it.
    pub api_key: ApiKey,
    /// The key itself: shown now and never again.
    pub key: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TenantQuery {
    /// Whose; the caller's own when absent. Only admins of the tenant `default` may name another.
    tenant: Option<String>,
}

/// Lists the tenant's keys. Role: admin.
#[utoipa::path(
    get, path = "/api-keys", tag = "api-keys", params(TenantQuery), responses((status = 200, body = ApiKeyList))
)]
async fn list(
    Admin(caller): Admin,
    State(api): State<AppState>,
    Fields(query): Fields<TenantQuery>,
) -> Result<JsonBody<ApiKeyList>, ApiError> {
    let tenant = tenant_of(&caller, query.tenant)?;
    let api_keys = api.store().keys(&tenant).await?.iter().map(show).collect();
    Ok(JsonBody(ApiKeyList { api_keys, next_cursor: None }))
}

/// Makes a key. Role: admin.
#[utoipa::path(
    post, path = "/api-keys", tag = "api-keys", request_body = CreateBody,
    responses((status = 201, body = CreatedAnswer))
)]
async fn create(
    Admin(caller): Admin,
    State(api): State<AppState>,
    Body(body): Body<CreateBody>,
) -> Result<(StatusCode, JsonBody<CreatedAnswer>), ApiError> {
    let role = Role::parse(&body.role).ok_or_else(|| {
        let known = Role::ALL.map(Role::as_str);
        let hint = nearest(&body.role, &known).map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
        ApiError::invalid("UNKNOWN_ROLE", format!("there is no role '{}'{hint}", body.role))
            .with_details(&serde_json::json!({"known": known}))
    })?;
    check_name("actor", &body.actor)?;
    if body.teams.len() > TEAMS_MAX {
        return Err(ApiError::invalid("TOO_MANY_TEAMS", format!("a key may have {TEAMS_MAX} teams")));
    }
    for team in &body.teams {
        check_name("team", team)?;
    }
    let tenant = tenant_of(&caller, body.tenant)?;
    let made =
        keys::make(&body.actor, role, body.teams, tenant, api.now()).map_err(|e| ApiError::internal(e.to_string()))?;
    api.store().add_key(&made.row).await?;
    Ok((StatusCode::CREATED, JsonBody(CreatedAnswer { api_key: show(&made.row), key: made.key })))
}

/// Revokes a key: from the next request on it is refused. Role: admin.
#[utoipa::path(
    post, path = "/api-keys/{id}/revoke", tag = "api-keys",
    params(("id" = String, Path, description = "The key's id."), TenantQuery),
    responses((status = 204, description = "It is revoked."))
)]
async fn revoke(
    Admin(caller): Admin,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<TenantQuery>,
    MaybeBody(Empty {}): MaybeBody<Empty>,
) -> Result<StatusCode, ApiError> {
    end(&api, &tenant_of(&caller, query.tenant)?, &id).await
}

/// The same as revoking: the record of the key is kept. Role: admin.
#[utoipa::path(
    delete, path = "/api-keys/{id}", tag = "api-keys",
    params(("id" = String, Path, description = "The key's id."), TenantQuery),
    responses((status = 204, description = "It is revoked."))
)]
async fn delete(
    Admin(caller): Admin,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<TenantQuery>,
) -> Result<StatusCode, ApiError> {
    end(&api, &tenant_of(&caller, query.tenant)?, &id).await
}

fn tenant_of(caller: &Caller, named: Option<String>) -> Result<Arc<str>, ApiError> {
    match named {
        None => Ok(caller.tenant.clone()),
        Some(tenant) if *tenant == *caller.tenant => Ok(caller.tenant.clone()),
        Some(tenant) if &*caller.tenant == FIRST_TENANT => {
            check_name("tenant", &tenant)?;
            Ok(Arc::from(tenant))
        }
        Some(_) => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "FORBIDDEN",
            format!("only admins of the tenant '{FIRST_TENANT}' may look after another tenant's keys"),
        )),
    }
}

async fn end(api: &AppState, tenant: &str, id: &str) -> Result<StatusCode, ApiError> {
    let found = api.store().revoke_key(tenant, id, api.now()).await?;
    api.keys.forget(id);
    if found { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::not_found("API_KEY_NOT_FOUND", "API key", id)) }
}

fn check_name(field: &str, text: &str) -> Result<(), ApiError> {
    check_length(field, Some(text))?;
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err(ApiError::invalid("INVALID_NAME", format!("{field} must not be empty or hold control characters")));
    }
    Ok(())
}

fn show(row: &ApiKeyRow) -> ApiKey {
    ApiKey {
        id: row.id.to_string(),
        actor: row.actor.to_string(),
        teams: row.teams.clone(),
        role: row.role.to_string(),
        tenant: row.tenant.to_string(),
        created_at: row.created_at.to_string(),
        last_used_at: time(row.last_used_at),
        revoked_at: time(row.revoked_at),
    }
}
