//! From the stream to whoever waits: one pull for each waiter, and none without.
//!
//! Invariant: a message that nobody here waits for any more goes back at once, so that another host has it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::message::{AckKind, Acker};
use async_nats::{Message, Subscriber};
use caisson_core::ports::{Delivery, Receipt};
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::wire::{Told, decode};
use super::{RETRY, Shared};

/// How long a pull waits at the server. Short: the pull of a host that hangs takes one message with it.
const PULL: Duration = Duration::from_secs(5);
/// A pull that the server has not ended so long after its time was lost on the way.
const PULL_GRACE: Duration = Duration::from_secs(2);
/// A delivery that nobody settled goes to another host after that time.
const DROPPED_PAUSE: Duration = Duration::from_secs(1);
/// A step that was put off so often is given up here: its READY row is older than everything in the stream by then and is published again,
/// while a message that never goes would hide what was lost after it.
const AGAIN_MAX: i64 = 30;

/// Who waits for a step.
#[derive(Default)]
pub(super) struct Fetcher {
    waiters: Mutex<VecDeque<oneshot::Sender<Delivery>>>,
    /// Somebody new waits.
    arrived: Notify,
}

impl Fetcher {
    /// The next step. Whoever goes away before it comes leaves it to others.
    pub async fn next(&self) -> Delivery {
        loop {
            let (sender, receiver) = oneshot::channel();
            self.waiters.lock().push_back(sender);
            self.arrived.notify_one();
            if let Ok(delivery) = receiver.await {
                return delivery;
            }
        }
    }

    /// How many wait.
    fn waiting(&self) -> usize {
        let mut waiters = self.waiters.lock();
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.len()
    }

    fn hand_over(&self, mut delivery: Delivery) {
        loop {
            let Some(waiter) = self.waiters.lock().pop_front() else { break };
            match waiter.send(delivery) {
                Ok(()) => return,
                Err(back) => delivery = back,
            }
        }
        delivery.again(Duration::ZERO);
    }
}

/// Pulls that wait at the server, oldest first. It serves them in this order.
struct Pulls {
    inbox: String,
    last: u64,
    open: VecDeque<(u64, Instant)>,
    /// Not before that time: the server has just refused one.
    not_before: Option<Instant>,
}

