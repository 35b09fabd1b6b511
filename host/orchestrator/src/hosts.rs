//! A host among others on one store: it beats, lets go of what it no longer holds, and gives back what dead hosts held.
//!
//! Invariant: a host whose lease may be over runs nothing. It stops its guests and begins anew under another id, so that nothing can take it for
//! the one it was; what was claimed under the old id is lost to the others, and to itself.
//! Invariant: what a live host holds and does not run is given back: the store may have taken a claim and been unable to say so.
//!
//! Deliberately absent: a leader, and trust in hints: all that they tell is looked for again by a slow poll.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use caisson_core::engine::{StepNo, Stimulus};
use caisson_core::ids::RunId;
use caisson_core::ports::{Beat, Claim, Cluster, Pulse, StoreError};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::service::Service;
use crate::{executor, inbox};

/// How long a host counts as alive after a beat, unless told otherwise: with a beat every third of it two may be lost, and the steps of a
/// dead host go on elsewhere after some ten seconds.
pub const LEASE: Duration = Duration::from_secs(10);
/// Beats in a lease.
const BEATS: u32 = 3;
/// What a lost hint would have told is found after so long.
const POLL: Duration = Duration::from_secs(3);
/// The time between two looks for lost claims, drawn out by up to a third, so that hosts do not look all at once.
const SWEEP: Duration = Duration::from_secs(3);
/// Hints closer to each other than this are one: every commit of another host may bring one.
const HINT_SPACING: Duration = Duration::from_millis(20);
/// Beats closer to each other than this are one: a beat is a write.
const BEAT_SPACING: Duration = Duration::from_millis(200);
/// Claims read at once.
const PAGE: u32 = 256;

/// What a host knows of itself.
pub(crate) struct Member {
    id: Mutex<Arc<str>>,
    /// How often it began.
    begun: AtomicU64,
    /// Whether its lease lasts, as far as it knows: else it claims nothing.
    alive: AtomicBool,
    /// Somebody should look at what is still held.
    look: Notify,
    /// Results left for other hosts, by run and step: held under this claim until they take them in.
    handed: Mutex<BTreeMap<(RunId, StepNo), u32>>,
    /// Held and not run, at the last beat.
    idle: Mutex<BTreeSet<Claim>>,
    /// It has let go of everything.
    pub(crate) gone: CancellationToken,
}

impl Member {
    pub(crate) fn new(id: Arc<str>) -> Self {
        Self {
            id: Mutex::new(id),
            begun: AtomicU64::new(0),
            alive: AtomicBool::new(true),
            look: Notify::new(),
            handed: Mutex::default(),
            idle: Mutex::default(),
            gone: CancellationToken::new(),
        }
    }

    /// Its id now.
    pub(crate) fn id(&self) -> Arc<str> {
        self.id.lock().clone()
    }

