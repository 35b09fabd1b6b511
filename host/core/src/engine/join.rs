//! Scopes that begin and end: branches and their join, items and their order, the sections of a `try`.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::decide::Decider;
use super::inputs::{Question, Stop};
use super::open::{BranchEnd, Items, Progress, Scope, Sections, Step};
use super::{Activity, Event, RunError, ScopeNo, ScopeRole, StepNo, Then, error_value};
use crate::error::{Category, Failure};
use crate::json::{Json, Payload};
use crate::model::{Foreach, Join, OnError, Parallel, State, StateKind, Try};
use crate::ports::{ItemRow, Usage};
use crate::status::{RunStatus, StepStatus};

impl Decider<'_> {
    /// Opens the first scopes of a step that has just been entered.
    pub(super) fn open_scopes(&mut self, step: StepNo, state: &State) -> Result<(), Stop> {
        match &state.kind {
            StateKind::Parallel(parallel) => {
                for at in 0..parallel.branches.len() {
                    self.open_scope(step, ScopeRole::Branch(u32::try_from(at).unwrap_or(u32::MAX)));
                }
                Ok(())
            }
            StateKind::Foreach(foreach) => self.more_items(step, state, foreach),
            StateKind::Try(_) => {
                self.open_scope(step, ScopeRole::Try);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn open_scope(&mut self, step: StepNo, role: ScopeRole) {
        let scope = self.state.next_scope;
        self.emit(Event::ScopeOpened { scope, step, role });
        self.queue.push_back(scope);
    }

    /// After a pause, or where the budget ended: items that could begin.
    pub(super) fn resume_composites(&mut self) {
        let foreaches: Vec<Arc<Step>> = self
            .state
            .steps
            .values()
            .filter(|step| matches!(step.activity, Activity::Foreach { .. }))
            .cloned()
            .collect();
        for step in foreaches {
            if let Some(state) = self.state_of(&step)
                && let StateKind::Foreach(foreach) = &state.kind
                && let (Progress::Items(items), Activity::Foreach { total, .. }) = (&step.progress, &step.activity)
                && items.next < *total
            {
                self.begin_items(step.number, foreach, items, *total);
            }
        }
    }

    pub(super) fn scope_ended(&mut self, number: ScopeNo, scope: &Scope) -> Result<(), Stop> {
        match &scope.role {
            ScopeRole::Root => self.complete_run(scope.last.clone()),
            ScopeRole::Branch(_) | ScopeRole::Item(_) => {
                let written = self.written(number)?;
                let result = self.payload(Json::of(&written));
                self.close_scope(number, scope, StepStatus::Succeeded, Some(result), None)
            }
            ScopeRole::Try | ScopeRole::Catch | ScopeRole::Finally => {
                self.close_scope(number, scope, StepStatus::Succeeded, scope.last.clone(), None)
            }
        }
    }

    pub(super) fn scope_failed(&mut self, number: ScopeNo, scope: &Scope, error: &RunError) -> Result<(), Stop> {
        if scope.role == ScopeRole::Root {
            let timed_out = error.failure.code == super::APPROVAL_TIMED_OUT;
            let status = if timed_out { RunStatus::TimedOut } else { RunStatus::Failed };
            return self.finish(status, None, Some(error.clone()), None);
        }
        let continues = matches!(scope.role, ScopeRole::Item(_))
            && scope.owner.and_then(|owner| self.state.steps.get(&owner).cloned()).is_some_and(
                |owner| matches!(self.kind_of(&owner), StateKind::Foreach(f) if f.on_item_error == OnError::Continue),
            );
        let result = continues.then(|| self.payload(Json::of(&json!({ "error": error_value(error) }))));
        self.close_scope(number, scope, StepStatus::Failed, result, Some(error.clone()))
    }

    fn close_scope(
        &mut self,
        number: ScopeNo,
        scope: &Scope,
        status: StepStatus,
        result: Option<Payload>,
        error: Option<RunError>,
    ) -> Result<(), Stop> {
        let Some(owner) = scope.owner else { return Ok(()) };
        if let (ScopeRole::Item(index), Some(result)) = (&scope.role, &result) {
            self.out.items.push(ItemRow { step: owner, index: *index, result: result.clone() });
        }
        self.emit(Event::ScopeCompleted { scope: number, status, result, error, returns: false });
        self.advance_owner(owner)
    }

    /// A `return`: the run ends well, once every `finally` around it has run.
    pub(super) fn returned(&mut self, number: ScopeNo, scope: &Scope) -> Result<(), Stop> {
        let output = scope.last.clone();
        let Some((section, owner)) = self.section_with_finally(number) else { return self.complete_run(output) };
        if section != number {
            self.cancel_inside(section, "the workflow returns");
        }
        let status = StepStatus::Succeeded;
        self.emit(Event::ScopeCompleted { scope: section, status, result: output, error: None, returns: true });
        self.advance_owner(owner)
    }

    /// The innermost section around that a `finally` follows, and its `try`.
    fn section_with_finally(&self, scope: ScopeNo) -> Option<(ScopeNo, StepNo)> {
        let mut at = Some(scope);
        while let Some(number) = at {
            let scope = self.state.scopes.get(&number)?;
            if let (ScopeRole::Try | ScopeRole::Catch, Some(owner)) = (&scope.role, scope.owner)
                && let Some(step) = self.state.steps.get(&owner)
                && matches!(self.kind_of(step), StateKind::Try(section) if section.finally.is_some())
            {
                return Some((number, owner));
            }
            at = scope.parent;
        }
        None
    }

    /// After a scope of a step ended: what does that mean for the step?
    fn advance_owner(&mut self, number: StepNo) -> Result<(), Stop> {
        let Some(step) = self.state.steps.get(&number).cloned() else { return Ok(()) };
        let Some(state) = self.state_of(&step) else { return Ok(()) };
        match (&state.kind, &step.progress) {
            (StateKind::Parallel(parallel), Progress::Branches(_)) => self.join_branches(&step, state, parallel),
            (StateKind::Foreach(foreach), Progress::Items(_)) => self.more_items(number, state, foreach),
            (StateKind::Try(section), Progress::Sections(sections)) => {
                self.next_section(number, state, section, sections);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn join_branches(&mut self, step: &Step, state: &State, parallel: &Parallel) -> Result<(), Stop> {
        let Progress::Branches(branches) = &step.progress else { return Ok(()) };
        let total = parallel.branches.len();
        let succeeded = branches.values().filter(|end| matches!(end, BranchEnd::Succeeded(_))).count();
        let open = branches.values().filter(|end| matches!(end, BranchEnd::Open(_))).count();
        let wanted = match parallel.join {
            Join::All => total,
            Join::Any => 1,
            Join::Count(count) => (count as usize).min(total),
        };
        let failure = branches.values().find_map(|end| match end {
            BranchEnd::Failed(error) => Some(error.failure.clone()),
            BranchEnd::Open(_) | BranchEnd::Succeeded(_) => None,
        });
        let reached = succeeded >= wanted;
        let impossible = succeeded + open < wanted;
        if impossible && parallel.on_branch_error == OnError::Fail {
            self.cancel_scopes(step.number, "another branch failed");
            if let Some(failure) = failure {
                self.fail(step.number, state, &failure);
            }
            return Ok(());
        }
        if !reached && open > 0 {
            return Ok(());
        }
        let continues = parallel.on_branch_error == OnError::Continue;
        let mut joined = Map::new();
        for (at, branch) in parallel.branches.iter().enumerate() {
            match u32::try_from(at).ok().and_then(|at| branches.get(&at)) {
                Some(BranchEnd::Succeeded(result)) => {
                    joined.insert(branch.name.to_string(), self.with_value(result, Value::clone)?);
                }
                Some(BranchEnd::Failed(error)) if continues => {
                    joined.insert(branch.name.to_string(), json!({ "error": error_value(error) }));
                }
                Some(BranchEnd::Failed(_) | BranchEnd::Open(_)) | None => {}
            }
        }
        self.cancel_scopes(step.number, "enough branches succeeded");
        self.joined(step.number, state, Json::of(&joined));
        Ok(())
    }

    /// A join's result may be as large as the run's data.
    fn joined(&mut self, step: StepNo, state: &State, json: Json) {
        let size = json.get().len() as u64;
        if size > self.limits.run_bytes_max {
            let failure = self.join_too_large(size);
            return self.fail(step, state, &failure);
        }
        if let Some(failure) = super::decide::too_deep("the joined result", &json) {
            return self.fail(step, state, &failure);
        }
        let payload = self.payload(json);
        self.succeed(step, state, Some(payload));
    }

    fn join_too_large(&self, size: u64) -> Failure {
        let message =
            format!("the results are {size} bytes, more than the {} that a run may hold", self.limits.run_bytes_max);
        Failure::new(Category::LimitError, "RUN_DATA_TOO_LARGE", message).never_retried()
    }

    fn more_items(&mut self, number: StepNo, state: &State, foreach: &Foreach) -> Result<(), Stop> {
        let Some(step) = self.state.steps.get(&number).cloned() else { return Ok(()) };
        let (Progress::Items(items), Activity::Foreach { total, .. }) = (&step.progress, &step.activity) else {
            return Ok(());
        };
        if let Some(error) = &items.error {
            self.cancel_scopes(number, "another item failed");
            self.out.items_dropped.push(number);
            self.fail(number, state, &error.failure);
            return Ok(());
        }
        if items.bytes > self.limits.run_bytes_max {
            let failure = self.join_too_large(items.bytes);
            self.cancel_scopes(number, "the results are too large");
            self.out.items_dropped.push(number);
            self.fail(number, state, &failure);
            return Ok(());
        }
        if items.done >= *total {
            return self.join_items(number, state, *total);
        }
        if self.state.status != RunStatus::Paused {
            self.begin_items(number, foreach, items, *total);
        }
        Ok(())
    }

    fn begin_items(&mut self, number: StepNo, foreach: &Foreach, items: &Items, total: u64) {
        let room = u64::from(foreach.max_concurrency).saturating_sub(items.open);
        for index in items.next..total.min(items.next + room) {
            self.open_scope(number, ScopeRole::Item(index));
        }
    }

    fn join_items(&mut self, number: StepNo, state: &State, total: u64) -> Result<(), Stop> {
        let rows: &[ItemRow] = match self.inputs.items.get(&number) {
            Some(rows) => rows,
            // Everything may have happened in this very decision.
            None if self.out.items.iter().filter(|row| row.step == number).count() as u64 == total => &[],
            None => return Err(Stop::Need(Question::Items(number))),
        };
        let mut all: Vec<&ItemRow> =
            rows.iter().chain(self.out.items.iter().filter(|row| row.step == number)).collect();
        all.sort_by_key(|row| row.index);
        all.dedup_by_key(|row| row.index);
        let mut text = String::from("[");
        for (at, row) in all.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            text.push_str(self.json_of(&row.result)?.get());
        }
        text.push(']');
        let json = Json::parse(text).unwrap_or_else(|_| Json::null());
        self.out.items_dropped.push(number);
        self.joined(number, state, json);
        Ok(())
    }

    fn next_section(&mut self, number: StepNo, state: &State, section: &Try, sections: &Sections) {
        let failed = sections.error.as_ref();
        let finally = section.finally.is_some();
        match (&sections.ended, failed) {
            (Some(ScopeRole::Try), Some(error)) if taken(section, error) => {
                if section.catch.as_ref().is_some_and(|catch| catch.block.is_some()) {
                    self.open_scope(number, ScopeRole::Catch);
                } else if finally {
                    // Swallowed: a catch without states.
                    self.open_scope(number, ScopeRole::Finally);
                } else {
                    self.succeed(number, state, None);
                }
            }
            (Some(ScopeRole::Try | ScopeRole::Catch), _) if finally => self.open_scope(number, ScopeRole::Finally),
            (Some(ScopeRole::Finally), Some(error)) if swallowed(section, error) && !sections.finally_failed => {
                self.succeed(number, state, sections.result.clone());
            }
            (_, Some(error)) => self.fail(number, state, &error.failure.clone()),
            (_, None) if sections.returns => {
                self.succeed_with(number, state, sections.result.clone(), Then::Return, Usage::default(), Vec::new());
            }
            (_, None) => self.succeed(number, state, sections.result.clone()),
        }
    }
}

/// Whether the catch takes this error.
fn taken(section: &Try, error: &RunError) -> bool {
    section.catch.as_ref().is_some_and(|catch| {
        catch.errors.is_empty() || catch.errors.iter().any(|selector| error.failure.matches(selector))
    })
}

/// Whether an error of the body is taken by a catch without states.
fn swallowed(section: &Try, error: &RunError) -> bool {
    section.catch.as_ref().is_some_and(|catch| catch.block.is_none()) && taken(section, error)
}
