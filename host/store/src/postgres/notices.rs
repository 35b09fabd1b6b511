//! Hints from other hosts, by LISTEN.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// The channel that every host listens to.
const CHANNEL: &str = "caisson";

/// Pause before connecting again: hints may be lost meanwhile, and who needs them looks by itself now and then.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// Listens until stopped or dropped.
pub(crate) struct Notices {
    bell: Arc<Notify>,
    task: AbortHandle,
}

impl Notices {
    pub(crate) fn listen(options: PgConnectOptions) -> Self {
        let bell = Arc::new(Notify::new());
        let ring = Arc::clone(&bell);
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = listen(&options, &ring).await {
                    tracing::debug!(%error, "not listening to other hosts");
                }
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        });
        Self { bell, task: task.abort_handle() }
    }

    pub(crate) async fn notified(&self) {
        self.bell.notified().await;
    }

    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn listen(options: &PgConnectOptions, bell: &Notify) -> Result<(), sqlx::Error> {
    // A connection of its own: it never goes back.
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    // What came while nobody listened.
    bell.notify_one();
    loop {
        listener.recv().await?;
        bell.notify_one();
    }
}
