//! Named secrets.
//!
//! A secret that only travels in a request's header needs no [`get`]: put its [`placeholder`] there, and the host fills it in where the
//! operator allowed it. Code that never sees a secret cannot lose it.

use crate::CapabilityError;

pub use crate::bindings::caisson::step::secrets::get;

/// What stands for a secret in the value of a header: `{{secret:NAME}}`.
///
/// ```
/// let value = format!("token {}", caisson_sdk::secrets::placeholder("FORGE_TOKEN"));
/// assert_eq!(value, "token {{secret:FORGE_TOKEN}}");
/// ```
pub fn placeholder(name: &str) -> String {
    format!("{{{{secret:{name}}}}}")
}

/// The secret of that name, `None` if the operator set none.
pub fn find(name: &str) -> Result<Option<String>, CapabilityError> {
    match get(name) {
        Ok(value) => Ok(Some(value)),
        Err(CapabilityError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
