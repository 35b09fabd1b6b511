//! Files that are part of the program: templates, the SDK for Rust, the interface.

/// By their path in the repository, with `/`.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/authoring.rs"));

/// The interface's text.
pub const STEP_WIT: &str = "wit/caisson-step@1.0.0/step.wit";

/// The files below a folder, by their path in it.
pub fn below(folder: &str) -> impl Iterator<Item = (&'static str, &'static [u8])> + '_ {
    FILES.iter().filter_map(move |(path, bytes)| Some((path.strip_prefix(folder)?.strip_prefix('/')?, *bytes)))
}

/// One file's text.
pub fn text(path: &str) -> Option<&'static str> {
    let (_, bytes) = FILES.iter().find(|(name, _)| *name == path)?;
    std::str::from_utf8(bytes).ok()
}
