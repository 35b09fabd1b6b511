//! A guest's random numbers: from a seed, the same for the same entry of a step on every host, and unknown to whoever
//! lacks the host's key.

use caisson_core::ids::StepId;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// SHA-256 in counter mode.
pub(crate) struct Random {
    source: Source,
    counter: u64,
    given: u64,
}

/// Where the numbers come from.
enum Source {
    /// Nobody has asked yet, and most entries never do.
    Place {
        key: [u8; 32],
        step: StepId,
        attempt: u32,
        entry: u32,
    },
    Seed([u8; 32]),
}

impl Source {
    fn seed(&mut self) -> [u8; 32] {
        let seed = match self {
            Self::Seed(seed) => *seed,
            Self::Place { key, step, attempt, entry } => {
                let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes a key of any length");
                mac.update(b"caisson random 2\0");
                mac.update(step.as_str().as_bytes());
                mac.update(&attempt.to_be_bytes());
                mac.update(&entry.to_be_bytes());
                mac.finalize().into_bytes().into()
            }
        };
        *self = Self::Seed(seed);
        seed
    }
}

impl Random {
    pub(crate) fn new(key: [u8; 32], step: StepId, attempt: u32, entry: u32) -> Self {
        Self { source: Source::Place { key, step, attempt, entry }, counter: 0, given: 0 }
    }

    /// Counts bytes that are asked for, and gives the sum.
    pub(crate) fn ask(&mut self, bytes: u64) -> u64 {
        self.given = self.given.saturating_add(bytes);
        self.given
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        let seed = self.source.seed();
        for chunk in bytes.chunks_mut(32) {
            let mut hash = Sha256::new();
            hash.update(seed);
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
            Random::new([key; 32], StepId::new(step), attempt, entry).fill(&mut bytes);
            bytes
        };
        let one = first(1, "a", 1, 0);
        assert_eq!(one, first(1, "a", 1, 0));
        for other in [first(2, "a", 1, 0), first(1, "b", 1, 0), first(1, "a", 2, 0), first(1, "a", 1, 1)] {
            assert_ne!(one, other);
        }
    }
}
