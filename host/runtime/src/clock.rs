//! The guest's clock: starts when the entry first began, on whatever host, and moves only where it can move again in
//! the same way.
//!
//! It stands still while the guest computes, so that the same entry sees the same times when it is run again. It moves
//! to the real time that has passed at each journaled call, whose record keeps it; to its deadline when the guest
//! sleeps; and by a microsecond at each reading, so that a loop that waits for a time ends.

use std::collections::BTreeMap;
use std::time::Duration;

use caisson_core::time::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

const MS: u64 = 1_000_000;
/// What a reading costs.
pub(crate) const READING_NS: u32 = 1_000;

/// The clock of one entry.
#[derive(Debug)]
pub(crate) struct VirtualClock {
    /// When the entry first began.
    start: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// What it shows, since the entry began.
    now_ns: u64,
    /// At this instant it showed, or would have shown if it ran, so much.
    anchor: (Instant, u64),
    /// Deadlines that the guest waits for, each as often as it does.
    waiting: BTreeMap<u64, u32>,
}

impl VirtualClock {
    pub(crate) fn new(start: Timestamp) -> Self {
        let inner = Inner { now_ns: 0, anchor: (Instant::now(), 0), waiting: BTreeMap::new() };
        Self { start: Duration::from_millis(u64::try_from(start.0).unwrap_or(0)), inner: Mutex::new(inner) }
    }

    /// Since the entry began, in nanoseconds; each reading moves it.
    pub(crate) fn read_ns(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.now_ns = inner.now_ns.saturating_add(u64::from(READING_NS));
        inner.now_ns
    }

    /// The same as a time of day, since 1970.
    pub(crate) fn read_wall(&self) -> Duration {
        self.start + Duration::from_nanos(self.read_ns())
    }

    /// The time of day without moving it: for what the host writes down about a journaled call.
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.start + Duration::from_nanos(self.inner.lock().now_ns);
        Timestamp(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
    }

    /// Moves to the real time that has passed, and says how many milliseconds that are: what a record keeps.
    pub(crate) fn advance(&self) -> u64 {
        let mut inner = self.inner.lock();
        let (at, showed) = inner.anchor;
        let ms = (showed + nanoseconds(at.elapsed())) / MS;
        inner.move_to(ms * MS);
        ms
    }

    /// Moves to what a record kept.
    pub(crate) fn set(&self, ms: u64) {
        let mut inner = self.inner.lock();
        let to = ms.saturating_mul(MS);
        inner.anchor = (Instant::now(), to.max(inner.now_ns));
        inner.move_to(to);
    }

    /// What it will show so much later.
    pub(crate) fn after(&self, ns: u64) -> u64 {
        self.inner.lock().now_ns.saturating_add(ns)
    }

    /// Waits for real until it would show that, and moves it there. Of several deadlines that have passed together only
    /// the first is over, so that a guest that waits for several sees the same one each time.
    pub(crate) async fn reach(&self, deadline_ns: u64) {
        let left = {
            let mut inner = self.inner.lock();
            if inner.now_ns >= deadline_ns {
                return;
            }
            *inner.waiting.entry(deadline_ns).or_default() += 1;
            deadline_ns - inner.now_ns
        };
        let _waiting = Waiting { clock: self, deadline_ns };
        tokio::time::sleep(Duration::from_nanos(left)).await;
        let first = {
            let mut inner = self.inner.lock();
            let first = inner.waiting.keys().next().is_none_or(|first| *first >= deadline_ns);
            if first {
                inner.move_to(deadline_ns);
            }
            first
        };
        if !first {
            // The earlier one is over too, and whoever waits for both is woken by it.
            std::future::pending::<()>().await;
        }
    }
}

impl Inner {
    /// Never backwards.
    fn move_to(&mut self, ns: u64) {
        self.now_ns = self.now_ns.max(ns);
    }
}

struct Waiting<'a> {
    clock: &'a VirtualClock,
    deadline_ns: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut inner = self.clock.inner.lock();
        if let Some(times) = inner.waiting.get_mut(&self.deadline_ns) {
            *times -= 1;
            if *times == 0 {
                inner.waiting.remove(&self.deadline_ns);
            }
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_still_but_for_readings_and_goes_where_a_record_says() {
        let clock = VirtualClock::new(Timestamp(5_000));
        assert_eq!((clock.read_ns(), clock.read_ns()), (1_000, 2_000));
        clock.set(70);
        assert_eq!(clock.read_ns(), 70 * MS + 1_000);
        clock.set(3);
        assert_eq!(clock.read_ns(), 70 * MS + 2_000, "never backwards");
        assert_eq!(clock.now(), Timestamp(5_070));
        assert!(clock.advance() >= 70, "it goes on from where the record left it");
    }

    #[tokio::test]
    async fn a_sleep_is_real_and_moves_it_to_its_deadline() {
        let clock = VirtualClock::new(Timestamp(0));
        let began = Instant::now();
        clock.reach(clock.after(25 * MS)).await;
        assert!(began.elapsed() >= Duration::from_millis(25));
        assert_eq!(clock.after(0), 25 * MS, "to the nanosecond, however late the thread woke");
        assert!(clock.advance() >= 25, "a journaled call moves it to the real time");
        assert!(clock.after(0) >= 25 * MS);
    }

    #[tokio::test]
    async fn of_two_deadlines_the_earlier_one_is_over_first() {
        let clock = VirtualClock::new(Timestamp(0));
        for _ in 0..20 {
            let now = clock.after(0);
            tokio::select! {
                biased;
                () = clock.reach(now + 1_000_001) => panic!("the later one was over first"),
                () = clock.reach(now + 1_000_000) => {}
            }
        }
    }
}
