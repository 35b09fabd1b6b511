//! The host's time: the wall clock's at the start, a monotonic clock's from then on, and never behind what is stored.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use caisson_core::ports::Clock;
use caisson_core::time::Timestamp;

/// A clock that nobody can turn back.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    anchor: Timestamp,
    start: Instant,
}

impl SystemClock {
    /// Begins at the wall clock's time, or at the latest stored time if that is later.
    pub fn anchored(latest: Option<Timestamp>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        Self { anchor: latest.map_or(wall, |latest| latest.max(wall)), start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.anchor.plus_ms(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
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
}
