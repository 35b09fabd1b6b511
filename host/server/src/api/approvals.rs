//! Approvals: what waits for a human, and the answers.

use axum::Json as JsonBody;
use axum::extract::State;
use caisson_core::engine::ApprovalStatus;
use caisson_core::ids::{ApprovalId, RunId};
use caisson_core::ports::{ApprovalFilter, ApprovalRow};
use caisson_orchestrator::Decide;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Approver, Caller, Viewer};
use super::error::ApiError;
use super::extract::{Fields, MaybeBody, Params};
use super::paging::page;
use super::runs::{self, one_of};
use super::values::Values;
use super::wire::{Approval, time};
use super::{Api, AppState};

/// The longest comment: a page of text.
const COMMENT_BYTES_MAX: usize = 16 << 10;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(inbox)).routes(routes!(of_run)).routes(routes!(approve)).routes(routes!(reject))
}

/// An approval under its name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ApprovalAnswer {
    /// The approval.
    pub approval: Approval,
}

/// A part of the list of approvals.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalList {
    /// Newest first.
    pub approvals: Vec<Approval>,
    /// Where the next page begins; `null` at the end.
    pub next_cursor: Option<String>,
}

/// The words of a decision.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct DecisionBody {
    /// For those who read the record later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// PENDING, APPROVED, REJECTED, `TIMED_OUT` or CANCELLED.
    status: Option<String>,
    /// Of this environment; of all when absent.
    environment: Option<String>,
    /// Length of the page, 1 to 500; 50 when absent.
    limit: Option<u32>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Approvals over all runs, newest first. Role: viewer.
#[utoipa::path(
    get, path = "/approvals", tag = "approvals", params(ListQuery), responses((status = 200, body = ApprovalList))
)]
async fn inbox(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Fields(query): Fields<ListQuery>,
) -> Result<JsonBody<ApprovalList>, ApiError> {
    list(&api, &caller, None, query).await
}

/// A run's approvals, newest first. Role: viewer.
#[utoipa::path(
    get, path = "/workflow-runs/{id}/approvals", tag = "approvals",
    params(("id" = String, Path, description = "The run."), ListQuery), responses((status = 200, body = ApprovalList))
)]
async fn of_run(
    Viewer(caller): Viewer,
    State(api): State<AppState>,
    Params(id): Params<String>,
    Fields(query): Fields<ListQuery>,
) -> Result<JsonBody<ApprovalList>, ApiError> {
    let run = runs::find(&api, &caller, &id).await?;
    list(&api, &caller, Some(run.id), query).await
}

/// Says yes. Role: approver, and one of the approvers if the approval names any.
#[utoipa::path(
    post, path = "/workflow-runs/{id}/approvals/{approvalId}/approve", tag = "approvals",
    request_body = Option<DecisionBody>,
    params(("id" = String, Path, description = "The run."), ("approvalId" = String, Path, description = "The approval.")),
    responses((status = 200, body = ApprovalAnswer))
)]
async fn approve(
    Approver(caller): Approver,
    State(api): State<AppState>,
    Params((run, approval)): Params<(String, String)>,
    MaybeBody(body): MaybeBody<DecisionBody>,
) -> Result<JsonBody<ApprovalAnswer>, ApiError> {
    decide(&api, &caller, &run, &approval, true, body).await
}

/// Says no. Role: approver, and one of the approvers if the approval names any.
#[utoipa::path(
    post, path = "/workflow-runs/{id}/approvals/{approvalId}/reject", tag = "approvals",
    request_body = Option<DecisionBody>,
    params(("id" = String, Path, description = "The run."), ("approvalId" = String, Path, description = "The approval.")),
    responses((status = 200, body = ApprovalAnswer))
)]
async fn reject(
    Approver(caller): Approver,
    State(api): State<AppState>,
    Params((run, approval)): Params<(String, String)>,
    MaybeBody(body): MaybeBody<DecisionBody>,
) -> Result<JsonBody<ApprovalAnswer>, ApiError> {
    decide(&api, &caller, &run, &approval, false, body).await
}

async fn list(
    api: &Api,
    caller: &Caller,
    run: Option<RunId>,
    query: ListQuery,
) -> Result<JsonBody<ApprovalList>, ApiError> {
    let status = query.status.as_deref().map(|text| one_of(text, "status", &STATUSES, ApprovalStatus::as_str));
    let filter = ApprovalFilter { run, status: status.transpose()? };
    let page = page(query.limit, query.cursor)?;
    let found = api.store().approvals(&caller.tenant, query.environment.as_deref(), &filter, &page).await?;
    let values = Values::short();
    let approvals = found.items.into_iter().map(|row| show(row, &values)).collect();
    Ok(JsonBody(ApprovalList { approvals, next_cursor: found.next }))
}

async fn decide(
    api: &Api,
    caller: &Caller,
    run: &str,
    approval: &str,
    approve: bool,
    body: DecisionBody,
) -> Result<JsonBody<ApprovalAnswer>, ApiError> {
    if body.comment.as_ref().is_some_and(|comment| comment.len() > COMMENT_BYTES_MAX) {
        return Err(ApiError::invalid("TEXT_TOO_LONG", format!("comment is longer than {COMMENT_BYTES_MAX} bytes")));
    }
    let decision = Decide {
        run: RunId::new(run),
        approval: ApprovalId::new(approval),
        approve,
        actor: caller.as_actor(),
        comment: body.comment,
    };
    let row = api.service.decide(&caller.tenant, decision).await?;
    let values = Values::full(api.store(), &row.summary).await?;
    Ok(JsonBody(ApprovalAnswer { approval: show(row, &values) }))
}

fn show(row: ApprovalRow, values: &Values) -> Approval {
    Approval {
        id: row.id.to_string(),
        run_id: row.run.to_string(),
        step_id: row.step_id.to_string(),
        environment: row.realm.environment.to_string(),
        status: row.status.as_str().to_owned(),
        message: row.message,
        summary: values.show_optional(row.summary.as_ref()),
        approvers: row.approvers,
        deadline: time(row.deadline),
        decided_by: row.decided_by.as_deref().map(str::to_owned),
        comment: row.comment,
        created_at: row.created_at.to_string(),
        decided_at: time(row.decided_at),
    }
}

const STATUSES: [ApprovalStatus; 5] = [
    ApprovalStatus::Pending,
    ApprovalStatus::Approved,
    ApprovalStatus::Rejected,
    ApprovalStatus::TimedOut,
    ApprovalStatus::Cancelled,
];
