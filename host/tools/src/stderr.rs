//! What servers write on standard error: for the operator, in the host's log, within bounds and without secrets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::BufReader;
use tokio::process::ChildStderr;
use tokio::time::Instant;

use crate::lines::Lines;
use crate::process::Given;

/// Of a line, so much is kept.
const LINE_BYTES_MAX: usize = 1024;
/// Lines a minute that go into the host's log: a server that says more is left to talk to itself.
const LINES_A_MINUTE: u32 = 60;
/// The last lines are shown to who asks how a server stands.
const LAST_MAX: usize = 5;

/// The last lines of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Last(Arc<Mutex<VecDeque<String>>>);

impl Last {
    /// One text, for people.
    pub(crate) fn text(&self) -> String {
        self.0.lock().iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock();
        if lines.len() == LAST_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Reads until the server ends.
pub(crate) async fn keep(server: String, stderr: ChildStderr, secrets: Given, last: Last) {
    let mut lines = Lines::new(BufReader::new(stderr), LINE_BYTES_MAX);
    let (mut minute, mut said, mut left_out) = (Instant::now(), 0, 0_u64);
    while let Ok(line) = lines.step().await {
        let Some(line) = line else { continue };
        let long = line.is_long();
        let mut text = String::from_utf8_lossy(&line.kept).trim_end().to_owned();
        if long {
            // A secret that is cut in two would not be found.
            let longest = secrets.iter().map(|(_, secret)| secret.expose().len()).max().unwrap_or(0);
            text.truncate(text.floor_char_boundary(text.len().saturating_sub(longest)));
        }
        for (name, secret) in &secrets {
            text = text.replace(secret.expose(), &format!("[secret:{name}]"));
        }
        if text.is_empty() {
            continue;
        }
        if minute.elapsed() >= Duration::from_mins(1) {
            if left_out > 0 {
                tracing::info!(server, left_out, "a tool server wrote more lines than are kept");
            }
            (minute, said, left_out) = (Instant::now(), 0, 0);
        }
        if said < LINES_A_MINUTE {
            said += 1;
            // As Rust writes it: no control character reaches a terminal.
            tracing::info!(server, line = ?text, "a tool server says");
        } else {
            left_out += 1;
        }
        last.push(text);
    }
}
