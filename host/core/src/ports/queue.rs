use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::ids::RunId;
use crate::time::Timestamp;

/// A step that is ready to be claimed: a hint, never the truth. The truth is the READY row in the store, and
/// the engine refuses a claim of a step that is not ready any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ready {
    /// Its run.
    pub run: RunId,
    /// Its number in the run.
    pub step: u64,
    /// The attempt that comes.
    pub attempt: u32,
    /// The entry that comes.
    pub entry: u32,
    /// Tells this publication from every other of the same entry; see [`crate::ports::StepRow::dispatch`].
    pub dispatch: u32,
    /// The trace that it belongs to, as W3C Trace Context writes it: a claim on another host goes on with it.
    pub traceparent: Option<Arc<str>>,
}

impl Ready {
    /// `run:step:attempt:entry:dispatch`: the same publication twice has one id, two publications have two.
    pub fn message_id(&self) -> String {
        format!("{}:{}:{}:{}:{}", self.run, self.step, self.attempt, self.entry, self.dispatch)
    }
}

/// A ready step on its way to a claim.
pub struct Delivery {
    /// The step.
    pub ready: Ready,
    /// Settles it with whoever delivered it; `None` where nothing has to be settled.
    pub receipt: Option<Box<dyn Receipt>>,
}

/// Settles a delivery. Dropped unsettled, the queue delivers again after a while.
pub trait Receipt: Send {
    /// The claim is durable, or nobody will ever want it: do not deliver again.
    fn done(self: Box<Self>);
    /// Deliver again, not before that time.
    fn again(self: Box<Self>, after: Duration);
}

impl Delivery {
    /// See [`Receipt::done`].
    pub fn done(self) {
        if let Some(receipt) = self.receipt {
            receipt.done();
        }
    }

    /// See [`Receipt::again`]. Gives the step back where there is nobody to deliver it again.
    pub fn again(self, after: Duration) -> Option<Ready> {
        match self.receipt {
            Some(receipt) => {
                receipt.again(after);
                None
            }
            None => Some(self.ready),
        }
    }
}

/// What a queue still holds of what was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Horizon {
    /// Only what this process published and has not given out; duplicates cost little.
    Process,
    /// What was published since that time. What is older and still ready was lost, or never fitted.
    Since(Timestamp),
}

/// Carries ready steps to executors. Bounded: what does not fit stays in the store and is fetched when there
/// is room again ([`TaskQueue::take_overflow`]).
#[async_trait]
pub trait TaskQueue: Send + Sync {
    /// Publishes ready steps, in order. Never waits: when full, the rest is dropped and the overflow is remembered. So it is when
    /// `more` says that the store holds more ready steps than these.
    fn publish(&self, ready: Vec<Ready>, more: bool);
    /// The next ready step; waits until there is one.
    async fn next(&self) -> Delivery;
    /// Whether steps were dropped since last asked, or the queue has run low since: the relay then reads READY rows from the store.
    fn take_overflow(&self) -> bool;
    /// Waits until there is overflow to repair and room for it, or until it is time to look for what was lost.
    async fn wants_refill(&self);
    /// Room left, in steps.
    fn room(&self) -> usize;
    /// Which of the ready steps it still holds. Waits while the queue cannot be reached.
    async fn horizon(&self) -> Horizon;
}
