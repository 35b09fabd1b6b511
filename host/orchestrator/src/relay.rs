//! Carries work: ready steps from the store to the queue and from the queue to a slot, messages from run to run, and at the start
//! what a former process left behind.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use caisson_core::engine::{ChildEnd, Event, Message, ParentStep, Stimulus};
use caisson_core::ids::RunId;
use caisson_core::json::Payload;
use caisson_core::ports::{Delivery, Horizon, NewRun, OutboxRow, Ready, ReadyRow, Store};
use caisson_core::status::RunStatus;
use caisson_core::trace::{self, TraceId};
use futures_util::future::join_all;
use tokio::sync::OwnedSemaphorePermit;

use crate::error::{Error, Kind};
use crate::replay::{self, Forked};
use crate::service::{Service, as_run_error};
use crate::start::{Begin, Begun, begin_run};

/// Rows read at once: a screenful of work for every slot.
const PAGE: u32 = 256;
/// Pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Messages that one host has taken to deliver, others leave alone for so long: many times what delivering takes.
const HOLD_MS: u64 = 10_000;

/// Steps that a dead process held are given back. Everything else that was under way is found by its rows. If the store cannot take it now (a
/// full disk), the host starts all the same and goes on trying.
pub(crate) async fn recover(service: &Service) -> Result<(), Error> {
    // Among several hosts a claim is lost with its host's lease, and any host's sweep finds it.
    if service.0.ports.cluster.is_some() {
        return Ok(());
    }
    if !give_back(service).await? {
        service.0.tasks.spawn(recover_later(service.clone()));
    }
    Ok(())
}

async fn recover_later(service: Service) {
    let work = async {
        loop {
            tokio::time::sleep(STORE_PAUSE).await;
            match give_back(&service).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(error = %error, "claimed steps cannot be read"),
            }
        }
    };
    tokio::select! {
        biased;
        () = work => {}
        () = service.0.stopping.cancelled() => {}
    }
}

/// Whether every step of a former process was given back.
async fn give_back(service: &Service) -> Result<bool, Error> {
    let inner = &service.0;
    let mut seen = 0;
    loop {
        let lost = inner.ports.store.claimed_by_others(&inner.member.id(), PAGE).await?;
        if lost.is_empty() {
            break;
        }
        seen += lost.len();
        let given_back = lost.iter().map(|(run, step, claim)| async move {
            service.submit(run, Stimulus::Lost { step: *step, claim: *claim }).await
        });
        let results = join_all(given_back).await;
        // If none of them moved, asking again at once would not end.
        if results.iter().all(Result::is_err) {
            for ((run, step, _), result) in lost.iter().zip(results) {
                if let Err(error) = result {
                    tracing::error!(run_id = %run, step, error = %error, "step cannot be given back yet");
                }
            }
            return Ok(false);
        }
    }
    if seen > 0 {
        tracing::info!(steps = seen, "steps of a former process are given back");
    }
    Ok(true)
}

/// From the queue to a slot.
pub(crate) async fn pump(service: Service) {
    let inner = &service.0;
    let work = async {
        loop {
            let Ok(permit) = inner.slots.clone().acquire_owned().await else { return };
            let delivery = inner.ports.queue.next().await;
            let service = service.clone();
            inner.tasks.spawn(async move {
                claim(&service, delivery, permit).await;
            });
        }
    };
    tokio::select! {
        biased;
        () = work => {}
        () = inner.stopping.cancelled() => {}
    }
}

