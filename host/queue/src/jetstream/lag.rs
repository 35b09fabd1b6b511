//! How far the hosts are behind: what the shared consumer still has to deliver, and what was delivered and is not
//! settled.
//!
//! Asked of the server from time to time, for those who watch: nothing here is on the way of a step.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Shared;

/// Between two questions: Prometheus asks every 15 s or so.
const PERIOD: Duration = Duration::from_secs(5);

/// What is older says nothing any more: two answers in a row are missing.
const AGE_MAX: Duration = Duration::from_secs(12);

/// How far all hosts together are behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Messages that no host has fetched.
    pub pending: u64,
    /// Messages that a host has fetched and not acknowledged.
    pub unsettled: u64,
}

/// The last answer.
#[derive(Debug, Default)]
pub(super) struct LastLag(Mutex<Option<(Lag, Instant)>>);

impl LastLag {
    /// As of a recent answer; `None` without one.
    pub(super) fn get(&self) -> Option<Lag> {
        self.0.lock().filter(|(_, at)| at.elapsed() < AGE_MAX).map(|(lag, _)| lag)
    }

    pub(super) fn forget(&self) {
        *self.0.lock() = None;
    }
}

/// The task that asks.
pub(super) async fn run(shared: Arc<Shared>, consumer: PullConsumer) {
    loop {
        shared.link.wait_up().await;
        match consumer.get_info().await {
            Ok(info) => {
                let lag = Lag { pending: info.num_pending, unsettled: info.num_ack_pending as u64 };
                *shared.lag.0.lock() = Some((lag, Instant::now()));
            }
            Err(error) => {
                tracing::debug!(%error, "the consumer does not tell how far it is");
                shared.lag.forget();
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}
