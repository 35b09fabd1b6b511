//! What one entry may use at most. Every limit has a default with a reason, and a code by which its error is known.
//!
//! Invariant: what a manifest asks for is bounded by the operator's maximum; a guest can lower its limits, never lift
//! the bound.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Ten seconds of a core: a large script or a parser, and a stuck one is stopped before its user gives up waiting.
pub const CPU_MS_DEFAULT: u64 = 10_000;
/// Five minutes in the host's hands: the slowest model answers sooner; longer waits are suspensions, which hold
/// nothing.
pub const WALL_MS_DEFAULT: u64 = 300_000;
/// A Python or JavaScript guest with its data fits; a hundred of them at once still fit a small server.
pub const MEMORY_BYTES_DEFAULT: u64 = 256 << 20;
/// What the store keeps per value by default.
pub const OUTPUT_BYTES_DEFAULT: u64 = 1 << 20;
/// What one call may carry over the boundary, either way: bodies of HTTP calls are larger than results, and copies are
/// the host's memory.
pub const CALL_BYTES_DEFAULT: u64 = 16 << 20;
/// Some ten thousand lines of a hundred bytes: more than anybody reads.
pub const LOG_BYTES_DEFAULT: u64 = 1 << 20;
/// See [`LOG_BYTES_DEFAULT`]; counted apart because empty lines cost too.
pub const LOG_LINES_DEFAULT: u64 = 10_000;
/// Each costs the host about a microsecond and up: a tenth of a second of the host's time at the least.
pub const HOST_CALLS_DEFAULT: u64 = 100_000;
/// Streams, pollables and errors that are open at once; each is a small allocation of the host's.
pub const HANDLES_DEFAULT: u64 = 10_000;
/// Keys and nonces take bytes; a guest that wants more can stretch a seed by itself.
pub const RANDOM_BYTES_DEFAULT: u64 = 1 << 20;
/// Elements over all tables. A Python component has about ten thousand functions in tables.
pub const TABLE_ELEMENTS_DEFAULT: u64 = 100_000;
/// Core instances in one component: Rust has 3, Python about 30.
pub const INSTANCES_MAX: u32 = 64;
/// Memories in one component: more than one is rare.
pub const MEMORIES_MAX: u32 = 8;
/// Tables in one component.
pub const TABLES_MAX: u32 = 64;
/// A pool has to reserve address space for the largest memory, and 4 GiB is all that a 32-bit guest can name. Operators
/// go no higher than this.
pub const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Per engine: enough for a recursive parser of sane input, and a runaway recursion ends within a millisecond.
pub const STACK_BYTES: usize = 512 << 10;

/// The limits of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// `CPU_TIME_LIMIT`: time of the guest's thread, so that a busy machine fails nobody.
    pub cpu_ms: u64,
    /// `WALL_TIME_LIMIT`: from the guest's start to its end.
    pub wall_ms: u64,
    /// `MEMORY_LIMIT`: sum over all memories and tables.
    pub memory_bytes: u64,
    /// `OUTPUT_LIMIT`: a result, or the state that a suspension keeps.
    pub output_bytes: u64,
    /// `CALL_BYTES_LIMIT`: what one call carries from the guest.
    pub call_bytes: u64,
    /// `LOG_LIMIT`.
    pub log_bytes: u64,
    /// `LOG_LIMIT`.
    pub log_lines: u64,
    /// `HOST_CALL_LIMIT`.
    pub host_calls: u64,
    /// `HANDLE_LIMIT`.
    pub handles: u64,
    /// `RANDOM_LIMIT`.
    pub random_bytes: u64,
    /// `TABLE_LIMIT`.
    pub table_elements: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_ms: CPU_MS_DEFAULT,
            wall_ms: WALL_MS_DEFAULT,
            memory_bytes: MEMORY_BYTES_DEFAULT,
            output_bytes: OUTPUT_BYTES_DEFAULT,
            call_bytes: CALL_BYTES_DEFAULT,
            log_bytes: LOG_BYTES_DEFAULT,
            log_lines: LOG_LINES_DEFAULT,
            host_calls: HOST_CALLS_DEFAULT,
            handles: HANDLES_DEFAULT,
            random_bytes: RANDOM_BYTES_DEFAULT,
            table_elements: TABLE_ELEMENTS_DEFAULT,
        }
    }
}

