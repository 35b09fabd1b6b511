//! Reads server-sent events, and comes back after a broken connection.

use std::time::Duration;

use crate::api::stream::Live;

use super::{Client, Error};

/// Tries in a row to get a broken stream back; with growing pauses that is half a minute: a restart of the host.
const TRIES_MAX: u32 = 12;

/// The first pause before a try; it grows with every one.
const PAUSE: Duration = Duration::from_millis(100);
/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The longest line: an event holds values of up to 4 KiB, log lines some more.
const LINE_BYTES_MAX: usize = 16 << 20;

/// The events of a run.
pub struct Events {
    client: Client,
    run: String,
    after: u64,
    response: Option<reqwest::Response>,
    lines: Lines,
    tries: u32,
}

impl Events {
    pub(super) fn new(client: Client, run: &str, after: u64) -> Self {
        Self { client, run: run.to_owned(), after, response: None, lines: Lines::default(), tries: 0 }
    }

    /// The next event; `None` after the last one. May be dropped and called again.
    pub async fn next(&mut self) -> Result<Option<Live>, Error> {
        loop {
            if let Some(data) = self.lines.next_data()? {
                let live: Live = self.client.parse(&data)?;
                self.after = live.seq.unwrap_or(self.after);
                self.tries = 0;
                return Ok(Some(live));
            }
            let Some(response) = &mut self.response else {
                match self.client.stream(&self.run, self.after).await {
                    Ok(Some(response)) => self.response = Some(response),
                    Ok(None) => return Ok(None),
                    Err(error @ Error::Connection { .. }) if self.tries < TRIES_MAX => self.pause(error).await?,
                    Err(error) => return Err(error),
                }
                continue;
            };
            match response.chunk().await {
                Ok(Some(bytes)) => self.lines.push(&bytes),
                // The end of the stream: the host says next whether it was the run's, too.
                Ok(None) => self.again(),
                Err(error) => {
                    let error = self.client.broken(&error);
                    self.again();
                    self.pause(error).await?;
                }
            }
        }
    }

    fn again(&mut self) {
        self.response = None;
        self.lines = Lines::default();
    }

    async fn pause(&mut self, error: Error) -> Result<(), Error> {
        self.tries += 1;
        if self.tries > TRIES_MAX {
            return Err(error);
        }
        tokio::time::sleep((PAUSE * self.tries * self.tries).min(PAUSE_MAX)).await;
        Ok(())
    }
}

/// Bytes into the data of events. Ids and names of events stand in their data as well.
#[derive(Default)]
struct Lines {
    buffer: Vec<u8>,
    data: Vec<String>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The data of the next whole event.
    fn next_data(&mut self) -> Result<Option<String>, Error> {
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() && !self.data.is_empty() {
                return Ok(Some(std::mem::take(&mut self.data).join("\n")));
            }
            if let Some(data) = line.strip_prefix("data:") {
                self.data.push(data.strip_prefix(' ').unwrap_or(data).to_owned());
            }
        }
        if self.buffer.len() > LINE_BYTES_MAX {
            return Err(Error::Answer {
                server: "the event stream".to_owned(),
                reason: format!("a line is longer than {LINE_BYTES_MAX} bytes"),
            });
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_the_bytes_arrive() {
        let text = ": heartbeat\n\nevent: workflow.a\nid: 1\ndata: {\"a\":1}\n\r\ndata: x\ndata:y\n\ndata: open";
        for size in [1, 2, 7, text.len()] {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                lines.push(chunk);
                while let Some(data) = lines.next_data().expect("reads") {
                    found.push(data);
                }
            }
            assert_eq!(found, ["{\"a\":1}", "x\ny"], "in chunks of {size}");
        }
    }
}
