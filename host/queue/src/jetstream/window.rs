//! How much is in the stream, what did not get there, and when to look for it.
//!
//! Invariant: a step that did not get into the stream is dated: its READY row is older than [`Missed::at`], so a look at rows older than that
//! time finds it. Until such a look was made, the window is *short*.

use caisson_core::time::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Between the clock of the server and the one that dates READY rows, and for publications that are on their way: a sweep takes what was
/// published so long before the oldest message for lost. Too short costs duplicates, too long costs time to recover.
const MARGIN_MS: u64 = 5_000;
/// The same where steps are known to be missing: their publication has failed, so only those of other hosts may be on their way.
const MARGIN_SHORT_MS: u64 = 250;
/// Pause between two looks while steps are missing: the next one has to be later by [`MARGIN_SHORT_MS`] at least once.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
/// A refill is due when so much of the window is left (an eighth): 50 ms of work at 10,000 steps a second, which is longer than reading a
/// page of READY rows. What is left may be published twice.
const LOW_PART: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    capacity: usize,
    inner: Mutex<Inner>,
    /// Something that a refill waits for may have changed.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// Messages in the stream, as last heard, and acknowledged publications since.
    stored: usize,
    /// Publications that the server has not acknowledged.
    in_flight: usize,
    missed: Option<Missed>,
    /// For [`Window::take_overflow`].
    overflow: bool,
    /// A refill is wanted whether or not there is anything to repair.
    hurry: bool,
    /// When rows were last looked for.
    looked_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Missed {
    /// When the last one was.
    at: Timestamp,
    /// Nothing was lost: the store has more, and all of it was there before the look that found it.
    before: Option<Timestamp>,
}

impl Window {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, inner: Mutex::default(), changed: Notify::new() }
    }

    /// Takes room for so many steps, or for as many as there is.
    pub fn reserve(&self, wanted: usize) -> usize {
        let mut inner = self.inner.lock();
        let given = wanted.min(self.capacity.saturating_sub(inner.pending()));
        inner.in_flight += given;
        given
    }

    /// The server has stored one.
    pub fn acknowledged(&self) {
        let mut inner = self.inner.lock();
        inner.in_flight = inner.in_flight.saturating_sub(1);
        inner.stored += 1;
    }

    /// The server had one already.
    pub fn known(&self) {
        let mut inner = self.inner.lock();
        inner.in_flight = inner.in_flight.saturating_sub(1);
    }

    /// So many did not get there, as far as is known.
    pub fn lost(&self, count: usize, now: Timestamp) {
        {
            let mut inner = self.inner.lock();
            inner.in_flight = inner.in_flight.saturating_sub(count);
            inner.miss(now);
        }
        self.changed.notify_waiters();
    }

    /// Some did not fit.
    pub fn dropped(&self, now: Timestamp) {
        self.lost(0, now);
    }

    /// All fitted, and the store has more.
    pub fn left_some(&self, now: Timestamp) {
        {
            let mut inner = self.inner.lock();
            inner.overflow = true;
            let before = inner.looked_at;
            inner.missed.get_or_insert(Missed { at: now, before });
        }
        self.changed.notify_waiters();
    }

    /// Much may be lost, of this host or others: look at once.
    pub fn hurry(&self, now: Timestamp) {
        {
            let mut inner = self.inner.lock();
            inner.miss(now);
            inner.hurry = true;
        }
        self.changed.notify_waiters();
    }

    /// Rows changed elsewhere: look at once.
    pub fn hint(&self) {
        self.inner.lock().hurry = true;
        self.changed.notify_waiters();
    }

    /// So many messages are in the stream.
    pub fn heard(&self, stored: usize) {
        let due = {
            let mut inner = self.inner.lock();
            inner.stored = stored;
            inner.missed.is_some() && inner.pending() <= self.low()
        };
        if due {
            self.changed.notify_waiters();
        }
    }

    pub fn pending(&self) -> usize {
        self.inner.lock().pending()
    }

    pub fn room(&self) -> usize {
        self.capacity.saturating_sub(self.pending())
    }

    pub fn take_overflow(&self) -> bool {
        std::mem::take(&mut self.inner.lock().overflow)
    }

    /// Whether steps are missing.
    pub fn is_short(&self) -> bool {
        self.inner.lock().missed.is_some()
    }

    /// Waits until a refill is due.
    pub async fn due(&self) {
        if self.is_short() {
            tokio::time::sleep(PAUSE).await;
        }
        loop {
            // `notify_waiters` reaches everyone who was made before it.
            let changed = self.changed.notified();
            {
                let mut inner = self.inner.lock();
                if inner.hurry || (inner.missed.is_some() && inner.pending() <= self.low()) {
                    inner.hurry = false;
                    return;
                }
            }
            changed.await;
        }
    }

    /// Rows that were published before this time, and are still ready, are not in the stream, whose oldest message is from `oldest`.
    pub fn horizon(&self, oldest: Option<Timestamp>, now: Timestamp) -> Timestamp {
        let mut inner = self.inner.lock();
        let before = match inner.missed {
            Some(missed) if inner.pending() <= self.low() => {
                let before = missed.before.unwrap_or_else(|| minus(now, MARGIN_SHORT_MS));
                if missed.before.is_some() || before >= missed.at {
                    inner.missed = None;
                }
                before
            }
            _ => minus(oldest.unwrap_or(now).min(now), MARGIN_MS),
        };
        inner.looked_at = Some(now);
        before
    }

    fn low(&self) -> usize {
        self.capacity / LOW_PART
    }
}

