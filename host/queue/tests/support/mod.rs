//! What the tests of this directory share.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::jetstream;
use caisson_core::ids::RunId;
use caisson_core::ports::{Clock, Horizon, Ready, TaskQueue};
use caisson_core::time::Timestamp;
use caisson_queue::jetstream::{JetStreamQueue, Options};
use caisson_test_servers::nats::NatsServer;

/// The clock on the wall.
pub struct Wall;

impl Wall {
    pub fn now_ms() -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        i64::try_from(since.as_millis()).expect("before the end of time")
    }
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp(Self::now_ms())
    }
}

pub fn options(server: &NatsServer) -> Options {
    Options::new(server.url(), "test")
}

pub async fn connect(options: Options) -> JetStreamQueue {
    JetStreamQueue::connect(options, Arc::new(Wall)).await.unwrap_or_else(|error| panic!("failed to {error}"))
}

/// JetStream without Caisson.
pub async fn raw(server: &NatsServer) -> jetstream::Context {
    jetstream::new(async_nats::connect(server.url()).await.expect("connects"))
}

pub fn step(number: u64) -> Ready {
    Ready { run: RunId::new("r"), step: number, attempt: 1, entry: 0, dispatch: 1, traceparent: None }
}

pub fn steps(numbers: Range<u64>) -> Vec<Ready> {
    numbers.map(step).collect()
}

pub async fn take(queue: &JetStreamQueue) -> Ready {
    let delivery = queue.next().await;
    let ready = delivery.ready.clone();
    delivery.done();
    ready
}

/// Waits, but not for ever.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(25), future).await.expect("in time")
}

/// Waits until the queue no longer takes whatever is ready for lost, as it does at the start.
pub async fn settled(queue: &JetStreamQueue) {
    loop {
        let Horizon::Since(since) = queue.horizon().await else { panic!("a time") };
        queue.take_overflow();
        if since.0 < Wall::now_ms() - 3_000 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Plays the relay over a store in which these steps were ready when it began, and takes steps until all of them came; their numbers.
pub async fn refill_until(queue: &JetStreamQueue, ready: Range<u64>) -> BTreeSet<u64> {
    let mut seen = BTreeSet::new();
    let mut left: BTreeSet<u64> = ready.collect();
    let mut dispatched = Timestamp(Wall::now_ms());
    let mut dispatch = 1;
    let mut wants = Box::pin(queue.wants_refill());
    while !left.is_empty() {
        let horizon = tokio::select! {
            ready = take(queue) => {
                left.remove(&ready.step);
                seen.insert(ready.step);
                continue;
            }
            () = &mut wants => {
                wants = Box::pin(queue.wants_refill());
                queue.horizon().await
            }
        };
        let Horizon::Since(since) = horizon else { panic!("a time") };
        queue.take_overflow();
        if since > dispatched {
            dispatch += 1;
            dispatched = Timestamp(Wall::now_ms());
            let again = left.iter().map(|number| Ready { dispatch, ..step(*number) }).collect();
            queue.publish(again, false);
        }
    }
    seen
}
