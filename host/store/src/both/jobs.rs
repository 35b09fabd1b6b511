//! What waits to be written together.

use std::sync::atomic::{AtomicU64, Ordering};

use caisson_core::ports::{Commit, CommitError, JournalError};
use tokio::sync::oneshot;

use super::append::Append;
use crate::Counters;

/// Commits, records and effects in one transaction. Measured: the cost of a batch is spread thin from 50 on; 256 commits keep its latency
/// under 10 ms, and a record with an effect costs about two.
const BATCH_JOBS_MAX: usize = 256;

/// Bytes in one transaction: what a disk takes in some 20 ms, and what JSON texts of a batch may cost in memory, twice.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Where a commit's result goes.
pub(crate) type Answer = oneshot::Sender<Result<(), CommitError>>;

/// Where a record's result goes.
pub(crate) type AppendAnswer = oneshot::Sender<Result<(), JournalError>>;

/// What was done, for whoever watches.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub commits: AtomicU64,
    pub appends: AtomicU64,
    pub batches: AtomicU64,
}

impl Tally {
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            commits: self.commits.load(Ordering::Relaxed),
            appends: self.appends.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
        }
    }
}

/// What goes into one transaction.
#[derive(Default)]
pub(crate) struct Batch {
    pub commits: Vec<(Box<Commit>, Answer)>,
    pub appends: Vec<(Box<Append>, AppendAnswer)>,
    jobs: usize,
    bytes: usize,
}

impl Batch {
    pub(crate) fn has_room(&self) -> bool {
        self.jobs < BATCH_JOBS_MAX && self.bytes < BATCH_BYTES_MAX
    }

    pub(crate) fn commit(&mut self, commit: Box<Commit>, answer: Answer) {
        self.jobs += 1;
        self.bytes += commit.size();
        self.commits.push((commit, answer));
    }

    pub(crate) fn append(&mut self, append: Box<Append>, answer: AppendAnswer) {
        self.jobs += 1 + append.effects.len();
        self.bytes += append.size();
        self.appends.push((append, answer));
    }
}
