//! Fires durable timers when they are due.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use caisson_core::engine::{Stimulus, TimerKey};
use caisson_core::time::Timestamp;
use futures_util::future::join_all;
use tokio::sync::Notify;

use crate::service::Service;

/// Timers fired at once.
const PAGE: u32 = 256;
/// The longest sleep: a clock that was set forward is noticed after it.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// Pause after the store failed, or when nothing that was due moved.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// What one host has taken to fire, others leave alone for so long: many times what firing takes.
const HOLD_MS: u64 = 5_000;
/// Pause while another host fires what is due.
const HELD_PAUSE: Duration = Duration::from_millis(500);

/// When the scheduler should look next.
#[derive(Debug)]
pub(crate) struct Alarm {
    next: AtomicI64,
    bell: Notify,
}

impl Default for Alarm {
    fn default() -> Self {
        Self { next: AtomicI64::new(i64::MAX), bell: Notify::new() }
    }
}

impl Alarm {
    /// Another host may have set one.
    pub(crate) fn ring(&self) {
        self.bell.notify_one();
    }

    /// A timer was set: wakes the scheduler if it sleeps past it.
    pub(crate) fn set(&self, due: Timestamp) {
        if self.next.fetch_min(due.0, Ordering::AcqRel) > due.0 {
            self.bell.notify_one();
        }
    }
}

pub(crate) async fn run(service: Service) {
    let inner = &service.0;
    let work = async {
        loop {
            inner.timers.next.store(i64::MAX, Ordering::Release);
            match fire_due(&service).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(()) => {
                    tokio::time::sleep(STORE_PAUSE).await;
                    continue;
                }
            }
            match inner.ports.store.next_timer().await {
                Ok(Some(due)) => inner.timers.next.fetch_min(due.0, Ordering::AcqRel),
                Ok(None) => 0,
                Err(_) => {
                    tokio::time::sleep(STORE_PAUSE).await;
                    continue;
                }
            };
            let next = Timestamp(inner.timers.next.load(Ordering::Acquire));
            let sleep = Duration::from_millis(next.since_ms(inner.ports.clock.now())).min(SLEEP_MAX);
            // What is due and was not given is held by another host.
            let sleep = if inner.ports.cluster.is_some() && sleep.is_zero() { HELD_PAUSE } else { sleep };
            tokio::select! {
                biased;
                () = tokio::time::sleep(sleep) => {}
                () = inner.timers.bell.notified() => {}
            }
        }
    };
    tokio::select! {
        biased;
        () = work => {}
        () = inner.stopping.cancelled() => {}
    }
}

/// Whether something was fired.
async fn fire_due(service: &Service) -> Result<bool, ()> {
    let inner = &service.0;
    let now = inner.ports.clock.now();
    let due = match &inner.ports.cluster {
        Some(cluster) => cluster.take_timers(now, PAGE, HOLD_MS).await,
        None => inner.ports.store.due_timers(now, PAGE).await,
    };
    let due = due.map_err(|error| {
        tracing::warn!(error = %error, "timers cannot be read");
    })?;
    if due.is_empty() {
        return Ok(false);
    }
    let fired = due.iter().filter_map(|timer| TimerKey::parse(&timer.key).map(|key| (timer, key)));
    let results = join_all(fired.map(|(timer, key)| async move {
        let fired = service.submit(&timer.run, Stimulus::Timer { key }).await;
        if let Err(error) = &fired {
            tracing::debug!(run_id = %timer.run, timer = %timer.key, error = %error, "timer is stale");
        }
        fired.is_ok()
    }))
    .await;
    // If nothing moved, the same rows would come at once again.
    if results.contains(&true) { Ok(true) } else { Err(()) }
}
