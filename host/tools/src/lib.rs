//! Tool servers: programs that the operator declared, spoken to by MCP over their standard input and output. Fills the [`Tools`] port.
//!
//! ```text
//! mcp-servers/*.json ─► spec ─► ToolServers: realm, name ─► Server: none or one process, shared by all steps
//!                                                             │ at the first call
//!                                                             ▼
//!      result ◄─ rmcp ◄─ Pipe (bounded lines) ◄─ process: own group, bare environment, dies with the host
//! ```
//!
//! Invariants:
//! - nothing is started but what was declared to [`ToolServers::set_servers`], and that only when somebody calls it;
//! - whatever a server writes, no more than a line of [`LINE_BYTES_MAX`] of it is held, and a call always ends: with a result, or with an
//!   error that has a name;
//! - what a server says of itself and of its tools (annotations, instructions) decides nothing;
//! - a server never outlives the host;
//! - it reads neither the host's memory nor its variables, once the host has called [`hide_process`].
//!
//! Deliberately absent: servers behind HTTP, and what servers may ask of a client (sampling, roots, elicitation): they are refused.

mod error;
mod guard;
mod hide;
mod lines;
mod pipe;
mod process;
mod result;
mod scan;
mod server;
mod servers;
mod spec;
mod stderr;

pub use caisson_core::ports::Tools;
pub use guard::guard_main;
pub use hide::hide_process;
pub use lines::LINE_BYTES_MAX;
pub use process::Guard;
pub use servers::{Config, ToolServers};
pub use spec::{ServerSpec, SpecError};
