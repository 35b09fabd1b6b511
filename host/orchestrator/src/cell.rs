//! A run's cell: its inbox, and, while something happens in it, its state. One task drains it at a time; a cell that has nothing to do
//! is dropped, so that ten thousand waiting runs cost rows and no memory.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use caisson_core::engine::{self, Blobs, Inputs, Question, RunState, Stimulus, Stop, chain};
use caisson_core::ids::RunId;
use caisson_core::json::Json;
use caisson_core::model::Definition;
use caisson_core::ports::{
    Commit, CommitError, EventRow, IdempotencyRow, ItemRow, RunLease, RunRow, SlotKey, StoredRun,
};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::admission::{CONCURRENCY_LIMIT, QUEUE_FULL};
use crate::batch::{Batch, Effects};
use crate::error::{Error, Kind};
use crate::hosts::jitter;
use crate::service::Service;
use crate::values::{self, RUN_ERASED};
use crate::{executor, inbox};

/// Stimuli folded into one decision at most: bounds the size of a commit.
const FOLD_MAX: usize = 128;
/// How often a version conflict is tried again before the caller hears of it. Conflicts need a second host, and hosts move on quickly; of
/// ten that fight for one run each wins once in some ten tries.
const CONFLICTS_MAX: u32 = 40;
/// Tries grow apart by this much each, and by as much at random of each host's own.
const CONFLICT_PAUSE: Duration = Duration::from_millis(1);
/// And not by more than this.
const CONFLICT_PAUSE_MAX: Duration = Duration::from_millis(20);
/// A cell forgets its large values when they pass this: they are read again when needed.
const BLOBS_BYTES_MAX: usize = 32 << 20;
/// After so many events a snapshot saves more reading than its writing costs.
const SNAPSHOT_EVENTS_MIN: u64 = 512;
/// A snapshot is as large as what is open: it waits for so many events per open thing, so that its cost stays a part of theirs.
const SNAPSHOT_EVENTS_PER_OPEN: u64 = 4;

/// A stimulus and who waits for what comes of it.
pub(crate) struct Envelope {
    pub(crate) stimulus: Stimulus,
    pub(crate) reply: Option<oneshot::Sender<Result<RunRow, Error>>>,
    /// A slot to run a step in: of the step that ended, or for the step that is claimed.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
    /// The message of another run that brought it.
    pub(crate) message: Option<Arc<str>>,
    /// The row of this host's inbox that brought it.
    pub(crate) inbox: Option<Arc<str>>,
}

#[derive(Default)]
struct Inbox {
    waiting: Vec<Envelope>,
    draining: bool,
}

/// A run that something happens in.
#[derive(Default)]
pub(crate) struct Cell {
    inbox: Mutex<Inbox>,
    /// Only the draining task takes it.
    loaded: tokio::sync::Mutex<Option<Loaded>>,
}

/// A run in memory.
pub(crate) struct Loaded {
    pub(crate) def: Arc<Definition>,
    pub(crate) state: RunState,
    pub(crate) row: RunRow,
    pub(crate) blobs: Blobs,
    /// Events since the last snapshot.
    pub(crate) unsaved: u64,
    /// The host that moves it, as of the last look.
    pub(crate) holder: Option<Arc<str>>,
}

impl Service {
    /// Submits a stimulus and waits until what follows from it is durable.
    pub(crate) async fn submit(&self, run: &RunId, stimulus: Stimulus) -> Result<RunRow, Error> {
        self.submit_with(run, stimulus, None, None).await
    }

    pub(crate) async fn submit_with(
        &self,
        run: &RunId,
        stimulus: Stimulus,
        permit: Option<OwnedSemaphorePermit>,
        message: Option<Arc<str>>,
    ) -> Result<RunRow, Error> {
        let (reply, answer) = oneshot::channel();
        self.post(run, Envelope { stimulus, reply: Some(reply), permit, message, inbox: None });
        answered(answer).await
    }

    /// The same, for what another host left.
    pub(crate) async fn submit_from_inbox(
        &self,
        run: &RunId,
        stimulus: Stimulus,
        row: Arc<str>,
    ) -> Result<RunRow, Error> {
        let (reply, answer) = oneshot::channel();
        let inbox = Some(row);
        self.post(run, Envelope { stimulus, reply: Some(reply), permit: None, message: None, inbox });
        answered(answer).await
    }

