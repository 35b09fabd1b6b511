//! The queue of hosts that share work: NATS JetStream.
//!
//! ```text
//! publish ─► window ─► publisher ─► WORKFLOW_TASKS ─► one consumer for all hosts ─► fetcher ─► next
//!               │ lost, or did not fit                                                │
//!               ▼                                                                     ▼
//!      wants_refill, horizon ─► the relay publishes READY rows again        receipt: ack or nak
//! ```
//!
//! Invariants:
//! - Losing everything here loses nothing: whatever was not stored by JetStream sets the overflow, and what was stored and lost is found
//!   by the sweep, because its READY row is older than the oldest message.
//! - Only what somebody waits for is fetched: a message that this host cannot run is never kept from a host that can.
//! - What exists on the server is never changed. Settings that differ are an error at the start that names each of them.
//! - Nothing here waits for the server but `next`, `horizon` and `wants_refill`, and those go on by themselves when it is back.
//!
//! A message of `wf.task.run.<run>` or `wf.task.resume.<run>` says that rows in the store changed: it is acknowledged and brings the next
//! sweep forward.
//!
//! Deliberately absent: exactly-once (the engine refuses to claim a step twice), priorities (the store orders), progress of long work (the
//! message is acknowledged once the claim is durable; from then on the claim's lease counts).

mod error;
mod events;
mod fetch;
mod lag;
mod link;
mod publish;
mod settings;
mod window;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::Stream;
use async_trait::async_trait;
use caisson_core::ports::{Clock, Delivery, Horizon, Ready, TaskQueue};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

pub use error::{Difference, Error};
pub use events::EventPublisher;
pub use lag::Lag;
pub use link::{Options, Tls};

use fetch::Fetcher;
use lag::LastLag;
use link::Link;
use publish::Publisher;
use window::Window;

/// Between two looks for steps that were published and lost. Each costs one question to the server and one to the store.
const SWEEP: Duration = Duration::from_secs(5);
/// Between two looks at how full the stream is, while steps wait outside it and no delivery tells.
const POLL: Duration = Duration::from_millis(250);
/// After a question that the server did not answer.
const RETRY: Duration = Duration::from_millis(250);
/// After settings that differ were found while running: only a person can help.
const RETRY_SETTINGS: Duration = Duration::from_secs(10);
/// How long [`JetStreamQueue::close`] waits for acknowledgements.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// The queue of hosts that share work.
pub struct JetStreamQueue {
    shared: Arc<Shared>,
    sender: mpsc::Sender<Ready>,
    fetcher: Arc<Fetcher>,
    stop: watch::Sender<bool>,
    /// The publisher alone is waited for: what the others do needs no end.
    publisher: parking_lot::Mutex<Option<JoinHandle<()>>>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    link: Link,
    clock: Arc<dyn Clock>,
    window: Window,
    tasks: Stream<()>,
    lag: LastLag,
    /// Something is missing on the server.
    trouble: Notify,
    options: Options,
}

impl JetStreamQueue {
    /// Connects, and makes or checks the streams and the consumer. `clock` is the one that the READY rows are dated by.
    pub async fn connect(options: Options, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let link = Link::connect(&options).await?;
        let found = settings::ensure(&link.context, &options).await?;
        let window = Window::new(options.window);
        window.heard(found.messages);
        if found.messages == 0 {
            // Whatever is ready is not in the stream, and there is no need to wait until that is certain.
            window.dropped(clock.now());
            window.take_overflow();
        }
        let (stop, stopped) = watch::channel(false);
        let (sender, receiver) = mpsc::channel(options.window);
        let (tasks, lag, trouble) = (found.tasks, LastLag::default(), Notify::new());
        let shared = Arc::new(Shared { link, clock, window, tasks, lag, trouble, options });
        let fetcher = Arc::new(Fetcher::default());
        let publisher = publish::run(Publisher { shared: Arc::clone(&shared) }, receiver, stopped);
        let tasks = vec![
            tokio::spawn(fetch::run(Arc::clone(&fetcher), Arc::clone(&shared), found.consumer.clone())),
            tokio::spawn(lag::run(Arc::clone(&shared), found.consumer)),
            tokio::spawn(keep(Arc::clone(&shared))),
        ];
        let publisher = parking_lot::Mutex::new(Some(tokio::spawn(publisher)));
        Ok(Self { shared, sender, fetcher, stop, publisher, tasks })
    }

