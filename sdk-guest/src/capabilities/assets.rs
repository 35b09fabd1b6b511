//! Files of the plugin's own package, embedded beside its manifest. Always granted.

pub use crate::bindings::caisson::step::assets::read;

/// The file of that name as text; `None` if the package has none, or it is not UTF-8.
pub fn text(name: &str) -> Option<String> {
    String::from_utf8(read(name)?).ok()
}