/// The task that fetches.
pub(super) async fn run(fetcher: Arc<Fetcher>, shared: Arc<Shared>, consumer: PullConsumer) {
    let mut link = shared.link.watch();
    loop {
        let inbox = shared.link.client.new_inbox();
        let mut replies = match shared.link.client.subscribe(format!("{inbox}.*")).await {
            Ok(replies) => replies,
            Err(error) => {
                tracing::warn!(%error, "replies cannot be subscribed to");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let mut pulls = Pulls { inbox, last: 0, open: VecDeque::new(), not_before: None };
        while step(&fetcher, &shared, &consumer, &mut replies, &mut pulls, &mut link).await {}
    }
}

/// Waits for one thing to happen; whether the subscription lasts.
async fn step(
    fetcher: &Fetcher,
    shared: &Shared,
    consumer: &PullConsumer,
    replies: &mut Subscriber,
    pulls: &mut Pulls,
    link: &mut tokio::sync::watch::Receiver<super::link::LinkState>,
) -> bool {
    let wake = pulls.wake();
    tokio::select! {
        () = fetcher.arrived.notified() => {}
        message = replies.next() => match message {
            Some(message) => take(fetcher, shared, pulls, message),
            None => return false,
        },
        changed = link.changed() => {
            if changed.is_err() {
                return false;
            }
            // The server forgot the pulls of a connection that broke.
            pulls.open.clear();
        }
        () = tokio::time::sleep_until(wake) => pulls.expire(),
    }
    if shared.link.is_up() {
        pulls.open_for(fetcher.waiting(), consumer).await;
    }
    true
}

fn take(fetcher: &Fetcher, shared: &Shared, pulls: &mut Pulls, message: Message) {
    if let Some(status) = message.status.filter(|status| *status != async_nats::StatusCode::OK) {
        let described = message.description.as_deref().unwrap_or_default();
        let expired = status == async_nats::StatusCode::TIMEOUT || status == async_nats::StatusCode::NOT_FOUND;
        pulls.ended(&message.subject);
        if !expired && status != async_nats::StatusCode::IDLE_HEARTBEAT {
            tracing::debug!(%status, described, "pull is refused");
            pulls.not_before = Some(Instant::now() + RETRY);
            shared.trouble.notify_one();
        }
        return;
    }
    pulls.open.pop_front();
    let message = async_nats::jetstream::Message { context: shared.link.context.clone(), message };
    let (delivered, pending) = match message.info() {
        Ok(info) => (info.delivered, info.pending),
        // Not from the stream.
        Err(_) => return,
    };
    shared.window.heard(usize::try_from(pending).unwrap_or(usize::MAX));
    let (message, acker) = message.split();
    let receipt = Unsettled { acker: Some(acker), delivered };
    match decode(&message.subject, message.headers.as_ref(), &message.payload) {
        Told::Step(ready) => fetcher.hand_over(Delivery { ready, receipt: Some(Box::new(receipt)) }),
        Told::Hint => {
            Box::new(receipt).done();
            shared.window.hint();
        }
        Told::Unreadable => {
            tracing::warn!(subject = %message.subject, "message is no step and is removed");
            Box::new(receipt).done();
        }
    }
}

impl Pulls {
    async fn open_for(&mut self, waiting: usize, consumer: &PullConsumer) {
        if self.not_before.is_some_and(|time| Instant::now() < time) {
            return;
        }
        self.not_before = None;
        while self.open.len() < waiting {
            self.last += 1;
            let batch = BatchConfig { batch: 1, expires: Some(PULL), ..BatchConfig::default() };
            let reply = format!("{}.{}", self.inbox, self.last);
            if let Err(error) = consumer.request_batch(batch, reply.into()).await {
                tracing::debug!(%error, "pull is not sent");
                self.not_before = Some(Instant::now() + RETRY);
                return;
            }
            self.open.push_back((self.last, Instant::now() + PULL + PULL_GRACE));
        }
    }

    /// The server ended a pull without a message.
    fn ended(&mut self, reply: &str) {
        let number = reply.rsplit('.').next().and_then(|number| number.parse::<u64>().ok());
        self.open.retain(|(open, _)| Some(*open) != number);
    }

    fn expire(&mut self) {
        let now = Instant::now();
        self.open.retain(|(_, until)| *until > now);
    }

    /// When to look again.
    fn wake(&self) -> Instant {
        let oldest = self.open.front().map(|(_, until)| *until);
        let idle = Instant::now() + PULL;
        [oldest, self.not_before].into_iter().flatten().min().unwrap_or(idle)
    }
}

/// Settles with the server.
struct Unsettled {
    acker: Option<Acker>,
    delivered: i64,
}

impl Receipt for Unsettled {
    fn done(mut self: Box<Self>) {
        self.settle(AckKind::Ack);
    }

    fn again(mut self: Box<Self>, after: Duration) {
        let kind = if self.delivered >= AGAIN_MAX { AckKind::Ack } else { AckKind::Nak(Some(after)) };
        self.settle(kind);
    }
}

impl Unsettled {
    /// Hands the word to the client, which has room for thousands: without a connection it may have none, and then the message comes again
    /// and is found to be settled.
    fn settle(&mut self, kind: AckKind) {
        if let Some(acker) = self.acker.take() {
            let sent = tokio::task::unconstrained(acker.ack_with(kind)).now_or_never();
            if !matches!(sent, Some(Ok(()))) {
                tracing::debug!("delivery is not settled, and comes again");
            }
        }
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.settle(AckKind::Nak(Some(DROPPED_PAUSE)));
    }
}
