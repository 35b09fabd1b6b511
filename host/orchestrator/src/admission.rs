//! How much may be under way: which runs begin where only so many of a workflow may run at once, and how much work may wait at all.
//!
//! Whether there is room is decided by the store, inside the commit that makes or admits a run ([`caisson_core::ports::Admission`]). Here
//! stands what follows: what becomes of a run for which there is none, and who admits the next one. Whoever ends a run looks, after the
//! commit, for the run that waits longest; so does whoever makes one wait, since room may have come in between. What a crash leaves is
//! found by a sweep. Looking twice does no harm: a run is admitted once, and one for which there is no room goes on waiting.
//!
//! Deliberately absent: a lock, a leader, a count in memory.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use caisson_core::engine::{Slot, Stimulus};
use caisson_core::ids::RunId;
use caisson_core::json::Json;
use caisson_core::model::{Concurrency, Definition, Overflow};
use caisson_core::ports::{Admission, CommitError, Place, RunRow, SlotKey};
use futures_util::StreamExt;
use futures_util::stream;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::cell::commit_error;
use crate::error::{Error, Kind};
use crate::service::Service;
use crate::start::{Begin, Begun, Made, Prepared, make};

/// As many runs of a key run as may.
pub(crate) const CONCURRENCY_LIMIT: &str = "CONCURRENCY_LIMIT";
/// As many runs of a key wait as may.
pub(crate) const QUEUE_FULL: &str = "QUEUE_FULL";

/// How often a new run cancels the oldest before it gives up: more than one is needed only where several come at once, or where the limit
/// was lowered.
const CANCELS_MAX: u32 = 100;
/// The time between two sweeps: what they find was left by a host that died at the wrong moment.
const SWEEP: Duration = Duration::from_secs(30);
/// Pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Keys that are remembered to be looked at; if more come, a sweep finds them.
const KEYS_MAX: usize = 10_000;
/// Keys that are looked at side by side: as many commits are folded into a transaction or two.
const KEYS_AT_ONCE: usize = 64;
/// Runs that a sweep reads at once.
const PAGE: u32 = 256;
/// The age of the count of what waits, at most: a second of starts is a small part of the limit.
const COUNT_AGE_MS_MAX: i64 = 1000;

/// How much work may wait.
#[derive(Clone, Debug)]
pub struct Load {
    /// `BACKLOG_FULL`: steps that wait for a host. With more no client's run is started; what runs goes on. 100,000: at a few thousand
    /// steps a second that is half a minute behind, and whoever sends work faster than it is done should hear so.
    pub backlog_max: u64,
}

impl Default for Load {
    fn default() -> Self {
        Self { backlog_max: 100_000 }
    }
}

/// Keys of which a run has ended, or has begun to wait.
#[derive(Debug, Default)]
pub(crate) struct Freed {
    keys: Mutex<BTreeSet<SlotKey>>,
    bell: Notify,
}

impl Freed {
    /// Somebody should look whether the next one may begin.
    pub(crate) fn look(&self, key: SlotKey) {
        let mut keys = self.keys.lock();
        if keys.len() < KEYS_MAX {
            keys.insert(key);
        }
        self.bell.notify_one();
    }

    fn take(&self) -> BTreeSet<SlotKey> {
        std::mem::take(&mut self.keys.lock())
    }
}

/// How many steps waited when they were last counted.
#[derive(Debug)]
pub(crate) struct Backlog {
    steps: AtomicU64,
    counted_at: AtomicI64,
}

impl Default for Backlog {
    fn default() -> Self {
        Self { steps: AtomicU64::new(0), counted_at: AtomicI64::new(i64::MIN) }
    }
}

