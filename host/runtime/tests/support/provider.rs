//! A model's service on loopback that says what it is told, in the real wire formats and with their faults.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What it says to one request.
#[derive(Clone)]
pub enum Say {
    /// Status, headers, body.
    Whole(&'static str, &'static str, String),
    /// Events, and how it ends.
    Stream(Vec<String>, End),
}

/// How a stream ends.
#[derive(Clone, Copy)]
pub enum End {
    /// As it should.
    Whole,
    /// The connection is closed before the last piece.
    Cut,
    /// Nothing comes any more.
    Silence,
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub head: String,
    pub body: Value,
}

pub struct Fake {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// Says one after the other; the last one over and over.
    pub async fn start(say: Vec<Say>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((mut socket, _)) = listener.accept().await else { break };
                let (say, seen) = (say.clone(), Arc::clone(&seen));
                connections.spawn(async move {
                    let Some(request) = read(&mut socket).await else { return };
                    let at = {
                        let mut seen = seen.lock();
                        seen.push(request);
                        seen.len() - 1
                    };
                    answer(&mut socket, &say[at.min(say.len() - 1)]).await;
                });
            }
        });
        Self { url, asked, task }
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }
}

async fn read(socket: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 8192];
        let read = socket.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if length == Some(body.len()) {
            return Some(Asked { body: serde_json::from_str(body).expect("JSON"), head });
        }
    }
}

/// Whoever asked may be gone: that is its own affair.
async fn answer(socket: &mut TcpStream, say: &Say) {
    match say {
        Say::Whole(status, headers, body) => {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n"
            );
            drop(socket.write_all(head.as_bytes()).await);
            drop(socket.write_all(body.as_bytes()).await);
        }
        Say::Stream(events, end) => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
            drop(socket.write_all(head.as_bytes()).await);
            for event in events {
                let event = format!("data: {event}\n\n");
                drop(socket.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await);
            }
            match end {
                End::Whole => drop(socket.write_all(b"0\r\n\r\n").await),
                End::Cut => {}
                End::Silence => std::future::pending().await,
            }
        }
    }
    drop(socket.shutdown().await);
}
