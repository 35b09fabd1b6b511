//! Replaying a run that has ended: a new run of the same version with the same input, which does not do again what succeeded.
//!
//! A step of the new run is given the output of its counterpart: the operation step of the old run in the same state, branch and item,
//! entered as the same of several. Only if that one succeeded, and if action and rendered input are the same byte for byte. So it is with a
//! step that called a run: what that one gave is given again.
//! Invariant: a step whose counterpart cannot be read is not run; the store is asked again by the step's next attempt.
//!
//! Deliberately absent: a called run that failed is called again from its start; durable marks (what is known is read again after a restart).

use std::collections::HashMap;
use std::sync::Arc;

use caisson_core::engine::{Activity, Event, StepNo};
use caisson_core::ids::RunId;
use caisson_core::json::{Json, Payload};
use caisson_core::ports::{Cursor, Entry, NewRun, Outcome, PAGE_LIMIT_MAX, PageRequest, RunRow, StepRow, Store, Usage};
use caisson_core::status::{RunStatus, StepStatus};
use parking_lot::Mutex;

use crate::admission;
use crate::error::{Error, Kind};
use crate::service::Service;
use crate::start::{self, Begin, Begun};
use crate::values::{self, RUN_ERASED};

/// Replayed runs that are known in memory: one of 10,000 steps takes about a megabyte.
const KNOWN_MAX: usize = 16;

/// Replays of replays that are looked back over: whoever replays so often has other trouble.
const REPLAYS_MAX: usize = 32;

/// State, branch and item.
type Place = (Arc<str>, String, Option<u64>);

/// What is known of replayed runs.
#[derive(Default)]
pub(crate) struct Memory(Mutex<HashMap<RunId, Arc<tokio::sync::Mutex<Known>>>>);

/// A replayed run beside the one that it was forked from.
#[derive(Default)]
struct Known {
    old: Option<Visits>,
    new: Visits,
}

/// The operation and call steps of a run by their places, each in the order of entering.
#[derive(Default)]
struct Visits {
    steps: HashMap<Place, Vec<Visit>>,
    /// Where each is, and as which of those there.
    places: HashMap<StepNo, (Place, usize)>,
    read_to: StepNo,
}

/// An operation step, or one that called a run.
#[derive(Clone)]
struct Visit {
    number: StepNo,
    action: Option<Arc<str>>,
    child: Option<RunId>,
    input_seq: u64,
    /// The event with its output, if it succeeded.
    output_seq: Option<u64>,
}

/// A step of a replayed run that is about to run.
pub(crate) struct Asked {
    pub(crate) at: Forked,
    pub(crate) action: Arc<str>,
}

/// Where a step of a replayed run is.
pub(crate) struct Forked {
    /// The run that its run was forked from.
    pub(crate) from: RunId,
    pub(crate) run: RunId,
    pub(crate) step: StepNo,
}

impl Service {
    /// Starts a run of the same version with the same input as one that has ended, which uses again what succeeded there.
    pub async fn replay(&self, tenant: &str, run: &RunId, actor: Arc<str>) -> Result<RunRow, Error> {
        self.accepting()?;
        let old = self.row(tenant, run).await?;
        if !old.status.is_terminal() {
            let message = format!("run has not ended: it is {}; only a run that has ended can be replayed", old.status);
            return Err(Error::new(Kind::Conflict, "RUN_NOT_ENDED", message));
        }
        self.not_erased(&old).await?;
        admission::backlog(self).await?;
        let begin = Begin {
            id: RunId::new(uuid::Uuid::now_v7().to_string()),
            input: values::value(self, &old.id, &old.input).await?,
            realm: old.realm,
            workflow: old.workflow_id.to_string(),
            version: Some(old.workflow_version.to_string()),
            actor,
            trace: None,
            parent: None,
            new: NewRun { name: old.name, project_id: old.project_id, forked_from: Some(old.id), idempotency: None },
            message: None,
        };
        start::begin_run(self, begin).await.map_err(|begun| match begun {
            Begun::Not(error) => error,
            Begun::Exists(run) => Error::new(Kind::Internal, "RUN_EXISTS", format!("run {run} exists already")),
        })
    }

    async fn not_erased(&self, old: &RunRow) -> Result<(), Error> {
        values::not_erased(old.status, self.0.ports.store.events(&old.id, 0, 1).await?.first())
    }
}