/// Refuses a client's run while too many steps wait.
pub(crate) async fn backlog(service: &Service) -> Result<(), Error> {
    let (inner, now) = (&service.0, service.0.ports.clock.now().0);
    let (backlog, most) = (&inner.backlog, inner.options.load.backlog_max);
    let counted_at = backlog.counted_at.load(Ordering::Acquire);
    let stale = now.saturating_sub(counted_at) >= COUNT_AGE_MS_MAX;
    // One of those who find the count too old counts; the others take it as it is.
    if stale && backlog.counted_at.compare_exchange(counted_at, now, Ordering::AcqRel, Ordering::Acquire).is_ok() {
        backlog.steps.store(inner.ports.store.backlog(most).await?, Ordering::Release);
    }
    if backlog.steps.load(Ordering::Acquire) < most {
        return Ok(());
    }
    let message = format!("{most} steps wait for a host, as many as may: try again later");
    Err(Error::new(Kind::TooMany, "BACKLOG_FULL", message))
}

/// What a new run counts under.
pub(crate) fn slot(def: &Definition, input: &Json) -> Result<Option<Slot>, Error> {
    let Some(concurrency) = &def.concurrency else { return Ok(None) };
    // Without a key there is nothing to read.
    let input = if concurrency.key.is_some() { input.value() } else { serde_json::Value::Null };
    let slot = Slot::of(concurrency, &input);
    slot.map(Some).map_err(|error| Error::new(Kind::Invalid, "CONCURRENCY_KEY", error.to_string()))
}

/// Makes a run that counts with others: it begins, waits, takes the place of another, or is refused.
pub(crate) async fn begin(
    service: &Service,
    begin: &Begin,
    prepared: &Prepared,
    concurrency: &Concurrency,
    slot: &Slot,
) -> Result<RunRow, Begun> {
    let key = SlotKey { realm: begin.realm.clone(), workflow: prepared.def.id.clone(), key: slot.key.clone() };
    let overtakes = concurrency.overflow == Overflow::CancelOldest;
    for _ in 0..CANCELS_MAX {
        match attempt(service, begin, prepared, slot, Place::Begin { overtakes }).await {
            Err(Made::Not(CommitError::NoRoom)) => {}
            other => return other.map_err(Made::begun),
        }
        if waits_for_itself(service, begin, &key, concurrency.limit).await? {
            let message = format!("{}: the run that calls it, or one above, is one of them", full(&key, concurrency));
            return Err(Begun::Not(Error::new(Kind::TooMany, CONCURRENCY_LIMIT, message)));
        }
        match concurrency.overflow {
            Overflow::Refuse => break,
            Overflow::CancelOldest => cancel_oldest(service, begin, &key, concurrency).await?,
            Overflow::Queue { queued_max } => {
                let waiting = Slot { queued: true, ..slot.clone() };
                let row = match attempt(service, begin, prepared, &waiting, Place::Wait { queued_max }).await {
                    Err(Made::Not(CommitError::QueueFull)) => {
                        let message = format!("{}, and {queued_max} wait: try again later", full(&key, concurrency));
                        return Err(Begun::Not(Error::new(Kind::TooMany, QUEUE_FULL, message)));
                    }
                    other => other.map_err(Made::begun)?,
                };
                // Room may have come since.
                service.0.freed.look(key);
                return Ok(row);
            }
        }
    }
    let message = format!("{}: try again later", full(&key, concurrency));
    Err(Begun::Not(Error::new(Kind::TooMany, CONCURRENCY_LIMIT, message)))
}

async fn attempt(
    service: &Service,
    begin: &Begin,
    prepared: &Prepared,
    slot: &Slot,
    place: Place,
) -> Result<RunRow, Made> {
    let admission = Admission { key: slot.key.clone(), limit: slot.limit, place };
    make(service, begin, prepared, Some((slot.clone(), admission))).await
}

fn full(key: &SlotKey, concurrency: &Concurrency) -> String {
    let of = if key.key.is_empty() { String::new() } else { format!(" with the key '{}'", key.key) };
    let (limit, workflow) = (concurrency.limit, &key.workflow);
    let runs = if limit == 1 { "1 run".to_owned() } else { format!("{limit} runs") };
    format!("{runs} of workflow '{workflow}'{of} may run at once, and as many do")
}

