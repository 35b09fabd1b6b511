//! Who hears of events after they are stored: listeners outside, and the other hosts.
//!
//! Deliberately absent: a promise. Whoever must not miss an event reads the history, where events have numbers without gaps.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{EmittedEvent, EventRow, LogLine, RunRow, SessionRow, StepRow};
use crate::ids::{Realm, RunId, StepId};
use crate::status::RunStatus;

/// Is told what was stored.
pub trait EventSink: Send + Sync {
    /// A commit is durable: the run as it is now, the events that came with it, in order, and the steps that it moved as they are now. Never
    /// waits; what does not fit is dropped and counted.
    fn committed(&self, run: &RunRow, events: &[EventRow], steps: &[StepRow]);

    /// A session of an agent began or went on, and that is durable. Never waits, as above.
    fn session(&self, _session: &SessionRow) {}

    /// A guest of the run wrote or emitted something. Never waits, as above.
    fn said(&self, _run: &RunId, _said: &Said) {}
}

/// What those who watch a run see at once, and no event of the run tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Said {
    /// A line, or progress. It may not be stored yet.
    Line {
        /// The step.
        step: StepId,
        /// The line.
        line: LogLine,
    },
    /// A business event, which is stored.
    Emitted(Box<EmittedEvent>),
}

/// News that a session of an agent went on at another host: its row in the store says how. May be lost and may come late.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionElsewhere {
    /// The run.
    pub run: RunId,
    /// The session's id.
    pub session: Arc<str>,
}

/// News that another host moved a run. May be lost and may come late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedElsewhere {
    /// Whose run.
    pub realm: Realm,
    /// The run.
    pub run: RunId,
    /// The number of its last event.
    pub last_seq: u64,
    /// Where it stands.
    pub status: RunStatus,
}

impl CommittedElsewhere {
    /// Whether the run has ended.
    pub fn ended(&self) -> bool {
        self.status.is_terminal()
    }
}
