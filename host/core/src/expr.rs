//! Paths and templates: how a definition refers to data. Expressions themselves are Starlark and are
//! evaluated elsewhere ([`crate::ports::Evaluator`]); a plain dotted path never gets there.

mod path;
mod template;

pub(crate) use path::descend;
pub use path::{Path, PathError, Segment};
pub use template::{Part, Piece, Template, TemplateError};
