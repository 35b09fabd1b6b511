//! How ready steps reach an executor: the `TaskQueue` port of caisson-core, embedded in the process and over NATS JetStream.
//!
//! Invariants:
//! - A queue holds hints, the store holds the truth: losing everything here loses nothing.
//! - Every queue is bounded. What does not fit is dropped and remembered, and the relay reads it from the store once there is room.

mod embedded;
pub mod jetstream;
mod managed;

pub use embedded::{EmbeddedQueue, STEPS_LOW, STEPS_MAX};
pub use managed::{Error as ManagedError, ManagedNats, ManagedOptions};
