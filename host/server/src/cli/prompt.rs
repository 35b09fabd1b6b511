//! Questions on a terminal.

use std::io::{self, IsTerminal};

use tokio::sync::mpsc;

/// Lines that nobody has asked for yet: what a person types ahead.
const LINES_MAX: usize = 16;

/// Reads lines from standard input without holding up anything else.
///
/// The thread that reads cannot be stopped while it waits for a line; it ends with the process.
pub struct Lines(mpsc::Receiver<String>);

impl Lines {
    /// Begins to read. The channel closes at the end of the input.
    pub fn start() -> Self {
        let (sender, receiver) = mpsc::channel(LINES_MAX);
        std::thread::spawn(move || {
            for line in io::stdin().lines() {
                let Ok(line) = line else { return };
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next line; `None` at the end of the input.
    pub async fn next(&mut self) -> Option<String> {
        self.0.recv().await
    }
}

/// Whether somebody sits there: both what is asked and what is answered go over a terminal.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// What an answer means; `None` if it is neither yes nor no.
pub fn yes_or_no(answer: &str) -> Option<bool> {
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    }
}
