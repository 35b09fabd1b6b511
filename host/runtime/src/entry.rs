//! One entry: a fresh store and instance, one call, and what came of it.
//!
//! Invariant: whatever a guest does, an entry ends with a result and the usage, and the next entry starts from nothing.

use std::sync::Arc;
use std::time::Duration;

use caisson_core::error::{Category, Failure};
use caisson_core::ids::{RunId, StepId};
use caisson_core::ports::{Entry, Invocation, LogSink, Outcome, Usage};
use tokio::time::Instant;
use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};

use crate::bindings::caisson::step::types as wire;
use crate::capabilities::{Random, denial, wasi_context};
use crate::convert;
use crate::limiter::Limiter;
use crate::limits::{Exceeded, Limit, Limits};
use crate::logbook::LogBook;
use crate::manifest::Capability;
use crate::meter::{Meter, Metered};
use crate::model::Models;
use crate::plugin::Plugin;
use crate::state::State;
use crate::trap;

/// What every entry is given of the runtime.
pub(crate) struct Surroundings {
    pub(crate) models: Arc<Models>,
    pub(crate) sink: Arc<dyn LogSink>,
    /// When the attempt's own time is over, if it has any.
    pub(crate) deadline: Option<Instant>,
}

/// Runs one entry to its end. Ends promptly when dropped: a guest yields at every tick of the epoch.
pub(crate) async fn run(plugin: Arc<Plugin>, limits: Limits, call: Invocation, around: Surroundings) -> Entry {
    let Some(action) = plugin.action(&call.action) else {
        return failed(missing(&call.action));
    };
    if let Some(schema) = &action.input {
        let what = format!("the input does not fit action '{}'", call.action);
        if let Err(failure) = schema.check(&call.input, "SCHEMA_VALIDATION_INPUT", &what) {
            return failed(failure);
        }
    }
    let log = Arc::new(LogBook::new(call.run.clone(), call.step.clone(), Arc::clone(&around.sink), &limits));
    let state = state(&plugin, limits, &call, &log, &around.models);
    let name = Arc::clone(&call.action);
    let sent = match convert::invocation(call, &action.name, plugin.config.clone()) {
        Ok(sent) => sent,
        Err(failure) => return failed(failure),
    };
    let (result, usage) = guest(&plugin, state, limits, &sent, &log, around.deadline).await;
    let result = result.and_then(|outcome| finish(&plugin, &limits, outcome));
    let mut warnings = Vec::new();
    if let (Ok(Outcome::Done(output)), Some(schema)) = (&result, &action.output) {
        let what = format!("the output does not fit the schema of action '{name}'");
        warnings.extend(schema.check(output, "SCHEMA_VALIDATION_OUTPUT", &what).err());
    }
    Entry { result, usage, warnings }
}

/// An entry that ended before a guest ran.
pub(crate) fn failed(failure: Failure) -> Entry {
    Entry { result: Err(failure), usage: Usage::default(), warnings: Vec::new() }
}

/// No such action.
pub(crate) fn missing(action: &str) -> Failure {
    Failure::new(Category::ActionError, "ACTION_NOT_FOUND", format!("no plugin has the action '{action}'"))
        .never_retried()
}

/// A store's contents.
pub(crate) fn state(
    plugin: &Plugin,
    limits: Limits,
    call: &Invocation,
    log: &Arc<LogBook>,
    models: &Arc<Models>,
) -> State {
    let mut handles = ResourceTable::new();
    handles.set_max_capacity(usize::try_from(limits.handles).unwrap_or(usize::MAX));
    State {
        wasi: wasi_context(call.now, log),
        handles,
        limiter: Limiter::new(limits.memory_bytes, limits.table_elements),
        limits,
        log: Arc::clone(log),
        host_calls: 0,
        random: Random::new(call.step.as_str(), call.attempt, call.entry),
        realm: call.realm.clone(),
        plugin: Arc::clone(&plugin.identity),
        models: Arc::clone(models),
    }
}

