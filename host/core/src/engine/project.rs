//! From a run's state to the rows that lists and filters need.

use std::sync::Arc;

use super::open::Step;
use super::state::{OpenApproval, RunState};
use super::{Activity, ApprovalStatus, ScopeNo, ScopeRole};
use crate::error::Failure;
use crate::ids::ApprovalId;
use crate::json::Json;
use crate::model::{Definition, State, StateKind};
use crate::ports::{ApprovalRow, StepRow, Usage};
use crate::status::StepStatus;
use crate::time::Timestamp;

/// Everything a step's row is made of.
pub(super) struct StepView<'a> {
    pub(super) def: &'a Definition,
    pub(super) run: &'a RunState,
    pub(super) step: &'a Step,
    pub(super) state: &'a State,
}

impl StepView<'_> {
    /// The row of a step that is open.
    pub(super) fn open(&self) -> StepRow {
        let step = self.step;
        let (branch_path, index) = branch_path(self.def, self.run, step.scope);
        let (action, plugin) = match &step.activity {
            Activity::Operation { action, plugin, .. } => (Some(action.clone()), Some(Json::of(plugin))),
            Activity::Instant
            | Activity::Parallel
            | Activity::Foreach { .. }
            | Activity::Try
            | Activity::Wait { .. }
            | Activity::Signal { .. }
            | Activity::Call { .. } => (None, None),
        };
        let child = match &step.activity {
            Activity::Call { child, .. } => Some(child.clone()),
            _ => None,
        };
        StepRow {
            number: step.number,
            id: step.id.clone(),
            state: step.state.clone(),
            state_type: self.state.kind.type_name().into(),
            branch_path,
            index,
            phase: self.state.phase.clone().or_else(|| self.run.phase.clone()),
            action,
            plugin,
            status: step.status,
            attempt: step.attempt,
            entry: step.entry,
            max_attempts: step.max_attempts(),
            claim: step.claim,
            host: step.host.clone(),
            ready_at: step.ready_at,
            // Entries differ in attempt or entry, and within one only lost claims and pauses raise it: wrapping around is no harm.
            dispatch: if step.is_ready() { step.claim.wrapping_add(1).wrapping_add(self.run.resumed) << 16 } else { 0 },
            input_seq: step.input_seq,
            result_seq: step.result_seq,
            error: step.error.as_ref().map(Json::of),
            usage: Json::of(&step.usage),
            child,
            created_at: step.created_at,
            started_at: step.started_at,
            completed_at: None,
        }
    }

    /// The row of a step that has just ended, by the event of that number.
    pub(super) fn ended(
        &self,
        status: StepStatus,
        error: Option<&Failure>,
        usage: Usage,
        seq: u64,
        at: Timestamp,
    ) -> StepRow {
        StepRow {
            status,
            host: None,
            ready_at: None,
            result_seq: Some(seq),
            error: error.map(Json::of),
            usage: Json::of(&self.step.usage.plus(usage)),
            completed_at: Some(at),
            ..self.open()
        }
    }
}

/// Where a scope is, for people: `diagnostics.pods`, `check_all[3]`; and the index of the innermost item.
fn branch_path(def: &Definition, run: &RunState, scope: ScopeNo) -> (String, Option<u64>) {
    let mut parts = Vec::new();
    let mut innermost = None;
    let mut at = run.scopes.get(&scope);
    while let Some(scope) = at
        && let Some(owner) = scope.owner.and_then(|owner| run.steps.get(&owner))
    {
        parts.push(match &scope.role {
            ScopeRole::Branch(branch) => {
                let name = super::decide::block_of(def, run, owner.scope)
                    .and_then(|block| def.state_named(block, &owner.state))
                    .and_then(|state| match &def.state(state).kind {
                        StateKind::Parallel(parallel) => parallel.branches.get(*branch as usize),
                        _ => None,
                    })
                    .map_or_else(|| branch.to_string().into(), |branch| branch.name.clone());
                format!("{}.{name}", owner.state)
            }
            ScopeRole::Item(index) => {
                innermost.get_or_insert(*index);
                format!("{}[{index}]", owner.state)
            }
            ScopeRole::Try => format!("{}.try", owner.state),
            ScopeRole::Catch => format!("{}.catch", owner.state),
            ScopeRole::Finally => format!("{}.finally", owner.state),
            ScopeRole::Root => String::new(),
        });
        at = run.scopes.get(&owner.scope);
    }
    parts.reverse();
    (parts.join("."), innermost)
}

/// How an approval was decided.
pub(super) struct Decided {
    pub(super) status: ApprovalStatus,
    pub(super) actor: Option<Arc<str>>,
    pub(super) comment: Option<String>,
    pub(super) at: Timestamp,
}

/// The row of an approval, open or decided.
pub(super) fn approval_row(
    run: &RunState,
    id: &ApprovalId,
    open: &OpenApproval,
    decided: Option<Decided>,
) -> ApprovalRow {
    let (status, decided_by, comment, decided_at) = match decided {
        Some(Decided { status, actor, comment, at }) => (status, actor, comment, Some(at)),
        None => (ApprovalStatus::Pending, None, None, None),
    };
    let step_id = run.steps.get(&open.step).map_or_else(|| crate::ids::StepId::new(""), |step| step.id.clone());
    ApprovalRow {
        id: id.clone(),
        realm: run.realm.clone(),
        run: run.id.clone(),
        step_id,
        step: open.step,
        status,
        message: open.message.clone(),
        summary: open.summary.clone(),
        approvers: open.approvers.clone(),
        deadline: open.deadline,
        decided_by,
        comment,
        created_at: open.created_at,
        decided_at,
    }
}
