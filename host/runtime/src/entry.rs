//! One entry: a fresh store and instance, one call, and what came of it.
//!
//! Invariant: whatever a guest does, an entry ends with a result and the usage, and the next entry starts from nothing.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use caisson_core::error::{Category, Failure};
use caisson_core::ids::{Realm, RunId, StepId};
use caisson_core::json::Json;
use caisson_core::plugin::{Capability, Effective, Package};
use caisson_core::ports::{Entry, EntryKey, Invocation, Outcome, PluginRef, Usage};
use caisson_core::time::Timestamp;
use tokio::time::Instant;
use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};

use crate::assets::Assets;
use crate::bindings::caisson::step::types as wire;
use crate::clock::VirtualClock;
use crate::convert;
use crate::journal::Cursor;
use crate::limiter::Limiter;
use crate::limits::{Exceeded, Limit, Limits};
use crate::logbook::LogBook;
use crate::meter::{Meter, Metered};
use crate::model::Tokens;
use crate::plugin::{Code, Compiled};
use crate::random::Random;
use crate::redact::Redactor;
use crate::sessions::Sessions;
use crate::state::{Quota, Shared, State};
use crate::trap;

/// Texts up to this size are checked in some tens of microseconds: where larger ones are, an entry leaves the host's
/// threads to the host.
pub(crate) const BRIEF_BYTES_MAX: usize = 64 << 10;

/// What one entry is given.
pub(crate) struct Call {
    pub(crate) effective: Arc<Effective>,
    pub(crate) limits: Limits,
    pub(crate) invocation: Invocation,
    pub(crate) shared: Arc<Shared>,
    /// When the attempt's own time is over, if it has any.
    pub(crate) deadline: Option<Instant>,
}

/// An entry, and what only authors want to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// What came of it.
    pub entry: Entry,
    /// Instructions of wasm that it took; `None` if the runtime does not count them, or no guest ran.
    pub fuel: Option<u64>,
}

impl From<Entry> for Measured {
    fn from(entry: Entry) -> Self {
        Self { entry, fuel: None }
    }
}

