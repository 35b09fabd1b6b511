//! A web server that remembers what it was asked.
#![allow(dead_code, reason = "each test uses its part")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::support::PATIENCE;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Keeps whoever comes waiting until it is opened.
pub struct Latch(Mutex<bool>, Condvar);

impl Latch {
    pub const fn new() -> Self {
        Self(Mutex::new(false), Condvar::new())
    }

    pub fn open(&self) {
        *self.0.lock() = true;
        self.1.notify_all();
    }

    /// Waits, as long as a test waits for anything.
    pub fn pass(&self) {
        let _ = self.1.wait_while_for(&mut self.0.lock(), |open| !*open, PATIENCE);
    }
}

/// Answers every request with JSON: its path, its body, and what its `authorization` was.
pub struct Web {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Web {
    /// Every answer takes so long; the request counts from its beginning.
    pub fn start(delay: Duration) -> Self {
        Self::answering(delay, |seen| {
            serde_json::json!({
                "path": seen.path, "body": seen.body, "authorization": seen.header("authorization"),
            })
        })
    }

    /// The same with answers of its own.
    pub fn answering(delay: Duration, answer: fn(&Seen) -> serde_json::Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let all = seen.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let all = all.clone();
                std::thread::spawn(move || serve(stream, &all, delay, answer));
            }
        });
        Self { port, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What a plugin needs to come here.
    pub fn grant(&self) -> String {
        format!("http:127.0.0.1:{}", self.port)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }
}

fn serve(
    stream: TcpStream,
    all: &Mutex<Vec<Seen>>,
    delay: Duration,
    answer: fn(&Seen) -> serde_json::Value,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let seen = read(&mut reader)?;
        let said = answer(&seen);
        all.lock().push(seen);
        std::thread::sleep(delay);
        let body = said.to_string();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).ok()?;
    }
}

fn read(reader: &mut impl BufRead) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut parts = line.split_whitespace().map(str::to_owned);
    let (method, path) = (parts.next()?, parts.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() })
}
