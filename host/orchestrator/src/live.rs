//! News for those who watch: hints that more is stored, and what guests write while they run.

use std::collections::HashMap;
use std::sync::Arc;

use caisson_core::ids::{Realm, RunId, StepId};
use caisson_core::ports::{CommittedElsewhere, EmittedEvent, LogLine, RunRow, Said, SessionRow};
use parking_lot::Mutex;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, broadcast, watch};

/// Watchers that fall behind by so many lose the oldest and read the store instead: 4,096 is about a second of news under full load.
const BACKLOG_MAX: usize = 4096;

/// A piece of news.
#[derive(Clone, Debug)]
pub enum News {
    /// A run has new events, up to this number. Read them from the store.
    Committed {
        /// Whose.
        realm: Realm,
        /// The run.
        run: RunId,
        /// Its last event now.
        last_seq: u64,
        /// Whether it has ended.
        ended: bool,
    },
    /// A guest wrote a line or progress. Has no number and is not repeated.
    Line {
        /// The run.
        run: RunId,
        /// The step.
        step: StepId,
        /// The line.
        line: LogLine,
    },
    /// A plugin emitted a business event, and it is stored. A hint: after a crash the same event may be told again.
    Emitted(Box<EmittedEvent>),
    /// A session of an agent began or went on, and it is stored. A hint, as above.
    Session(Box<SessionRow>),
}

/// Where news is published. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Live(Arc<Channels>);

#[derive(Debug)]
struct Channels {
    all: broadcast::Sender<News>,
    /// One bell a watched run: a thousand clients that wait for a thousand runs must not all wake for each.
    runs: Mutex<HashMap<RunId, Arc<Bell>>>,
}

#[derive(Debug, Default)]
struct Bell {
    /// Something was committed.
    changed: Arc<Notify>,
    /// Another host ended it.
    ended_elsewhere: Notify,
    /// The run as it ended.
    ended: watch::Sender<Option<Arc<RunRow>>>,
}

/// Watches one run until dropped.
#[derive(Debug)]
pub struct Watch {
    live: Live,
    run: RunId,
    bell: Arc<Bell>,
}

impl Default for Live {
    fn default() -> Self {
        Self(Arc::new(Channels { all: broadcast::channel(BACKLOG_MAX).0, runs: Mutex::default() }))
    }
}

impl Live {
    /// Everything from now on. A receiver that lags gets `RecvError::Lagged` and should read the store.
    pub fn subscribe(&self) -> broadcast::Receiver<News> {
        self.0.all.subscribe()
    }

    /// News of one run.
    pub fn watch(&self, run: &RunId) -> Watch {
        let bell = self.0.runs.lock().entry(run.clone()).or_default().clone();
        Watch { live: self.clone(), run: run.clone(), bell }
    }

    /// Whether anybody here watches that run.
    pub fn is_watched(&self, run: &RunId) -> bool {
        self.0.runs.lock().contains_key(run)
    }

    /// A run was moved, and this is how it stands now.
    pub(crate) fn committed(&self, row: &RunRow) {
        let ended = row.status.is_terminal();
        if let Some(bell) = self.0.runs.lock().get(&row.id) {
            bell.changed.notify_waiters();
            if ended {
                bell.ended.send_replace(Some(Arc::new(row.clone())));
            }
        }
        let (realm, run) = (row.realm.clone(), row.id.clone());
        self.publish(News::Committed { realm, run, last_seq: row.last_seq, ended });
    }

    /// Another host moved a run. Whoever waits for it looks at the store.
    pub fn committed_elsewhere(&self, news: &CommittedElsewhere) {
        if let Some(bell) = self.0.runs.lock().get(&news.run) {
            bell.changed.notify_waiters();
            if news.ended() {
                bell.ended_elsewhere.notify_waiters();
            }
        }
        let (realm, run) = (news.realm.clone(), news.run.clone());
        self.publish(News::Committed { realm, run, last_seq: news.last_seq, ended: news.ended() });
    }

    /// A guest of a run wrote or emitted something, here or at another host.
    pub fn said(&self, run: &RunId, said: Said) {
        self.publish(match said {
            Said::Line { step, line } => News::Line { run: run.clone(), step, line },
            Said::Emitted(event) => News::Emitted(event),
        });
    }

    /// A session of an agent began or went on.
    pub fn session(&self, session: &SessionRow) {
        self.publish(News::Session(Box::new(session.clone())));
    }

    fn publish(&self, news: News) {
        if self.0.all.receiver_count() > 0 {
            // A receiver may have gone in between: nobody watching is no error.
            let _ = self.0.all.send(news);
        }
    }
}

impl Watch {
    /// Resolves when something was committed after this call. Call it, then look, then wait.
    pub fn changed(&self) -> OwnedNotified {
        // A `Notified` hears every `notify_waiters` since it was made, also before it is first polled.
        self.bell.changed.clone().notified_owned()
    }

    /// Resolves when another host has ended the run, if news of it comes.
    pub(crate) async fn ended_elsewhere(&self) {
        self.bell.ended_elsewhere.notified().await;
    }

    /// The run as it ended; waits until it has. Only an end after this watch was made is seen.
    pub async fn ended(&self) -> Arc<RunRow> {
        let mut ended = self.bell.ended.subscribe();
        loop {
            if let Some(row) = ended.borrow_and_update().clone() {
                return row;
            }
            if ended.changed().await.is_err() {
                // The sender lives in the bell that this watch holds.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut runs = self.live.0.runs.lock();
        // Two: this one and the map's.
        if Arc::strong_count(&self.bell) <= 2 {
            runs.remove(&self.run);
        }
    }
}