    /// Fetches and publishes no more, and waits a while for what is on its way. What is left is found by its READY row. Whoever waits for a
    /// step waits for ever.
    pub async fn close(&self) {
        for task in &self.tasks {
            task.abort();
        }
        self.stop.send_replace(true);
        let publisher = self.publisher.lock().take();
        if let Some(mut publisher) = publisher
            && tokio::time::timeout(CLOSE_MAX, &mut publisher).await.is_err()
        {
            publisher.abort();
        }
        // Acknowledgements of deliveries may still be in the client.
        let _ = tokio::time::timeout(CLOSE_MAX, self.shared.link.client.flush()).await;
    }

    /// Whether the server can be reached now.
    pub fn is_connected(&self) -> bool {
        self.shared.link.is_up()
    }

    /// How far the hosts are behind, as of the last seconds; `None` while the server does not tell.
    pub fn lag(&self) -> Option<Lag> {
        self.is_connected().then(|| self.shared.lag.get()).flatten()
    }

    /// Messages in the stream, as last heard.
    pub fn pending(&self) -> usize {
        self.shared.window.pending()
    }
}

impl Drop for JetStreamQueue {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        if let Some(publisher) = self.publisher.lock().take() {
            publisher.abort();
        }
    }
}

#[async_trait]
impl TaskQueue for JetStreamQueue {
    fn publish(&self, ready: Vec<Ready>, more: bool) {
        let window = &self.shared.window;
        let now = self.shared.clock.now();
        let wanted = ready.len();
        let room = window.reserve(wanted);
        for (index, step) in ready.into_iter().take(room).enumerate() {
            if self.sender.try_send(step).is_err() {
                window.lost(room - index, now);
                break;
            }
        }
        if room < wanted {
            window.dropped(now);
        } else if more {
            window.left_some(now);
        }
    }

    async fn next(&self) -> Delivery {
        self.fetcher.next().await
    }

    fn take_overflow(&self) -> bool {
        self.shared.window.take_overflow()
    }

    async fn wants_refill(&self) {
        let sweep = tokio::time::sleep(SWEEP);
        tokio::pin!(sweep);
        loop {
            let due = self.shared.window.due();
            tokio::select! {
                () = due => return,
                () = &mut sweep => return,
                () = tokio::time::sleep(POLL), if self.shared.window.is_short() => {
                    let _ = self.shared.look().await;
                }
            }
        }
    }

    fn room(&self) -> usize {
        self.shared.window.room()
    }

    async fn horizon(&self) -> Horizon {
        loop {
            self.shared.link.wait_up().await;
            if let Some(oldest) = self.shared.look().await {
                return Horizon::Since(self.shared.window.horizon(oldest, self.shared.clock.now()));
            }
            self.shared.trouble.notify_one();
            tokio::time::sleep(RETRY).await;
        }
    }
}

impl Shared {
    /// Asks how full the stream is. The time of its oldest message, if it has any; `None` without an answer.
    async fn look(&self) -> Option<Option<caisson_core::time::Timestamp>> {
        let info = self.tasks.get_info().await.ok()?;
        let state = info.state;
        self.window.heard(usize::try_from(state.messages).unwrap_or(usize::MAX));
        Some((state.messages > 0).then(|| wire::time(state.first_timestamp.unix_timestamp_nanos())))
    }
}

/// Makes again what the server has lost, and has everything published again that may be lost with it.
async fn keep(shared: Arc<Shared>) {
    let mut link = shared.link.watch();
    loop {
        tokio::select! {
            () = shared.trouble.notified() => {}
            changed = link.changed() => if changed.is_err() { return },
        }
        if !link.borrow_and_update().up {
            continue;
        }
        // Others may have published what was lost, too: of whatever is ready and not in the stream, nobody knows better than the store.
        match settings::ensure(&shared.link.context, &shared.options).await {
            Ok(found) => {
                if found.made {
                    tracing::warn!("the server had lost the stream or its consumer; they are made again");
                }
                shared.window.heard(found.messages);
                shared.window.hurry(shared.clock.now());
            }
            Err(error @ Error::Settings { .. }) => {
                tracing::error!(%error, "JetStream was changed while hosts run, and is not used until it is mended");
                tokio::time::sleep(RETRY_SETTINGS).await;
                shared.trouble.notify_one();
            }
            Err(error) => {
                tracing::warn!(%error, "JetStream is not ready");
                tokio::time::sleep(RETRY).await;
                shared.trouble.notify_one();
            }
        }
    }
}
