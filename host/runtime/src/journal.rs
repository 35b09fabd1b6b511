//! What one entry has asked of the world, in order: answered from the journal as far as it goes, then for real.
//!
//! Invariant: an answer is durable before the guest sees it, and an effect on our own store commits with it. A host
//! that goes on with an entry after another died answers the recorded calls from the records and repeats none of them;
//! the one call that was under way goes out again, with the same idempotency key.
//!
//! Log and progress are not journaled. Clock and random numbers need no records: both follow from the entry's start,
//! its place and the calls.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use caisson_core::error::{Category, Failure};
use caisson_core::ids::{StepId, hex};
use caisson_core::json::Json;
use caisson_core::ports::{Effect, EntryKey, HostCall, Journal, JournalError, Record, StoreError};
use caisson_core::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::state::State;

/// Pauses between tries while the store cannot take a record. The entry's own time ends them.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Where an entry is in its journal.
pub(crate) struct Cursor {
    journal: Arc<dyn Journal>,
    /// `None`: no journal is kept, effects are applied at once.
    entry: Option<EntryKey>,
    step: StepId,
    idempotency_key: Arc<str>,
    /// Records that another host left; read at the first call, because most entries have none.
    recorded: Option<VecDeque<Record>>,
    number: u32,
}

/// A call's place: the same when the entry is run again, on whatever host.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// A stable id for what the call makes.
    pub(crate) id: String,
    /// For outside systems: the step's key and the call's place in it, the same for every attempt.
    pub(crate) idempotency_key: String,
}

/// Ends the guest with that failure; travels through wasmtime as an error.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub(crate) struct Ended(pub(crate) Failure);

impl Cursor {
    pub(crate) fn new(
        journal: Arc<dyn Journal>,
        entry: Option<EntryKey>,
        step: StepId,
        idempotency_key: Arc<str>,
    ) -> Self {
        Self { journal, entry, step, idempotency_key, recorded: None, number: 0 }
    }

    /// For reading: values and files.
    pub(crate) fn store(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.journal)
    }

    /// Where the next call will be.
    pub(crate) fn next_place(&self) -> Place {
        self.place(self.number)
    }

    /// Whether there is a journal: else nothing is left of the entry.
    pub(crate) fn is_kept(&self) -> bool {
        self.entry.is_some()
    }

    /// From 1; 0 outside of any step.
    pub(crate) fn attempt(&self) -> u32 {
        self.entry.as_ref().map_or(0, |entry| entry.attempt)
    }

    fn place(&self, number: u32) -> Place {
        let (attempt, entry) = self.entry.as_ref().map_or((0, 0), |entry| (entry.attempt, entry.entry));
        let mut hash = Sha256::new();
        hash.update(b"caisson call 1\0");
        hash.update(self.step.as_str());
        for part in [attempt, entry, number] {
            hash.update(part.to_be_bytes());
        }
        Place { id: hex(&hash.finalize()[..16]), idempotency_key: format!("{}:{entry}:{number}", self.idempotency_key) }
    }

    async fn next_recorded(&mut self) -> Result<Option<Record>, StoreError> {
        let Some(entry) = &self.entry else { return Ok(None) };
        if self.recorded.is_none() {
            self.recorded = Some(self.journal.records(entry).await?.into());
        }
        Ok(self.recorded.as_mut().and_then(VecDeque::pop_front))
    }

    async fn append(&self, number: u32, record: &Record, effects: &[Effect]) -> Result<(), JournalError> {
        match &self.entry {
            Some(entry) => self.journal.append(entry, number, record, effects).await,
            None if effects.is_empty() => Ok(()),
            None => self.journal.apply(effects).await,
        }
    }
}

/// What a call gives: the guest's answer, and what of it has to be stored.
pub(crate) struct Done<A> {
    pub(crate) answer: A,
    pub(crate) effects: Vec<Effect>,
    /// What to answer when an effect would pass its quota.
    pub(crate) over_quota: Option<fn(String) -> A>,
    /// Of a call that left the host: what is known about it, for whoever traces.
    pub(crate) seen: Option<Vec<(&'static str, String)>>,
}

impl<A> Done<A> {
    /// An answer without effects.
    pub(crate) fn answer(answer: A) -> Self {
        Self { answer, effects: Vec::new(), over_quota: None, seen: None }
    }