    /// Lets go of runs in memory that nothing happens in: other hosts may have moved them on.
    pub(crate) fn forget_cells(&self) {
        let busy: BTreeSet<RunId> = self.0.running.lock().keys().map(|(run, _)| run.clone()).collect();
        self.0.cells.lock().retain(|run, cell| cell.inbox.lock().draining || busy.contains(run));
    }

    /// Puts a stimulus into a run's inbox; a task to drain it is started unless there is one.
    pub(crate) fn post(&self, run: &RunId, envelope: Envelope) {
        let cell = {
            let mut cells = self.0.cells.lock();
            let cell = cells.entry(run.clone()).or_default();
            let mut inbox = cell.inbox.lock();
            inbox.waiting.push(envelope);
            if inbox.draining {
                return;
            }
            inbox.draining = true;
            cell.clone()
        };
        self.0.tasks.spawn(drain(self.clone(), run.clone(), cell));
    }

    /// Puts a run that has just been created into its cell, and carries out what follows.
    pub(crate) async fn install(
        &self,
        run: &RunId,
        loaded: Loaded,
        effects: Effects,
        permits: Vec<OwnedSemaphorePermit>,
    ) {
        if is_idle(self, &loaded) {
            carry_out(self, &loaded, effects, permits);
            return;
        }
        let cell = self.0.cells.lock().entry(run.clone()).or_default().clone();
        let mut slot = cell.loaded.lock().await;
        carry_out(self, &loaded, effects, permits);
        // A client that knows the id may have been faster: then the store has been read and the state moved on.
        if slot.is_none() {
            *slot = Some(loaded);
        }
    }

    async fn load(&self, run: &RunId) -> Result<Loaded, Error> {
        let stored = self
            .0
            .ports
            .store
            .load(run)
            .await?
            .ok_or_else(|| Error::new(Kind::NotFound, "RUN_NOT_FOUND", format!("there is no run {run}")))?;
        values::not_erased(stored.row.status, stored.events.first())?;
        let def = self.definition(&stored.row.realm, &stored.row.workflow_id, &stored.row.digest).await?;
        let (state, unsaved) = rebuild(run, &stored)?;
        Ok(Loaded { def, state, row: stored.row, blobs: Blobs::default(), unsaved, holder: stored.holder })
    }
}

async fn answered(answer: oneshot::Receiver<Result<RunRow, Error>>) -> Result<RunRow, Error> {
    let gone = || Error::new(Kind::Internal, "NO_ANSWER", "the run's task ended without an answer");
    answer.await.unwrap_or_else(|_| Err(gone()))
}

/// The state after a snapshot and the events behind it. The chain is checked on the way.
fn rebuild(run: &RunId, stored: &StoredRun) -> Result<(RunState, u64), Error> {
    let damaged = |what: String| Error::new(Kind::Internal, "RUN_DAMAGED", format!("run {run} cannot be read: {what}"));
    let decode = |row: &EventRow| {
        engine::Event::decode(&row.kind, row.data.get()).map_err(|error| damaged(format!("event {}: {error}", row.seq)))
    };
    if let Some(first) = stored.events.first() {
        chain::verify(first.prev_hash.clone(), first.seq - 1, &stored.events)
            .map_err(|broken| damaged(broken.to_string()))?;
    }
    let mut events = stored.events.iter();
    let mut state = match &stored.snapshot {
        Some((_, json)) => serde_json::from_str(json.get()).map_err(|error| damaged(format!("snapshot: {error}")))?,
        None => {
            let first = events.next().ok_or_else(|| damaged("it has no events".to_owned()))?;
            RunState::created(run.clone(), first.at, &decode(first)?)
                .ok_or_else(|| damaged("its first event does not create it".to_owned()))?
        }
    };
    for row in events {
        state.apply(row.at, &decode(row)?);
    }
    if state.seq != stored.row.last_seq {
        return Err(damaged(format!("it has {} events of {}", state.seq, stored.row.last_seq)));
    }
    Ok((state, stored.events.len() as u64))
}