async fn guest(
    plugin: &Plugin,
    state: State,
    limits: Limits,
    sent: &wire::Invocation,
    log: &LogBook,
    deadline: Option<Instant>,
) -> (Result<wire::Outcome, Failure>, Usage) {
    let meter = Arc::new(Meter::default());
    let mut store = store(plugin, state, limits, &meter);
    let called = Metered::new(Arc::clone(&meter), async {
        let instance = plugin.pre.instantiate_async(&mut store).await?;
        instance.caisson_step_executor().call_execute(&mut store, sent).await
    });
    let wall = Instant::now() + Duration::from_millis(limits.wall_ms);
    let until = deadline.map_or(wall, |deadline| deadline.min(wall));
    let answered = tokio::time::timeout_at(until, called).await;

    let denied = store.data().limiter.denied();
    let result = match answered {
        Ok(Ok(answer)) => answer.map_err(convert::failure),
        Ok(Err(error)) => Err(trap::failure(&error, &plugin.identity, &limits, denied, log)),
        Err(_) if deadline.is_some_and(|deadline| deadline <= wall) => {
            let message = format!(
                "plugin {}@{} did not answer within the step's time",
                plugin.identity.id, plugin.identity.version
            );
            Err(Failure::new(Category::TimeoutError, "STEP_TIMEOUT", message))
        }
        Err(_) => Err(trap::exceeded(&plugin.identity, Exceeded { limit: Limit::Wall, max: limits.wall_ms })),
    };
    let usage = Usage {
        cpu_us: meter.spent_ns() / 1000,
        peak_memory_bytes: store.data().limiter.peak_bytes(),
        host_calls: store.data().host_calls,
    };
    (result, usage)
}

fn store(plugin: &Plugin, state: State, limits: Limits, meter: &Arc<Meter>) -> Store<State> {
    /// Looked at and given way at every tick.
    const TICKS: u64 = 1;
    let mut store = Store::new(plugin.pre.engine(), state);
    store.limiter(|state| &mut state.limiter);
    // A result a little over the limit is named by its own check; one far over it is not even copied.
    store.set_hostcall_fuel(usize::try_from(limits.call_bytes.max(limits.output_bytes)).unwrap_or(usize::MAX));
    store.set_epoch_deadline(TICKS);
    let meter = Arc::clone(meter);
    let cpu_ns = limits.cpu_ms.saturating_mul(1_000_000);
    store.epoch_deadline_callback(move |_| {
        if meter.now_ns() > cpu_ns {
            return Err(Exceeded { limit: Limit::Cpu, max: limits.cpu_ms }.into());
        }
        Ok(UpdateDeadline::Yield(TICKS))
    });
    store
}

/// Checks an outcome's size and rights, and reads it.
fn finish(plugin: &Plugin, limits: &Limits, outcome: wire::Outcome) -> Result<Outcome, Failure> {
    let size = match &outcome {
        wire::Outcome::Done(text) => text.len(),
        wire::Outcome::Suspend(suspension) => {
            let request = suspension.approval.as_ref().map_or(0, |request| {
                request.message.len()
                    + request.summary.as_ref().map_or(0, String::len)
                    + request.approvers.iter().map(String::len).sum::<usize>()
            });
            suspension.state.len() + request + suspension.signals.iter().map(String::len).sum::<usize>()
        }
    };
    if size as u64 > limits.output_bytes {
        return Err(trap::exceeded(&plugin.identity, Exceeded { limit: Limit::Output, max: limits.output_bytes }));
    }
    if let wire::Outcome::Suspend(wire::Suspension { approval: Some(_), .. }) = &outcome
        && !plugin.identity.grants.contains(&Capability::Approval)
    {
        let message = denial(&plugin.identity.id, Capability::Approval);
        return Err(Failure::new(Category::PolicyError, "CAPABILITY_DENIED", message).never_retried());
    }
    convert::outcome(outcome)
}

/// An invocation outside any run, for warm-ups and evaluations.
pub(crate) fn standalone(plugin: &Plugin, action: &Arc<str>, input: caisson_core::json::Json) -> Invocation {
    use caisson_core::ids::Realm;
    use caisson_core::ports::PluginRef;
    use caisson_core::time::Timestamp;
    let none: Arc<str> = "".into();
    Invocation {
        realm: Realm::new(Arc::clone(&none), Arc::clone(&none)),
        action: Arc::clone(action),
        plugin: PluginRef {
            id: Arc::clone(&plugin.identity.id),
            version: Arc::clone(&plugin.identity.version),
            digest: Arc::clone(&plugin.identity.digest),
        },
        workflow: Arc::clone(&none),
        workflow_version: Arc::clone(&none),
        run: RunId::new(Arc::clone(&none)),
        step: StepId::new(Arc::clone(&none)),
        state: Arc::clone(&none),
        attempt: 1,
        entry: 0,
        idempotency_key: none,
        deadline_ms: None,
        now: Timestamp::default(),
        traceparent: None,
        input,
        resumed: None,
    }
}
