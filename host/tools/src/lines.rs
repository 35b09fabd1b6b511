//! Lines of a program's output, of which no more than a limit is ever held.

use rmcp::model::RequestId;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use crate::scan::IdScan;

/// The longest message of a server: a result of 1 MiB in which every other byte is escaped fits, with room for what an operator may lift.
pub const LINE_BYTES_MAX: usize = 4 << 20;

/// A line without its end.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Its beginning, up to the limit.
    pub(crate) kept: Vec<u8>,
    /// How many bytes it has.
    pub(crate) bytes: u64,
    /// Of a line beyond the limit, the id of the message in it.
    pub(crate) id: Option<RequestId>,
}

impl Line {
    /// Whether there is more than was kept.
    pub(crate) fn is_long(&self) -> bool {
        self.bytes > self.kept.len() as u64
    }
}

/// Reads lines. Dropping a `next` that is under way loses nothing.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    max: usize,
    line: Line,
    scan: IdScan,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// Lines of which at most `max` bytes are kept.
    pub(crate) fn new(reader: R, max: usize) -> Self {
        Self { reader, max, line: Line::default(), scan: IdScan::default() }
    }

    /// How long the line is that is being read.
    pub(crate) fn under_way(&self) -> u64 {
        self.line.bytes
    }

    /// Reads a piece. `Ok(Some)` is a line that is whole, `Ok(None)` means that there is more to come.
    /// The end, and whatever breaks, is an error.
    pub(crate) async fn step(&mut self) -> std::io::Result<Option<Line>> {
        let piece = self.reader.fill_buf().await?;
        if piece.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let end = piece.iter().position(|byte| *byte == b'\n');
        let (text, used) = end.map_or((piece, piece.len()), |end| (&piece[..end], end + 1));
        let room = self.max.saturating_sub(self.line.kept.len());
        let (kept, over) = text.split_at(room.min(text.len()));
        if !over.is_empty() {
            // From its beginning, once.
            if !self.line.is_long() {
                self.scan.feed(&self.line.kept);
                self.scan.feed(kept);
            }
            self.scan.feed(over);
        }
        self.line.kept.extend_from_slice(kept);
        self.line.bytes += text.len() as u64;
        self.reader.consume(used);
        if end.is_none() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        line.id = std::mem::take(&mut self.scan).id();
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::NumberOrString;
    use tokio::io::BufReader;

    use super::*;

    #[tokio::test]
    async fn no_more_is_held_than_the_limit() {
        let long = format!("{{\"result\":\"{}\",\"id\":7}}", "x".repeat(500));
        let text = format!("one\n\n{long}\nlast\nrest");
        let mut lines = Lines::new(BufReader::with_capacity(16, text.as_bytes()), 100);
        let mut seen = Vec::new();
        loop {
            match lines.step().await {
                Ok(Some(line)) => seen.push((line.kept.len(), line.bytes, line.is_long(), line.id)),
                Ok(None) => assert!(lines.line.kept.len() <= 100),
                Err(_) => break,
            }
        }
        let id = Some(NumberOrString::Number(7));
        let expected =
            vec![(3, 3, false, None), (0, 0, false, None), (100, long.len() as u64, true, id), (4, 4, false, None)];
        assert_eq!(seen, expected);
        assert_eq!(lines.under_way(), 4, "a line without its end");
    }
}