async fn drain(service: Service, run: RunId, cell: Arc<Cell>) {
    let mut loaded = cell.loaded.lock().await;
    loop {
        let mut envelopes = {
            // The same order of locks as in `post`: the map, then the inbox.
            let mut cells = service.0.cells.lock();
            let mut inbox = cell.inbox.lock();
            if inbox.waiting.is_empty() {
                inbox.draining = false;
                if loaded.as_ref().is_none_or(|loaded| is_idle(&service, loaded)) {
                    cells.remove(&run);
                }
                return;
            }
            let count = inbox.waiting.len().min(FOLD_MAX);
            inbox.waiting.drain(..count).collect::<Vec<_>>()
        };
        let mut tries = 0;
        while let Err(again) = fold(&service, &run, &mut loaded, &mut envelopes).await {
            if matches!(again, CommitError::NoRoom) {
                // Only who asked for room had to go: the others are decided on as they are.
                continue;
            }
            *loaded = None;
            tries += 1;
            pause(&service, &run, tries).await;
            if tries >= CONFLICTS_MAX {
                let error = Error::new(Kind::Conflict, "RUN_BUSY", "other hosts move this run all the time: try again");
                envelopes.drain(..).for_each(|envelope| answer(envelope.reply, Err(error.clone())));
                break;
            }
        }
    }
}

/// Whether nothing in the run is about to happen in this process.
fn is_idle(service: &Service, loaded: &Loaded) -> bool {
    loaded.state.status.is_terminal() || !runs_here(service, &loaded.state)
}

/// Whether this host has steps of the run.
fn runs_here(service: &Service, state: &RunState) -> bool {
    let host = service.0.member.id();
    state.steps.values().any(|step| step.host.as_ref() == Some(&host))
}

/// Gives the other host time to do what it does, each time a little more.
async fn pause(service: &Service, run: &RunId, tries: u32) {
    let most = (CONFLICT_PAUSE * tries).min(CONFLICT_PAUSE_MAX);
    let words = format!("{}{run}", service.0.member.id());
    tokio::time::sleep(most / 2 + jitter(&words, tries.into(), most)).await;
}

/// A slot that somebody came with is his at the next try.
fn give_back_slots(envelopes: &mut [Envelope], permits: Vec<OwnedSemaphorePermit>) {
    for (envelope, permit) in envelopes.iter_mut().zip(permits) {
        envelope.permit = Some(permit);
    }
}

/// Decides on all envelopes and commits once. They are taken out, answered, unless the commit met a conflict.
async fn fold(
    service: &Service,
    run: &RunId,
    slot: &mut Option<Loaded>,
    envelopes: &mut Vec<Envelope>,
) -> Result<(), CommitError> {
    let fresh = slot.is_none();
    if fresh {
        match service.load(run).await {
            Ok(loaded) => *slot = Some(loaded),
            Err(error) => {
                envelopes.drain(..).for_each(|envelope| answer(envelope.reply, Err(error.clone())));
                return Ok(());
            }
        }
    }
    let Some(loaded) = slot.as_mut() else { return Ok(()) };
    inbox::hand_over(service, run, loaded, envelopes).await;
    if envelopes.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::default();
    let mut state = loaded.state.clone();
    let mut verdicts = Vec::with_capacity(envelopes.len());
    for envelope in envelopes.iter() {
        let stimulus = envelope.stimulus.clone();
        let verdict = decide(service, loaded, &mut state, &mut batch, stimulus).await;
        if verdict.is_ok() {
            envelope.message.iter().for_each(|message| batch.took(message.clone()));
            envelope.inbox.iter().for_each(|row| batch.took_from_inbox(row.clone()));
        }
        verdicts.push(verdict);
    }
    // What is refused on what this host remembers may be right on what another has stored since.
    if !fresh && service.0.ports.cluster.is_some() && verdicts.iter().any(Result::is_err) {
        return Err(CommitError::Conflict);
    }
    let mut permits: Vec<OwnedSemaphorePermit> = envelopes.iter_mut().filter_map(|e| e.permit.take()).collect();
    if !state.status.is_terminal() {
        claim_ready(service, loaded, &mut state, &mut batch, &mut permits).await;
    }
    if batch.is_empty() {
        for (envelope, verdict) in envelopes.drain(..).zip(verdicts) {
            answer(envelope.reply, verdict.map(|()| loaded.row.clone()));
        }
        return Ok(());
    }
    match commit(service, loaded, state, batch, None).await {
        Ok(effects) => {
            for (envelope, verdict) in envelopes.drain(..).zip(verdicts) {
                answer(envelope.reply, verdict.map(|()| loaded.row.clone()));
            }
            carry_out(service, loaded, effects, permits);
            Ok(())
        }
        Err(CommitError::Conflict) => {
            give_back_slots(envelopes, permits);
            Err(CommitError::Conflict)
        }
        Err(CommitError::NoRoom) => {
            give_back_slots(envelopes, permits);
            for envelope in envelopes.extract_if(.., |envelope| matches!(envelope.stimulus, Stimulus::Admit)) {
                answer(envelope.reply, Err(commit_error(CommitError::NoRoom)));
            }
            if envelopes.is_empty() { Ok(()) } else { Err(CommitError::NoRoom) }
        }
        Err(other) => {
            let error = commit_error(other);
            envelopes.drain(..).for_each(|envelope| answer(envelope.reply, Err(error.clone())));
            // It may have been stored all the same.
            *slot = None;
            Ok(())
        }
    }
}

