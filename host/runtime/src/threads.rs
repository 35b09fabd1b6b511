//! The threads that guests run on, and the clock that interrupts them.
//!
//! Invariant: guests run on threads of their own, at lower priority than the host's, so that a hundred stuck ones cost
//! the API nothing but their share of the CPU. One exception, because two changes of thread cost several times what a
//! small guest does: an entry may begin on its caller's thread, and goes on on the guests' threads when it waits, wants
//! much memory or has run for a tick or two, whichever is first. So few may at once that one of the host's threads is
//! always without; and an action that did not end within its first slice does without for a while.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::Engine;

use crate::sys::lower_thread_priority;

/// A guest is interrupted, and its budget looked at, every so often. Shorter costs every guest; longer delays
/// cancellation.
const EPOCH: Duration = Duration::from_millis(1);
/// The ticker goes on so long without guests before it sleeps: waking it costs as much as a small guest.
const IDLE_TICKS_MAX: u32 = 50;
/// Five steps below the host: it always gets the CPU first, and guests still get all that is left.
const GUEST_NICE: i32 = 5;
/// What a compiler in this process needs; guests need less, their own stack is a fiber's.
const THREAD_STACK_BYTES: usize = 2 << 20;
/// Entries of an action that begin on the guests' threads after one that did not end within its first slice: of a
/// flood of stuck guests, one in so many takes a slice of the host's threads.
const LONG_ENTRIES: u32 = 64;

/// The guests' own runtime. Dropping it ends every guest.
pub(crate) struct Guests {
    runtime: Option<tokio::runtime::Runtime>,
    /// Entries that may be on their callers' threads at once, and those that are.
    slices_max: usize,
    slices: AtomicUsize,
}

/// Why a future on the guests' threads has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// The runtime goes.
    #[error("the guests' threads have stopped")]
    Stopped,
    /// What it said.
    #[error("a panic: {0}")]
    Panicked(String),
}

/// Whether the entries of an action have ended within their first slices lately.
#[derive(Debug, Default)]
pub(crate) struct Habit {
    /// Entries that will not get one.
    without: AtomicU32,
}

impl Habit {
    fn is_brief(&self) -> bool {
        // Two at once may both count the last one: no harm.
        match self.without.load(Ordering::Relaxed) {
            0 => true,
            left => {
                self.without.store(left - 1, Ordering::Relaxed);
                false
            }
        }
    }

    fn was_long(&self) {
        self.without.store(LONG_ENTRIES, Ordering::Relaxed);
    }
}

/// Being on the caller's thread.
struct Slice<'a>(&'a AtomicUsize);

impl Drop for Slice<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Guests {
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("caisson-guest")
            .thread_stack_size(THREAD_STACK_BYTES)
            .on_thread_start(|| lower_thread_priority(GUEST_NICE))
            .enable_all()
            .build()?;
        // The host has as many threads as there are cores.
        let slices_max = thread::available_parallelism().map_or(1, usize::from).saturating_sub(1).max(1);
        Ok(Self { runtime: Some(runtime), slices_max, slices: AtomicUsize::new(0) })
    }

    /// Runs a future on the guests' threads, after a first slice on the caller's if its habit speaks for it. Dropping
    /// what this gives ends it at its next yield.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        habit: Option<&Habit>,
        mut future: Pin<Box<impl Future<Output = T> + Send + 'static>>,
    ) -> Result<T, Lost> {
        if let Some((habit, _slice)) = habit.and_then(|habit| Some((habit, self.slice(habit)?))) {
            let first = std::future::poll_fn(|context| Poll::Ready(self.first(future.as_mut(), context)));
            if let Poll::Ready(result) = first.await {
                return result;
            }
            habit.was_long();
        }
        Running(self.handle().spawn(future)).await.map_err(|error| match error.try_into_panic() {
            Ok(panic) => Lost::Panicked(said(&*panic)),
            Err(_) => Lost::Stopped,
        })
    }

    fn handle(&self) -> &tokio::runtime::Handle {
        self.runtime.as_ref().expect("the guests' runtime lives until it is dropped").handle()
    }

    fn slice(&self, habit: &Habit) -> Option<Slice<'_>> {
        if !habit.is_brief() {
            return None;
        }
        let slice = Slice(&self.slices);
        (self.slices.fetch_add(1, Ordering::Relaxed) < self.slices_max).then_some(slice)
    }

    /// One poll on the caller's thread; timers and connections that it makes are the guests' all the same.
    fn first<F: Future>(&self, future: Pin<&mut F>, context: &mut Context<'_>) -> Poll<Result<F::Output, Lost>> {
        let _guests = self.handle().enter();
        match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(Lost::Panicked(said(&*panic)))),
        }
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("nothing that could be shown").to_owned()
}

