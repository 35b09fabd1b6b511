//! A queue that all hosts share: at least once, duplicates known by message id, and everything may be gone at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use caisson_core::ports::{Clock, Delivery, Horizon, Ready, Receipt, TaskQueue};
use caisson_core::time::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::faults::{Host, Plant, VirtualClock};

/// What is not settled comes again after so long.
const AGAIN: Duration = Duration::from_secs(5);
/// What is ready for longer is taken for lost.
const OLD_MS: i64 = 15_000;

#[derive(Default)]
struct Held {
    next: u64,
    steps: Vec<(u64, Instant, Ready)>,
    seen: BTreeSet<String>,
    wiped: Timestamp,
}

/// The server.
#[derive(Default)]
pub struct Stream {
    held: Mutex<Held>,
    arrived: Notify,
}

impl Stream {
    /// Everything is gone, also what it knew of duplicates.
    pub fn wipe(&self, now: Timestamp) {
        let mut held = self.held.lock();
        held.steps.clear();
        held.seen.clear();
        held.wiped = now;
    }

    fn take(&self) -> Result<(u64, Ready), Option<Instant>> {
        let mut held = self.held.lock();
        let now = Instant::now();
        match held.steps.iter_mut().find(|(_, visible, _)| *visible <= now) {
            Some((number, visible, ready)) => {
                *visible = now + AGAIN;
                Ok((*number, ready.clone()))
            }
            None => Err(held.steps.iter().map(|(_, visible, _)| *visible).min()),
        }
    }
}

/// The stream as one host sees it.
pub struct Consumer {
    pub host: Arc<Host>,
    pub stream: Arc<Stream>,
}

struct Settle(Arc<Host>, Arc<Stream>, u64);

impl Receipt for Settle {
    fn done(self: Box<Self>) {
        // Now and then the word is lost.
        if !self.0.is_dead() && !self.0.chance(50) {
            self.1.held.lock().steps.retain(|(number, ..)| *number != self.2);
        }
    }
    fn again(self: Box<Self>, after: Duration) {
        if self.0.is_dead() {
            return;
        }
        if let Some(step) = self.1.held.lock().steps.iter_mut().find(|(number, ..)| *number == self.2) {
            step.1 = Instant::now() + after;
        }
    }
}

#[async_trait]
impl TaskQueue for Consumer {
    fn publish(&self, ready: Vec<Ready>, _: bool) {
        for one in ready {
            if self.host.is_dead() || self.host.chance(30) {
                continue;
            }
            let id = if self.host.plant() == Some(Plant::NoDispatch) {
                format!("{}:{}", one.run, one.step)
            } else {
                one.message_id()
            };
            let mut held = self.stream.held.lock();
            if held.seen.insert(id) {
                held.next += 1;
                let number = held.next;
                held.steps.push((number, Instant::now(), one));
            }
        }
        self.stream.arrived.notify_waiters();
    }
    async fn next(&self) -> Delivery {
        let taken = async {
            loop {
                let arrived = self.stream.arrived.notified();
                match self.stream.take() {
                    Ok(taken) => return taken,
                    Err(None) => arrived.await,
                    Err(Some(visible)) => tokio::select! {
                        biased;
                        () = arrived => {}
                        () = tokio::time::sleep_until(visible) => {}
                    },
                }
            }
        };
        let (number, ready) = self.host.pass("next", taken).await;
        let settle = Settle(self.host.clone(), self.stream.clone(), number);
        Delivery { ready, receipt: Some(Box::new(settle)) }
    }
    fn take_overflow(&self) -> bool {
        false
    }
    async fn wants_refill(&self) {
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.host.alive().await;
    }
    fn room(&self) -> usize {
        64
    }
    async fn horizon(&self) -> Horizon {
        let now = VirtualClock(self.host.fate.begin).now();
        let since = self.stream.held.lock().wiped.max(Timestamp(now.0 - OLD_MS));
        self.host.pass("horizon", async { Horizon::Since(since) }).await
    }
}
