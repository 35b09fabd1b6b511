//! What goes wrong, all of it from one seed: errors before and after the effect, delays, crashes, pauses past the lease.

use std::sync::Arc;
use std::time::Duration;

use caisson_core::ports::{Clock, StoreError};
use caisson_core::time::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

/// A bug that is put in on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A commit is answered before it is stored, and lost with its host.
    EffectBeforeCommit,
    /// A result counts for whichever claim there is.
    NoClaimFence,
    /// Timers are dropped now and then.
    LostTimer,
    /// The queue takes two publications of one step for one.
    NoDispatch,
    /// Messages come twice under two ids and are never done.
    DoubleRelay,
}

/// Virtual time: the store's, the hosts' and tokio's are one.
pub struct VirtualClock(pub Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000).plus_ms(u64::try_from(self.0.elapsed().as_millis()).unwrap())
    }
}

/// What all hosts of one simulation share.
pub struct Fate {
    pub begin: Instant,
    pub plant: Option<Plant>,
    /// No fault comes after this: what was broken must then mend by itself.
    pub until: Duration,
    random: Mutex<u64>,
    deaths: Mutex<u32>,
    /// A hash over all that happened, in order (FNV-1a).
    transcript: Mutex<u64>,
}

impl Fate {
    pub fn new(seed: u64, until: Duration, plant: Option<Plant>) -> Arc<Self> {
        let (random, transcript) = (Mutex::new(seed), Mutex::new(0xcbf2_9ce4_8422_2325));
        Arc::new(Self { begin: Instant::now(), plant, until, random, deaths: Mutex::new(0), transcript })
    }

    /// The next number (SplitMix64).
    pub fn next(&self) -> u64 {
        let mut state = self.random.lock();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Whether so many of a thousand come true; never once it is quiet.
    pub fn chance(&self, per_mille: u64) -> bool {
        self.begin.elapsed() < self.until && self.next() % 1000 < per_mille
    }

    pub fn note(&self, line: &str) {
        let mut hash = self.transcript.lock();
        let line = format!("{} {line}\n", self.begin.elapsed().as_micros());
        *hash = line.bytes().fold(*hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    }

    pub fn transcript(&self) -> u64 {
        *self.transcript.lock()
    }

    fn may_die(&self) -> bool {
        let mut deaths = self.deaths.lock();
        *deaths += 1;
        *deaths <= 4
    }
}

/// One life of a host.
pub struct Host {
    pub name: String,
    pub fate: Arc<Fate>,
    /// Dead, and until when it stands still.
    state: Mutex<(bool, Option<Instant>)>,
    pub died: tokio::sync::Notify,
}

impl Host {
    pub fn new(name: String, fate: Arc<Fate>) -> Arc<Self> {
        Arc::new(Self { name, fate, state: Mutex::default(), died: tokio::sync::Notify::new() })
    }

    pub fn plant(&self) -> Option<Plant> {
        self.fate.plant
    }

    pub fn chance(&self, per_mille: u64) -> bool {
        self.fate.chance(per_mille)
    }

    pub fn is_dead(&self) -> bool {
        self.state.lock().0
    }

    /// Goes on unless the host is dead; waits while it stands still.
    pub async fn alive(&self) {
        loop {
            let (dead, paused) = *self.state.lock();
            if dead {
                return std::future::pending().await;
            }
            match paused.filter(|until| *until > Instant::now()) {
                Some(until) => tokio::time::sleep_until(until).await,
                None => return,
            }
        }
    }

    async fn trouble(&self, what: &str) {
        self.alive().await;
        if self.chance(3) && self.fate.may_die() {
            self.fate.note(&format!("{} dies at {what}", self.name));
            self.state.lock().0 = true;
            self.died.notify_one();
        } else if self.chance(2) {
            self.fate.note(&format!("{} stands still at {what}", self.name));
            self.state.lock().1 = Some(Instant::now() + Duration::from_secs(14));
        } else if self.chance(80) {
            tokio::time::sleep(Duration::from_millis(self.fate.next() % 800)).await;
        }
        self.alive().await;
    }

    /// A call to a port, with all that may happen before and after it.
    pub async fn call<T, E: From<StoreError>>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.trouble(what).await;
        let failed = |when| Err(StoreError::Other(format!("{what} fails {when}")).into());
        self.fate.note(&format!("{} {what}", self.name));
        if self.chance(25) {
            return failed("before");
        }
        let result = call.await;
        self.trouble(what).await;
        if self.chance(25) { failed("after") } else { result }
    }

    /// The same for what cannot fail.
    pub async fn pass<T>(&self, what: &str, call: impl Future<Output = T>) -> T {
        self.trouble(what).await;
        self.fate.note(&format!("{} {what}", self.name));
        let result = call.await;
        self.trouble(what).await;
        result
    }
}