/// Runs one entry to its end. Ends promptly when dropped: a guest yields at every tick of the epoch.
pub(crate) async fn run(compiled: &Compiled, code: &Code, config: &Json, call: Call) -> Measured {
    let name = Arc::clone(&call.invocation.action);
    let Some(action) = compiled.named(&call.effective.package().id, &name) else {
        return failed(missing(&name)).into();
    };
    if let Some(schema) = &action.input {
        let what = format!("the input does not fit action '{name}'");
        if let Err(failure) = schema.check(&call.invocation.input, "SCHEMA_VALIDATION_INPUT", &what) {
            return failed(failure).into();
        }
    }
    let state = state(&call, Arc::clone(&compiled.assets));
    let redactor = Arc::clone(&state.redactor);
    let Call { effective, limits, invocation, deadline, .. } = call;
    let sent = match convert::invocation(invocation, &action.name, config.get().to_owned()) {
        Ok(sent) => sent,
        Err(failure) => return failed(failure).into(),
    };
    let Ended { result, usage, fuel, mut warnings } =
        guest(code, state, limits, &sent, effective.package(), deadline).await;
    if let Ok(wire::Outcome::Done(text)) = &result
        && text.len() > BRIEF_BYTES_MAX
    {
        tokio::task::yield_now().await;
    }
    let result = result.and_then(|outcome| finish(&effective, &limits, &redactor, outcome));
    let result = result.map_err(|failure| redactor.failure(failure));
    if let (Ok(Outcome::Done(output)), Some(schema)) = (&result, &action.output) {
        let what = format!("the output does not fit the schema of action '{name}'");
        warnings.extend(schema.check(output, "SCHEMA_VALIDATION_OUTPUT", &what).err());
    }
    Measured { entry: Entry { result, usage, warnings }, fuel }
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

/// The step's own time is over.
pub(crate) fn timed_out(package: &Package) -> Failure {
    let message = format!("plugin {}@{} did not answer within the step's time", package.id, package.version);
    Failure::new(Category::TimeoutError, "STEP_TIMEOUT", message)
}

/// A store's contents.
pub(crate) fn state(call: &Call, assets: Arc<Assets>) -> State {
    let Call { effective, limits, invocation, shared, .. } = call;
    let redactor = Arc::new(redactor(effective, shared, &invocation.realm));
    let log = Arc::new(LogBook::new(
        invocation.run.clone(),
        invocation.step.clone(),
        Arc::clone(&shared.log_sink),
        Arc::clone(&redactor),
        limits,
    ));
    let entry = invocation.claim.map(|claim| EntryKey {
        run: invocation.run.clone(),
        step: invocation.number,
        attempt: invocation.attempt,
        entry: invocation.entry,
        claim,
    });
    let journal = Arc::clone(&shared.journal);
    let mut handles = ResourceTable::new();
    handles.set_max_capacity(usize::try_from(limits.handles).unwrap_or(usize::MAX));
    State {
        wasi: None,
        handles,
        limiter: Limiter::new(limits.memory_bytes, limits.table_elements),
        limits: *limits,
        log,
        host_calls: 0,
        random: Random::new(shared.random_key, invocation.step.clone(), invocation.attempt, invocation.entry),
        clock: Arc::new(VirtualClock::new(invocation.now)),
        effective: Arc::clone(effective),
        cursor: Cursor::new(journal, entry, invocation.step.clone(), Arc::clone(&invocation.idempotency_key)),
        redactor,
        quota: Quota::default(),
        agent_tools: None,
        sessions: Sessions::default(),
        tokens: Tokens::default(),
        warnings: Vec::new(),
        assets,
        realm: invocation.realm.clone(),
        workflow: Arc::clone(&invocation.workflow),
        run: invocation.run.clone(),
        step: invocation.step.clone(),
        traceparent: invocation.traceparent.clone(),
        shared: Arc::clone(shared),
    }
}

/// Hides every secret that the package may get hold of, whatever the workflow leaves to this entry: it may have kept
/// one from another.
fn redactor(effective: &Effective, shared: &Shared, realm: &Realm) -> Redactor {
    let names = effective.secret_names();
    if names.is_empty() {
        return Redactor::none();
    }
    let found = |name: String| shared.secrets.get(realm, &name).map(|secret| (name, secret));
    Redactor::new(names.into_iter().filter_map(found).collect())
}

/// More than any guest's time lasts for: it is counted, not limited.
const FUEL: u64 = u64::MAX;

struct Ended {
    result: Result<wire::Outcome, Failure>,
    usage: Usage,
    fuel: Option<u64>,
    warnings: Vec<Failure>,
}

async fn guest(
    code: &Code,
    state: State,
    limits: Limits,
    sent: &wire::Invocation,
    package: &Package,
    deadline: Option<Instant>,
) -> Ended {
    let meter = Arc::new(Meter::default());
    let log = Arc::clone(&state.log);
    let mut store = store(code, state, limits, &meter);
    let wall = Instant::now() + Duration::from_millis(limits.wall_ms);
    let until = deadline.map_or(wall, |deadline| deadline.min(wall));
    let answered = {
        let called = pin!(async {
            let instance = code.pre.instantiate_async(&mut store).await?;
            instance.caisson_step_executor().call_execute(&mut store, sent).await
        });
        tokio::time::timeout_at(until, Metered::new(&meter, called)).await
    };

    let denied = store.data().limiter.denied();
    let result = match answered {
        Ok(Ok(answer)) => answer.map_err(convert::failure),
        Ok(Err(error)) => Err(trap::failure(&error, package, &limits, denied, &log)),
        Err(_) if deadline.is_some_and(|deadline| deadline <= wall) => Err(timed_out(package)),
        Err(_) => Err(trap::exceeded(package, Exceeded { limit: Limit::Wall, max: limits.wall_ms })),
    };
    let usage = Usage {
        cpu_us: meter.spent_ns() / 1000,
        peak_memory_bytes: store.data().limiter.peak_bytes(),
        host_calls: store.data().host_calls,
        input_tokens: store.data().tokens.input_tokens,
        output_tokens: store.data().tokens.output_tokens,
    };
    let warnings = std::mem::take(&mut store.data_mut().warnings);
    let fuel = if code.fuel { store.get_fuel().ok().map(|left| FUEL - left) } else { None };
    Ended { result, usage, fuel, warnings }
}

fn store(code: &Code, state: State, limits: Limits, meter: &Arc<Meter>) -> Store<State> {
    /// The first tick may come at once: only the second says that the guest has run for a while.
    const FIRST_TICKS: u64 = 2;
    /// Then it is looked at, and gives way, at every tick.
    const TICKS: u64 = 1;
    let mut store = Store::new(code.pre.engine(), state);
    store.limiter_async(|state| &mut state.limiter);
    // A result a little over the limit is named by its own check; one far over it is not even copied.
    store.set_hostcall_fuel(usize::try_from(limits.call_bytes.max(limits.output_bytes)).unwrap_or(usize::MAX));
    store.set_epoch_deadline(FIRST_TICKS);
    if code.fuel {
        // Fails only where fuel is not counted.
        drop(store.set_fuel(FUEL));
    }
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

/// Checks an outcome's size and rights, reads it, and hides secrets in it.
pub(crate) fn finish(
    effective: &Effective,
    limits: &Limits,
    redactor: &Redactor,
    outcome: wire::Outcome,
) -> Result<Outcome, Failure> {
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
        return Err(trap::exceeded(effective.package(), Exceeded { limit: Limit::Output, max: limits.output_bytes }));
    }
    if let wire::Outcome::Suspend(wire::Suspension { approval: Some(_), .. }) = &outcome {
        effective.check(Capability::Approval).map_err(|denied| {
            Failure::new(Category::PolicyError, "CAPABILITY_DENIED", denied.to_string()).never_retried()
        })?;
    }
    match convert::outcome(outcome)? {
        Outcome::Done(output) => Ok(Outcome::Done(redactor.json(output))),
        Outcome::Suspend(mut suspension) => {
            // The state is the guest's own: it cannot be changed, and it must not be stored.
            if let Some(name) = redactor.holds(&suspension.state) {
                let message = format!(
                    "the state that the plugin wants to keep holds the secret '{name}': secrets are not stored, read it again after waking"
                );
                return Err(Failure::new(Category::PolicyError, "SECRET_IN_STATE", message).never_retried());
            }
            let hide = |text: &mut String| {
                if let std::borrow::Cow::Owned(hidden) = redactor.text(text) {
                    *text = hidden;
                }
            };
            suspension.signals.iter_mut().for_each(hide);
            if let Some(request) = &mut suspension.approval {
                hide(&mut request.message);
                request.approvers.iter_mut().for_each(hide);
                request.summary = request.summary.take().map(|summary| redactor.json(summary));
            }
            Ok(Outcome::Suspend(suspension))
        }
    }
}

/// An invocation outside any run, for warm-ups and evaluations.
pub(crate) fn standalone(effective: &Effective, action: Arc<str>, input: Json) -> Invocation {
    let none: Arc<str> = "".into();
    let Package { id, version, digest, .. } = effective.package();
    Invocation {
        realm: Realm::new(Arc::clone(&none), Arc::clone(&none)),
        action,
        plugin: PluginRef { id: id.as_str().into(), version: version.as_str().into(), digest: digest.as_str().into() },
        workflow: Arc::clone(&none),
        workflow_version: Arc::clone(&none),
        run: RunId::new(Arc::clone(&none)),
        step: StepId::new(Arc::clone(&none)),
        number: 0,
        state: Arc::clone(&none),
        attempt: 1,
        entry: 0,
        claim: None,
        narrowed: None,
        idempotency_key: none,
        deadline_ms: None,
        now: Timestamp::default(),
        traceparent: None,
        input,
        resumed: None,
    }
}
