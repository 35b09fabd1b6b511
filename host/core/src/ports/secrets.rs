use std::fmt;
use std::sync::Arc;

use crate::ids::Realm;

/// A secret's value. Never printed: its `Debug` hides it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Shorter values cannot be redacted without redacting half of everything.
    pub const BYTES_MIN: usize = 4;

    /// Wraps a value.
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self(value.into())
    }

    /// The value, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where secrets come from. Looked up when they are used, so that a changed file counts from the next use.
pub trait Secrets: Send + Sync {
    /// The secret of that name in that realm, and in no other.
    fn get(&self, realm: &Realm, name: &str) -> Option<Secret>;
}
