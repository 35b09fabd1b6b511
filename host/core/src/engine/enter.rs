//! Entering a state: what each type does first. Types that end in the same breath end here.

use std::sync::Arc;

use serde_json::{Value, json};

use super::data::{Locals, Missing};
use super::decide::Decider;
use super::inputs::Stop;
use super::open::Scope;
use super::{Activity, Event, Message, RunError, ScopeNo, ScopeRole, StepNo, Then};
use crate::error::{Category, Failure};
use crate::expr::Path;
use crate::ids::{StepId, Visit};
use crate::json::{Json, Payload};
use crate::model::{Call, Fail, Foreach, Next, Operation, SignalWait, State, StateKind, Switch, Wait};
use crate::ports::Usage;
use crate::status::RunStatus;
use crate::time::{Timestamp, parse_duration_ms, seconds_to_ms};
use crate::trace;

/// What entering a state came to.
enum Entered {
    /// It goes on: this is what it does.
    Open(Activity),
    /// It ended well: its result and where to go.
    Ended(Option<Payload>, Then),
}

/// The action that goes on from the previous result.
const AGENT: &str = "agent.run";
/// Where it finds that.
const PREVIOUS: &str = "previous";

impl Decider<'_> {
    pub(super) fn enter_state(&mut self, scope: ScopeNo, state: &State) -> Result<(), Stop> {
        let number = self.state.next_step;
        let visit = self.state.scopes.get(&scope).and_then(|s| s.visits.get(&state.name).copied()).unwrap_or(0);
        let id = self.step_id(scope, state, visit);
        let entered = match self.begin(scope, state, &id) {
            Err(Missing::Stop(stop)) => return Err(stop),
            Err(Missing::Failed(failure)) => Err(failure),
            Ok(entered) => Ok(entered),
        };
        let activity = match &entered {
            Ok(Entered::Open(activity)) => activity.clone(),
            Ok(Entered::Ended(..)) | Err(_) => Activity::Instant,
        };
        let open = entered.as_ref().is_ok_and(|entered| matches!(entered, Entered::Open(_)));
        let deadline = state.timeout_ms.filter(|_| open).map(|ms| self.now().plus_ms(ms));
        self.emit(Event::StepScheduled {
            step: number,
            step_id: id,
            scope,
            state: state.name.clone(),
            visit,
            activity: activity.clone(),
            deadline,
        });
        match entered {
            Err(failure) => {
                self.fail(number, state, &failure);
                Ok(())
            }
            Ok(Entered::Ended(output, then)) => {
                self.succeed_with(number, state, output, then, Usage::default(), Vec::new());
                Ok(())
            }
            Ok(Entered::Open(_)) => self.opened(number, state, &activity),
        }
    }

    /// What follows at once from being entered.
    fn opened(&mut self, step: StepNo, state: &State, activity: &Activity) -> Result<(), Stop> {
        match activity {
            Activity::Parallel | Activity::Foreach { .. } | Activity::Try => self.open_scopes(step, state),
            Activity::Signal { .. } => self.take_from_mailbox(step),
            Activity::Call { .. } => {
                self.start_child(step);
                Ok(())
            }
            Activity::Instant | Activity::Operation { .. } | Activity::Wait { .. } => Ok(()),
        }
    }

    fn step_id(&self, scope: ScopeNo, state: &State, visit: u32) -> StepId {
        // Innermost first, then turned round.
        let mut path = vec![(state.name.clone(), String::new(), visit)];
        let mut at: Option<&Arc<Scope>> = self.state.scopes.get(&scope);
        while let Some(scope) = at
            && let Some(owner) = scope.owner.and_then(|owner| self.state.steps.get(&owner))
        {
            path.push((owner.state.clone(), via(scope), owner.visit));
            at = self.state.scopes.get(&owner.scope);
        }
        let visits: Vec<Visit<'_>> =
            path.iter().rev().map(|(state, via, visit)| Visit { state, via, visit: *visit }).collect();
        StepId::of(&self.state.id, &visits)
    }

    fn begin(&mut self, scope: ScopeNo, state: &State, id: &StepId) -> Result<Entered, Missing> {
        match &state.kind {
            StateKind::Operation(operation) => self.begin_operation(scope, state, operation, id).map(Entered::Open),
            StateKind::Switch(switch) => self.begin_switch(scope, switch),
            StateKind::Parallel(_) => Ok(Entered::Open(Activity::Parallel)),
            StateKind::Try(_) => Ok(Entered::Open(Activity::Try)),
            StateKind::Foreach(foreach) => self.begin_foreach(scope, foreach).map(Entered::Open),
            StateKind::Inject { data } => {
                let value = self.render(scope, data, &Locals::new())?;
                self.ended(state, &value)
            }
            StateKind::Transform { expression } => {
                let value = self.evaluate(scope, expression, &Locals::new())?;
                self.ended(state, &value)
            }
            StateKind::Wait(wait) => self.begin_wait(scope, wait).map(Entered::Open),
            StateKind::Signal(signal) => self.begin_signal(scope, signal).map(Entered::Open),
            StateKind::Call(call) => self.begin_call(scope, state, call, id).map(Entered::Open),
            StateKind::Return { output } => {
                let output = match output {
                    Some(template) => {
                        let value = self.render(scope, template, &Locals::new())?;
                        Some(self.value("the output", Json::of(&value))?)
                    }
                    None => None,
                };
                Ok(Entered::Ended(output, Then::Return))
            }
            StateKind::Fail(fail) => Err(self.begin_fail(scope, fail)?.into()),
        }
    }

    fn ended(&mut self, state: &State, value: &Value) -> Result<Entered, Missing> {
        let output = self.value("the result", Json::of(value))?;
        Ok(Entered::Ended(Some(output), self.next_of(state)))
    }

    fn begin_operation(
        &mut self,
        scope: ScopeNo,
        state: &State,
        operation: &Operation,
        id: &StepId,
    ) -> Result<Activity, Missing> {
        let mut input = self.render(scope, &operation.input, &Locals::new())?;
        if &*operation.action == AGENT {
            self.add_previous(scope, &mut input)?;
        }
        let key = match &operation.idempotency_key {
            Some(template) => text(&self.render(scope, template, &Locals::new())?).into(),
            None => format!("{}:{id}", self.state.id).into(),
        };
        let Some(pinned) = self.state.pinned(&operation.action) else {
            let message = format!(
                "no plugin had the action '{}' when the run started: load one and start a new run",
                operation.action
            );
            return Err(Failure::new(Category::ActionError, "ACTION_NOT_FOUND", message).never_retried().into());
        };
        let plugin = pinned.plugin.clone();
        let input = self.value("the input", Json::of(&input))?;
        let max_attempts = state.retry.as_ref().map_or(1, |retry| retry.max_attempts);
        Ok(Activity::Operation {
            action: operation.action.clone(),
            plugin,
            input,
            idempotency_key: key,
            max_attempts,
            narrowed: operation.capabilities.clone(),
        })
    }

    fn add_previous(&self, scope: ScopeNo, input: &mut Value) -> Result<(), Stop> {
        let Value::Object(fields) = input else { return Ok(()) };
        if !fields.contains_key(PREVIOUS) {
            fields.insert(PREVIOUS.to_owned(), self.previous(scope)?);
        }
        Ok(())
    }

    /// What an agent's variables are laid over: what the step before it gave, of its own scope or of those around it. An item begins
    /// with itself, as an object or under its name, and the run with its input.
    fn previous(&self, scope: ScopeNo) -> Result<Value, Stop> {
        let mut at = self.state.scopes.get(&scope);
        while let Some(scope) = at {
            if let Some(last) = &scope.last {
                return self.with_value(last, Value::clone);
            }
            if let ScopeRole::Item(_) = scope.role
                && let Some((name, item)) = self.scope_locals(scope.number, &Path::root())?.into_iter().next()
            {
                return Ok(if item.is_object() { item } else { json!({name: item}) });
            }
            at = scope.parent.and_then(|parent| self.state.scopes.get(&parent));
        }
        self.with_value(&self.state.input, Value::clone)
    }

    fn begin_switch(&mut self, scope: ScopeNo, switch: &Switch) -> Result<Entered, Missing> {
        let mut locals = Locals::new();
        if let Some(path) = &switch.data_path {
            let found = self.read(scope, path, &Locals::new())?;
            if let Some(map) = found.as_object() {
                locals.extend(map.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
            if !locals.iter().any(|(name, _)| name == "result") {
                locals.push(("result".into(), found));
            }
        }
        for condition in &switch.conditions {
            match self.evaluate(scope, &condition.expression, &locals)? {
                value if truthy(&value) => return Ok(Entered::Ended(None, self.then(condition.next))),
                _ => {}
            }
        }
        let otherwise = switch.default.ok_or_else(|| {
            let message = "no condition of the switch holds and it has no defaultNext";
            Failure::new(Category::ExpressionError, "NO_CONDITION_HOLDS", message)
        })?;
        Ok(Entered::Ended(None, self.then(otherwise)))
    }

    fn then(&self, next: Next) -> Then {
        match next {
            Next::Goto(id) => Then::Next(self.def.state(id).name.clone()),
            Next::End => Then::End,
        }
    }

    fn begin_foreach(&mut self, scope: ScopeNo, foreach: &Foreach) -> Result<Activity, Missing> {
        let list = self.read(scope, &foreach.items, &Locals::new())?;
        let Some(items) = list.as_array() else {
            let message = format!("'{}' is {}, a foreach needs a list", foreach.items, kind(&list));
            return Err(Failure::new(Category::ExpressionError, "NOT_A_LIST", message).into());
        };
        let total = items.len() as u64;
        // The list is part of the run's data already: its own limit holds.
        Ok(Activity::Foreach { items: self.payload(Json::of(&list)), total })
    }

    fn begin_wait(&mut self, scope: ScopeNo, wait: &Wait) -> Result<Activity, Missing> {
        let until = match wait {
            Wait::Duration(template) => {
                let value = self.render(scope, template, &Locals::new())?;
                let ms = match &value {
                    Value::Number(seconds) => seconds.as_f64().and_then(seconds_to_ms),
                    Value::String(text) => parse_duration_ms(text),
                    _ => None,
                };
                ms.map(|ms| self.now().plus_ms(ms)).ok_or_else(|| {
                    let message =
                        format!("{value} is no duration: write seconds (90), 90s, 5m, 1h 30m or ISO 8601 (PT5M)");
                    Failure::new(Category::ExpressionError, "INVALID_DURATION", message)
                })?
            }
            Wait::Until(template) => {
                let value = self.render(scope, template, &Locals::new())?;
                value.as_str().and_then(Timestamp::parse).ok_or_else(|| {
                    let message = format!("{value} is no time: write RFC 3339 (2026-11-21T09:00:00Z)");
                    Failure::new(Category::ExpressionError, "INVALID_TIME", message)
                })?
            }
        };
        Ok(Activity::Wait { until })
    }

    fn begin_signal(&mut self, scope: ScopeNo, signal: &SignalWait) -> Result<Activity, Missing> {
        let name = text(&self.render(scope, &signal.name, &Locals::new())?).into();
        let correlation = match &signal.correlation {
            Some(template) => Some(text(&self.render(scope, template, &Locals::new())?).into()),
            None => None,
        };
        Ok(Activity::Signal { name, correlation })
    }

    fn begin_call(&mut self, scope: ScopeNo, state: &State, call: &Call, id: &StepId) -> Result<Activity, Missing> {
        let depth = self.state.parent.as_ref().map_or(0, |parent| parent.depth);
        if depth >= self.limits.call_depth_max {
            let message = format!("runs may call runs {} deep, not deeper", self.limits.call_depth_max);
            return Err(Failure::new(Category::LimitError, "CALL_DEPTH_EXCEEDED", message).never_retried().into());
        }
        let workflow = text(&self.render(scope, &call.workflow, &Locals::new())?).into();
        let version = match &call.version {
            Some(template) => Some(text(&self.render(scope, template, &Locals::new())?).into()),
            None => None,
        };
        let input = match &call.input {
            Some(template) => self.render(scope, template, &Locals::new())?,
            None => Value::Object(serde_json::Map::new()),
        };
        let input = self.value("the input", Json::of(&input))?;
        let child = super::ids::child_run(id, 1, self.now());
        let max_attempts = state.retry.as_ref().map_or(1, |retry| retry.max_attempts);
        Ok(Activity::Call { workflow, version, input, child, max_attempts })
    }

    /// Asks for the child of a call: at its start, and for every further attempt.
    pub(super) fn start_child(&mut self, step: StepNo) {
        let Some(open) = self.state.steps.get(&step).cloned() else { return };
        let Activity::Call { workflow, version, input, child, .. } = &open.activity else { return };
        let depth = self.state.parent.as_ref().map_or(0, |parent| parent.depth) + 1;
        let message = Message::StartChild {
            parent: self.state.id.clone(),
            step,
            depth,
            workflow: workflow.clone(),
            version: version.clone(),
            input: input.clone(),
            trace: Some(trace::traceparent(self.state.trace_id(), trace::state(&self.state.id, step))),
        };
        self.send(child, &message);
    }

    fn begin_fail(&mut self, scope: ScopeNo, fail: &Fail) -> Result<Failure, Missing> {
        let code = text(&self.render(scope, &fail.code, &Locals::new())?);
        let message = text(&self.render(scope, &fail.message, &Locals::new())?);
        let failure = Failure::new(fail.category, &code, message).never_retried();
        Ok(match &fail.details {
            Some(details) => {
                let value = self.render(scope, details, &Locals::new())?;
                failure.with_details(Json::of(&value))
            }
            None => failure,
        })
    }

    /// Ends the run well, if its output fits its schema.
    pub(super) fn complete_run(&mut self, output: Option<Payload>) -> Result<(), Stop> {
        let output = output.unwrap_or_else(|| Payload::Inline(Json::null()));
        if let Some(validator) = &self.def.output_validator {
            let problems = self.with_value(&output, |value| validator.validate(value).err())?;
            if let Some(problems) = problems {
                let message = format!("the run's output does not fit outputSchema: {}", describe(&problems));
                let failure = Failure::new(Category::ValidationError, "SCHEMA_VALIDATION_OUTPUT", message);
                let error = RunError { failure, state: None, step_id: None };
                return self.finish(RunStatus::Failed, None, Some(error), None);
            }
        }
        self.finish(RunStatus::Completed, Some(output), None, None)
    }
}

fn describe(problems: &[crate::schema::Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

fn via(scope: &Scope) -> String {
    use super::ScopeRole;
    match &scope.role {
        ScopeRole::Root => String::new(),
        ScopeRole::Branch(at) => format!("branch:{at}"),
        ScopeRole::Item(at) => format!("item:{at}"),
        ScopeRole::Try => "try".into(),
        ScopeRole::Catch => "catch".into(),
        ScopeRole::Finally => "finally".into(),
    }
}

/// As Starlark sees truth.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A value where text is wanted.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What a value is, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