pub(crate) fn answer(reply: Option<oneshot::Sender<Result<RunRow, Error>>>, result: Result<RunRow, Error>) {
    if let Some(reply) = reply {
        // Who asked may have gone.
        let _ = reply.send(result);
    }
}

pub(crate) fn commit_error(error: CommitError) -> Error {
    match error {
        CommitError::Conflict => Error::new(Kind::Conflict, "RUN_BUSY", "the run was moved by another host: try again"),
        CommitError::Exists(run) => Error::new(Kind::Conflict, "RUN_EXISTS", format!("run {run} exists already")),
        CommitError::KeyReused => crate::service::key_reused(),
        CommitError::NoRoom => Error::new(Kind::TooMany, CONCURRENCY_LIMIT, error.to_string()),
        CommitError::QueueFull => Error::new(Kind::TooMany, QUEUE_FULL, error.to_string()),
        CommitError::Store(error) => error.into(),
    }
}

/// Decides on one stimulus: asks, answers, asks again.
async fn decide(
    service: &Service,
    loaded: &mut Loaded,
    state: &mut RunState,
    batch: &mut Batch,
    stimulus: Stimulus,
) -> Result<(), Error> {
    let mut inputs = inputs(service, loaded, batch);
    let verdict = loop {
        let limits = &service.0.options.limits;
        match engine::transition(&loaded.def, limits, state, stimulus.clone(), &inputs) {
            Ok((next, decision)) => {
                *state = next;
                batch.add(decision);
                break Ok(());
            }
            Err(Stop::Refused(refusal)) => break Err(refusal.into()),
            Err(Stop::Need(question)) => {
                if let Err(error) = reply(service, &state.id, batch, &mut inputs, question).await {
                    break Err(error);
                }
            }
        }
    };
    loaded.blobs = inputs.blobs;
    verdict
}

pub(crate) fn inputs(service: &Service, loaded: &mut Loaded, batch: &Batch) -> Inputs {
    let mut blobs = std::mem::take(&mut loaded.blobs);
    if blobs.bytes() > BLOBS_BYTES_MAX {
        blobs = Blobs::default();
    }
    batch.blobs().iter().for_each(|blob| blobs.insert(blob));
    Inputs { now: service.0.ports.clock.now(), evaluations: Vec::new(), blobs, items: HashMap::new() }
}

/// Answers a question of the engine.
pub(crate) async fn reply(
    service: &Service,
    run: &RunId,
    batch: &Batch,
    inputs: &mut Inputs,
    question: Question,
) -> Result<(), Error> {
    let ports = &service.0.ports;
    match question {
        Question::Evaluate(evaluation) => inputs.evaluations.push(ports.evaluator.evaluate(&evaluation).await),
        Question::Blob(id) => inputs.blobs.insert(&values::blob(service, run, &id).await?),
        Question::Items(step) => {
            let mut rows: Vec<ItemRow> = ports.store.items(run, step).await?;
            rows.extend(batch.items_of(step).cloned());
            inputs.items.insert(step, rows);
        }
    }
    Ok(())
}

/// Claims steps that have just become ready for this process, as far as there are slots and nobody else waits for them: finishing a
/// step, readying the next and claiming it are one commit.
pub(crate) async fn claim_ready(
    service: &Service,
    loaded: &mut Loaded,
    state: &mut RunState,
    batch: &mut Batch,
    permits: &mut Vec<OwnedSemaphorePermit>,
) {
    let started = batch.effects.started.len();
    let stopped = service.0.stopping.is_cancelled() || !service.0.member.may_claim();
    if stopped || service.0.ports.queue.room() < service.0.queue_room {
        permits.truncate(started);
        return;
    }
    for step in batch.effects.ready.clone() {
        if permits.len() <= batch.effects.started.len() {
            match service.0.slots.clone().try_acquire_owned() {
                Ok(permit) => permits.push(permit),
                Err(_) => break,
            }
        }
        let host = service.0.member.id();
        // Refused: it was ended by a later stimulus of the same batch.
        let _ = decide(service, loaded, state, batch, Stimulus::Claim { step, host }).await;
    }
}

