//! Ids that follow from other ids: the same on every host and after every crash.

use sha2::{Digest, Sha256};

use crate::ids::{ApprovalId, RunId, StepId, hex};
use crate::time::Timestamp;

/// The approval that an entry of a step asks for.
pub fn approval(step: &StepId, attempt: u32, entry: u32) -> ApprovalId {
    let digest = Sha256::digest(format!("approval:{step}:{attempt}:{entry}"));
    ApprovalId::new(hex(&digest[..16]))
}

/// The child run that an attempt of a step calls: shaped as a UUID of version 7, so that children sort by time among other runs.
pub fn child_run(step: &StepId, attempt: u32, at: Timestamp) -> RunId {
    let digest = Sha256::digest(format!("child:{step}:{attempt}"));
    let mut bytes = [0u8; 16];
    bytes[..6].copy_from_slice(&at.0.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&digest[..10]);
    bytes[6] = 0x70 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    let text = hex(&bytes);
    RunId::new(format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]))
}