/// Claims a step and runs it. A step that the store could not give now goes back to the queue: its row is still ready, and nobody else looks at it.
async fn claim(service: &Service, delivery: Delivery, permit: OwnedSemaphorePermit) {
    let ready = &delivery.ready;
    let stimulus = Stimulus::Claim { step: ready.step, host: service.0.member.id() };
    let claimed = if service.0.member.may_claim() {
        service.submit_with(&ready.run, stimulus, Some(permit), None).await
    } else {
        Err(Error::new(Kind::Unavailable, "LEASE_OVER", "this host's lease is over"))
    };
    match claimed {
        // From now on the claim's lease looks after the step.
        Ok(_) => delivery.done(),
        Err(error) if error.kind == Kind::Unavailable || error.code == "RUN_BUSY" => {
            tracing::warn!(run_id = %ready.run, step = ready.step, error = %error, "step is not claimed yet");
            let Some(ready) = delivery.again(STORE_PAUSE) else { return };
            tokio::select! {
                biased;
                () = tokio::time::sleep(STORE_PAUSE) => service.0.ports.queue.publish(vec![ready], false),
                () = service.0.stopping.cancelled() => {}
            }
        }
        // Superseded: claimed, cancelled, or its run is paused. What becomes ready again is published again.
        Err(error) => {
            tracing::debug!(run_id = %ready.run, step = ready.step, error = %error, "step is not claimed");
            delivery.done();
        }
    }
}

