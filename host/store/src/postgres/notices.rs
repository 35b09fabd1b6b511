//! Hints from other hosts, by LISTEN.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// The channels that every host listens to: work that was left, and what is installed and registered.
const WORK: &str = "caisson";
const CATALOG: &str = "caisson_catalog";

/// After so long a silence the server is asked whether it is there, and it has so long to answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Pause before connecting again: hints may be lost meanwhile, and who needs them looks by itself now and then.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// Listens until stopped or dropped.
pub(crate) struct Notices {
    bells: Arc<Bells>,
    task: AbortHandle,
}

/// One for each channel.
#[derive(Default)]
struct Bells {
    work: Notify,
    catalog: Notify,
}

impl Notices {
    pub(crate) fn listen(options: PgConnectOptions) -> Self {
        let bells = Arc::<Bells>::default();
        let ring = Arc::clone(&bells);
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = listen(&options, &ring).await {
                    tracing::debug!(%error, "not listening to other hosts");
                }
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        });
        Self { bells, task: task.abort_handle() }
    }

    /// Somebody left work.
    pub(crate) async fn work(&self) {
        self.bells.work.notified().await;
    }

    /// Somebody changed what is installed or registered.
    pub(crate) async fn catalog(&self) {
        self.bells.catalog.notified().await;
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

async fn listen(options: &PgConnectOptions, bells: &Bells) -> Result<(), sqlx::Error> {
    // A connection of its own: it never goes back.
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen_all([WORK, CATALOG]).await?;
    // What came while nobody listened.
    bells.work.notify_one();
    bells.catalog.notify_one();
    loop {
        // A connection that something between here and there has forgotten says nothing for ever.
        let Ok(heard) = tokio::time::timeout(SILENCE_MAX, listener.recv()).await else {
            let asked = sqlx::query("SELECT 1").execute(&mut listener);
            tokio::time::timeout(ANSWER_MAX, asked).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
            continue;
        };
        let bell = if heard?.channel() == CATALOG { &bells.catalog } else { &bells.work };
        bell.notify_one();
    }
}