impl Limits {
    /// What an operator allows a manifest to ask for when nothing else is said: four times the default, no more output
    /// than the store takes.
    pub fn generous() -> Self {
        let default = Self::default();
        Self {
            cpu_ms: default.cpu_ms * 6,
            wall_ms: default.wall_ms * 12,
            memory_bytes: default.memory_bytes * 4,
            call_bytes: default.call_bytes * 4,
            log_bytes: default.log_bytes * 4,
            log_lines: default.log_lines * 4,
            host_calls: default.host_calls * 10,
            ..default
        }
    }

    /// These limits where a manifest asks for others, bounded by the operator's.
    #[must_use]
    pub fn asked(self, asked: &AskedLimits, max: &Self) -> Self {
        let take = |default: u64, asked: Option<u64>, max: u64| asked.unwrap_or(default).min(max);
        Self {
            cpu_ms: take(self.cpu_ms, asked.cpu_ms, max.cpu_ms),
            wall_ms: take(self.wall_ms, asked.wall_ms, max.wall_ms),
            memory_bytes: take(self.memory_bytes, asked.memory_bytes, max.memory_bytes).min(MEMORY_BYTES_MAX),
            output_bytes: take(self.output_bytes, asked.output_bytes, max.output_bytes),
            call_bytes: take(self.call_bytes, asked.call_bytes, max.call_bytes),
            log_bytes: take(self.log_bytes, asked.log_bytes, max.log_bytes),
            log_lines: take(self.log_lines, asked.log_lines, max.log_lines),
            host_calls: take(self.host_calls, asked.host_calls, max.host_calls),
            handles: take(self.handles, asked.handles, max.handles),
            random_bytes: take(self.random_bytes, asked.random_bytes, max.random_bytes),
            table_elements: take(self.table_elements, asked.table_elements, max.table_elements),
        }
    }
}

/// The `[limits]` of a manifest: what is absent stays at the operator's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all(serialize = "camelCase"))]
pub struct AskedLimits {
    /// See [`Limits::cpu_ms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// See [`Limits::wall_ms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
    /// See [`Limits::memory_bytes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// See [`Limits::output_bytes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// See [`Limits::call_bytes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_bytes: Option<u64>,
    /// See [`Limits::log_bytes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    /// See [`Limits::log_lines`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_lines: Option<u64>,
    /// See [`Limits::host_calls`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_calls: Option<u64>,
    /// See [`Limits::handles`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handles: Option<u64>,
    /// See [`Limits::random_bytes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_bytes: Option<u64>,
    /// See [`Limits::table_elements`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_elements: Option<u64>,
}

type Field = (&'static str, &'static str, fn(&mut AskedLimits) -> &mut Option<u64>);

/// Each limit as manifests write it, as everything else does, and where it is.
const FIELDS: [Field; 11] = [
    ("cpu_ms", "cpuMs", |limits| &mut limits.cpu_ms),
    ("wall_ms", "wallMs", |limits| &mut limits.wall_ms),
    ("memory_bytes", "memoryBytes", |limits| &mut limits.memory_bytes),
    ("output_bytes", "outputBytes", |limits| &mut limits.output_bytes),
    ("call_bytes", "callBytes", |limits| &mut limits.call_bytes),
    ("log_bytes", "logBytes", |limits| &mut limits.log_bytes),
    ("log_lines", "logLines", |limits| &mut limits.log_lines),
    ("host_calls", "hostCalls", |limits| &mut limits.host_calls),
    ("handles", "handles", |limits| &mut limits.handles),
    ("random_bytes", "randomBytes", |limits| &mut limits.random_bytes),
    ("table_elements", "tableElements", |limits| &mut limits.table_elements),
];

impl AskedLimits {
    /// The names as manifests write them.
    pub(crate) fn names() -> [&'static str; FIELDS.len()] {
        FIELDS.map(|(name, ..)| name)
    }