/// What the counterpart of a step gave, if it may stand for the step's own result.
pub(crate) async fn recorded(service: &Service, asked: &Asked, input: &Payload) -> Result<Option<Entry>, Error> {
    let store = &*service.0.ports.store;
    let Some(visit) = counterpart(service, &asked.at).await? else { return Ok(None) };
    let Some(output_seq) = visit.output_seq.filter(|_| visit.action.as_ref() == Some(&asked.action)) else {
        return Ok(None);
    };
    let events = store.events_at(&asked.at.from, &[visit.input_seq, output_seq]).await?;
    // What is erased meanwhile does not decode, and is run again.
    let decode = |seq| events.get(&seq).and_then(|event| Event::decode(&event.kind, event.data.get()).ok());
    let (scheduled, completed) = (decode(visit.input_seq), decode(output_seq));
    let Some(Event::StepScheduled { activity: Activity::Operation { input: before, .. }, .. }) = scheduled else {
        return Ok(None);
    };
    let Some(Event::StepCompleted { output: Some(output), warnings, .. }) = completed else { return Ok(None) };
    if before != *input {
        return Ok(None);
    }
    let output = if_kept(values::value(service, &asked.at.from, &output).await)?;
    Ok(output.map(|output| Entry { result: Ok(Outcome::Done(output)), usage: Usage::default(), warnings }))
}

/// What the run gave that the counterpart of a step called, if it was the same call and ended well. In a replay of a replay that run may be
/// one of the first.
pub(crate) async fn called(
    service: &Service,
    mut at: Forked,
    (workflow, version, input): (&str, Option<&str>, &Payload),
) -> Result<Option<Json>, Error> {
    let store = &*service.0.ports.store;
    for _ in 0..REPLAYS_MAX {
        let Some(visit) = counterpart(service, &at).await? else { return Ok(None) };
        let (Some(child), Some(_)) = (&visit.child, visit.output_seq) else { return Ok(None) };
        let events = store.events_at(&at.from, &[visit.input_seq]).await?;
        let scheduled = events.get(&visit.input_seq);
        let scheduled = scheduled.and_then(|event| Event::decode(&event.kind, event.data.get()).ok());
        let Some(Event::StepScheduled { activity: Activity::Call { workflow: w, version: v, input: i, .. }, .. }) =
            scheduled
        else {
            return Ok(None);
        };
        if (&*w, v.as_deref(), &i) != (workflow, version, input) {
            return Ok(None);
        }
        let Some(run) = store.run(child).await? else {
            // Never begun, since it was a replay that called it; or let go of, and then called again.
            let above = store.run(&at.from).await?.and_then(|run| run.forked_from);
            let Some(from) = above else { return Ok(None) };
            at = Forked { from, run: at.from, step: visit.number };
            continue;
        };
        let Some(output) = run.output.as_ref().filter(|_| run.status == RunStatus::Completed) else { return Ok(None) };
        let kept = async {
            service.not_erased(&run).await?;
            values::value(service, &run.id, output).await
        };
        return if_kept(kept.await);
    }
    Ok(None)
}

/// Nothing of what retention took meanwhile.
fn if_kept<T>(read: Result<T, Error>) -> Result<Option<T>, Error> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code == RUN_ERASED || error.kind == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn counterpart(service: &Service, asked: &Forked) -> Result<Option<Visit>, Error> {
    let store = &*service.0.ports.store;
    let known = service.0.replays.of(&asked.run);
    let mut known = known.lock().await;
    if known.old.is_none() {
        let mut old = Visits::default();
        old.read(store, &asked.from, StepNo::MAX).await?;
        known.old = Some(old);
    }
    known.new.read(store, &asked.run, asked.step).await?;
    let Some((place, nth)) = known.new.places.get(&asked.step) else { return Ok(None) };
    Ok(known.old.as_ref().and_then(|old| old.steps.get(place)?.get(*nth)).cloned())
}

impl Memory {
    fn of(&self, run: &RunId) -> Arc<tokio::sync::Mutex<Known>> {
        let mut known = self.0.lock();
        if known.len() >= KNOWN_MAX && !known.contains_key(run) {
            known.clear();
        }
        known.entry(run.clone()).or_default().clone()
    }
}

impl Visits {
    /// Reads on until it knows step `until`, or the end.
    async fn read(&mut self, store: &dyn Store, run: &RunId, until: StepNo) -> Result<(), Error> {
        while self.read_to < until {
            let cursor = Cursor::new(self.read_to.cast_signed(), "").encode();
            let page = PageRequest { limit: PAGE_LIMIT_MAX, cursor: Some(cursor) };
            let found = store.steps(run, &page).await?;
            for step in found.items {
                self.add(step);
            }
            if found.next.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn add(&mut self, step: StepRow) {
        self.read_to = step.number;
        if !matches!(step.state_type.as_ref(), "operation" | "call") {
            return;
        }
        let visit = Visit {
            number: step.number,
            action: step.action,
            child: step.child,
            input_seq: step.input_seq,
            output_seq: step.result_seq.filter(|_| step.status == StepStatus::Succeeded),
        };
        let place = (step.state, step.branch_path, step.index);
        let there = self.steps.entry(place.clone()).or_default();
        self.places.insert(step.number, (place, there.len()));
        there.push(visit);
    }
}