/// Makes a batch durable and takes the new state over.
pub(crate) async fn commit(
    service: &Service,
    loaded: &mut Loaded,
    state: RunState,
    batch: Batch,
    idempotency: Option<IdempotencyRow>,
) -> Result<Effects, CommitError> {
    let mut row = loaded.row.clone();
    let unsaved = loaded.unsaved + (state.seq - loaded.state.seq);
    let open = (state.steps.len() + state.scopes.len()) as u64;
    let worth_it = unsaved >= SNAPSHOT_EVENTS_MIN.max(open * SNAPSHOT_EVENTS_PER_OPEN) && !state.status.is_terminal();
    let snapshot = worth_it.then(|| Json::of(&state));
    let saved = snapshot.is_some();
    let (mut commit, effects): (Commit, Effects) = batch.into_commit(&mut row, &state, snapshot);
    commit.idempotency = idempotency;
    let (lease, holder) = lease(service, loaded, &state);
    commit.lease = lease;
    let sinks = &service.0.ports.events;
    let told = (!sinks.is_empty()).then(|| (commit.events.clone(), commit.steps.clone()));
    service.0.ports.store.commit(commit).await?;
    if let Some((events, steps)) = told {
        for sink in sinks {
            sink.committed(&row, &events, &steps);
        }
    }
    loaded.holder = holder;
    loaded.row = row;
    loaded.state = state;
    loaded.unsaved = if saved { 0 } else { unsaved };
    Ok(effects)
}

/// Who moves the run after this commit: this host while steps of it run here, unless another host does.
fn lease(service: &Service, loaded: &Loaded, state: &RunState) -> (RunLease, Option<Arc<str>>) {
    if service.0.ports.cluster.is_none() {
        return (RunLease::Keep, None);
    }
    let host = service.0.member.id();
    match &loaded.holder {
        _ if state.status.is_terminal() => (RunLease::Release, None),
        Some(other) if *other != host => (RunLease::Keep, Some(other.clone())),
        Some(_) | None if runs_here(service, state) => (RunLease::Hold(host.clone()), Some(host)),
        Some(_) => (RunLease::Release, None),
        None => (RunLease::Keep, None),
    }
}

/// What follows once the commit is durable.
pub(crate) fn carry_out(service: &Service, loaded: &Loaded, effects: Effects, mut permits: Vec<OwnedSemaphorePermit>) {
    let inner = &service.0;
    let row = &loaded.row;
    inner.live.committed(row);
    let mut elsewhere = false;
    for (step, claim) in effects.aborted {
        elsewhere |= !executor::abort(service, &row.id, step, claim);
    }
    if elsewhere && let Some(cluster) = inner.ports.cluster.clone() {
        // A hint: without it the other host hears so with its next beat.
        inner.tasks.spawn(async move { cluster.hurry().await });
    }
    for step in effects.started {
        executor::start(service, loaded, &step, permits.pop());
    }
    for (step, reason) in effects.cleanups {
        executor::clean_up(service, loaded, &step, &reason);
    }
    if !effects.published.is_empty() {
        inner.ports.queue.publish(effects.published, false);
    }
    if let Some(due) = effects.timer {
        inner.timers.set(due);
    }
    if effects.messages {
        inner.messages.notify_one();
    }
    if row.status.is_terminal()
        && let Some(slot) = &loaded.state.slot
    {
        inner.freed.look(SlotKey::of(row, &slot.key));
    }
}

/// The context of a run's root scope, as far as there is one.
pub(crate) async fn context(service: &Service, run: &RunId) -> Result<Json, Error> {
    match whole_context(service, run).await {
        Err(error) if error.code == RUN_ERASED => Ok(engine::erasure::nothing()),
        other => other,
    }
}

async fn whole_context(service: &Service, run: &RunId) -> Result<Json, Error> {
    let mut loaded = service.load(run).await?;
    let batch = Batch::default();
    let mut inputs = inputs(service, &mut loaded, &batch);
    loop {
        match engine::context(&loaded.def, &loaded.state, &inputs) {
            Ok(value) => return Ok(Json::of(&value)),
            Err(Stop::Need(question)) => reply(service, run, &batch, &mut inputs, question).await?,
            Err(Stop::Refused(refusal)) => return Err(refusal.into()),
        }
    }
}