    /// The same, of a call that left the host.
    pub(crate) fn seen(answer: A, attributes: Vec<(&'static str, String)>) -> Self {
        Self { seen: Some(attributes), ..Self::answer(answer) }
    }
}

impl State {
    /// Answers one call: from the journal if it is there, else by `call`, whose answer is made durable first. `request`
    /// is what the guest asked for, part by part; a guest that is run again has to ask for the same.
    pub(crate) async fn journaled<A, F>(
        &mut self,
        name: &'static str,
        request: &[&[u8]],
        call: F,
    ) -> wasmtime::Result<A>
    where
        A: Serialize + DeserializeOwned,
        F: AsyncFnOnce(&mut Self, Place) -> wasmtime::Result<Done<A>>,
    {
        let request = hash(name, request);
        let number = self.cursor.number;
        self.cursor.number += 1;
        if let Some(record) = self.recorded().await? {
            if *record.call != *name || *record.request != *request {
                return Err(mismatch(number, &record.call, name).into());
            }
            self.clock.set(record.clock_ms);
            return serde_json::from_str(record.answer.get()).map_err(|error| unreadable(number, &error).into());
        }
        let place = self.cursor.place(number);
        let start = wall_clock();
        let Done { mut answer, mut effects, over_quota, seen } = call(self, place).await?;
        let clock_ms = self.clock.advance();
        loop {
            let record =
                Record { call: name.into(), request: request.as_str().into(), answer: Json::of(&answer), clock_ms };
            match self.append(number, &record, &effects).await? {
                Ok(()) => {
                    if let Some(attributes) = seen {
                        self.tell(number, name, start, kind_of_error(&record.answer), attributes);
                    }
                    return Ok(answer);
                }
                Err(quota) => {
                    let Some(refused) = over_quota else { return Err(Ended(over(&quota)).into()) };
                    answer = refused(quota);
                    effects.clear();
                }
            }
        }
    }

    /// Tells whoever traces of a call.
    fn tell(
        &self,
        number: u32,
        name: &'static str,
        start: Timestamp,
        error: Option<String>,
        attributes: Vec<(&'static str, String)>,
    ) {
        let (Some(sink), Some(entry), Some(traceparent)) =
            (&self.shared.call_sink, &self.cursor.entry, &self.traceparent)
        else {
            return;
        };
        sink.called(HostCall {
            traceparent: traceparent.clone(),
            run: entry.run.clone(),
            step: entry.step,
            claim: entry.claim,
            number,
            name,
            start,
            end: wall_clock(),
            error,
            attributes,
        });
    }

    async fn recorded(&mut self) -> wasmtime::Result<Option<Record>> {
        let mut pause = RETRY_MIN;
        loop {
            match self.cursor.next_recorded().await {
                Ok(record) => return Ok(record),
                Err(error) => tracing::warn!(%error, "a journal cannot be read yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// `Err` is a quota that an effect would pass.
    async fn append(
        &mut self,
        number: u32,
        record: &Record,
        effects: &[Effect],
    ) -> wasmtime::Result<Result<(), String>> {
        let mut pause = RETRY_MIN;
        loop {
            match self.cursor.append(number, record, effects).await {
                Ok(()) => return Ok(Ok(())),
                Err(JournalError::Quota(message)) => return Ok(Err(message)),
                Err(JournalError::Superseded) => return Err(Ended(superseded()).into()),
                Err(JournalError::Store(error)) => tracing::warn!(%error, "a record is not stored yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The name of the error in a recorded answer, `{"Err": …}`.
fn kind_of_error(answer: &Json) -> Option<String> {
    let rest = answer.get().strip_prefix("{\"Err\":")?;
    let name = rest.trim_start_matches(['{', '"']);
    Some(name.split('"').next().unwrap_or_default().to_owned())
}

/// Lengths first: parts may hold any byte.
fn hash(name: &str, request: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    hash.update((name.len() as u64).to_be_bytes());
    hash.update(name);
    for part in request {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

fn mismatch(number: u32, recorded: &str, asked: &str) -> Ended {
    let message = format!(
        "run again after its host died, the plugin asked for something else than before: call {} was {recorded}, now it is {asked} or has other arguments. A step has to do the same again with the same input: take time and random numbers from the host, keep no order by chance",
        number + 1
    );
    Ended(Failure::new(Category::ActionError, "JOURNAL_MISMATCH", message))
}

fn unreadable(number: u32, error: &serde_json::Error) -> Ended {
    let message = format!("record {} of the step's journal cannot be read: {error}", number + 1);
    Ended(Failure::new(Category::ActionError, "JOURNAL_UNREADABLE", message))
}

fn superseded() -> Failure {
    Failure::new(Category::TransientError, "STEP_SUPERSEDED", "another host has the step, or it is over")
}

fn over(message: &str) -> Failure {
    Failure::new(Category::LimitError, "QUOTA_EXCEEDED", message)
}