/// From the store to the queue: at the start, and whenever the queue had to drop something.
pub(crate) async fn refill(service: Service) {
    let inner = &service.0;
    let work = async {
        loop {
            let queue = &inner.ports.queue;
            let horizon = queue.horizon().await;
            // Taken first: what is published while the rows are read sets it again.
            queue.take_overflow();
            // At least one: a full queue must drop something, or it would forget that there is more.
            let room = u32::try_from(queue.room()).unwrap_or(u32::MAX).max(1);
            let store = &*inner.ports.store;
            let rows = match horizon {
                Horizon::Process => store.ready(room).await,
                Horizon::Since(time) => store.redispatch(time, inner.ports.clock.now(), room).await,
            };
            match rows {
                Ok(rows) => {
                    let more = rows.len() >= room as usize;
                    let traces = match horizon {
                        Horizon::Process => HashMap::new(),
                        Horizon::Since(_) => traces(store, &rows).await,
                    };
                    let steps = rows.into_iter().map(|row| published(row, &traces));
                    queue.publish(steps.collect(), more);
                    inner.ports.queue.wants_refill().await;
                }
                Err(error) => {
                    tracing::warn!(error = %error, "ready steps cannot be read");
                    tokio::time::sleep(STORE_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = work => {}
        () = inner.stopping.cancelled() => {}
    }
}

fn published(row: ReadyRow, traces: &HashMap<RunId, TraceId>) -> Ready {
    let ReadyRow { run, step, attempt, entry, dispatch } = row;
    let traceparent = traces.get(&run).map(|id| trace::traceparent(*id, trace::step(&run, step, attempt)));
    Ready { run, step, attempt, entry, dispatch, traceparent }
}

/// The traces of steps that go to other processes; a client may have named one when it started the run. A step whose trace cannot be read
/// goes without: the store holds it to be published.
async fn traces(store: &dyn Store, rows: &[ReadyRow]) -> HashMap<RunId, TraceId> {
    let mut traces = HashMap::new();
    for run in rows.iter().map(|row| &row.run) {
        if traces.contains_key(run) {
            continue;
        }
        let Ok(first) = store.events(run, 0, 1).await else { break };
        let created = first.first().and_then(|event| Event::decode(&event.kind, event.data.get()).ok());
        if let Some(Event::RunCreated { trace, .. }) = created {
            traces.insert(run.clone(), trace::of_run(run, trace.as_deref()));
        }
    }
    traces
}

/// Messages from run to run.
pub(crate) async fn deliver(service: Service) {
    let inner = &service.0;
    let work = async {
        loop {
            let rows = match &inner.ports.cluster {
                Some(cluster) => cluster.take_outbox(PAGE, HOLD_MS).await,
                None => inner.ports.store.outbox(PAGE).await,
            };
            match rows {
                Ok(rows) if rows.is_empty() => inner.messages.notified().await,
                Ok(rows) => {
                    // In order for each target, side by side for different ones.
                    let mut by_target: BTreeMap<RunId, Vec<OutboxRow>> = BTreeMap::new();
                    for row in rows {
                        by_target.entry(row.target.clone()).or_default().push(row);
                    }
                    let failed = join_all(by_target.into_values().map(|rows| deliver_all(&service, rows))).await;
                    if failed.contains(&true) {
                        tokio::time::sleep(STORE_PAUSE).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %error, "messages cannot be read");
                    tokio::time::sleep(STORE_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = work => {}
        () = inner.stopping.cancelled() => {}
    }
}

/// Whether something is left to be tried again.
async fn deliver_all(service: &Service, rows: Vec<OutboxRow>) -> bool {
    for row in rows {
        let id = row.id.clone();
        match deliver_one(service, row).await {
            Ok(()) => {}
            Err(error) if matches!(error.kind, Kind::Unavailable | Kind::Internal) || error.code == "RUN_BUSY" => {
                tracing::warn!(message = %id, error = %error, "message is not delivered yet");
                return true;
            }
            Err(error) => {
                tracing::debug!(message = %id, error = %error, "message is no longer wanted");
                if service.0.ports.store.outbox_delete(&[id]).await.is_err() {
                    return true;
                }
            }
        }
    }
    false
}

async fn deliver_one(service: &Service, row: OutboxRow) -> Result<(), Error> {
    let message = serde_json::from_str(row.message.get()).map_err(|error| {
        Error::new(Kind::Malformed, "MESSAGE_UNREADABLE", format!("message {} cannot be read: {error}", row.id))
    })?;
    let stimulus = match message {
        Message::StartChild { parent, step, depth, workflow, version, input, trace } => {
            let parent = ParentStep { run: parent, step, depth };
            let asked = Child { parent, workflow, version, input, trace };
            return start_child(service, row.id, row.target, asked).await;
        }
        Message::CancelChild { reason } => Stimulus::Cancel { actor: "parent".into(), reason: Some(reason) },
        Message::ChildEnded { step, child, end } => Stimulus::ChildEnded { step, child, end },
        Message::Continue => Stimulus::Continue,
    };
    service.submit_with(&row.target, stimulus, None, Some(row.id)).await.map(|_| ())
}

/// A run that a step calls.
struct Child {
    parent: ParentStep,
    workflow: Arc<str>,
    version: Option<Arc<str>>,
    input: Payload,
    trace: Option<Arc<str>>,
}

async fn start_child(service: &Service, message: Arc<str>, child: RunId, asked: Child) -> Result<(), Error> {
    let Child { parent, workflow, version, input, trace } = asked;
    let Some(caller) = service.0.ports.store.run(&parent.run).await? else {
        return Err(Error::new(Kind::NotFound, "RUN_NOT_FOUND", format!("there is no run {}", parent.run)));
    };
    if let Some(from) = caller.forked_from {
        let at = Forked { from, run: parent.run.clone(), step: parent.step };
        if let Some(output) = replay::called(service, at, (&workflow, version.as_deref(), &input)).await? {
            let end = ChildEnd { status: RunStatus::Completed, output: Some(output), error: None };
            let stimulus = Stimulus::ChildEnded { step: parent.step, child, end };
            return service.submit_with(&parent.run, stimulus, None, Some(message)).await.map(|_| ());
        }
    }
    let begin = Begin {
        id: child.clone(),
        realm: caller.realm,
        workflow: workflow.to_string(),
        version: version.map(|version| version.to_string()),
        input: crate::values::value(service, &parent.run, &input).await?,
        actor: caller.created_by,
        parent: Some(parent.clone()),
        new: NewRun { project_id: caller.project_id, ..NewRun::default() },
        trace,
        message: Some(message.clone()),
    };
    match begin_run(service, begin).await {
        Ok(_) => Ok(()),
        Err(Begun::Exists(_)) => Ok(service.0.ports.store.outbox_delete(&[message]).await?),
        Err(Begun::Not(error)) if matches!(error.kind, Kind::Unavailable | Kind::Internal) => Err(error),
        Err(Begun::Not(error)) => {
            let end = ChildEnd { status: RunStatus::Failed, output: None, error: Some(as_run_error(&error)) };
            let stimulus = Stimulus::ChildEnded { step: parent.step, child, end };
            service.submit_with(&parent.run, stimulus, None, Some(message)).await.map(|_| ())
        }
    }
}
