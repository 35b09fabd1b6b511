//! The way out against servers on this machine: what they were asked, and what a guest would have seen of them.

mod connections;
mod limits;
mod messages;
mod redirects;
mod secrets;
mod ssrf;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use caisson_core::ids::Realm;
use caisson_core::plugin::{Effective, Engine, Grants, Package};
use caisson_core::ports::Secret;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Caller, Clients, Outgoing, Resolver};
use crate::bindings::caisson::step::capability::Error;
use crate::bindings::caisson::step::http::{Request, Response};
use crate::redact::Redactor;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Linux answers on all of 127.0.0.0/8.
const LOCAL_2: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Names and their answers; each lookup takes the next, the last one stays.
#[derive(Default)]
struct Names(Mutex<HashMap<String, Vec<Vec<IpAddr>>>>, Mutex<Vec<String>>);

impl Names {
    fn of(names: &[(&str, &[&[&str]])]) -> Self {
        let parse = |address: &&str| address.parse().expect("an address");
        let answers = |answers: &[&[&str]]| answers.iter().map(|answer| answer.iter().map(parse).collect()).collect();
        Self(Mutex::new(names.iter().map(|(name, all)| ((*name).to_owned(), answers(all))).collect()), Mutex::default())
    }

    fn asked(&self) -> Vec<String> {
        self.1.lock().clone()
    }
}

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.1.lock().push(name.to_owned());
        let mut names = self.0.lock();
        let answers = names.get_mut(name).ok_or_else(|| io::Error::other("no such name"))?;
        Ok(if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() })
    }
}

/// What a server was sent.
#[derive(Clone, Debug)]
struct Got {
    /// The first line and the headers, as they came.
    head: String,
    body: String,
}

impl Got {
    fn first_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// All values of a header.
    fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

/// What a server does with a request.
enum Reply {
    /// Sends these bytes and waits for the next request.
    Send(Vec<u8>),
    /// Sends these bytes and closes.
    Close(Vec<u8>),
    /// Sends these bytes and no more.
    Stall(Vec<u8>),
    /// Sends a head, and a chunk over and over.
    Flood,
}

/// A whole answer.
fn ok(headers: &str, body: &str) -> Reply {
    Reply::Send(format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into())
}

fn redirect(status: u16, to: &str) -> Reply {
    Reply::Send(format!("HTTP/1.1 {status} Moved\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into())
}

type Handler = dyn Fn(&Got) -> Reply + Send + Sync;

#[derive(Clone)]
struct Server {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    accepted: Arc<Mutex<usize>>,
}

impl Server {
    async fn start(handler: impl Fn(&Got) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::new(LOCAL, 0), None, handler).await
    }

    async fn start_at(
        address: SocketAddr,
        tls: Option<tokio_rustls::TlsAcceptor>,
        handler: impl Fn(&Got) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("binds");
        let server =
            Self { address: listener.local_addr().expect("address"), got: Arc::default(), accepted: Arc::default() };
        let (seen, handler): (_, Arc<Handler>) = (server.clone(), Arc::new(handler));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *seen.accepted.lock() += 1;
                let (seen, handler, tls) = (seen.clone(), Arc::clone(&handler), tls.clone());
                tokio::spawn(async move {
                    // A client that goes away is no failure of the server.
                    match tls {
                        None => drop(serve(stream, &seen, &*handler).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(serve(stream, &seen, &*handler).await);
                            }
                        }
                    }
                });
            }
        });
        server
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().clone()
    }

    fn accepted(&self) -> usize {
        *self.accepted.lock()
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Server, handler: &Handler) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = Got { head: head.clone(), body: String::new() }
            .header("content-length")
            .first()
            .map_or(0, |n| n.parse().expect("a length"));
        while bytes.len() < end + length {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        }
        let got = Got { head, body: String::from_utf8_lossy(&bytes[end..end + length]).into_owned() };
        bytes.drain(..end + length);
        seen.got.lock().push(got.clone());
        match handler(&got) {
            Reply::Send(reply) => stream.write_all(&reply).await?,
            Reply::Close(reply) => {
                stream.write_all(&reply).await?;
                return stream.shutdown().await;
            }
            Reply::Stall(reply) => {
                stream.write_all(&reply).await?;
                stream.flush().await?;
                // Until the client goes.
                let mut rest = [0];
                return stream.read(&mut rest).await.map(drop);
            }
            Reply::Flood => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                loop {
                    stream.write_all(b"400\r\n").await?;
                    stream.write_all(&[b'x'; 1024]).await?;
                    stream.write_all(b"\r\n").await?;
                }
            }
        }
        stream.flush().await?;
    }
}

