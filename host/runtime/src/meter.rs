//! CPU time of one guest: thread time summed around polls, so that neither waiting nor a busy machine counts.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use crate::sys::thread_cpu_ns;

/// What a guest has used. Written by whichever thread polls it; polls never overlap.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    spent_ns: AtomicU64,
    /// Thread time when the poll under way began.
    began_ns: AtomicU64,
}

impl Meter {
    /// Up to now; only from within a poll.
    pub(crate) fn now_ns(&self) -> u64 {
        let running = thread_cpu_ns().saturating_sub(self.began_ns.load(Ordering::Relaxed));
        self.spent_ns.load(Ordering::Relaxed).saturating_add(running)
    }

    /// Up to the last finished poll.
    pub(crate) fn spent_ns(&self) -> u64 {
        self.spent_ns.load(Ordering::Relaxed)
    }

    fn begin(&self) {
        self.began_ns.store(thread_cpu_ns(), Ordering::Relaxed);
    }

    fn end(&self) {
        self.spent_ns.store(self.now_ns(), Ordering::Relaxed);
    }
}

/// Runs a future and meters its polls.
pub(crate) struct Metered<'a, F> {
    meter: &'a Meter,
    inner: Pin<&'a mut F>,
}

impl<'a, F: Future> Metered<'a, F> {
    pub(crate) fn new(meter: &'a Meter, inner: Pin<&'a mut F>) -> Self {
        Self { meter, inner }
    }
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.meter.begin();
        let result = self.inner.as_mut().poll(context);
        self.meter.end();
        result
    }
}
