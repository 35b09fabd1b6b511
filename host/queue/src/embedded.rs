//! The queue of a host that works alone, in memory.
//!
//! Invariants:
//! - It never holds more than [`STEPS_MAX`]. What does not fit is dropped and remembered as one bit, which the relay turns into a read
//!   of the READY rows once there is room.
//! - No wake-up is lost: whoever waits registers first and looks second, and a wake-up whose waiter went away goes to the next one.
//!
//! Deliberately absent: removing duplicates (the engine refuses to claim a step twice), priorities (the store orders), persistence.

use std::collections::VecDeque;

use async_trait::async_trait;
use caisson_core::ports::{Delivery, Horizon, Ready, TaskQueue};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Steps in the queue at most. At 10,000 steps a second it is 0.4 s of work, so that a refill is never late, and about half a megabyte.
pub const STEPS_MAX: usize = 4096;

/// Steps left when a refill is due: 0.1 s of work, far more than reading a page of READY rows takes.
pub const STEPS_LOW: usize = STEPS_MAX / 4;

/// The queue of a host that works alone.
#[derive(Debug, Default)]
pub struct EmbeddedQueue {
    inner: Mutex<Inner>,
    /// Wakes one waiter of `next`, which wakes the next one if there is more.
    arrived: Notify,
    /// Wakes all waiters of `wants_refill`.
    low: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    steps: VecDeque<Ready>,
    /// The store may hold more than was published: something was dropped, or the queue was filled to the brim.
    overflow: bool,
}

impl Inner {
    fn is_due(&self) -> bool {
        self.overflow && self.steps.len() <= STEPS_LOW
    }
}

impl EmbeddedQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Steps that wait in it. What does not fit waits in the store.
    pub fn waiting(&self) -> usize {
        self.inner.lock().steps.len()
    }

    fn take(&self) -> Option<Ready> {
        let (ready, more, due) = {
            let mut inner = self.inner.lock();
            let ready = inner.steps.pop_front()?;
            (ready, !inner.steps.is_empty(), inner.is_due())
        };
        if more {
            self.arrived.notify_one();
        }
        if due {
            self.low.notify_waiters();
        }
        Some(ready)
    }
}

#[async_trait]
impl TaskQueue for EmbeddedQueue {
    fn publish(&self, ready: Vec<Ready>, more: bool) {
        if ready.is_empty() {
            return;
        }
        {
            let mut inner = self.inner.lock();
            let room = STEPS_MAX - inner.steps.len();
            inner.overflow |= more || ready.len() >= room;
            inner.steps.extend(ready.into_iter().take(room));
        }
        self.arrived.notify_one();
    }

    async fn next(&self) -> Delivery {
        loop {
            let arrived = self.arrived.notified();
            if let Some(ready) = self.take() {
                return Delivery { ready, receipt: None };
            }
            arrived.await;
        }
    }

    fn take_overflow(&self) -> bool {
        std::mem::take(&mut self.inner.lock().overflow)
    }

    async fn wants_refill(&self) {
        loop {
            // `notify_waiters` reaches everyone who was made before it.
            let low = self.low.notified();
            if self.inner.lock().is_due() {
                return;
            }
            low.await;
        }
    }

    fn room(&self) -> usize {
        STEPS_MAX - self.inner.lock().steps.len()
    }

