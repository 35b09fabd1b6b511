//! A guest's random numbers: from a seed, the same for the same entry of a step on every host, and unknown to whoever
//! lacks the host's key.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// SHA-256 in counter mode.
#[derive(Debug)]
pub(crate) struct Random {
    seed: [u8; 32],
    counter: u64,
    given: u64,
}

impl Random {
    pub(crate) fn new(key: &[u8; 32], step: &str, attempt: u32, entry: u32) -> Self {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes a key of any length");
        mac.update(b"caisson random 2\0");
        mac.update(step.as_bytes());
        mac.update(&attempt.to_be_bytes());
        mac.update(&entry.to_be_bytes());
        Self { seed: mac.finalize().into_bytes().into(), counter: 0, given: 0 }
    }

    /// Counts bytes that are asked for, and gives the sum.
    pub(crate) fn ask(&mut self, bytes: u64) -> u64 {
        self.given = self.given.saturating_add(bytes);
        self.given
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let mut hash = Sha256::new();
            hash.update(self.seed);
            hash.update(self.counter.to_be_bytes());
            self.counter += 1;
            chunk.copy_from_slice(&hash.finalize()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_step_attempt_and_entry_each_make_other_numbers() {
        let first = |key: u8, step: &str, attempt, entry| {
            let mut bytes = [0; 40];
            Random::new(&[key; 32], step, attempt, entry).fill(&mut bytes);
            bytes
        };
        let one = first(1, "a", 1, 0);
        assert_eq!(one, first(1, "a", 1, 0));
        for other in [first(2, "a", 1, 0), first(1, "b", 1, 0), first(1, "a", 2, 0), first(1, "a", 1, 1)] {
            assert_ne!(one, other);
        }
    }
}
