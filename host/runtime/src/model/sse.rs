//! Server-sent events, of which only the data is read.

use super::Error;
use super::service::{ANSWER_BYTES_MAX, too_large};

/// What has come of the event that is under way.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: String,
}

impl Events {
    /// Takes bytes and gives the data of each event that they complete.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<String>, Error> {
        let mut whole = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.take(&bytes[..end])?;
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                whole.extend(Some(std::mem::take(&mut self.data)).filter(|data| !data.is_empty()));
            } else if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
        }
        self.take(bytes)?;
        Ok(whole)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.data.len() + self.line.len() + bytes.len() > ANSWER_BYTES_MAX {
            return Err(too_large());
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = "event: a\r\ndata: {\"x\":\r\ndata: 1}\r\n\r\n: a comment\n\ndata:two\n\ndata: never ended";
        for size in [1, 2, 7, 1000] {
            let mut events = Events::default();
            let found: Vec<String> =
                text.as_bytes().chunks(size).flat_map(|chunk| events.push(chunk).expect("is short")).collect();
            assert_eq!(found, ["{\"x\":\n1}", "two"], "{size}");
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept_for_ever() {
        let mut events = Events::default();
        let chunk = vec![b'x'; 1 << 20];
        assert!((0..5).any(|_| events.push(&chunk).is_err()));
    }
}
