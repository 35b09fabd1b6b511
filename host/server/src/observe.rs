//! What is seen of a host from outside: whether it is ready, and who else works on the same store.
//!
//! Deliberately absent: rules about runs. Whatever is seen was decided and stored before.

use std::sync::Arc;

use caisson_core::ports::Cluster;

/// A part that the host cannot work without, beside its store.
pub trait Probe: Send + Sync {
    /// Its name among the parts: `queue`.
    fn name(&self) -> &'static str;
    /// What is in the way, in a few words; `None` if it works. Answers at once, from what is known.
    fn problem(&self) -> Option<String>;
}

/// What the API shows of the host itself.
#[derive(Clone, Default)]
pub struct Observe {
    /// Asked at every look at the readiness.
    pub probes: Vec<Arc<dyn Probe>>,
    /// Knows the other hosts; `None` where there can be none.
    pub cluster: Option<Arc<dyn Cluster>>,
}

/// The machine's name, for people.
pub fn machine_name() -> String {
    let read = |file| std::fs::read_to_string(file).ok().map(|name| name.trim().to_owned());
    let known =
        read("/proc/sys/kernel/hostname").or_else(|| read("/etc/hostname")).or_else(|| std::env::var("HOSTNAME").ok());
    known.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}
