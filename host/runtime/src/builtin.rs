//! The built-in plugins, built from `plugins/` by the build script. They use the same interface as everybody's; all that is special
//! is that their ids are reserved for them and that they are granted what they ask for.

/// A built-in component.
pub(crate) struct BuiltIn {
    /// The component.
    pub(crate) bytes: &'static [u8],
    /// A call whose effect on memory becomes the image of every instance: action and input.
    pub(crate) warm_up: Option<(&'static str, &'static str)>,
}

/// The one whose actions the evaluator calls.
pub(crate) const EVALUATE: &str = "script.evaluate";

/// What the built-in plugins are, without starting or compiling anything.
pub fn built_in_packages() -> Vec<crate::PackageInfo> {
    ALL.iter().filter_map(|one| crate::inspect(one.bytes).ok()).collect()
}

macro_rules! component {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".wasm"))
    };
}

/// All of them.
pub(crate) const ALL: [BuiltIn; 4] = [
    // The slowest to compile first, so that the others are done beside it.
    BuiltIn {
        bytes: component!("script"),
        warm_up: Some(("evaluate", r#"{"source":"{\"a\":[1]}","bindings":{"b":{"c":1}}}"#)),
    },
    BuiltIn { bytes: component!("core"), warm_up: None },
    BuiltIn { bytes: component!("human"), warm_up: None },
    BuiltIn { bytes: component!("agent"), warm_up: None },
];
