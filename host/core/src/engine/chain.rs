//! The hash chain over a run's events.
//!
//! An event's hash is SHA-256 over a header of fixed form: the hash before it, its number, type, time, actor and the SHA-256 of its data, each
//! on its own line. The header holds the hash of the data, not the data, so retention may erase data and the chain still verifies: an erased event
//! keeps that hash.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::ids::hex;
use crate::ports::EventRow;
use crate::time::Timestamp;

/// Stands before the first event.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The hash of an event.
pub fn hash(prev: &str, seq: u64, kind: &str, at: Timestamp, actor: Option<&str>, data: &str) -> Arc<str> {
    hash_of(prev, seq, kind, at, actor, &hex(&Sha256::digest(data)))
}

fn hash_of(prev: &str, seq: u64, kind: &str, at: Timestamp, actor: Option<&str>, data_hash: &str) -> Arc<str> {
    let mut hash = Sha256::new();
    // An actor cannot hold a line break: keys are made without control characters.
    hash.update(format!("{prev}\n{seq}\n{kind}\n{}\n{}\n{data_hash}\n", at.0, actor.unwrap_or("")));
    hex(&hash.finalize()).into()
}

/// Why a chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// An event is missing or out of order.
    #[error("expected event {expected}, found {found}")]
    Gap {
        /// The number that should come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// An event does not follow from the one before, or was changed.
    #[error("event {0} does not match its hash")]
    Changed(u64),
}

/// Checks events that follow the one with number `seq` and hash `prev`; gives the last hash.
pub fn verify(mut prev: Arc<str>, mut seq: u64, events: &[EventRow]) -> Result<Arc<str>, Broken> {
    for event in events {
        seq += 1;
        if event.seq != seq {
            return Err(Broken::Gap { expected: seq, found: event.seq });
        }
        let (kind, at, actor) = (&*event.kind, event.at, event.actor.as_deref());
        let expected = match &event.data_sha256 {
            Some(erased) => hash_of(&prev, seq, kind, at, actor, erased),
            None => hash(&prev, seq, kind, at, actor, event.data.get()),
        };
        if event.prev_hash != prev || event.hash != expected {
            return Err(Broken::Changed(seq));
        }
        prev = expected;
    }
    Ok(prev)
}
