//! Reads archives and verifies them, line by line, whatever they hold: files come from anywhere.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use caisson_core::engine::chain;
use caisson_core::ids::{StepId, hex};
use caisson_core::json::sha256_hex;
use caisson_core::ports::EventRow;
use caisson_core::time::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::form::{FORMAT, Head, Line};
use crate::api::wire::Event;

/// The longest line: the largest that is written holds a value of 16 MiB.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Why a file is no whole archive.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// What stands in a line is not what was written, or nothing stands there.
    #[error("line {line}: {what}")]
    Damaged {
        /// From 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
}

/// What was verified.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Whose archive it is.
    pub head: Head,
    /// Events in the chain.
    pub events: u64,
}

/// Reads a file to its end; every line is shown as it comes, before what follows it is verified.
pub fn file(path: &Path, each: impl FnMut(Line)) -> Result<Verified, Error> {
    let about = std::fs::metadata(path)?;
    if !about.is_file() {
        return Err(io::Error::other("it is no file").into());
    }
    lines(BufReader::new(File::open(path)?), each)
}

/// The same of anything that has lines.
pub fn lines(source: impl BufRead, mut each: impl FnMut(Line)) -> Result<Verified, Error> {
    let mut reading = Reading { source, line: 0, text: Vec::new(), sha256: Sha256::new() };
    let head = reading.head()?;
    each(Line::Archive(head.clone()));
    let mut chain = Chain { hash: chain::GENESIS.into(), seq: 0 };
    loop {
        let after = format!(" after event {}", chain.seq);
        if !reading.next()? {
            return Err(reading.damaged(format!("the file ends early{after}: its last line is missing")));
        }
        let line = reading.parse(&after)?;
        match &line {
            Line::Archive(_) => return Err(reading.damaged("a second head: only the first line may be one".to_owned())),
            Line::Event(event) => chain.add(event).map_err(|what| reading.damaged(what))?,
            Line::Value(value) if sha256_hex(value.json.get().as_bytes()) != value.sha256 => {
                return Err(reading.damaged(format!("the value does not match its hash {}", value.sha256)));
            }
            Line::End(end) => {
                reading.check_end(end.lines, &end.sha256)?;
                chain.check_end(&head).map_err(|what| reading.damaged(what))?;
                return Ok(Verified { events: chain.seq, head: *head });
            }
            Line::Definition(_)
            | Line::Step(_)
            | Line::Value(_)
            | Line::Log(_)
            | Line::Session(_)
            | Line::Said(_)
            | Line::Emitted(_)
            | Line::Artifact(_) => {}
        }
        each(line);
        reading.count();
    }
}

struct Reading<R> {
    source: R,
    /// The number of the line that was read last.
    line: u64,
    text: Vec<u8>,
    /// Over the lines before it.
    sha256: Sha256,
}

impl<R: BufRead> Reading<R> {
    /// The next line; `false` at the end of the file.
    fn next(&mut self) -> Result<bool, Error> {
        self.text.clear();
        self.line += 1;
        let read = (&mut self.source).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.text)?;
        if read > 0 && !self.text.ends_with(b"\n") {
            let what = if read as u64 == LINE_BYTES_MAX { "it is too long for one of ours" } else { "it is cut off" };
            return Err(self.damaged(what.to_owned()));
        }
        Ok(read > 0)
    }

    fn head(&mut self) -> Result<Box<Head>, Error> {
        /// What every format has.
        #[derive(Deserialize)]
        struct Any {
            archive: Format,
        }
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        if !self.next()? {
            return Err(self.damaged("the file is empty".to_owned()));
        }
        match serde_json::from_slice::<Any>(&self.text) {
            Ok(Any { archive: Format { format } }) if format > FORMAT => {
                let what = format!("it has format {format}, and this program reads up to {FORMAT}: use a newer one");
                return Err(self.damaged(what));
            }
            Ok(_) => {}
            Err(error) => return Err(self.damaged(format!("no archive begins like this: {}", place(&error)))),
        }
        let Line::Archive(head) = self.parse("")? else {
            return Err(self.damaged("no archive begins like this".to_owned()));
        };
        self.count();
        Ok(head)
    }

    fn parse(&self, after: &str) -> Result<Line, Error> {
        let parsed = serde_json::from_slice(self.text.trim_ascii_end());
        parsed.map_err(|error| self.damaged(format!("it is no line of an archive{after}: {}", place(&error))))
    }

    /// The line is one of those that the end's hash is over.
    fn count(&mut self) {
        self.sha256.update(&self.text);
    }

    fn check_end(&mut self, lines: u64, sha256: &str) -> Result<(), Error> {
        let before = self.line - 1;
        if lines != before {
            return Err(self.damaged(format!("{before} lines stand before the end, and {lines} were written")));
        }
        if hex(&self.sha256.clone().finalize()) != sha256 {
            return Err(self.damaged("what stands before the end is not what was written: hashes differ".to_owned()));
        }
        if self.next()? {
            return Err(self.damaged("something stands after the end".to_owned()));
        }
        Ok(())
    }

    fn damaged(&self, what: String) -> Error {
        Error::Damaged { line: self.line, what }
    }
}

/// A fault in JSON, by its column: its own count of lines begins anew with each of ours.
fn place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
    format!("{what} (column {})", error.column())
}

/// The events so far.
struct Chain {
    hash: Arc<str>,
    seq: u64,
}

impl Chain {
    fn add(&mut self, event: &Event) -> Result<(), String> {
        let at = Timestamp::parse(&event.at)
            .ok_or_else(|| format!("event {} has no time that can be read", self.seq.saturating_add(1)))?;
        let row = EventRow {
            seq: event.seq,
            kind: event.kind.as_str().into(),
            at,
            actor: event.actor.as_deref().map(Into::into),
            step_id: event.step_id.as_deref().map(StepId::new),
            v: event.v,
            data: event.data.0.clone(),
            data_sha256: None,
            prev_hash: event.prev_hash.as_str().into(),
            hash: event.hash.as_str().into(),
        };
        self.hash = chain::verify(self.hash.clone(), self.seq, &[row]).map_err(|broken| broken.to_string())?;
        self.seq += 1;
        Ok(())
    }

    fn check_end(&self, head: &Head) -> Result<(), String> {
        let Head { run, .. } = head;
        if run.last_seq != self.seq {
            return Err(format!("{} events stand here, and the run has {}", self.seq, run.last_seq));
        }
        if *run.last_hash != *self.hash {
            return Err(format!("event {} is not the run's last one: hashes differ", self.seq));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
