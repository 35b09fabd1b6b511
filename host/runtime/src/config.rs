use std::path::PathBuf;
use std::sync::Arc;

use caisson_core::ids::Realm;
use caisson_core::ports::{CallSink, Journal, LogSink, NoTools, PluginStore, Secret, Secrets, Tools};

use crate::limits::Limits;
use crate::logbook::NoLog;
use crate::memory::MemoryJournal;
use crate::model::Models;
use crate::net::{Resolver, SystemResolver, Transport};

/// Instances at once by default. Each is a reservation of address space (some 4 GiB), not of memory; a pool of this
/// size takes 1 TiB of the 128 that a process has, and no small host runs more guests at once to any use.
pub const SLOTS_DEFAULT: u32 = 256;
/// Third parties' plugins whose code stays loaded. Code is mapped from the cache's files, a tenth of a megabyte for
/// Rust and C, thirty for Python: this many Python plugins are 2 GB of pages that the system can drop, and one that was
/// dropped is back within some milliseconds.
pub const LOADED_DEFAULT: usize = 64;

/// How the runtime is set up.
#[derive(Clone)]
pub struct RuntimeConfig {
    /// Where compiled code is kept; `None` compiles anew at every start.
    pub cache_dir: Option<PathBuf>,
    /// Who compiles.
    pub compiler: Compiler,
    /// Third parties' plugins whose code stays loaded; the one that was unused for longest makes room.
    pub loaded: usize,
    /// Instances at once: the size of the pool. An entry beyond it waits for a free one.
    pub slots: u32,
    /// Whether to try a pool at all.
    pub pooled: bool,
    /// Threads that guests run on.
    pub guest_threads: usize,
    /// Whether to count what guests execute: for authors, at a tenth of the speed that guests have without. See
    /// `Runtime::run_measured`.
    pub fuel: bool,
    /// What an entry may use when its manifest asks for nothing else.
    pub limits: Limits,
    /// What a manifest may ask for.
    pub limits_max: Limits,
    /// Whether the built-in plugins are there: tools that run one plugin do without, and start at once. The JavaScript
    /// engine is there either way.
    pub built_ins: bool,
    /// Where components' bytes are; `None` keeps in memory what `prepare` is given.
    pub components: Option<Arc<dyn PluginStore>>,
    /// The journal of steps, and what plugins keep. By default in memory.
    pub journal: Arc<dyn Journal>,
    /// Where secrets come from. By default there are none.
    pub secrets: Arc<dyn Secrets>,
    /// Where steps' files lie; `None` has no files.
    pub artifacts_dir: Option<PathBuf>,
    /// Finds the addresses of hosts. By default the system's.
    pub resolver: Arc<dyn Resolver>,
    /// Carries HTTP instead of connections: for tools that play the world around a plugin. By default none.
    pub transport: Option<Arc<dyn Transport>>,
    /// Makes guests' random numbers unknown to others. The same on every host, or an entry that goes on elsewhere sees
    /// others.
    pub random_key: [u8; 32],
    /// Models and agents.
    pub models: Arc<Models>,
    /// Tools that the operator connected. By default there are none.
    pub tools: Arc<dyn Tools>,
    /// Takes log lines as they are written.
    pub log_sink: Arc<dyn LogSink>,
    /// Is told of calls that left the host. By default nobody is.
    pub call_sink: Option<Arc<dyn CallSink>>,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            cache_dir: None,
            compiler: Compiler::InProcess,
            loaded: LOADED_DEFAULT,
            slots: SLOTS_DEFAULT,
            pooled: true,
            guest_threads: std::thread::available_parallelism().map_or(1, usize::from),
            fuel: false,
            limits: Limits::default(),
            limits_max: Limits::generous(),
            built_ins: true,
            components: None,
            journal: Arc::new(MemoryJournal::default()),
            secrets: Arc::new(NoSecrets),
            artifacts_dir: None,
            resolver: Arc::new(SystemResolver),
            transport: None,
            random_key: [0; 32],
            models: Arc::new(Models::new()),
            tools: Arc::new(NoTools),
            log_sink: Arc::new(NoLog),
            call_sink: None,
        }
    }
}

/// Who compiles plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// This process: for tests and tools.
    InProcess,
    /// A child process with limits of its own. It is started as `PROGRAM ARGS… (what compile_main takes)`, and is
    /// expected to hand what follows `args` to [`crate::compile_main`]. Needs a `cache_dir`.
    Child {
        /// The program: a host starts itself.
        program: PathBuf,
        /// What makes it call [`crate::compile_main`].
        args: Vec<String>,
    },
}

/// There are no secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, _: &Realm, _: &str) -> Option<Secret> {
        None
    }
}