    async fn horizon(&self) -> Horizon {
        Horizon::Process
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use caisson_core::ids::RunId;
    use caisson_core::ports::contract::{QueueKind, check_queue};

    use super::*;

    fn steps(numbers: std::ops::Range<usize>) -> Vec<Ready> {
        let ready = |step| Ready {
            run: RunId::new("r"),
            step: step as u64,
            attempt: 1,
            entry: 0,
            dispatch: 65_536,
            traceparent: None,
        };
        numbers.map(ready).collect()
    }

    /// What a future answers when it is looked at once.
    fn look<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn it_does_what_every_queue_does() {
        let kind = QueueKind { capacity: STEPS_MAX, removes_duplicates: false };
        check_queue(kind, async || Arc::new(EmbeddedQueue::new())).await;
    }

    #[tokio::test]
    async fn steps_come_out_in_the_order_in_which_they_were_published() {
        let queue = EmbeddedQueue::new();
        queue.publish(steps(0..2), false);
        queue.publish(steps(2..3), false);
        assert_eq!(queue.waiting(), 3);
        for expected in 0..3 {
            assert_eq!(queue.next().await.ready.step, expected);
        }
        assert_eq!((queue.room(), queue.waiting()), (STEPS_MAX, 0));
    }

    #[test]
    fn next_waits_until_there_is_a_step() {
        let queue = EmbeddedQueue::new();
        let mut next = pin!(queue.next());
        assert!(look(next.as_mut()).is_pending());
        queue.publish(steps(7..8), false);
        assert!(matches!(look(next.as_mut()), Poll::Ready(Delivery { ready: Ready { step: 7, .. }, .. })));
    }

    #[test]
    fn several_waiters_all_get_their_step_from_one_publication() {
        let queue = EmbeddedQueue::new();
        let (mut a, mut b, mut c) = (Box::pin(queue.next()), Box::pin(queue.next()), Box::pin(queue.next()));
        assert!(look(a.as_mut()).is_pending() && look(b.as_mut()).is_pending() && look(c.as_mut()).is_pending());
        queue.publish(steps(0..3), false);
        // Only those that were woken may be looked at: each wakes the next one.
        for waiter in [&mut a, &mut b, &mut c] {
            assert!(look(waiter.as_mut()).is_ready());
        }
    }

    #[tokio::test]
    async fn a_waiter_that_goes_away_takes_no_step_and_no_wake_up_with_it() {
        let queue = Arc::new(EmbeddedQueue::new());
        let mut gone = Box::pin(queue.next());
        assert!(look(gone.as_mut()).is_pending());
        let stays = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.next().await.ready.step }
        });
        tokio::task::yield_now().await;
        queue.publish(steps(5..6), false);
        drop(gone);
        assert_eq!(stays.await.expect("joins"), 5);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_dropped_and_remembered_once() {
        let queue = EmbeddedQueue::new();
        assert!(!queue.take_overflow());
        queue.publish(steps(0..STEPS_MAX + 5), false);
        assert_eq!(queue.room(), 0);
        assert!(queue.take_overflow());
        assert!(!queue.take_overflow());
        queue.publish(steps(0..1), false);
        assert!(queue.take_overflow(), "a full queue drops the next one too");
        assert_eq!(queue.next().await.ready.step, 0);
        assert_eq!(queue.room(), 1);
    }

    #[tokio::test]
    async fn a_refill_is_wanted_once_the_queue_has_run_low_and_not_before() {
        let queue = EmbeddedQueue::new();
        queue.publish(steps(0..STEPS_MAX + 1), false);
        let mut wants = pin!(queue.wants_refill());
        for _ in STEPS_LOW + 1..STEPS_MAX {
            queue.next().await;
            assert!(look(wants.as_mut()).is_pending());
        }
        queue.next().await;
        assert!(look(wants.as_mut()).is_ready());
        assert!(look(pin!(queue.wants_refill())).is_ready(), "until somebody takes the overflow");
        assert!(queue.take_overflow());
        assert!(look(pin!(queue.wants_refill())).is_pending());
    }

    #[tokio::test]
    async fn a_queue_filled_to_the_brim_is_refilled_too() {
        // The relay reads as many rows as there is room for: the store may hold more, and nothing was dropped.
        let queue = EmbeddedQueue::new();
        queue.publish(steps(0..STEPS_MAX), false);
        for _ in 0..STEPS_MAX - STEPS_LOW {
            queue.next().await;
        }
        assert!(look(pin!(queue.wants_refill())).is_ready());
    }

    #[tokio::test]
    async fn a_quiet_queue_wants_nothing() {
        let queue = EmbeddedQueue::new();
        queue.publish(steps(0..3), false);
        queue.publish(Vec::new(), false);
        for _ in 0..3 {
            queue.next().await;
        }
        assert!(look(pin!(queue.wants_refill())).is_pending());
        assert!(!queue.take_overflow());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_publishers_and_many_workers_lose_nothing() {
        const WORKERS: usize = 4;
        const EACH: usize = 500;
        let queue = Arc::new(EmbeddedQueue::new());
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                let queue = Arc::clone(&queue);
                tokio::spawn(async move {
                    let mut sum = 0;
                    for _ in 0..EACH {
                        sum += queue.next().await.ready.step;
                    }
                    sum
                })
            })
            .collect();
        let publishers: Vec<_> = (0..WORKERS)
            .map(|publisher| {
                let queue = Arc::clone(&queue);
                tokio::spawn(async move {
                    for step in 0..EACH {
                        queue.publish(steps(publisher * EACH + step..publisher * EACH + step + 1), false);
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for publisher in publishers {
            publisher.await.expect("joins");
        }
        let mut sum = 0;
        for worker in workers {
            sum += worker.await.expect("joins");
        }
        let all = (WORKERS * EACH) as u64;
        assert_eq!(sum, all * (all - 1) / 2);
    }
}