/// Whether a child would wait for a run above it, which waits for the child.
async fn waits_for_itself(service: &Service, begin: &Begin, key: &SlotKey, limit: u32) -> Result<bool, Error> {
    let store = &service.0.ports.store;
    let Some(parent) = &begin.parent else { return Ok(false) };
    let running = store.admitted(key, limit).await?;
    let mut above = Some(parent.run.clone());
    // Runs nest no deeper than a limit of the engine.
    while let Some(run) = above {
        if running.contains(&run) {
            return Ok(true);
        }
        above = store.run(&run).await?.and_then(|row| row.parent).map(|(run, _)| run);
    }
    Ok(false)
}

async fn cancel_oldest(
    service: &Service,
    begin: &Begin,
    key: &SlotKey,
    concurrency: &Concurrency,
) -> Result<(), Error> {
    let Some(oldest) = service.0.ports.store.admitted(key, 1).await?.pop() else { return Ok(()) };
    let reason = format!("run {} takes its place: {} (policy cancel-oldest)", begin.id, full(key, concurrency));
    let cancel = Stimulus::Cancel { actor: begin.actor.clone(), reason: Some(reason) };
    match service.submit(&oldest, cancel).await {
        // It ended by itself meanwhile.
        Err(error) if error.kind != Kind::Conflict || error.code == "RUN_BUSY" => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Admits runs that wait as soon as there is room.
pub(crate) async fn run(service: Service) {
    let work = async {
        loop {
            let pause = if sweep(&service).await.is_ok() { SWEEP } else { STORE_PAUSE };
            let next_sweep = tokio::time::sleep(pause);
            tokio::pin!(next_sweep);
            loop {
                tokio::select! {
                    biased;
                    () = &mut next_sweep => break,
                    () = service.0.freed.bell.notified() => {}
                }
                let keys = stream::iter(service.0.freed.take());
                let admitted = keys.map(|key| admit_of(&service, key)).buffer_unordered(KEYS_AT_ONCE);
                if admitted.all(std::future::ready).await {
                    continue;
                }
                tokio::time::sleep(STORE_PAUSE).await;
                break;
            }
        }
    };
    tokio::select! {
        biased;
        () = work => {}
        () = service.0.stopping.cancelled() => {}
    }
}

/// Admits runs of one key, as long as there is room; whether nothing is left to be tried again.
async fn admit_of(service: &Service, key: SlotKey) -> bool {
    let mut before = None;
    loop {
        let next = match service.0.ports.store.admissible(Some(&key), 1).await {
            Ok(mut found) => found.pop(),
            Err(error) => {
                tracing::warn!(error = %error, "runs that wait cannot be read");
                return false;
            }
        };
        let Some(run) = next else { return true };
        // One that is still there after it was tried is left to the sweep.
        if before.as_ref() == Some(&run) || admit(service, &run).await.is_err() {
            return false;
        }
        before = Some(run);
    }
}

/// Looks at every queue.
async fn sweep(service: &Service) -> Result<(), ()> {
    loop {
        let found = service.0.ports.store.admissible(None, PAGE).await.map_err(|error| {
            tracing::warn!(error = %error, "runs that wait cannot be read");
        })?;
        let mut admitted = 0;
        let tried = stream::iter(found).map(|run| async move { admit(service, &run).await });
        let mut tried = tried.buffer_unordered(KEYS_AT_ONCE);
        while let Some(done) = tried.next().await {
            admitted += u32::from(done.map_err(|_| ())?);
        }
        // Those that did not move would come at once again.
        if admitted == 0 {
            return Ok(());
        }
    }
}

/// Whether the run has begun; an error if the store could not say.
async fn admit(service: &Service, run: &RunId) -> Result<bool, Error> {
    match service.submit(run, Stimulus::Admit).await {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind, Kind::Unavailable | Kind::Internal) || error.code == "RUN_BUSY" => {
            tracing::warn!(run_id = %run, error = %error, "run is not admitted yet");
            Err(error)
        }
        // Another host was faster, the room is taken, or the run has ended.
        Err(error) => {
            tracing::debug!(run_id = %run, error = %error, "run is not admitted");
            Ok(false)
        }
    }
}

impl Made {
    /// The same, where nothing more can be tried.
    pub(crate) fn begun(self) -> Begun {
        match self {
            Self::Begun(begun) => begun,
            Self::Not(error) => Begun::Not(commit_error(error)),
        }
    }
}
