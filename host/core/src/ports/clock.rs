use crate::time::Timestamp;

/// The time of the host: never goes backwards, also over a restart (an adapter anchors it at the last stored time).
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Where the store's clock decides: this is what it said a moment ago. Never turns the clock back.
    fn follow(&self, _store: Timestamp) {}
}
