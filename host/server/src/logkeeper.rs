//! What guests write: shown at once to those who watch, stored a little later.
//!
//! Invariant: a guest that writes is never held up. When the store cannot keep up, lines are dropped and the loss is said once.
//!
//! What an action writes that is only tried is shown and not stored: there is no run that it belongs to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use caisson_core::ids::{RunId, StepId};
use caisson_core::ports::{HostLogLine, LogLine, LogSink, Said, Store};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::announce::Teller;
use crate::api::plugin_invoke::TRIAL;

/// Lines that wait for the store at most: a second of a hundred chatty guests, some megabytes.
const WAITING_MAX: usize = 16_384;

/// Lines stored at once.
const BATCH_MAX: usize = 512;

/// Lines are gathered for so long before they are stored: a commit is an fsync.
const GATHER: Duration = Duration::from_millis(100);

/// Takes lines for watchers and for the store.
pub struct LogKeeper {
    teller: Teller,
    /// `None` once closed.
    lines: Mutex<Option<mpsc::Sender<HostLogLine>>>,
    dropped: Arc<AtomicU64>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl LogKeeper {
    /// Begins to store lines. Needs a tokio runtime; ends with [`LogKeeper::close`].
    pub fn start(teller: Teller, store: Arc<dyn Store>) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = tokio::spawn(write(store, receiver, dropped.clone()));
        Arc::new(Self { teller, lines: Mutex::new(Some(sender)), dropped, writer: Mutex::new(Some(writer)) })
    }

    /// Stores what waits and ends.
    pub async fn close(&self) {
        self.lines.lock().take();
        let writer = self.writer.lock().take();
        if let Some(writer) = writer
            && let Err(error) = writer.await
        {
            tracing::error!(%error, "the writer of log lines is gone");
        }
    }
}

impl LogSink for LogKeeper {
    fn write(&self, run: &RunId, step: &StepId, line: LogLine) {
        if !run.as_str().starts_with(TRIAL) {
            let stored = HostLogLine { run: run.clone(), step: step.clone(), line: line.clone() };
            if let Some(lines) = &*self.lines.lock()
                && lines.try_send(stored).is_err()
            {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.teller.said(run, Said::Line { step: step.clone(), line });
    }
}

async fn write(store: Arc<dyn Store>, mut receiver: mpsc::Receiver<HostLogLine>, dropped: Arc<AtomicU64>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while let Some(first) = receiver.recv().await {
        batch.push(first);
        let gathered = tokio::time::timeout(GATHER, async {
            while batch.len() < BATCH_MAX {
                let Some(line) = receiver.recv().await else { return };
                batch.push(line);
            }
        });
        // Either the batch is full, the time is up or the channel is closed: in each case it is stored now.
        let _ = gathered.await;
        if let Err(error) = store.append_logs(&batch).await {
            tracing::warn!(%error, lines = batch.len(), "log lines of guests could not be stored");
        }
        batch.clear();
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "guests wrote faster than their log lines could be stored");
        }
    }
}