impl Guests {
    /// For work that goes on though nobody waits for it any more; it ends with the guests.
    pub(crate) fn spawner(&self) -> Spawner {
        Spawner(self.handle().clone())
    }
}

/// Starts work on the guests' threads.
#[derive(Clone)]
pub(crate) struct Spawner(tokio::runtime::Handle);

impl Spawner {
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.spawn(work));
    }

    /// Waits for work. Not from a thread of an async runtime.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.block_on(work)
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        // Never waits: this may run on a thread of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A future on the guests' threads that ends when this is dropped.
struct Running<T>(tokio::task::JoinHandle<T>);

impl<T> Future for Running<T> {
    type Output = Result<T, tokio::task::JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Raises the engine's epoch while any guest runs; sleeps while none does, so that an idle host is idle.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    /// Whether the thread sleeps, or is about to.
    asleep: AtomicBool,
    stopped: AtomicBool,
}

/// Keeps the ticker ticking.
pub(crate) struct Ticking {
    shared: Arc<Shared>,
}

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let engine = engine.weak();
        let seen = Arc::clone(&shared);
        let thread = thread::Builder::new().name("caisson-epoch".to_owned()).stack_size(64 << 10).spawn(move || {
            let mut idle_ticks = 0;
            while !seen.stopped.load(Ordering::SeqCst) {
                if seen.running.load(Ordering::SeqCst) > 0 {
                    idle_ticks = 0;
                } else if idle_ticks < IDLE_TICKS_MAX {
                    idle_ticks += 1;
                } else {
                    seen.sleep();
                    idle_ticks = 0;
                    continue;
                }
                thread::sleep(EPOCH);
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => break,
                }
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// From now until the guard goes.
    pub(crate) fn tick(&self) -> Ticking {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Ticking { shared: Arc::clone(&self.shared) }
    }
}

impl Shared {
    /// Until a guest begins. Either this sees the guest that has begun, or the guest sees that this sleeps: each writes
    /// first and reads then. Waking for nothing is harmless.
    fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        if self.running.load(Ordering::SeqCst) == 0 && !self.stopped.load(Ordering::SeqCst) {
            thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.shared.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A thread that only counts cannot panic; there is nothing to report.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it runs before and after it gives way.
    async fn places(guests: &Guests, habit: Option<&Habit>) -> [bool; 2] {
        let elsewhere = || thread::current().name() == Some("caisson-guest");
        let running = Box::pin(async move {
            let before = elsewhere();
            tokio::task::yield_now().await;
            [before, elsewhere()]
        });
        guests.run(habit, running).await.expect("it ends")
    }

    #[tokio::test]
    async fn an_entry_that_does_not_end_at_once_goes_on_elsewhere_and_the_next_ones_begin_there() {
        let guests = Guests::start(1).expect("threads");
        let habit = Habit::default();
        assert_eq!(places(&guests, Some(&habit)).await, [false, true]);
        for _ in 0..LONG_ENTRIES {
            assert_eq!(places(&guests, Some(&habit)).await, [true, true]);
        }
        assert_eq!(places(&guests, Some(&habit)).await, [false, true], "it is tried again");
        assert_eq!(places(&guests, None).await, [true, true]);
        assert_eq!(guests.slices.load(Ordering::Relaxed), 0, "all slices were given back");
    }

    #[tokio::test]
    async fn so_few_are_on_the_hosts_threads_that_one_is_left() {
        let guests = Guests::start(1).expect("threads");
        let habit = Habit::default();
        let held: Vec<_> = (0..guests.slices_max).map(|_| guests.slice(&habit).expect("free")).collect();
        assert!(guests.slice(&habit).is_none());
        drop(held);
        assert!(guests.slice(&habit).is_some());
    }

    #[tokio::test]
    async fn a_panic_is_caught_wherever_it_happens() {
        let guests = Guests::start(1).expect("threads");
        for habit in [Some(&Habit::default()), None] {
            let lost = guests.run(habit, Box::pin(async { panic!("seven is not {}", 8) })).await;
            let Err(Lost::Panicked(said)) = lost.map(|never: ()| never) else { panic!("it went unnoticed") };
            assert_eq!(said, "seven is not 8");
        }
    }
}
