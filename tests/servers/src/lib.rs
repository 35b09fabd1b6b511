//! Real servers for tests, on loopback, each with its data in a directory of its own, ended when dropped.
//!
//! What is missing is installed from where the README says, with a word about it; where that is not possible the test fails and says what to
//! install. Nothing is ever skipped.

#![expect(clippy::missing_panics_doc, reason = "a test that has no server cannot go on")]

pub mod nats;
pub mod postgres;
