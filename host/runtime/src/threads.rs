//! The threads that guests run on, and the clock that interrupts them.
//!
//! Invariant: guests never run on the host's own threads, so a hundred stuck ones cost the API nothing but their share
//! of the CPU, and that at lower priority.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::Engine;

use crate::sys::lower_thread_priority;

/// A guest is interrupted, and its budget looked at, every so often. Shorter costs every guest; longer delays
/// cancellation.
const EPOCH: Duration = Duration::from_millis(1);
/// Five steps below the host: it always gets the CPU first, and guests still get all that is left.
const GUEST_NICE: i32 = 5;
/// What a compiler in this process needs; guests need less, their own stack is a fiber's.
const THREAD_STACK_BYTES: usize = 2 << 20;

/// The guests' own runtime. Dropping it ends every guest.
pub(crate) struct Guests(Option<tokio::runtime::Runtime>);

impl Guests {
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("caisson-guest")
            .thread_stack_size(THREAD_STACK_BYTES)
            .on_thread_start(|| lower_thread_priority(GUEST_NICE))
            .enable_all()
            .build()
            .map(|runtime| Self(Some(runtime)))
    }

    /// Runs a future on the guests' threads. Dropping what this gives ends it at its next yield.
    pub(crate) fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Running<T> {
        let runtime = self.0.as_ref().expect("the guests' runtime lives until it is dropped");
        Running(runtime.spawn(future))
    }
}

impl Guests {
    /// For work that goes on though nobody waits for it any more; it ends with the guests.
    pub(crate) fn spawner(&self) -> Spawner {
        Spawner(self.0.as_ref().expect("the guests' runtime lives until it is dropped").handle().clone())
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
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A future on the guests' threads that ends when this is dropped.
pub(crate) struct Running<T>(tokio::task::JoinHandle<T>);

impl<T> Future for Running<T> {
    type Output = Result<T, tokio::task::JoinError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(context)
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
    stopped: AtomicBool,
}

/// Keeps the ticker ticking.
pub(crate) struct Ticking {
    shared: Weak<Shared>,
}

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let engine = engine.weak();
        let seen = Arc::clone(&shared);
        let thread = thread::Builder::new().name("caisson-epoch".to_owned()).stack_size(64 << 10).spawn(move || {
            while !seen.stopped.load(Ordering::Acquire) {
                if seen.running.load(Ordering::Acquire) == 0 {
                    // Woken by the first guest; waking for nothing is harmless.
                    thread::park();
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
        if self.shared.running.fetch_add(1, Ordering::AcqRel) == 0
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Ticking { shared: Arc::downgrade(&self.shared) }
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.running.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A thread that only counts cannot panic; there is nothing to report.
            drop(thread.join());
        }
    }
}