    /// Whether what it claims now would be its own.
    pub(crate) fn may_claim(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// A result was left for the host that moves the run.
    pub(crate) fn handed_over(&self, run: &RunId, step: StepNo, claim: u32) {
        self.handed.lock().insert((run.clone(), step), claim);
    }
}

/// The first beat: before it nothing can be claimed.
pub(crate) async fn join(service: &Service, cluster: &dyn Cluster) -> Result<(), Error> {
    match beat(service, cluster, true).await? {
        Pulse::Alive { now, .. } => service.0.ports.clock.follow(now),
        // Somebody had this id before.
        Pulse::Expired => begin_anew(service),
    }
    Ok(())
}

async fn beat(service: &Service, cluster: &dyn Cluster, first: bool) -> Result<Pulse, StoreError> {
    let inner = &service.0;
    let options = &inner.options;
    let beat = Beat {
        id: inner.member.id(),
        name: options.name.clone(),
        version: options.version.clone(),
        slots: u32::try_from(options.slots).unwrap_or(u32::MAX),
        running: u32::try_from(inner.running.lock().len()).unwrap_or(u32::MAX),
        draining: inner.stopping.is_cancelled(),
        first,
        lease_ms: u64::try_from(options.lease.as_millis()).unwrap_or(u64::MAX),
    };
    cluster.beat(&beat).await
}

/// Beats until the host has let go of everything, also while it drains.
pub(crate) async fn beats(service: Service, cluster: Arc<dyn Cluster>) {
    let inner = &service.0;
    let every = inner.options.lease / BEATS;
    let mut until = Instant::now() + inner.options.lease;
    let mut first = !inner.member.may_claim();
    let mut told_draining = false;
    loop {
        let pause = if first { BEAT_SPACING } else { every };
        tokio::select! {
            biased;
            () = inner.member.gone.cancelled() => return,
            () = inner.stopping.cancelled(), if !told_draining => told_draining = true,
            () = inner.member.look.notified(), if !first => {}
            () = tokio::time::sleep(pause) => {}
        }
        let asked = Instant::now();
        let before: Vec<Claim> = running(&service);
        // A store that does not answer is no better than one that cannot be reached.
        let pulse = timeout_at(until.max(asked + every), beat(&service, &*cluster, first)).await;
        match pulse {
            Ok(Ok(Pulse::Alive { now, claims })) => {
                inner.ports.clock.follow(now);
                (until, first) = (asked + inner.options.lease, false);
                inner.member.alive.store(true, Ordering::Release);
                compare(&service, &before, claims).await;
            }
            Ok(Ok(Pulse::Expired)) => {
                tracing::warn!(host = %inner.member.id(), "lease is over: the host begins anew");
                begin_anew(&service);
                first = true;
            }
            Ok(Err(_)) | Err(_) if Instant::now() < until || first => {
                tracing::warn!(host = %inner.member.id(), "beat is not taken");
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(host = %inner.member.id(), "lease is over and the store cannot be reached: guests are stopped");
                begin_anew(&service);
                first = true;
            }
        }
        tokio::time::sleep(BEAT_SPACING.min(every)).await;
    }
}

fn running(service: &Service) -> Vec<Claim> {
    let running = service.0.running.lock();
    running.iter().map(|((run, step), (claim, _))| Claim { run: run.clone(), step: *step, claim: *claim }).collect()
}

/// What runs and is not held is stopped; what is held and does not run, twice in a row, is given back.
async fn compare(service: &Service, before: &[Claim], claims: Vec<Claim>) {
    let member = &service.0.member;
    let held: BTreeSet<Claim> = claims.into_iter().collect();
    for claim in before.iter().filter(|claim| !held.contains(claim)) {
        tracing::debug!(run_id = %claim.run, step = claim.step, claim = claim.claim, "step is no longer held");
        executor::abort(service, &claim.run, claim.step, claim.claim);
    }
    let running: BTreeSet<Claim> = before.iter().cloned().chain(running(service)).collect();
    let handed = {
        let mut handed = member.handed.lock();
        let of = |run: &RunId, step: StepNo, claim| Claim { run: run.clone(), step, claim };
        handed.retain(|(run, step), claim| held.contains(&of(run, *step, *claim)));
        handed.iter().map(|((run, step), claim)| of(run, *step, *claim)).collect::<BTreeSet<_>>()
    };
    let idle: BTreeSet<Claim> = held.into_iter().filter(|c| !running.contains(c) && !handed.contains(c)).collect();
    let lost: Vec<Claim> = {
        let mut last = member.idle.lock();
        let lost = idle.intersection(&last).cloned().collect();
        *last = idle;
        lost
    };
    give_back(service, &lost).await;
}

/// Everything that runs is stopped; from now on it is another host.
fn begin_anew(service: &Service) {
    let member = &service.0.member;
    member.alive.store(false, Ordering::Release);
    let number = member.begun.fetch_add(1, Ordering::AcqRel) + 1;
    *member.id.lock() = format!("{}.{number}", service.0.options.host).into();
    let stopped = std::mem::take(&mut *service.0.running.lock());
    for (_, stop) in stopped.into_values() {
        stop.cancel();
    }
    member.handed.lock().clear();
    member.idle.lock().clear();
    service.forget_cells();
}

/// Hears what other hosts left, and looks for what it did not hear.
pub(crate) async fn listen(service: Service, cluster: Arc<dyn Cluster>) {
    let inner = &service.0;
    let work = async {
        loop {
            tokio::select! {
                biased;
                () = cluster.notified() => {}
                () = tokio::time::sleep(POLL) => service.forget_cells(),
            }
            inner.member.look.notify_one();
            inner.messages.notify_one();
            inner.timers.ring();
            inbox::take_in(&service, &*cluster).await;
            tokio::time::sleep(HINT_SPACING).await;
        }
    };
    tokio::select! {
        biased;
        () = inner.stopping.cancelled() => {}
        () = work => {}
    }
}

/// Gives back what dead hosts held.
pub(crate) async fn sweeps(service: Service, cluster: Arc<dyn Cluster>) {
    let inner = &service.0;
    let work = async {
        let mut round: u64 = 0;
        loop {
            match cluster.lost_claims(PAGE).await {
                Ok(lost) => give_back(&service, &lost).await,
                Err(error) => tracing::warn!(error = %error, "lost claims cannot be read"),
            }
            round += 1;
            tokio::time::sleep(SWEEP + jitter(&inner.member.id(), round, SWEEP / 3)).await;
        }
    };
    tokio::select! {
        biased;
        () = inner.stopping.cancelled() => {}
        () = work => {}
    }
}

async fn give_back(service: &Service, lost: &[Claim]) {
    let given = lost.iter().map(|lost| async move {
        let stimulus = Stimulus::Lost { step: lost.step, claim: lost.claim };
        match service.submit(&lost.run, stimulus).await {
            Ok(_) => {
                tracing::info!(run_id = %lost.run, step = lost.step, claim = lost.claim, "lost step is given back");
            }
            // Another host was faster, or the next sweep tries again.
            Err(error) => {
                tracing::debug!(run_id = %lost.run, step = lost.step, error = %error, "step is not given back");
            }
        }
    });
    join_all(given).await;
}

/// Less than `most`, the same for the same words: hosts differ, and a host that is played again does not (FNV-1a).
pub(crate) fn jitter(words: &str, number: u64, most: Duration) -> Duration {
    let bytes = words.bytes().chain(number.to_le_bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros((hash ^ (hash >> 32)) % most)
}
