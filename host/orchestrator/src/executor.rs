//! Runs claimed steps, and stops them.

use std::sync::Arc;
use std::time::Duration;

use caisson_core::engine::{Activity, Step, StepNo, Stimulus, Wake, unbase64};
use caisson_core::error::{Category, Failure};
use caisson_core::ids::RunId;
use caisson_core::json::{Json, Payload};
use caisson_core::ports::{Entry, Invocation, Resumption, Usage};
use caisson_core::trace;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::cell::Loaded;
use crate::error::{Error, Kind};
use crate::replay::{self, Asked, Forked};
use crate::service::Service;
use crate::values::value;

/// How long a cancelled guest may take to clean up.
const CLEAN_UP_MAX: Duration = Duration::from_secs(10);
/// Pauses between tries to store a result while the store cannot take it.
const STORE_RETRY_MIN: Duration = Duration::from_millis(50);
const STORE_RETRY_MAX: Duration = Duration::from_secs(2);

/// What of a run an invocation mentions.
struct About {
    invocation: Invocation,
    input: Payload,
    kept: Option<Payload>,
    /// Of a replayed run, where the step may have a result already.
    asked: Option<Asked>,
}

/// Runs a step that was claimed for this process. The claim is durable.
pub(crate) fn start(service: &Service, loaded: &Loaded, step: &Arc<Step>, permit: Option<OwnedSemaphorePermit>) {
    let waking = step.waking.as_ref().map(|waking| (waking.state.clone(), waking.wake.clone()));
    let Some(about) = about(service, loaded, step, waking) else { return };
    let run = loaded.row.id.clone();
    let stop = service.0.killed.child_token();
    let key = (run.clone(), step.number);
    service.0.running.lock().insert(key.clone(), (step.claim, stop.clone()));
    let (service, number, attempt, claim) = (service.clone(), step.number, step.attempt, step.claim);
    let tasks = service.0.tasks.clone();
    tasks.spawn(async move {
        let entry = tokio::select! {
            biased;
            entry = execute(&service, about) => Some(entry),
            () = stop.cancelled() => None,
        };
        if let Some(entry) = entry {
            hand_in(&service, &run, Stimulus::Result { step: number, attempt, claim, entry }, permit, &stop).await;
        }
        // Only now: what is held and does not run is given back.
        let mut running = service.0.running.lock();
        if running.get(&key).is_some_and(|(held, _)| *held == claim) {
            running.remove(&key);
        }
    });
}

/// Stops a step if it still runs under that claim, and says whether it did.
pub(crate) fn abort(service: &Service, run: &RunId, step: StepNo, claim: u32) -> bool {
    let mut running = service.0.running.lock();
    let key = (run.clone(), step);
    if running.get(&key).is_some_and(|(held, _)| *held == claim)
        && let Some((_, stop)) = running.remove(&key)
    {
        stop.cancel();
        return true;
    }
    false
}

/// Lets a parked guest clean up after its step was cancelled. Whatever it answers is ignored.
pub(crate) fn clean_up(service: &Service, loaded: &Loaded, step: &Arc<Step>, reason: &str) {
    let Some(parked) = &step.parked else { return };
    let wake = Wake::Cancelled { reason: reason.to_owned() };
    let Some(about) = about(service, loaded, step, Some((parked.state.clone(), wake))) else { return };
    let (service, killed) = (service.clone(), service.0.killed.clone());
    let tasks = service.0.tasks.clone();
    tasks.spawn(async move {
        tokio::select! {
            biased;
            _ = tokio::time::timeout(CLEAN_UP_MAX, execute(&service, about)) => {}
            () = killed.cancelled() => {}
        }
    });
}