/// A plugin, its grants and the way out.
struct Guest {
    realm: Realm,
    effective: Effective,
    redactor: Redactor,
    names: Arc<Names>,
    clients: Arc<Clients>,
}

impl Guest {
    /// Asks for and is granted this.
    fn with(grants: &Value) -> Self {
        Self::asking(grants, grants)
    }

    fn asking(asks: &Value, grants: &Value) -> Self {
        let package = Package {
            id: "mail".to_owned(),
            version: "1.0.0".to_owned(),
            digest: "d1".to_owned(),
            size: 0,
            wit: "1.0.0".to_owned(),
            description: String::new(),
            engine: Engine::Component,
            actions: Vec::new(),
            asks: Grants::parse(asks).expect("asks"),
            limits: [].into(),
            imports: Vec::new(),
        };
        let grants = Grants::parse(grants).expect("grants");
        Self {
            realm: Realm::new("tenant", "default"),
            effective: Effective::new(Arc::new(package), Arc::new(grants), None),
            redactor: Redactor::none(),
            names: Arc::default(),
            clients: Arc::default(),
        }
    }

    /// Granted this one server by its address.
    fn of(server: &Server) -> Self {
        Self::with(&json!([format!("http:{}", server.address)]))
    }

    fn knowing(mut self, secrets: &[(&str, &str)]) -> Self {
        self.redactor =
            Redactor::new(secrets.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect());
        self
    }

    fn naming(mut self, names: &[(&str, &[&[&str]])]) -> Self {
        self.names = Arc::new(Names::of(names));
        self
    }

    async fn send(&self, request: Request) -> Result<Response, Error> {
        let mut request = request;
        let body = Bytes::from(request.body.take().unwrap_or_default());
        let outgoing = Outgoing::new(&self.effective, &request, body)?;
        let caller = Caller {
            realm: &self.realm,
            effective: &self.effective,
            redactor: &self.redactor,
            resolver: &*self.names,
            idempotency_key: "run:step:0:0",
        };
        self.clients.send(&caller, outgoing).await
    }

    async fn get(&self, url: &str) -> Result<Response, Error> {
        self.send(get(url)).await
    }
}

fn get(url: &str) -> Request {
    Request { method: "GET".to_owned(), url: url.to_owned(), headers: Vec::new(), body: None, timeout_ms: Some(20_000) }
}

fn post(url: &str, body: &str) -> Request {
    Request { method: "POST".to_owned(), body: Some(body.into()), ..get(url) }
}

fn with_headers(request: Request, headers: &[(&str, &str)]) -> Request {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Request { headers, ..request }
}

fn text(response: &Response) -> &str {
    std::str::from_utf8(&response.body).expect("text")
}

#[track_caller]
fn is_denied(result: Result<Response, Error>, part: &str) {
    match result {
        Err(Error::Denied(why)) if why.contains(part) => {}
        other => panic!("expected a denial with '{part}', got {:.400}", format!("{other:?}")),
    }
}

#[track_caller]
fn is_invalid(result: Result<Response, Error>, part: &str) {
    match result {
        Err(Error::Invalid(why)) if why.contains(part) => {}
        other => panic!("expected 'invalid' with '{part}', got {:.400}", format!("{other:?}")),
    }
}

#[track_caller]
fn is_unavailable(result: Result<Response, Error>, part: &str) {
    match result {
        Err(Error::Unavailable(why)) if why.contains(part) => assert!(!why.contains("127.0.0."), "{why}"),
        other => panic!("expected 'unavailable' with '{part}', got {:.400}", format!("{other:?}")),
    }
}

#[track_caller]
fn is_other(result: Result<Response, Error>, part: &str) {
    match result {
        Err(Error::Other(why)) if why.contains(part) => {}
        other => panic!("expected 'other' with '{part}', got {:.400}", format!("{other:?}")),
    }
}