    /// Sets one by its name in manifests; `false` if there is none of that name.
    pub(crate) fn set(&mut self, name: &str, value: u64) -> bool {
        let field = FIELDS.iter().find(|(known, ..)| *known == name);
        if let Some((_, _, field)) = field {
            *field(self) = Some(value);
        }
        field.is_some()
    }

    /// By name (`memoryBytes`), as a package has them.
    pub(crate) fn by_name(mut self) -> BTreeMap<String, u64> {
        FIELDS.iter().filter_map(|(_, name, field)| Some(((*name).to_owned(), (*field(&mut self))?))).collect()
    }

    /// Reads them back; a name that this version does not know asks for nothing.
    pub(crate) fn of(named: &BTreeMap<String, u64>) -> Self {
        let mut limits = Self::default();
        for (_, name, field) in FIELDS {
            *field(&mut limits) = named.get(name).copied();
        }
        limits
    }
}

/// A limit that an entry passed: travels through wasmtime as the error that ends the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", self.code(), self.message())]
pub struct Exceeded {
    /// Which.
    pub limit: Limit,
    /// Its value.
    pub max: u64,
}

/// Every limit by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Thread time.
    Cpu,
    /// Wall time.
    Wall,
    /// Memories and tables.
    Memory,
    /// The stack.
    Stack,
    /// The stack that a guest keeps in its own memory, whose size its toolchain chose.
    ShadowStack,
    /// Elements of tables.
    Table,
    /// Open handles.
    Handles,
    /// The result.
    Output,
    /// Bytes over the boundary in one call.
    CallBytes,
    /// Bytes of log.
    LogBytes,
    /// Lines of log.
    LogLines,
    /// Calls of the host.
    HostCalls,
    /// Random bytes.
    Random,
}

impl Exceeded {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self.limit {
            Limit::Cpu => "CPU_TIME_LIMIT",
            Limit::Wall => "WALL_TIME_LIMIT",
            Limit::Memory => "MEMORY_LIMIT",
            Limit::Stack | Limit::ShadowStack => "STACK_LIMIT",
            Limit::Table => "TABLE_LIMIT",
            Limit::Handles => "HANDLE_LIMIT",
            Limit::Output => "OUTPUT_LIMIT",
            Limit::CallBytes => "CALL_BYTES_LIMIT",
            Limit::LogBytes | Limit::LogLines => "LOG_LIMIT",
            Limit::HostCalls => "HOST_CALL_LIMIT",
            Limit::Random => "RANDOM_LIMIT",
        }
    }

    /// What was passed, for a person.
    pub fn message(self) -> String {
        let max = self.max;
        match self.limit {
            Limit::Cpu => format!("it used more than {max} ms of CPU time"),
            Limit::Wall => format!("it ran for more than {max} ms"),
            Limit::Memory => format!("it asked for more than {max} bytes of memory"),
            Limit::Stack => format!("it needed more than {max} bytes of stack"),
            Limit::ShadowStack => "it needed more than the stack in its memory".to_owned(),
            Limit::Table => format!("it asked for more than {max} table elements"),
            Limit::Handles => format!("it held more than {max} handles"),
            Limit::Output => format!("its result has more than {max} bytes"),
            Limit::CallBytes => format!("it passed more than {max} bytes to the host in one call"),
            Limit::LogBytes => format!("it logged more than {max} bytes"),
            Limit::LogLines => format!("it logged more than {max} lines"),
            Limit::HostCalls => format!("it called the host more than {max} times"),
            Limit::Random => format!("it asked for more than {max} random bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_limits_keep_their_names_and_their_bound() {
        let mut asked = AskedLimits::default();
        for (number, name) in AskedLimits::names().into_iter().enumerate() {
            assert!(asked.set(name, number as u64 + 1));
        }
        assert!(!asked.set("memory", 1));
        let named = asked.by_name();
        assert_eq!((named.len(), named["memoryBytes"]), (FIELDS.len(), 3));
        assert_eq!(AskedLimits::of(&named), asked);

        let asked = AskedLimits { cpu_ms: Some(u64::MAX), handles: Some(3), ..AskedLimits::default() };
        let limits = Limits::default().asked(&asked, &Limits::generous());
        assert_eq!((limits.cpu_ms, limits.handles), (Limits::generous().cpu_ms, 3));
    }
}
