//! What can go wrong before the queue runs.

use std::fmt;
use std::path::PathBuf;

/// Why there is no queue. Reads after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address is none.
    #[error("read the NATS address '{address}': {reason}")]
    Address {
        /// Without user and password.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be used.
    #[error("read {what} {}: {source}", path.display())]
    File {
        /// What it holds.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
    /// Nobody answers, or not to us.
    #[error("connect to NATS at {servers}: {reason}")]
    Connect {
        /// Addresses, without user and password.
        servers: String,
        /// What is wrong.
        reason: String,
        /// Whether it may pass: nobody answers, which a server that starts again does in a moment.
        passing: bool,
    },
    /// The server refuses, or has no JetStream.
    #[error("set up {what} in JetStream: {reason}")]
    JetStream {
        /// The stream or consumer.
        what: String,
        /// What the server said.
        reason: String,
    },
    /// It exists and is not what this program needs.
    #[error("use {what} of the NATS server, whose settings differ: {}. {advice}", list(differences))]
    Settings {
        /// The stream or consumer.
        what: String,
        /// Each setting that differs.
        differences: Vec<Difference>,
        /// What to do.
        advice: String,
    },
}

/// A setting that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name, as NATS has it.
    pub field: &'static str,
    /// What it is.
    pub found: String,
    /// What it has to be.
    pub expected: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {} and has to be {}", self.field, self.found, self.expected)
    }
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