impl Inner {
    fn pending(&self) -> usize {
        self.stored + self.in_flight
    }

    fn miss(&mut self, now: Timestamp) {
        self.overflow = true;
        self.missed = Some(Missed { at: now, before: None });
    }
}

fn minus(time: Timestamp, ms: u64) -> Timestamp {
    Timestamp(time.0.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    const NOW: Timestamp = Timestamp(100_000);

    fn is_due(window: &Window) -> bool {
        let due = pin!(window.due());
        due.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_quiet_window_takes_for_lost_what_is_much_older_than_the_stream() {
        let window = Window::new(64);
        assert_eq!(window.horizon(Some(Timestamp(50_000)), NOW), Timestamp(45_000));
        assert_eq!(window.horizon(None, NOW), Timestamp(95_000));
        assert_eq!(window.horizon(Some(Timestamp(200_000)), NOW), Timestamp(95_000), "a server whose clock is ahead");
    }

    #[test]
    fn what_did_not_fit_is_looked_for_once_the_stream_has_run_low_until_none_can_be_missing() {
        let window = Window::new(64);
        assert_eq!(window.reserve(70), 64);
        window.dropped(NOW);
        assert_eq!(window.room(), 0);
        assert_eq!(window.horizon(Some(Timestamp(90_000)), NOW), Timestamp(85_000), "the stream is full");
        for _ in 0..64 {
            window.acknowledged();
        }
        window.heard(8);
        assert_eq!(window.horizon(Some(Timestamp(90_000)), NOW.plus_ms(100)), Timestamp(99_850));
        assert!(window.is_short(), "steps of the last moment may still be missing");
        assert_eq!(window.horizon(Some(Timestamp(90_000)), NOW.plus_ms(250)), NOW);
        assert!(!window.is_short());
    }

    #[test]
    fn what_the_store_has_beside_a_full_page_was_there_before_the_page_was_read() {
        let window = Window::new(64);
        window.horizon(None, NOW);
        window.left_some(NOW.plus_ms(10));
        assert_eq!(window.horizon(None, NOW.plus_ms(500)), NOW, "and nothing of the page is published twice");
        assert!(!window.is_short());
        window.left_some(NOW.plus_ms(510));
        window.dropped(NOW.plus_ms(520));
        assert_eq!(
            window.horizon(None, NOW.plus_ms(800)),
            NOW.plus_ms(550),
            "but where some were lost, all are looked at"
        );
    }

    #[test]
    fn the_overflow_is_told_once() {
        let window = Window::new(64);
        assert!(!window.take_overflow());
        window.dropped(NOW);
        assert!(window.take_overflow());
        assert!(!window.take_overflow());
        assert!(window.is_short(), "and is remembered until it was repaired");
    }

    #[test]
    fn nothing_is_due_while_nothing_is_missing_and_a_hint_is_due_at_once() {
        let window = Window::new(64);
        window.heard(3);
        assert!(!is_due(&window));
        window.hint();
        assert!(is_due(&window));
        assert!(!is_due(&window), "one look for one hint");
    }
}
