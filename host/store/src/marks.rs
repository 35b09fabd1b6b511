//! What the writer remembers of tables that most runs never use, so that what was never written need not be cleared. Pure: no database here.
//!
//! Invariant: what gets rows is marked before their transaction ends, and forgotten only after a commit that cleared them. A mark too many
//! costs one look at an index; one too few would leave rows behind for good.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use caisson_core::engine::StepNo;
use caisson_core::ids::RunId;
use caisson_core::ports::Commit;

/// The marks.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// Steps with journals, by hash: parked ones may be many.
    journals: HashSet<u64>,
    hasher: RandomState,
    /// Whether nothing is known: everything may have rows.
    every: bool,
    /// Whether any run has ever pinned a plugin.
    pins: bool,
    /// Whether any run has ever counted with others.
    admissions: bool,
}

impl Marks {
    /// Every table may have rows of anything: where other processes write too.
    pub(crate) fn everything() -> Self {
        Self { every: true, pins: true, admissions: true, ..Self::default() }
    }

    /// The step gets a record.
    pub(crate) fn mark_journal(&mut self, run: &RunId, step: StepNo) {
        if !self.every {
            let hash = self.hash(run, step);
            self.journals.insert(hash);
        }
    }

    /// A run pins plugins.
    pub(crate) fn mark_pins(&mut self) {
        self.pins = true;
    }

    /// A run counts with others of its workflow.
    pub(crate) fn mark_admissions(&mut self) {
        self.admissions = true;
    }

    /// Whether a run that ends may leave rows that go with it.
    pub(crate) fn outlived(&self) -> bool {
        self.pins || self.admissions
    }

    /// Steps that the commit ends, and that may have records.
    pub(crate) fn journals_ended(&self, commit: &Commit) -> impl Iterator<Item = StepNo> {
        let run = commit.run.as_ref().filter(|_| self.every || !self.journals.is_empty());
        let steps = run.into_iter().flat_map(|run| commit.steps.iter().map(move |step| (run, step)));
        let ended = steps.filter(|(_, step)| step.status.is_terminal());
        ended
            .filter(|(run, step)| {
                // Only guests keep journals.
                if self.every {
                    step.action.is_some()
                } else {
                    self.journals.contains(&self.hash(&run.id, step.number))
                }
            })
            .map(|(_, step)| step.number)
    }

    /// The commit is stored, and what it ended is cleared.
    pub(crate) fn forget(&mut self, commit: &Commit) {
        let Some(run) = commit.run.as_ref().filter(|_| !self.every) else { return };
        let ended: Vec<StepNo> = self.journals_ended(commit).collect();
        for step in ended {
            let hash = self.hash(&run.id, step);
            self.journals.remove(&hash);
        }
    }

    fn hash(&self, run: &RunId, step: StepNo) -> u64 {
        self.hasher.hash_one((run.as_str(), step))
    }
}
