//! The JSON Schemas that follow from the types of a plugin's functions: what the component answers when its build asks for them.
//!
//! Invariant: the action's name has a colon, which no manifest's action can have, so nobody calls it by accident and a host need not know it.

#[cfg(feature = "schemas")]
mod derived;
#[cfg(not(feature = "schemas"))]
mod none;

#[cfg(feature = "schemas")]
pub(crate) use derived::answer;
#[cfg(feature = "schemas")]
pub use derived::{Schemas, describe};
#[cfg(not(feature = "schemas"))]
pub(crate) use none::answer;
#[cfg(not(feature = "schemas"))]
pub use none::{Schemas, describe};
