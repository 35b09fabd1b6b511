//! Identifiers. Newtypes, so that a step can never be looked up by a run's name.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a text that is already known to be such an id.
            pub fn new(id: impl Into<Arc<str>>) -> Self {
                Self(id.into())
            }
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// One execution of a version. Time-ordered (UUID version 7), made at the edge.
    RunId
);
text_id!(
    /// One visit of a run to a state: see [`StepId::of`].
    StepId
);
text_id!(
    /// One request for a human's decision.
    ApprovalId
);

/// Where a step stands: the state, and which branch, item or section of the state around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit<'a> {
    /// The state's name.
    pub state: &'a str,
    /// The branch name, item index or section (`try`, `catch`, `finally`) entered from the state
    /// around this one; empty at the top.
    pub via: &'a str,
    /// How often this state was visited before in its scope.
    pub visit: u32,
}

impl StepId {
    /// The deterministic identity of a step: a hash over the run and the path of visits to it,
    /// outermost first. The same step has the same id on every host and after every crash.
    pub fn of(run: &RunId, path: &[Visit<'_>]) -> Self {
        let mut hash = Sha256::new();
        hash.update(run.as_str());
        for part in path {
            // Lengths first: names may hold any character.
            for text in [part.state, part.via] {
                hash.update((text.len() as u64).to_be_bytes());
                hash.update(text);
            }
            hash.update(part.visit.to_be_bytes());
        }
        Self::new(hex(&hash.finalize()[..16]))
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// Whose thing it is: every stored thing belongs to one tenant and one environment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Realm {
    /// The tenant, from the API key.
    pub tenant: Arc<str>,
    /// The environment within it, `default` when nothing else is said.
    pub environment: Arc<str>,
}

impl Realm {
    /// A realm by its two names.
    pub fn new(tenant: impl Into<Arc<str>>, environment: impl Into<Arc<str>>) -> Self {
        Self { tenant: tenant.into(), environment: environment.into() }
    }
}