fn about(service: &Service, loaded: &Loaded, step: &Step, waking: Option<(Payload, Wake)>) -> Option<About> {
    let Activity::Operation { action, plugin, input, idempotency_key, narrowed, .. } = &step.activity else {
        return None;
    };
    // A parked step that is woken to clean up is over: nobody has claimed it.
    let cleaning_up = matches!(waking, Some((_, Wake::Cancelled { .. })));
    let began = step.entered_at.filter(|_| !cleaning_up).unwrap_or_else(|| service.0.ports.clock.now());
    let from = loaded.row.forked_from.clone().filter(|_| waking.is_none());
    let asked = from.map(|from| {
        let at = Forked { from, run: loaded.row.id.clone(), step: step.number };
        Asked { at, action: action.clone() }
    });
    let (kept, resumed) = match waking {
        Some((kept, wake)) => (Some(kept), Some(Resumption { state: Vec::new(), wake })),
        None => (None, None),
    };
    let invocation = Invocation {
        realm: loaded.row.realm.clone(),
        action: action.clone(),
        plugin: plugin.clone(),
        workflow: loaded.row.workflow_id.clone(),
        workflow_version: loaded.row.workflow_version.clone(),
        run: loaded.row.id.clone(),
        step: step.id.clone(),
        number: step.number,
        state: step.state.clone(),
        attempt: step.attempt,
        entry: step.entry,
        claim: (!cleaning_up).then_some(step.claim),
        narrowed: narrowed.clone(),
        idempotency_key: idempotency_key.clone(),
        deadline_ms: step.deadline.map(|deadline| deadline.since_ms(began)),
        now: began,
        // Of the attempt, not of this entry by this host: whoever goes on elsewhere has to see the same.
        traceparent: Some(trace::traceparent(
            loaded.state.trace_id(),
            trace::step(&loaded.row.id, step.number, step.attempt),
        )),
        input: Json::null(),
        resumed,
    };
    Some(About { invocation, input: input.clone(), kept, asked })
}

async fn execute(service: &Service, about: About) -> Entry {
    let About { mut invocation, input, kept, asked } = about;
    let run = invocation.run.clone();
    let ready = async {
        if let Some(asked) = &asked
            && let Some(entry) = replay::recorded(service, asked, &input).await?
        {
            return Ok(Some(entry));
        }
        invocation.input = value(service, &run, &input).await?;
        if let (Some(kept), Some(resumed)) = (&kept, &mut invocation.resumed) {
            let text = value(service, &run, kept).await?.value();
            resumed.state = text.as_str().and_then(unbase64).ok_or_else(|| {
                Error::new(Kind::Internal, "SUSPENSION_UNREADABLE", "what the guest kept cannot be read back")
            })?;
            if let Wake::Signal { payload, .. } = &mut resumed.wake {
                *payload = Payload::Inline(value(service, &run, payload).await?);
            }
        }
        Ok::<_, Error>(None)
    };
    match ready.await {
        Ok(Some(entry)) => entry,
        Ok(None) => service.0.ports.runner.run(invocation).await,
        Err(error) => {
            let failure = Failure::new(Category::TransientError, error.code, error.message.to_string());
            Entry { result: Err(failure), usage: Usage::default(), warnings: Vec::new() }
        }
    }
}

/// Stores a result. It is worth the work that it took, so a store that cannot take it is asked again until it can or the process ends.
async fn hand_in(
    service: &Service,
    run: &RunId,
    stimulus: Stimulus,
    permit: Option<OwnedSemaphorePermit>,
    stop: &CancellationToken,
) {
    let mut pause = STORE_RETRY_MIN;
    let mut permit = permit;
    loop {
        match service.submit_with(run, stimulus.clone(), permit.take(), None).await {
            Ok(_) => return,
            // An inner error too: whatever is wrong with the run, the work was done.
            Err(error) if matches!(error.kind, Kind::Unavailable | Kind::Internal) || error.code == "RUN_BUSY" => {
                tracing::warn!(run_id = %run, code = error.code, error = %error, "result is not stored yet");
            }
            Err(error) => {
                // Superseded: cancelled, timed out, or claimed by somebody else.
                tracing::debug!(run_id = %run, code = error.code, error = %error, "result is no longer wanted");
                return;
            }
        }
        tokio::select! {
            biased;
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = (pause * 2).min(STORE_RETRY_MAX);
    }
}
