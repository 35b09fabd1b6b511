//! Without the feature `schemas`: nothing is asked of the types, and nothing is known.

use crate::context::Context;
use crate::glue::Answer;

/// Nothing.
#[derive(Default)]
pub struct Schemas;

impl Schemas {
    /// Asks nothing of the type.
    #[must_use]
    pub fn config<T>(self) -> Self {
        self
    }
}

/// Asks nothing of the types.
#[must_use]
pub fn describe<I, O, E>(schemas: Schemas, _: &str, _: impl FnOnce(&Context, I) -> Result<O, E>) -> Schemas {
    schemas
}

/// There is nothing to answer.
pub(crate) fn answer(_: &str, _: impl FnOnce() -> Schemas) -> Answer {
    None
}
