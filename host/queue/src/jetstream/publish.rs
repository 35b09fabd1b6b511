//! From the window to the stream: publications follow each other without waiting for the server's word.

use std::pin::Pin;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::publish::PublishAck;
use caisson_core::ports::Ready;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};

use super::{Shared, wire};

/// The server's word that it has stored a message, some time.
pub(super) type Ack = Pin<Box<dyn Future<Output = Result<PublishAck, PublishError>> + Send>>;

/// The task that publishes. It ends when it is told to stop, or nobody is left who publishes, once all it took is stored or lost.
pub(super) async fn run(publisher: Publisher, mut steps: mpsc::Receiver<Ready>, mut stopped: watch::Receiver<bool>) {
    let mut acks: FuturesUnordered<Ack> = FuturesUnordered::new();
    let mut link = publisher.shared.link.watch();
    let mut open = true;
    while open || !acks.is_empty() {
        let stop = async {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        tokio::select! {
            Some(ack) = acks.next(), if !acks.is_empty() => publisher.settle(ack),
            step = steps.recv(), if open && acks.len() < publisher.shared.options.in_flight => match step {
                Some(step) => publisher.send(&step, &mut acks).await,
                None => open = false,
            },
            changed = link.changed() => {
                if changed.is_err() {
                    return;
                }
                if !link.borrow_and_update().up {
                    // Some may have been stored: they come twice, and are claimed once.
                    publisher.lose(acks.len());
                    acks.clear();
                }
            }
            () = stop, if !steps.is_closed() => steps.close(),
        }
    }
}

/// Owns what is on its way.
pub(super) struct Publisher {
    pub shared: std::sync::Arc<Shared>,
}

impl Publisher {
    async fn send(&self, step: &Ready, acks: &mut FuturesUnordered<Ack>) {
        // A message in the client's buffer would be sent whenever the server is back, long after it was published again.
        if !self.shared.link.is_up() {
            return self.lose(1);
        }
        match self.shared.link.context.send_publish(wire::step_subject(step), wire::encode(step)).await {
            Ok(ack) => acks.push(ack.into_future()),
            Err(error) => {
                tracing::warn!(run_id = %step.run, step = step.step, %error, "step is not published yet");
                self.lose(1);
            }
        }
    }

    fn settle(&self, ack: Result<PublishAck, PublishError>) {
        let window = &self.shared.window;
        match ack {
            Ok(ack) if ack.duplicate => window.known(),
            Ok(_) => window.acknowledged(),
            Err(error) => {
                if error.kind() == PublishErrorKind::StreamNotFound {
                    self.shared.trouble.notify_one();
                }
                // A full stream is no fault: other hosts have filled the window.
                tracing::debug!(%error, "step is not published yet");
                self.lose(1);
            }
        }
    }

    fn lose(&self, count: usize) {
        if count > 0 {
            self.shared.window.lost(count, self.shared.clock.now());
        }
    }
}
