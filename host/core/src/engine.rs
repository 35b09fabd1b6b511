//! The engine: decides, never does.

mod event;
mod stimulus;

pub use event::{
    Activity, ApprovalStatus, EVENT_VERSION, Event, ParentStep, PinnedAction, RunError, ScopeNo, ScopeRole, Signal,
    StepNo, Then, Wake, Write,
};
pub use stimulus::{Actor, ChildEnd, Message, NewSignal, Refusal, Stimulus, TimerKey};
