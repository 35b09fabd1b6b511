//! The host's time: the wall clock's at the start, a monotonic clock's from then on, and never behind what is stored.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use caisson_core::ports::Clock;
use caisson_core::time::Timestamp;

/// A clock that nobody can turn back.
#[derive(Debug)]
pub struct SystemClock {
    anchor: Timestamp,
    start: Instant,
    /// What the store's clock was found to be ahead, in milliseconds.
    ahead_ms: AtomicU64,
}

impl SystemClock {
    /// Begins at the wall clock's time, or at the latest stored time if that is later.
    pub fn anchored(latest: Option<Timestamp>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        Self::following(latest.map_or(wall, |latest| latest.max(wall)))
    }

    /// Begins at the time of a store whose clock decides, and follows it.
    pub fn following(store: Timestamp) -> Self {
        Self { anchor: store, start: Instant::now(), ahead_ms: AtomicU64::new(0) }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.anchor.plus_ms(elapsed.saturating_add(self.ahead_ms.load(Ordering::Acquire)))
    }

    fn follow(&self, store: Timestamp) {
        let behind = store.since_ms(self.now());
        if behind > 0 {
            self.ahead_ms.fetch_add(behind, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_was_turned_back_does_not_reorder_history() {
        let far = Timestamp(9_000_000_000_000);
        assert!(SystemClock::anchored(Some(far)).now() >= far);
        assert!(SystemClock::anchored(Some(Timestamp(0))).now() < far);
    }

    #[test]
    fn the_stores_clock_is_followed_forwards_and_never_back() {
        let clock = SystemClock::following(Timestamp(1_000_000));
        clock.follow(Timestamp(9_000_000));
        assert!(clock.now() >= Timestamp(9_000_000));
        clock.follow(Timestamp(5));
        assert!(clock.now() >= Timestamp(9_000_000));
    }
}
