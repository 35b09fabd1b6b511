//! How many runs of a workflow may run at once: decided by the store, inside the transaction that makes or admits a run.
//!
//! A store keeps, for each run with a [`Slot`](crate::engine::Slot) that has not ended, whether it has begun or waits. The rule is here,
//! so that every store has the same one.

use std::sync::Arc;

use super::{CommitError, RunRow};
use crate::ids::Realm;

/// What a commit asks for its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The run counts together with those of its workflow under this key.
    pub key: Arc<str>,
    /// So many may run.
    pub limit: u32,
    /// What the run wants.
    pub place: Place,
}

/// What a run wants of those it counts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A new run begins.
    Begin {
        /// Also while others wait.
        overtakes: bool,
    },
    /// A new run waits.
    Wait {
        /// So many may wait.
        queued_max: u32,
    },
    /// A run that waited begins.
    Admit,
}

/// Runs that count together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotKey {
    /// Whose.
    pub realm: Realm,
    /// The workflow's id.
    pub workflow: Arc<str>,
    /// See [`Admission::key`].
    pub key: Arc<str>,
}

impl SlotKey {
    /// Those that a run counts with under that key.
    pub fn of(run: &RunRow, key: &Arc<str>) -> Self {
        Self { realm: run.realm.clone(), workflow: run.workflow_id.clone(), key: key.clone() }
    }
}

/// How many of a key run, and how many wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// So many have begun and not ended.
    pub begun: u64,
    /// So many wait.
    pub waiting: u64,
}

impl Held {
    /// Takes a run in, or says why not.
    pub fn take(&mut self, admission: &Admission) -> Result<(), CommitError> {
        let full = self.begun >= admission.limit.into();
        match admission.place {
            Place::Begin { overtakes } if full || (self.waiting > 0 && !overtakes) => Err(CommitError::NoRoom),
            Place::Admit if full => Err(CommitError::NoRoom),
            Place::Wait { queued_max } if self.waiting >= queued_max.into() => Err(CommitError::QueueFull),
            Place::Begin { .. } => {
                self.begun += 1;
                Ok(())
            }
            Place::Admit => {
                self.begun += 1;
                self.waiting = self.waiting.saturating_sub(1);
                Ok(())
            }
            Place::Wait { .. } => {
                self.waiting += 1;
                Ok(())
            }
        }
    }
}
