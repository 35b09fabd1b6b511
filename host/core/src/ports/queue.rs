use async_trait::async_trait;

use crate::ids::RunId;

/// A step that is ready to be claimed: a hint, never the truth. The truth is the READY row in the store, and
/// the engine refuses a claim of a step that is not ready any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ready {
    /// Its run.
    pub run: RunId,
    /// Its number in the run.
    pub step: u64,
    /// How often it was published; part of the message id.
    pub dispatch: u32,
}

/// Carries ready steps to executors. Bounded: what does not fit stays in the store and is fetched when there
/// is room again ([`TaskQueue::take_overflow`]).
#[async_trait]
pub trait TaskQueue: Send + Sync {
    /// Publishes ready steps, in order. Never waits: when full, the rest is dropped and the overflow is remembered. So it is when
    /// `more` says that the store holds more ready steps than these.
    fn publish(&self, ready: Vec<Ready>, more: bool);
    /// The next ready step; waits until there is one.
    async fn next(&self) -> Ready;
    /// Whether steps were dropped since last asked, or the queue has run low since: the relay then reads READY rows from the store.
    fn take_overflow(&self) -> bool;
    /// Waits until there is overflow to repair and room for it.
    async fn wants_refill(&self);
    /// Room left, in steps.
    fn room(&self) -> usize;
}
