//! What every store asks of a commit before it writes a byte of it.

use super::{Commit, Place, RunLease, StoreError};
use crate::time::Timestamp;

impl Commit {
    /// Whether the commit holds together: the half of the assertion that stands where things are written. A commit that does not
    /// is a fault of the caller, and nothing of it is stored.
    pub fn check(&self) -> Result<(), StoreError> {
        let fault = |what: &str| Err(StoreError::Other(format!("commit is not sound: {what}")));
        let Some(run) = &self.run else {
            let only_messages = self.events.is_empty()
                && self.blobs.is_empty()
                && self.steps.is_empty()
                && self.timers_set.is_empty()
                && self.timers_cleared.is_empty()
                && self.approvals.is_empty()
                && self.items.is_empty()
                && self.items_dropped.is_empty()
                && self.outbox.is_empty()
                && self.snapshot.is_none()
                && self.idempotency.is_none()
                && self.pins.is_empty()
                && self.admission.is_none()
                && self.lease == RunLease::Keep;
            return if only_messages { Ok(()) } else { fault("it writes things of a run and names none") };
        };
        if run.version <= self.expected {
            return fault("the run's version is not raised");
        }
        if !self.events.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq) {
            return fault("the events have gaps");
        }
        if self.events.last().is_some_and(|last| last.seq != run.last_seq) {
            return fault("the run's last event is not the last event");
        }
        if self.timers_set.iter().any(|timer| timer.run != run.id) || self.approvals.iter().any(|a| a.run != run.id) {
            return fault("a timer or an approval is of another run");
        }
        if (self.idempotency.is_some() || !self.pins.is_empty()) && self.expected != 0 {
            return fault("only a new run has an idempotency key and pins");
        }
        if self.admission.as_ref().is_some_and(|wanted| (wanted.place == Place::Admit) != (self.expected != 0)) {
            return fault("a new run begins or waits, an old one is admitted");
        }
        Ok(())
    }

    /// Whether its events follow the last one that is stored, and its run ends where they do: the history has no gaps.
    pub fn follows(&self, last_seq: u64) -> Result<(), StoreError> {
        let Some(run) = &self.run else { return Ok(()) };
        let first = self.events.first().map_or(run.last_seq + 1, |event| event.seq);
        if first == last_seq + 1 {
            return Ok(());
        }
        Err(StoreError::Other(format!("commit is not sound: event {first} of run {} follows event {last_seq}", run.id)))
    }

    /// The latest time that it knows of; `None` without a run.
    pub fn latest_time(&self) -> Option<Timestamp> {
        let run = self.run.as_ref()?;
        self.events.iter().map(|event| event.at).chain([run.created_at]).max()
    }

    /// Roughly how many bytes it writes.
    pub fn size(&self) -> usize {
        /// Ids, hashes, times and the JSON around them, per row.
        const ROW_BYTES: usize = 400;
        let rows = 1
            + self.events.len()
            + self.steps.len()
            + self.approvals.len()
            + self.items.len()
            + self.outbox.len()
            + self.timers_set.len();
        let text = self.events.iter().map(|event| event.data.get().len()).sum::<usize>()
            + self.blobs.iter().map(|blob| blob.json.get().len()).sum::<usize>()
            + self.outbox.iter().map(|message| message.message.get().len()).sum::<usize>()
            + self.snapshot.as_ref().map_or(0, |state| state.get().len())
            + self.items.iter().filter_map(|item| item.result.inline()).map(|json| json.get().len()).sum::<usize>();
        rows * ROW_BYTES + text
    }
}
